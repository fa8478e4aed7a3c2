//! What the end of a task means.

use super::Scheduler;
use super::event::{Action, Outcome, StageOutput, TaskEnd, TaskFailure};
use super::failure::FailureCause;
use crate::ids::{ExecutorId, StageId, TaskId};

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
        let TaskEnd { task, run_time, outcome, stored } = end;
        self.note_stored(executor, &stored);
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
                let loser = stage.partitions.finish(task.partition, task.attempt, run_time);
                stage.outputs_version += u64::from(stage.output == StageOutput::Shuffle);
                if self.policy.speculation.is_some() {
                    stage.partitions.sample(run_time);
                }
                stage.misses.succeeded(task.partition);
                let complete = stage.partitions.is_complete();
                out.push(Action::Accept { job, task, executor });
                if let Some(loser) = loser {
                    self.kill(task.stage, task.partition, loser, out);
                }
                self.note_straggling(task.stage);
                if complete {
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
        if failure.executor_at_fault {
            self.executor_failed(executor, task, failure, out);
            return;
        }
        if failure.retryable {
            self.note_failure(executor, task, out);
        }
        let Some(stage) = self.stages.get_mut(&task.stage) else { return };
        let failures = stage.partitions.charge_failure(task.partition);
        stage.partitions.give_back(task.partition, task.attempt, Some(executor));
        let another = stage.partitions.is_running(task.partition);
        if failure.retryable && (another || failures < self.policy.max_attempts) {
            out.push(Action::TaskRetried { task, executor, failure });
            self.rank(task.stage);
        } else {
            let name = stage.name.clone();
            let cause = FailureCause::Task { task, name, executor, failures, failure };
            self.fail_stage(task.stage, &cause, out);
        }
    }

    /// A task failed where any would have.
    fn executor_failed(
        &mut self,
        executor: ExecutorId,
        task: TaskId,
        failure: TaskFailure,
        out: &mut Vec<Action>,
    ) {
        self.note_fault(executor, &failure.message, out);
        if self.interrupted(executor, task, Some(executor), &failure.message, out) {
            out.push(Action::TaskRetried { task, executor, failure });
        }
    }

    /// A task came to nothing through no fault that is known to be its own.
    pub(super) fn task_interrupted(
        &mut self,
        executor: ExecutorId,
        task: TaskId,
        reason: &str,
        out: &mut Vec<Action>,
    ) {
        self.interrupted(executor, task, None, reason, out);
    }

    /// Counts an interruption. Says whether the task is to be tried again.
    fn interrupted(
        &mut self,
        executor: ExecutorId,
        task: TaskId,
        avoid: Option<ExecutorId>,
        reason: &str,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(stage) = self.stages.get_mut(&task.stage) else { return false };
        let times = stage.partitions.charge_interruption(task.partition);
        stage.partitions.give_back(task.partition, task.attempt, avoid);
        if times < self.policy.max_interruptions || stage.partitions.is_running(task.partition) {
            self.rank(task.stage);
            true
        } else {
            let (name, reason) = (stage.name.clone(), reason.to_owned());
            let cause = FailureCause::Interrupted { task, name, executor, times, reason };
            self.fail_stage(task.stage, &cause, out);
            false
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
            self.task_failed(executor, task, input_trouble(message), out);
            return;
        }
        let inputs_were_there = stage.missing_parents == 0;
        let input = self.stages.get(&missed.stage);
        let made = input.and_then(|s| s.partitions.output(missed.partition));
        if made != Some((missed.attempt, missed.executor)) {
            // Old news: it was lost before, and is or will be made elsewhere.
            self.task_interrupted(executor, task, "it looked for an input that had moved", out);
            return;
        }
        // A worker that doesn't answer is one miss, however many executors it had: else it would take as many reruns to find out.
        let there = self.executors.on_worker_of(missed.executor);
        let again = input.is_some_and(|s| s.partitions.was_lost(missed.partition));
        self.output_lost(missed.stage, |partitions| match missed.whole {
            true => partitions.lose_worker(&there),
            false => partitions.lose_damaged(missed.partition, &there),
        });
        let input_name = self.stages.get(&missed.stage).map(|s| s.name.clone()).unwrap_or_default();
        let Some(stage) = self.stages.get_mut(&task.stage) else { return };
        stage.partitions.give_back(task.partition, task.attempt, None);
        let times = match inputs_were_there {
            true => stage.misses.count(task.partition, again),
            false => 0,
        };
        if times <= self.policy.max_stage_reruns {
            let message = format!(
                "the output of {} ({input_name}), partition {}, is gone from {}",
                missed.stage, missed.partition, missed.executor
            );
            out.push(Action::TaskRetried { task, executor, failure: input_trouble(message) });
            self.rank(task.stage);
        } else {
            let cause = FailureCause::InputLost {
                task,
                name: stage.name.clone(),
                input: missed.stage,
                input_name,
                executor: missed.executor,
                times,
            };
            self.fail_stage(task.stage, &cause, out);
        }
    }
}

fn input_trouble(message: String) -> TaskFailure {
    TaskFailure { message, retryable: true, executor_at_fault: false }
}
