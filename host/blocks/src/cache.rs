//! Cached partitions: stored by one task, read by many, evicted by least recent use.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ingle_core::ids::CacheId;
use ingle_core::memory::{Account, MemoryUse};
use parking_lot::Mutex;

use crate::block_reader::BlockReader;
use crate::error::{Error, Result};
use crate::packer::{Keep, Packer, Segments};
use crate::segment::Place;
use crate::store::BlockStore;

/// Where partitions of a cached dataset may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StorageLevel {
    /// Lost when memory is short.
    MemoryOnly,
    /// On disk when memory is short.
    MemoryAndDisk,
    /// Always on disk.
    DiskOnly,
}

impl StorageLevel {
    fn keep(self) -> Keep {
        match self {
            Self::MemoryOnly => Keep::Memory,
            Self::MemoryAndDisk => Keep::Spill,
            Self::DiskOnly => Keep::Disk,
        }
    }
}

/// Cached partitions that are whole, and the bytes of their blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachedStats {
    pub partitions: u64,
    pub in_memory: u64,
    pub on_disk: u64,
}

/// What is stored of cached datasets.
pub(crate) type Caches = Mutex<Cached>;

#[derive(Default)]
pub(crate) struct Cached {
    /// By dataset and partition.
    stored: HashMap<(CacheId, u32), (StorageLevel, Segments)>,
    /// Nothing is stored of these any more. Ids aren't used again, and a driver can make only so many.
    dropped: HashSet<CacheId>,
}

impl BlockStore {
    /// The writing end of one partition of a cached dataset.
    pub fn cache_writer(&self, cache: CacheId, partition: u32, level: StorageLevel) -> CacheWriter {
        let packer = Packer::new(self.shared(), MemoryUse::Cache, level.keep()).of_dataset(cache);
        CacheWriter { packer, caches: self.caches.clone(), cache, partition, level, whole: false }
    }

    /// Reads a cached partition; none if it was never stored, or lost.
    pub fn open_cached(&self, cache: CacheId, partition: u32) -> Result<Option<BlockReader>> {
        let stored = self.caches.lock().stored.get(&(cache, partition)).cloned();
        let Some((level, segments)) = stored else { return Ok(None) };
        // Before anything is pinned: what is asked for may be what must go for it.
        let charge = BlockReader::reserve(self.shared(), segments.len() + 1)?;
        let mut pins = Vec::new();
        for segment in segments.iter() {
            self.shared().cached.touch(segment);
            match segment.place() {
                // What would be lost stays until it is read; what would be spilled may go.
                Place::Memory(packed) if level == StorageLevel::MemoryOnly => pins.push(packed),
                Place::Memory(_) | Place::Disk(_) => {}
                Place::Lost => {
                    self.forget(cache, partition, &segments);
                    return Ok(None);
                }
            }
        }
        let reader = BlockReader::new(self.shared(), 0, vec![segments], charge);
        Ok(Some(reader.pin(pins)))
    }

    /// Frees a cached dataset's partitions, for good: nothing more is stored of it. Those who read one now may go on.
    pub fn drop_cache(&self, cache: CacheId) {
        let mut caches = self.caches.lock();
        caches.dropped.insert(cache);
        let dropped: Vec<_> = caches.stored.extract_if(|key, _| key.0 == cache).collect();
        // The lock goes before the partitions do: that removes files.
        drop(caches);
        drop(dropped);
    }

    /// What is cached now. Looks at every segment.
    pub fn cached(&self) -> CachedStats {
        // The lock goes first: to look takes long if there is much.
        let all: Vec<_> = self.caches.lock().stored.values().map(|(_, s)| s.clone()).collect();
        let mut stats = CachedStats::default();
        for segments in all {
            let mut held = segments.iter().map(|segment| segment.held());
            let held = held.try_fold((0, 0), |sum, held| held.map(|h| (sum.0 + h.0, sum.1 + h.1)));
            if let Some((in_memory, on_disk)) = held {
                stats.partitions += 1;
                stats.in_memory += in_memory;
                stats.on_disk += on_disk;
            }
        }
        stats
    }

    /// Forgets what is left of a partition, unless somebody stored it anew.
    fn forget(&self, cache: CacheId, partition: u32, lost: &Segments) {
        let mut caches = self.caches.lock();
        let stored = caches.stored.get(&(cache, partition));
        if stored.is_some_and(|(_, now)| Arc::ptr_eq(now, lost)) {
            caches.stored.remove(&(cache, partition));
        }
    }
}

/// One partition on its way into the cache; dropped before its commit, it was never there.
pub struct CacheWriter {
    packer: Packer,
    caches: Arc<Caches>,
    cache: CacheId,
    partition: u32,
    level: StorageLevel,
    /// Nothing follows.
    whole: bool,
}

impl CacheWriter {
    /// What it holds is counted on an account.
    pub fn on(mut self, account: &Arc<Account>) -> Self {
        self.packer.count_on(account);
        self
    }

    /// Adds a block; an empty block is left out. False if the partition won't be stored.
    ///
    /// Short memory doesn't fail a `MemoryOnly` partition: it just won't be stored.
    pub fn write(&mut self, block: &[u8]) -> Result<bool> {
        if self.whole {
            return Err(Error::Invalid(format!(
                "{}, partition {}, is whole",
                self.cache, self.partition
            )));
        }
        self.packer.push(0, block)?;
        Ok(!self.packer.is_lost())
    }

    /// The partition is whole.
    pub fn finish(&mut self) {
        self.whole = true;
    }

    /// Stores the partition, in place of one stored before. False if it isn't whole, memory was too short for it, or nobody wants it any
    /// more.
    pub fn commit(self) -> Result<bool> {
        if !self.whole {
            return Ok(false);
        }
        let Some(segments) = self.packer.finish()? else {
            return Ok(false);
        };
        if segments.iter().any(|s| matches!(s.place(), Place::Lost)) {
            return Ok(false);
        }
        let mut caches = self.caches.lock();
        let wanted = !caches.dropped.contains(&self.cache);
        let over = if wanted {
            caches.stored.insert((self.cache, self.partition), (self.level, segments))
        } else {
            Some((self.level, segments))
        };
        // The lock goes first: partitions may have files.
        drop(caches);
        drop(over);
        Ok(wanted)
    }
}
