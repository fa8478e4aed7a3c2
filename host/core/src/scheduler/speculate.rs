//! Second tasks for partitions whose first takes long.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use super::Scheduler;
use super::event::TaskLaunch;
use super::policy::Speculation;
use super::stage::{Rank, Stage};
use crate::ids::{ExecutorId, StageId, TaskId};

/// How often at most running tasks are looked at: no more often than one can become late.
fn interval(speculation: Speculation) -> Duration {
    speculation.min_run_time.clamp(Duration::from_millis(1), Duration::from_millis(100))
}

/// Tasks that take long.
#[derive(Debug, Default)]
pub(super) struct Stragglers {
    /// Stages whose tasks may be called late, and maybe others.
    stages: BTreeSet<StageId>,
    /// Late when last looked at, and not copied yet: partition and attempt. Some may have ended since.
    late: BTreeMap<(Rank, u32), u32>,
    looked: Option<Duration>,
}

impl Scheduler {
    /// A stage's tasks may be called late from now on.
    pub(super) fn note_straggling(&mut self, id: StageId) {
        if let Some(speculation) = self.policy.speculation
            && self.stages.get(&id).is_some_and(|s| s.partitions.passed(speculation.quantile))
        {
            self.stragglers.stages.insert(id);
        }
    }

    pub(super) fn next_look(&self) -> Option<Duration> {
        let speculation = self.policy.speculation?;
        let passed = |id| {
            self.stages.get(id).is_some_and(|stage| {
                stage.missing_parents == 0 && stage.partitions.passed(speculation.quantile)
            })
        };
        let any = self.stragglers.stages.iter().any(passed);
        any.then(|| {
            self.stragglers.looked.map_or(self.now, |looked| looked + interval(speculation))
        })
    }

    /// Finds the tasks that run too long. Looks at running tasks only, and at none unless a stage has enough that are done.
    pub(super) fn look_for_stragglers(&mut self) {
        let Some(speculation) = self.policy.speculation else { return };
        if self.stragglers.looked.is_some_and(|looked| self.now < looked + interval(speculation)) {
            return;
        }
        self.stragglers.looked = Some(self.now);
        self.stragglers.late.clear();
        let stages = &self.stages;
        self.stragglers.stages.retain(|id| {
            stages.get(id).is_some_and(|stage| stage.partitions.passed(speculation.quantile))
        });
        let limit = |id: &StageId| {
            let stage = stages.get(id).filter(|stage| stage.missing_parents == 0)?;
            let rank = (stage.first_job()?, stage.depth, *id);
            Some((*id, (stage, rank, too_long(stage, speculation)?)))
        };
        let limits: BTreeMap<_, _> = self.stragglers.stages.iter().filter_map(limit).collect();
        if limits.is_empty() {
            return;
        }
        let running = self.executors.iter().flat_map(|(_, executor)| executor.running());
        for (task, launched) in running {
            if let Some((stage, rank, limit)) = limits.get(&task.stage)
                && self.now - *launched > *limit
                && self.copyable(stage, task.partition, task.attempt).is_some()
            {
                self.stragglers.late.insert((*rank, task.partition), task.attempt);
            }
        }
    }

    /// How many late tasks have no copy yet.
    pub(super) fn late(&self) -> usize {
        self.stragglers.late.len()
    }

    fn copyable(&self, stage: &Stage, partition: u32, attempt: u32) -> Option<ExecutorId> {
        // Without all of its inputs a copy could only miss some.
        let max_failures = self.policy.max_attempts;
        let at = stage.partitions.copyable(partition, attempt, max_failures);
        at.filter(|_| stage.missing_parents == 0)
    }

    /// Launches copies of late tasks on executors with idle slots, as far as their stages come before `until`.
    pub(super) fn launch_copies(&mut self, until: Option<Rank>) {
        let (mut last, mut chosen) = (None, None);
        while let Some((key, attempt)) = self.late_after(last)
            && until.is_none_or(|until| key.0 < until)
            && self.executors.idle_after(None).is_some()
        {
            last = Some(key);
            let ((_, _, id), partition) = key;
            let stage = self.stages.get(&id);
            let at = stage.and_then(|stage| self.copyable(stage, partition, attempt));
            let Some(at) = at else {
                self.stragglers.late.remove(&key);
                continue;
            };
            let Some(executor) = self.executor_for_copy(at, chosen) else { continue };
            let Some(position) = self.executors.next_position(executor) else { continue };
            let Some(stage) = self.stages.get_mut(&id) else { continue };
            let Some(job) = stage.first_job() else { continue };
            let Some(attempt) = stage.partitions.copy(partition, executor, position) else {
                continue;
            };
            let task = TaskId { stage: id, partition, attempt };
            self.executors.launch(executor, TaskLaunch { job, task }, self.now);
            self.stragglers.late.remove(&key);
            chosen = Some(executor);
        }
    }

    fn late_after(&self, key: Option<(Rank, u32)>) -> Option<((Rank, u32), u32)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.stragglers.late.range((from, Bound::Unbounded)).next().map(|(k, a)| (*k, *a))
    }

    /// One with an idle slot other than where a task runs, if possible on another worker; the next after the one that was
    /// chosen last.
    fn executor_for_copy(&self, at: ExecutorId, last: Option<ExecutorId>) -> Option<ExecutorId> {
        let worker = self.executors.get(at)?.worker();
        let mut same_worker = None;
        for executor in self.executors.idle_from(last) {
            if self.executors.get(executor).is_some_and(|e| e.worker() != worker) {
                return Some(executor);
            }
            if executor != at {
                same_worker = same_worker.or(Some(executor));
            }
        }
        same_worker
    }
}

/// How long a task of a stage may run before it is late.
fn too_long(stage: &Stage, speculation: Speculation) -> Option<Duration> {
    let median = stage.partitions.median_run_time()?;
    let times = speculation.multiplier.max(0.0);
    let long = Duration::try_from_secs_f64(median.as_secs_f64() * times).unwrap_or(Duration::MAX);
    Some(long.max(speculation.min_run_time))
}
