//! A scheduler and its shell, for tests: states in one line, and every invariant checked after every event.

use std::time::Duration;

use crate::ids::{CacheId, ExecutorId, JobId, StageId, TaskId, WorkerId};
use crate::scheduler::{
    Action, CachedInput, Event, Outcome, Policy, Scheduler, StageOutput, StageSpec, TaskEnd,
    TaskFailure,
};

/// Ids are given in order, from 0.
pub struct TestEnv {
    pub scheduler: Scheduler,
    /// What the clock says.
    pub now: Duration,
    stages: u32,
    jobs: u32,
    executors: u32,
    /// Launched and not yet reported, in order.
    pub running: Vec<(ExecutorId, TaskId)>,
    /// Told to stop and not yet reported.
    pub killed: Vec<(ExecutorId, TaskId)>,
    /// All actions but launches and kills, in words; taken by `said`.
    said: Vec<String>,
}

impl TestEnv {
    pub fn new() -> Self {
        Self::with(Policy::default())
    }

    pub fn with(policy: Policy) -> Self {
        let scheduler = Scheduler::new(policy);
        let (running, killed, said) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            scheduler,
            now: Duration::ZERO,
            stages: 0,
            jobs: 0,
            executors: 0,
            running,
            killed,
            said,
        }
    }

    pub fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.scheduler.handle(self.now, event, &mut actions);
        self.scheduler.check();
        for action in actions {
            match action {
                Action::Launch { executor, tasks } => {
                    self.running.extend(tasks.into_iter().map(|launch| (executor, launch.task)));
                }
                Action::Kill { executor, task } => {
                    self.running.retain(|(_, running)| *running != task);
                    self.killed.push((executor, task));
                }
                other => self.said.push(words(other)),
            }
        }
    }

    /// Lets time pass, and tells so if the scheduler wants to know.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        if self.scheduler.next_tick().is_some_and(|at| at <= self.now) {
            self.tell(Event::Tick);
        }
    }

    pub fn executor(&mut self, slots: u32) -> ExecutorId {
        let executor = ExecutorId(self.executors);
        self.executors += 1;
        self.tell(Event::ExecutorAdded { executor, slots, worker: WorkerId(executor.0) });
        executor
    }

    /// An executor on a worker of this number.
    pub fn executor_on(&mut self, slots: u32, worker: u32) -> ExecutorId {
        let executor = ExecutorId(self.executors);
        self.executors += 1;
        self.tell(Event::ExecutorAdded { executor, slots, worker: WorkerId(worker) });
        executor
    }

    pub fn lose_worker(&mut self, worker: u32, executors: &[ExecutorId]) {
        self.running.retain(|(at, _)| !executors.contains(at));
        self.tell(Event::WorkerLost { worker: WorkerId(worker), reason: "fire".into() });
    }

    pub fn lose(&mut self, executor: ExecutorId, outputs_lost: bool) {
        self.running.retain(|(at, _)| *at != executor);
        self.tell(Event::ExecutorLost { executor, reason: "power cut".into(), outputs_lost });
    }

    pub fn define(&mut self, tasks: u32, parents: &[StageId], output: StageOutput) -> StageId {
        self.define_cached(tasks, parents, Vec::new(), output)
    }

    /// A stage of results that reads cached datasets.
    pub fn cached(&mut self, tasks: u32, cached: &[CachedInput]) -> StageId {
        self.define_cached(tasks, &[], cached.to_vec(), StageOutput::Results)
    }

    fn define_cached(
        &mut self,
        tasks: u32,
        parents: &[StageId],
        cached: Vec<CachedInput>,
        output: StageOutput,
    ) -> StageId {
        let stage = StageId(self.stages);
        self.stages += 1;
        let (name, parents) = (format!("s{}", stage.0), parents.to_vec());
        self.tell(Event::StageDefined {
            stage,
            spec: StageSpec { name, tasks, parents, cached, output },
        });
        stage
    }

    pub fn shuffle(&mut self, tasks: u32, parents: &[StageId]) -> StageId {
        self.define(tasks, parents, StageOutput::Shuffle)
    }

    pub fn results(&mut self, tasks: u32, parents: &[StageId]) -> StageId {
        self.define(tasks, parents, StageOutput::Results)
    }

    pub fn submit(&mut self, stage: StageId) -> JobId {
        let job = JobId(self.jobs);
        self.jobs += 1;
        self.tell(Event::JobSubmitted { job, stage });
        job
    }

    pub fn end(&mut self, executor: ExecutorId, task: TaskId, outcome: Outcome) {
        self.end_storing(executor, task, outcome, Vec::new());
    }

    /// A task ends that stored partitions of cached datasets.
    pub fn end_storing(
        &mut self,
        executor: ExecutorId,
        task: TaskId,
        outcome: Outcome,
        stored: Vec<(CacheId, u32)>,
    ) {
        self.running.retain(|running| *running != (executor, task));
        self.killed.retain(|killed| *killed != (executor, task));
        let ended = vec![TaskEnd { task, run_time: Duration::from_secs(1), outcome, stored }];
        self.tell(Event::TasksEnded { executor, ended });
    }

    /// The running task that was launched first ends so.
    pub fn first_ends(&mut self, outcome: Outcome) -> (ExecutorId, TaskId) {
        let (executor, task) = self.running[0];
        self.end(executor, task, outcome);
        (executor, task)
    }

    /// Running tasks succeed, and those that follow them, until nothing runs.
    pub fn drain(&mut self) {
        while !self.running.is_empty() {
            self.first_ends(Outcome::Succeeded);
        }
    }

    /// What runs, as (executor, stage, partition, attempt).
    pub fn runs(&self) -> Vec<(u32, u32, u32, u32)> {
        let flat =
            |(at, task): &(ExecutorId, TaskId)| (at.0, task.stage.0, task.partition, task.attempt);
        self.running.iter().map(flat).collect()
    }

    /// What the scheduler said since the last time, in words.
    pub fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    pub fn explain(&self, job: JobId) -> String {
        self.scheduler.explain(job).map_or_else(String::new, |e| e.to_string())
    }
}

pub fn failed(retryable: bool) -> Outcome {
    Outcome::Failed(TaskFailure { message: "boom".into(), retryable, executor_at_fault: false })
}

/// The failure of an executor, not of its task.
pub fn disk_full() -> Outcome {
    Outcome::Failed(TaskFailure {
        message: "the disk is full".into(),
        retryable: true,
        executor_at_fault: true,
    })
}

fn words(action: Action) -> String {
    match action {
        Action::Accept { job, task, .. } => format!("accept {task} for {job}"),
        Action::Discard { executor, task } => format!("discard {task} of {executor}"),
        Action::DropOutput { stage } => format!("drop {stage}"),
        Action::StageForgotten { stage } => format!("forget {stage}"),
        Action::StageStarted { stage, tasks, .. } => format!("{stage} starts {tasks}"),
        Action::StageFinished { stage, .. } => format!("{stage} finished"),
        Action::TaskRetried { task, executor, failure } => {
            format!("retry {task} on {executor}: {}", failure.message)
        }
        Action::Excluded { what, reason, until } => {
            format!("exclude {what} until {} s: {reason}", until.as_secs())
        }
        Action::Included { what } => format!("include {what}"),
        Action::JobFinished { job, .. } => format!("{job} finished"),
        Action::JobFailed { failure } => failure.to_string(),
        Action::Refused(refusal) => refusal.to_string(),
        Action::Launch { .. } | Action::Kill { .. } => unreachable!("kept elsewhere"),
    }
}
