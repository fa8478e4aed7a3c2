//! Sorting: records cut into ranges by sampled bounds, each range sorted by itself.
//!
//! A partition may be several ranges, sorted one after the other: so a task holds little, and what it goes through in another order than it
//! came lies in the processor's caches. A range that is larger than it should be is sorted in runs that are merged.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;

use crate::actions::{Tasks, summaries};
use crate::codec::{self, Record};
use crate::context::Context;
use crate::error::Result;
use crate::host;
use crate::partitioning::Partitioning;
use crate::plan::{Lineage, Plan};
use crate::random::Random;
use crate::shuffle::{Dependency, Prepare};
use crate::task::{BLOCK, Records, Room, TaskScope, done};

/// Keys sampled for each partition that is made, and at least of each that there is: enough for ranges of about the same size.
const SAMPLES: usize = 60;
/// About how many bytes a range should have.
const RANGE: u64 = 2 << 20;
/// More ranges than this make blocks too small.
const RANGES: usize = 1024;

/// The plan of `sort_by`.
pub struct Sorted<T, K> {
    dependency: Rc<Dependency>,
    key: Rc<dyn Fn(&T) -> K>,
    ascending: bool,
    prepare_bounds: Prepare,
}

impl<T: Record, K: Record + Ord> Sorted<T, K> {
    pub(crate) fn new<P: Plan<Item = T>>(
        ctx: &Context,
        name: &'static str,
        parent: &Rc<P>,
        partitions: usize,
        key: impl Fn(&T) -> K + 'static,
        ascending: bool,
    ) -> Self {
        let partitions = partitions.max(1);
        let key = Rc::new(key);
        let bounds: Rc<OnceCell<Bounds<K>>> = Rc::new(OnceCell::new());

        let (known, keys) = (Rc::clone(&bounds), Rc::clone(&key));
        let dependency =
            Dependency::new(ctx, name, parent, partitions, false, move |parent, task, writer| {
                let (bounds, last) = (known.get(), writer.partitions() - 1);
                parent.compute(task.partition(), Rc::clone(task)).for_each(|record| {
                    let range = bounds.map_or(0, |bounds| bounds.range(&keys(&record)));
                    writer.push(if ascending { range } else { last - range }, &record);
                });
            });
        let (sampled, keys, cut) = (Rc::clone(parent), Rc::clone(&key), Rc::clone(&dependency));
        let prepare_bounds = move |ctx: &Context| {
            if partitions > 1 && bounds.get().is_none() {
                sampled.prepare(ctx)?;
                let sample = Sample::take(ctx, &sampled, &keys, partitions)?;
                let slices = sample.bytes / (partitions as u64 * RANGE);
                cut.cut(usize::try_from(slices).unwrap_or(RANGES).min(RANGES / partitions));
                // Nobody else sets it: drivers have one thread.
                let _ = bounds.set(sample.bounds(partitions * cut.slices()));
            }
            Ok(())
        };
        Sorted { dependency, key, ascending, prepare_bounds: Box::new(prepare_bounds) }
    }
}

/// Keys that cut all into ranges.
struct Bounds<K> {
    /// In their order.
    keys: Vec<K>,
    /// The number of the range that begins with each. Numbers are left out behind a key of more records than a range should have, so that
    /// ranges next to each other are a partition of about the right size.
    ranges: Vec<usize>,
}

impl<K: Ord> Bounds<K> {
    fn range(&self, key: &K) -> usize {
        let bounds = self.keys.partition_point(|bound| bound <= key);
        bounds.checked_sub(1).and_then(|last| self.ranges.get(last)).copied().unwrap_or(0)
    }
}

/// What is known of records before they are sorted.
struct Sample<K> {
    /// Each key with the number of records that it stands for.
    keys: Vec<(K, f64)>,
    /// About how many bytes all records have.
    bytes: u64,
}

impl<K: Record + Ord> Sample<K> {
    fn take<P: Plan<Item: Record>>(
        ctx: &Context,
        plan: &Rc<P>,
        key: &Rc<impl Fn(&P::Item) -> K + 'static>,
        partitions: usize,
    ) -> Result<Self> {
        plan.find_pieces(ctx)?;
        let tasks = plan.pieces().map_or_else(|| plan.partitions(), |pieces| pieces.len());
        let wanted = (SAMPLES * partitions).div_ceil(tasks.max(1)).max(SAMPLES);
        let key = Rc::clone(key);
        let sample = move |plan: Rc<P>, partition, task: Rc<TaskScope>| {
            let mut random = Random::for_partition(0, partition);
            let (mut count, mut keys) = (0u64, Vec::new());
            let mut encoded = Vec::new();
            plan.compute(partition, task).for_each(|record| {
                count += 1;
                let at = match keys.len() < wanted {
                    true => keys.len(),
                    false => random.below(count) as usize,
                };
                if at < wanted {
                    encoded.clear();
                    done(codec::encode(&record, &mut encoded));
                    let sampled = (key(&record), encoded.len() as u64);
                    match keys.get_mut(at) {
                        Some(known) => *known = sampled,
                        None => keys.push(sampled),
                    }
                }
            });
            (count, keys)
        };
        let parts = summaries(ctx, "sample of keys", plan, Tasks::Pieces, sample)?.wait()?;
        let (mut all, mut bytes) = (Vec::new(), 0.0);
        for (count, keys) in parts {
            // A key stands for as many records as its partition has for each of its samples.
            let weight = count as f64 / keys.len().max(1) as f64;
            for (key, length) in keys {
                bytes += length as f64 * weight;
                all.push((key, weight));
            }
        }
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Sample { keys: all, bytes: bytes as u64 })
    }

    /// Keys that cut all into so many ranges of about the same size.
    fn bounds(self, ranges: usize) -> Bounds<K> {
        let total: f64 = self.keys.iter().map(|(_, weight)| weight).sum();
        let mut bounds = Bounds { keys: Vec::new(), ranges: Vec::new() };
        let mut below = 0.0;
        for (key, weight) in self.keys {
            let range = ((below * ranges as f64 / total) as usize).min(ranges - 1);
            // A key that is already a bound must not be one again: no record would lie between them.
            let is_next = bounds.ranges.last().copied().unwrap_or(0) < range;
            if is_next && bounds.keys.last() != Some(&key) {
                bounds.keys.push(key);
                bounds.ranges.push(range);
            }
            below += weight;
        }
        bounds
    }
}

impl<T: Record, K: Record + Ord> Plan for Sorted<T, K> {
    type Item = T;

    fn partitions(&self) -> usize {
        self.dependency.partitions()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = T> + 'static {
        (0..self.dependency.slices()).flat_map(move |slice| {
            let order = Order { key: Rc::clone(&self.key), ascending: self.ascending };
            sort(Records::of(self.dependency.open_slice(partition, slice, &task)), order, &task)
        })
    }

    fn lineage(&self, lineage: &mut Lineage) {
        lineage.shuffle(&self.dependency);
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        (self.prepare_bounds)(ctx)?;
        self.dependency.prepare(ctx)
    }
}

/// The records of one partition in order; equal ones as they came.
fn sort<T: Record, K: Ord + 'static, I: Iterator<Item = T>>(
    records: I,
    order: Order<T, K>,
    task: &Rc<TaskScope>,
) -> impl Iterator<Item = T> + 'static + use<T, K, I> {
    let (mut run, mut runs, mut room) = (Batch::new(), Vec::new(), Room::new(task));
    records.for_each(|record| {
        run.push(&order, record);
        if room.is_full() {
            runs.push(std::mem::replace(&mut run, Batch::new()).write(&order));
            room.renew();
        }
    });
    let last = run.sorted(&order);
    let runs: Vec<Records<T>> =
        runs.into_iter().map(|run| Records::of(host::open_run(run))).collect();
    Merge::new(order, runs, last)
}

/// Pairs in the order of their keys, each partition by itself.
pub struct SortedWithin<P> {
    parent: Rc<P>,
}

impl<P> SortedWithin<P> {
    pub(crate) fn new(parent: Rc<P>) -> Self {
        SortedWithin { parent }
    }
}

impl<K, V, P> Plan for SortedWithin<P>
where
    K: Record + Ord + Clone,
    V: Record,
    P: Plan<Item = (K, V)>,
{
    type Item = (K, V);

    fn partitions(&self) -> usize {
        self.parent.partitions()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = (K, V)> + 'static {
        let order = Order { key: Rc::new(|pair: &(K, V)| pair.0.clone()), ascending: true };
        sort(Rc::clone(&self.parent).compute(partition, Rc::clone(&task)), order, &task)
    }

    fn lineage(&self, lineage: &mut Lineage) {
        self.parent.lineage(lineage);
        lineage.operator("sort within partitions");
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        self.parent.prepare(ctx)
    }

    fn partitioning(&self) -> Option<Partitioning> {
        self.parent.partitioning()
    }
}

struct Order<T, K> {
    key: Rc<dyn Fn(&T) -> K>,
    ascending: bool,
}

impl<T, K: Ord> Order<T, K> {
    fn compare(&self, one: &K, other: &K) -> Ordering {
        if self.ascending { one.cmp(other) } else { other.cmp(one) }
    }
}

/// Records to sort.
struct Batch<T, K> {
    /// Small records are sorted with their keys; the number tells equal ones apart.
    whole: Vec<(K, u32, T)>,
    /// Of large ones only the keys are sorted, with the records' places.
    keys: Vec<(K, u32)>,
    records: Vec<Option<T>>,
}

impl<T: Record, K: Ord> Batch<T, K> {
    /// Moving a record that is small costs less than finding it again elsewhere in memory.
    const SMALL: bool = size_of::<T>() <= 32;

    fn new() -> Self {
        Batch { whole: Vec::new(), keys: Vec::new(), records: Vec::new() }
    }

    fn push(&mut self, order: &Order<T, K>, record: T) {
        let key = (order.key)(&record);
        if Self::SMALL {
            self.whole.push((key, self.whole.len() as u32, record));
        } else {
            self.keys.push((key, self.records.len() as u32));
            self.records.push(Some(record));
        }
    }

    /// The records in order; equal ones as they came.
    fn sorted(mut self, order: &Order<T, K>) -> impl Iterator<Item = T> + use<T, K> {
        // Two loops that compare directly are faster than one that asks which way at each step.
        if order.ascending {
            self.whole.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(&b.1)));
            self.keys.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(&b.1)));
        } else {
            self.whole.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
            self.keys.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        }
        let large = self.keys.into_iter();
        let large = large
            .filter_map(move |(_, at)| self.records.get_mut(at as usize).and_then(Option::take));
        // One of the two is empty.
        self.whole.into_iter().map(|(_, _, record)| record).chain(large)
    }

    /// Puts the records away in order.
    fn write(self, order: &Order<T, K>) -> u32 {
        let run = host::create_run();
        let mut buffer = Vec::with_capacity(BLOCK);
        self.sorted(order).for_each(|record| {
            done(codec::encode(&record, &mut buffer));
            if buffer.len() >= BLOCK {
                host::write_run(run, &buffer);
                buffer.clear();
            }
        });
        host::write_run(run, &buffer);
        run
    }
}

/// Sorted runs as one; of equal records, those of earlier runs first.
struct Merge<T, K, L> {
    order: Rc<Order<T, K>>,
    runs: Vec<Records<T>>,
    last: L,
    heads: BinaryHeap<Head<T, K>>,
}

struct Head<T, K> {
    key: K,
    record: T,
    run: usize,
    order: Rc<Order<T, K>>,
}

impl<T: Record, K: Ord, L: Iterator<Item = T>> Merge<T, K, L> {
    fn new(order: Order<T, K>, runs: Vec<Records<T>>, last: L) -> Self {
        let mut merge = Merge { order: Rc::new(order), runs, last, heads: BinaryHeap::new() };
        // One run alone needs no heap.
        if !merge.runs.is_empty() {
            (0..=merge.runs.len()).for_each(|run| merge.advance(run));
        }
        merge
    }

    fn advance(&mut self, run: usize) {
        let next = match self.runs.get_mut(run) {
            Some(run) => run.next(),
            None => self.last.next(),
        };
        if let Some(record) = next {
            let key = (self.order.key)(&record);
            self.heads.push(Head { key, record, run, order: Rc::clone(&self.order) });
        }
    }
}

impl<T: Record, K: Ord, L: Iterator<Item = T>> Iterator for Merge<T, K, L> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.runs.is_empty() {
            return self.last.next();
        }
        let head = self.heads.pop()?;
        self.advance(head.run);
        Some(head.record)
    }
}

/// Reversed: a `BinaryHeap` gives the greatest first.
impl<T, K: Ord> Ord for Head<T, K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.compare(&other.key, &self.key).then(other.run.cmp(&self.run))
    }
}

impl<T, K: Ord> PartialOrd for Head<T, K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T, K: Ord> PartialEq for Head<T, K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T, K: Ord> Eq for Head<T, K> {}
