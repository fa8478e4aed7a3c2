//! What the guest's driver is answered: `ingle:job/driver`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ingle_blocks::{FileCompression, Framing, Parts, StorageLevel};
use ingle_core::ids::{ImageId, JobId, OutputId, StageId};
use ingle_core::memory::{MemoryPool, MemoryUse, Reservation};
use ingle_sandbox::Image;
use ingle_sandbox::host::{self, AccumulatorUpdate, Answer, DriverHost, Fallible, Stop};

use parking_lot::{Condvar, Mutex};

use super::application::Application;
use super::results::Ready;

/// Answers one driver.
pub struct Driver {
    pub application: Arc<Application>,
    /// `--conf` and the properties file.
    pub settings: BTreeMap<String, String>,
    /// The executors' memory, which holds images.
    pub executor_pool: MemoryPool,
    /// Slots of all executors.
    pub parallelism: Arc<Parallelism>,
    /// What the results of the last call are charged, until the guest has copied them: until its next call.
    pub lent: Vec<Reservation>,
}

/// How many tasks run at a time, once that is known.
#[derive(Default)]
pub struct Parallelism {
    slots: Mutex<u32>,
    changed: Condvar,
}

impl Parallelism {
    /// A number that is known from the start.
    pub fn of(slots: u32) -> Self {
        Self { slots: Mutex::new(slots), changed: Condvar::new() }
    }

    /// There are so many now.
    pub fn set(&self, slots: u32) {
        *self.slots.lock() = slots;
        self.changed.notify_all();
    }
}

/// How often a driver that waits for executors looks whether it may go on.
const LOOK: Duration = Duration::from_millis(50);

fn misuse(text: impl Into<String>) -> Stop {
    Stop::Misuse(text.into())
}

impl Driver {
    /// Slots of all executors; waits until there are any.
    fn slots(&self) -> Answer<u32> {
        let mut slots = self.parallelism.slots.lock();
        while *slots == 0 {
            self.application.check_alive()?;
            self.parallelism.changed.wait_for(&mut slots, LOOK);
        }
        Ok(*slots)
    }

    /// A result in the host's memory, charged.
    fn load(&mut self, ready: Ready) -> Result<host::TaskResult, String> {
        let value = match ready.result {
            None => Vec::new(),
            Some(result) => {
                let stored = result.load().map_err(|e| e.to_string())?;
                let charge = self.executor_pool.reserve(MemoryUse::Shuffle, stored.len() as u64);
                self.lent.push(charge.map_err(|e| e.to_string())?);
                stored.to_vec()
            }
        };
        let mut updates = Vec::new();
        for of_task in ready.updates {
            let list = of_task.list.into_iter();
            updates
                .extend(list.map(|(accumulator, value)| AccumulatorUpdate { accumulator, value }));
            self.lent.extend(of_task.charge);
        }
        Ok(host::TaskResult { partition: ready.partition, value, updates })
    }
}

impl DriverHost for Driver {
    fn open_source(&mut self, spec: host::SourceSpec) -> Fallible<host::Source> {
        self.application.check_alive()?;
        let framing = match spec.framing {
            host::Framing::Lines => Framing::Lines,
            host::Framing::LinesWithHeader => Framing::LinesWithHeader,
            host::Framing::WholeFiles => Framing::WholeFiles,
            host::Framing::Ranges => Framing::Ranges,
        };
        let parallelism = self.slots()?;
        let opened = self.application.opened();
        let opened = opened.open_source(&spec.path, framing, spec.min_splits, parallelism);
        Ok(opened.map(|(id, source)| host::Source {
            id: id.0,
            splits: source.splits(),
            bytes: source.bytes(),
        }))
    }

    fn open_output(&mut self, spec: host::OutputSpec) -> Fallible<u32> {
        self.application.check_alive()?;
        let compression = match spec.compression {
            host::Compression::None => FileCompression::None,
            host::Compression::Gzip => FileCompression::Gzip,
            host::Compression::Zstd => FileCompression::Zstd,
        };
        let parts = match Parts::new(&spec.extension, compression) {
            Ok(parts) => parts,
            Err(error) => return Ok(Err(error.to_string())),
        };
        Ok(self.application.opened().open_output(&spec.path, &parts).map(|id| id.0))
    }

    fn commit_output(&mut self, output: u32) -> Fallible<()> {
        self.application.check_alive()?;
        let committed = self.application.opened().commit_output(OutputId(output));
        committed.ok_or_else(|| misuse(format!("output {output}, which isn't open")))
    }

    fn drop_output(&mut self, output: u32) -> Answer<()> {
        self.application.check_alive()?;
        if self.application.opened().drop_output(OutputId(output)) {
            return Ok(());
        }
        Err(misuse(format!("output {output}, which isn't open")))
    }

    fn new_cache(&mut self, level: host::StorageLevel) -> Answer<u32> {
        self.application.check_alive()?;
        let level = match level {
            host::StorageLevel::MemoryOnly => StorageLevel::MemoryOnly,
            host::StorageLevel::MemoryAndDisk => StorageLevel::MemoryAndDisk,
            host::StorageLevel::DiskOnly => StorageLevel::DiskOnly,
        };
        let cache = self.application.opened().new_cache(level);
        cache.map(|id| id.0).ok_or_else(|| misuse("more cached datasets than are allowed"))
    }

    fn drop_cache(&mut self, cache: u32) -> Answer<()> {
        self.application.check_alive()?;
        self.application.drop_cache(ingle_core::ids::CacheId(cache))
    }

    fn define_stage(&mut self, spec: host::StageSpec) -> Fallible<u32> {
        self.application.check_alive()?;
        Ok(self.application.define_stage(spec)?.map(|id| id.0))
    }

    fn drop_stage(&mut self, stage: u32) -> Answer<()> {
        self.application.check_alive()?;
        self.application.drop_stage(StageId(stage))
    }

    fn run(&mut self, stage: u32) -> Fallible<u32> {
        self.application.check_alive()?;
        Ok(self.application.run(StageId(stage)).map(|id| id.0))
    }

    fn next(&mut self, job: u32) -> Fallible<Vec<host::TaskResult>> {
        self.lent.clear();
        let batch = match self.application.next(JobId(job))? {
            Ok(batch) => batch,
            Err(text) => return Ok(Err(text)),
        };
        let loaded: Result<Vec<_>, String> =
            batch.into_iter().map(|ready| self.load(ready)).collect();
        if loaded.is_err() {
            // The guest takes an error for the job's end.
            self.application.cancel_job(JobId(job))?;
        }
        let hint = "write them to files with save_as_text_file, or raise --executor-memory";
        Ok(loaded.map_err(|e| {
            format!("job {job}: its results can't be handed to the driver: {e}; {hint}")
        }))
    }

    fn cancel(&mut self, job: u32) -> Answer<()> {
        self.application.check_alive()?;
        self.application.cancel_job(JobId(job))
    }

    fn setting(&mut self, key: &str) -> Answer<Option<String>> {
        self.application.check_alive()?;
        Ok(self.settings.get(key).cloned())
    }

    fn default_parallelism(&mut self) -> Answer<u32> {
        self.slots()
    }

    fn image_pool(&self) -> MemoryPool {
        self.executor_pool.clone()
    }

    fn keep_image(&mut self, image: Image) -> Answer<u32> {
        self.application.check_alive()?;
        let kept = self.application.opened().keep_image(image);
        kept.map(|id| id.0).ok_or_else(|| misuse("more images held at once than are allowed"))
    }

    fn release_image(&mut self, image: u32) -> Answer<()> {
        self.application.check_alive()?;
        if self.application.opened().release_image(ImageId(image)) {
            return Ok(());
        }
        Err(misuse(format!("image {image}, which was never captured, or released before")))
    }
}
