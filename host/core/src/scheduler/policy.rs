//! The numbers that the scheduler decides by.

use std::time::Duration;

/// Limits and targets of a [`Scheduler`](super::Scheduler). The bounds hold against a hostile driver.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How often a partition may fail before its jobs do. Failures that are not its own don't count.
    pub max_attempts: u32,
    /// How often in a row a stage's inputs may turn out to be lost before its jobs fail: with no success of its tasks in
    /// between, or for one of its partitions. So that a few losses among a million tasks fail nothing. Outputs that are lost
    /// for the first time count as one together.
    pub max_stage_reruns: u32,
    /// How often a partition's task may be interrupted, by the loss of its executor or a kill that nobody asked for, before
    /// its jobs fail: the end of a task that brings down each executor that it is given to.
    pub max_interruptions: u32,
    /// How much work an executor may have queued for each of its slots.
    pub queue_target: Duration,
    /// How many tasks an executor may have queued for each of its slots.
    pub max_lookahead: u32,
    /// How long tasks are kept for the executor that holds what they read of a cached dataset, from when their stage could start.
    pub locality_wait: Duration,
    /// What must have registered before any task is launched, if anything.
    pub min_registered: Option<MinRegistered>,
    /// When tasks that take long get a copy, if ever.
    pub speculation: Option<Speculation>,
    /// When executors on which tasks fail get no more tasks for a time, if ever.
    pub exclusion: Option<Exclusion>,
    /// Stages defined and not yet gone.
    pub max_stages: usize,
    /// Tasks of one stage.
    pub max_tasks_per_stage: u32,
    /// Inputs of all stages together.
    pub max_inputs: usize,
    /// Partitions of cached datasets whose place is known.
    pub max_cached: usize,
    /// Bytes of a stage's name.
    pub max_name: usize,
    /// Jobs at the same time.
    pub max_jobs: usize,
}

/// What tasks wait for before the first one is launched. Spark's `spark.scheduler.minRegisteredResourcesRatio`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinRegistered {
    /// Slots of executors that may be given tasks.
    pub slots: u64,
    /// How long they wait, counted from the scheduler's start.
    pub at_most: Duration,
}

/// When a task takes so long that another executor is asked to compute the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speculation {
    /// The share of a stage's tasks that must be done, from 0 to 1.
    pub quantile: f64,
    /// How many times as long as the median of those a task must run.
    pub multiplier: f64,
    /// How long a task must run at least.
    pub min_run_time: Duration,
}

impl Default for Speculation {
    fn default() -> Self {
        Self { quantile: 0.9, multiplier: 3.0, min_run_time: Duration::from_millis(100) }
    }
}

/// When executors on which tasks fail get no more tasks for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// How many partitions' tasks may fail on an executor until it is excluded. Failures for good are the task's own.
    pub max_task_failures_per_executor: u32,
    /// How many of a worker's executors may be excluded until all of it is.
    pub max_excluded_executors_per_worker: u32,
    /// For how long, and how long failures are remembered.
    pub timeout: Duration,
    /// How long a job waits when all executors are excluded, until it fails.
    pub abort_after: Duration,
}

impl Default for Exclusion {
    fn default() -> Self {
        Self {
            max_task_failures_per_executor: 2,
            max_excluded_executors_per_worker: 2,
            timeout: Duration::from_secs(3600),
            abort_after: Duration::from_secs(120),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_attempts: 4,
            max_stage_reruns: 4,
            max_interruptions: 16,
            queue_target: Duration::from_millis(5),
            max_lookahead: 64,
            locality_wait: Duration::from_secs(3),
            min_registered: None,
            speculation: None,
            exclusion: None,
            max_stages: 100_000,
            max_tasks_per_stage: 4_000_000,
            max_inputs: 1_000_000,
            max_cached: 4_000_000,
            max_name: 1024,
            max_jobs: 1_000,
        }
    }
}
