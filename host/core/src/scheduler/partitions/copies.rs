//! Second tasks for partitions whose first takes long. Few partitions have one, so they are beside the states.

use super::{Partitions, State};
use crate::ids::ExecutorId;

/// A task that computes what another does at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scheduler) struct Twin {
    pub attempt: u32,
    pub executor: ExecutorId,
    /// Its place in the executor's list of tasks.
    pub position: u32,
}

impl Partitions {
    /// The highest attempt of a partition that was launched.
    pub(super) fn highest_attempt(&self, partition: u32) -> Option<u32> {
        let latest = self.parts.get(partition as usize)?.attempt;
        Some(self.copied.get(&partition).map_or(latest, |copied| latest.max(*copied)))
    }

    /// How many copies run.
    pub fn copies(&self) -> usize {
        self.copies.len()
    }

    /// Those that run, by their partition.
    pub fn copies_running(&self) -> impl Iterator<Item = (u32, Twin)> {
        self.copies.iter().map(|(partition, copy)| (*partition, *copy))
    }

    /// Whether a task of a partition runs, and might be copied: where it runs.
    pub fn copyable(&self, partition: u32, attempt: u32, max_failures: u32) -> Option<ExecutorId> {
        let part = self.parts.get(partition as usize).filter(|p| p.attempt == attempt)?;
        let has_copy = self.copies.contains_key(&partition);
        match part.state {
            // One that failed so often must not go on to fail in copies.
            State::Running { executor, .. }
                if !has_copy && u32::from(part.failures) < max_failures =>
            {
                Some(executor)
            }
            _ => None,
        }
    }

    /// A copy of a running task is launched; gives its attempt.
    pub fn copy(&mut self, partition: u32, executor: ExecutorId, position: u32) -> Option<u32> {
        let attempt = self.highest_attempt(partition)? + 1;
        self.copied.insert(partition, attempt);
        self.copies.insert(partition, Twin { attempt, executor, position });
        Some(attempt)
    }

    /// Whether so many are done that the others may be called late.
    pub fn passed(&self, quantile: f64) -> bool {
        let most = (f64::from(self.tasks) * quantile).floor().max(1.0);
        self.running as usize > self.copies.len() && f64::from(self.done) >= most
    }
}
