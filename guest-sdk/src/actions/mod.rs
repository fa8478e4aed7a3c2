//! Actions: what makes a dataset be computed.

mod concurrent;
mod numbers;
mod save;
mod select;

pub use concurrent::JobHandle;
pub use numbers::{Number, Stats};
pub use save::Compression;
#[cfg(feature = "parquet")]
pub(crate) use save::Emitted;

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;
use std::rc::Rc;

use crate::codec::{Cursor, Record};
use crate::context::Context;
use crate::dataset::Dataset;
use crate::error::{Result, told};
use crate::host::Output;
use crate::job::Job;
use crate::narrow::Partition;
use crate::plan::{Lineage, Plan};
use crate::table::Key;
use crate::task::{Emitter, TaskScope};

/// Starts a job over some partitions of a plan. `body` computes one and emits its result.
pub(crate) fn start<P: Plan>(
    ctx: &Context,
    action: &'static str,
    plan: &Rc<P>,
    partitions: Range<usize>,
    output: Output,
    body: impl Fn(Rc<P>, usize, &Rc<TaskScope>, &mut Emitter) + 'static,
) -> Result<Job> {
    ctx.check_role(action)?;
    plan.prepare(ctx)?;
    let mut lineage = Lineage::of(|lineage| plan.lineage(lineage));
    lineage.operator(action);
    let (plan, tasks, first) = (Rc::clone(plan), partitions.len(), partitions.start);
    let body = move |task: &Rc<TaskScope>| {
        let mut emitter = Emitter::new();
        let partition = first + task.context().partition as usize;
        task.computes(partition);
        body(Rc::clone(&plan), partition, task, &mut emitter);
        emitter.finish();
    };
    Job::start(ctx, action, lineage, tasks, output, Rc::new(body))
}

/// One value of each of some partitions, in their order.
pub(crate) fn summaries<P: Plan, R: Record>(
    ctx: &Context,
    action: &'static str,
    plan: &Rc<P>,
    partitions: Range<usize>,
    summary: impl Fn(Rc<P>, usize, Rc<TaskScope>) -> R + 'static,
) -> Result<JobHandle<Vec<R>>> {
    let tasks = partitions.len();
    if tasks == 0 {
        return Ok(JobHandle::new(|| Ok(Vec::new())));
    }
    let job = start(
        ctx,
        action,
        plan,
        partitions,
        Output::Results,
        move |plan, partition, task, emitter| {
            emitter.push(&summary(plan, partition, Rc::clone(task)));
        },
    )?;
    Ok(JobHandle::new(move || job.values(tasks)))
}

/// How many records some partitions of a plan hold.
pub(crate) fn sizes<P: Plan>(
    ctx: &Context,
    plan: &Rc<P>,
    partitions: Range<usize>,
) -> Result<JobHandle<Vec<u64>>> {
    summaries(ctx, "count", plan, partitions, |plan, partition, task| {
        plan.compute(partition, task).fold(0u64, |count, _| count + 1)
    })
}

impl<T: 'static, P: Plan<Item = T>> Dataset<T, P> {
    /// One value of each partition.
    fn summaries<R: Record>(
        &self,
        action: &'static str,
        summary: impl Fn(Rc<P>, usize, Rc<TaskScope>) -> R + 'static,
    ) -> Result<JobHandle<Vec<R>>> {
        summaries(&self.ctx, action, &self.plan, 0..self.num_partitions(), summary)
    }

    /// The records of some partitions, at most so many of each, in order.
    fn records(
        &self,
        action: &'static str,
        partitions: Range<usize>,
        limit: Option<usize>,
    ) -> Result<JobHandle<Vec<T>>>
    where
        T: Record,
    {
        let count = partitions.len();
        if count == 0 {
            return Ok(JobHandle::new(|| Ok(Vec::new())));
        }
        let body = move |plan: Rc<P>, partition, task: &Rc<TaskScope>, emitter: &mut Emitter| {
            let records = plan.compute(partition, Rc::clone(task));
            match limit {
                None => records.for_each(|record| emitter.push(&record)),
                Some(limit) => records.take(limit).for_each(|record| emitter.push(&record)),
            }
        };
        let mut job = start(&self.ctx, action, &self.plan, partitions, Output::Results, body)?;
        Ok(JobHandle::new(move || {
            let mut parts: Vec<Vec<T>> = Vec::new();
            parts.resize_with(count, Vec::new);
            while let Some(results) = job.next()? {
                for result in results {
                    let Some(part) = parts.get_mut(result.partition as usize) else { continue };
                    let mut cursor = Cursor::new(result.value);
                    while !cursor.is_empty() {
                        part.push(cursor.decode().map_err(told)?);
                    }
                }
            }
            Ok(parts.into_iter().flatten().collect())
        }))
    }

    /// All records, in the order of partitions.
    pub fn collect(&self) -> Result<Vec<T>>
    where
        T: Record,
    {
        self.collect_async()?.wait()
    }

    /// How many records there are.
    pub fn count(&self) -> Result<u64> {
        self.count_async()?.wait()
    }

    /// How often each record occurs.
    pub fn count_by_value(&self) -> Result<HashMap<T, u64>>
    where
        T: Key,
    {
        let counts = self.map(|record| (record, 1u64)).reduce_by_key(|a, b| a + b);
        Ok(counts.collect()?.into_iter().collect())
    }

    /// Reduces all records to one. `f` must give the same whatever the grouping.
    pub fn reduce(&self, f: impl Fn(T, T) -> T + 'static) -> Result<Option<T>>
    where
        T: Record,
    {
        self.reduce_async(f)?.wait()
    }

    /// As `reduce`, where each partition and the end start from `zero`.
    pub fn fold(&self, zero: T, f: impl Fn(T, T) -> T + 'static) -> Result<T>
    where
        T: Record + Clone,
    {
        let f = Rc::new(f);
        let add = Rc::clone(&f);
        self.aggregate(
            zero,
            move |known, record| add(known, record),
            move |first, second| f(first, second),
        )
    }

    /// Brings all records together in a `U`: `add` takes a record in, `join` puts two parts together.
    pub fn aggregate<U: Record + Clone>(
        &self,
        zero: U,
        add: impl Fn(U, T) -> U + 'static,
        join: impl Fn(U, U) -> U + 'static,
    ) -> Result<U> {
        self.aggregate_async(zero, add, join)?.wait()
    }

    /// As `aggregate`, where tasks join the parts in so many rounds before the driver does: for many partitions of large parts.
    pub fn tree_aggregate<U: Record + Clone>(
        &self,
        zero: U,
        add: impl Fn(U, T) -> U + 'static,
        join: impl Fn(U, U) -> U + 'static,
        depth: usize,
    ) -> Result<U> {
        let start = zero.clone();
        let part = move |records: Partition<T>| std::iter::once(records.fold(start.clone(), &add));
        let mut parts = self.map_partitions(part).boxed();
        let join = Rc::new(join);
        let fan_in = (parts.num_partitions() as f64).powf(1.0 / depth.max(1) as f64).ceil().max(2.0)
            as usize;
        for _ in 1..depth {
            let groups = parts.num_partitions().div_ceil(fan_in);
            if groups <= 1 {
                break;
            }
            let in_task = Rc::clone(&join);
            let numbered = parts.map_partitions_with_index(move |at, parts| {
                parts.map(move |part| ((at / fan_in) as u64, part))
            });
            let joined = numbered
                .reduce_by_key_with_partitions(move |one, other| in_task(one, other), groups);
            parts = joined.values().boxed();
        }
        let parts = parts.collect()?;
        Ok(parts.into_iter().fold(zero, |first, second| join(first, second)))
    }

    /// Calls `f` with each record, in tasks.
    pub fn for_each(&self, f: impl Fn(T) + 'static) -> Result<()> {
        self.for_each_async(f)?.wait()
    }

    /// Calls `f` with each partition's records, in tasks.
    pub fn for_each_partition(&self, f: impl Fn(Partition<T>) + 'static) -> Result<()> {
        self.for_each_partition_async(f)?.wait()
    }
}

impl<K: Key, V: 'static, P: Plan<Item = (K, V)>> Dataset<(K, V), P> {
    /// How many records each key has.
    pub fn count_by_key(&self) -> Result<HashMap<K, u64>> {
        self.keys().count_by_value()
    }

    /// All values of a key.
    pub fn lookup(&self, key: &K) -> Result<Vec<V>>
    where
        K: Clone + Hash,
        V: Record,
    {
        let placer = self.plan.partitioning().and_then(|partitioning| partitioning.placer());
        let (key, at) = (key.clone(), placer.map(|placer| placer.place(key)));
        let found = self.filter(move |(known, _)| *known == key).values();
        // Only one partition can hold a key of which it is known where it lies.
        let partitions = at.map_or(0..self.num_partitions(), |at| at..at + 1);
        found.records("lookup", partitions, None)?.wait()
    }
}
