//! Two datasets brought together by key.

use std::rc::Rc;

use crate::codec::Record;
use crate::context::Context;
use crate::error::Result;
use crate::plan::{Lineage, Plan};
use crate::shuffle::Dependency;
use crate::table::{Gather, Key, Merge, place};
use crate::task::TaskScope;

/// What a key has in both datasets.
type Both<V, W> = (Vec<V>, Vec<W>);

/// One of the two datasets: shuffled, unless its records lie where they must already.
enum Side<P> {
    Shuffled(Rc<Dependency>),
    InPlace(Rc<P>),
}

impl<P, K, V> Side<P>
where
    K: Key,
    V: Record,
    P: Plan<Item = (K, V)>,
{
    fn new(ctx: &Context, plan: Rc<P>, partitions: usize) -> Self {
        if plan.hashed_into() == Some(partitions) {
            return Side::InPlace(plan);
        }
        let dependency =
            Dependency::new(ctx, "cogroup", &plan, partitions, |plan, task, writer| {
                plan.compute(task.context().partition as usize, Rc::clone(task)).for_each(
                    |(key, value)| {
                        let partition = place(&key, writer.partitions());
                        writer.push_pair(partition, &key, &value);
                    },
                );
            });
        Side::Shuffled(dependency)
    }

    fn gather<C: Record>(
        &self,
        gather: &mut Gather<K, C>,
        partition: usize,
        task: &Rc<TaskScope>,
        add: impl Fn(Option<C>, V) -> C,
    ) {
        match self {
            Side::Shuffled(dependency) => gather.read(dependency.open(partition, task), add),
            Side::InPlace(plan) => Rc::clone(plan)
                .compute(partition, Rc::clone(task))
                .for_each(|(key, value)| gather.upsert(&key, |known| add(known, value))),
        }
    }

    fn lineage(&self, lineage: &mut Lineage) {
        match self {
            Side::Shuffled(dependency) => lineage.shuffle(dependency),
            Side::InPlace(plan) => plan.lineage(lineage),
        }
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        match self {
            Side::Shuffled(dependency) => dependency.prepare(ctx),
            Side::InPlace(plan) => plan.prepare(ctx),
        }
    }
}

/// The plan under `join` and its kin: each key once, with its values in both datasets.
pub struct CoGrouped<P, Q> {
    left: Side<P>,
    right: Side<Q>,
    partitions: usize,
}

impl<K, V, W, P, Q> CoGrouped<P, Q>
where
    K: Key,
    V: Record,
    W: Record,
    P: Plan<Item = (K, V)>,
    Q: Plan<Item = (K, W)>,
{
    pub(crate) fn new(ctx: &Context, left: Rc<P>, right: Rc<Q>, partitions: usize) -> Self {
        let partitions = partitions.max(1);
        CoGrouped {
            left: Side::new(ctx, left, partitions),
            right: Side::new(ctx, right, partitions),
            partitions,
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
        self.partitions
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

    fn hashed_into(&self) -> Option<usize> {
        Some(self.partitions)
    }
}
