//! The blocks that an executor holds: shuffle outputs, cached partitions, results, and runs of tasks.
//!
//! Locks, and why they can't deadlock: a charge on the pool may call [`Shared`]'s `evict` on the same thread, so no
//! lock is held while memory is reserved. `evict` itself takes the queue's lock, then, without it, one segment's; under
//! neither does anyone reserve or take another.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ingle_core::ids::StageId;
use ingle_core::memory::{Account, Evict, MemoryPool, MemoryUse};

use crate::block_reader::BlockReader;
use crate::cache::Caches;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::packer::{Keep, Packer, Shared};
use crate::runs::{ResultBuffer, RunSet};
use crate::shuffle_dir::{Compression, MAX_BLOCK, ShuffleDir};
use crate::shuffle_reader::{Fetch, MapOutput, ShuffleReader};
use crate::spill::SpillFolder;

/// Bytes that went through a store since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Shuffle output of committed tasks.
    pub shuffled: u64,
    /// Blocks that went to disk, of any kind.
    pub spilled: u64,
    /// Blocks that were read, of any kind.
    pub read: u64,
}

/// The store. Clones share it.
#[derive(Clone)]
pub struct BlockStore {
    shared: Arc<Shared>,
    /// Where committed shuffle output is, and how it is compressed.
    dir: ShuffleDir,
    compression: Compression,
    pub(crate) caches: Arc<Caches>,
}

impl BlockStore {
    /// A store that charges `pool`, with a private folder in `parent`, which exists, for shuffle output and what is spilled.
    pub fn new(pool: MemoryPool, parent: &Path) -> Result<Self> {
        Self::in_folder(pool, SpillFolder::new(parent)?)
    }

    /// As [`BlockStore::new`], in a folder that was made before.
    pub fn in_folder(pool: MemoryPool, folder: Arc<SpillFolder>) -> Result<Self> {
        let dir = ShuffleDir::create(&folder.path().join("shuffle"))?;
        Ok(Self::of(pool, folder, dir))
    }

    /// As [`BlockStore::new`], with shuffle output in a folder that outlives the store.
    pub fn with_shuffle_dir(pool: MemoryPool, parent: &Path, dir: ShuffleDir) -> Result<Self> {
        Ok(Self::of(pool, SpillFolder::new(parent)?, dir))
    }

    /// Waits, for a task that has written something, as long as the disk's rate wants it; or until that task is to stop.
    pub fn pay_for_writes(&self, is_stopped: impl Fn() -> bool) {
        if let Some(disk) = self.shared.folder.disk() {
            disk.pay(is_stopped);
        }
    }

    /// Charges a disk for all that is stored from now on.
    pub fn charging(mut self, disk: &Disk) -> Self {
        self.shared.folder.charge(disk);
        self.dir = self.dir.charging(disk);
        self
    }

    /// Compresses shuffle output from now on.
    pub fn compressed(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    fn of(pool: MemoryPool, folder: Arc<SpillFolder>, dir: ShuffleDir) -> Self {
        let shared = Arc::new(Shared::new(pool.clone(), folder));
        let evict: Arc<dyn Evict> = shared.clone();
        pool.register(Arc::downgrade(&evict));
        Self { shared, dir, compression: Compression::None, caches: Arc::default() }
    }

    /// What the store charges.
    pub fn pool(&self) -> &MemoryPool {
        &self.shared.pool
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The shuffle output of one attempt of a stage's task `map`, into `partitions` partitions.
    pub fn task_output(
        &self,
        stage: StageId,
        map: u32,
        attempt: u32,
        partitions: u32,
    ) -> TaskOutput {
        let packer = Packer::new(&self.shared, MemoryUse::Shuffle, Keep::Spill);
        TaskOutput { packer, store: self.clone(), stage, map, attempt, partitions }
    }

    /// Reads some partitions of a stage's outputs, in the outputs' order, or of these of them. `fetch` brings those that are elsewhere.
    pub fn open_shuffle(
        &self,
        stage: StageId,
        outputs: Arc<[MapOutput]>,
        part: Option<Range<usize>>,
        partitions: Range<u32>,
        fetch: Option<&dyn Fetch>,
    ) -> Result<ShuffleReader> {
        let (shared, dir) = (self.shared.clone(), self.dir.clone());
        ShuffleReader::open(shared, dir, stage, outputs, part, partitions, fetch)
    }

    /// Forgets a stage's shuffle output. What is open is read to its end.
    pub fn drop_stage(&self, stage: StageId) {
        self.dir.drop_stage(stage);
    }

    /// The temporary runs of one attempt of a task.
    pub fn runs(&self) -> RunSet {
        RunSet::new(&self.shared)
    }

    /// The result of one attempt of a task.
    pub fn result(&self) -> ResultBuffer {
        ResultBuffer::new(&self.shared)
    }

    /// Removes what was spilled, though tasks may still run that hold it: for the end of a process that doesn't wait for them.
    pub fn remove_spilled(&self) {
        self.shared.folder.remove();
    }

    /// What went through the store.
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            shuffled: self.shared.written.load(Ordering::Relaxed),
            spilled: self.shared.spilled.load(Ordering::Relaxed),
            read: self.shared.read.load(Ordering::Relaxed),
        }
    }
}

/// One attempt's shuffle output; dropped before its commit, it was never there.
pub struct TaskOutput {
    packer: Packer,
    store: BlockStore,
    stage: StageId,
    map: u32,
    attempt: u32,
    partitions: u32,
}

impl TaskOutput {
    /// What it holds is counted on an account.
    pub fn on(mut self, account: &Arc<Account>) -> Self {
        self.packer.count_on(account);
        self
    }

    /// Adds a block to a partition; an empty block is left out.
    pub fn write(&mut self, partition: u32, block: &[u8]) -> Result<()> {
        if partition >= self.partitions {
            return Err(Error::Invalid(format!(
                "a block was written to partition {partition} of {}: they count from 0",
                self.partitions
            )));
        }
        if block.len() > MAX_BLOCK as usize {
            return Err(Error::Invalid(format!("a block of {} bytes is too large", block.len())));
        }
        self.packer.push(partition, block)
    }

    /// Writes the output to its file, from which it is read.
    pub fn commit(self) -> Result<()> {
        let Self { packer, store, stage, map, attempt, partitions } = self;
        let (bytes, charge) = (packer.bytes(), packer.charge());
        let segments = packer.finish()?.unwrap_or_default();
        let mut file =
            store.dir.write(stage, map, attempt, partitions, store.compression, charge)?;
        if bytes > 0 {
            for partition in 0..partitions {
                let charge = BlockReader::reserve(&store.shared, 1)?;
                let output = vec![segments.clone()];
                let mut blocks = BlockReader::new(&store.shared, partition, output, charge);
                file.begin(partition)?;
                while let Some(block) = blocks.next_block()? {
                    file.push(block)?;
                }
            }
        }
        file.commit()?;
        store.shared.written.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}
