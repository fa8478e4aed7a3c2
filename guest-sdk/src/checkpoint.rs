//! Datasets that are stored, so that it no longer matters how they were computed.
//!
//! A checkpoint is an output folder with a file for each partition: frames of encoded records, each after its length in 4 bytes, the
//! lowest first.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::marker::PhantomData;
use std::rc::Rc;

use anyhow::Context as _;

use crate::actions::{Compression, JobHandle, Tasks};
use crate::codec::{self, Cursor, Record};
use crate::context::Context;
use crate::dataset::Dataset;
use crate::error::{Result, told};
use crate::host::{self, Framing, OutputSpec};
use crate::partitioning::Partitioning;
use crate::plan::{Lineage, Plan};
use crate::sources::Files;
use crate::task::{BLOCK, Blocks, TaskScope, done, fail};

/// More files than this don't sort by their partition's number.
const MAX_PARTITIONS: usize = 100_000;
/// What holds a frame's length.
const LENGTH: usize = size_of::<u32>();

impl<T: Record, P: Plan<Item = T>> Dataset<T, P> {
    /// Computes the dataset and stores it under [`set_checkpoint_dir`](Context::set_checkpoint_dir); gives the same dataset, read from
    /// there. Runs a job.
    ///
    /// It doesn't know any more how it was computed: a loop of many rounds has every tenth one's result checkpointed, so that what
    /// executors keep for the rounds before is freed, and a loss costs no more than the rounds since. Unlike what
    /// [`persist`](Dataset::persist) keeps it survives all executors. Persist the dataset before, if it is used otherwise too: else it is
    /// computed twice.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let dir = dir.path().join("checkpoints");
    /// # let dir = dir.to_str().unwrap();
    /// ctx.set_checkpoint_dir(dir);
    /// let mut numbers = ctx.range(0..4, 2).boxed();
    /// for round in 1..=20 {
    ///     numbers = numbers.map(|n| n + 1).boxed();
    ///     if round % 10 == 0 {
    ///         numbers = numbers.checkpoint()?;
    ///     }
    /// }
    /// assert_eq!(numbers.collect()?, [20, 21, 22, 23]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If no folder was set, it can't be written, there are more than 100,000 partitions, or the job fails.
    pub fn checkpoint(&self) -> Result<Dataset<T>> {
        self.ctx.check_role("checkpoint")?;
        let partitions = self.num_partitions();
        if partitions > MAX_PARTITIONS {
            return Err(told(format!(
                "checkpoint: {partitions} partitions are more than {MAX_PARTITIONS}; coalesce them before"
            )));
        }
        let Some((dir, path)) = self.ctx.next_checkpoint() else {
            return Err(told(
                "checkpoint: nobody said where to; call ctx.set_checkpoint_dir(FOLDER) before"
                    .to_owned(),
            ));
        };
        let spec = OutputSpec { path: &path, extension: "", compression: Compression::None };
        let stored = self.save(
            "checkpoint",
            spec,
            Tasks::Partitions(0..partitions),
            |plan, partition, task, emitter| {
                let mut frame = Vec::new();
                let mut emit = |frame: &mut Vec<u8>| {
                    let length =
                        done(u32::try_from(frame.len()).map_err(|_| "a record of 4 GiB or more"));
                    emitter.buffer().extend_from_slice(&length.to_le_bytes());
                    emitter.buffer().extend_from_slice(frame);
                    emitter.flush_if_full();
                    frame.clear();
                };
                plan.compute(partition, Rc::clone(task)).for_each(|record| {
                    done(codec::encode(&record, &mut frame));
                    if frame.len() >= BLOCK {
                        emit(&mut frame);
                    }
                });
                if !frame.is_empty() {
                    emit(&mut frame);
                }
            },
        );
        let stored = stored.and_then(JobHandle::wait);
        stored.with_context(|| {
            format!("a checkpoint under {dir}, where each has another name each time")
        })?;
        let partitioning = self.plan.partitioning();
        let plan = Checkpointed::open(&self.ctx, &path, partitions, partitioning)?;
        Ok(Dataset::new(&self.ctx, plan).boxed())
    }
}

/// Where checkpoints go.
pub(crate) struct Checkpoints {
    dir: String,
    /// The beginning of names in it.
    token: u64,
    count: u32,
}

impl Checkpoints {
    pub(crate) fn under(dir: &str) -> Checkpoints {
        // Another number in each process, which is all that is wanted here.
        let token = RandomState::new().build_hasher().finish();
        Checkpoints { dir: dir.trim_end_matches('/').to_owned(), token, count: 0 }
    }

    /// The folder for all, and the one for the next.
    pub(crate) fn next(&mut self) -> (String, String) {
        self.count += 1;
        let Checkpoints { dir, token, count } = self;
        (dir.clone(), format!("{dir}/{token:016x}-{count}"))
    }
}

/// The plan of a dataset that was stored.
pub struct Checkpointed<T> {
    /// None of a dataset without partitions, whose folder has no files.
    files: Option<Files>,
    partitions: usize,
    partitioning: Option<Partitioning>,
    record: PhantomData<fn() -> T>,
}

impl<T> Checkpointed<T> {
    fn open(
        ctx: &Context,
        path: &str,
        partitions: usize,
        partitioning: Option<Partitioning>,
    ) -> Result<Self> {
        let open = || Files::open(ctx, "checkpoint", path, Framing::WholeFiles, 0);
        let files = if partitions == 0 { None } else { Some(open()?) };
        let found = files.as_ref().map_or(0, Files::splits);
        if found != partitions {
            return Err(told(format!(
                "checkpoint: {path} has {found} files for {partitions} partitions; is somebody else writing there?"
            )));
        }
        Ok(Checkpointed { files, partitions, partitioning, record: PhantomData })
    }
}

impl<T: Record> Plan for Checkpointed<T> {
    type Item = T;

    fn partitions(&self) -> usize {
        self.partitions
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        _: Rc<TaskScope>,
    ) -> impl Iterator<Item = T> + 'static {
        let reader = self.files.as_ref().map(|files| files.open_split(partition));
        reader.into_iter().flat_map(move |reader| Frames {
            path: host::describe(reader).path,
            blocks: Blocks::of(reader),
            bytes: Vec::new(),
            at: 0,
            cursor: Cursor::new(Vec::new()),
            record: PhantomData,
        })
    }

    fn lineage(&self, lineage: &mut Lineage) {
        match &self.files {
            Some(files) => files.lineage(lineage),
            None => lineage.operator("checkpoint"),
        }
    }

    fn prepare(&self, _: &Context) -> Result<()> {
        Ok(())
    }

    fn partitioning(&self) -> Option<Partitioning> {
        self.partitioning.clone()
    }

    fn is_ordered(&self) -> bool {
        true
    }

    fn bytes_hint(&self) -> Option<u64> {
        self.files.as_ref().map_or(Some(0), Files::bytes_hint)
    }
}

/// The records of a stored partition.
struct Frames<T> {
    path: String,
    blocks: Blocks,
    /// What came of the file and isn't read yet, from `at`.
    bytes: Vec<u8>,
    at: usize,
    cursor: Cursor,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Frames<T> {
    fn fail(&self) -> ! {
        fail(format_args!("{} ends in the middle of a record: it was changed", self.path))
    }

    /// The next so many bytes; none at the end. They come in blocks as the host cuts them.
    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.bytes.len() - self.at < length {
            let Some(block) = self.blocks.next() else {
                if self.at == self.bytes.len() {
                    return None;
                }
                self.fail();
            };
            self.bytes.drain(..self.at);
            self.at = 0;
            self.bytes.extend_from_slice(&block);
        }
        let taken = self.bytes[self.at..self.at + length].to_vec();
        self.at += length;
        Some(taken)
    }
}

impl<T: Record> Iterator for Frames<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        while self.cursor.is_empty() {
            let length = self.take(LENGTH)?;
            let length = u32::from_le_bytes(length.try_into().unwrap_or_default());
            let Some(frame) = self.take(length as usize) else { self.fail() };
            self.cursor = Cursor::new(frame);
        }
        Some(done(self.cursor.decode()))
    }
}
