//! Writing blocks: packed into segments, sealed as they fill, evictable from then on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ingle_core::ids::CacheId;
use ingle_core::memory::{Account, Evict, MemoryPool, MemoryUse, Reservation};

use crate::error::{Error, Result};
use crate::evict::{Evictables, sparing};
use crate::segment::{Evicted, Packed, Pressure, Segment};
use crate::spill::{SpillFile, SpillFolder};

const SEGMENT: usize = 1 << 20;
const FIRST_SEGMENT: usize = 16 << 10;
/// Segments that are being filled can't be evicted, so each may take only so small a part of the memory.
const PART_OF_MEMORY: u64 = 256;
/// A task may fill as many runs in turn, so each of theirs takes only this part of that.
const RUNS_IN_TURN: usize = 16;

/// Segments of one output, in the order written.
pub(crate) type Segments = Arc<[Arc<Segment>]>;

/// What all writers and readers of a store share.
pub(crate) struct Shared {
    pub pool: MemoryPool,
    pub folder: Arc<SpillFolder>,
    /// A segment's usual size. Larger blocks get one of their own; an output's first ones are smaller.
    segment: usize,
    /// Shuffle output, results and runs: spilled first, since each is read about once.
    pub transient: Evictables,
    /// Cached partitions.
    pub cached: Evictables,
    pub written: AtomicU64,
    pub spilled: AtomicU64,
    pub read: AtomicU64,
    /// It was said that blocks can't be spilled, and none was since.
    stay: AtomicBool,
}

impl Shared {
    pub fn new(pool: MemoryPool, folder: Arc<SpillFolder>) -> Self {
        let part = usize::try_from(pool.capacity().0 / PART_OF_MEMORY).unwrap_or(SEGMENT);
        Self {
            pool,
            folder,
            segment: part.clamp(FIRST_SEGMENT, SEGMENT),
            transient: Evictables::new(),
            cached: Evictables::new(),
            written: AtomicU64::new(0),
            spilled: AtomicU64::new(0),
            read: AtomicU64::new(0),
            stay: AtomicBool::new(false),
        }
    }
}

impl Evict for Shared {
    fn evict(&self, want: u64) -> u64 {
        let report = |outcome: &Result<Evicted>| match outcome {
            Ok(Evicted::Spilled { payload, .. }) => {
                self.spilled.fetch_add(*payload, Ordering::Relaxed);
                self.stay.store(false, Ordering::Relaxed);
            }
            Ok(_) => {}
            // A guest that asks on and on is no reason to say it as often.
            Err(error) if !self.stay.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "blocks stay in memory");
            }
            Err(_) => {}
        };
        let given = self.transient.evict(want, report);
        if given >= want { given } else { given + self.cached.evict(want - given, report) }
    }
}

/// How the segments of a writer live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// In memory, on disk under pressure.
    Spill,
    /// In memory, lost under pressure.
    Memory,
    /// On disk.
    Disk,
}

/// The writing end of an output. Not committed, it leaves nothing behind.
pub(crate) struct Packer {
    shared: Arc<Shared>,
    what: MemoryUse,
    keep: Keep,
    file: Arc<SpillFile>,
    /// The cached dataset that is written.
    dataset: Option<CacheId>,
    open: Option<Packed>,
    sealed: Vec<Arc<Segment>>,
    next_capacity: usize,
    /// What a segment of small blocks comes to.
    most: usize,
    bytes: u64,
    /// Of the task that writes.
    account: Option<Arc<Account>>,
    /// Memory was refused to an output that may live nowhere else.
    lost: bool,
}

impl Packer {
    pub fn new(shared: &Arc<Shared>, what: MemoryUse, keep: Keep) -> Self {
        Self::with_file(shared, what, keep, SpillFile::new(&shared.folder))
    }

    pub fn with_file(
        shared: &Arc<Shared>,
        what: MemoryUse,
        keep: Keep,
        file: Arc<SpillFile>,
    ) -> Self {
        Self {
            shared: shared.clone(),
            what,
            keep,
            file,
            dataset: None,
            open: None,
            sealed: Vec::new(),
            next_capacity: FIRST_SEGMENT,
            most: shared.segment,
            bytes: 0,
            account: None,
            lost: false,
        }
    }

    /// One of a task's runs, of which others may be filled at the same time.
    pub fn of_run(shared: &Arc<Shared>, file: Arc<SpillFile>) -> Self {
        let most = (shared.segment / RUNS_IN_TURN).max(FIRST_SEGMENT);
        Self { most, ..Self::with_file(shared, MemoryUse::Shuffle, Keep::Spill, file) }
    }

    /// What is written from now on is counted on an account.
    pub fn count_on(&mut self, account: &Arc<Account>) {
        self.account = Some(account.clone());
    }

    /// An empty charge for some of what is written.
    pub fn charge(&self) -> Reservation {
        let mut charge = self.shared.pool.reservation(self.what);
        if let Some(account) = &self.account {
            charge.count_on(account);
        }
        charge
    }

    /// What is written is of a cached dataset.
    pub fn of_dataset(mut self, dataset: CacheId) -> Self {
        self.dataset = Some(dataset);
        self
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether what was written is lost, and what will be.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Adds a block; an empty one is left out.
    pub fn push(&mut self, partition: u32, block: &[u8]) -> Result<()> {
        if block.is_empty() || self.lost {
            return Ok(());
        }
        if u32::try_from(block.len()).is_err() {
            return Err(Error::Invalid(format!("a block of {} bytes is too large", block.len())));
        }
        let is_packed = self.open.as_mut().is_some_and(|open| open.push(partition, block));
        if !is_packed {
            // Sealed first, so that it can be evicted to make room for the next.
            self.seal()?;
            self.push_anew(partition, block)?;
        }
        self.bytes += block.len() as u64;
        Ok(())
    }

    /// Adds a block to a new segment; without memory for one, to disk.
    fn push_anew(&mut self, partition: u32, block: &[u8]) -> Result<()> {
        self.open = self.new_segment(block.len());
        let is_packed = self.open.as_mut().is_some_and(|open| open.push(partition, block));
        if !is_packed && self.keep == Keep::Memory {
            self.lost = true;
            self.sealed.clear();
        } else if !is_packed {
            let segment = Segment::written_through(self.charge(), &self.file, partition, block)?;
            self.shared.spilled.fetch_add(block.len() as u64, Ordering::Relaxed);
            self.sealed.push(Arc::new(segment));
        }
        // A large block fills its segment, and must not stay where it can't be evicted until the next one comes.
        if self.open.as_ref().is_some_and(Packed::is_full) {
            self.seal()?;
        }
        Ok(())
    }

    /// Room for a block and what may follow it, or just for the block; none if memory is short even for that.
    fn new_segment(&mut self, block: usize) -> Option<Packed> {
        let preferred = block.max(self.next_capacity);
        self.next_capacity = (2 * self.next_capacity).min(self.most);
        [preferred, block.max(FIRST_SEGMENT)].into_iter().find_map(|capacity| {
            let room = || Packed::new(self.charge(), capacity).ok();
            sparing(self.dataset, room)
        })
    }

    /// Makes what was written so far evictable.
    pub fn seal(&mut self) -> Result<()> {
        let Some(packed) = self.open.take() else {
            return Ok(());
        };
        let pressure = match self.keep {
            Keep::Spill | Keep::Disk => Pressure::Spill(self.file.clone()),
            Keep::Memory => Pressure::Lose,
        };
        let segment = Arc::new(Segment::new(packed, pressure, self.dataset));
        match (self.keep, self.what) {
            (Keep::Disk, _) => {
                if let Evicted::Spilled { payload, .. } = segment.evict()? {
                    self.shared.spilled.fetch_add(payload, Ordering::Relaxed);
                }
            }
            (_, MemoryUse::Cache) => self.shared.cached.add(&segment),
            _ => self.shared.transient.add(&segment),
        }
        self.sealed.push(segment);
        Ok(())
    }

    /// All that was written; none if it was lost under pressure.
    pub fn finish(mut self) -> Result<Option<Segments>> {
        self.seal()?;
        Ok((!self.lost).then(|| self.sealed.into()))
    }
}
