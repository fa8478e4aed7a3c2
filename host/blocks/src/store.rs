//! The blocks that an executor holds: shuffle outputs, cached partitions, results, and runs of tasks.
//!
//! Locks, and why they can't deadlock: a charge on the pool may call [`Shared`]'s `evict` on the same thread, so no
//! lock is held while memory is reserved. `evict` itself takes the queue's lock, then, without it, one segment's; under
//! neither does anyone reserve or take another.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ingle_core::ids::StageId;
use ingle_core::memory::{Account, Evict, MemoryPool, MemoryUse};
use parking_lot::RwLock;

use crate::block_reader::BlockReader;
use crate::cache::Caches;
use crate::error::{Error, Result};
use crate::packer::{Keep, Packer, Segments, Shared};
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

/// Committed output of a stage's tasks, by task and attempt.
type Outputs = BTreeMap<(u32, u32), Segments>;

/// The store. Clones share it.
#[derive(Clone)]
pub struct BlockStore {
    shared: Arc<Shared>,
    shuffles: Arc<RwLock<HashMap<StageId, Outputs>>>,
    /// Where shuffle output goes that is the worker's.
    dir: Option<(ShuffleDir, Compression)>,
    pub(crate) caches: Arc<Caches>,
}

impl BlockStore {
    /// A store that charges `pool` and spills to a private folder in `spill_parent`, which exists.
    pub fn new(pool: MemoryPool, spill_parent: &Path) -> Result<Self> {
        let shared = Arc::new(Shared::new(pool.clone(), SpillFolder::new(spill_parent)?));
        let evict: Arc<dyn Evict> = shared.clone();
        pool.register(Arc::downgrade(&evict));
        Ok(Self { shared, shuffles: Arc::default(), dir: None, caches: Arc::default() })
    }

    /// As [`BlockStore::new`], with shuffle output in files that outlive the store.
    pub fn with_shuffle_dir(
        pool: MemoryPool,
        spill_parent: &Path,
        dir: ShuffleDir,
        compression: Compression,
    ) -> Result<Self> {
        Ok(Self { dir: Some((dir, compression)), ..Self::new(pool, spill_parent)? })
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

    /// Reads one partition of a stage's outputs, in their order. `fetch` brings those that are elsewhere.
    pub fn open_shuffle(
        &self,
        stage: StageId,
        outputs: Arc<[MapOutput]>,
        partition: u32,
        fetch: Option<&dyn Fetch>,
    ) -> Result<ShuffleReader> {
        if let Some((dir, _)) = &self.dir {
            let shared = self.shared.clone();
            return ShuffleReader::open(shared, dir.clone(), stage, outputs, partition, fetch);
        }
        let charge = BlockReader::reserve(&self.shared, outputs.len())?;
        let shuffles = self.shuffles.read();
        let found = outputs.iter().map(|&MapOutput { map, attempt, .. }| {
            let output = shuffles.get(&stage).and_then(|outputs| outputs.get(&(map, attempt)));
            output.cloned().ok_or(Error::MissingOutput { stage, map, attempt, whole: false })
        });
        let found = found.collect::<Result<_>>()?;
        Ok(ShuffleReader::of_memory(BlockReader::new(&self.shared, partition, found, charge)))
    }

    /// Forgets a stage's shuffle output. Those who read it now may go on.
    pub fn drop_stage(&self, stage: StageId) {
        if let Some((dir, _)) = &self.dir {
            dir.drop_stage(stage);
        }
        // The lock goes before the output does: that removes files.
        let dropped = self.shuffles.write().remove(&stage);
        drop(dropped);
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

    /// Makes the output readable, all at once.
    pub fn commit(self) -> Result<()> {
        let Self { packer, store, stage, map, attempt, partitions } = self;
        let (bytes, charge) = (packer.bytes(), packer.charge());
        let segments = packer.finish()?.unwrap_or_default();
        if let Some((dir, compression)) = &store.dir {
            let mut file = dir.write(stage, map, attempt, partitions, *compression, charge)?;
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
        } else {
            let mut shuffles = store.shuffles.write();
            let before = shuffles.entry(stage).or_default().insert((map, attempt), segments);
            // Not under the lock: that removes files.
            drop(shuffles);
            drop(before);
        }
        store.shared.written.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}
