//! Reading partitions of a shuffle, from files here and from other workers, in the order of the map tasks.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ingle_core::ids::StageId;
use ingle_core::memory::{Account, MemoryUse, Reservation};

use crate::error::{Error, Result};
use crate::packer::Shared;
use crate::shuffle_dir::{MapFile, RemoteBlock, ShuffleDir};

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
    fn next(&mut self) -> Result<Option<RemoteBlock>>;
}

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
    charge: Reservation,
}

struct Remote {
    stream: Box<dyn RemoteBlocks>,
    peeked: Option<RemoteBlock>,
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
        let charge = (size_of::<Self>() + listed) as u64;
        let charge = shared.pool.reserve(MemoryUse::Input, charge)?;
        let mut by_worker: Vec<Vec<(u32, u32)>> = Vec::new();
        for output in read {
            if let Place::At(worker) = output.place {
                by_worker.resize_with(by_worker.len().max(worker + 1), Vec::new);
                by_worker[worker].push((output.map, output.attempt));
            }
        }
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
            charge,
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
        let held = block.stored.len() + if block.raw_len > 0 { block.raw_len as usize } else { 0 };
        let charged = self.charge.bytes();
        if held as u64 > charged {
            self.charge.grow(held as u64 - charged)?;
        }
        self.shared.read.fetch_add(block.len() as u64, Ordering::Relaxed);
        let block = self.block.insert(block);
        match block.open(&mut self.buffer) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(damaged),
        }
    }

    fn missing(&self, map: u32) -> Error {
        let attempt = self.outputs.iter().find(|o| o.map == map).map_or(0, |o| o.attempt);
        Error::MissingOutput { stage: self.stage, map, attempt, whole: false }
    }

    /// The next stored block of the output whose turn it is; none if it has no more, and the next one's turn begins. While one is read,
    /// `next` is the one after it.
    fn stored(&mut self) -> Result<Option<RemoteBlock>> {
        if let Some(mut file) = self.file.take() {
            return match file.next() {
                Ok(None) => Ok(None),
                Ok(block) => {
                    self.file = Some(file);
                    Ok(block)
                }
                Err(error) => {
                    tracing::warn!("reading {}: {error}", file.path().display());
                    Err(self.missing(file.map()))
                }
            };
        }
        let Some(&MapOutput { map, attempt, place }) = self.outputs.get(self.next) else {
            return Ok(None);
        };
        match place {
            Place::Here => {
                self.next += 1;
                self.file =
                    Some(self.dir.open(self.stage, map, attempt, self.partitions.clone())?);
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
                match remote.peeked.take_if(|block| block.map == map) {
                    Some(block) => Ok(Some(block)),
                    None => {
                        self.next += 1;
                        Ok(None)
                    }
                }
            }
        }
    }
}
