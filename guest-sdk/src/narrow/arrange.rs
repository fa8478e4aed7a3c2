//! Plans that put partitions together in another way.

use std::cell::OnceCell;
use std::rc::Rc;

use crate::actions::{Tasks, sizes};
use crate::context::Context;
use crate::error::{Result, told};
use crate::plan::{Lineage, Plan};
use crate::task::{TaskScope, fail};

/// The partitions of two datasets.
pub struct Union<P, Q> {
    first: Rc<P>,
    second: Rc<Q>,
}

impl<P, Q> Union<P, Q> {
    pub(crate) fn new(first: Rc<P>, second: Rc<Q>) -> Self {
        Union { first, second }
    }
}

impl<P: Plan, Q: Plan<Item = P::Item>> Plan for Union<P, Q> {
    type Item = P::Item;

    fn partitions(&self) -> usize {
        self.first.partitions() + self.second.partitions()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = P::Item> + 'static {
        let (first, second) = match partition.checked_sub(self.first.partitions()) {
            None => (Some(Rc::clone(&self.first).compute(partition, task)), None),
            Some(partition) => (None, Some(Rc::clone(&self.second).compute(partition, task))),
        };
        first.into_iter().flatten().chain(second.into_iter().flatten())
    }

    fn lineage(&self, lineage: &mut Lineage) {
        self.first.lineage(lineage);
        lineage.later(self.first.partitions(), |lineage| self.second.lineage(lineage));
        lineage.operator("union");
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        self.first.prepare(ctx)?;
        self.second.prepare(ctx)
    }

    fn is_ordered(&self) -> bool {
        self.first.is_ordered() && self.second.is_ordered()
    }

    fn bytes_hint(&self) -> Option<u64> {
        Some(self.first.bytes_hint()?.saturating_add(self.second.bytes_hint()?))
    }
}

/// Neighbouring partitions as one.
pub struct Coalesced<P> {
    parent: Rc<P>,
    partitions: usize,
}

impl<P: Plan> Coalesced<P> {
    pub(crate) fn new(parent: Rc<P>, partitions: usize) -> Self {
        let partitions = partitions.clamp(1, parent.partitions().max(1));
        Coalesced { parent, partitions }
    }
}

impl<P: Plan> Plan for Coalesced<P> {
    type Item = P::Item;

    fn partitions(&self) -> usize {
        self.partitions
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = P::Item> + 'static {
        let parents = self.parent.partitions();
        let cut = |index: usize| parents * index / self.partitions;
        (cut(partition)..cut(partition + 1))
            .flat_map(move |parent| Rc::clone(&self.parent).compute(parent, Rc::clone(&task)))
    }

    fn lineage(&self, lineage: &mut Lineage) {
        lineage.rearranged(|lineage| self.parent.lineage(lineage));
        lineage.operator("coalesce");
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        self.parent.prepare(ctx)
    }

    fn is_ordered(&self) -> bool {
        self.parent.is_ordered()
    }

    fn bytes_hint(&self) -> Option<u64> {
        self.parent.bytes_hint()
    }
}

/// The records of two datasets in pairs.
pub struct Zipped<P, Q> {
    first: Rc<P>,
    second: Rc<Q>,
}

impl<P, Q> Zipped<P, Q> {
    pub(crate) fn new(first: Rc<P>, second: Rc<Q>) -> Self {
        Zipped { first, second }
    }
}

impl<P: Plan, Q: Plan> Plan for Zipped<P, Q> {
    type Item = (P::Item, Q::Item);

    fn partitions(&self) -> usize {
        self.first.partitions()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = Self::Item> + 'static {
        let mut first = Rc::clone(&self.first).compute(partition, Rc::clone(&task));
        let mut second = Rc::clone(&self.second).compute(partition, task);
        std::iter::from_fn(move || match (first.next(), second.next()) {
            (Some(left), Some(right)) => Some((left, right)),
            (None, None) => None,
            (left, _) => fail(format_args!(
                "zip: partition {partition} does not hold as many records in both datasets: the {} one has fewer",
                if left.is_none() { "first" } else { "second" }
            )),
        })
    }

    fn lineage(&self, lineage: &mut Lineage) {
        self.first.lineage(lineage);
        self.second.lineage(lineage);
        lineage.operator("zip");
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        let (first, second) = (self.first.partitions(), self.second.partitions());
        if first != second {
            return Err(told(format!(
                "zip: one dataset has {first} partitions, the other {second}; make both with as many"
            )));
        }
        self.first.prepare(ctx)?;
        self.second.prepare(ctx)
    }

    fn is_ordered(&self) -> bool {
        self.first.is_ordered() && self.second.is_ordered()
    }
}

/// Records with their numbers.
pub struct ZipWithIndex<P> {
    parent: Rc<P>,
    /// The number of each partition's first record.
    starts: OnceCell<Vec<u64>>,
}

impl<P: Plan> ZipWithIndex<P> {
    pub(crate) fn new(parent: Rc<P>) -> Self {
        ZipWithIndex { parent, starts: OnceCell::new() }
    }
}

impl<P: Plan> Plan for ZipWithIndex<P> {
    type Item = (P::Item, u64);

    fn partitions(&self) -> usize {
        self.parent.partitions()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = Self::Item> + 'static {
        let start = match self.starts.get().and_then(|starts| starts.get(partition)) {
            Some(start) => *start,
            None => fail("zip_with_index: the partitions were not counted"),
        };
        Rc::clone(&self.parent).compute(partition, task).zip(start..)
    }

    fn lineage(&self, lineage: &mut Lineage) {
        self.parent.lineage(lineage);
        lineage.operator("zip_with_index");
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        self.parent.prepare(ctx)?;
        if self.starts.get().is_none() {
            // The last partition's size is nobody's start.
            let counted = self.parent.partitions().saturating_sub(1);
            let mut starts = vec![0];
            for size in sizes(ctx, &self.parent, Tasks::Partitions(0..counted))?.wait()? {
                starts.push(starts.last().copied().unwrap_or_default() + size);
            }
            // Nobody else sets it: drivers have one thread.
            let _ = self.starts.set(starts);
        }
        Ok(())
    }

    fn is_ordered(&self) -> bool {
        self.parent.is_ordered()
    }
}
