//! Narrow operators: a partition of theirs needs one of their parent's, or a few that are known.

mod arrange;
mod operators;

pub use arrange::{Coalesced, Union, ZipWithIndex, Zipped};
pub use operators::{
    Filter, FlatMap, FlatMapValues, Glom, Map, MapPartitions, MapValues, Partition, Sample,
};

use std::rc::Rc;

use crate::context::Context;
use crate::error::Result;
use crate::partitioning::Partitioning;
use crate::pieces::Pieces;
use crate::plan::{Lineage, Plan};
use crate::task::TaskScope;

/// What is done to each partition by itself.
pub trait Operator<T>: 'static {
    /// What comes out.
    type Out: 'static;

    /// Whether the keys of records stay as they are.
    const KEEPS_KEYS: bool = false;

    /// Whether what comes out takes about as many bytes as what went in, or fewer.
    const KEEPS_SIZE: bool = false;

    /// Whether what comes out of a record depends on nothing but that record.
    const IS_ONE_BY_ONE: bool = false;

    /// What the plan view calls it.
    fn name(&self) -> &'static str;

    /// Wraps the records of one partition.
    fn apply(
        self: Rc<Self>,
        records: impl Iterator<Item = T> + 'static,
        partition: usize,
    ) -> impl Iterator<Item = Self::Out> + 'static;
}

/// The plan of an operator over its parent's.
pub struct Narrow<P, O> {
    parent: Rc<P>,
    operator: Rc<O>,
}

impl<P, O> Narrow<P, O> {
    pub(crate) fn new(parent: Rc<P>, operator: O) -> Self {
        Narrow { parent, operator: Rc::new(operator) }
    }
}

impl<P: Plan, O: Operator<P::Item>> Plan for Narrow<P, O> {
    type Item = O::Out;

    fn partitions(&self) -> usize {
        self.parent.partitions()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = O::Out> + 'static {
        let records = Rc::clone(&self.parent).compute(partition, task);
        Rc::clone(&self.operator).apply(records, partition)
    }

    fn lineage(&self, lineage: &mut Lineage) {
        self.parent.lineage(lineage);
        lineage.operator(self.operator.name());
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        self.parent.prepare(ctx)
    }

    fn partitioning(&self) -> Option<Partitioning> {
        if O::KEEPS_KEYS { self.parent.partitioning() } else { None }
    }

    fn find_pieces(&self, ctx: &Context) -> Result<()> {
        if O::IS_ONE_BY_ONE { self.parent.find_pieces(ctx) } else { Ok(()) }
    }

    fn pieces(&self) -> Option<Pieces> {
        if O::IS_ONE_BY_ONE { self.parent.pieces() } else { None }
    }

    fn is_ordered(&self) -> bool {
        self.parent.is_ordered()
    }

    fn bytes_hint(&self) -> Option<u64> {
        if O::KEEPS_SIZE { self.parent.bytes_hint() } else { None }
    }
}
