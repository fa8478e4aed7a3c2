//! Actions that run while the driver does other things.

use std::fmt;
use std::fmt::Display;
use std::rc::Rc;

use serde::Serialize;

use crate::actions::{Compression, Tasks, sizes};
use crate::codec::Record;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::narrow::Partition;
use crate::plan::Plan;

/// A running action; made by [`Dataset::collect_async`] and its kin. Dropped, it is cancelled.
#[must_use = "an action whose handle is dropped is cancelled"]
pub struct JobHandle<R> {
    wait: Box<dyn FnOnce() -> Result<R>>,
}

impl<R: 'static> JobHandle<R> {
    /// `wait` holds the job.
    pub(crate) fn new(wait: impl FnOnce() -> Result<R> + 'static) -> JobHandle<R> {
        JobHandle { wait: Box::new(wait) }
    }

    pub(crate) fn map<S: 'static>(self, f: impl FnOnce(R) -> S + 'static) -> JobHandle<S> {
        JobHandle::new(move || self.wait().map(f))
    }

    /// Waits for the action's end, and gives its result; or the error of a task that failed as often as it may.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let count = ctx.range(0..10, 4).count_async()?;
    /// assert_eq!(count.wait()?, 10);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn wait(self) -> Result<R> {
        (self.wait)()
    }

    /// Stops the action. Its tasks end when they next ask their host for something. What shuffles it had completed stays for later actions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let squares = ctx.range(0..1_000, 4).map(|n| n * n);
    /// squares.count_async()?.cancel();
    /// assert_eq!(squares.take(2)?, [0, 1]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn cancel(self) {}
}

impl<R> fmt::Debug for JobHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle").finish_non_exhaustive()
    }
}

/// Each starts an action and gives its handle, so that several run at once: their tasks share the slots, those of the first action first.
/// What must be known before an action starts (the bounds of a sort, the sizes of partitions) is computed before they return.
///
/// A failure is told by [`JobHandle::wait`], and that is when what tasks added to accumulators arrives. Results lie with the driver's host
/// until then. The native runner runs each action as it is started.
///
/// ```
/// # use ingle::prelude::*;
/// # let ctx = Context::local();
/// let words = ctx.parallelize(["to", "be", "or", "not", "to", "be"].map(String::from), 2);
/// let count = words.count_async()?;
/// let longest = words.reduce_async(|a, b| if b.len() > a.len() { b } else { a })?;
/// assert_eq!(count.wait()?, 6);
/// assert_eq!(longest.wait()?.as_deref(), Some("not"));
/// # Ok::<(), Error>(())
/// ```
impl<T: 'static, P: Plan<Item = T>> Dataset<T, P> {
    /// As [`Dataset::collect`], without waiting for it.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let (small, large) = (ctx.range(0..2, 1).collect_async()?, ctx.range(7..9, 1).collect_async()?);
    /// assert_eq!((large.wait()?, small.wait()?), (vec![7, 8], vec![0, 1]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn collect_async(&self) -> Result<JobHandle<Vec<T>>>
    where
        T: Record,
    {
        self.records("collect", Tasks::Pieces, None)
    }

    /// As [`Dataset::count`], without waiting for it.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let count = ctx.range(0..10, 4).count_async()?;
    /// assert_eq!(count.wait()?, 10);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn count_async(&self) -> Result<JobHandle<u64>> {
        let sizes = sizes(&self.ctx, &self.plan, Tasks::Pieces)?;
        Ok(sizes.map(|sizes| sizes.into_iter().sum()))
    }

    /// As [`Dataset::take`], without waiting for it. Only the first partition is computed meanwhile; more, if they are needed, as it is
    /// waited for.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let first = ctx.range(0..10, 4).take_async(3)?;
    /// assert_eq!(first.wait()?, [0, 1, 2]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn take_async(&self, n: usize) -> Result<JobHandle<Vec<T>>>
    where
        T: Record,
    {
        let first = self.take_from(0, n)?;
        let dataset = self.clone();
        Ok(JobHandle::new(move || {
            let (mut taken, mut next) = first.wait()?;
            while taken.len() < n && next < dataset.num_partitions() {
                let (more, end) = dataset.take_from(next, n - taken.len())?.wait()?;
                taken.extend(more);
                next = end;
            }
            taken.truncate(n);
            Ok(taken)
        }))
    }

    /// Up to `n` records of each of a few partitions, and which partition is next: more each time.
    fn take_from(&self, next: usize, n: usize) -> Result<JobHandle<(Vec<T>, usize)>>
    where
        T: Record,
    {
        let end = if n == 0 { next } else { self.num_partitions().min(4 * next + 1) };
        Ok(self
            .records("take", Tasks::Partitions(next..end), Some(n))?
            .map(move |records| (records, end)))
    }

    /// As [`Dataset::reduce`], without waiting for it.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let greatest = ctx.range(0..10, 4).reduce_async(u64::max)?;
    /// assert_eq!(greatest.wait()?, Some(9));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn reduce_async(&self, f: impl Fn(T, T) -> T + 'static) -> Result<JobHandle<Option<T>>>
    where
        T: Record,
    {
        let f = Rc::new(f);
        let in_task = Rc::clone(&f);
        let parts = self.summaries("reduce", move |plan, partition, task| {
            plan.compute(partition, task).reduce(|first, second| in_task(first, second))
        })?;
        let join = move |first, second| f(first, second);
        Ok(parts.map(|parts| parts.into_iter().flatten().reduce(join)))
    }

    /// As [`Dataset::aggregate`], without waiting for it.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let total = ctx.range(0..5, 2).aggregate_async(0, |sum, n| sum + n, |a, b| a + b)?;
    /// assert_eq!(total.wait()?, 10);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn aggregate_async<U: Record + Clone>(
        &self,
        zero: U,
        add: impl Fn(U, T) -> U + 'static,
        join: impl Fn(U, U) -> U + 'static,
    ) -> Result<JobHandle<U>> {
        let start = zero.clone();
        let parts = self.summaries("aggregate", move |plan, partition, task| {
            plan.compute(partition, task).fold(start.clone(), &add)
        })?;
        Ok(parts.map(|parts| parts.into_iter().fold(zero, join)))
    }

    /// As [`Dataset::for_each`], without waiting for it.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let total = ctx.accumulator("total", 0);
    /// let seen = total.clone();
    /// ctx.range(0..4, 2).for_each_async(move |n| seen.add(n))?.wait()?;
    /// assert_eq!(total.value(), 6);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn for_each_async(&self, f: impl Fn(T) + 'static) -> Result<JobHandle<()>> {
        let parts = self.summaries("for_each", move |plan, partition, task| {
            plan.compute(partition, task).for_each(&f)
        })?;
        Ok(parts.map(drop))
    }

    /// As [`Dataset::for_each_partition`], without waiting for it.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let partitions = ctx.accumulator("partitions", 0u64);
    /// let seen = partitions.clone();
    /// ctx.range(0..4, 2).for_each_partition_async(move |_| seen.add(1))?.wait()?;
    /// assert_eq!(partitions.value(), 2);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn for_each_partition_async(
        &self,
        f: impl Fn(Partition<T>) + 'static,
    ) -> Result<JobHandle<()>> {
        let call = move |plan: Rc<P>, partition, task| f(Box::new(plan.compute(partition, task)));
        Ok(self.summaries_of_partitions("for_each_partition", call)?.map(drop))
    }

    /// As [`Dataset::save_as_text_file`], without waiting for it. Nothing shows in the folder before the handle was waited for; dropped
    /// before, it is removed.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("out").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// let saving = ctx.range(0..3, 1).save_as_text_file_async(&path)?;
    /// saving.wait()?;
    /// assert_eq!(std::fs::read_to_string(format!("{path}/part-00000"))?, "0\n1\n2\n");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn save_as_text_file_async(&self, path: impl AsRef<str>) -> Result<JobHandle<()>>
    where
        T: Display,
    {
        self.save_text(path.as_ref(), Compression::None)
    }

    /// As [`Dataset::save_as_json`], without waiting for it; see [`Dataset::save_as_text_file_async`].
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("out").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// let saving = ctx.parallelize([(1, "one")], 1).save_as_json_async(&path)?;
    /// saving.wait()?;
    /// assert_eq!(std::fs::read_to_string(format!("{path}/part-00000"))?, "[1,\"one\"]\n");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn save_as_json_async(&self, path: impl AsRef<str>) -> Result<JobHandle<()>>
    where
        T: Serialize,
    {
        self.save_json(path.as_ref(), Compression::None)
    }

    /// As [`Dataset::save_as_csv`], without waiting for it; see [`Dataset::save_as_text_file_async`].
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("out").to_str().unwrap().to_owned();
    /// # let ctx = Context::local();
    /// #[derive(serde::Serialize)]
    /// struct Row {
    ///     id: u32,
    /// }
    ///
    /// let saving = ctx.range(1..3, 1).map(|id| Row { id: id as u32 }).save_as_csv_async(&path)?;
    /// saving.wait()?;
    /// assert_eq!(std::fs::read_to_string(format!("{path}/part-00000"))?, "id\n1\n2\n");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn save_as_csv_async(&self, path: impl AsRef<str>) -> Result<JobHandle<()>>
    where
        T: Serialize,
    {
        self.save_csv(path.as_ref(), Compression::None)
    }
}
