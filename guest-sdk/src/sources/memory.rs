//! Datasets of what the driver has.

use std::ops::Range;
use std::rc::Rc;

use crate::context::Context;
use crate::error::Result;
use crate::plan::{Lineage, Plan};
use crate::task::TaskScope;

/// Where part `index` of `parts` lies in `len` things.
fn share(len: u64, index: usize, parts: usize) -> Range<u64> {
    let cut = |index: usize| (u128::from(len) * index as u128 / parts as u128) as u64;
    cut(index)..cut(index + 1)
}

/// The plan of [`Context::parallelize`].
pub struct Parallelized<T> {
    items: Vec<T>,
    partitions: usize,
}

impl<T> Parallelized<T> {
    pub(crate) fn new(items: Vec<T>, partitions: usize) -> Self {
        Parallelized { items, partitions: partitions.max(1) }
    }
}

impl<T: Clone + 'static> Plan for Parallelized<T> {
    type Item = T;

    fn partitions(&self) -> usize {
        self.partitions
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        _: Rc<TaskScope>,
    ) -> impl Iterator<Item = T> + 'static {
        let range = share(self.items.len() as u64, partition, self.partitions);
        (range.start as usize..range.end as usize).map(move |index| self.items[index].clone())
    }

    fn lineage(&self, lineage: &mut Lineage) {
        lineage.operator("parallelize");
    }

    fn prepare(&self, _: &Context) -> Result<()> {
        Ok(())
    }

    fn is_ordered(&self) -> bool {
        true
    }

    fn bytes_hint(&self) -> Option<u64> {
        Some((self.items.len() * size_of::<T>()) as u64)
    }
}

/// The plan of [`Context::range`].
pub struct RangeOf {
    range: Range<u64>,
    partitions: usize,
}

impl RangeOf {
    pub(crate) fn new(range: Range<u64>, partitions: usize) -> Self {
        RangeOf { range, partitions: partitions.max(1) }
    }
}

impl Plan for RangeOf {
    type Item = u64;

    fn partitions(&self) -> usize {
        self.partitions
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        _: Rc<TaskScope>,
    ) -> impl Iterator<Item = u64> + 'static {
        let len = self.range.end.saturating_sub(self.range.start);
        let part = share(len, partition, self.partitions);
        self.range.start + part.start..self.range.start + part.end
    }

    fn lineage(&self, lineage: &mut Lineage) {
        lineage.operator("range");
    }

    fn prepare(&self, _: &Context) -> Result<()> {
        Ok(())
    }

    fn is_ordered(&self) -> bool {
        true
    }

    fn bytes_hint(&self) -> Option<u64> {
        let len = self.range.end.saturating_sub(self.range.start);
        Some(len.saturating_mul(size_of::<u64>() as u64))
    }
}
