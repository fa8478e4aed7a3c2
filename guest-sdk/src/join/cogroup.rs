//! The plan of `cogroup`.

use std::rc::Rc;

use crate::codec::Record;
use crate::context::Context;
use crate::error::Result;
use crate::join::side::Side;
use crate::partitioning::Partitioning;
use crate::pieces::{Adaptive, Input, Pieces, are_many};
use crate::plan::{Lineage, Plan};
use crate::table::{Gather, Key, Merge};
use crate::task::TaskScope;

/// What a key has in both datasets.
type Both<V, W> = (Vec<V>, Vec<W>);

/// Each key once, with its values in both datasets.
pub struct CoGrouped<P, Q> {
    left: Side<P>,
    right: Side<Q>,
    partitioning: Partitioning,
    pieces: Adaptive,
}

impl<K, V, W, P, Q> CoGrouped<P, Q>
where
    K: Key,
    V: Record,
    W: Record,
    P: Plan<Item = (K, V)>,
    Q: Plan<Item = (K, W)>,
{
    pub(crate) fn new(
        ctx: &Context,
        left: &Rc<P>,
        right: &Rc<Q>,
        partitioning: Partitioning,
    ) -> Self {
        let is_measured = are_many(partitioning.partitions());
        CoGrouped {
            left: Side::of_pairs(ctx, "cogroup", left, &partitioning, is_measured),
            right: Side::of_pairs(ctx, "cogroup", right, &partitioning, is_measured),
            partitioning,
            pieces: Adaptive::default(),
        }
    }
}

impl<K, V, W, P, Q> Plan for CoGrouped<P, Q>
where
    K: Key,
    V: Record,
    W: Record,
    P: Plan<Item = (K, V)>,
    Q: Plan<Item = (K, W)>,
{
    type Item = (K, Both<V, W>);

    fn partitions(&self) -> usize {
        self.partitioning.partitions()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = Self::Item> + 'static {
        let mut gather: Gather<K, Both<V, W>> = Gather::new(&task);
        self.left.gather(&mut gather, partition, &task, |known, value| {
            let mut both = known.unwrap_or_default();
            both.0.push(value);
            both
        });
        self.right.gather(&mut gather, partition, &task, |known, value| {
            let mut both = known.unwrap_or_default();
            both.1.push(value);
            both
        });
        let merge: Merge<Both<V, W>> = Rc::new(|mut first, mut second| {
            first.0.append(&mut second.0);
            first.1.append(&mut second.1);
            first
        });
        gather.finish(merge)
    }

    fn lineage(&self, lineage: &mut Lineage) {
        self.left.lineage(lineage);
        self.right.lineage(lineage);
        lineage.operator("cogroup");
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        self.left.prepare(ctx)?;
        self.right.prepare(ctx)
    }

    fn find_pieces(&self, ctx: &Context) -> Result<()> {
        match (self.left.dependency(), self.right.dependency()) {
            (Some(left), Some(right)) => {
                let reads = [left, right].map(Input::whole);
                self.pieces.find(ctx, self.partitions(), &reads)
            }
            _ => Ok(()),
        }
    }

    fn pieces(&self) -> Option<Pieces> {
        self.pieces.pieces()
    }

    fn partitioning(&self) -> Option<Partitioning> {
        Some(self.partitioning.clone())
    }
}
