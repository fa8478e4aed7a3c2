//! The scheduler's words as messages, and back. What comes from a peer is checked here, before anything believes it.

use std::path::PathBuf;
use std::time::Duration;

use ingle_blocks::{
    Compression, FileCompression, Framing, Parts, Source, SourceParts, StorageLevel,
};
use ingle_core::ids::{CacheId, ExecutorId, JobId, SourceId, StageId, TaskId, WorkerId};
use ingle_core::memory::{Charged, MemoryPool, MemoryUse, Usage};
use ingle_core::scheduler::{Outcome, TaskEnd, TaskFailure, TaskLaunch};
use ingle_proto::v1;

use crate::driver::OutputPlace;

/// How shuffle output is compressed.
pub fn shuffle_compression(message: v1::Compression) -> Compression {
    match message {
        v1::Compression::None => Compression::None,
        v1::Compression::Lz4 => Compression::Lz4,
        v1::Compression::Zstd => Compression::Zstd,
    }
}

/// A peer's message that means nothing.
#[derive(Debug, thiserror::Error)]
#[error("a message of the task protocol lacks its {0}")]
pub struct Malformed(&'static str);

/// A task's name as a message.
pub fn task_message(task: TaskId) -> v1::TaskId {
    v1::TaskId { stage: task.stage.0, partition: task.partition, attempt: task.attempt }
}

/// A task's name from a message.
pub fn task_id(message: Option<v1::TaskId>) -> Result<TaskId, Malformed> {
    let v1::TaskId { stage, partition, attempt } = message.ok_or(Malformed("task"))?;
    Ok(TaskId { stage: StageId(stage), partition, attempt })
}

/// Tasks to run, as a command.
pub fn launch_command(tasks: &[TaskLaunch]) -> v1::ExecutorCommand {
    let launch = |launch: &TaskLaunch| v1::TaskLaunch {
        job: launch.job.0,
        task: Some(task_message(launch.task)),
    };
    let tasks = tasks.iter().map(launch).collect();
    command(v1::executor_command::Command::Launch(v1::executor_command::Launch { tasks }))
}

/// A task to run, from a message.
pub fn task_launch(message: &v1::TaskLaunch) -> Result<TaskLaunch, Malformed> {
    Ok(TaskLaunch { job: JobId(message.job), task: task_id(message.task)? })
}

/// Where what an executor made is.
#[derive(Clone, Debug)]
pub struct Home {
    pub worker: WorkerId,
    /// Where that serves it, host:port.
    pub address: String,
}

/// A source, for an executor elsewhere.
pub fn source_message(
    id: SourceId,
    source: &Source,
    published: &[PathBuf],
) -> v1::SourceDescription {
    use v1::source_description::Framing as Message;
    let parts = source.to_parts();
    let framing = match parts.framing {
        Framing::Lines => Message::Lines,
        Framing::LinesWithHeader => Message::LinesWithHeader,
        Framing::WholeFiles => Message::WholeFiles,
        Framing::Ranges => Message::Ranges,
    };
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let file = |(path, length, tag): &(PathBuf, u64, Option<String>)| {
        v1::source_description::File { path: text(path), length: *length, tag: tag.clone() }
    };
    v1::SourceDescription {
        source: id.0,
        framing: framing.into(),
        files: parts.files.iter().map(file).collect(),
        split_file: parts.splits.iter().map(|split| split.0).collect(),
        split_start: parts.splits.iter().map(|split| split.1).collect(),
        split_end: parts.splits.iter().map(|split| split.2).collect(),
        published: published.iter().map(text).collect(),
        more: false,
    }
}

/// A source as messages of about so many bytes.
pub fn cut(whole: v1::SourceDescription, bytes: usize) -> Vec<v1::SourceDescription> {
    // Numbers are shorter, mostly.
    const FILE: usize = 24;
    const SPLIT: usize = 25;
    let (source, framing) = (whole.source, whole.framing);
    let part = || v1::SourceDescription { source, framing, more: true, ..Default::default() };
    let mut parts = Vec::new();
    let mut now = v1::SourceDescription { published: whole.published, ..part() };
    let mut taken: usize = now.published.iter().map(String::len).sum();
    let mut room = |now: &mut v1::SourceDescription, more: usize| {
        if taken > 0 && taken + more > bytes {
            parts.push(std::mem::replace(now, part()));
            taken = 0;
        }
        taken += more;
    };
    for file in whole.files {
        let tag = file.tag.as_ref().map_or(0, String::len);
        room(&mut now, FILE + file.path.len() + tag);
        now.files.push(file);
    }
    let splits = whole.split_file.into_iter().zip(whole.split_start).zip(whole.split_end);
    for ((file, start), end) in splits {
        room(&mut now, SPLIT);
        now.split_file.push(file);
        now.split_start.push(start);
        now.split_end.push(end);
    }
    now.more = false;
    parts.push(now);
    parts
}

/// A source's next part behind those before.
pub fn joined(
    before: Option<v1::SourceDescription>,
    next: v1::SourceDescription,
) -> v1::SourceDescription {
    let Some(mut all) = before else { return next };
    all.files.extend(next.files);
    all.split_file.extend(next.split_file);
    all.split_start.extend(next.split_start);
    all.split_end.extend(next.split_end);
    all.published.extend(next.published);
    all.more = next.more;
    all
}

/// A source from the driver.
pub fn source(message: v1::SourceDescription) -> Result<Source, String> {
    use v1::source_description::Framing as Message;
    let framing = match message.framing() {
        Message::Lines => Framing::Lines,
        Message::LinesWithHeader => Framing::LinesWithHeader,
        Message::WholeFiles => Framing::WholeFiles,
        Message::Ranges => Framing::Ranges,
    };
    let splits = message.split_file.into_iter().zip(message.split_start).zip(message.split_end);
    let parts = SourceParts {
        framing,
        files: message
            .files
            .into_iter()
            .map(|file| (file.path.into(), file.length, file.tag))
            .collect(),
        splits: splits.map(|((file, start), end)| (file, start, end)).collect(),
    };
    Source::from_parts(parts).map_err(|e| e.to_string())
}

/// An output, for an executor elsewhere.
pub fn output_message(id: u32, place: OutputPlace) -> v1::OutputDescription {
    use v1::output_description::Compression;
    let OutputPlace { path, token, parts } = place;
    let compression = match parts.compression() {
        FileCompression::None => Compression::None,
        FileCompression::Gzip => Compression::Gzip,
        FileCompression::Zstd => Compression::Zstd,
    };
    let extension = parts.extension().to_owned();
    v1::OutputDescription { output: id, path, token, extension, compression: compression.into() }
}

/// How an output's files are named and compressed, from the driver.
pub fn parts(message: &v1::OutputDescription) -> Result<Parts, String> {
    use v1::output_description::Compression;
    let compression = match message.compression() {
        Compression::None => FileCompression::None,
        Compression::Gzip => FileCompression::Gzip,
        Compression::Zstd => FileCompression::Zstd,
    };
    Parts::new(&message.extension, compression).map_err(|e| e.to_string())
}

/// How a cached dataset is kept.
pub fn level_message(level: StorageLevel) -> v1::cache_description::Level {
    use v1::cache_description::Level;
    match level {
        StorageLevel::MemoryOnly => Level::MemoryOnly,
        StorageLevel::MemoryAndDisk => Level::MemoryAndDisk,
        StorageLevel::DiskOnly => Level::DiskOnly,
    }
}

/// How a cached dataset is kept, from the driver.
pub fn level(message: v1::cache_description::Level) -> StorageLevel {
    use v1::cache_description::Level;
    match message {
        Level::MemoryOnly => StorageLevel::MemoryOnly,
        Level::MemoryAndDisk => StorageLevel::MemoryAndDisk,
        Level::DiskOnly => StorageLevel::DiskOnly,
    }
}

/// The most partitions of cached datasets that are heard of with one task's end; more only run elsewhere than they might.
const MAX_STORED: usize = 1024;

/// Partitions of cached datasets that a task stored.
pub fn stored_messages(stored: &[(u32, u32)]) -> Vec<v1::CachedPartition> {
    let message = |&(cache, partition): &(u32, u32)| v1::CachedPartition { cache, partition };
    stored.iter().map(message).collect()
}

/// What an executor took.
pub fn executor_use(pool: &MemoryPool, spilled: u64) -> v1::ExecutorUse {
    let Charged { now, most, at_peak } = pool.charged();
    v1::ExecutorUse {
        capacity: pool.capacity().0,
        now: Some(usage_message(&now)),
        most: Some(usage_message(&most)),
        at_peak: Some(usage_message(&at_peak)),
        spilled,
        cached: None,
    }
}

fn usage_message(usage: &Usage) -> v1::MemoryUsage {
    v1::MemoryUsage {
        guests: usage.of(MemoryUse::Guest),
        images: usage.of(MemoryUse::Image),
        shuffle: usage.of(MemoryUse::Shuffle),
        cache: usage.of(MemoryUse::Cache),
        input: usage.of(MemoryUse::Input),
    }
}

/// Bytes by use, from a message.
pub fn usage(message: Option<v1::MemoryUsage>) -> Usage {
    let message = message.unwrap_or_default();
    Usage::by(|what| match what {
        MemoryUse::Guest => message.guests,
        MemoryUse::Image => message.images,
        MemoryUse::Shuffle => message.shuffle,
        MemoryUse::Cache => message.cache,
        MemoryUse::Input => message.input,
    })
}

/// Any command.
pub fn command(command: v1::executor_command::Command) -> v1::ExecutorCommand {
    v1::ExecutorCommand { command: Some(command) }
}

/// The end of a task, as the scheduler wants it.
pub fn task_end(message: v1::TaskEnd) -> Result<TaskEnd, Malformed> {
    use v1::task_end::Outcome as Message;

    let task = task_id(message.task)?;
    let run_time = Duration::from_nanos(message.metrics.unwrap_or_default().run_nanos);
    let outcome = match message.outcome.ok_or(Malformed("outcome"))? {
        Message::Succeeded(_) => Outcome::Succeeded,
        Message::Killed(_) => Outcome::Killed,
        Message::Failed(v1::TaskFailed { message, retryable, executor_at_fault }) => {
            Outcome::Failed(TaskFailure { message, retryable, executor_at_fault })
        }
        Message::FetchFailed(missed) => Outcome::FetchFailed {
            stage: StageId(missed.stage),
            partition: missed.partition,
            attempt: missed.attempt,
            executor: ExecutorId(missed.executor),
            whole: missed.whole,
        },
    };
    let stored = message.stored.iter().take(MAX_STORED).map(|s| (CacheId(s.cache), s.partition));
    Ok(TaskEnd { task, run_time, outcome, stored: stored.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_comes_back_as_it_was_sent() {
        let task = TaskId { stage: StageId(3), partition: 7, attempt: 1 };
        let launch = TaskLaunch { job: JobId(2), task };
        let sent = launch_command(&[launch]);
        let Some(v1::executor_command::Command::Launch(got)) = sent.command else {
            panic!("a launch")
        };
        assert_eq!(task_launch(&got.tasks[0]).unwrap(), launch);
    }

    #[test]
    fn a_source_of_any_length_travels_in_parts_that_fit() {
        use ingle_proto::prost::Message;

        let file = |at: usize| {
            let tag = at.is_multiple_of(3).then(|| "t".repeat(at % 50));
            v1::source_description::File { path: "p".repeat(at % 90), length: u64::MAX, tag }
        };
        let whole = v1::SourceDescription {
            source: 7,
            framing: v1::source_description::Framing::WholeFiles.into(),
            files: (0..1000).map(file).collect(),
            split_file: (0..3000).collect(),
            split_start: (0..3000).map(|at| u64::MAX - at).collect(),
            split_end: vec![u64::MAX; 3000],
            published: vec!["/published".into()],
            more: false,
        };
        for bytes in [0, 1000, 10_000, 1 << 30] {
            let parts = cut(whole.clone(), bytes);
            assert!(parts.iter().all(|part| part.encoded_len() <= bytes.max(200) + 100));
            assert_eq!(parts.len() == 1, bytes == 1 << 30);
            let joined = parts.into_iter().fold(None, |all, part| Some(joined(all, part)));
            assert_eq!(joined.unwrap(), whole, "{bytes}");
        }
    }

    #[test]
    fn an_end_without_a_task_or_an_outcome_is_refused() {
        let whole = v1::TaskEnd {
            task: Some(v1::TaskId { stage: 1, partition: 2, attempt: 0 }),
            metrics: None,
            outcome: Some(v1::task_end::Outcome::Succeeded(v1::Succeeded {})),
            ..v1::TaskEnd::default()
        };
        assert!(task_end(whole.clone()).is_ok());
        let nameless = task_end(v1::TaskEnd { task: None, ..whole.clone() }).unwrap_err();
        assert_eq!(nameless.to_string(), "a message of the task protocol lacks its task");
        assert!(task_end(v1::TaskEnd { outcome: None, ..whole }).is_err());
    }
}
