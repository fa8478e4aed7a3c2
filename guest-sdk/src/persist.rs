//! Datasets whose partitions are kept once they were computed.

use std::cell::Cell;
use std::rc::Rc;

use crate::codec::{self, Record};
use crate::context::Context;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::host::{self, StorageLevel};
use crate::partitioning::Partitioning;
use crate::plan::{Lineage, Plan};
use crate::task::{BLOCK, Records, TaskScope, done};

impl<T: Record, P: Plan<Item = T>> Dataset<T, P> {
    /// The same dataset, whose partitions are kept where they were computed, so that later actions read them there: for datasets that
    /// are used several times, as in iterations.
    ///
    /// Nothing is computed before an action, and a partition is kept once it was computed to its end. It is the returned dataset that is
    /// kept: go on with that. Kept partitions take executor memory, encoded; what is lost, with an executor or under pressure, is
    /// computed again. They are freed by [`unpersist`](Dataset::unpersist), or when the last dataset that is made from it is dropped.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let computed = ctx.accumulator("computed", 0u64);
    /// let count = computed.clone();
    /// let squares = ctx.range(0..10, 2).map(move |n| {
    ///     count.add(1);
    ///     n * n
    /// });
    /// let squares = squares.persist(StorageLevel::MemoryAndDisk);
    /// assert_eq!(squares.count()?, 10);
    /// assert_eq!(squares.max()?, Some(81));
    /// assert_eq!(computed.value(), 10);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn persist(&self, level: StorageLevel) -> Dataset<T> {
        self.then(|parent| Cached { parent, persisted: Persisted::new(level) }).boxed()
    }

    /// [`persist`](Dataset::persist) in memory only, as in Spark: what doesn't fit is computed again.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let words = ctx.parallelize(["a", "b", "a"].map(String::from), 2).cache();
    /// assert_eq!(words.count()?, 3);
    /// assert_eq!(words.distinct().count()?, 2);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn cache(&self) -> Dataset<T> {
        self.persist(StorageLevel::MemoryOnly)
    }
}

impl<T: 'static, P: Plan<Item = T>> Dataset<T, P> {
    /// Frees what [`persist`](Dataset::persist) keeps of this dataset, wherever it is. It is computed again when it is needed, and not
    /// kept any more. Of a dataset that isn't persisted there is nothing to free.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let numbers = ctx.range(0..4, 2).cache();
    /// assert_eq!(numbers.count()?, 4);
    /// numbers.unpersist();
    /// assert_eq!(numbers.collect()?, [0, 1, 2, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn unpersist(&self) {
        if let Some(persisted) = self.plan.persisted() {
            persisted.end();
        }
    }

    /// Where this dataset's partitions are kept, if they are.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let numbers = ctx.range(0..4, 2);
    /// assert_eq!(numbers.storage_level(), None);
    /// assert_eq!(numbers.cache().storage_level(), Some(StorageLevel::MemoryOnly));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn storage_level(&self) -> Option<StorageLevel> {
        self.plan.persisted().and_then(Persisted::level)
    }
}

/// What is kept of a dataset, by the host's name for it. Dropped, it is freed.
#[derive(Debug)]
pub struct Persisted {
    level: StorageLevel,
    state: Cell<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// No action needed it yet.
    New,
    Kept(u32),
    Ended,
}

impl Persisted {
    fn new(level: StorageLevel) -> Self {
        Persisted { level, state: Cell::new(State::New) }
    }

    fn level(&self) -> Option<StorageLevel> {
        (!matches!(self.state.get(), State::Ended)).then_some(self.level)
    }

    fn id(&self) -> Option<u32> {
        match self.state.get() {
            State::Kept(id) => Some(id),
            State::New | State::Ended => None,
        }
    }

    /// Asks the host for a name, in the driver.
    fn prepare(&self) {
        if let State::New = self.state.get() {
            self.state.set(State::Kept(host::new_cache(self.level)));
        }
    }

    fn end(&self) {
        // A task has only its own copy of what the driver holds.
        if host::is_task() {
            return;
        }
        if let State::Kept(id) = self.state.replace(State::Ended) {
            host::drop_cache(id);
        }
    }
}

impl Drop for Persisted {
    fn drop(&mut self) {
        self.end();
    }
}

/// A plan whose partitions are kept.
pub struct Cached<P> {
    parent: Rc<P>,
    persisted: Persisted,
}

impl<P: Plan<Item: Record>> Plan for Cached<P> {
    type Item = P::Item;

    fn partitions(&self) -> usize {
        self.parent.partitions()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = P::Item> + 'static {
        let parent = Rc::clone(&self.parent);
        let Some(id) = self.persisted.id() else {
            return Kept::Computed(parent.compute(partition, task));
        };
        if let Some(reader) = done(host::open_cached(id, partition as u32)) {
            return Kept::Stored(Records::of(reader));
        }
        if !task.begin_storing(id, partition) {
            return Kept::Computed(parent.compute(partition, task));
        }
        Kept::Storing(Storing {
            records: parent.compute(partition, task),
            id,
            partition: partition as u32,
            buffer: Vec::new(),
            state: Progress::Stores,
        })
    }

    fn lineage(&self, lineage: &mut Lineage) {
        if let Some(id) = self.persisted.id() {
            lineage.cached(id);
        }
        self.parent.lineage(lineage);
        lineage.operator("persist");
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        self.persisted.prepare();
        self.parent.prepare(ctx)
    }

    fn partitioning(&self) -> Option<Partitioning> {
        self.parent.partitioning()
    }

    fn persisted(&self) -> Option<&Persisted> {
        Some(&self.persisted)
    }

    fn is_ordered(&self) -> bool {
        self.parent.is_ordered()
    }

    fn bytes_hint(&self) -> Option<u64> {
        self.parent.bytes_hint()
    }
}

/// The records of a partition that is kept, or is to be.
enum Kept<I: Iterator<Item: Record>> {
    Stored(Records<I::Item>),
    Storing(Storing<I>),
    /// Not kept.
    Computed(I),
}

impl<I: Iterator<Item: Record>> Iterator for Kept<I> {
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<I::Item> {
        match self {
            Kept::Stored(records) => records.next(),
            Kept::Storing(records) => records.next(),
            Kept::Computed(records) => records.next(),
        }
    }
}

/// Stores records as they are computed.
struct Storing<I: Iterator<Item: Record>> {
    records: I,
    id: u32,
    partition: u32,
    buffer: Vec<u8>,
    state: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Stores,
    /// The host doesn't store this partition.
    Refused,
    Over,
}

impl<I: Iterator<Item: Record>> Storing<I> {
    fn flush(&mut self) {
        if !host::write_cached(self.id, self.partition, &self.buffer) {
            self.state = Progress::Refused;
        }
        self.buffer.clear();
    }
}

impl<I: Iterator<Item: Record>> Iterator for Storing<I> {
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<I::Item> {
        let Some(record) = self.records.next() else {
            if self.state == Progress::Stores {
                if !self.buffer.is_empty() {
                    self.flush();
                }
                host::finish_cached(self.id, self.partition);
            }
            self.state = Progress::Over;
            return None;
        };
        if self.state == Progress::Stores {
            done(codec::encode(&record, &mut self.buffer));
            if self.buffer.len() >= BLOCK {
                self.flush();
            }
        }
        Some(record)
    }
}

impl<I: Iterator<Item: Record>> Drop for Storing<I> {
    /// Who wants only the first records gets them; the rest is stored all the same, so that the next one finds the partition.
    fn drop(&mut self) {
        while self.state == Progress::Stores && !std::thread::panicking() {
            self.next();
        }
    }
}
