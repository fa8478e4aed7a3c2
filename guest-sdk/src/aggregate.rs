//! Records brought together by key.

use std::rc::Rc;

use crate::codec::Record;
use crate::context::Context;
use crate::error::Result;
use crate::join::Side;
use crate::partitioning::Partitioning;
use crate::pieces::{Adaptive, Input, Pieces, are_many};
use crate::plan::{Lineage, Plan};
use crate::shuffle::{Dependency, Prepare, Writer};
use crate::table::{Gather, Key, Merge, Table, Waiting};
use crate::task::{Blocks, Room, TaskScope};

/// How a key's values become one.
pub(crate) trait Aggregator<V>: 'static {
    /// What they become.
    type Sum: Record;

    /// Whether it pays to aggregate before the shuffle as well: not where nothing gets smaller.
    const BEFORE_SHUFFLE: bool = true;

    /// Adds a value to what there is.
    fn add(&self, known: Option<Self::Sum>, value: V) -> Self::Sum;

    /// Joins two parts.
    fn merge(&self, first: Self::Sum, second: Self::Sum) -> Self::Sum;
}

/// By one function: `reduce_by_key`.
pub(crate) struct Reduce<F>(pub F);

impl<V: Record, F: Fn(V, V) -> V + 'static> Aggregator<V> for Reduce<F> {
    type Sum = V;

    fn add(&self, known: Option<V>, value: V) -> V {
        match known {
            Some(known) => (self.0)(known, value),
            None => value,
        }
    }

    fn merge(&self, first: V, second: V) -> V {
        (self.0)(first, second)
    }
}

/// By three functions: `combine_by_key`.
pub(crate) struct Combine<Create, Add, Join> {
    pub create: Create,
    pub add: Add,
    pub join: Join,
}

impl<V, C, Create, Add, Join> Aggregator<V> for Combine<Create, Add, Join>
where
    C: Record,
    Create: Fn(V) -> C + 'static,
    Add: Fn(C, V) -> C + 'static,
    Join: Fn(C, C) -> C + 'static,
{
    type Sum = C;

    fn add(&self, known: Option<C>, value: V) -> C {
        match known {
            Some(known) => (self.add)(known, value),
            None => (self.create)(value),
        }
    }

    fn merge(&self, first: C, second: C) -> C {
        (self.join)(first, second)
    }
}

/// All of them: `group_by_key`.
pub(crate) struct Group;

impl<V: Record> Aggregator<V> for Group {
    type Sum = Vec<V>;
    const BEFORE_SHUFFLE: bool = false;

    fn add(&self, known: Option<Vec<V>>, value: V) -> Vec<V> {
        let mut group = known.unwrap_or_default();
        group.push(value);
        group
    }

    fn merge(&self, mut first: Vec<V>, mut second: Vec<V>) -> Vec<V> {
        first.append(&mut second);
        first
    }
}

/// Takes in all of a partition's values.
type Read<K, C> = Box<dyn Fn(usize, &Rc<TaskScope>) -> Gather<K, C>>;

/// The plan of `reduce_by_key` and its kin.
pub struct Aggregated<K, C> {
    partitioning: Partitioning,
    read: Read<K, C>,
    merge: Merge<C>,
    lineage: Box<dyn Fn(&mut Lineage)>,
    prepare: Prepare,
    /// What it reads, if it isn't in place.
    dependency: Option<Rc<Dependency>>,
    pieces: Adaptive,
}

impl<K: Key, C: Record> Aggregated<K, C> {
    pub(crate) fn new<V, P, A>(
        ctx: &Context,
        name: &'static str,
        parent: &Rc<P>,
        partitioning: Partitioning,
        by: A,
    ) -> Self
    where
        V: Record,
        P: Plan<Item = (K, V)>,
        A: Aggregator<V, Sum = C>,
    {
        let by = Rc::new(by);
        let merges = Rc::clone(&by);
        let merge: Merge<C> = Rc::new(move |first, second| merges.merge(first, second));
        // A function's partitioning is only taken over from the parent, which then lies in place: what is shuffled goes by hash.
        let is_measured = are_many(partitioning.partitions());
        let side = Rc::new(match A::BEFORE_SHUFFLE {
            true => {
                let write = aggregating(Rc::clone(&by));
                Side::new(ctx, name, parent, &partitioning, is_measured, write)
            }
            false => Side::of_pairs(ctx, name, parent, &partitioning, is_measured),
        });
        let (for_lineage, for_prepare) = (Rc::clone(&side), Rc::clone(&side));
        let joins = Rc::clone(&merge);
        let dependency = side.dependency().cloned();
        let read = move |partition: usize, task: &Rc<TaskScope>| {
            let mut gather = Gather::new(task);
            match &*side {
                Side::Shuffled(dependency) if A::BEFORE_SHUFFLE => {
                    let blocks = Blocks::of(dependency.open(partition, task));
                    gather.read(blocks, |known, sum: C| match known {
                        Some(known) => joins(known, sum),
                        None => sum,
                    });
                }
                side => {
                    side.gather(&mut gather, partition, task, |known, value| by.add(known, value))
                }
            }
            gather
        };
        Aggregated {
            partitioning,
            read: Box::new(read),
            merge,
            lineage: Box::new(move |lineage| {
                for_lineage.lineage(lineage);
                if let Side::InPlace(_) = &*for_lineage {
                    lineage.operator(name);
                }
            }),
            prepare: Box::new(move |ctx| for_prepare.prepare(ctx)),
            dependency,
            pieces: Adaptive::default(),
        }
    }
}

/// Writes what a task's values come to by key, or several such parts of them.
fn aggregating<K, V, P, A>(by: Rc<A>) -> impl Fn(Rc<P>, &Rc<TaskScope>, &mut Writer) + 'static
where
    K: Key,
    V: Record,
    P: Plan<Item = (K, V)>,
    A: Aggregator<V>,
{
    move |parent, task, writer| {
        let records = parent.compute(task.partition(), Rc::clone(task));
        let (mut table, mut room): (Table<K, A::Sum>, _) = (Table::new(), Room::new(task));
        let mut waiting = Waiting::new(&room);
        records.for_each(|(key, value)| {
            waiting.push(&key, value);
            if waiting.is_full() {
                table.upsert_all(&mut waiting, |known, value| by.add(known, value));
                if table.is_full(&room) {
                    table.write(writer);
                    room.renew();
                }
            }
        });
        table.upsert_all(&mut waiting, |known, value| by.add(known, value));
        table.write(writer);
    }
}

impl<K: Key, C: Record> Plan for Aggregated<K, C> {
    type Item = (K, C);

    fn partitions(&self) -> usize {
        self.partitioning.partitions()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = (K, C)> + 'static {
        (self.read)(partition, &task).finish(Rc::clone(&self.merge))
    }

    fn lineage(&self, lineage: &mut Lineage) {
        (self.lineage)(lineage);
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        (self.prepare)(ctx)
    }

    fn find_pieces(&self, ctx: &Context) -> Result<()> {
        match &self.dependency {
            Some(dependency) => {
                self.pieces.find(ctx, self.partitions(), &[Input::whole(dependency)])
            }
            None => Ok(()),
        }
    }

    fn pieces(&self) -> Option<Pieces> {
        self.pieces.pieces()
    }

    fn partitioning(&self) -> Option<Partitioning> {
        Some(self.partitioning.clone())
    }
}
