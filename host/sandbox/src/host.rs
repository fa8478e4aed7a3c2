//! What a host answers to a job: `wit/job.wit` as Rust traits, without wasmtime's names.

use std::ops::Range;
use std::sync::Arc;

use wasmtime::component::{ComponentType, Lift, Lower};

pub use crate::files::FileWrites;

/// Why a call ends the guest instead of returning to it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Stop {
    /// The job or the task was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The guest gave up, with a text for the user (`task.fail`).
    #[error("{0}")]
    Failed(String),
    /// The guest broke the contract: an id that was never given out, a partition that isn't there.
    #[error("the job broke the contract with its host: {0}")]
    Misuse(String),
    /// The host couldn't do what was asked: memory, disk.
    #[error("{0}")]
    Host(String),
    /// The machine is to blame, and no guest would do better here: its disk is full.
    #[error("{0}")]
    Machine(String),
    /// Some of a shuffle's output, which the task reads, is gone: the stage that made it must run again.
    #[error("the output of stage {stage}, partition {partition}, is lost")]
    FetchFailed { stage: u32, partition: u32, attempt: u32, whole: bool },
}

/// What a call gives to the guest: a value, or its end.
pub type Answer<T> = Result<T, Stop>;

/// As [`Answer`], for calls that may also tell the guest an error that it can handle.
pub type Fallible<T> = Result<Result<T, String>, Stop>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum Framing {
    #[component(name = "lines")]
    Lines,
    #[component(name = "lines-with-header")]
    LinesWithHeader,
    #[component(name = "whole-files")]
    WholeFiles,
    #[component(name = "ranges")]
    Ranges,
}

#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub struct SourceSpec {
    pub path: String,
    pub framing: Framing,
    #[component(name = "min-splits")]
    pub min_splits: u32,
}

#[derive(Clone, Copy, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Source {
    pub id: u32,
    pub splits: u32,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum Compression {
    #[component(name = "none")]
    None,
    #[component(name = "gzip")]
    Gzip,
    #[component(name = "zstd")]
    Zstd,
}

#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub struct OutputSpec {
    pub path: String,
    pub extension: String,
    pub compression: Compression,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum StorageLevel {
    #[component(name = "memory-only")]
    MemoryOnly,
    #[component(name = "memory-and-disk")]
    MemoryAndDisk,
    #[component(name = "disk-only")]
    DiskOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub enum Input {
    #[component(name = "source")]
    Source(u32),
    #[component(name = "shuffle")]
    Shuffle(u32),
    #[component(name = "cached")]
    Cached(CachedInput),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct CachedInput {
    pub cache: u32,
    pub first: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub enum Output {
    #[component(name = "results")]
    Results,
    #[component(name = "shuffle")]
    Shuffle(u32),
    #[component(name = "files")]
    Files(u32),
}

#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub struct StageSpec {
    pub name: String,
    pub operators: Vec<String>,
    pub tasks: u32,
    pub inputs: Vec<Input>,
    pub output: Output,
    pub entry: u64,
    pub payload: Vec<u8>,
    pub image: Option<u32>,
}

#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub struct AccumulatorUpdate {
    pub accumulator: u32,
    pub value: Vec<u8>,
}

#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
pub struct TaskResult {
    pub partition: u32,
    pub value: Vec<u8>,
    pub updates: Vec<AccumulatorUpdate>,
}

/// Answers the driver: `ingle:job/driver`, and `ingle:job/image` as far as it concerns the driver.
pub trait DriverHost: Send {
    fn open_source(&mut self, spec: SourceSpec) -> Fallible<Source>;
    fn open_output(&mut self, spec: OutputSpec) -> Fallible<u32>;
    fn commit_output(&mut self, output: u32) -> Fallible<()>;
    fn drop_output(&mut self, output: u32) -> Answer<()>;
    fn new_cache(&mut self, level: StorageLevel) -> Answer<u32>;
    fn drop_cache(&mut self, cache: u32) -> Answer<()>;
    /// `spec.image` is a number that [`DriverHost::keep_image`] gave out.
    fn define_stage(&mut self, spec: StageSpec) -> Fallible<u32>;
    fn drop_stage(&mut self, stage: u32) -> Answer<()>;
    fn run(&mut self, stage: u32) -> Fallible<u32>;
    fn next(&mut self, job: u32) -> Fallible<Vec<TaskResult>>;
    fn cancel(&mut self, job: u32) -> Answer<()>;
    fn setting(&mut self, key: &str) -> Answer<Option<String>>;
    fn default_parallelism(&mut self) -> Answer<u32>;
    /// Where images are charged.
    fn image_pool(&self) -> ingle_core::memory::MemoryPool;
    /// Takes an image that was captured; the number names it in stages.
    fn keep_image(&mut self, image: crate::image::Image) -> Answer<u32>;
    fn release_image(&mut self, image: u32) -> Answer<()>;
}

#[derive(Clone, Copy, Debug, Default, ComponentType, Lift, Lower)]
#[component(record)]
pub struct TaskContext {
    pub job: u32,
    pub stage: u32,
    pub partition: u32,
    pub attempt: u32,
    pub executor: u32,
    pub tasks: u32,
    pub memory: u64,
}

#[derive(Clone, Debug, Default, ComponentType, Lift, Lower)]
#[component(record)]
pub struct SplitDescription {
    pub path: String,
    pub offset: u64,
    pub header: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, ComponentType, Lift, Lower)]
#[component(record)]
pub struct Extent {
    pub start: u64,
    pub end: u64,
    pub length: u64,
}

/// A block on its way to the guest. A host that keeps its clone may reuse the buffer once the count is back at one.
pub type Block = std::sync::Arc<Vec<u8>>;

/// Hears, in words for the user, that a task made more of its image its own than its executor has memory for. Such a task fails at its
/// next call; it is for its host to stop one that makes none.
pub type Overdrawn = Arc<dyn Fn(&str) + Send + Sync>;

/// Answers a task: `ingle:job/task`. Bytes from the guest are borrowed in place: copy what must stay.
pub trait TaskHost: std::any::Any + Send {
    /// Asked at every call: whether the task should end now.
    fn cancelled(&self) -> bool;
    fn context(&self) -> TaskContext;
    /// Who is asked before it writes to files.
    fn writes(&self) -> Arc<dyn FileWrites>;
    /// Who hears that it has too much memory.
    fn overdrawn(&self) -> Overdrawn;
    fn payload(&self) -> Block;
    fn open_split(&mut self, source: u32, split: u32) -> Fallible<u32>;
    /// One partition or more. `part`: the first of the stage's tasks whose output is read, and how many; else all of it.
    fn open_shuffle(
        &mut self,
        stage: u32,
        partitions: Range<u32>,
        part: Option<(u32, u32)>,
    ) -> Fallible<u32>;
    fn open_cached(&mut self, cache: u32, partition: u32) -> Fallible<Option<u32>>;
    fn read(&mut self, reader: u32) -> Fallible<Option<Block>>;
    fn close(&mut self, reader: u32) -> Answer<()>;
    fn describe(&mut self, reader: u32) -> Answer<SplitDescription>;
    fn line_number(&mut self, reader: u32, offset: u64) -> Answer<u64>;
    fn extent(&mut self, reader: u32) -> Answer<Extent>;
    fn read_at(&mut self, reader: u32, offset: u64, length: u32) -> Fallible<Block>;
    fn write(&mut self, partition: u32, block: &[u8]) -> Answer<()>;
    fn emit(&mut self, block: &[u8]) -> Answer<()>;
    fn write_cached(&mut self, cache: u32, partition: u32, block: &[u8]) -> Answer<bool>;
    fn finish_cached(&mut self, cache: u32, partition: u32) -> Answer<()>;
    fn create_run(&mut self) -> Answer<u32>;
    fn write_run(&mut self, run: u32, block: &[u8]) -> Answer<()>;
    fn open_run(&mut self, run: u32) -> Answer<u32>;
    fn drop_run(&mut self, run: u32) -> Answer<()>;
    fn accumulate(&mut self, accumulator: u32, update: &[u8]) -> Answer<()>;
}
