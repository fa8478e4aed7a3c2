//! The application: the scheduler, what stands behind its ids, and the carrying out of its actions.
//!
//! Called from the driver's thread and from those that report tasks' ends, under one lock. Nothing waits under it but for executors
//! to take commands: in local mode, one that forgets a stage removes what was spilled of it. The scheduler decides, this room
//! translates.

mod metrics;
mod telling;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ingle_blocks::TaskResult;
use ingle_core::ids::{CacheId, ExecutorId, ImageId, JobId, OutputId, StageId, TaskId, WorkerId};
use ingle_core::memory::MemoryPool;
use ingle_core::scheduler::{Action, Event, Policy, Scheduler, StageProgress};
use ingle_proto::v1;
use ingle_proto::v1::executor_command::{Command, DropCache, WorkerLost};
use ingle_sandbox::Image;
use ingle_sandbox::host::{Output, StageSpec, Stop};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::opened::Opened;
use super::results::{Made, Over, Queue, Ready, Updates};
use super::stages::{self, Problem, Stage};
use super::tables::Tables;
use super::{ExecutorLink, Note, Reports};
use crate::protocol::{self, Home};
use metrics::Metrics;
pub use metrics::{Counts, LargestTask, PeakMemory, StageTook};

/// Jobs whose results the driver hasn't taken.
const MAX_QUEUES: usize = 4096;
/// How long the driver waits for more results once there is one, so that many small ones don't wake it one by one.
const LINGER: Duration = Duration::from_millis(1);

/// One driver's application.
pub struct Application {
    opened: Arc<Opened>,
    driver_pool: MemoryPool,
    started: Instant,
    cancelled: AtomicBool,
    notes: Box<dyn Fn(&Note) + Send + Sync>,
    core: Mutex<Core>,
    changed: Condvar,
}

struct Core {
    opened: Arc<Opened>,
    scheduler: Scheduler,
    executors: BTreeMap<ExecutorId, Executor>,
    /// Where what an executor made is: of all that there ever were.
    homes: BTreeMap<ExecutorId, Home>,
    stages: HashMap<StageId, Stage>,
    tables: Tables,
    /// Stages that are to be forgotten, of which there may be output on a worker without executors.
    left: BTreeMap<WorkerId, BTreeSet<StageId>>,
    jobs: HashMap<JobId, Queue>,
    /// What the tasks made whose ends are being handled: accepted at once, or never.
    made: VecDeque<(TaskId, Made)>,
    /// Results that nobody takes, to be dropped when the lock is free.
    unwanted: Vec<TaskResult>,
    /// Tasks of shuffle stages whose changes to accumulators were counted: a partition that is computed again makes none.
    counted: HashSet<(StageId, u32)>,
    /// Changes to accumulators by accepted tasks of jobs that ended before the driver took them: they go with the next job.
    updates_of_ended: Vec<Updates>,
    next_stage: u32,
    next_job: u32,
    /// Whether the driver waits for results.
    waiting: bool,
    metrics: Metrics,
    /// Reused for each event.
    actions: Vec<Action>,
    notes: Vec<Note>,
}

struct Executor {
    link: Arc<dyn ExecutorLink>,
    worker: WorkerId,
    /// Stages that it was told of.
    described: HashSet<StageId>,
    /// Of a shuffle's outputs, what it was told last: the scheduler's number of that state.
    outputs: HashMap<StageId, u64>,
    /// What else it was told of, if it is elsewhere.
    told: HashSet<Told>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Told {
    Source(u32),
    Output(u32),
    Cache(u32),
}

impl Application {
    /// An application without executors. `notes` is called from any thread.
    pub fn new(
        policy: Policy,
        opened: Arc<Opened>,
        driver_pool: MemoryPool,
        notes: Box<dyn Fn(&Note) + Send + Sync>,
    ) -> Self {
        let core = Core {
            opened: opened.clone(),
            scheduler: Scheduler::new(policy),
            executors: BTreeMap::new(),
            stages: HashMap::new(),
            tables: Tables::default(),
            left: BTreeMap::new(),
            jobs: HashMap::new(),
            made: VecDeque::new(),
            homes: BTreeMap::new(),
            unwanted: Vec::new(),
            counted: HashSet::new(),
            updates_of_ended: Vec::new(),
            next_stage: 0,
            next_job: 0,
            waiting: false,
            metrics: Metrics::default(),
            actions: Vec::new(),
            notes: Vec::new(),
        };
        Self {
            opened,
            driver_pool,
            started: Instant::now(),
            cancelled: AtomicBool::new(false),
            notes,
            core: Mutex::new(core),
            changed: Condvar::new(),
        }
    }

    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Looks at what was done and taken so far.
    pub fn metrics<R>(&self, look: impl FnOnce(&Metrics) -> R) -> R {
        look(&self.core.lock().metrics)
    }

    /// An executor says what it takes.
    pub fn used(&self, executor: ExecutorId, used: &v1::ExecutorUse) {
        self.core.lock().metrics.used(executor, used);
    }

    /// An image that a stage starts from.
    pub fn image(&self, id: ImageId) -> Option<Image> {
        let core = self.core.lock();
        let found = core.stages.values().find(|stage| stage.description.image == Some(id.0));
        found.and_then(|stage| stage.image.clone())
    }

    /// An executor is gone; what it stored is its worker's and stays.
    pub fn executor_lost(&self, executor: ExecutorId, reason: &str) {
        let mut core = self.core.lock();
        // At the end all of them go, which is no news.
        let is_news = !self.cancelled.load(Ordering::Relaxed);
        if core.executors.remove(&executor).is_some() && is_news {
            core.notes.push(Note::Cluster(format!("{executor} is gone: {reason}")));
        }
        let reason = reason.to_owned();
        self.handle(core, Event::ExecutorLost { executor, reason, outputs_lost: false });
    }

    /// Why an executor ended, of which it was only known that it is gone.
    pub fn executor_ended(&self, executor: ExecutorId, reason: &str) {
        if !self.cancelled.load(Ordering::Relaxed) {
            (self.notes)(&Note::Cluster(format!("{executor} ended: {reason}")));
        }
    }

    /// An executor can't do its work, and ends. Its log may be on the disk that is full, so it is said here.
    pub fn executor_broken(&self, executor: ExecutorId, reason: &str) {
        if !self.cancelled.load(Ordering::Relaxed) {
            (self.notes)(&Note::Cluster(format!("{executor} can't work: {reason}")));
        }
    }

    /// Lets time pass, if the scheduler waits for that.
    pub fn tick(&self) {
        let core = self.core.lock();
        if core.scheduler.next_tick().is_some_and(|at| at <= self.started.elapsed()) {
            self.handle(core, Event::Tick);
        }
    }

    /// The workers that this application wants nothing from, for now.
    pub fn excluded_workers(&self) -> Vec<WorkerId> {
        self.core.lock().scheduler.excluded_workers().collect()
    }

    /// Tasks that run or could, and the executors that take tasks, each with whether it is idle.
    pub fn load(&self) -> (u64, Vec<(ExecutorId, bool)>) {
        let core = self.core.lock();
        let takes = core.executors.keys().filter(|id| !core.scheduler.is_draining(**id));
        let idle = |id: &ExecutorId| (*id, core.scheduler.is_idle(*id));
        (core.scheduler.backlog(), takes.map(idle).collect())
    }

    /// Executors that get no more tasks, and have none.
    pub fn drained(&self) -> Vec<ExecutorId> {
        self.core.lock().scheduler.drained().collect()
    }

    /// The executors on a worker, and those that come there, get no new tasks.
    pub fn drain_worker(&self, worker: WorkerId) {
        let mut core = self.core.lock();
        // A driver that comes back to its master is told again.
        if !core.scheduler.is_worker_draining(worker) {
            let text = format!("{worker} gets no more tasks: it is decommissioned, or is to end");
            core.notes.push(Note::Cluster(text));
        }
        self.handle(core, Event::WorkerDraining { worker });
    }

    /// A machine is gone, with all that was stored there.
    pub fn worker_lost(&self, worker: WorkerId, reason: &str) {
        let mut core = self.core.lock();
        core.notes.push(Note::Cluster(format!("{worker} is lost: {reason}")));
        // Before they are told of what is made again: whoever reads from it would find out late, or never, by itself.
        for executor in core.executors.values() {
            let command = Command::WorkerLost(WorkerLost { worker: worker.0 });
            executor.link.send(protocol::command(command), None);
        }
        core.forget_left(worker);
        self.handle(core, Event::WorkerLost { worker, reason: reason.to_owned() });
    }

    /// The stages that run, or wait for those that do, job by job.
    pub fn progress(&self) -> Vec<(JobId, StageProgress)> {
        let core = self.core.lock();
        let mut jobs: Vec<_> =
            core.jobs.iter().filter(|(_, q)| q.over.is_none()).map(|(id, _)| *id).collect();
        jobs.sort_unstable();
        let progress =
            |job| core.scheduler.progress(job).into_iter().map(move |stage| (job, stage));
        jobs.into_iter().flat_map(progress).collect()
    }

    /// Gives the application an executor.
    pub fn add_executor(
        &self,
        executor: ExecutorId,
        slots: u32,
        worker: WorkerId,
        worker_address: &str,
        link: Arc<dyn ExecutorLink>,
    ) {
        let mut core = self.core.lock();
        let new = Executor {
            link,
            worker,
            described: HashSet::new(),
            outputs: HashMap::new(),
            told: HashSet::new(),
        };
        core.executors.insert(executor, new);
        core.homes.insert(executor, Home { worker, address: worker_address.to_owned() });
        core.remove_left(executor, worker);
        self.handle(core, Event::ExecutorAdded { executor, slots, worker });
    }

    /// Whether an executor is ready.
    pub fn has_executor(&self, executor: ExecutorId) -> bool {
        self.core.lock().executors.contains_key(&executor)
    }

    /// Ends everything: the driver's next call stops it, tasks stop at theirs.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        let jobs: Vec<_> = self.core.lock().jobs.keys().copied().collect();
        for job in jobs {
            self.handle(self.core.lock(), Event::JobCancelled { job });
        }
        self.changed.notify_all();
    }

    /// Whether the driver may go on.
    pub fn check_alive(&self) -> Result<(), Stop> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Stop::Cancelled) } else { Ok(()) }
    }

    /// Defines a stage. The inner error is for the driver to handle.
    pub fn define_stage(&self, spec: StageSpec) -> Result<Result<StageId, String>, Stop> {
        let mut core = self.core.lock();
        let id = StageId(core.next_stage);
        let (mut stage, spec) =
            match stages::define(spec, &self.opened, &core.stages, &self.driver_pool) {
                Ok(defined) => defined,
                Err(Problem::Misuse(stop)) => return Err(stop),
                Err(Problem::Refused(text)) => return Ok(Err(text)),
            };
        if let Err(refusal) = core.scheduler.check_stage(id, &spec) {
            return Ok(Err(refusal.to_string()));
        }
        stage.description.stage = id.0;
        core.next_stage += 1;
        core.stages.insert(id, stage);
        self.handle(core, Event::StageDefined { stage: id, spec });
        Ok(Ok(id))
    }

    /// Frees what a stage holds, as soon as nobody needs it. Unknown stages trap.
    pub fn drop_stage(&self, stage: StageId) -> Result<(), Stop> {
        let core = self.core.lock();
        if stage.0 >= core.next_stage {
            return Err(Stop::Misuse(format!("{stage}, which was never defined")));
        }
        self.handle(core, Event::StageDropped { stage });
        Ok(())
    }

    /// Frees a cached dataset's partitions wherever they are. Unknown caches trap.
    pub fn drop_cache(&self, cache: CacheId) -> Result<(), Stop> {
        match self.opened.drop_cache(cache) {
            None => return Err(Stop::Misuse(format!("{cache}, which was never made"))),
            // Executors were told, and need be told once only.
            Some(false) => return Ok(()),
            Some(true) => {}
        }
        let core = self.core.lock();
        for executor in core.executors.values() {
            let command = Command::DropCache(DropCache { cache: cache.0 });
            executor.link.send(protocol::command(command), None);
        }
        self.handle(core, Event::CacheDropped { cache });
        Ok(())
    }

    /// Submits a job for a stage's results. The error is for the driver to handle.
    pub fn run(&self, stage: StageId) -> Result<JobId, String> {
        let mut core = self.core.lock();
        let job = JobId(core.next_job);
        core.scheduler.check_job(job, stage).map_err(|refusal| refusal.to_string())?;
        if core.jobs.len() >= MAX_QUEUES {
            return Err(format!(
                "{MAX_QUEUES} jobs have results that nobody took: take or cancel them"
            ));
        }
        core.next_job += 1;
        let updates = std::mem::take(&mut core.updates_of_ended);
        core.jobs.insert(job, Queue::with_updates(updates));
        self.handle(core, Event::JobSubmitted { job, stage });
        Ok(job)
    }

    /// Gives a job up. Unknown jobs trap; ones that are over are over.
    pub fn cancel_job(&self, job: JobId) -> Result<(), Stop> {
        let mut core = self.core.lock();
        if job.0 >= core.next_job {
            return Err(Stop::Misuse(format!("{job}, which was never submitted")));
        }
        core.remove_job(job);
        self.handle(core, Event::JobCancelled { job });
        Ok(())
    }

    /// Waits for results of a job. None of them: it is done. The inner error is its failure.
    pub fn next(&self, job: JobId) -> Result<Result<Vec<Ready>, String>, Stop> {
        let mut core = self.core.lock();
        let mut lingered = false;
        loop {
            self.check_alive()?;
            let Some(queue) = core.jobs.get_mut(&job) else {
                return Err(Stop::Misuse(format!("{job}, which isn't running")));
            };
            let take = queue.over.is_some() || queue.is_full() || (lingered && !queue.is_empty());
            if take {
                if let Some(Over::Failed(text)) = &queue.over {
                    let text = text.clone();
                    core.remove_job(job);
                    return Ok(Err(text));
                }
                let batch = queue.take_batch();
                if batch.is_empty() {
                    core.remove_job(job);
                }
                return Ok(Ok(batch));
            }
            lingered = !queue.is_empty();
            core.waiting = true;
            if lingered {
                self.changed.wait_for(&mut core, LINGER);
            } else {
                self.changed.wait(&mut core);
            }
            core.waiting = false;
        }
    }

    /// Whether a call of [`Application::next`] would wait.
    pub fn waits(&self, job: JobId) -> bool {
        self.core.lock().jobs.get(&job).is_some_and(|queue| queue.over.is_none())
    }

    /// Feeds the scheduler an event and carries out what it asks for.
    fn handle(&self, mut core: MutexGuard<'_, Core>, event: Event) {
        let mut actions = std::mem::take(&mut core.actions);
        core.scheduler.handle(self.started.elapsed(), event, &mut actions);
        let mut wake = false;
        for action in actions.drain(..) {
            wake |= core.act(action);
        }
        // What was neither accepted nor discarded came of a task that failed, or that ended twice.
        let left = std::mem::take(&mut core.made);
        core.unwanted.extend(left.into_iter().filter_map(|(_, made)| made.result));
        core.actions = actions;
        wake &= core.waiting;
        let notes = std::mem::take(&mut core.notes);
        let unwanted = std::mem::take(&mut core.unwanted);
        drop(core);
        // Only now: it may remove files.
        drop(unwanted);
        if wake {
            self.changed.notify_all();
        }
        notes.iter().for_each(|note| (self.notes)(note));
    }
}

impl Reports for Application {
    fn ended(&self, executor: ExecutorId, reports: Vec<(v1::TaskEnd, Made)>) {
        let mut ended = Vec::with_capacity(reports.len());
        let mut core = self.core.lock();
        for (end, made) in reports {
            let took = end.metrics.unwrap_or_default();
            let end = match protocol::task_end(end) {
                Ok(end) => end,
                Err(error) => {
                    // Without a task's name there is nothing to be done about it.
                    tracing::warn!(%executor, %error, "ignored");
                    continue;
                }
            };
            let Core { metrics, stages, .. } = &mut *core;
            let name = stages.get(&end.task.stage).map(|stage| stage.name.as_str());
            metrics.ended(end.task, &end.outcome, &took, name);
            core.made.push_back((end.task, made));
            ended.push(end);
        }
        self.handle(core, Event::TasksEnded { executor, ended });
    }
}

impl Core {
    /// Carries out one action. True if the driver may want to look.
    fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Launch { executor, tasks } => {
                let mut before = None;
                for launch in &tasks {
                    let stage = launch.task.stage;
                    if before != Some(stage) {
                        self.describe(executor, stage);
                        before = Some(stage);
                    }
                }
                let Some(to) = self.executors.get(&executor) else { return false };
                to.link.send(protocol::launch_command(&tasks), None);
            }
            Action::Kill { executor, task } => {
                if let Some(to) = self.executors.get(&executor) {
                    to.link
                        .send(protocol::command(Command::Kill(protocol::task_message(task))), None);
                }
            }
            Action::Accept { job, task, .. } => return self.accept(job, task),
            // What it made is unwanted, as all that isn't accepted.
            Action::Discard { .. } => {}
            Action::DropOutput { stage } => self.forget_at_executors(stage),
            Action::StageForgotten { stage } => {
                self.forget_at_executors(stage);
                self.stages.remove(&stage);
                self.counted.retain(|(of, _)| *of != stage);
                self.metrics.take(stage);
            }
            Action::StageStarted { job, stage, tasks } => {
                if let Some(Stage { name, operators, .. }) = self.stages.get(&stage) {
                    let (name, operators) = (name.clone(), operators.clone());
                    self.notes.push(Note::StageStarted { job, stage, name, operators, tasks });
                }
            }
            Action::StageFinished { job, stage, elapsed } => {
                let name = self.name(stage);
                let took = self.metrics.take(stage);
                self.notes.push(Note::StageFinished { job, stage, name, elapsed, took });
            }
            Action::TaskRetried { task, executor, failure } => {
                let (name, message) = (self.name(task.stage), failure.message);
                self.notes.push(Note::TaskRetried { task, name, executor, message });
            }
            Action::Excluded { what, reason, .. } => {
                self.notes.push(Note::Cluster(format!("{what} gets no more tasks: {reason}")));
            }
            Action::Included { what } => {
                self.notes.push(Note::Cluster(format!("{what} gets tasks again")));
            }
            Action::JobFinished { job, .. } => return self.end(job, Over::Finished),
            Action::JobFailed { failure } => {
                return self.end(failure.job, Over::Failed(failure.to_string()));
            }
            // Asked before, under the same lock.
            Action::Refused(refusal) => {
                tracing::error!(%refusal, "the scheduler refused what it had allowed")
            }
        }
        false
    }

    /// Forgets a job that is over or given up, but for changes to accumulators that were accepted.
    fn remove_job(&mut self, job: JobId) {
        if let Some(queue) = self.jobs.remove(&job) {
            let (results, updates) = queue.into_left();
            self.unwanted.extend(results);
            self.updates_of_ended.extend(updates);
        }
    }

    fn name(&self, stage: StageId) -> String {
        self.stages.get(&stage).map(|s| s.name.clone()).unwrap_or_default()
    }

    fn end(&mut self, job: JobId, over: Over) -> bool {
        // The driver may have given it up.
        if let Some(queue) = self.jobs.get_mut(&job) {
            queue.over = Some(over);
        }
        true
    }

    /// Hands what a task made to the driver. True if that is news to a driver that waits.
    fn accept(&mut self, job: JobId, task: TaskId) -> bool {
        self.metrics.counts.tasks += 1;
        // They are accepted in the order of the report, mostly.
        let place = self.made.iter().position(|(of, _)| *of == task);
        let made = place.and_then(|at| self.made.remove(at)).map(|(_, made)| made);
        let made = made.unwrap_or_default();
        if let Some(Output::Files(id)) = self.stages.get(&task.stage).map(|stage| stage.output) {
            self.opened.accept(OutputId(id), task);
        }
        let is_shuffle =
            self.stages.get(&task.stage).is_some_and(|s| matches!(s.output, Output::Shuffle(_)));
        if is_shuffle {
            let is_new =
                !made.updates.list.is_empty() && self.counted.insert((task.stage, task.partition));
            match self.jobs.get_mut(&job) {
                Some(queue) if is_new => queue.push_updates(made.updates),
                None if is_new => self.updates_of_ended.push(made.updates),
                _ => {}
            }
            return false;
        }
        let Some(queue) = self.jobs.get_mut(&job) else { return false };
        let was_empty = queue.is_empty();
        queue.push(task.partition, made);
        was_empty || queue.is_full()
    }
}
