//! What a driver opened: sources, outputs, caches and images, by the numbers that it names them with.

use std::collections::BTreeMap;
use std::sync::Arc;

use ingle_blocks::{Framing, Grants, Output, OutputFile, Source, StorageLevel};
use ingle_core::ids::{CacheId, ImageId, OutputId, SourceId};
use ingle_core::memory::{MemoryPool, MemoryUse, Reservation};
use ingle_sandbox::Image;
use parking_lot::{Mutex, RwLock};

/// What a listed file or a split costs the host, about.
const LISTED: u64 = 256;
/// Outputs that are written at the same time; each holds descriptors.
const MAX_OUTPUTS: usize = 256;
/// Images that the driver holds at the same time; each is an open file.
const MAX_IMAGES: usize = 256;
const MAX_CACHES: usize = 100_000;

/// A registry that the driver adds to and its executors look into.
pub struct Opened {
    grants: Arc<Grants>,
    /// Pays for what is listed.
    pool: MemoryPool,
    /// The number of slots: how many pieces of work are wanted of a source that nobody cut.
    parallelism: u32,
    sources: RwLock<Vec<(Source, Reservation)>>,
    outputs: Mutex<Outputs>,
    caches: RwLock<Vec<StorageLevel>>,
    images: Mutex<Images>,
}

#[derive(Default)]
struct Outputs {
    open: BTreeMap<u32, Output>,
    next: u32,
    /// No more are opened: the application is over.
    closed: bool,
}

#[derive(Default)]
struct Images {
    held: BTreeMap<u32, Image>,
    next: u32,
}

/// A request of the driver that can't be met, in words for its user.
pub type Refused = String;

impl Opened {
    pub fn new(grants: Arc<Grants>, pool: MemoryPool, parallelism: u32) -> Self {
        Self {
            grants,
            pool,
            parallelism,
            sources: RwLock::default(),
            outputs: Mutex::default(),
            caches: RwLock::default(),
            images: Mutex::default(),
        }
    }

    pub fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    /// Lists a source's files and cuts them; gives its number with it.
    pub fn open_source(
        &self,
        path: &str,
        framing: Framing,
        min_splits: u32,
    ) -> Result<(SourceId, Source), Refused> {
        let source = Source::open(&self.grants, path, framing, min_splits, self.parallelism)
            .map_err(|e| e.to_string())?;
        let cost = LISTED * (1 + u64::from(source.splits()));
        let charge = self.pool.reserve(MemoryUse::Input, cost).map_err(|e| {
            format!("{path} has {} splits: {e}; raise --driver-memory", source.splits())
        })?;
        let mut sources = self.sources.write();
        sources.push((source.clone(), charge));
        Ok((SourceId(sources.len() as u32 - 1), source))
    }

    pub fn source(&self, id: SourceId) -> Option<Source> {
        self.sources.read().get(id.0 as usize).map(|(source, _)| source.clone())
    }

    pub fn open_output(&self, path: &str) -> Result<OutputId, Refused> {
        let refuse_more = |outputs: &Outputs| {
            if outputs.closed {
                return Err("the application is over".to_owned());
            }
            if outputs.open.len() >= MAX_OUTPUTS {
                return Err(format!("{MAX_OUTPUTS} outputs are open, and no more may be at once"));
            }
            Ok(())
        };
        refuse_more(&self.outputs.lock())?;
        let output = Output::open(&self.grants, path).map_err(|e| e.to_string())?;
        let mut outputs = self.outputs.lock();
        // The application may have ended meanwhile; then the folder goes again.
        refuse_more(&outputs)?;
        let id = outputs.next;
        outputs.next += 1;
        outputs.open.insert(id, output);
        Ok(OutputId(id))
    }

    pub fn has_output(&self, id: OutputId) -> bool {
        self.outputs.lock().open.contains_key(&id.0)
    }

    /// The file of one attempt at a partition; none if there is no such output (any more).
    pub fn attempt(
        &self,
        id: OutputId,
        partition: u32,
        attempt: u32,
    ) -> Option<ingle_blocks::Result<OutputFile>> {
        let outputs = self.outputs.lock();
        outputs.open.get(&id.0).map(|output| output.attempt(partition, attempt))
    }

    /// Publishes an output; none if there is no such output.
    pub fn commit_output(&self, id: OutputId) -> Option<Result<(), Refused>> {
        let output = self.outputs.lock().open.remove(&id.0)?;
        Some(output.commit().map_err(|e| e.to_string()))
    }

    /// Removes an output that wasn't committed. False if there is no such output.
    pub fn drop_output(&self, id: OutputId) -> bool {
        let dropped = self.outputs.lock().open.remove(&id.0);
        dropped.is_some()
    }

    /// Removes what was never committed, and opens no more.
    pub fn close(&self) {
        let mut outputs = self.outputs.lock();
        outputs.closed = true;
        let unfinished = std::mem::take(&mut outputs.open);
        drop(outputs);
        drop(unfinished);
    }

    /// None if there are too many.
    pub fn new_cache(&self, level: StorageLevel) -> Option<CacheId> {
        let mut caches = self.caches.write();
        if caches.len() >= MAX_CACHES {
            return None;
        }
        caches.push(level);
        Some(CacheId(caches.len() as u32 - 1))
    }

    pub fn cache(&self, id: CacheId) -> Option<StorageLevel> {
        self.caches.read().get(id.0 as usize).copied()
    }

    /// None if there are too many.
    pub fn keep_image(&self, image: Image) -> Option<ImageId> {
        let mut images = self.images.lock();
        if images.held.len() >= MAX_IMAGES {
            return None;
        }
        let id = images.next;
        images.next += 1;
        images.held.insert(id, image);
        Some(ImageId(id))
    }

    pub fn image(&self, id: ImageId) -> Option<Image> {
        self.images.lock().held.get(&id.0).cloned()
    }

    /// False if there is no such image.
    pub fn release_image(&self, id: ImageId) -> bool {
        let released = self.images.lock().held.remove(&id.0);
        released.is_some()
    }
}
