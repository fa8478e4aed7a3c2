//! The application: the scheduler, what stands behind its ids, and the carrying out of its actions.
//!
//! Called from the driver's thread and from those that report tasks' ends, under one lock. Nothing waits under it but for executors
//! to take commands: in local mode, one that forgets a stage removes what was spilled of it. The scheduler decides, this room
//! translates.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ingle_blocks::TaskResult;
use ingle_core::ids::{CacheId, ExecutorId, JobId, StageId, TaskId};
use ingle_core::memory::MemoryPool;
use ingle_core::scheduler::{Action, Event, Outcome, Policy, Scheduler, StageProgress};
use ingle_proto::v1;
use ingle_proto::v1::executor_command::{Command, DropCache, Forget};
use ingle_sandbox::host::{Output, StageSpec, Stop};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::opened::Opened;
use super::results::{Made, Over, Queue, Ready, Updates};
use super::stages::{self, Problem, Stage};
use super::{ExecutorLink, Note, Reports};
use crate::protocol;

/// Jobs whose results the driver hasn't taken.
const MAX_QUEUES: usize = 4096;
/// How long the driver waits for more results once there is one, so that many small ones don't wake it one by one.
const LINGER: Duration = Duration::from_millis(1);

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks that succeeded.
    pub tasks: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Bytes read from files, before decompression.
    pub bytes_read: u64,
}

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
    scheduler: Scheduler,
    executors: BTreeMap<ExecutorId, Executor>,
    stages: HashMap<StageId, Stage>,
    jobs: HashMap<JobId, Queue>,
    /// What the task made whose end is being handled: accepted at once, or never.
    made: Option<(TaskId, Made)>,
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
    counts: Counts,
    /// Reused for each event.
    actions: Vec<Action>,
    notes: Vec<Note>,
}

struct Executor {
    link: Arc<dyn ExecutorLink>,
    /// Stages that it was told of.
    described: HashSet<StageId>,
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
            scheduler: Scheduler::new(policy),
            executors: BTreeMap::new(),
            stages: HashMap::new(),
            jobs: HashMap::new(),
            made: None,
            unwanted: Vec::new(),
            counted: HashSet::new(),
            updates_of_ended: Vec::new(),
            next_stage: 0,
            next_job: 0,
            waiting: false,
            counts: Counts::default(),
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

    pub fn counts(&self) -> Counts {
        self.core.lock().counts
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
    pub fn add_executor(&self, executor: ExecutorId, slots: u32, link: Arc<dyn ExecutorLink>) {
        let mut core = self.core.lock();
        core.executors.insert(executor, Executor { link, described: HashSet::new() });
        self.handle(core, Event::ExecutorAdded { executor, slots });
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
        if self.opened.cache(cache).is_none() {
            return Err(Stop::Misuse(format!("{cache}, which was never made")));
        }
        for executor in self.core.lock().executors.values() {
            let command = Command::DropCache(DropCache { cache: cache.0 });
            executor.link.send(protocol::command(command), None);
        }
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

    /// Feeds the scheduler an event and carries out what it asks for.
    fn handle(&self, mut core: MutexGuard<'_, Core>, event: Event) {
        let mut actions = std::mem::take(&mut core.actions);
        core.scheduler.handle(self.started.elapsed(), event, &mut actions);
        let mut wake = false;
        for action in actions.drain(..) {
            wake |= core.act(action);
        }
        // What was neither accepted nor discarded came of a task that failed, or that ended twice.
        let left = core.made.take();
        core.unwanted.extend(left.and_then(|(_, made)| made.result));
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
    fn ended(&self, executor: ExecutorId, end: v1::TaskEnd, made: Made) {
        let metrics = end.metrics.unwrap_or_default();
        let end = match protocol::task_end(end) {
            Ok(end) => end,
            Err(error) => {
                // Without a task's name there is nothing to be done about it.
                tracing::warn!(%executor, %error, "ignored");
                return;
            }
        };
        let task = end.task;
        let mut core = self.core.lock();
        core.counts.bytes_read += metrics.bytes_read;
        core.counts.failed += u64::from(matches!(end.outcome, Outcome::Failed(_)));
        core.made = Some((task, made));
        self.handle(core, Event::TasksEnded { executor, ended: vec![end] });
    }
}

impl Core {
    /// Carries out one action. True if the driver may want to look.
    fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Launch { executor, tasks } => {
                let Some(to) = self.executors.get_mut(&executor) else { return false };
                for launch in &tasks {
                    let id = launch.task.stage;
                    if let Some(stage) = self.stages.get(&id)
                        && to.described.insert(id)
                    {
                        let describe = Command::Describe(stage.description.clone());
                        to.link.send(protocol::command(describe), stage.image.clone());
                    }
                }
                to.link.send(protocol::launch_command(&tasks), None);
            }
            Action::Kill { executor, task } => {
                if let Some(to) = self.executors.get(&executor) {
                    to.link
                        .send(protocol::command(Command::Kill(protocol::task_message(task))), None);
                }
            }
            Action::Accept { job, task } => return self.accept(job, task),
            // What it made is unwanted, as all that isn't accepted.
            Action::Discard { .. } => {}
            Action::DropOutput { stage } => self.forget_at_executors(stage),
            Action::StageForgotten { stage } => {
                self.forget_at_executors(stage);
                self.stages.remove(&stage);
                self.counted.retain(|(of, _)| *of != stage);
            }
            Action::StageStarted { job, stage, tasks } => {
                if let Some(Stage { name, operators, .. }) = self.stages.get(&stage) {
                    let (name, operators) = (name.clone(), operators.clone());
                    self.notes.push(Note::StageStarted { job, stage, name, operators, tasks });
                }
            }
            Action::StageFinished { job, stage, elapsed } => {
                let name = self.name(stage);
                self.notes.push(Note::StageFinished { job, stage, name, elapsed });
            }
            Action::TaskRetried { task, executor, failure } => {
                let (name, message) = (self.name(task.stage), failure.message);
                self.notes.push(Note::TaskRetried { task, name, executor, message });
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
        self.counts.tasks += 1;
        let made = self.made.take_if(|(of, _)| *of == task).map(|(_, made)| made);
        let made = made.unwrap_or_default();
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

    fn forget_at_executors(&mut self, stage: StageId) {
        for to in self.executors.values_mut() {
            if to.described.remove(&stage) {
                let forget = Command::Forget(Forget { stage: stage.0 });
                to.link.send(protocol::command(forget), None);
            }
        }
    }
}
