//! What the scheduler is told, and what it asks for.

use std::fmt;
use std::time::Duration;

use super::failure::{JobFailure, Refusal};
use crate::ids::{CacheId, ExecutorId, JobId, StageId, TaskId, WorkerId};

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// An executor is ready for tasks.
    ExecutorAdded {
        /// A name that no executor of this application had before.
        executor: ExecutorId,
        /// How many tasks it runs at a time.
        slots: u32,
        /// Where it runs, and where what it makes stays.
        worker: WorkerId,
    },
    /// An executor is gone, and the tasks it ran. Its map outputs belong to the worker and stay where they are, unless
    /// `outputs_lost`.
    ExecutorLost {
        /// The executor.
        executor: ExecutorId,
        /// For people.
        reason: String,
        /// Whether what it stored went with it.
        outputs_lost: bool,
    },
    /// The executors on a worker, and those that come there, are given no more tasks; those that they have may finish. See
    /// [`Scheduler::drained`](super::Scheduler::drained).
    WorkerDraining {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker is gone: all executors on it, and all that any executor that was ever on it made.
    WorkerLost {
        /// The worker.
        worker: WorkerId,
        /// For people.
        reason: String,
    },
    /// The driver described a stage. Ids ascend.
    StageDefined {
        /// Its name from now on.
        stage: StageId,
        /// What it is.
        spec: StageSpec,
    },
    /// The driver names a stage no more. Its output goes as soon as no job needs it; it is computed again if a stage that reads
    /// it needs it.
    StageDropped {
        /// The stage.
        stage: StageId,
    },
    /// The driver wants a stage's results. Ids ascend; jobs are served in their order.
    JobSubmitted {
        /// Its name from now on.
        job: JobId,
        /// A stage of [`StageOutput::Results`].
        stage: StageId,
    },
    /// Nobody wants a job's results any more.
    JobCancelled {
        /// The job.
        job: JobId,
    },
    /// An executor reports tasks that ended, any number at once.
    TasksEnded {
        /// The executor.
        executor: ExecutorId,
        /// In any order.
        ended: Vec<TaskEnd>,
    },
    /// A cached dataset's partitions are freed wherever they are.
    CacheDropped {
        /// The dataset.
        cache: CacheId,
    },
    /// Time passed: see [`Scheduler::next_tick`](super::Scheduler::next_tick).
    Tick,
    /// Map outputs are gone.
    OutputLost {
        /// The stage that made them.
        stage: StageId,
        /// The partitions of that stage.
        partitions: Vec<u32>,
    },
}

/// A stage as the scheduler sees it.
#[derive(Clone, Debug)]
pub struct StageSpec {
    /// For people.
    pub name: String,
    /// How many partitions.
    pub tasks: u32,
    /// The shuffle stages whose output its tasks read, defined before.
    pub parents: Vec<StageId>,
    /// The cached datasets that its tasks look into first.
    pub cached: Vec<CachedInput>,
    /// Where its output goes.
    pub output: StageOutput,
}

/// A cached dataset whose partitions a stage's tasks read one by one, in order: if an executor holds the partition of a task, the task
/// had better run there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedInput {
    /// The dataset.
    pub cache: CacheId,
    /// The task that reads its partition 0.
    pub first: u32,
}

/// Where a stage's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageOutput {
    /// To the driver, or to files: wanted once for each job that runs the stage.
    Results,
    /// It stays with the executors, for the stages that read it.
    Shuffle,
}

/// How a task ended.
#[derive(Clone, Debug)]
pub struct TaskEnd {
    /// The task.
    pub task: TaskId,
    /// How long it ran, without the time it was queued.
    pub run_time: Duration,
    /// What came of it.
    pub outcome: Outcome,
    /// The partitions of cached datasets that it stored on its executor.
    pub stored: Vec<(CacheId, u32)>,
}

/// What came of a task.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Its output is complete, and uncommitted until [`Action::Accept`].
    Succeeded,
    /// It failed by itself.
    Failed(TaskFailure),
    /// It was stopped.
    Killed,
    /// It couldn't read one of its inputs.
    FetchFailed {
        /// The stage whose output it read.
        stage: StageId,
        /// The partition of that stage.
        partition: u32,
        /// The attempt that made it, as the task was told.
        attempt: u32,
        /// The executor that made it, as the task was told.
        executor: ExecutorId,
        /// Whether nothing of that stage can be had from there, as when the worker doesn't answer, whichever of its executors made
        /// it; else it is only this output that is missing or damaged.
        whole: bool,
    },
}

/// Why a task failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFailure {
    /// For people.
    pub message: String,
    /// Whether another try might end otherwise.
    pub retryable: bool,
    /// Whether any task would have failed there, as with a full disk. Then it doesn't count as the partition's failure but as
    /// an interruption, is always retried, and excludes the executor's worker.
    pub executor_at_fault: bool,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send an executor tasks, to run in this order.
    Launch {
        /// The executor.
        executor: ExecutorId,
        /// At least one.
        tasks: Vec<TaskLaunch>,
    },
    /// Stop a task, or don't begin it. Its end must still be reported.
    Kill {
        /// The executor that has it.
        executor: ExecutorId,
        /// The task.
        task: TaskId,
    },
    /// Commit what this task made: once for each partition that a run of a stage computes.
    Accept {
        /// The first of the jobs that need the stage.
        job: JobId,
        /// The task.
        task: TaskId,
        /// The executor that ran it, and on whose worker its output is.
        executor: ExecutorId,
    },
    /// Throw away what this task made: it came too late. Never one that was accepted, unless its output got lost since.
    Discard {
        /// The executor that reported it.
        executor: ExecutorId,
        /// The task.
        task: TaskId,
    },
    /// Throw away a stage's output.
    DropOutput {
        /// The stage.
        stage: StageId,
    },
    /// A dropped stage is gone: nothing reads it, and nobody can name it. Whatever is left of its output goes too.
    StageForgotten {
        /// The stage.
        stage: StageId,
    },
    /// A stage's first tasks are about to be launched, or the first again after it lost output.
    StageStarted {
        /// The first of the jobs that need it.
        job: JobId,
        /// The stage.
        stage: StageId,
        /// How many partitions are still to be computed.
        tasks: u32,
    },
    /// All of a stage's output is there.
    StageFinished {
        /// The first of the jobs that need it.
        job: JobId,
        /// The stage.
        stage: StageId,
        /// Time since it started.
        elapsed: Duration,
    },
    /// A task will be tried again: for the log.
    TaskRetried {
        /// The try that failed.
        task: TaskId,
        /// Where.
        executor: ExecutorId,
        /// Why.
        failure: TaskFailure,
    },
    /// An executor or all of a worker gets no more tasks for a time: for the log.
    Excluded {
        /// Which.
        what: Excluded,
        /// Why.
        reason: String,
        /// Until when, as `now` counts.
        until: Duration,
    },
    /// What was excluded gets tasks again: for the log.
    Included {
        /// Which.
        what: Excluded,
    },
    /// All of a job's results are accepted.
    JobFinished {
        /// The job.
        job: JobId,
        /// Time since it was submitted.
        elapsed: Duration,
    },
    /// A job failed or was cancelled, and is over.
    JobFailed {
        /// Why.
        failure: Box<JobFailure>,
    },
    /// A definition or a submission has no effect.
    Refused(Refusal),
}

/// What gets no tasks for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Excluded {
    /// One executor.
    Executor(ExecutorId),
    /// All executors on a worker, and those that come.
    Worker(WorkerId),
}

impl fmt::Display for Excluded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Executor(executor) => executor.fmt(f),
            Self::Worker(worker) => worker.fmt(f),
        }
    }
}

/// A task to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLaunch {
    /// The first of the jobs that need it.
    pub job: JobId,
    /// The task.
    pub task: TaskId,
}
