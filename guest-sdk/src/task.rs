//! What a task knows of itself.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::rc::Rc;

use serde::Serialize;

use crate::codec::{self, Cursor, Record};
use crate::host::{self, Placement};
use crate::pieces::Piece;

/// Where the running task is: `TaskContext::get()` in any closure that runs in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskContext {
    /// The job: one action of the driver.
    pub job: u32,
    /// The stage.
    pub stage_id: u32,
    /// The partition that is computed, from 0. Several tasks may share one of a join ([`Dataset::join`](crate::Dataset::join)), and one task may
    /// compute several that are tiny: this is the first then.
    pub partition: u32,
    /// 0 for the first try.
    pub attempt: u32,
    /// The executor that runs it.
    pub executor: u32,
}

thread_local! {
    static CURRENT: Cell<Option<TaskContext>> = const { Cell::new(None) };
}

impl TaskContext {
    /// The context of the running task. Its partition is that of the whole task: where datasets were put together
    /// ([`coalesce`](crate::Dataset::coalesce), [`union`](crate::Dataset::union)), not that of the dataset put in.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let placed = ctx.range(0..4, 2).map(|n| (TaskContext::get().partition, n));
    /// assert_eq!(placed.collect()?, [(0, 0), (0, 1), (1, 2), (1, 3)]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// In the driver, where there is none; see [`TaskContext::try_get`].
    pub fn get() -> TaskContext {
        match Self::try_get() {
            Some(context) => context,
            None => panic!(
                "TaskContext::get() was called in the driver; call it in a closure that runs in a task"
            ),
        }
    }

    /// The context of the running task, or none in the driver: for functions that both call.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let is_task = || TaskContext::try_get().is_some();
    /// assert!(!is_task());
    /// assert_eq!(ctx.run_tasks(0..2, move |_| is_task())?, [true, true]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn try_get() -> Option<TaskContext> {
        CURRENT.get()
    }
}

/// A running task, as plans see it.
#[derive(Debug)]
pub struct TaskScope {
    context: TaskContext,
    /// Live bytes above which operators spill.
    limit: u64,
    /// What an operator may hold of its own in any case.
    floor: u64,
    /// The stages that stand behind this task's shuffle inputs, by the input's number in the driver.
    shuffles: Vec<(u32, u32)>,
    /// What it computes.
    piece: Cell<Piece>,
    /// Partitions of cached datasets that it stores, or has stored.
    storing: RefCell<BTreeSet<(u32, usize)>>,
    /// Native runs only: operators are to spill after this many records.
    spill_every: Option<u32>,
    records: Cell<u32>,
}

impl TaskScope {
    /// Runs a task's body with its scope.
    pub(crate) fn enter<R>(body: impl FnOnce(&Rc<TaskScope>) -> R) -> R {
        let Placement { job, stage, partition, attempt, executor, memory } = host::placement();
        let context = TaskContext { job, stage_id: stage, partition, attempt, executor };
        let payload = host::payload();
        let shuffles = if payload.is_empty() { Vec::new() } else { done(codec::decode(&payload)) };
        // What was captured is the driver's. The half leaves room for buffers that double as they grow, and for what the
        // allocator can't use again.
        let limit = host::live_bytes().saturating_add(memory / 2);
        let scope = TaskScope {
            context,
            limit,
            floor: memory / FLOOR,
            shuffles,
            piece: Cell::new(Piece::Whole(partition as usize)),
            storing: RefCell::default(),
            spill_every: host::spill_every(),
            records: Cell::new(0),
        };
        #[cfg(feature = "parquet")]
        set_place(None);
        CURRENT.set(Some(context));
        let result = body(&Rc::new(scope));
        CURRENT.set(None);
        result
    }

    /// Forgets a task that ended by unwinding.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn leave() {
        CURRENT.set(None);
    }

    /// Which task this is: for plans, which are given their task.
    ///
    /// ```
    /// # use ingle::TaskScope;
    /// fn is_first_try(task: &TaskScope) -> bool {
    ///     task.context().attempt == 0
    /// }
    /// ```
    pub fn context(&self) -> TaskContext {
        self.context
    }

    /// Says what is computed of a dataset: closures are told its partition, or the first.
    pub(crate) fn computes(&self, piece: Piece) {
        self.piece.set(piece);
        CURRENT.set(Some(TaskContext { partition: piece.partition() as u32, ..self.context }));
    }

    /// The partition of the stage's dataset that is computed.
    pub(crate) fn partition(&self) -> usize {
        self.piece.get().partition()
    }

    /// What is computed of that.
    pub(crate) fn piece(&self) -> Piece {
        self.piece.get()
    }

    /// Whether this is the first time that the task computes a partition of a cached dataset: only then it is to be stored.
    pub(crate) fn begin_storing(&self, cache: u32, partition: usize) -> bool {
        self.storing.borrow_mut().insert((cache, partition))
    }

    /// The stage that made the shuffle output behind the driver's dependency of this number.
    pub(crate) fn stage_of(&self, dependency: u32) -> u32 {
        match self.shuffles.iter().find(|(number, _)| *number == dependency) {
            Some((_, stage)) => *stage,
            None => fail("a dataset was computed whose shuffle is no input of this stage"),
        }
    }
}

/// The part of a task's memory that each operator may hold however much others do: less would be put away record by record.
const FLOOR: u64 = 16;

/// What an operator may hold before it should put its records away.
///
/// Made when it begins to hold some. Several of a task may hold much at once, one feeding the next: the later one isn't full for what the
/// earlier one holds.
#[derive(Debug)]
pub(crate) struct Room {
    task: Rc<TaskScope>,
    /// The task's own; asked for with each record, or a few.
    spill_every: Option<u32>,
    /// Live bytes.
    full_at: u64,
}

impl Room {
    pub(crate) fn new(task: &Rc<TaskScope>) -> Room {
        let mut room = Room { task: Rc::clone(task), spill_every: task.spill_every, full_at: 0 };
        room.renew();
        room
    }

    /// Begins anew: what it held was put away.
    pub(crate) fn renew(&mut self) {
        self.full_at = full_at(self.task.limit, host::live_bytes(), self.task.floor);
    }

    /// Whether it is full after so many records, whatever they hold.
    pub(crate) fn is_by_records(&self) -> bool {
        self.spill_every.is_some()
    }

    /// Whether what it holds should be put away now. Asked once a record, or a few.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        if let Some(every) = self.spill_every {
            let records = &self.task.records;
            records.set(records.get() + 1);
            return records.get().is_multiple_of(every);
        }
        host::live_bytes() > self.full_at
    }

    /// Whether so much more would be too much: for what grows by doubling, where old and new are there at once.
    pub(crate) fn would_be_full(&self, more: usize) -> bool {
        self.spill_every.is_none() && host::live_bytes() + more as u64 > self.full_at
    }
}

/// The live bytes at which an operator is full that begins to hold records when there are `live`.
fn full_at(limit: u64, live: u64, floor: u64) -> u64 {
    limit.max(live.saturating_add(floor))
}

#[cfg(feature = "parquet")]
thread_local! {
    /// What is being read by what may panic if it isn't sound.
    static PLACE: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) };
}

/// Says what is being read from now on: a panic tells.
#[cfg(feature = "parquet")]
pub(crate) fn set_place(place: Option<String>) {
    PLACE.set(place);
}

/// What a panic happened to, if that is known.
pub(crate) fn panicked(told: String) -> String {
    #[cfg(feature = "parquet")]
    if let Some(place) = PLACE.take() {
        return format!("{place} is no sound Parquet: {told}");
    }
    told
}

/// Ends the task: it failed, with a text for the user.
pub(crate) fn fail(text: impl Display) -> ! {
    host::fail(&text.to_string())
}

/// What succeeded; a failure ends the task.
pub(crate) fn done<T>(result: Result<T, impl Display>) -> T {
    match result {
        Ok(value) => value,
        Err(text) => fail(text),
    }
}

/// How much is gathered before it is handed to the host.
pub(crate) const BLOCK: usize = 256 * 1024;

/// The task's result: encoded records, one after the other.
pub(crate) struct Emitter {
    buffer: Vec<u8>,
    /// How much the host has already.
    flushed: u64,
}

impl Emitter {
    pub(crate) fn new() -> Emitter {
        Emitter { buffer: Vec::new(), flushed: 0 }
    }

    #[inline]
    pub(crate) fn push<T: Serialize + ?Sized>(&mut self, record: &T) {
        done(codec::encode(record, &mut self.buffer));
        self.flush_if_full();
    }

    /// Adds a pair whose parts are read one after the other.
    #[inline]
    pub(crate) fn push_pair<K: Serialize, V: Serialize>(&mut self, key: &K, value: &V) {
        done(codec::encode(key, &mut self.buffer));
        done(codec::encode(value, &mut self.buffer));
        self.flush_if_full();
    }

    /// How many bytes were emitted.
    pub(crate) fn bytes(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// The buffer itself, for text; `flush_if_full` is then the caller's to call.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    #[inline]
    pub(crate) fn flush_if_full(&mut self) {
        if self.buffer.len() >= BLOCK {
            host::emit(&self.buffer);
            self.flushed += self.buffer.len() as u64;
            self.buffer.clear();
        }
    }

    pub(crate) fn finish(self) {
        if !self.buffer.is_empty() {
            host::emit(&self.buffer);
        }
    }
}

/// The blocks of an open reader.
pub(crate) struct Blocks {
    reader: u32,
}

impl Blocks {
    pub(crate) fn of(reader: u32) -> Blocks {
        Blocks { reader }
    }
}

impl Iterator for Blocks {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        done(host::read(self.reader))
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        host::close(self.reader);
    }
}

/// The records of a reader's blocks.
pub(crate) struct Records<T> {
    blocks: Blocks,
    cursor: Cursor,
    record: std::marker::PhantomData<fn() -> T>,
}

impl<T: Record> Records<T> {
    pub(crate) fn of(reader: u32) -> Records<T> {
        Records {
            blocks: Blocks::of(reader),
            cursor: Cursor::new(Vec::new()),
            record: std::marker::PhantomData,
        }
    }
}

impl<T: Record> Iterator for Records<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        while self.cursor.is_empty() {
            self.cursor = Cursor::new(self.blocks.next()?);
        }
        Some(done(self.cursor.decode()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_full_at_the_limit_but_never_before_it_holds_the_floor() {
        assert_eq!(full_at(1000, 10, 60), 1000);
        assert_eq!(full_at(1000, 990, 60), 1050);
        assert_eq!(full_at(1000, 5000, 60), 5060);
        assert_eq!(full_at(u64::MAX, 10, u64::MAX), u64::MAX);
    }
}
