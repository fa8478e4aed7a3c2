//! An executor: slots that run tasks in the sandbox, within one memory budget.
//!
//! Each slot is a plain thread that calls its guest synchronously. What slots share is in [`Executor`]; commands come in by
//! [`ExecutorLink`], in any thread, and ends of tasks go out by [`Reports`].

mod ahead;
mod fetch;
pub mod fuzzing;
mod guest;
mod hosted;
mod images;
mod log;
mod outputs;
mod process;
mod queue;
mod readers;
mod reports;
mod slot;
#[cfg(test)]
mod tests;
mod time;
mod usage;
mod written;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ingle_blocks::{BlockStore, OutputTarget, Token};
use ingle_core::ids::{CacheId, ExecutorId, OutputId, SourceId, StageId, TaskId, WorkerId};
use ingle_core::memory::MemoryPool;
use ingle_proto::prost::Message;
use ingle_proto::v1;
use ingle_proto::v1::executor_command::Command;
use ingle_sandbox::{Capabilities, Image, Job, LogSink};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;

use crate::driver::{ExecutorLink, Opened, Reports};
use crate::protocol;
use fetch::Workers;
use images::NoImage;
use outputs::Outputs;
pub use process::run as run_process;
use queue::{GivenUp, Queue};
pub use reports::BATCH;
pub use time::TaskTime;
use time::{Excess, HOST_PATIENCE, Stuck, ThreadClock};

/// A slot's native stack: the guest's own (1 MiB) and what host calls need above it.
const SLOT_STACK: usize = 4 << 20;

/// What an executor is made of.
pub struct ExecutorOptions {
    pub id: ExecutorId,
    pub slots: u32,
    pub job: Job,
    pub pool: MemoryPool,
    pub store: BlockStore,
    pub opened: Arc<Opened>,
    pub capabilities: Capabilities,
    /// Takes what tasks print.
    pub log: Arc<dyn LogSink>,
    /// Whether an instance is kept for the next task of its stage. Off, each task is a fresh one.
    pub reuse: bool,
    pub reports: Weak<dyn Reports>,
    /// The address of the worker that it is on; empty in local mode.
    pub here: String,
    /// The way to other workers; none in local mode.
    pub workers: Option<Arc<Workers>>,
    /// How long a task may take.
    pub time: TaskTime,
    /// Bytes that a task may write to an output.
    pub output: Option<u64>,
    /// Who hears of a task that was told to stop and doesn't, and ends the process. None: another slot takes the place of its own.
    pub stuck: Option<mpsc::UnboundedSender<String>>,
}

/// What the slots of an executor share.
pub struct Executor {
    options: ExecutorOptions,
    queue: Queue,
    stages: RwLock<HashMap<StageId, Arc<Stage>>>,
    /// Stages whose tasks can't run here, and why.
    broken: RwLock<HashMap<StageId, NoImage>>,
    outputs: RwLock<HashMap<StageId, Arc<Outputs>>>,
    /// Sources of which more is to come.
    partial: Mutex<HashMap<u32, v1::SourceDescription>>,
}

/// A stage as its tasks need it.
pub struct Stage {
    pub description: v1::StageDescription,
    /// The payload, for guests to read.
    pub payload: Arc<Vec<u8>>,
    pub image: Option<Image>,
}

fn slot_thread(executor: Arc<Executor>, slot: usize) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("slot-{slot}"))
        .stack_size(SLOT_STACK)
        .spawn(move || slot::run(&executor, slot))
}

/// A running executor. Dropped, its slots end with their tasks.
pub struct Slots {
    executor: Arc<Executor>,
    threads: Vec<JoinHandle<()>>,
}

impl Slots {
    /// Starts the slots.
    pub fn start(options: ExecutorOptions) -> std::io::Result<Self> {
        let slots = options.slots;
        if options.time.processor.is_some() {
            ThreadClock::of_this_thread().map_err(|e| {
                let why = format!(
                    "ingle.task.cpuTimeout: this system doesn't tell threads' processor time: {e}"
                );
                std::io::Error::new(e.kind(), why)
            })?;
        }
        let queue = Queue::new(slots as usize, options.time);
        let executor = Arc::new(Executor {
            options,
            queue,
            stages: RwLock::default(),
            broken: RwLock::default(),
            outputs: RwLock::default(),
            partial: Mutex::default(),
        });
        let mut started = Self { executor: executor.clone(), threads: Vec::new() };
        for slot in 0..slots {
            started.threads.push(slot_thread(executor.clone(), slot as usize)?);
        }
        let watch = std::thread::Builder::new().name("watch".into());
        started.threads.push(watch.spawn(move || executor.watch())?);
        Ok(started)
    }

    /// The way to it.
    pub fn link(&self) -> Arc<dyn ExecutorLink> {
        self.executor.clone()
    }

    /// A stage's tasks can't run here: they fail with these words.
    pub fn broken(&self, stage: StageId, none: NoImage) {
        self.executor.broken.write().insert(stage, none);
    }

    /// Stops all tasks and waits for the slots to end. False if one doesn't within `grace`: a guest that runs without ever calling
    /// its host can't be stopped but with its process.
    pub fn stop(mut self, grace: Duration) -> bool {
        self.executor.queue.close();
        self.executor.options.job.interrupt();
        let deadline = Instant::now() + grace;
        while !self.threads.iter().all(JoinHandle::is_finished) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        // A slot catches what its tasks do; a thread that panicked all the same has nothing left to say.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
        true
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.executor.queue.close();
    }
}

impl ExecutorLink for Executor {
    fn send(&self, command: v1::ExecutorCommand, image: Option<Image>) {
        let Some(command) = command.command else { return };
        match command {
            Command::Describe(mut description) => {
                let id = StageId(description.stage);
                let payload = Arc::new(std::mem::take(&mut description.payload).into());
                let stage = Arc::new(Stage { description, payload, image });
                self.stages.write().insert(id, stage);
            }
            Command::Launch(launch) => {
                let tasks = launch.tasks.iter().map(protocol::task_launch);
                let sound = tasks.filter_map(|task| match task {
                    Ok(task) => Some(task),
                    Err(error) => {
                        tracing::warn!(%error, "ignored");
                        None
                    }
                });
                self.queue.push(sound);
            }
            Command::Kill(task) => match protocol::task_id(Some(task)) {
                Ok(task) => {
                    self.queue.kill(task);
                    self.options.job.interrupt();
                }
                Err(error) => tracing::warn!(%error, "ignored"),
            },
            Command::Forget(forget) => {
                let stage = StageId(forget.stage);
                self.outputs.write().remove(&stage);
                self.broken.write().remove(&stage);
                let forgotten = self.stages.write().remove(&stage);
                drop(forgotten);
                self.options.store.drop_stage(stage);
                // Slots that keep an instance of it let go.
                self.queue.wake_all();
            }
            Command::MapOutputs(message) => match v1::MapOutputs::decode(message) {
                Ok(message) => self.told_outputs(&message),
                Err(error) => tracing::warn!(%error, "ignored"),
            },
            Command::Source(message) => self.open_source(message),
            Command::Output(message) => match self.open_output(&message) {
                Ok(target) => self.options.opened.insert_output(OutputId(message.output), target),
                // Its tasks fail, and say that it isn't open.
                Err(error) => tracing::warn!("{error}"),
            },
            Command::Cache(message) => {
                let level = protocol::level(message.level());
                self.options.opened.insert_cache(CacheId(message.cache), level);
            }
            Command::DropCache(drop) => self.options.store.drop_cache(CacheId(drop.cache)),
            Command::WorkerLost(lost) => {
                if let Some(workers) = &self.options.workers {
                    workers.lost(WorkerId(lost.worker));
                }
            }
        }
    }
}

impl Executor {
    /// Stops tasks that take too long, and gives up those that don't stop, until the queue is closed.
    fn watch(self: Arc<Self>) {
        let mut last = Instant::now();
        while self.queue.wait_to_look(last) {
            last = Instant::now();
            let watched = self.queue.look(last);
            if watched.stopped {
                self.options.job.interrupt();
            }
            watched.given_up.iter().for_each(|given_up| self.give_up(given_up));
        }
    }

    /// A task has more memory than there is for it.
    fn overdrawn(&self, task: TaskId, why: &str) {
        self.queue.stop_for(task, Excess(why.to_owned()));
        self.options.job.interrupt();
    }

    /// A task doesn't stop: its slot is lost.
    fn give_up(self: &Arc<Self>, given_up: &GivenUp) {
        let GivenUp { task, stuck, excess, .. } = given_up;
        let told = if excess.is_some() { "took more than it may" } else { "was killed" };
        let (why, hint) = match stuck {
            Stuck::Silent => (
                "asks its host for nothing".to_owned(),
                "; with --conf ingle.task.interrupt=epoch tasks stop anywhere, and run slower",
            ),
            Stuck::InHost => {
                (format!("has waited for its host for {} s", HOST_PATIENCE.as_secs()), "")
            }
        };
        if let Some(stuck) = &self.options.stuck {
            // A try that is over by its own fault counts as one; of one that nobody wants nothing need be heard.
            if excess.is_some() {
                slot::given_up(self, given_up);
            }
            let _ = stuck.send(format!(
                "{task} {told} and {why}, so that only its process can be ended; another executor takes its place{hint}"
            ));
            return;
        }
        slot::given_up(self, given_up);
        tracing::warn!(
            "{task} {told} and {why}: it goes on until this process ends, and a new thread takes the place of its own{hint}"
        );
        let Some(slot) = self.queue.add_slot() else { return };
        // It ends with the executor's queue, as all do.
        if let Err(error) = slot_thread(self.clone(), slot) {
            tracing::warn!("starting a thread: {error}");
        }
    }

    fn open_output(&self, message: &v1::OutputDescription) -> Result<OutputTarget, String> {
        let v1::OutputDescription { path, token, .. } = message;
        let parts = protocol::parts(message)?;
        let token = Token::parse(token);
        let token = token.ok_or_else(|| format!("{:?} is no token of an output", message.token))?;
        let opened = OutputTarget::open(self.options.opened.grants(), path, &parts, &token);
        opened.map_err(|error| error.to_string())
    }

    fn stage(&self, id: StageId) -> Option<Arc<Stage>> {
        self.stages.read().get(&id).cloned()
    }

    /// Why a stage that isn't known isn't.
    fn why_unknown(&self, id: StageId) -> NoImage {
        let broken = self.broken.read().get(&id).cloned();
        let unknown = || "its stage was never described to this executor".to_owned().into();
        broken.unwrap_or_else(unknown)
    }

    fn outputs(&self, id: StageId) -> Option<Arc<Outputs>> {
        self.outputs.read().get(&id).cloned()
    }

    fn told_outputs(&self, message: &v1::MapOutputs) {
        let stage = StageId(message.stage);
        let (here, ways) = (&self.options.here, self.options.workers.as_ref());
        let before = self.outputs(stage);
        match Outputs::told(message, before.as_deref(), here, ways) {
            Some(outputs) => drop(self.outputs.write().insert(stage, Arc::new(outputs))),
            None => tracing::warn!("ignored what makes no sense of the outputs of {stage}"),
        }
    }

    fn open_source(&self, message: v1::SourceDescription) {
        let before = self.partial.lock().remove(&message.source);
        let message = protocol::joined(before, message);
        if message.more {
            self.partial.lock().insert(message.source, message);
            return;
        }
        let (id, opened) = (SourceId(message.source), &self.options.opened);
        message.published.iter().for_each(|path| opened.grants().publish(path.as_ref()));
        let inserted = protocol::source(message)
            .and_then(|source| opened.insert_source(id, source).map_err(|e| e.to_string()));
        if let Err(why) = inserted {
            // Its tasks fail, and say that it isn't there.
            tracing::warn!("{id}: {why}");
        }
    }

    /// What a task may hold: an even share of what images leave, and no more than a 32-bit memory.
    fn share(&self) -> u64 {
        let images = self.options.pool.usage().of(ingle_core::memory::MemoryUse::Image);
        let free = self.options.pool.capacity().0.saturating_sub(images);
        (free / u64::from(self.options.slots.max(1))).min(4 << 30)
    }
}
