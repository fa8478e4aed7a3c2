//! Who runs what.

use super::Scheduler;
use super::event::{Action, TaskLaunch};
use super::partitions::Asker;
use crate::ids::{ExecutorId, StageId, TaskId};

impl Scheduler {
    /// Launches what can be. `refill` has just reported, and may be given tasks ahead.
    pub(super) fn dispatch(&mut self, refill: Option<ExecutorId>, out: &mut Vec<Action>) {
        if !self.begins() {
            return;
        }
        let first = self.ready.first().copied();
        self.launch_copies(first);
        self.fill_idle_slots(out);
        self.launch_copies(None);
        if let Some(executor) = refill {
            self.look_ahead(executor, out);
        }
        self.executors.flush(out);
    }

    /// Deals tasks to the executors with idle slots one by one, so that few tasks spread over many executors.
    fn fill_idle_slots(&mut self, out: &mut Vec<Action>) {
        let mut launched = true;
        while launched && !self.ready.is_empty() {
            launched = false;
            let mut next = self.executors.idle_after(None);
            while let Some(executor) = next
                && !self.ready.is_empty()
            {
                launched |= self.launch_any(executor, out);
                next = self.executors.idle_after(Some(executor));
            }
        }
    }

    /// Queues short tasks at an executor, so that its slots needn't wait for us between them. One that is not asked here has
    /// work, and is asked when it reports.
    ///
    /// Only the stage whose turn it is looks ahead: others could put their tasks behind its long ones.
    fn look_ahead(&mut self, executor: ExecutorId, out: &mut Vec<Action>) {
        let Some(&(_, _, id)) = self.ready.first() else { return };
        let (Some(stage), Some(to)) = (self.stages.get(&id), self.executors.get(executor)) else {
            return;
        };
        if !to.is_usable() {
            return;
        }
        let (target, max) = (self.policy.queue_target, self.policy.max_lookahead);
        let ahead = stage.partitions.lookahead(target, max, self.executors.slots());
        let most = u64::from(to.slots()) * (u64::from(ahead) + 1);
        let room = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(to.load());
        self.launch_from(id, executor, room, out);
    }

    /// An executor that asks for a task.
    pub(super) fn asker(&self, executor: ExecutorId) -> Asker {
        Asker { executor, alone: self.executors.usable() == 1 }
    }

    /// Launches one task of the first stage that has one for this executor.
    fn launch_any(&mut self, executor: ExecutorId, out: &mut Vec<Action>) -> bool {
        let asker = self.asker(executor);
        let mut ready = self.ready.iter();
        let has_work = |id| {
            let stage = self.stages.get(id);
            stage.is_some_and(|s| s.partitions.has_work_for(asker))
        };
        match ready.find(|(_, _, id)| has_work(id)) {
            Some(&(_, _, id)) => self.launch_from(id, executor, 1, out) > 0,
            None => false,
        }
    }

    /// Launches up to `count` tasks of a ready stage; gives how many it did.
    fn launch_from(
        &mut self,
        id: StageId,
        executor: ExecutorId,
        count: usize,
        out: &mut Vec<Action>,
    ) -> usize {
        let asker = self.asker(executor);
        let Some(stage) = self.stages.get_mut(&id) else { return 0 };
        let Some(job) = stage.first_job() else { return 0 };
        let partitions = &mut stage.partitions;
        let missing = partitions.pending() + partitions.running();
        let mut launched = 0;
        while launched < count {
            let Some(position) = self.executors.next_position(executor) else { break };
            let Some((partition, attempt)) = partitions.launch(asker, position) else {
                break;
            };
            let task = TaskId { stage: id, partition, attempt };
            self.executors.launch(executor, TaskLaunch { job, task }, self.now);
            launched += 1;
        }
        if launched > 0 && partitions.started.is_none() {
            partitions.started = Some(self.now);
            out.push(Action::StageStarted { job, stage: id, tasks: missing });
        }
        if partitions.pending() == 0 {
            self.rank(id);
        }
        self.note_straggling(id);
        launched
    }
}
