//! Executors and workers on which tasks fail get no more tasks for a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Scheduler;
use super::event::{Action, Excluded};
use super::failure::FailureCause;
use super::policy::Exclusion;
use super::stage::Stage;
use crate::ids::{ExecutorId, JobId, StageId, TaskId, WorkerId};

/// What is excluded now.
#[derive(Debug, Default)]
pub(super) struct Exclusions {
    /// When each may have tasks again.
    until: BTreeSet<(Duration, Excluded)>,
    workers: BTreeSet<WorkerId>,
    /// Excluded executors, also ones that are gone, by their worker.
    executors: BTreeMap<WorkerId, BTreeSet<ExecutorId>>,
    /// Since when there are tasks to launch, and no executor but excluded ones.
    stuck_since: Option<Duration>,
    /// What was excluded last, and why.
    last: Option<(Excluded, String)>,
}

impl Exclusions {
    pub fn has_worker(&self, worker: WorkerId) -> bool {
        self.workers.contains(&worker)
    }

    fn has_executor(&self, worker: WorkerId, executor: ExecutorId) -> bool {
        self.executors.get(&worker).is_some_and(|there| there.contains(&executor))
    }

    fn remove(&mut self, executor: ExecutorId) {
        self.executors.retain(|_, there| {
            there.remove(&executor);
            !there.is_empty()
        });
    }

    /// A worker is gone for good.
    pub fn forget_worker(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
        let gone = self.executors.remove(&worker).unwrap_or_default();
        self.until.retain(|(_, what)| match what {
            Excluded::Executor(executor) => !gone.contains(executor),
            Excluded::Worker(of) => *of != worker,
        });
    }
}

impl Scheduler {
    /// The workers that get no tasks for now; executors elsewhere would.
    pub fn excluded_workers(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.exclusions.workers.iter().copied()
    }

    /// A task failed by itself, and maybe not by its own fault.
    pub(super) fn note_failure(
        &mut self,
        executor: ExecutorId,
        task: TaskId,
        out: &mut Vec<Action>,
    ) {
        let Some(exclusion) = self.policy.exclusion else { return };
        let failed = self.executors.failed(task, executor, self.now, exclusion.timeout);
        if failed < exclusion.max_task_failures_per_executor.max(1) {
            return;
        }
        let Some(worker) = self.executors.get(executor).map(|e| e.worker()) else { return };
        if self.exclusions.has_executor(worker, executor) {
            return;
        }
        let there = self.exclusions.executors.entry(worker).or_default();
        there.insert(executor);
        let excluded = there.len();
        self.executors.set_excluded(executor, true);
        let reason = format!("tasks of {failed} partitions failed there");
        self.excluded(Excluded::Executor(executor), exclusion, reason, out);
        if excluded >= exclusion.max_excluded_executors_per_worker.max(1) as usize {
            let reason = format!("{excluded} executors there are excluded");
            self.exclude_worker(worker, exclusion, reason, out);
        }
    }

    /// A task failed where any would have.
    pub(super) fn note_fault(&mut self, executor: ExecutorId, why: &str, out: &mut Vec<Action>) {
        let Some(exclusion) = self.policy.exclusion else { return };
        if let Some(worker) = self.executors.get(executor).map(|e| e.worker()) {
            self.exclude_worker(worker, exclusion, format!("of {executor}: {why}"), out);
        }
    }

    fn exclude_worker(
        &mut self,
        worker: WorkerId,
        exclusion: Exclusion,
        reason: String,
        out: &mut Vec<Action>,
    ) {
        if self.exclusions.workers.insert(worker) {
            self.executors.set_worker_excluded(worker, true);
            self.excluded(Excluded::Worker(worker), exclusion, reason, out);
        }
    }

    fn excluded(
        &mut self,
        what: Excluded,
        exclusion: Exclusion,
        reason: String,
        out: &mut Vec<Action>,
    ) {
        let until = self.now.saturating_add(exclusion.timeout);
        self.exclusions.until.insert((until, what));
        self.exclusions.last = Some((what, reason.clone()));
        out.push(Action::Excluded { what, reason, until });
    }

    /// Includes again what was excluded long enough.
    pub(super) fn include(&mut self, out: &mut Vec<Action>) {
        while let Some(&(until, what)) = self.exclusions.until.first()
            && until <= self.now
        {
            self.exclusions.until.pop_first();
            match what {
                Excluded::Executor(executor) => {
                    self.exclusions.remove(executor);
                    self.executors.set_excluded(executor, false);
                    if self.executors.get(executor).is_none() {
                        continue;
                    }
                }
                Excluded::Worker(worker) => {
                    self.exclusions.workers.remove(&worker);
                    self.executors.set_worker_excluded(worker, false);
                }
            }
            out.push(Action::Included { what });
        }
    }

    /// Whether exclusion is why no executor may be given tasks.
    pub(super) fn all_are_excluded(&self) -> bool {
        let here = |executor: &ExecutorId| self.executors.get(*executor).is_some();
        self.executors.usable() == 0
            && (!self.exclusions.workers.is_empty()
                || self.exclusions.executors.values().flatten().any(here))
    }

    /// Notes since when tasks wait for any executor that isn't excluded.
    pub(super) fn note_stuck(&mut self) {
        let stuck = !self.ready.is_empty() && self.all_are_excluded();
        self.exclusions.stuck_since =
            stuck.then(|| self.exclusions.stuck_since.unwrap_or(self.now));
    }

    /// Fails the jobs that waited too long for an executor that isn't excluded, also those whose turn comes by that.
    pub(super) fn give_up_stuck(&mut self, out: &mut Vec<Action>) {
        if self.exclusions.stuck_since.is_none() || !self.all_are_excluded() {
            return;
        }
        while let Some((at, stage, job)) = self.next_abort()
            && at <= self.now
            && let Some(exclusion) = self.policy.exclusion
        {
            let name = self.stages.get(&stage).map(|s| s.name.clone()).unwrap_or_default();
            let waited = (self.now - at).saturating_add(exclusion.abort_after);
            let last = self.exclusions.last.clone();
            self.fail_job(job, FailureCause::Excluded { stage, name, waited, last }, out);
        }
    }

    /// When jobs will have waited too long, and with which stage.
    fn aborts(&self) -> impl Iterator<Item = (Duration, StageId, JobId)> {
        let stuck = self.exclusions.stuck_since.zip(self.policy.exclusion);
        stuck.into_iter().flat_map(move |(since, exclusion)| {
            let jobs = self.ready.iter().flat_map(|&(_, _, stage)| {
                let jobs = self.stages.get(&stage).map(Stage::served_jobs).unwrap_or_default();
                jobs.into_iter().map(move |job| (stage, job))
            });
            jobs.filter_map(move |(stage, job)| {
                let since = since.max(self.jobs.get(&job)?.submitted);
                Some((since.saturating_add(exclusion.abort_after), stage, job))
            })
        })
    }

    fn next_abort(&self) -> Option<(Duration, StageId, JobId)> {
        self.aborts().min()
    }

    /// When exclusion changes something by itself.
    pub(super) fn next_exclusion(&self) -> Option<Duration> {
        let included = self.exclusions.until.first().map(|(until, _)| *until);
        included.into_iter().chain(self.next_abort().map(|(at, ..)| at)).min()
    }
}
