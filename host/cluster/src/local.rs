//! Local mode: a driver and one executor in this process, on the same scheduler, protocol, sandbox and stores as a cluster.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ingle_blocks::{BlockStore, Disk, Grants, SpillFolder, usual_disk};
use ingle_core::ids::{ExecutorId, JobId, WorkerId};
use ingle_core::memory::MemoryPool;
use ingle_core::scheduler::{Policy, StageProgress};
use ingle_core::size::ByteSize;
use ingle_proto::v1;
use ingle_sandbox::{Capabilities, Finished, GuestFailure, Job, LogSink, Stream};

use crate::driver::{
    Application, Counts, Driver, LargestTask, Note, Opened, Parallelism, PeakMemory, Reports,
};
use crate::executor::{ExecutorOptions, Slots, TaskTime};
use crate::protocol;

/// The one executor of local mode.
const EXECUTOR: ExecutorId = ExecutorId(0);

/// What a local application is given.
pub struct LocalOptions {
    /// Task slots: how many tasks run at the same time.
    pub slots: u32,
    /// The executor's budget: guests of tasks, images of the driver, shuffled and cached blocks.
    pub executor_memory: ByteSize,
    /// The driver's budget: its guest.
    pub driver_memory: ByteSize,
    /// How often a partition is tried before its job fails.
    pub max_attempts: u32,
    /// Whether a task's instance is kept for the next task of its stage.
    pub reuse: bool,
    /// How long a try of a task may take.
    pub time: TaskTime,
    /// What may be stored; none: nearly all that is free.
    pub disk: Option<ByteSize>,
    /// What a task may write to an output.
    pub output: Option<ByteSize>,
    /// What the driver reads by `ctx.setting`.
    pub settings: BTreeMap<String, String>,
    /// How shuffle output is compressed.
    pub compression: v1::Compression,
    /// For shuffle output and spilled blocks.
    pub spill: Arc<SpillFolder>,
    /// What the job may read and write through its host.
    pub grants: Arc<Grants>,
    /// What it gets of WASI, in both roles.
    pub capabilities: Capabilities,
    /// Takes what the driver prints.
    pub driver_log: Arc<dyn LogSink>,
    /// Takes what tasks print, line by line.
    pub task_log: Arc<dyn LogSink>,
    /// Hears what happens, on any thread.
    pub notes: Box<dyn Fn(&Note) + Send + Sync>,
}

/// What an application did and took.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Tasks that succeeded.
    pub tasks: u64,
    /// Tries that failed.
    pub failed: u64,
    /// From files, before decompression.
    pub bytes_read: u64,
    /// Shuffle output of committed tasks.
    pub bytes_shuffled: u64,
    /// Blocks that went to disk, of any kind.
    pub bytes_spilled: u64,
    /// The most that was charged to one executor's memory at once; none if there never was one.
    pub peak: Option<PeakMemory>,
    /// The task whose guest took most.
    pub largest: Option<LargestTask>,
}

/// A local application, ready to run its driver.
pub struct Local {
    job: Job,
    capabilities: Capabilities,
    driver_log: Arc<dyn LogSink>,
    driver: Driver,
    driver_pool: MemoryPool,
    slots: Slots,
    remote: Remote,
}

/// A handle on an application for other threads.
#[derive(Clone)]
pub struct Remote {
    application: Arc<Application>,
    /// Of the executor, if that is in this process.
    executor_pool: Option<MemoryPool>,
    store: BlockStore,
}

impl Local {
    /// Starts the executor.
    pub fn start(job: Job, options: LocalOptions) -> Result<Self, StartError> {
        let executor_pool = MemoryPool::new(options.executor_memory);
        let driver_pool = MemoryPool::new(options.driver_memory);
        let usual = usual_disk(options.spill.path());
        let bound = options.disk.map_or(usual, |disk| disk.0);
        let advice = "raise ingle.executor.disk, or choose another folder with ingle.local.dir";
        let disk = Disk::new(options.spill.path(), bound, advice);
        let store = BlockStore::in_folder(executor_pool.clone(), options.spill)?
            .charging(&disk)
            .compressed(protocol::shuffle_compression(options.compression));
        let opened = Arc::new(Opened::new(options.grants, driver_pool.clone()));
        // What no other executor does better, such as to write to a full disk, is tried no oftener than what a task does wrong.
        let max_attempts = options.max_attempts;
        // There never is another executor whose tasks could be elsewhere.
        let policy = Policy {
            max_attempts,
            max_interruptions: max_attempts,
            locality_wait: Duration::ZERO,
            ..Policy::default()
        };
        let application =
            Arc::new(Application::new(policy, opened.clone(), driver_pool.clone(), options.notes));
        let reports: Weak<dyn Reports> = Arc::downgrade(&application) as Weak<dyn Reports>;
        let slots = Slots::start(ExecutorOptions {
            id: EXECUTOR,
            slots: options.slots,
            job: job.clone(),
            pool: executor_pool.clone(),
            store: store.clone(),
            opened,
            capabilities: options.capabilities.clone(),
            log: options.task_log,
            reuse: options.reuse,
            reports,
            here: String::new(),
            workers: None,
            time: options.time,
            output: options.output.map(|output| output.0),
            stuck: None,
        })
        .map_err(StartError::Threads)?;
        application.add_executor(EXECUTOR, options.slots, WorkerId(0), "", slots.link());
        let driver = Driver {
            application: application.clone(),
            settings: options.settings,
            executor_pool: executor_pool.clone(),
            parallelism: Arc::new(Parallelism::of(options.slots)),
            lent: Vec::new(),
        };
        Ok(Self {
            job,
            capabilities: options.capabilities,
            driver_log: options.driver_log,
            driver,
            driver_pool,
            slots,
            remote: Remote { application, executor_pool: Some(executor_pool), store },
        })
    }

    /// A handle for other threads.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Runs the driver to its end, on this thread, which needs 4 MiB of stack. Then stops the executor and removes outputs that
    /// were not committed. Tasks that don't stop within `grace` are left to the end of the process.
    pub fn drive(self, grace: Duration) -> Result<Finished, GuestFailure> {
        let Self { job, capabilities, driver_log, driver, driver_pool, slots, remote } = self;
        let alive = remote.application.clone();
        let log: Arc<dyn LogSink> =
            Arc::new(UntilCancelled { log: driver_log, application: alive });
        let ended = job.drive(Box::new(driver), &driver_pool, &capabilities, &log);
        remote.application.cancel();
        if !slots.stop(grace) {
            tracing::warn!("a task runs on without calling its host; it ends with this process");
        }
        remote.close();
        ended
    }
}

/// What the driver prints, as long as it may go on: printing is a call of the host, too.
pub struct UntilCancelled {
    pub log: Arc<dyn LogSink>,
    pub application: Arc<Application>,
}

impl LogSink for UntilCancelled {
    fn write(&self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        self.application.check_alive().map_err(io::Error::other)?;
        self.log.write(stream, bytes)
    }
}

impl Remote {
    /// Of an application whose executors are elsewhere; `results` is the driver's own store.
    pub(crate) fn of_cluster(application: Arc<Application>, results: BlockStore) -> Self {
        Self { application, executor_pool: None, store: results }
    }

    pub(crate) fn application(&self) -> &Arc<Application> {
        &self.application
    }

    /// Ends the application: the driver stops at its next call, tasks stop at theirs.
    pub fn cancel(&self) {
        self.application.cancel();
    }

    /// Removes what the process would leave behind, though guests may still run: outputs that were not committed, and spilled
    /// blocks. Nothing can be done with the application after that.
    pub fn close(&self) {
        self.application.opened().close();
        self.store.remove_spilled();
    }

    /// The stages that run, or wait for those that do, action by action.
    pub fn progress(&self) -> Vec<(JobId, StageProgress)> {
        self.application.progress()
    }

    /// What was done so far.
    pub fn totals(&self) -> Totals {
        let here = self.executor_pool.as_ref().map(|pool| PeakMemory {
            executor: EXECUTOR,
            executors: 1,
            usage: pool.charged().at_peak,
        });
        self.application.metrics(|metrics| {
            let Counts { tasks, failed, bytes_read, bytes_shuffled } = metrics.counts;
            Totals {
                tasks,
                failed,
                bytes_read,
                bytes_shuffled,
                bytes_spilled: self.store.stats().spilled.saturating_add(metrics.bytes_spilled()),
                peak: here.or_else(|| metrics.peak()),
                largest: metrics.largest().cloned(),
            }
        })
    }
}

/// Why a local application doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No folder for spilled blocks.
    #[error("{0}; choose another folder with --conf ingle.local.dir=DIR")]
    Store(#[from] ingle_blocks::Error),
    /// No threads.
    #[error("starting the task slots: {0}")]
    Threads(std::io::Error),
    /// What a cluster needs can't be had.
    #[error("{0}")]
    Cluster(String),
}
