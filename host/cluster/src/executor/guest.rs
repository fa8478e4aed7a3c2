//! What a task's guest is answered: `ingle:job/task`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ingle_blocks::{
    BlockStore, CacheWriter, Error, Fetch, Framing, OutputFile, ReadOptions, ResultBuffer, RunSet,
    TaskOutput,
};
use ingle_core::ids::{CacheId, OutputId, SourceId, StageId};
use ingle_core::memory::{Account, MemoryUse};
use ingle_core::scheduler::TaskLaunch;
use ingle_core::size::ByteSize;
use ingle_proto::v1;
use ingle_sandbox::host::{
    Answer, Block, Extent, Fallible, FileWrites, Overdrawn, SplitDescription, Stop, TaskContext,
    TaskHost,
};

use super::queue::Cancelled;
use super::readers::{Reader, Readers};
use super::written::Written;
use super::{Executor, Stage};
use crate::driver::{Made, Updates};

/// Changes to accumulators that one task may make.
const MAX_UPDATES: usize = 1 << 20;
/// And their bytes: they travel with the task's end, in one message.
const MAX_UPDATE_BYTES: usize = 32 << 20;
/// What a change costs beside its bytes.
const UPDATE: u64 = 96;
/// Partitions of cached datasets that one task may write: each holds a buffer until the task ends.
const MAX_CACHE_WRITERS: usize = 1024;

/// Where what a task makes goes.
enum Output {
    Results(ResultBuffer),
    Shuffle(TaskOutput),
    File(OutputFile),
}

/// Answers one task. Dropped before [`Guest::finish`], it leaves nothing behind.
pub struct Guest {
    executor: Arc<Executor>,
    stage: Arc<Stage>,
    launch: TaskLaunch,
    cancelled: Cancelled,
    output: Output,
    readers: Readers,
    runs: Option<RunSet>,
    caches: BTreeMap<(u32, u32), CacheWriter>,
    updates: Updates,
    update_bytes: usize,
    account: Arc<Account>,
    /// None as long as it opened no source.
    bytes_read: Option<Arc<AtomicU64>>,
    bytes_shuffled: u64,
    written: Arc<Written>,
}

impl Guest {
    /// Fails with a text for the user if the task's output can't be made. What it takes of the executor's memory is counted on `account`.
    pub fn new(
        executor: &Arc<Executor>,
        stage: &Arc<Stage>,
        launch: TaskLaunch,
        cancelled: Cancelled,
        account: &Arc<Account>,
    ) -> Result<Self, String> {
        use v1::stage_output::Output as Message;

        let store = &executor.options.store;
        let task = launch.task;
        let message = stage.description.output.as_ref().and_then(|o| o.output.as_ref());
        let output = match message {
            Some(Message::Results(_)) => Output::Results(store.result().on(account)),
            Some(Message::Shuffle(partitions)) => {
                let output =
                    store.task_output(task.stage, task.partition, task.attempt, *partitions);
                Output::Shuffle(output.on(account))
            }
            Some(Message::Files(id)) => {
                let opened = &executor.options.opened;
                let file = opened.attempt(OutputId(*id), task, &executor.options.pool);
                let file = file.ok_or_else(|| {
                    format!("output {id} isn't open on this machine: every worker must reach its folder by the same path")
                })?;
                Output::File(file.map_err(|e| e.to_string())?.on(account))
            }
            None => return Err(format!("{} has no output", task.stage)),
        };
        let mut block = executor.options.pool.reservation(MemoryUse::Input);
        block.count_on(account);
        let readers = Readers::new(block);
        let written = Written::new(cancelled.clone(), executor.options.output);
        Ok(Self {
            executor: executor.clone(),
            stage: stage.clone(),
            launch,
            cancelled,
            output,
            readers,
            runs: None,
            caches: BTreeMap::new(),
            updates: Updates::default(),
            update_bytes: 0,
            account: account.clone(),
            bytes_read: None,
            bytes_shuffled: 0,
            written,
        })
    }

    /// From files, before decompression.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.as_ref().map_or(0, |bytes| bytes.load(Ordering::Relaxed))
    }

    pub fn bytes_shuffled(&self) -> u64 {
        self.bytes_shuffled
    }

    /// The task succeeded: commits what stays here, and gives what is for the driver. Where another attempt was first, its
    /// output counts, and is as good.
    pub fn finish(self) -> ingle_blocks::Result<Made> {
        let mut stored = Vec::new();
        for ((cache, partition), writer) in self.caches {
            if writer.commit()? {
                stored.push((cache, partition));
            }
        }
        let result = match self.output {
            Output::Results(buffer) => Some(buffer.finish()?),
            Output::Shuffle(output) => {
                output.commit()?;
                None
            }
            Output::File(file) => {
                file.finish()?;
                None
            }
        };
        Ok(Made { result, updates: self.updates, stored })
    }

    fn inputs(&self) -> impl Iterator<Item = &v1::stage_input::Input> {
        self.stage.description.inputs.iter().filter_map(|input| input.input.as_ref())
    }

    /// The writer of a cached partition, made if there is none; none if the task has so many that this one isn't stored.
    fn cache_writer(&mut self, cache: u32, partition: u32) -> Answer<Option<&mut CacheWriter>> {
        let writers = self.caches.len();
        match self.caches.entry((cache, partition)) {
            Entry::Occupied(writer) => Ok(Some(writer.into_mut())),
            Entry::Vacant(place) => {
                let Some(level) = self.executor.options.opened.cache(CacheId(cache)) else {
                    return Err(Stop::Misuse(format!("cache {cache}, which was never made")));
                };
                if writers >= MAX_CACHE_WRITERS {
                    return Ok(None);
                }
                let store = &self.executor.options.store;
                let writer = store.cache_writer(CacheId(cache), partition, level);
                Ok(Some(place.insert(writer.on(&self.account))))
            }
        }
    }

    pub fn store(&self) -> &BlockStore {
        &self.executor.options.store
    }

    fn runs(&mut self) -> &mut RunSet {
        let new = || self.executor.options.store.runs().on(&self.account);
        self.runs.get_or_insert_with(new)
    }
}

/// An error of the store's ends the guest: it can do nothing about it.
fn stopped(error: Error) -> Stop {
    match error {
        Error::MissingOutput { stage, map, attempt, whole } => {
            Stop::FetchFailed { stage: stage.0, partition: map, attempt, whole }
        }
        Error::Memory(error) => {
            Stop::Host(format!("{error}; raise --executor-memory, or use more partitions"))
        }
        Error::Invalid(text) => Stop::Misuse(text),
        error if error.is_disk_full() => Stop::Machine(error.to_string()),
        error => Stop::Host(error.to_string()),
    }
}

/// An error about an input is for the guest to handle, but for those that are none of its doing.
fn told(error: Error) -> Result<String, Stop> {
    match error {
        Error::MissingOutput { .. } | Error::Memory(_) | Error::Invalid(_) => Err(stopped(error)),
        error if error.is_disk_full() => Err(stopped(error)),
        error => Ok(error.to_string()),
    }
}

impl TaskHost for Guest {
    fn cancelled(&self) -> bool {
        self.cancelled.is_stopped()
    }

    fn context(&self) -> TaskContext {
        let TaskLaunch { job, task } = self.launch;
        TaskContext {
            job: job.0,
            stage: task.stage.0,
            partition: task.partition,
            attempt: task.attempt,
            executor: self.executor.options.id.0,
            tasks: self.stage.description.tasks,
            memory: self.executor.share(),
        }
    }

    fn writes(&self) -> Arc<dyn FileWrites> {
        self.written.clone()
    }

    fn overdrawn(&self) -> Overdrawn {
        let (executor, task) = (self.executor.clone(), self.launch.task);
        Arc::new(move |why| executor.overdrawn(task, why))
    }

    fn payload(&self) -> Block {
        self.stage.payload.clone()
    }

    fn open_split(&mut self, source: u32, split: u32) -> Fallible<u32> {
        let is_input =
            |input: &v1::stage_input::Input| *input == v1::stage_input::Input::Source(source);
        let opened = &self.executor.options.opened;
        let Some(found) = opened.source(SourceId(source)).filter(|_| self.inputs().any(is_input))
        else {
            return Err(Stop::Misuse(format!("source {source}, which is no input of its stage")));
        };
        let mut options = ReadOptions::new(self.executor.options.pool.clone());
        options.account = Some(self.account.clone());
        options.bytes_read = self.bytes_read.get_or_insert_default().clone();
        let grants = opened.grants();
        let reader = match found.framing() {
            Framing::Ranges => found
                .open_ranges(grants, split, &options)
                .map(|ranges| Reader::Ranges(Box::new(ranges))),
            _ => found
                .open_split(grants, split, &options)
                .map(|split| Reader::Split(Box::new(split))),
        };
        match reader {
            Ok(reader) => Ok(Ok(self.readers.add(reader)?)),
            Err(error) => Ok(Err(told(error)?)),
        }
    }

    fn open_shuffle(
        &mut self,
        stage: u32,
        partitions: Range<u32>,
        part: Option<(u32, u32)>,
    ) -> Fallible<u32> {
        let found = self.inputs().find_map(|input| match input {
            v1::stage_input::Input::Shuffle(shuffle) if shuffle.stage == stage => Some(*shuffle),
            _ => None,
        });
        let Some(found) = found else {
            return Err(Stop::Misuse(format!(
                "the output of stage {stage}, which is no input of its stage"
            )));
        };
        if partitions.is_empty() || partitions.end > found.partitions {
            let last = partitions.end.saturating_sub(1).max(partitions.start);
            return Err(Stop::Misuse(match partitions.is_empty() {
                true => "no partition at all".into(),
                false => format!("partition {last} of {}: they count from 0", found.partitions),
            }));
        }
        let outputs = self.executor.outputs(StageId(stage));
        let Some(outputs) = outputs.filter(|o| o.outputs.len() == found.tasks as usize) else {
            return Err(Stop::Host(format!("where the output of stage {stage} is was never told")));
        };
        let part = part.map(|(first, tasks)| {
            let (first, tasks) = (first as usize, tasks as usize);
            first..first.saturating_add(tasks)
        });
        let opened = self.executor.options.store.open_shuffle(
            StageId(stage),
            outputs.outputs.clone(),
            part,
            partitions,
            outputs.fetcher.as_ref().map(|fetcher| fetcher as &dyn Fetch),
        );
        match opened {
            Ok(reader) => Ok(Ok(self.readers.add(Reader::Shuffle(reader.on(&self.account)))?)),
            Err(error) => Ok(Err(told(error)?)),
        }
    }

    fn open_cached(&mut self, cache: u32, partition: u32) -> Fallible<Option<u32>> {
        if self.executor.options.opened.cache(CacheId(cache)).is_none() {
            return Err(Stop::Misuse(format!("cache {cache}, which was never made")));
        }
        match self.executor.options.store.open_cached(CacheId(cache), partition) {
            Ok(Some(reader)) => {
                Ok(Ok(Some(self.readers.add(Reader::Blocks(reader.on(&self.account)))?)))
            }
            Ok(None) => Ok(Ok(None)),
            Err(error) => Ok(Err(told(error)?)),
        }
    }

    fn read(&mut self, reader: u32) -> Fallible<Option<Block>> {
        match self.readers.read(reader)? {
            Ok(block) => Ok(Ok(block)),
            Err(error) => Ok(Err(told(error)?)),
        }
    }

    fn close(&mut self, reader: u32) -> Answer<()> {
        self.readers.close(reader)
    }

    fn describe(&mut self, reader: u32) -> Answer<SplitDescription> {
        self.readers.describe(reader)
    }

    fn extent(&mut self, reader: u32) -> Answer<Extent> {
        self.readers.extent(reader)
    }

    fn read_at(&mut self, reader: u32, offset: u64, length: u32) -> Fallible<Block> {
        match self.readers.read_at(reader, offset, length)? {
            Ok(block) => Ok(Ok(block)),
            Err(error) => Ok(Err(told(error)?)),
        }
    }

    fn line_number(&mut self, reader: u32, offset: u64) -> Answer<u64> {
        self.readers.split(reader)?.line_number(offset).map_err(stopped)
    }

    fn write(&mut self, partition: u32, block: &[u8]) -> Answer<()> {
        let Output::Shuffle(output) = &mut self.output else {
            return Err(Stop::Misuse("its stage makes no shuffle output".into()));
        };
        self.bytes_shuffled += block.len() as u64;
        output.write(partition, block).map_err(stopped)
    }

    fn emit(&mut self, block: &[u8]) -> Answer<()> {
        let emitted = match &mut self.output {
            Output::Results(buffer) => buffer.emit(block),
            Output::File(file) => {
                self.written.allow(block.len() as u64)?;
                file.write(block)
            }
            Output::Shuffle(_) => {
                return Err(Stop::Misuse("its stage emits nothing, but shuffles".into()));
            }
        };
        emitted.map_err(stopped)
    }

    fn write_cached(&mut self, cache: u32, partition: u32, block: &[u8]) -> Answer<bool> {
        match self.cache_writer(cache, partition)? {
            Some(writer) => writer.write(block).map_err(stopped),
            None => Ok(false),
        }
    }

    fn finish_cached(&mut self, cache: u32, partition: u32) -> Answer<()> {
        if let Some(writer) = self.cache_writer(cache, partition)? {
            writer.finish();
        }
        Ok(())
    }

    fn create_run(&mut self) -> Answer<u32> {
        self.runs().create().map_err(stopped)
    }

    fn write_run(&mut self, run: u32, block: &[u8]) -> Answer<()> {
        self.runs().write(run, block).map_err(stopped)
    }

    fn open_run(&mut self, run: u32) -> Answer<u32> {
        let reader = self.runs().open(run).map_err(stopped)?;
        self.readers.add(Reader::Blocks(reader.on(&self.account)))
    }

    fn drop_run(&mut self, run: u32) -> Answer<()> {
        self.runs().drop_run(run).map_err(stopped)
    }

    fn accumulate(&mut self, accumulator: u32, update: &[u8]) -> Answer<()> {
        if self.updates.list.len() >= MAX_UPDATES {
            return Err(Stop::Misuse(format!(
                "more than {MAX_UPDATES} changes to accumulators by one task"
            )));
        }
        self.update_bytes += update.len();
        if self.update_bytes > MAX_UPDATE_BYTES {
            return Err(Stop::Host(format!(
                "its changes to accumulators have more than {}, the most that one task may send: use more partitions, or results instead",
                ByteSize(MAX_UPDATE_BYTES as u64)
            )));
        }
        let charge = self.updates.charge.get_or_insert_with(|| {
            let mut charge = self.executor.options.pool.reservation(MemoryUse::Shuffle);
            charge.count_on(&self.account);
            charge
        });
        charge.grow(update.len() as u64 + UPDATE).map_err(|e| stopped(e.into()))?;
        self.updates.list.push((accumulator, update.to_vec()));
        Ok(())
    }
}
