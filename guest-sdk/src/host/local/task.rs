//! What a task asks of the native runner.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

#[cfg(feature = "parquet")]
use crate::host::Extent;
use crate::host::local::driver::{self, Blocks};
use crate::host::local::files::SplitData;
use crate::host::{Placement, Split};

/// What a failed task unwinds with.
pub(crate) struct Failure(pub String);

/// The running task.
pub(crate) struct TaskState {
    placement: Placement,
    payload: Vec<u8>,
    readers: Vec<Reader>,
    runs: Vec<Blocks>,
    pub emitted: Vec<u8>,
    pub written: Vec<(u32, Vec<u8>)>,
    pub updates: Vec<(u32, Vec<u8>)>,
    /// By cached dataset and partition.
    pub cached: HashMap<(u32, u32), Cached>,
}

/// What the task stored of a partition.
#[derive(Default)]
pub(crate) struct Cached {
    pub blocks: Vec<Vec<u8>>,
    pub whole: bool,
}

enum Reader {
    Split { data: Rc<SplitData>, next: usize },
    Blocks { blocks: Blocks, next: usize },
}

thread_local! {
    static TASK: RefCell<Option<TaskState>> = const { RefCell::new(None) };
}

impl TaskState {
    pub(crate) fn new(placement: Placement, payload: Vec<u8>) -> TaskState {
        TaskState {
            placement,
            payload,
            readers: Vec::new(),
            runs: Vec::new(),
            emitted: Vec::new(),
            written: Vec::new(),
            updates: Vec::new(),
            cached: HashMap::new(),
        }
    }

    fn add_reader(&mut self, reader: Reader) -> u32 {
        self.readers.push(reader);
        self.readers.len() as u32 - 1
    }
}

/// Makes `state` the running task while `f` runs.
pub(crate) fn with_task<R>(state: TaskState, f: impl FnOnce() -> R) -> (TaskState, R) {
    TASK.replace(Some(state));
    let result = f();
    let state =
        TASK.take().unwrap_or_else(|| unreachable!("only this function takes the running task"));
    (state, result)
}

fn with<R>(f: impl FnOnce(&mut TaskState) -> R) -> R {
    TASK.with_borrow_mut(|task| match task {
        Some(task) => f(task),
        None => panic!("this belongs to tasks, and was called in the driver"),
    })
}

pub(crate) fn is_task() -> bool {
    TASK.with_borrow(Option::is_some)
}

pub(crate) fn spill_every() -> Option<u32> {
    driver::setting("ingle.local.spill-every")?.parse().ok().filter(|every| *every > 0)
}

pub(crate) fn live_bytes() -> u64 {
    0
}

pub(crate) fn placement() -> Placement {
    with(|task| task.placement)
}

pub(crate) fn payload() -> Vec<u8> {
    with(|task| task.payload.clone())
}

pub(crate) fn open_split(source: u32, split: u32) -> Result<u32, String> {
    let data = driver::split(source, split)
        .ok_or_else(|| format!("source {source} has no split {split}"))?;
    Ok(with(|task| task.add_reader(Reader::Split { data, next: 0 })))
}

pub(crate) fn open_shuffle(stage: u32, partition: u32) -> Result<u32, String> {
    open_shuffle_part(stage, partition, 0, u32::MAX)
}

pub(crate) fn open_shuffle_range(stage: u32, first: u32, partitions: u32) -> Result<u32, String> {
    let written = (first..first.saturating_add(partitions)).map(|partition| {
        driver::shuffled(stage, partition, 0..u32::MAX)
            .ok_or_else(|| format!("stage {stage} has no output for partition {partition}"))
    });
    let blocks = written.collect::<Result<Vec<_>, String>>()?.into_iter().flatten().collect();
    Ok(with(|task| task.add_reader(Reader::Blocks { blocks, next: 0 })))
}

pub(crate) fn open_shuffle_part(
    stage: u32,
    partition: u32,
    first: u32,
    tasks: u32,
) -> Result<u32, String> {
    let blocks = driver::shuffled(stage, partition, first..first.saturating_add(tasks))
        .ok_or_else(|| format!("stage {stage} has no output for partition {partition}"))?;
    Ok(with(|task| task.add_reader(Reader::Blocks { blocks, next: 0 })))
}

pub(crate) fn open_cached(cache: u32, partition: u32) -> Result<Option<u32>, String> {
    let Some(blocks) = driver::cached(cache, partition) else { return Ok(None) };
    Ok(Some(with(|task| task.add_reader(Reader::Blocks { blocks, next: 0 }))))
}

pub(crate) fn write_cached(cache: u32, partition: u32, block: &[u8]) -> bool {
    with(|task| task.cached.entry((cache, partition)).or_default().blocks.push(block.to_vec()));
    true
}

pub(crate) fn finish_cached(cache: u32, partition: u32) {
    with(|task| task.cached.entry((cache, partition)).or_default().whole = true);
}

pub(crate) fn read(reader: u32) -> Result<Option<Vec<u8>>, String> {
    with(|task| match task.readers.get_mut(reader as usize) {
        None => Err(format!("no reader {reader}")),
        Some(Reader::Split { data, next }) => {
            *next += 1;
            Ok(data.blocks.get(*next - 1).cloned())
        }
        Some(Reader::Blocks { blocks, next }) => {
            *next += 1;
            Ok(blocks.get(*next - 1).map(|block| block.to_vec()))
        }
    })
}

pub(crate) fn close(_reader: u32) {}

fn data(reader: u32) -> Option<Rc<SplitData>> {
    with(|task| match task.readers.get(reader as usize) {
        Some(Reader::Split { data, .. }) => Some(Rc::clone(data)),
        _ => None,
    })
}

pub(crate) fn describe(reader: u32) -> Split {
    match data(reader) {
        Some(data) => {
            Split { path: data.path.clone(), offset: data.offset, header: data.header.clone() }
        }
        None => fail(&format!("reader {reader} is no split")),
    }
}

pub(crate) fn line_number(reader: u32, offset: u64) -> u64 {
    match data(reader) {
        Some(data) => data.line_number(offset),
        None => fail(&format!("reader {reader} is no split")),
    }
}

#[cfg(feature = "parquet")]
fn ranges(reader: u32) -> (Extent, Rc<Vec<u8>>) {
    let data = data(reader);
    match data.as_ref().and_then(|data| Some((data.offset, data.ranges.clone()?))) {
        Some((start, (end, bytes))) => (Extent { start, end, length: bytes.len() as u64 }, bytes),
        None => fail(&format!("reader {reader} has no ranges")),
    }
}

#[cfg(feature = "parquet")]
pub(crate) fn extent(reader: u32) -> Extent {
    ranges(reader).0
}

#[cfg(feature = "parquet")]
pub(crate) fn read_at(reader: u32, offset: u64, length: usize) -> Result<Vec<u8>, String> {
    let (_, bytes) = ranges(reader);
    let left = bytes.get(offset as usize..).unwrap_or_default();
    Ok(left[..left.len().min(length)].to_vec())
}

pub(crate) fn write(partition: u32, block: &[u8]) {
    with(|task| task.written.push((partition, block.to_vec())));
}

pub(crate) fn emit(block: &[u8]) {
    with(|task| task.emitted.extend_from_slice(block));
}

pub(crate) fn create_run() -> u32 {
    with(|task| {
        task.runs.push(Vec::new());
        task.runs.len() as u32 - 1
    })
}

pub(crate) fn write_run(run: u32, block: &[u8]) {
    with(|task| {
        if let Some(blocks) = task.runs.get_mut(run as usize) {
            blocks.push(Rc::new(block.to_vec()));
        }
    });
}

pub(crate) fn open_run(run: u32) -> u32 {
    with(|task| {
        let blocks = task.runs.get(run as usize).cloned().unwrap_or_default();
        task.add_reader(Reader::Blocks { blocks, next: 0 })
    })
}

pub(crate) fn drop_run(run: u32) {
    with(|task| {
        if let Some(blocks) = task.runs.get_mut(run as usize) {
            blocks.clear();
        }
    });
}

pub(crate) fn accumulate(accumulator: u32, update: &[u8]) {
    with(|task| task.updates.push((accumulator, update.to_vec())));
}

/// Unwinds to the runner. No panic's message is printed: the text comes back as the action's error.
pub(crate) fn fail(message: &str) -> ! {
    std::panic::resume_unwind(Box::new(Failure(message.to_owned())))
}
