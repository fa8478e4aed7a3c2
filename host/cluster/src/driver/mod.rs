//! A driver's host: the application, which owns the scheduler, and the answers to the guest's `main`.

mod application;
mod host;
mod opened;
mod results;
mod server;
mod stages;
mod tables;

use std::fmt;
use std::time::Duration;

use ingle_core::ids::{ExecutorId, JobId, StageId, TaskId};
use ingle_proto::v1;
use ingle_sandbox::Image;

pub use application::{Application, Counts, LargestTask, PeakMemory, StageTook};
pub use host::{Driver, Parallelism};
pub use opened::{Opened, OutputPlace};
pub use results::{Made, Updates};
pub use server::{Grant, Hub, Service};
pub use stages::manifest;

/// The way to an executor. Commands arrive in order.
pub trait ExecutorLink: Send + Sync {
    /// An image goes beside the description of the stage that starts from it.
    fn send(&self, command: v1::ExecutorCommand, image: Option<Image>);

    /// Whether it shares nothing with the driver, and must be told of everything.
    fn is_elsewhere(&self) -> bool {
        false
    }
}

/// The way back to the driver.
pub trait Reports: Send + Sync {
    /// Tasks ended; what each made goes beside its message.
    fn ended(&self, executor: ExecutorId, ended: Vec<(v1::TaskEnd, Made)>);
}

/// What a user may want to hear while a job runs.
#[derive(Clone, Debug)]
pub enum Note {
    /// A stage's first tasks are launched.
    StageStarted {
        /// For which action.
        job: JobId,
        /// The stage.
        stage: StageId,
        /// Its name.
        name: String,
        /// Its operators, first to last.
        operators: Vec<String>,
        /// How many tasks are to run.
        tasks: u32,
    },
    /// All of a stage's output is there.
    StageFinished {
        /// For which action.
        job: JobId,
        /// The stage.
        stage: StageId,
        /// Its name.
        name: String,
        /// Since it started.
        elapsed: Duration,
        /// What its tasks took; none if none ran.
        took: Option<StageTook>,
    },
    /// A task failed and is tried again.
    TaskRetried {
        /// The try that failed.
        task: TaskId,
        /// The name of its stage.
        name: String,
        /// Where.
        executor: ExecutorId,
        /// Why, with the guest's backtrace.
        message: String,
    },
    /// What the cluster has to say: of executors that come and go, and of what is waited for.
    Cluster(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StageStarted { job, stage, name, operators, tasks } => {
                let operators = operators.join(" > ");
                write!(f, "{job}, {stage} ({name}) starts, {tasks} tasks: {operators}")
            }
            Self::Cluster(text) => f.write_str(text),
            Self::StageFinished { job, stage, name, elapsed, took } => {
                let seconds = elapsed.as_secs_f64();
                write!(f, "{job}, {stage} ({name}) is done after {seconds:.3} s")?;
                took.iter().try_for_each(|took| write!(f, ": {took}"))
            }
            Self::TaskRetried { task, name, executor, message } => {
                let TaskId { stage, partition, attempt } = task;
                write!(
                    f,
                    "{stage} ({name}), partition {partition}, attempt {attempt} on {executor} failed and is \
                     tried again: {message}"
                )
            }
        }
    }
}
