//! Sorting: records cut into ranges by sampled bounds, each range sorted in runs that are merged.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;

use crate::actions::summaries;
use crate::codec::{self, Record};
use crate::context::Context;
use crate::error::Result;
use crate::host;
use crate::partitioning::Partitioning;
use crate::plan::{Lineage, Plan};
use crate::random::Random;
use crate::shuffle::{Dependency, Prepare};
use crate::task::{BLOCK, Records, Room, TaskScope, done};

/// Keys sampled for each partition that is made: enough for ranges of about the same size.
const SAMPLES: usize = 60;

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
        let bounds: Rc<OnceCell<Vec<K>>> = Rc::new(OnceCell::new());

        let (known, keys) = (Rc::clone(&bounds), Rc::clone(&key));
        let dependency =
            Dependency::new(ctx, name, parent, partitions, move |parent, task, writer| {
                let bounds = known.get().map(Vec::as_slice).unwrap_or_default();
                parent.compute(task.context().partition as usize, Rc::clone(task)).for_each(
                    |record| {
                        let key = keys(&record);
                        let range = bounds.partition_point(|bound| *bound <= key);
                        let partition = if ascending { range } else { bounds.len() - range };
                        writer.push(partition, &record);
                    },
                );
            });
        let (sampled, keys) = (Rc::clone(parent), Rc::clone(&key));
        let prepare_bounds = move |ctx: &Context| {
            if partitions > 1 && bounds.get().is_none() {
                sampled.prepare(ctx)?;
                // Nobody else sets it: drivers have one thread.
                let _ = bounds.set(sample_bounds(ctx, &sampled, &keys, partitions)?);
            }
            Ok(())
        };
        Sorted { dependency, key, ascending, prepare_bounds: Box::new(prepare_bounds) }
    }
}

/// Samples the keys and gives those that cut them into ranges of about the same size.
fn sample_bounds<P: Plan, K: Record + Ord>(
    ctx: &Context,
    plan: &Rc<P>,
    key: &Rc<impl Fn(&P::Item) -> K + 'static>,
    partitions: usize,
) -> Result<Vec<K>> {
    let wanted = (SAMPLES * partitions).div_ceil(plan.partitions().max(1)).max(SAMPLES);
    let key = Rc::clone(key);
    let samples = summaries(
        ctx,
        "sample of keys",
        plan,
        0..plan.partitions(),
        move |plan, partition, task| {
            let mut random = Random::for_partition(0, partition);
            let (mut count, mut keys) = (0u64, Vec::new());
            plan.compute(partition, task).for_each(|record| {
                count += 1;
                if keys.len() < wanted {
                    keys.push(key(&record));
                } else {
                    let at = random.below(count) as usize;
                    if let Some(known) = keys.get_mut(at) {
                        *known = key(&record);
                    }
                }
            });
            (count, keys)
        },
    )?
    .wait()?;
    // A key stands for as many records as its partition has for each of its samples.
    let mut weighted: Vec<(K, f64)> = Vec::new();
    let mut total = 0.0;
    for (count, keys) in samples {
        total += count as f64;
        let weight = count as f64 / keys.len().max(1) as f64;
        weighted.extend(keys.into_iter().map(|key| (key, weight)));
    }
    weighted.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut bounds: Vec<K> = Vec::new();
    let mut below = 0.0;
    for (key, weight) in weighted {
        let due = total * (bounds.len() + 1) as f64 / partitions as f64;
        // A key that is already a bound must not be one again: no record would lie between them.
        if below >= due && bounds.len() + 1 < partitions && bounds.last() != Some(&key) {
            bounds.push(key);
        }
        below += weight;
    }
    Ok(bounds)
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
        let order = Order { key: Rc::clone(&self.key), ascending: self.ascending };
        sort(Records::of(self.dependency.open(partition, &task)), order, &task)
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
