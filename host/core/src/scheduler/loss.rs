//! What goes with an executor or a worker.

use super::Scheduler;
use super::event::Action;
use crate::ids::{ExecutorId, StageId, WorkerId};

impl Scheduler {
    pub(super) fn executor_lost(
        &mut self,
        executor: ExecutorId,
        reason: &str,
        outputs_lost: bool,
        out: &mut Vec<Action>,
    ) {
        if outputs_lost {
            self.outputs_lost(&[executor]);
        }
        self.executors_gone(&[executor], reason, out);
        let holds = |stage: &super::stage::Stage| stage.partitions.holds_output_of(executor);
        if outputs_lost || !self.stages.values().any(holds) {
            self.executors.forget(executor);
        }
    }

    pub(super) fn worker_lost(&mut self, worker: WorkerId, reason: &str, out: &mut Vec<Action>) {
        let executors = self.executors.forget_worker(worker);
        self.exclusions.forget_worker(worker);
        self.outputs_lost(&executors);
        self.executors_gone(&executors, reason, out);
    }

    /// All shuffle output that these executors made is gone.
    fn outputs_lost(&mut self, executors: &[ExecutorId]) {
        let holds = |executor: &ExecutorId, stage: StageId| {
            let stage = self.stages.get(&stage);
            stage.is_some_and(|s| s.partitions.holds_output_of(*executor))
        };
        let concerned = |stage: &StageId| executors.iter().any(|e| holds(e, *stage));
        let stages: Vec<StageId> = self.stages.keys().copied().filter(concerned).collect();
        for stage in stages {
            self.output_lost(stage, |partitions| {
                executors.iter().map(|e| partitions.lose_all_of(*e)).sum()
            });
        }
    }

    /// Gives the tasks back that these executors had.
    fn executors_gone(&mut self, executors: &[ExecutorId], reason: &str, out: &mut Vec<Action>) {
        let mut tasks = Vec::new();
        for &executor in executors {
            let had = self.executors.remove(executor).unwrap_or_default();
            tasks.extend(had.into_iter().map(|task| (executor, task)));
        }
        // All of them first: a job that fails for one of them must not kill the others on an executor that is gone.
        for (_, task) in &tasks {
            if let Some(stage) = self.stages.get_mut(&task.stage) {
                stage.partitions.give_back(task.partition, task.attempt, None);
            }
        }
        for (executor, task) in tasks {
            self.task_interrupted(executor, task, reason, out);
        }
    }
}
