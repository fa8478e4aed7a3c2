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
//! | `outcome` | what the end of a task means |
//! | `dispatch` | who runs what |
//! | `explain`, `check` | what a person asks; what must always hold |

mod check;
mod define;
mod dispatch;
mod event;
mod executors;
mod explain;
mod failure;
mod needs;
mod outcome;
mod partitions;
mod policy;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use event::{Action, Event, Outcome, StageOutput, StageSpec, TaskEnd, TaskFailure, TaskLaunch};
pub use explain::{Explanation, StageProgress, Waits};
pub use failure::{FailureCause, JobFailure, Refusal};
pub use policy::Policy;

use crate::ids::{JobId, StageId};
use executors::Executors;
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
            policy,
            now: Duration::ZERO,
            executors: Executors::default(),
            stages: BTreeMap::new(),
            jobs: BTreeMap::new(),
            ready: BTreeSet::new(),
            last_stage: None,
            last_job: None,
            inputs: 0,
        }
    }

    /// Takes note of an event and appends what is to be done. `now` is the time since the scheduler's start.
    pub fn handle(&mut self, now: Duration, event: Event, actions: &mut Vec<Action>) {
        self.now = self.now.max(now);
        let mut refill = None;
        match event {
            Event::ExecutorAdded { executor, slots, worker } => {
                self.executors.add(executor, slots, worker);
            }
            Event::ExecutorDraining { executor } => self.executors.drain(executor),
            Event::WorkerLost { worker, reason } => self.worker_lost(worker, &reason, actions),
            Event::ExecutorLost { executor, reason, outputs_lost } => {
                self.executor_lost(executor, &reason, outputs_lost, actions);
            }
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
            Event::OutputLost { stage, partitions } => {
                self.output_lost(stage, |parts| parts.lose_these(&partitions));
            }
        }
        self.dispatch(refill, actions);
    }
}
