//! Which job needs which stage.
//!
//! Needs are counted, so that each change costs only the edges that it concerns. They spread through stages that lack
//! output and stop at those that have it. The walks keep a list instead of calling themselves: a hostile driver's chain of
//! stages would overflow the stack.

use super::Scheduler;
use super::event::{Action, StageOutput};
use super::partitions::Twin;
use super::stage::{Misses, Stage};
use crate::ids::{JobId, StageId, TaskId};

impl Scheduler {
    /// A job has one more reason to need a stage.
    pub(super) fn need(&mut self, job: JobId, id: StageId) {
        let mut work = vec![id];
        while let Some(id) = work.pop() {
            let Some(stage) = self.stages.get_mut(&id) else { continue };
            let reasons = stage.needs.entry(job).or_default();
            *reasons += 1;
            if *reasons == 1 {
                if !stage.has_output() {
                    work.extend(&stage.parents);
                }
                self.rank(id);
            }
        }
    }

    /// A job has one reason less to need a stage.
    pub(super) fn release(&mut self, job: JobId, id: StageId, out: &mut Vec<Action>) {
        let mut work = vec![id];
        while let Some(id) = work.pop() {
            let Some(stage) = self.stages.get_mut(&id) else { continue };
            let first = stage.first_job();
            let Some(reasons) = stage.needs.get_mut(&job) else { continue };
            *reasons -= 1;
            if *reasons > 0 {
                continue;
            }
            stage.needs.remove(&job);
            if !stage.has_output() {
                work.extend(&stage.parents);
            }
            let own_run_ends = stage.output == StageOutput::Results && first == Some(job);
            if stage.needs.is_empty() || own_run_ends {
                self.stop_stage(id, out);
            }
            self.rank(id);
            self.free_if_dropped(id, out);
        }
    }

    /// Ends the run of a stage that nobody needs now.
    fn stop_stage(&mut self, id: StageId, out: &mut Vec<Action>) {
        let Some(stage) = self.stages.get_mut(&id) else { return };
        stage.misses = Misses::default();
        // Highest place first: the last task of an executor's list takes the place of one that leaves, and so is never one
        // that is still to be stopped under its old place.
        let mut stopped = stage.partitions.stop();
        if stage.output == StageOutput::Results {
            stage.partitions.reset();
        }
        stopped.sort_unstable_by_key(|(_, at)| (at.executor, std::cmp::Reverse(at.position)));
        for (partition, at) in stopped {
            self.kill(id, partition, at, out);
        }
    }

    /// Stops a task that its stage doesn't know any more.
    pub(super) fn kill(&mut self, stage: StageId, partition: u32, at: Twin, out: &mut Vec<Action>) {
        let moved = self.executors.stop(at.executor, at.position);
        self.moved(moved, at.position);
        let task = TaskId { stage, partition, attempt: at.attempt };
        out.push(Action::Kill { executor: at.executor, task });
    }

    /// A task took another place in its executor's list.
    pub(super) fn moved(&mut self, task: Option<TaskId>, position: u32) {
        if let Some(task) = task
            && let Some(stage) = self.stages.get_mut(&task.stage)
        {
            stage.partitions.moved(task.partition, task.attempt, position);
        }
    }

    /// A stage computed its last partition.
    pub(super) fn stage_complete(&mut self, id: StageId, out: &mut Vec<Action>) {
        let Some(stage) = self.stages.get_mut(&id) else { return };
        let Some(job) = stage.first_job() else { return };
        stage.misses = Misses::default();
        let started = stage.partitions.started.take().unwrap_or(self.now);
        out.push(Action::StageFinished { job, stage: id, elapsed: self.now - started });
        match stage.output {
            StageOutput::Results => self.finish_job(job, out),
            StageOutput::Shuffle => {
                let jobs: Vec<_> = stage.needs.keys().copied().collect();
                let (parents, children) = (stage.parents.clone(), stage.children.clone());
                for child in children {
                    if let Some(stage) = self.stages.get_mut(&child) {
                        stage.missing_parents -= 1;
                        self.rank(child);
                    }
                }
                for job in jobs {
                    for &parent in &parents {
                        self.release(job, parent, out);
                    }
                }
            }
        }
        self.rank(id);
    }

    /// Brings a stage's entry in the queue of ready stages up to date.
    pub(super) fn rank(&mut self, id: StageId) {
        let Some(stage) = self.stages.get(&id) else { return };
        let rank = Stage::rank(stage, id);
        if rank.is_some() {
            self.keep_local(id);
        }
        let Some(stage) = self.stages.get_mut(&id) else { return };
        if rank != stage.queued {
            if let Some(old) = std::mem::replace(&mut stage.queued, rank) {
                self.ready.remove(&old);
            }
            self.ready.extend(rank);
        }
    }
}
