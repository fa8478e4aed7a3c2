//! What the end of a task means.

use super::Scheduler;
use super::event::{Action, Outcome, TaskEnd, TaskFailure};
use super::failure::FailureCause;
use crate::ids::{ExecutorId, StageId, TaskId, WorkerId};

/// A map output that a task missed.
#[derive(Clone, Copy)]
struct Missed {
    stage: StageId,
    partition: u32,
    attempt: u32,
    executor: ExecutorId,
    whole: bool,
}

impl Scheduler {
    pub(super) fn task_ended(&mut self, executor: ExecutorId, end: TaskEnd, out: &mut Vec<Action>) {
        let TaskEnd { task, run_time, outcome } = end;
        let running = self.stages.get(&task.stage);
        let running = running.and_then(|s| s.partitions.running_at(task.partition, task.attempt));
        let Some((_, position)) = running.filter(|(at, _)| *at == executor) else {
            self.late_end(executor, task, &outcome, out);
            return;
        };
        let moved = self.executors.ended(executor, position);
        self.moved(moved, position);
        match outcome {
            Outcome::Succeeded => {
                let Some(stage) = self.stages.get_mut(&task.stage) else { return };
                let Some(job) = stage.first_job() else { return };
                stage.partitions.finish(task.partition, run_time);
                out.push(Action::Accept { job, task, executor });
                if stage.partitions.is_complete() {
                    self.stage_complete(task.stage, out);
                }
            }
            Outcome::Failed(failure) => self.task_failed(executor, task, failure, out),
            Outcome::Killed => self.task_interrupted(executor, task, "it was killed", out),
            Outcome::FetchFailed { stage, partition, attempt, executor: at, whole } => {
                let missed = Missed { stage, partition, attempt, executor: at, whole };
                self.fetch_failed(executor, task, missed, out);
            }
        }
    }

    /// The end of a task that nobody waits for: told to stop, given up with its executor, or reported twice.
    fn late_end(
        &mut self,
        executor: ExecutorId,
        task: TaskId,
        outcome: &Outcome,
        out: &mut Vec<Action>,
    ) {
        let stopped = self.executors.stopped(executor, task);
        let stage = self.stages.get(&task.stage);
        let superseded =
            stage.is_some_and(|s| s.partitions.is_superseded(task.partition, task.attempt));
        // Of earlier runs of the stage nothing is left to discard, and what was accepted must survive a second report.
        if matches!(outcome, Outcome::Succeeded) && (stopped || superseded) {
            out.push(Action::Discard { executor, task });
        }
    }

    fn task_failed(
        &mut self,
        executor: ExecutorId,
        task: TaskId,
        failure: TaskFailure,
        out: &mut Vec<Action>,
    ) {
        let Some(stage) = self.stages.get_mut(&task.stage) else { return };
        let failures = stage.partitions.charge_failure(task.partition);
        stage.partitions.give_back(task.partition, Some(executor));
        if failure.retryable && failures < self.policy.max_attempts {
            out.push(Action::TaskRetried { task, executor, failure });
            self.rank(task.stage);
        } else {
            let name = stage.name.clone();
            let cause = FailureCause::Task { task, name, executor, failures, failure };
            self.fail_stage(task.stage, &cause, out);
        }
    }

    /// A task came to nothing through no fault that is known to be its own.
    fn task_interrupted(
        &mut self,
        executor: ExecutorId,
        task: TaskId,
        reason: &str,
        out: &mut Vec<Action>,
    ) {
        let Some(stage) = self.stages.get_mut(&task.stage) else { return };
        let times = stage.partitions.charge_interruption(task.partition);
        stage.partitions.give_back(task.partition, None);
        if times < self.policy.max_interruptions {
            self.rank(task.stage);
        } else {
            let (name, reason) = (stage.name.clone(), reason.to_owned());
            let cause = FailureCause::Interrupted { task, name, executor, times, reason };
            self.fail_stage(task.stage, &cause, out);
        }
    }

    fn fetch_failed(
        &mut self,
        executor: ExecutorId,
        task: TaskId,
        missed: Missed,
        out: &mut Vec<Action>,
    ) {
        let Some(stage) = self.stages.get(&task.stage) else { return };
        if !stage.parents.contains(&missed.stage) {
            let message =
                format!("it missed output of {}, which is none of its inputs", missed.stage);
            self.task_failed(executor, task, TaskFailure { message, retryable: true }, out);
            return;
        }
        let inputs_were_there = stage.missing_parents == 0;
        let made_at =
            self.stages.get(&missed.stage).and_then(|s| s.partitions.output_at(missed.partition));
        if made_at != Some((missed.executor, missed.attempt)) {
            // Old news: it was lost before, and is or will be made elsewhere.
            self.task_interrupted(executor, task, "it looked for an input that had moved", out);
            return;
        }
        self.output_lost(missed.stage, |partitions| {
            if missed.whole {
                partitions.lose(|_, at| at == missed.executor)
            } else {
                partitions.lose_these(&[missed.partition])
            }
        });
        let input_name = self.stages.get(&missed.stage).map(|s| s.name.clone()).unwrap_or_default();
        let Some(stage) = self.stages.get_mut(&task.stage) else { return };
        stage.partitions.give_back(task.partition, None);
        stage.reruns += u32::from(inputs_were_there);
        if stage.reruns <= self.policy.max_stage_reruns {
            let message = format!(
                "the output of {} ({input_name}), partition {}, is gone from {}",
                missed.stage, missed.partition, missed.executor
            );
            out.push(Action::TaskRetried {
                task,
                executor,
                failure: TaskFailure { message, retryable: true },
            });
            self.rank(task.stage);
        } else {
            let cause = FailureCause::InputLost {
                task,
                name: stage.name.clone(),
                input: missed.stage,
                input_name,
                executor: missed.executor,
                times: stage.reruns,
            };
            self.fail_stage(task.stage, &cause, out);
        }
    }

    /// All outputs that were made on it go with it, also those of executors that ended long ago.
    pub(super) fn worker_lost(&mut self, worker: WorkerId, reason: &str, out: &mut Vec<Action>) {
        let stages: Vec<_> = self.stages.keys().copied().collect();
        for stage in stages {
            let Some(outputs) = self.outputs(stage) else { continue };
            let lost: Vec<_> = outputs
                .filter(|(_, _, at)| self.executors.was_on(*at, worker))
                .map(|(partition, ..)| partition)
                .collect();
            if !lost.is_empty() {
                self.output_lost(stage, |partitions| partitions.lose_these(&lost));
            }
        }
        for executor in self.executors.on(worker) {
            self.executor_lost(executor, reason, false, out);
        }
    }

    pub(super) fn executor_lost(
        &mut self,
        executor: ExecutorId,
        reason: &str,
        outputs_lost: bool,
        out: &mut Vec<Action>,
    ) {
        if outputs_lost {
            let stages: Vec<_> = self.stages.keys().copied().collect();
            for stage in stages {
                self.output_lost(stage, |partitions| partitions.lose(|_, at| at == executor));
            }
        }
        let tasks = self.executors.remove(executor).unwrap_or_default();
        // All of them first: a job that fails for one of them must not kill the others on an executor that is gone.
        for task in &tasks {
            if let Some(stage) = self.stages.get_mut(&task.stage) {
                stage.partitions.give_back(task.partition, None);
            }
        }
        for task in tasks {
            self.task_interrupted(executor, task, reason, out);
        }
    }
}
