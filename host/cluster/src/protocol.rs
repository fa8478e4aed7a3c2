//! The scheduler's words as messages, and back. What comes from a peer is checked here, before anything believes it.

use std::time::Duration;

use ingle_core::ids::{ExecutorId, JobId, StageId, TaskId};
use ingle_core::scheduler::{Outcome, TaskEnd, TaskFailure, TaskLaunch};
use ingle_proto::v1;

/// A peer's message that means nothing.
#[derive(Debug, thiserror::Error)]
#[error("a message of the task protocol lacks its {0}")]
pub struct Malformed(&'static str);

/// A task's name as a message.
pub fn task_message(task: TaskId) -> v1::TaskId {
    v1::TaskId { stage: task.stage.0, partition: task.partition, attempt: task.attempt }
}

/// A task's name from a message.
pub fn task_id(message: Option<v1::TaskId>) -> Result<TaskId, Malformed> {
    let v1::TaskId { stage, partition, attempt } = message.ok_or(Malformed("task"))?;
    Ok(TaskId { stage: StageId(stage), partition, attempt })
}

/// Tasks to run, as a command.
pub fn launch_command(tasks: &[TaskLaunch]) -> v1::ExecutorCommand {
    let launch = |launch: &TaskLaunch| v1::TaskLaunch {
        job: launch.job.0,
        task: Some(task_message(launch.task)),
    };
    let tasks = tasks.iter().map(launch).collect();
    command(v1::executor_command::Command::Launch(v1::executor_command::Launch { tasks }))
}

/// A task to run, from a message.
pub fn task_launch(message: &v1::TaskLaunch) -> Result<TaskLaunch, Malformed> {
    Ok(TaskLaunch { job: JobId(message.job), task: task_id(message.task)? })
}

/// Any command.
pub fn command(command: v1::executor_command::Command) -> v1::ExecutorCommand {
    v1::ExecutorCommand { command: Some(command) }
}

/// The end of a task, as the scheduler wants it.
pub fn task_end(message: v1::TaskEnd) -> Result<TaskEnd, Malformed> {
    use v1::task_end::Outcome as Message;

    let task = task_id(message.task)?;
    let run_time = Duration::from_nanos(message.metrics.unwrap_or_default().run_nanos);
    let outcome = match message.outcome.ok_or(Malformed("outcome"))? {
        Message::Succeeded(_) => Outcome::Succeeded,
        Message::Killed(_) => Outcome::Killed,
        Message::Failed(v1::TaskFailed { message, retryable }) => {
            Outcome::Failed(TaskFailure { message, retryable })
        }
        Message::FetchFailed(missed) => Outcome::FetchFailed {
            stage: StageId(missed.stage),
            partition: missed.partition,
            executor: ExecutorId(missed.executor),
        },
    };
    Ok(TaskEnd { task, run_time, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_comes_back_as_it_was_sent() {
        let task = TaskId { stage: StageId(3), partition: 7, attempt: 1 };
        let launch = TaskLaunch { job: JobId(2), task };
        let sent = launch_command(&[launch]);
        let Some(v1::executor_command::Command::Launch(got)) = sent.command else {
            panic!("a launch")
        };
        assert_eq!(task_launch(&got.tasks[0]).unwrap(), launch);
    }

    #[test]
    fn an_end_without_a_task_or_an_outcome_is_refused() {
        let whole = v1::TaskEnd {
            task: Some(v1::TaskId { stage: 1, partition: 2, attempt: 0 }),
            metrics: None,
            outcome: Some(v1::task_end::Outcome::Succeeded(v1::Succeeded {})),
        };
        assert!(task_end(whole.clone()).is_ok());
        let nameless = task_end(v1::TaskEnd { task: None, ..whole.clone() }).unwrap_err();
        assert_eq!(nameless.to_string(), "a message of the task protocol lacks its task");
        assert!(task_end(v1::TaskEnd { outcome: None, ..whole }).is_err());
    }
}
