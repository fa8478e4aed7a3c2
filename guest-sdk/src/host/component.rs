//! The host of a component: the WIT contract's imports.

use crate::actions::Compression;
#[cfg(feature = "parquet")]
use crate::host::Extent;
use crate::host::{
    Framing, Input, Output, OutputSpec, Placement, Source, Split, StageSpec, StorageLevel,
    TaskResult,
};
use crate::wasm::bindings::ingle::job::{driver, task};

pub(crate) use crate::wasm::fork::{capture, release};

pub(crate) fn open_source(path: &str, framing: Framing, min_splits: u32) -> Result<Source, String> {
    let framing = match framing {
        Framing::Lines => driver::Framing::Lines,
        Framing::LinesWithHeader => driver::Framing::LinesWithHeader,
        Framing::WholeFiles => driver::Framing::WholeFiles,
        Framing::Ranges => driver::Framing::Ranges,
    };
    let spec = driver::SourceSpec { path: path.to_owned(), framing, min_splits };
    let source = driver::open_source(&spec)?;
    Ok(Source { id: source.id, splits: source.splits, bytes: source.bytes })
}

pub(crate) fn open_output(spec: OutputSpec<'_>) -> Result<u32, String> {
    driver::open_output(&driver::OutputSpec {
        path: spec.path.to_owned(),
        extension: spec.extension.to_owned(),
        compression: match spec.compression {
            Compression::None => driver::Compression::None,
            Compression::Gzip => driver::Compression::Gzip,
            Compression::Zstd => driver::Compression::Zstd,
        },
    })
}

pub(crate) fn commit_output(output: u32) -> Result<(), String> {
    driver::commit_output(output)
}

pub(crate) fn drop_output(output: u32) {
    driver::drop_output(output);
}

pub(crate) fn define_stage(spec: StageSpec) -> Result<u32, String> {
    let inputs = spec.inputs.iter().map(|input| match *input {
        Input::Source(id) => driver::Input::Source(id),
        Input::Shuffle(id) => driver::Input::Shuffle(id),
        Input::Cached(cached) => {
            driver::Input::Cached(driver::CachedInput { cache: cached.id, first: cached.first })
        }
    });
    driver::define_stage(&driver::StageSpec {
        inputs: inputs.collect(),
        output: match spec.output {
            Output::Results => driver::Output::Results,
            Output::Shuffle(partitions) => driver::Output::Shuffle(partitions),
            Output::Files(id) => driver::Output::Files(id),
        },
        name: spec.name,
        operators: spec.operators,
        tasks: spec.tasks,
        entry: spec.entry,
        payload: spec.payload,
        image: spec.image,
    })
}

pub(crate) fn new_cache(level: StorageLevel) -> u32 {
    driver::new_cache(match level {
        StorageLevel::MemoryOnly => driver::StorageLevel::MemoryOnly,
        StorageLevel::MemoryAndDisk => driver::StorageLevel::MemoryAndDisk,
        StorageLevel::DiskOnly => driver::StorageLevel::DiskOnly,
    })
}

pub(crate) fn drop_cache(cache: u32) {
    driver::drop_cache(cache);
}

pub(crate) fn drop_stage(stage: u32) {
    driver::drop_stage(stage);
}

pub(crate) fn run(stage: u32) -> Result<u32, String> {
    driver::run(stage)
}

pub(crate) fn next(job: u32) -> Result<Vec<TaskResult>, String> {
    let results = driver::next(job)?;
    Ok(results
        .into_iter()
        .map(|result| TaskResult {
            partition: result.partition,
            value: result.value,
            updates: result
                .updates
                .into_iter()
                .map(|update| (update.accumulator, update.value))
                .collect(),
        })
        .collect())
}

pub(crate) fn cancel(job: u32) {
    driver::cancel(job);
}

pub(crate) fn setting(key: &str) -> Option<String> {
    driver::setting(key)
}

pub(crate) fn default_parallelism() -> u32 {
    driver::default_parallelism()
}

pub(crate) fn placement() -> Placement {
    let context = task::context();
    Placement {
        job: context.job,
        stage: context.stage,
        partition: context.partition,
        attempt: context.attempt,
        executor: context.executor,
        memory: context.memory,
    }
}

pub(crate) fn payload() -> Vec<u8> {
    task::payload()
}

pub(crate) fn open_split(source: u32, split: u32) -> Result<u32, String> {
    task::open_split(source, split)
}

pub(crate) fn open_shuffle(stage: u32, partition: u32) -> Result<u32, String> {
    task::open_shuffle(stage, partition)
}

pub(crate) fn open_shuffle_range(stage: u32, first: u32, partitions: u32) -> Result<u32, String> {
    task::open_shuffle_range(stage, first, partitions)
}

pub(crate) fn open_shuffle_part(
    stage: u32,
    partition: u32,
    first: u32,
    tasks: u32,
) -> Result<u32, String> {
    task::open_shuffle_part(stage, partition, first, tasks)
}

pub(crate) fn open_cached(cache: u32, partition: u32) -> Result<Option<u32>, String> {
    task::open_cached(cache, partition)
}

pub(crate) fn write_cached(cache: u32, partition: u32, block: &[u8]) -> bool {
    task::write_cached(cache, partition, block)
}

pub(crate) fn finish_cached(cache: u32, partition: u32) {
    task::finish_cached(cache, partition);
}

pub(crate) fn read(reader: u32) -> Result<Option<Vec<u8>>, String> {
    task::read(reader)
}

pub(crate) fn close(reader: u32) {
    task::close(reader);
}

pub(crate) fn describe(reader: u32) -> Split {
    let split = task::describe(reader);
    Split { path: split.path, offset: split.offset, header: split.header }
}

pub(crate) fn line_number(reader: u32, offset: u64) -> u64 {
    task::line_number(reader, offset)
}

#[cfg(feature = "parquet")]
pub(crate) fn extent(reader: u32) -> Extent {
    let task::Extent { start, end, length } = task::split_extent(reader);
    Extent { start, end, length }
}

#[cfg(feature = "parquet")]
pub(crate) fn read_at(reader: u32, offset: u64, length: usize) -> Result<Vec<u8>, String> {
    task::read_at(reader, offset, length as u32)
}

pub(crate) fn write(partition: u32, block: &[u8]) {
    task::write(partition, block);
}

pub(crate) fn emit(block: &[u8]) {
    task::emit(block);
}

pub(crate) fn create_run() -> u32 {
    task::create_run()
}

pub(crate) fn write_run(run: u32, block: &[u8]) {
    task::write_run(run, block);
}

pub(crate) fn open_run(run: u32) -> u32 {
    task::open_run(run)
}

pub(crate) fn drop_run(run: u32) {
    task::drop_run(run);
}

pub(crate) fn accumulate(accumulator: u32, update: &[u8]) {
    task::accumulate(accumulator, update);
}

/// Ends the task. The host traps it, so that its text comes with the guest's backtrace.
pub(crate) fn fail(message: &str) -> ! {
    task::fail(message);
    std::process::abort()
}

/// Bytes that the job holds on its heap.
pub(crate) fn live_bytes() -> u64 {
    crate::wasm::allocator::live_bytes()
}

/// Whether this instance runs a task.
pub(crate) fn is_task() -> bool {
    crate::wasm::fork::is_task()
}

/// Only the native runner spills by count.
pub(crate) fn spill_every() -> Option<u32> {
    None
}
