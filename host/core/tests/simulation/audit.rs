//! What the shell would know: every action is checked against it.

use std::collections::{BTreeMap, BTreeSet};

use ingle_core::ids::{ExecutorId, JobId, StageId, TaskId, WorkerId};
use ingle_core::scheduler::{
    Action, Excluded, FailureCause, Policy, Scheduler, StageOutput, StageSpec, TaskLaunch,
};

/// Where a partition of shuffle output is, and which attempt made it.
pub type Location = (ExecutorId, u32);
/// Map outputs of a stage: partition, and where it is.
type Outputs = BTreeSet<(u32, Location)>;

/// What a task says of output that it missed.
pub struct Missed {
    pub stage: StageId,
    pub partition: u32,
    pub at: Location,
    /// And all that any executor of its worker made of the stage.
    pub whole: bool,
}

/// How a simulation ended.
#[derive(Debug, Default)]
pub struct End {
    pub finished: usize,
    pub failed: usize,
    pub cancelled: usize,
    pub retried: usize,
    pub discarded: usize,
    /// Copies of running tasks.
    pub copied: usize,
    pub excluded: usize,
    pub drained: usize,
    pub workers_lost: usize,
    pub log: Vec<String>,
}

/// What is known of an executor.
struct Books {
    slots: u32,
    worker: WorkerId,
    held: BTreeSet<TaskId>,
}

/// The shell's books.
pub struct Audit {
    stages: Vec<StageSpec>,
    policy: Policy,
    live: BTreeMap<JobId, StageId>,
    cancelled: BTreeSet<JobId>,
    dropped: BTreeSet<StageId>,
    forgotten: BTreeSet<StageId>,
    launched: BTreeMap<TaskId, ExecutorId>,
    /// Launched and not yet reported, by executor, with its slots and its worker.
    executors: BTreeMap<ExecutorId, Books>,
    /// The worker of all executors that there ever were.
    homes: BTreeMap<ExecutorId, WorkerId>,
    /// Neither ended nor told to stop.
    wanted: BTreeMap<(StageId, u32), Vec<TaskId>>,
    draining: BTreeSet<ExecutorId>,
    draining_workers: BTreeSet<WorkerId>,
    excluded: BTreeSet<Excluded>,
    /// Reported as a success, and neither accepted nor discarded yet.
    succeeded: BTreeSet<TaskId>,
    accepted: BTreeSet<TaskId>,
    results: BTreeSet<(JobId, u32)>,
    outputs: BTreeMap<(StageId, u32), Location>,
    /// Outputs that the scheduler has reason to hold for lost.
    doubtful: BTreeSet<(StageId, u32)>,
    /// Outputs of a stage that were found damaged, by their worker.
    damaged: BTreeMap<(StageId, Option<WorkerId>), Outputs>,
    /// The outputs of each stage when last looked at, by their version.
    tables: BTreeMap<StageId, (u64, Outputs)>,
    pub end: End,
}

impl Audit {
    pub fn new(stages: Vec<StageSpec>, policy: Policy) -> Self {
        Self {
            stages,
            policy,
            live: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            dropped: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            launched: BTreeMap::new(),
            executors: BTreeMap::new(),
            homes: BTreeMap::new(),
            wanted: BTreeMap::new(),
            draining: BTreeSet::new(),
            draining_workers: BTreeSet::new(),
            excluded: BTreeSet::new(),
            succeeded: BTreeSet::new(),
            accepted: BTreeSet::new(),
            results: BTreeSet::new(),
            outputs: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            damaged: BTreeMap::new(),
            tables: BTreeMap::new(),
            end: End::default(),
        }
    }

    fn spec(&self, stage: StageId) -> &StageSpec {
        &self.stages[stage.0 as usize]
    }

    pub fn submitted(&mut self, job: JobId, stage: StageId) {
        self.live.insert(job, stage);
    }

    pub fn executor_added(&mut self, id: ExecutorId, slots: u32, worker: WorkerId) {
        self.executors.insert(id, Books { slots, worker, held: BTreeSet::new() });
        self.homes.insert(id, worker);
        if self.draining_workers.contains(&worker) {
            self.drained(id);
        }
    }

    pub fn executor_gone(&mut self, id: ExecutorId) {
        let held = self.executors.remove(&id).map(|books| books.held);
        held.into_iter().flatten().for_each(|task| self.unwanted(task));
        // An exclusion of one that is gone just ends.
        self.excluded.remove(&Excluded::Executor(id));
    }

    pub fn worker_gone(&mut self, worker: WorkerId) {
        self.excluded.remove(&Excluded::Worker(worker));
        self.draining_workers.remove(&worker);
        self.end.workers_lost += 1;
    }

    pub fn worker_drains(&mut self, worker: WorkerId) {
        if self.draining_workers.insert(worker) {
            let there = self.executors.iter().filter(|(_, books)| books.worker == worker);
            let there: Vec<_> = there.map(|(id, _)| *id).collect();
            there.into_iter().for_each(|id| self.drained(id));
        }
    }

    fn drained(&mut self, id: ExecutorId) {
        self.draining.insert(id);
        self.end.drained += 1;
    }

    /// An executor reports the end of a task.
    pub fn ended(&mut self, executor: ExecutorId, task: TaskId) {
        if self.executors.get_mut(&executor).is_some_and(|books| books.held.remove(&task)) {
            self.unwanted(task);
        }
    }

    fn unwanted(&mut self, task: TaskId) {
        if let Some(wanted) = self.wanted.get_mut(&(task.stage, task.partition)) {
            wanted.retain(|t| *t != task);
        }
    }

    pub fn cancelled(&mut self, job: JobId) {
        self.cancelled.insert(job);
    }

    pub fn dropped(&mut self, stage: StageId) {
        self.dropped.insert(stage);
    }

    pub fn succeeded(&mut self, task: TaskId) {
        if !self.accepted.contains(&task) {
            self.succeeded.insert(task);
        }
    }

    /// A task says that output which an executor made isn't there.
    pub fn missed(&mut self, missed: &Missed) {
        let Missed { stage, partition, at, whole } = *missed;
        if self.outputs.get(&(stage, partition)) != Some(&at) {
            return;
        }
        let home = self.homes.get(&at.0).copied();
        // Another one that is damaged costs all that its worker has; the same one is told of twice.
        let damaged = self.damaged.entry((stage, home)).or_default();
        damaged.insert((partition, at));
        let whole = whole || damaged.len() > 1;
        let is_of = |key: &(StageId, u32), location: &Location| {
            let there = self.homes.get(&location.0).copied() == home;
            key.0 == stage && if whole { there } else { key.1 == partition }
        };
        let of = self.outputs.iter().filter(|(key, location)| is_of(key, location));
        self.doubtful.extend(of.map(|(key, _)| *key));
    }

    /// The scheduler is told that output isn't there.
    pub fn lost(&mut self, lost: impl Fn(StageId, u32, Location) -> bool) {
        self.outputs.retain(|&(stage, partition), at| !lost(stage, partition, *at));
    }

    /// The inputs of a stage's tasks as they are told where to look.
    pub fn inputs(&self, scheduler: &Scheduler, stage: StageId) -> Vec<(StageId, u32, Location)> {
        let mut inputs = Vec::new();
        for &parent in &self.spec(stage).parents {
            let outputs = scheduler.outputs(parent).expect("inputs are there");
            inputs
                .extend(outputs.map(|(partition, attempt, at)| (parent, partition, (at, attempt))));
            let partitions = inputs.iter().filter(|i| i.0 == parent).map(|i| i.1);
            let partitions: BTreeSet<u32> = partitions.collect();
            let all = self.spec(parent).tasks as usize;
            assert_eq!(partitions.len(), all, "{stage} runs without all of {parent}");
        }
        inputs
    }

    /// The outputs that the scheduler tells of are those that it accepted and didn't hold for lost, and their version says
    /// when they change.
    pub fn check_outputs(&mut self, scheduler: &Scheduler) {
        for id in 0..self.stages.len() as u32 {
            let stage = StageId(id);
            let Some(outputs) = scheduler.outputs(stage) else { continue };
            let outputs: BTreeSet<_> = outputs.map(|(p, attempt, at)| (p, (at, attempt))).collect();
            let ours = self.outputs.range((stage, 0)..=(stage, u32::MAX));
            let ours: BTreeSet<_> = ours.map(|(key, at)| (key.1, *at)).collect();
            for (partition, at) in ours.difference(&outputs) {
                let doubtful = self.doubtful.contains(&(stage, *partition));
                assert!(doubtful, "{stage} misses {partition}, which is {at:?}");
            }
            let invented: Vec<_> = outputs.difference(&ours).collect();
            assert!(invented.is_empty(), "{stage} has {invented:?}");
            let version = scheduler.outputs_version(stage);
            if let Some((before, table)) = self.tables.get(&stage) {
                assert!(*before < version || (*before == version && *table == outputs), "{stage}");
            }
            self.tables.insert(stage, (version, outputs));
        }
    }

    pub fn outputs(&self) -> impl Iterator<Item = (StageId, u32, Location)> {
        self.outputs.iter().map(|(key, at)| (key.0, key.1, *at))
    }

    /// Checks an action and books it.
    pub fn action(&mut self, action: &Action) {
        match action {
            Action::Launch { executor, tasks } => {
                assert!(!tasks.is_empty());
                tasks.iter().for_each(|launch| self.launch(*executor, *launch));
            }
            Action::Kill { executor, task } => {
                assert_eq!(self.launched.get(task), Some(executor), "kill of {task}");
                assert!(!self.accepted.contains(task), "kill of {task}, which was accepted");
                self.unwanted(*task);
            }
            Action::Accept { job, task, executor } => {
                assert_eq!(self.launched.get(task), Some(executor), "where {task} ran");
                self.accept(*job, *task);
            }
            Action::Discard { task, .. } => {
                let key = (task.stage, task.partition);
                let current = self.outputs.get(&key).is_some_and(|at| at.1 == task.attempt);
                let lost =
                    self.accepted.contains(task) && (!current || self.doubtful.contains(&key));
                let shuffle = self.spec(task.stage).output == StageOutput::Shuffle;
                let unwanted = self.succeeded.remove(task) || (lost && shuffle);
                assert!(unwanted, "{task} is discarded, and counts");
                self.end.discarded += 1;
            }
            Action::DropOutput { stage } => {
                assert!(self.dropped.contains(stage), "{stage} wasn't dropped");
                assert_eq!(self.spec(*stage).output, StageOutput::Shuffle);
                self.lost(|of, _, _| of == *stage);
            }
            Action::StageForgotten { stage } => {
                assert!(self.dropped.contains(stage), "{stage} wasn't dropped");
                assert!(self.forgotten.insert(*stage), "{stage} was forgotten before");
                // What the scheduler holds for lost may still be there.
                self.lost(|of, _, _| of == *stage);
            }
            Action::StageStarted { job, stage, tasks } => {
                assert!(self.live.contains_key(job));
                assert!((1..=self.spec(*stage).tasks).contains(tasks));
            }
            Action::StageFinished { job, stage, .. } => self.stage_finished(*job, *stage),
            Action::Excluded { what, .. } => {
                assert!(self.policy.exclusion.is_some(), "{what} is excluded");
                assert!(self.excluded.insert(*what), "{what} was excluded before");
                self.end.excluded += 1;
            }
            Action::Included { what } => {
                let is_gone = match what {
                    Excluded::Executor(executor) => !self.executors.contains_key(executor),
                    Excluded::Worker(_) => self.end.workers_lost > 0,
                };
                assert!(self.excluded.remove(what) || is_gone, "{what} wasn't excluded");
            }
            Action::TaskRetried { .. } => self.end.retried += 1,
            Action::JobFinished { job, .. } => self.job_finished(*job),
            Action::JobFailed { failure } => self.job_failed(failure.job, &failure.cause),
            Action::Refused(_) => {}
        }
    }

    fn launch(&mut self, executor: ExecutorId, launch: TaskLaunch) {
        let TaskLaunch { job, task } = launch;
        assert!(self.live.contains_key(&job), "{task} runs for {job}, which is over");
        assert!(!self.forgotten.contains(&task.stage), "{task} is of a stage that is gone");
        assert!(task.partition < self.spec(task.stage).tasks);
        assert_eq!(self.launched.insert(task, executor), None, "{task} runs twice");

        let books = self.executors.get_mut(&executor).expect("a launch goes to a live executor");
        books.held.insert(task);
        let most = books.slots as usize * (1 + self.policy.max_lookahead as usize);
        assert!(books.held.len() <= most, "{executor} has {} tasks", books.held.len());
        assert!(!self.draining.contains(&executor), "{task} goes to {executor}, which drains");
        for what in [Excluded::Executor(executor), Excluded::Worker(books.worker)] {
            assert!(
                !self.excluded.contains(&what),
                "{task} goes to {executor}; {what} is excluded"
            );
        }

        let wanted = self.wanted.entry((task.stage, task.partition)).or_default();
        if let [other] = wanted[..] {
            assert!(self.policy.speculation.is_some(), "{task} runs beside {other}");
            assert_ne!(self.launched[&other], executor, "{task} is with {other}");
            self.end.copied += 1;
        } else {
            assert_eq!(*wanted, [], "{task} runs beside two others");
        }
        wanted.push(task);
    }

    fn accept(&mut self, job: JobId, task: TaskId) {
        assert!(self.succeeded.remove(&task), "{task} is accepted without a success");
        assert!(self.accepted.insert(task), "{task} is accepted twice");
        let key = (task.stage, task.partition);
        let target = self.live.get(&job);
        match self.spec(task.stage).output {
            StageOutput::Results => {
                assert_eq!(target, Some(&task.stage), "{task} is no result of {job}");
                assert!(self.results.insert((job, task.partition)), "{job} got {task} before");
            }
            StageOutput::Shuffle => {
                assert!(target.is_some(), "{task} is accepted for {job}, which is over");
                let doubtful = self.doubtful.remove(&key);
                let at = (self.launched[&task], task.attempt);
                let before = self.outputs.insert(key, at);
                assert!(before.is_none() || doubtful, "{task} was there: {before:?}");
            }
        }
    }

    fn stage_finished(&self, job: JobId, stage: StageId) {
        let has = |partition| match self.spec(stage).output {
            StageOutput::Results => self.results.contains(&(job, partition)),
            StageOutput::Shuffle => self.outputs.contains_key(&(stage, partition)),
        };
        assert!((0..self.spec(stage).tasks).all(has), "{stage} isn't complete");
    }

    fn job_finished(&mut self, job: JobId) {
        let Some(stage) = self.live.remove(&job) else { panic!("{job} ended before") };
        self.stage_finished(job, stage);
        self.end.finished += 1;
    }

    fn job_failed(&mut self, job: JobId, cause: &FailureCause) {
        assert!(self.live.remove(&job).is_some(), "{job} ended before");
        match cause {
            FailureCause::Cancelled => {
                assert!(self.cancelled.contains(&job), "nobody cancelled {job}");
                self.end.cancelled += 1;
                return;
            }
            FailureCause::Task { failures, failure, .. } => {
                // A failure while another runs counts, but decides nothing.
                let extra = u32::from(self.policy.speculation.is_some());
                assert!(!failure.retryable || *failures >= self.policy.max_attempts);
                assert!(*failures <= self.policy.max_attempts + extra);
                assert!(!failure.executor_at_fault);
            }
            FailureCause::Interrupted { times, .. } => match self.policy.speculation {
                Some(_) => assert!(*times >= self.policy.max_interruptions),
                None => assert_eq!(*times, self.policy.max_interruptions),
            },
            FailureCause::Excluded { waited, .. } => {
                let exclusion = self.policy.exclusion.expect("nothing is excluded");
                assert!(*waited >= exclusion.abort_after);
                assert!(!self.excluded.is_empty());
            }
            FailureCause::InputLost { times, .. } => {
                assert_eq!(*times, self.policy.max_stage_reruns + 1);
            }
        }
        self.end.failed += 1;
    }

    pub fn live_jobs(&self) -> Vec<JobId> {
        self.live.keys().copied().collect()
    }
}
