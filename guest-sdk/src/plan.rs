//! What a dataset is made of: plans, which carry their operators in their type as iterators do.

use std::rc::Rc;

use crate::context::Context;
use crate::error::Result;
use crate::host::Cached;
use crate::partitioning::Partitioning;
use crate::persist::Persisted;
use crate::pieces::Pieces;
use crate::shuffle::Dependency;
use crate::task::TaskScope;

/// How a dataset's partitions are computed.
///
/// A narrow operator wraps its parent's iterator, so a whole stage is one loop that the compiler sees through.
pub trait Plan: 'static {
    /// A record.
    type Item: 'static;

    /// How many partitions there are.
    fn partitions(&self) -> usize;

    /// The records of one partition, in a task.
    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = Self::Item> + 'static;

    /// Tells the inputs and the operators of the stage that this plan ends.
    fn lineage(&self, lineage: &mut Lineage);

    /// Computes at the driver what tasks must know beforehand: the bounds of a sort, the sizes of partitions.
    fn prepare(&self, ctx: &Context) -> Result<()>;

    /// How the records lie by their keys, if they are pairs that do.
    fn partitioning(&self) -> Option<Partitioning> {
        None
    }

    /// Where its partitions are kept, if it was persisted.
    fn persisted(&self) -> Option<&Persisted> {
        None
    }

    /// Finds out at the driver which tasks compute its partitions, once it is prepared. For who has tasks compute its [`pieces`](Plan::pieces):
    /// it may run the shuffles that this plan reads.
    fn find_pieces(&self, ctx: &Context) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    /// Which tasks compute its partitions, if that isn't one each and was found out. Of a plan that computes each record by itself those of the
    /// plan before it.
    fn pieces(&self) -> Option<Pieces> {
        None
    }

    /// Whether the records of a partition come in the same order whenever they are computed. Not where they come out of a hash table: their
    /// order is another one if the task had to spill.
    fn is_ordered(&self) -> bool {
        false
    }

    /// About how many bytes its records take, as a file's or encoded, if that is known before anything runs. What `filter` leaves out
    /// isn't known; `map` is taken not to make them much larger.
    fn bytes_hint(&self) -> Option<u64> {
        None
    }
}

/// What a stage reads and does, gathered by walking its plan from the end to the inputs.
#[derive(Default)]
pub struct Lineage {
    pub(crate) sources: Vec<u32>,
    pub(crate) shuffles: Vec<Rc<Dependency>>,
    pub(crate) cached: Vec<Cached>,
    /// The task that computes partition 0 of the plan that is walked, if those after it compute the following ones.
    first: First,
    /// First to last.
    pub(crate) operators: Vec<String>,
}

impl Lineage {
    /// Walks the plan of a stage whose tasks compute its partitions, or pieces of them.
    pub(crate) fn of_tasks<P: Plan>(&mut self, plan: &P) {
        match plan.pieces() {
            None => plan.lineage(self),
            Some(_) => self.rearranged(|lineage| plan.lineage(lineage)),
        }
    }

    /// The lineage that `walk` tells.
    pub(crate) fn of(walk: impl FnOnce(&mut Lineage)) -> Lineage {
        let mut lineage = Lineage::default();
        walk(&mut lineage);
        lineage
    }

    pub(crate) fn operator(&mut self, name: impl Into<String>) {
        self.operators.push(name.into());
    }

    pub(crate) fn source(&mut self, id: u32) {
        if !self.sources.contains(&id) {
            self.sources.push(id);
        }
    }

    /// Notes a cached dataset, the plan that is walked.
    pub(crate) fn cached(&mut self, id: u32) {
        let First(first) = self.first;
        let cached = Cached { id, first };
        if !self.cached.contains(&cached) {
            self.cached.push(cached);
        }
    }

    /// Walks plans whose partition 0 is computed by so much later a task.
    pub(crate) fn later(&mut self, by: usize, walk: impl FnOnce(&mut Lineage)) {
        let add = |first: u32| first.checked_add(u32::try_from(by).ok()?);
        let first = self.first.0.and_then(add);
        self.with(First(first), walk);
    }

    /// Walks plans of which tasks compute other partitions than their own.
    pub(crate) fn rearranged(&mut self, walk: impl FnOnce(&mut Lineage)) {
        self.with(First(None), walk);
    }

    fn with(&mut self, first: First, walk: impl FnOnce(&mut Lineage)) {
        let before = std::mem::replace(&mut self.first, first);
        walk(self);
        self.first = before;
    }

    pub(crate) fn shuffle(&mut self, dependency: &Rc<Dependency>) {
        if !self.shuffles.iter().any(|known| known.number() == dependency.number()) {
            self.shuffles.push(Rc::clone(dependency));
        }
    }
}

struct First(Option<u32>);

impl Default for First {
    fn default() -> Self {
        First(Some(0))
    }
}

/// A plan whose type is forgotten: for loops, whose datasets must all be of one type.
pub struct Boxed<T>(Rc<dyn Erased<T>>);

impl<T: 'static> Boxed<T> {
    pub(crate) fn new<P: Plan<Item = T>>(plan: Rc<P>) -> Boxed<T> {
        Boxed(plan)
    }
}

/// What is left of a plan without its type.
trait Erased<T> {
    fn partitions(&self) -> usize;
    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> Box<dyn Iterator<Item = T>>;
    fn lineage(&self, lineage: &mut Lineage);
    fn prepare(&self, ctx: &Context) -> Result<()>;
    fn partitioning(&self) -> Option<Partitioning>;
    fn persisted(&self) -> Option<&Persisted>;
    fn find_pieces(&self, ctx: &Context) -> Result<()>;
    fn pieces(&self) -> Option<Pieces>;
    fn is_ordered(&self) -> bool;
    fn bytes_hint(&self) -> Option<u64>;
}

impl<P: Plan> Erased<P::Item> for P {
    fn partitions(&self) -> usize {
        Plan::partitions(self)
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> Box<dyn Iterator<Item = P::Item>> {
        Box::new(Plan::compute(self, partition, task))
    }

    fn lineage(&self, lineage: &mut Lineage) {
        Plan::lineage(self, lineage);
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        Plan::prepare(self, ctx)
    }

    fn partitioning(&self) -> Option<Partitioning> {
        Plan::partitioning(self)
    }

    fn persisted(&self) -> Option<&Persisted> {
        Plan::persisted(self)
    }

    fn find_pieces(&self, ctx: &Context) -> Result<()> {
        Plan::find_pieces(self, ctx)
    }

    fn pieces(&self) -> Option<Pieces> {
        Plan::pieces(self)
    }

    fn is_ordered(&self) -> bool {
        Plan::is_ordered(self)
    }

    fn bytes_hint(&self) -> Option<u64> {
        Plan::bytes_hint(self)
    }
}

impl<T: 'static> Plan for Boxed<T> {
    type Item = T;

    fn partitions(&self) -> usize {
        self.0.partitions()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = T> + 'static {
        Rc::clone(&self.0).compute(partition, task)
    }

    fn lineage(&self, lineage: &mut Lineage) {
        self.0.lineage(lineage);
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        self.0.prepare(ctx)
    }

    fn partitioning(&self) -> Option<Partitioning> {
        self.0.partitioning()
    }

    fn persisted(&self) -> Option<&Persisted> {
        self.0.persisted()
    }

    fn find_pieces(&self, ctx: &Context) -> Result<()> {
        self.0.find_pieces(ctx)
    }

    fn pieces(&self) -> Option<Pieces> {
        self.0.pieces()
    }

    fn is_ordered(&self) -> bool {
        self.0.is_ordered()
    }

    fn bytes_hint(&self) -> Option<u64> {
        self.0.bytes_hint()
    }
}
