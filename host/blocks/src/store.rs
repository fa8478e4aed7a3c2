//! The blocks that an executor holds: shuffle outputs, cached partitions, results, and runs of tasks.
//!
//! Locks, and why they can't deadlock: a charge on the pool may call [`Shared`]'s `evict` on the same thread, so no
//! lock is held while memory is reserved. `evict` itself takes the queue's lock, then, without it, one segment's; under
//! neither does anyone reserve or take another.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ingle_core::ids::StageId;
use ingle_core::memory::{Evict, MemoryPool, MemoryUse};
use parking_lot::RwLock;

use crate::block_reader::BlockReader;
use crate::cache::Caches;
use crate::error::{Error, Result};
use crate::packer::{Keep, Packer, Segments, Shared};
use crate::runs::{ResultBuffer, RunSet};
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

/// Committed output of a stage's tasks, by task.
type Outputs = BTreeMap<u32, Segments>;

/// The store. Clones share it.
#[derive(Clone)]
pub struct BlockStore {
    shared: Arc<Shared>,
    shuffles: Arc<RwLock<HashMap<StageId, Outputs>>>,
    pub(crate) caches: Arc<Caches>,
}

impl BlockStore {
    /// A store that charges `pool` and spills to a private folder in `spill_parent`, which exists.
    pub fn new(pool: MemoryPool, spill_parent: &Path) -> Result<Self> {
        let shared = Arc::new(Shared::new(pool.clone(), SpillFolder::new(spill_parent)?));
        let evict: Arc<dyn Evict> = shared.clone();
        pool.register(Arc::downgrade(&evict));
        Ok(Self { shared, shuffles: Arc::default(), caches: Arc::default() })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The shuffle output of one attempt of a stage's task `map`, into `partitions` partitions.
    pub fn task_output(&self, stage: StageId, map: u32, partitions: u32) -> TaskOutput {
        let packer = Packer::new(&self.shared, MemoryUse::Shuffle, Keep::Spill);
        TaskOutput { packer, shuffles: self.shuffles.clone(), stage, map, partitions }
    }

    /// Reads one partition of a stage of `maps` tasks, in the order of the tasks.
    pub fn open_shuffle(&self, stage: StageId, maps: u32, partition: u32) -> Result<BlockReader> {
        let charge = BlockReader::reserve(&self.shared, maps as usize)?;
        let shuffles = self.shuffles.read();
        let outputs = (0..maps).map(|map| {
            let output = shuffles.get(&stage).and_then(|outputs| outputs.get(&map));
            output.cloned().ok_or(Error::MissingOutput { stage, map })
        });
        Ok(BlockReader::new(&self.shared, partition, outputs.collect::<Result<_>>()?, charge))
    }

    /// Forgets a stage's shuffle output. Those who read it now may go on.
    pub fn drop_stage(&self, stage: StageId) {
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
    shuffles: Arc<RwLock<HashMap<StageId, Outputs>>>,
    stage: StageId,
    map: u32,
    partitions: u32,
}

impl TaskOutput {
    /// Adds a block to a partition; an empty block is left out.
    pub fn write(&mut self, partition: u32, block: &[u8]) -> Result<()> {
        if partition >= self.partitions {
            return Err(Error::Invalid(format!(
                "a block was written to partition {partition} of {}: they count from 0",
                self.partitions
            )));
        }
        self.packer.push(partition, block)
    }

    /// Makes the output readable, all at once. False if another attempt of the task was first: then this one is
    /// discarded.
    pub fn commit(self) -> Result<bool> {
        let Self { packer, shuffles, stage, map, .. } = self;
        let (bytes, shared) = (packer.bytes(), packer.shared().clone());
        let segments = packer.finish()?.unwrap_or_default();
        // Not dropped under the lock, if it comes second: that removes files.
        let second = match shuffles.write().entry(stage).or_default().entry(map) {
            Entry::Occupied(_) => Some(segments),
            Entry::Vacant(place) => {
                place.insert(segments);
                None
            }
        };
        if second.is_none() {
            shared.written.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(second.is_none())
    }
}
