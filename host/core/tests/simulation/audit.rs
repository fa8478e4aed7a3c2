//! What the shell would know: every action is checked against it.

use std::collections::{BTreeMap, BTreeSet};

use ingle_core::ids::{ExecutorId, JobId, StageId, TaskId};
use ingle_core::scheduler::{Action, FailureCause, Policy, StageOutput, StageSpec, TaskLaunch};

/// Where a partition of shuffle output is, and which attempt made it.
pub type Location = (ExecutorId, u32);

/// What a task says of output that it missed.
pub struct Missed {
    pub stage: StageId,
    pub partition: u32,
    pub at: Location,
    /// And all that this executor made of the stage.
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
    pub log: Vec<String>,
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
    /// Reported as a success, and neither accepted nor discarded yet.
    succeeded: BTreeSet<TaskId>,
    accepted: BTreeSet<TaskId>,
    results: BTreeSet<(JobId, u32)>,
    outputs: BTreeMap<(StageId, u32), Location>,
    /// Outputs that the scheduler has reason to hold for lost.
    doubtful: BTreeSet<(StageId, u32)>,
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
            succeeded: BTreeSet::new(),
            accepted: BTreeSet::new(),
            results: BTreeSet::new(),
            outputs: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            end: End::default(),
        }
    }

    fn spec(&self, stage: StageId) -> &StageSpec {
        &self.stages[stage.0 as usize]
    }

    pub fn submitted(&mut self, job: JobId, stage: StageId) {
        self.live.insert(job, stage);
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
        let is_of = |key: &(StageId, u32), location: &Location| {
            key.0 == stage && if whole { location.0 == at.0 } else { key.1 == partition }
        };
        let of = self.outputs.iter().filter(|(key, location)| is_of(key, location));
        self.doubtful.extend(of.map(|(key, _)| *key));
    }

    /// The scheduler is told that output isn't there.
    pub fn lost(&mut self, lost: impl Fn(StageId, u32, Location) -> bool) {
        self.outputs.retain(|&(stage, partition), at| !lost(stage, partition, *at));
    }

    /// The inputs of a stage's tasks as they are told where to look.
    pub fn inputs(&self, stage: StageId) -> Vec<(StageId, u32, Location)> {
        let parents = self.spec(stage).parents.iter();
        let parts =
            parents.flat_map(|&parent| (0..self.spec(parent).tasks).map(move |p| (parent, p)));
        parts
            .map(|key| {
                let at = self.outputs.get(&key);
                (key.0, key.1, *at.unwrap_or_else(|| panic!("{stage} runs without {key:?}")))
            })
            .collect()
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
            Action::Excluded { .. } | Action::Included { .. } => {}
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
                assert!(!failure.retryable || *failures == self.policy.max_attempts);
                assert!(*failures <= self.policy.max_attempts);
            }
            FailureCause::Interrupted { times, .. } => {
                assert_eq!(*times, self.policy.max_interruptions);
            }
            FailureCause::Excluded { .. } => panic!("nothing is excluded"),
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
