//! What a dataset is made of: plans, which carry their operators in their type as iterators do.

use std::rc::Rc;

use crate::context::Context;
use crate::error::Result;
use crate::partitioning::Partitioning;
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
}

/// What a stage reads and does, gathered by walking its plan from the end to the inputs.
#[derive(Default)]
pub struct Lineage {
    pub(crate) sources: Vec<u32>,
    pub(crate) shuffles: Vec<Rc<Dependency>>,
    /// First to last.
    pub(crate) operators: Vec<String>,
}

impl Lineage {
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

    pub(crate) fn shuffle(&mut self, dependency: &Rc<Dependency>) {
        if !self.shuffles.iter().any(|known| known.number() == dependency.number()) {
            self.shuffles.push(Rc::clone(dependency));
        }
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
}
