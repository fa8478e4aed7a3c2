//! The numbers that the scheduler decides by.

use std::time::Duration;

/// Limits and targets of a [`Scheduler`](super::Scheduler). The bounds hold against a hostile driver.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How often a partition may fail before its jobs do. Failures that are not its own don't count.
    pub max_attempts: u32,
    /// How often in a row a stage's inputs may turn out to be lost before its jobs fail.
    pub max_stage_reruns: u32,
    /// How often a partition's task may be interrupted, by the loss of its executor or a kill that nobody asked for, before
    /// its jobs fail: the end of a task that brings down each executor that it is given to.
    pub max_interruptions: u32,
    /// How much work an executor may have queued for each of its slots.
    pub queue_target: Duration,
    /// How many tasks an executor may have queued for each of its slots.
    pub max_lookahead: u32,
    /// Stages defined and not yet gone.
    pub max_stages: usize,
    /// Tasks of one stage.
    pub max_tasks_per_stage: u32,
    /// Inputs of all stages together.
    pub max_inputs: usize,
    /// Bytes of a stage's name.
    pub max_name: usize,
    /// Jobs at the same time.
    pub max_jobs: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_attempts: 4,
            max_stage_reruns: 4,
            max_interruptions: 16,
            queue_target: Duration::from_millis(5),
            max_lookahead: 64,
            max_stages: 100_000,
            max_tasks_per_stage: 4_000_000,
            max_inputs: 1_000_000,
            max_name: 1024,
            max_jobs: 1_000,
        }
    }
}
