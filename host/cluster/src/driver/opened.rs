//! What a driver opened: sources, outputs, caches and images, by the numbers that it names them with.

use std::collections::BTreeMap;
use std::sync::Arc;

use ingle_blocks::{
    Framing, Grants, Output, OutputFile, OutputTarget, Parts, Source, StorageLevel, Writer,
};
use ingle_core::ids::{CacheId, ImageId, OutputId, SourceId, TaskId};
use ingle_core::memory::{MemoryPool, MemoryUse, OutOfMemory, Reservation};
use ingle_sandbox::Image;
use parking_lot::{Mutex, RwLock};

/// What a split costs the host beside its place in a list: its task's, mostly.
const SPLIT: u64 = 128;
/// What a source costs beside its lists.
const SOURCE: u64 = 256;
/// Folders that an application publishes. Its executors are told of all of them.
const MAX_PUBLISHED: usize = 10_000;
/// Outputs that are written at the same time; each holds descriptors.
const MAX_OUTPUTS: usize = 256;
/// Images that the driver holds at the same time; each is an open file.
const MAX_IMAGES: usize = 256;
const MAX_CACHES: usize = 100_000;

/// A registry that the driver adds to and its executors look into. An executor elsewhere has one of its own, with what its driver told
/// it.
pub struct Opened {
    grants: Arc<Grants>,
    /// Who writes its outputs.
    writer: Writer,
    /// Pays for what is listed.
    pool: MemoryPool,
    sources: RwLock<BTreeMap<u32, (Source, Reservation)>>,
    outputs: Mutex<Outputs>,
    /// Held for reading while an output is made, published or removed, which may take long.
    busy: RwLock<()>,
    targets: RwLock<BTreeMap<u32, OutputTarget>>,
    /// With whether they were dropped.
    caches: RwLock<BTreeMap<u32, (StorageLevel, bool)>>,
    images: Mutex<Images>,
}

#[derive(Default)]
struct Outputs {
    /// With the paths by which the driver named them.
    open: BTreeMap<u32, (Output, String)>,
    next: u32,
    /// No more are opened: the application is over.
    closed: bool,
}

#[derive(Default)]
struct Images {
    held: BTreeMap<u32, Image>,
    next: u32,
}

/// What executors elsewhere must know of an output.
pub struct OutputPlace {
    /// By which the driver named it.
    pub path: String,
    pub token: String,
    pub parts: Parts,
}

/// A request of the driver that can't be met, in words for its user.
pub type Refused = String;

impl Opened {
    pub fn new(grants: Arc<Grants>, pool: MemoryPool) -> Self {
        Self {
            grants,
            writer: Writer::default(),
            pool,
            sources: RwLock::default(),
            outputs: Mutex::default(),
            busy: RwLock::default(),
            targets: RwLock::default(),
            caches: RwLock::default(),
            images: Mutex::default(),
        }
    }

    /// Its outputs are this one's.
    pub fn written_by(mut self, writer: Writer) -> Self {
        self.writer = writer;
        self
    }

    pub fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    /// Lists a source's files and cuts them; gives its number with it. `parallelism` is the number of slots: how many pieces of work are
    /// wanted of a source that nobody cut.
    pub fn open_source(
        &self,
        path: &str,
        framing: Framing,
        min_splits: u32,
        parallelism: u32,
    ) -> Result<(SourceId, Source), Refused> {
        let source = Source::open(&self.grants, path, framing, min_splits, parallelism)
            .map_err(|e| e.to_string())?;
        let charge = self.charge_source(&source).map_err(|e| {
            let (files, splits) = (source.files(), source.splits());
            format!("{path} has {files} files and {splits} splits: {e}; raise --driver-memory")
        })?;
        let mut sources = self.sources.write();
        let id = sources.last_key_value().map_or(0, |(last, _)| last + 1);
        sources.insert(id, (source.clone(), charge));
        Ok((SourceId(id), source))
    }

    /// Takes a source that the driver opened.
    pub fn insert_source(&self, id: SourceId, source: Source) -> Result<(), OutOfMemory> {
        let charge = self.charge_source(&source)?;
        self.sources.write().insert(id.0, (source, charge));
        Ok(())
    }

    fn charge_source(&self, source: &Source) -> Result<Reservation, OutOfMemory> {
        let splits = SPLIT * u64::from(source.splits());
        self.pool.reserve(MemoryUse::Input, SOURCE + source.listed_bytes() + splits)
    }

    pub fn source(&self, id: SourceId) -> Option<Source> {
        self.sources.read().get(&id.0).map(|(source, _)| source.clone())
    }

    pub fn open_output(&self, path: &str, parts: &Parts) -> Result<OutputId, Refused> {
        let refuse_more = |outputs: &Outputs| {
            if outputs.closed {
                return Err("the application is over".to_owned());
            }
            if outputs.open.len() >= MAX_OUTPUTS {
                return Err(format!("{MAX_OUTPUTS} outputs are open, and no more may be at once"));
            }
            if self.grants.published().len() >= MAX_PUBLISHED {
                return Err(format!(
                    "{MAX_PUBLISHED} outputs were published, and no more may be by one application"
                ));
            }
            Ok(())
        };
        let _busy = self.busy.read();
        refuse_more(&self.outputs.lock())?;
        let output = Output::open(&self.grants, path, parts, &self.writer);
        let output = output.map_err(|e| e.to_string())?;
        let mut outputs = self.outputs.lock();
        // The application may have ended meanwhile; then the folder goes again.
        refuse_more(&outputs)?;
        let id = outputs.next;
        outputs.next += 1;
        self.targets.write().insert(id, output.target());
        outputs.open.insert(id, (output, path.to_owned()));
        Ok(OutputId(id))
    }

    pub fn has_output(&self, id: OutputId) -> bool {
        self.outputs.lock().open.contains_key(&id.0)
    }

    /// Where an output is, and how it is written.
    pub fn output_place(&self, id: OutputId) -> Option<OutputPlace> {
        let outputs = self.outputs.lock();
        let (output, path) = outputs.open.get(&id.0)?;
        let (token, parts) = (output.token().to_string(), output.parts().clone());
        Some(OutputPlace { path: path.clone(), token, parts })
    }

    /// Takes an output that the driver opened.
    pub fn insert_output(&self, id: OutputId, target: OutputTarget) {
        self.targets.write().insert(id.0, target);
    }

    /// A task's file counts.
    pub fn accept(&self, id: OutputId, task: TaskId) {
        if let Some((output, _)) = self.outputs.lock().open.get(&id.0) {
            output.accept(task.stage.0, task.partition, task.attempt);
        }
    }

    /// The file of one attempt at a partition; none if there is no such output (any more).
    pub fn attempt(
        &self,
        id: OutputId,
        task: TaskId,
        pool: &MemoryPool,
    ) -> Option<ingle_blocks::Result<OutputFile>> {
        let target = self.targets.read().get(&id.0).cloned()?;
        Some(target.attempt(task.stage.0, task.partition, task.attempt, pool))
    }

    /// Publishes an output; none if there is no such output.
    pub fn commit_output(&self, id: OutputId) -> Option<Result<(), Refused>> {
        let _busy = self.busy.read();
        let (output, _) = self.outputs.lock().open.remove(&id.0)?;
        self.targets.write().remove(&id.0);
        Some(output.commit().map_err(|e| e.to_string()))
    }

    /// Removes an output that wasn't committed. False if there is no such output.
    pub fn drop_output(&self, id: OutputId) -> bool {
        let _busy = self.busy.read();
        let dropped = self.outputs.lock().open.remove(&id.0);
        self.targets.write().remove(&id.0);
        dropped.is_some()
    }

    /// Removes what was never committed, and opens no more. Waits for what is being committed: in the middle of that, nobody could tell
    /// what is there.
    pub fn close(&self) {
        let mut outputs = self.outputs.lock();
        outputs.closed = true;
        let unfinished = std::mem::take(&mut outputs.open);
        drop(outputs);
        drop(unfinished);
        drop(self.busy.write());
        self.grants.unship();
    }

    /// None if there are too many.
    pub fn new_cache(&self, level: StorageLevel) -> Option<CacheId> {
        let mut caches = self.caches.write();
        if caches.len() >= MAX_CACHES {
            return None;
        }
        let id = caches.len() as u32;
        caches.insert(id, (level, false));
        Some(CacheId(id))
    }

    /// Takes a cached dataset that the driver made.
    pub fn insert_cache(&self, id: CacheId, level: StorageLevel) {
        self.caches.write().insert(id.0, (level, false));
    }

    pub fn cache(&self, id: CacheId) -> Option<StorageLevel> {
        self.caches.read().get(&id.0).map(|(level, _)| *level)
    }

    /// Nothing more is kept of a cached dataset. Whether that is news; none if there is no such dataset.
    pub fn drop_cache(&self, id: CacheId) -> Option<bool> {
        let mut caches = self.caches.write();
        let (_, dropped) = caches.get_mut(&id.0)?;
        Some(!std::mem::replace(dropped, true))
    }

    pub fn is_dropped(&self, id: CacheId) -> bool {
        self.caches.read().get(&id.0).is_some_and(|(_, dropped)| *dropped)
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
