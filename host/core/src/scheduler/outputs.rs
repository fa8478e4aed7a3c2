//! Which shuffle output is there, for those who tell tasks where to look.

use super::Scheduler;
use super::event::StageOutput;
use super::partitions::Partitions;
use crate::ids::{ExecutorId, StageId};

impl Scheduler {
    /// The accepted outputs of a shuffle stage: partition, attempt, and the executor that made it. None if there is no such
    /// stage, or it makes results. It is the whole table whenever a task of a stage that reads it is launched.
    pub fn outputs(
        &self,
        stage: StageId,
    ) -> Option<impl Iterator<Item = (u32, u32, ExecutorId)> + '_> {
        let shuffle = self.stages.get(&stage).filter(|s| s.output == StageOutput::Shuffle)?;
        Some(shuffle.partitions.outputs())
    }

    /// A number that grows whenever [`outputs`](Self::outputs) of a stage changes; 0 for one that never had any.
    pub fn outputs_version(&self, stage: StageId) -> u64 {
        self.stages.get(&stage).map_or(0, |s| s.outputs_version)
    }

    /// Takes output of a shuffle stage away; `lose` says how much it was.
    pub(super) fn output_lost(&mut self, id: StageId, lose: impl FnOnce(&mut Partitions) -> usize) {
        let Some(stage) = self.stages.get_mut(&id) else { return };
        if stage.output != StageOutput::Shuffle {
            return;
        }
        let had_output = stage.has_output();
        if lose(&mut stage.partitions) > 0 {
            stage.outputs_version += 1;
        }
        if had_output && !stage.has_output() {
            let jobs: Vec<_> = stage.needs.keys().copied().collect();
            let (parents, children) = (stage.parents.clone(), stage.children.clone());
            for child in children {
                if let Some(stage) = self.stages.get_mut(&child) {
                    stage.missing_parents += 1;
                    self.rank(child);
                }
            }
            for job in jobs {
                parents.iter().for_each(|&parent| self.need(job, parent));
            }
        }
        self.rank(id);
    }
}
