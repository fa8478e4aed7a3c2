//! The seam to the host: one set of plain functions, over the WIT contract in a component and over an in-process
//! runner in a native build.
//!
//! Names and meanings are those of `wit/job.wit`, which documents them.

#[cfg(target_family = "wasm")]
mod component;
#[cfg(not(target_family = "wasm"))]
mod local;

#[cfg(target_family = "wasm")]
pub(crate) use component::*;
#[cfg(not(target_family = "wasm"))]
pub(crate) use local::*;

use crate::actions::Compression;

/// Where partitions of a cached dataset may stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StorageLevel {
    /// In memory; what doesn't fit, or has to make room, is computed again when it is needed. What [`cache`](crate::Dataset::cache) uses.
    #[default]
    MemoryOnly,
    /// In memory; what doesn't fit, or has to make room, goes to disk.
    MemoryAndDisk,
    /// On disk.
    DiskOnly,
}

/// How a source's bytes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Lines,
    LinesWithHeader,
    WholeFiles,
    #[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "only Parquet is read so"))]
    Ranges,
}

/// An opened source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub id: u32,
    pub splits: u32,
    /// On disk; natively those that were read.
    pub bytes: u64,
}

/// How an output's files are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputSpec<'a> {
    pub path: &'a str,
    pub extension: &'static str,
    pub compression: Compression,
}

/// What a stage's tasks read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Source(u32),
    Shuffle(u32),
    Cached(Cached),
}

/// A cached dataset that tasks look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cached {
    pub id: u32,
    /// The task that reads its first partition, if those after it read the following ones.
    pub first: Option<u32>,
}

/// Where a stage's tasks put what they make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Results,
    Shuffle(u32),
    Files(u32),
}

/// What the host is told of a stage.
#[derive(Clone, Debug)]
pub(crate) struct StageSpec {
    pub name: String,
    /// For the plan view, which only a real host has.
    #[cfg(target_family = "wasm")]
    pub operators: Vec<String>,
    pub tasks: u32,
    pub inputs: Vec<Input>,
    pub output: Output,
    pub entry: u64,
    pub payload: Vec<u8>,
    pub image: Option<u32>,
}

/// What one task of a job gave.
#[derive(Debug)]
pub(crate) struct TaskResult {
    pub partition: u32,
    pub value: Vec<u8>,
    /// Changes to accumulators, by the accumulator's number.
    pub updates: Vec<(u32, Vec<u8>)>,
}

/// Where a task is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    pub job: u32,
    pub stage: u32,
    pub partition: u32,
    pub attempt: u32,
    pub executor: u32,
    pub memory: u64,
}

/// What is known of an open split.
#[derive(Debug)]
pub(crate) struct Split {
    pub path: String,
    pub offset: u64,
    pub header: Vec<u8>,
}

/// Where a split of ranges lies in its file, and how long that is.
#[cfg(feature = "parquet")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub start: u64,
    pub end: u64,
    pub length: u64,
}

/// The most that `read_at` gives at a time.
#[cfg(feature = "parquet")]
pub(crate) const MAX_RANGE: usize = 8 << 20;
