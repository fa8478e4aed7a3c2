//! The DAG scheduler and the task scheduler, as one deterministic state machine: no I/O, no clock, no chance.
//!
//! A job wants the results of one stage. Stages read the shuffle output of other stages, so a job *needs* its own stage and, as long
//! as a needed stage lacks output, that stage's parents. What is needed, lacks output and has all its inputs is ready;
//! ready stages are served jobs first come, first served, then parents first, to whichever executor has room.
//!
//! The shell feeds [`Event`]s to [`Scheduler::handle`] and carries out the [`Action`]s that come back, in their order.
//! Whatever it says, late, twice or about things unknown, leaves the state sound.
//!
//! | file | one thing |
//! |---|---|
//! | `event`, `failure`, `policy` | what goes in and out |
//! | `stage`, `partitions`, `executors` | the state, each part sound by itself |
//! | `define` | stages and jobs come and go |
//! | `needs` | which job needs which stage |
//! | `outcome`, `loss` | what the end of a task means, and of an executor |
//! | `outputs` | which shuffle output is there |
//! | `cached` | who holds what of cached datasets |
//! | `dispatch`, `speculate` | who runs what, and what twice |
//! | `exclude` | who runs nothing for a time |
//! | `registered` | whether anybody runs anything yet |
//! | `explain`, `check` | what a person asks; what must always hold |

mod cached;
mod check;
mod define;
mod dispatch;
mod event;
mod exclude;
mod executors;
mod explain;
mod failure;
mod loss;
mod needs;
mod outcome;
mod outputs;
mod partitions;
mod policy;
mod registered;
mod speculate;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use event::{
    Action, CachedInput, Event, Excluded, Outcome, StageOutput, StageSpec, TaskEnd, TaskFailure,
    TaskLaunch,
};
pub use explain::{Explanation, StageProgress, Waits};
pub use failure::{FailureCause, JobFailure, Refusal};
pub use policy::{Exclusion, MinRegistered, Policy, Speculation};

use crate::ids::{ExecutorId, JobId, StageId, WorkerId};
use cached::Cached;
use exclude::Exclusions;
use executors::Executors;
use speculate::Stragglers;
use stage::{Rank, Stage};

/// The scheduler of one application.
#[derive(Debug)]
pub struct Scheduler {
    policy: Policy,
    now: Duration,
    executors: Executors,
    stages: BTreeMap<StageId, Stage>,
    /// Live ones.
    jobs: BTreeMap<JobId, Job>,
    /// Stages with tasks to launch.
    ready: BTreeSet<Rank>,
    stragglers: Stragglers,
    exclusions: Exclusions,
    cached: Cached,
    /// Until it is there.
    min_registered: Option<MinRegistered>,
    last_stage: Option<StageId>,
    last_job: Option<JobId>,
    /// Of all stages.
    inputs: usize,
}

#[derive(Debug)]
struct Job {
    stage: StageId,
    submitted: Duration,
}

impl Scheduler {
    /// A scheduler without executors.
    pub fn new(policy: Policy) -> Self {
        Self {
            min_registered: policy.min_registered,
            policy,
            now: Duration::ZERO,
            executors: Executors::default(),
            stages: BTreeMap::new(),
            jobs: BTreeMap::new(),
            ready: BTreeSet::new(),
            stragglers: Stragglers::default(),
            exclusions: Exclusions::default(),
            cached: Cached::default(),
            last_stage: None,
            last_job: None,
            inputs: 0,
        }
    }

    /// Whether an executor is there and has no tasks, not even ones that were told to stop.
    pub fn is_idle(&self, executor: ExecutorId) -> bool {
        self.executors.get(executor).is_some_and(|e| e.load() == 0)
    }

    /// The executors that are given no more tasks and have none, not even ones that were told to stop: nobody needs them any more, and what
    /// they made is their worker's.
    pub fn drained(&self) -> impl Iterator<Item = ExecutorId> + '_ {
        self.executors.draining().filter(|id| self.is_idle(*id))
    }

    /// Whether an executor is given no more tasks, for good.
    pub fn is_draining(&self, executor: ExecutorId) -> bool {
        self.executors.get(executor).is_some_and(|e| e.is_draining())
    }

    /// Whether the executors on a worker are given no more tasks, for good.
    pub fn is_worker_draining(&self, worker: WorkerId) -> bool {
        self.executors.is_draining(worker)
    }

    /// How many tasks could run now, if there were slots enough: those that executors have, those that are ready, and copies
    /// of late ones. What [`DynamicAllocation`](crate::dynamic::DynamicAllocation) wants to know. Looks at ready stages only.
    pub fn backlog(&self) -> u64 {
        let pending = |rank: &Rank| self.stages.get(&rank.2).map_or(0, |s| s.partitions.pending());
        let ready: u64 = self.ready.iter().map(|rank| u64::from(pending(rank))).sum();
        ready + (self.executors.tasks() + self.late()) as u64
    }

    /// When the scheduler wants an [`Event::Tick`], as `now` counts; none as long as time alone changes nothing. Ask again
    /// after each event.
    pub fn next_tick(&self) -> Option<Duration> {
        let of_executors = self.next_begin().into_iter().chain(self.next_exclusion());
        of_executors.chain(self.next_look()).chain(self.next_release()).min()
    }

    /// Takes note of an event and appends what is to be done. `now` is the time since the scheduler's start.
    pub fn handle(&mut self, now: Duration, event: Event, actions: &mut Vec<Action>) {
        self.now = self.now.max(now);
        self.include(actions);
        let mut refill = None;
        match event {
            Event::ExecutorAdded { executor, slots, worker } => {
                let excluded = self.exclusions.has_worker(worker);
                self.executors.add(executor, slots, worker, excluded);
            }
            Event::ExecutorLost { executor, reason, outputs_lost } => {
                self.executor_lost(executor, &reason, outputs_lost, actions);
            }
            Event::WorkerDraining { worker } => self.executors.drain_worker(worker),
            Event::WorkerLost { worker, reason } => self.worker_lost(worker, &reason, actions),
            Event::StageDefined { stage, spec } => self.define(stage, spec, actions),
            Event::StageDropped { stage } => self.drop_stage(stage, actions),
            Event::JobSubmitted { job, stage } => self.submit(job, stage, actions),
            Event::JobCancelled { job } => {
                self.fail_job(job, FailureCause::Cancelled, actions);
            }
            Event::TasksEnded { executor, ended } => {
                for end in ended {
                    self.task_ended(executor, end, actions);
                }
                refill = Some(executor);
            }
            Event::CacheDropped { cache } => self.cached.drop_cache(cache),
            Event::Tick => self.look_for_stragglers(),
            Event::OutputLost { stage, partitions } => {
                self.output_lost(stage, |parts| parts.lose_these(&partitions));
            }
        }
        self.release_local();
        self.give_up_stuck(actions);
        self.dispatch(refill, actions);
        self.note_stuck();
    }
}
