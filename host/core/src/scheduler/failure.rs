//! Why a job failed or a request was refused: data first, then words.

use std::fmt;
use std::time::Duration;

use super::event::{Excluded, TaskFailure};
use crate::ids::{ExecutorId, JobId, StageId, TaskId};

/// Why a job is over without its results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFailure {
    /// The job.
    pub job: JobId,
    /// What ended it.
    pub cause: FailureCause,
}

/// What ended a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureCause {
    /// The driver gave it up.
    Cancelled,
    /// A partition failed too often, or once for good.
    Task {
        /// The last try.
        task: TaskId,
        /// The name of its stage.
        name: String,
        /// Where it ran.
        executor: ExecutorId,
        /// How many tries failed.
        failures: u32,
        /// What the last one said.
        failure: TaskFailure,
    },
    /// A partition's task was interrupted too often.
    Interrupted {
        /// The last try.
        task: TaskId,
        /// The name of its stage.
        name: String,
        /// The last executor.
        executor: ExecutorId,
        /// How many tries were interrupted.
        times: u32,
        /// What is known of the last time.
        reason: String,
    },
    /// A stage's input was lost too often.
    InputLost {
        /// The last task that missed it.
        task: TaskId,
        /// The name of its stage.
        name: String,
        /// The stage that made the input.
        input: StageId,
        /// The name of that stage.
        input_name: String,
        /// Where the input was.
        executor: ExecutorId,
        /// How often in a row.
        times: u32,
    },
    /// All executors were excluded, for too long.
    Excluded {
        /// A stage that had tasks to launch.
        stage: StageId,
        /// The name of that stage.
        name: String,
        /// How long the job waited.
        waited: Duration,
        /// What was excluded last, and why.
        last: Option<(Excluded, String)>,
    },
}

impl fmt::Display for JobFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let job = self.job;
        match &self.cause {
            FailureCause::Cancelled => write!(f, "{job} was cancelled"),
            FailureCause::Task { task, name, executor, failures, failure } => {
                write!(f, "{job} failed: {} ({name}), partition {}", task.stage, task.partition)?;
                if *failures > 1 {
                    write!(f, " failed {failures} times, last in")?;
                } else {
                    write!(f, ",")?;
                }
                write!(f, " attempt {} on {executor}: {}", task.attempt, failure.message)
            }
            FailureCause::Interrupted { task, name, executor, times, reason } => write!(
                f,
                "{job} failed: {} ({name}), partition {} was interrupted {times} times, \
                 last in attempt {} on {executor}: {reason}",
                task.stage, task.partition, task.attempt
            ),
            FailureCause::InputLost { task, name, input, input_name, executor, times } => write!(
                f,
                "{job} failed: {} ({name}) missed output of {input} ({input_name}) {times} times \
                 in a row, last in partition {}, attempt {}, looking on {executor}",
                task.stage, task.partition, task.attempt
            ),
            FailureCause::Excluded { stage, name, waited, last } => {
                write!(
                    f,
                    "{job} failed: {stage} ({name}) found no executor for {} s, since all are excluded \
                     after failures of tasks there",
                    waited.as_secs()
                )?;
                if let Some((what, reason)) = last {
                    write!(f, ", {what} last: {reason}")?;
                }
                write!(
                    f,
                    "; the log says which failures, and for how long; add workers, or mend those"
                )
            }
        }
    }
}

impl std::error::Error for JobFailure {}

/// Why a definition or a submission has no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Stage ids ascend, so that inputs come first and a late message can't mean another stage.
    #[error("{stage} can't be defined: ids ascend, and a later one is taken")]
    StageIdTaken {
        /// The stage.
        stage: StageId,
    },
    /// An input that isn't there or makes no shuffle output.
    #[error(
        "{stage} can't be defined: its input {parent} is no shuffle stage defined before, or dropped"
    )]
    BadParent {
        /// The stage.
        stage: StageId,
        /// The input.
        parent: StageId,
    },
    /// Too many tasks.
    #[error("{stage} can't have {tasks} tasks: at most {max} are allowed; use fewer partitions")]
    TooManyTasks {
        /// The stage.
        stage: StageId,
        /// Asked for.
        tasks: u32,
        /// Allowed.
        max: u32,
    },
    /// Too long a name.
    #[error("{stage} can't be defined: its name has {length} bytes; at most {max} are allowed")]
    NameTooLong {
        /// The stage.
        stage: StageId,
        /// Its length.
        length: usize,
        /// Allowed.
        max: usize,
    },
    /// Too many stages.
    #[error("{stage} can't be defined: there are {max} stages, and no more are allowed")]
    TooManyStages {
        /// The stage.
        stage: StageId,
        /// Allowed.
        max: usize,
    },
    /// Too many inputs of all stages together.
    #[error("{stage} can't be defined: all stages together would have more than {max} inputs")]
    TooManyInputs {
        /// The stage.
        stage: StageId,
        /// Allowed.
        max: usize,
    },
    /// Job ids ascend.
    #[error("{job} can't be submitted: ids ascend, and a later one is taken")]
    JobIdTaken {
        /// The job.
        job: JobId,
    },
    /// No such stage.
    #[error("{job} can't be submitted: there is no {stage}; it was never defined, or dropped")]
    NoSuchStage {
        /// The job.
        job: JobId,
        /// The stage.
        stage: StageId,
    },
    /// A stage that only makes shuffle output.
    #[error("{job} can't be submitted: {stage} makes shuffle output, which is no result")]
    NoResults {
        /// The job.
        job: JobId,
        /// The stage.
        stage: StageId,
    },
    /// Too many jobs at once.
    #[error("{job} can't be submitted: {max} jobs are running, and no more are allowed at once")]
    TooManyJobs {
        /// The job.
        job: JobId,
        /// Allowed.
        max: usize,
    },
}
