//! Records brought together by key.

use std::rc::Rc;

use crate::codec::Record;
use crate::context::Context;
use crate::error::Result;
use crate::plan::{Lineage, Plan};
use crate::shuffle::Dependency;
use crate::table::{Gather, Key, Merge, Table, place};
use crate::task::{Room, TaskScope};

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

/// Takes in all that one reader of a shuffle gives.
type Read<K, C> = Box<dyn Fn(u32, &Rc<TaskScope>) -> Gather<K, C>>;

/// The plan of `reduce_by_key` and its kin.
pub struct Aggregated<K, C> {
    dependency: Rc<Dependency>,
    read: Read<K, C>,
    merge: Merge<C>,
}

impl<K: Key, C: Record> Aggregated<K, C> {
    pub(crate) fn new<V, P, A>(
        ctx: &Context,
        name: &'static str,
        parent: &Rc<P>,
        partitions: usize,
        by: A,
    ) -> Self
    where
        V: Record,
        P: Plan<Item = (K, V)>,
        A: Aggregator<V, Sum = C>,
    {
        let by = Rc::new(by);
        let (adds, merges) = (Rc::clone(&by), Rc::clone(&by));
        let merge: Merge<C> = Rc::new(move |first, second| merges.merge(first, second));
        let joins = Rc::clone(&merge);
        let dependency =
            Dependency::new(ctx, name, parent, partitions.max(1), move |parent, task, writer| {
                let records = parent.compute(task.context().partition as usize, Rc::clone(task));
                if !A::BEFORE_SHUFFLE {
                    return records.for_each(|(key, value)| {
                        let partition = place(&key, writer.partitions());
                        writer.push_pair(partition, &key, &value);
                    });
                }
                let (mut table, mut room): (Table<K, C>, _) = (Table::new(), Room::new(task));
                records.for_each(|(key, value)| {
                    table.upsert(&key, |known| adds.add(known, value));
                    if table.is_full(&room) {
                        table.write(writer);
                        room.renew();
                    }
                });
                table.write(writer);
            });
        let read = move |reader: u32, task: &Rc<TaskScope>| {
            let mut gather = Gather::new(task);
            match A::BEFORE_SHUFFLE {
                true => gather.read(reader, |known, sum: C| match known {
                    Some(known) => joins(known, sum),
                    None => sum,
                }),
                false => gather.read(reader, |known, value: V| by.add(known, value)),
            }
            gather
        };
        Aggregated { dependency, read: Box::new(read), merge }
    }
}

impl<K: Key, C: Record> Plan for Aggregated<K, C> {
    type Item = (K, C);

    fn partitions(&self) -> usize {
        self.dependency.partitions()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = (K, C)> + 'static {
        let reader = self.dependency.open(partition, &task);
        (self.read)(reader, &task).finish(Rc::clone(&self.merge))
    }

    fn lineage(&self, lineage: &mut Lineage) {
        lineage.shuffle(&self.dependency);
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        self.dependency.prepare(ctx)
    }

    fn hashed_into(&self) -> Option<usize> {
        Some(self.partitions())
    }
}
