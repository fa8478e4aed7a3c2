//! One of the datasets that an operator by key brings together.

use std::marker::PhantomData;
use std::rc::Rc;

use crate::codec::{self, Cursor, Record};
use crate::context::Context;
use crate::error::Result;
use crate::partitioning::Partitioning;
use crate::plan::{Lineage, Plan};
use crate::shuffle::{Dependency, Writer};
use crate::table::{Cut, Gather, Key, Parts, Table, hash_of};
use crate::task::{Blocks, Room, TaskScope, done, fail};

/// Shuffled, unless its records lie where they must already.
pub(crate) enum Side<P> {
    Shuffled(Rc<Dependency>),
    InPlace(Rc<P>),
}

impl<P: Plan> Side<P> {
    /// `write` computes what a task is to of the plan, and writes it where it must lie; if `is_measured`, tasks tell how much.
    pub(crate) fn new(
        ctx: &Context,
        name: &'static str,
        plan: &Rc<P>,
        to: &Partitioning,
        is_measured: bool,
        write: impl Fn(Rc<P>, &Rc<TaskScope>, &mut Writer) + 'static,
    ) -> Self {
        if plan.partitioning().as_ref() == Some(to) {
            return Side::InPlace(Rc::clone(plan));
        }
        Side::Shuffled(Dependency::new(ctx, name, plan, to.partitions(), is_measured, write))
    }

    /// The shuffle, if it isn't in place.
    pub(crate) fn dependency(&self) -> Option<&Rc<Dependency>> {
        match self {
            Side::Shuffled(dependency) => Some(dependency),
            Side::InPlace(_) => None,
        }
    }

    pub(crate) fn lineage(&self, lineage: &mut Lineage) {
        match self {
            Side::Shuffled(dependency) => lineage.shuffle(dependency),
            Side::InPlace(plan) => plan.lineage(lineage),
        }
    }

    pub(crate) fn prepare(&self, ctx: &Context) -> Result<()> {
        match self {
            Side::Shuffled(dependency) => dependency.prepare(ctx),
            Side::InPlace(plan) => plan.prepare(ctx),
        }
    }
}

impl<P, K, V> Side<P>
where
    K: Key,
    V: Record,
    P: Plan<Item = (K, V)>,
{
    /// A side whose pairs are written as they are.
    pub(crate) fn of_pairs(
        ctx: &Context,
        name: &'static str,
        plan: &Rc<P>,
        to: &Partitioning,
        is_measured: bool,
    ) -> Self {
        let placer = to.placer();
        Side::new(ctx, name, plan, to, is_measured, move |plan, task, writer| {
            let Some(placer) = &placer else { fail(OTHER_KEYS) };
            plan.compute(task.partition(), Rc::clone(task))
                .for_each(|(key, value)| writer.push_pair(placer.place(&key), &key, &value));
        })
    }

    /// A side of which it matters only which keys there are: a task writes each once, as far as it can remember.
    pub(crate) fn of_keys(
        ctx: &Context,
        name: &'static str,
        plan: &Rc<P>,
        to: &Partitioning,
        is_measured: bool,
    ) -> Self {
        let placer = to.placer();
        Side::new(ctx, name, plan, to, is_measured, move |plan, task, writer| {
            let Some(placer) = &placer else { fail(OTHER_KEYS) };
            let records = plan.compute(task.partition(), Rc::clone(task));
            let mut seen = Seen::new(task);
            records.for_each(|(key, value)| {
                if seen.is_new(&key) {
                    writer.push_pair(placer.place(&key), &key, &value);
                }
            });
        })
    }

    /// Adds all pairs of a partition to a table.
    pub(crate) fn gather<C: Record>(
        &self,
        gather: &mut Gather<K, C>,
        partition: usize,
        task: &Rc<TaskScope>,
        add: impl Fn(Option<C>, V) -> C,
    ) {
        match self {
            Side::Shuffled(dependency) => {
                gather.read(Blocks::of(dependency.open(partition, task)), add);
            }
            Side::InPlace(plan) => {
                let mut taking = gather.taking(add);
                let pairs = Rc::clone(plan).compute(partition, Rc::clone(task));
                pairs.for_each(|(key, value)| taking.push(&key, value));
                taking.end();
            }
        }
    }

    /// The pairs of a partition, cut into parts by their keys.
    pub(crate) fn cut(&self, partition: usize, task: &Rc<TaskScope>, cut: Cut) -> Parts {
        let mut parts = Parts::new(cut);
        match self {
            Side::Shuffled(dependency) => {
                let blocks = Blocks::of(dependency.open(partition, task));
                cut_pairs::<K, V>(blocks, &mut parts);
            }
            Side::InPlace(plan) => {
                let pairs = Rc::clone(plan).compute(partition, Rc::clone(task));
                pairs.for_each(|(key, value)| {
                    parts.push_with(hash_of(&key), |buffer| {
                        done(codec::encode(&key, buffer));
                        done(codec::encode(&value, buffer));
                    });
                });
            }
        }
        parts
    }

    /// The pairs of a partition.
    pub(crate) fn pairs(
        &self,
        partition: usize,
        task: &Rc<TaskScope>,
    ) -> impl Iterator<Item = (K, V)> + use<P, K, V> {
        match self {
            Side::Shuffled(dependency) => {
                Pairs::Read(PairReader::new(Blocks::of(dependency.open(partition, task))))
            }
            Side::InPlace(plan) => {
                Pairs::InPlace(Rc::clone(plan).compute(partition, Rc::clone(task)))
            }
        }
    }
}

/// Cuts encoded pairs into parts by their keys.
pub(crate) fn cut_pairs<K: Key, V: Record>(
    blocks: impl Iterator<Item = Vec<u8>>,
    parts: &mut Parts,
) {
    for block in blocks {
        let mut cursor = Cursor::new(block);
        while !cursor.is_empty() {
            let start = cursor.position();
            let key: K = done(cursor.decode());
            // Only to know where it ends.
            let _: V = done(cursor.decode());
            let pair = cursor.bytes(start..cursor.position());
            parts.push_with(hash_of(&key), |buffer| buffer.extend_from_slice(pair));
        }
    }
}

/// The keys that a task has come to, as far as it can remember.
pub(crate) struct Seen<K> {
    keys: Table<K, ()>,
    room: Room,
}

impl<K: Key> Seen<K> {
    pub(crate) fn new(task: &Rc<TaskScope>) -> Self {
        Seen { keys: Table::new(), room: Room::new(task) }
    }

    /// Adds a key; says whether it is new, as far as is known.
    #[inline]
    pub(crate) fn is_new(&mut self, key: &K) -> bool {
        let is_new = self.keys.insert(key);
        if self.keys.is_full(&self.room) {
            self.keys.clear();
            self.room.renew();
        }
        is_new
    }
}

/// Inputs have keys of one type, and so have their partitionings.
const OTHER_KEYS: &str = "a dataset is partitioned by keys of another type";

enum Pairs<K, V, I> {
    Read(PairReader<K, V, Blocks>),
    InPlace(I),
}

impl<K: Record, V: Record, I: Iterator<Item = (K, V)>> Iterator for Pairs<K, V, I> {
    type Item = (K, V);

    #[inline]
    fn next(&mut self) -> Option<(K, V)> {
        match self {
            Pairs::Read(reader) => reader.next(),
            Pairs::InPlace(pairs) => pairs.next(),
        }
    }

    fn fold<A, F: FnMut(A, (K, V)) -> A>(self, init: A, f: F) -> A {
        match self {
            Pairs::Read(reader) => reader.fold(init, f),
            Pairs::InPlace(pairs) => pairs.fold(init, f),
        }
    }
}

/// Pairs as [`Writer::push_pair`] writes them.
pub(crate) struct PairReader<K, V, B> {
    blocks: B,
    cursor: Cursor,
    pair: PhantomData<fn() -> (K, V)>,
}

impl<K, V, B> PairReader<K, V, B> {
    pub(crate) fn new(blocks: B) -> Self {
        PairReader { blocks, cursor: Cursor::new(Vec::new()), pair: PhantomData }
    }
}

impl<K: Record, V: Record, B: Iterator<Item = Vec<u8>>> Iterator for PairReader<K, V, B> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        while self.cursor.is_empty() {
            self.cursor = Cursor::new(self.blocks.next()?);
        }
        let key = done(self.cursor.decode());
        Some((key, done(self.cursor.decode())))
    }
}
