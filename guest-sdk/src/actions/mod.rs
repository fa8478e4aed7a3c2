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
use crate::pieces::{Piece, Pieces};
use crate::plan::{Lineage, Plan};
use crate::table::Key;
use crate::task::{Emitter, TaskScope};

/// What an action's tasks compute.
#[derive(Clone, Debug)]
pub(crate) enum Tasks {
    /// A partition each.
    Partitions(Range<usize>),
    /// All partitions, in pieces if some are shared or put together: for actions to which it doesn't matter where a partition ends.
    Pieces,
}

impl Tasks {
    fn are_none<P: Plan>(&self, plan: &P) -> bool {
        match self {
            Tasks::Partitions(partitions) => partitions.is_empty(),
            Tasks::Pieces => plan.partitions() == 0,
        }
    }
}

/// Starts a job over a plan. `body` computes a partition, or a piece of it, and emits its result. Gives how many tasks it has, too: they are in the
/// order of what they compute.
pub(crate) fn start<P: Plan>(
    ctx: &Context,
    action: &'static str,
    plan: &Rc<P>,
    tasks: Tasks,
    output: Output,
    body: impl Fn(Rc<P>, usize, &Rc<TaskScope>, &mut Emitter) + 'static,
) -> Result<(Job, usize)> {
    ctx.check_role(action)?;
    plan.prepare(ctx)?;
    let (partitions, pieces) = match tasks {
        Tasks::Partitions(partitions) => (partitions, None),
        Tasks::Pieces => {
            plan.find_pieces(ctx)?;
            (0..plan.partitions(), plan.pieces())
        }
    };
    let is_in_order = partitions.start == 0 && pieces.is_none();
    let mut lineage = Lineage::of(|lineage| match is_in_order {
        true => plan.lineage(lineage),
        false => lineage.rearranged(|lineage| plan.lineage(lineage)),
    });
    lineage.operator(action);
    let tasks = pieces.as_ref().map_or(partitions.len(), Pieces::len);
    let (plan, first) = (Rc::clone(plan), partitions.start);
    let body = move |task: &Rc<TaskScope>| {
        let mut emitter = Emitter::new();
        let number = task.context().partition as usize;
        let piece = match &pieces {
            None => Piece::Whole(first + number),
            Some(pieces) => pieces.of_task(number),
        };
        task.computes(piece);
        body(Rc::clone(&plan), piece.partition(), task, &mut emitter);
        emitter.finish();
    };
    Ok((Job::start(ctx, action, lineage, tasks, output, Rc::new(body))?, tasks))
}

/// One value of each task, in their order.
pub(crate) fn summaries<P: Plan, R: Record>(
    ctx: &Context,
    action: &'static str,
    plan: &Rc<P>,
    tasks: Tasks,
    summary: impl Fn(Rc<P>, usize, Rc<TaskScope>) -> R + 'static,
) -> Result<JobHandle<Vec<R>>> {
    if tasks.are_none(&**plan) {
        return Ok(JobHandle::new(|| Ok(Vec::new())));
    }
    let (job, tasks) =
        start(ctx, action, plan, tasks, Output::Results, move |plan, partition, task, emitter| {
            emitter.push(&summary(plan, partition, Rc::clone(task)));
        })?;
    Ok(JobHandle::new(move || job.values(tasks)))
}

/// How many records some partitions of a plan hold, or what each task computes of it.
pub(crate) fn sizes<P: Plan>(
    ctx: &Context,
    plan: &Rc<P>,
    tasks: Tasks,
) -> Result<JobHandle<Vec<u64>>> {
    summaries(ctx, "count", plan, tasks, |plan, partition, task| {
        plan.compute(partition, task).fold(0u64, |count, _| count + 1)
    })
}

impl<T: 'static, P: Plan<Item = T>> Dataset<T, P> {
    /// One value of each partition, or of each piece of it.
    fn summaries<R: Record>(
        &self,
        action: &'static str,
        summary: impl Fn(Rc<P>, usize, Rc<TaskScope>) -> R + 'static,
    ) -> Result<JobHandle<Vec<R>>> {
        summaries(&self.ctx, action, &self.plan, Tasks::Pieces, summary)
    }

    /// One value of each partition.
    fn summaries_of_partitions<R: Record>(
        &self,
        action: &'static str,
        summary: impl Fn(Rc<P>, usize, Rc<TaskScope>) -> R + 'static,
    ) -> Result<JobHandle<Vec<R>>> {
        let tasks = Tasks::Partitions(0..self.num_partitions());
        summaries(&self.ctx, action, &self.plan, tasks, summary)
    }

    /// The records that tasks compute, at most so many of each, in order.
    fn records(
        &self,
        action: &'static str,
        tasks: Tasks,
        limit: Option<usize>,
    ) -> Result<JobHandle<Vec<T>>>
    where
        T: Record,
    {
        if tasks.are_none(&*self.plan) {
            return Ok(JobHandle::new(|| Ok(Vec::new())));
        }
        let body = move |plan: Rc<P>, partition, task: &Rc<TaskScope>, emitter: &mut Emitter| {
            let records = plan.compute(partition, Rc::clone(task));
            match limit {
                None => records.for_each(|record| emitter.push(&record)),
                Some(limit) => records.take(limit).for_each(|record| emitter.push(&record)),
            }
        };
        let (mut job, count) = start(&self.ctx, action, &self.plan, tasks, Output::Results, body)?;
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

    /// All records, in the order of partitions, but for tiny ones that a task [computes as one](Dataset::reduce_by_key). They travel to the driver, whose memory must hold them; [`take`](Dataset::take) gives some.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.range(0..4, 2).map(|n| n + 1).collect()?, [1, 2, 3, 4]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn collect(&self) -> Result<Vec<T>>
    where
        T: Record,
    {
        self.collect_async()?.wait()
    }

    /// How many records there are. All are computed; only a number travels from each partition.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.range(0..10, 4).filter(|n| n % 2 == 0).count()?, 5);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn count(&self) -> Result<u64> {
        self.count_async()?.wait()
    }

    /// How often each record occurs. Shuffles by the records' hashes, as [`reduce_by_key`](Dataset::reduce_by_key) of counts; then each
    /// distinct record travels to the driver, whose memory must hold them.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let counts = ctx.parallelize(['a', 'b', 'a'], 2).count_by_value()?;
    /// assert_eq!((counts[&'a'], counts[&'b']), (2, 1));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn count_by_value(&self) -> Result<HashMap<T, u64>>
    where
        T: Key,
    {
        let counts = self.map(|record| (record, 1u64)).reduce_by_key(|a, b| a + b);
        Ok(counts.collect()?.into_iter().collect())
    }

    /// Reduces all records to one; none of no records. `f` must give the same whatever the grouping; the order is that of [`collect`](Dataset::collect). One record travels
    /// from each partition, and the driver reduces these.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let words = ctx.parallelize(["to", "be", "or"].map(String::from), 2);
    /// assert_eq!(words.reduce(|a, b| a + &b)?.as_deref(), Some("tobeor"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn reduce(&self, f: impl Fn(T, T) -> T + 'static) -> Result<Option<T>>
    where
        T: Record,
    {
        self.reduce_async(f)?.wait()
    }

    /// As [`reduce`](Dataset::reduce), where each partition and the end start from `zero`, which so must change nothing.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.range(1..5, 2).fold(1, |a, b| a * b)?, 24);
    /// # Ok::<(), Error>(())
    /// ```
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

    /// Brings all records together in a `U`: `add` takes a record in, `join` puts two parts together, in the order of [`collect`](Dataset::collect). Each
    /// partition and the end start from `zero`.
    ///
    /// Tasks hold a `U` each, which travels to the driver; it holds those of all partitions, then joins them. Of many large ones
    /// [`tree_aggregate`](Dataset::tree_aggregate) spares that.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let words = ctx.parallelize(["to", "be", "question"], 2);
    /// let (count, length) = words.aggregate((0, 0), |t, w| (t.0 + 1, t.1 + w.len()), |a, b| (a.0 + b.0, a.1 + b.1))?;
    /// assert_eq!((count, length), (3, 12));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn aggregate<U: Record + Clone>(
        &self,
        zero: U,
        add: impl Fn(U, T) -> U + 'static,
        join: impl Fn(U, U) -> U + 'static,
    ) -> Result<U> {
        self.aggregate_async(zero, add, join)?.wait()
    }

    /// As [`aggregate`](Dataset::aggregate), where tasks join the parts in rounds before the driver does: for many partitions of large
    /// parts.
    ///
    /// There are up to `depth - 1` rounds, each a shuffle of the parts, in which a task joins several. So `join` must give the same in any
    /// order.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let total = ctx.range(0..100, 16).tree_aggregate(0, |sum, n| sum + n, |a, b| a + b, 2)?;
    /// assert_eq!(total, 4950);
    /// # Ok::<(), Error>(())
    /// ```
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

    /// Calls `f` with each record, in tasks. What `f` changes in what it captured is changed in its task only, and a task that is tried
    /// again calls it again; an [accumulator](crate::Context::accumulator) brings things back, and counts a task once.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let total = ctx.accumulator("total", 0);
    /// let seen = total.clone();
    /// ctx.range(0..4, 2).for_each(move |n| seen.add(n))?;
    /// assert_eq!(total.value(), 6);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn for_each(&self, f: impl Fn(T) + 'static) -> Result<()> {
        self.for_each_async(f)?.wait()
    }

    /// Calls `f` with each partition's records as an iterator, in tasks; see [`for_each`](Dataset::for_each). They are computed as `f`
    /// takes them.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let total = ctx.accumulator("total", 0);
    /// let seen = total.clone();
    /// ctx.range(0..4, 2).for_each_partition(move |numbers| seen.add(numbers.sum::<u64>()))?;
    /// assert_eq!(total.value(), 6);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn for_each_partition(&self, f: impl Fn(Partition<T>) + 'static) -> Result<()> {
        self.for_each_partition_async(f)?.wait()
    }
}

impl<K: Key, V: 'static, P: Plan<Item = (K, V)>> Dataset<(K, V), P> {
    /// How many records each key has. Keys alone are shuffled, counted as by [`count_by_value`](Dataset::count_by_value), also where they
    /// lie in place; then all distinct ones travel to the driver, whose memory must hold them.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let counts = ctx.parallelize([('a', 1), ('b', 2), ('a', 3)], 2).count_by_key()?;
    /// assert_eq!(counts[&'a'], 2);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn count_by_key(&self) -> Result<HashMap<K, u64>> {
        self.keys().count_by_value()
    }

    /// All values of a key. Nothing is shuffled. Where pairs lie by their keys, one task computes the key's partition, else all partitions
    /// are computed; only the key's values travel.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([('a', 1), ('b', 2), ('a', 3)], 2);
    /// assert_eq!(pairs.lookup(&'a')?, [1, 3]);
    /// assert_eq!(pairs.reduce_by_key(|a, b| a + b).lookup(&'a')?, [4]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn lookup(&self, key: &K) -> Result<Vec<V>>
    where
        K: Clone + Hash,
        V: Record,
    {
        let placer = self.plan.partitioning().and_then(|partitioning| partitioning.placer());
        let (key, at) = (key.clone(), placer.map(|placer| placer.place(key)));
        let found = self.filter(move |(known, _)| *known == key).values();
        // Only one partition can hold a key of which it is known where it lies.
        let tasks = at.map_or(Tasks::Pieces, |at| Tasks::Partitions(at..at + 1));
        found.records("lookup", tasks, None)?.wait()
    }
}
