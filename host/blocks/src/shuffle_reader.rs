//! Reading partitions of a shuffle, from files here and from other workers, in the order of the map tasks.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ingle_core::ids::StageId;
use ingle_core::memory::{Account, MemoryUse, Reservation};

use crate::error::{Error, Result};
use crate::packer::Shared;
use crate::shuffle_dir::{Head, MapFile, RemoteBlock, ShuffleDir};

/// The output of one map task, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapOutput {
    /// The task.
    pub map: u32,
    /// The attempt whose output counts.
    pub attempt: u32,
    /// The worker.
    pub place: Place,
}

/// Where an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this worker.
    Here,
    /// On another, by its number in a list.
    At(usize),
}

/// Brings blocks from other workers.
pub trait Fetch: Send + Sync {
    /// A stream of the blocks of some partitions of some outputs on one worker, each a map task and its attempt. It reads ahead, within
    /// bounds, from now on.
    fn fetch(
        &self,
        worker: usize,
        stage: StageId,
        partitions: Range<u32>,
        outputs: Vec<(u32, u32)>,
    ) -> Box<dyn RemoteBlocks>;
}

/// Blocks on their way.
pub trait RemoteBlocks: Send {
    /// The next one, in the order of the outputs that were asked for; none at the end.
    fn next(&mut self) -> Result<Option<Fetched>>;
}

/// A block that came, and what is charged for it until its reader charges it.
pub struct Fetched {
    /// The block.
    pub block: RemoteBlock,
    /// None if nobody charged it yet.
    pub charge: Option<Reservation>,
}

/// What a stream costs, beside its part of the lists of outputs.
const STREAM: usize = 2 << 10;

/// The blocks of one partition, or of several next to each other.
pub struct ShuffleReader {
    shared: Arc<Shared>,
    dir: ShuffleDir,
    stage: StageId,
    partitions: Range<u32>,
    outputs: Arc<[MapOutput]>,
    /// The next of them, and where those end that are read.
    next: usize,
    end: usize,
    /// What is read of one here.
    file: Option<MapFile>,
    /// By worker: its stream, and what came of it that isn't wanted yet.
    remote: Vec<Option<Remote>>,
    /// The block that was handed out last, and what it was decompressed into.
    block: Option<RemoteBlock>,
    buffer: Vec<u8>,
    /// What the file's index and what was read ahead of it take.
    index: usize,
    ahead: usize,
    /// As much as it takes at most: the first `base` bytes for itself and its lists.
    charge: Reservation,
    base: usize,
}

struct Remote {
    stream: Box<dyn RemoteBlocks>,
    peeked: Option<Fetched>,
}

impl ShuffleReader {
    pub(crate) fn open(
        shared: Arc<Shared>,
        dir: ShuffleDir,
        stage: StageId,
        outputs: Arc<[MapOutput]>,
        part: Option<Range<usize>>,
        partitions: Range<u32>,
        fetch: Option<&dyn Fetch>,
    ) -> Result<Self> {
        let part = part.unwrap_or(0..outputs.len());
        let read = outputs.get(part.clone()).ok_or_else(|| {
            let count = outputs.len();
            Error::Invalid(format!("outputs {} to {} of {count}", part.start, part.end))
        })?;
        // And for the lists of what is asked of others.
        let listed = if fetch.is_some() { size_of_val(read) } else { 0 };
        let mut base = size_of::<Self>() + listed;
        let mut charge = shared.pool.reserve(MemoryUse::Input, base as u64)?;
        let mut by_worker: Vec<Vec<(u32, u32)>> = Vec::new();
        for output in read {
            if let Place::At(worker) = output.place {
                by_worker.resize_with(by_worker.len().max(worker + 1), Vec::new);
                by_worker[worker].push((output.map, output.attempt));
            }
        }
        let streams = by_worker.iter().filter(|outputs| !outputs.is_empty()).count() * STREAM;
        charge.grow(streams as u64)?;
        base += streams;
        let mut remote = Vec::new();
        for (worker, outputs) in by_worker.into_iter().enumerate() {
            remote.push(match (outputs.first(), fetch) {
                (None, _) => None,
                (Some(_), Some(fetch)) => Some(Remote {
                    stream: fetch.fetch(worker, stage, partitions.clone(), outputs),
                    peeked: None,
                }),
                (Some(&(map, attempt)), None) => {
                    return Err(Error::MissingOutput { stage, map, attempt, whole: true });
                }
            });
        }
        Ok(Self {
            shared,
            dir,
            stage,
            partitions,
            outputs,
            next: part.start,
            end: part.end,
            file: None,
            remote,
            block: None,
            buffer: Vec::new(),
            index: 0,
            ahead: 0,
            charge,
            base,
        })
    }

    /// What it holds is counted on an account.
    pub fn on(mut self, account: &Arc<Account>) -> Self {
        self.charge.count_on(account);
        self
    }

    /// The next block; none at the end.
    pub fn next_block(&mut self) -> Result<Option<&[u8]>> {
        self.block = None;
        let block = loop {
            if self.file.is_none() && self.next == self.end {
                return Ok(None);
            }
            if let Some(block) = self.stored()? {
                break block;
            }
        };
        let damaged = self.missing(block.map);
        if !block.is_sound() {
            tracing::warn!("a block of it is damaged: {damaged}");
            return Err(damaged);
        }
        // One of a file is a part of what was read ahead.
        let stored = if self.file.is_some() { 0 } else { block.stored.len() };
        self.charge_all(stored + self.decompressed(block.raw_len))?;
        self.shared.read.fetch_add(block.len() as u64, Ordering::Relaxed);
        let block = self.block.insert(block);
        match block.open(&mut self.buffer) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(damaged),
        }
    }

    /// What blocks are decompressed into, when it has been made long enough for one.
    fn decompressed(&self, raw_len: u32) -> usize {
        self.buffer.capacity().max(raw_len as usize)
    }

    /// Charges what it holds, with so much more.
    fn charge_all(&mut self, more: usize) -> Result<()> {
        let held = (self.base + self.index + self.ahead + more) as u64;
        let charged = self.charge.bytes();
        if held > charged {
            self.charge.grow(held - charged)?;
        }
        Ok(())
    }

    fn missing(&self, map: u32) -> Error {
        // That is where it is, but for what a test makes.
        let found = self.outputs.get(map as usize).filter(|output| output.map == map);
        let found = found.or_else(|| self.outputs.iter().find(|output| output.map == map));
        let attempt = found.map_or(0, |output| output.attempt);
        Error::MissingOutput { stage: self.stage, map, attempt, whole: false }
    }

    /// The next stored block of the output whose turn it is; none if it has no more, and the next one's turn begins. While one is read,
    /// `next` is the one after it.
    fn stored(&mut self) -> Result<Option<RemoteBlock>> {
        if let Some(mut file) = self.file.take() {
            let read = self.read(&mut file);
            if let Ok(Some(_)) = &read {
                self.file = Some(file);
            }
            return read;
        }
        (self.index, self.ahead) = (0, 0);
        let Some(&MapOutput { map, attempt, place }) = self.outputs.get(self.next) else {
            return Ok(None);
        };
        match place {
            Place::Here => {
                self.next += 1;
                let file = self.dir.open(self.stage, map, attempt, self.partitions.clone())?;
                self.index = file.index_bytes();
                self.charge_all(0)?;
                self.file = Some(file);
                Ok(None)
            }
            Place::At(worker) => {
                let Some(Some(remote)) = self.remote.get_mut(worker) else {
                    return Err(Error::MissingOutput {
                        stage: self.stage,
                        map,
                        attempt,
                        whole: true,
                    });
                };
                if remote.peeked.is_none() {
                    remote.peeked = remote.stream.next()?;
                }
                match remote.peeked.take_if(|fetched| fetched.block.map == map) {
                    // Charged again right away, by its reader.
                    Some(Fetched { block, charge: _ }) => Ok(Some(block)),
                    None => {
                        self.next += 1;
                        Ok(None)
                    }
                }
            }
        }
    }

    /// The next block of a file, with what follows if there is memory for that.
    fn read(&mut self, file: &mut MapFile) -> Result<Option<RemoteBlock>> {
        let damaged = |this: &Self, file: &MapFile, error: io::Error| {
            tracing::warn!("reading {}: {error}", file.path().display());
            this.missing(file.map())
        };
        let head = file.head().map_err(|error| damaged(self, file, error))?;
        let Some(Head { map, stored_len, raw_len, codec, crc }) = head else { return Ok(None) };
        let length = stored_len as usize;
        let (least, mut together) = file.lacks(length);
        if together > 0 {
            self.ahead = together;
            let decompressed = self.decompressed(raw_len);
            let held = (self.base + self.index + together + decompressed) as u64;
            let more = held.saturating_sub(self.charge.bytes());
            if !self.charge.try_grow(more) {
                (self.ahead, together) = (least, least);
                // Its length isn't known to be true before its checksum was looked at.
                self.charge_all(0)?;
            }
        }
        let stored = file.take(length, together).map_err(|error| damaged(self, file, error))?;
        Ok(Some(RemoteBlock { map, stored, raw_len, codec, crc }))
    }
}
