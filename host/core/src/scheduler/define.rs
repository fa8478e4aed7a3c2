//! Stages and jobs come and go.

use super::event::{Action, StageOutput, StageSpec};
use super::failure::{FailureCause, JobFailure, Refusal};
use super::stage::Stage;
use super::{Job, Scheduler};
use crate::ids::{JobId, StageId};

impl Scheduler {
    /// Whether a definition will be taken; for shells that must answer at once.
    pub fn check_stage(&self, stage: StageId, spec: &StageSpec) -> Result<(), Refusal> {
        let policy = &self.policy;
        if self.last_stage.is_some_and(|last| stage <= last) {
            return Err(Refusal::StageIdTaken { stage });
        }
        if self.stages.len() >= policy.max_stages {
            return Err(Refusal::TooManyStages { stage, max: policy.max_stages });
        }
        if spec.tasks > policy.max_tasks_per_stage {
            let (tasks, max) = (spec.tasks, policy.max_tasks_per_stage);
            return Err(Refusal::TooManyTasks { stage, tasks, max });
        }
        if spec.name.len() > policy.max_name {
            let (length, max) = (spec.name.len(), policy.max_name);
            return Err(Refusal::NameTooLong { stage, length, max });
        }
        if spec.parents.len() + spec.cached.len() > policy.max_inputs.saturating_sub(self.inputs) {
            return Err(Refusal::TooManyInputs { stage, max: policy.max_inputs });
        }
        for &parent in &spec.parents {
            let shuffles = |p: &Stage| p.output == StageOutput::Shuffle && !p.dropped;
            if !self.stages.get(&parent).is_some_and(shuffles) {
                return Err(Refusal::BadParent { stage, parent });
            }
        }
        Ok(())
    }

    /// Whether a submission will be taken; for shells that must answer at once.
    pub fn check_job(&self, job: JobId, stage: StageId) -> Result<(), Refusal> {
        if self.last_job.is_some_and(|last| job <= last) {
            return Err(Refusal::JobIdTaken { job });
        }
        match self.stages.get(&stage).filter(|s| !s.dropped) {
            None => return Err(Refusal::NoSuchStage { job, stage }),
            Some(s) if s.output == StageOutput::Shuffle => {
                return Err(Refusal::NoResults { job, stage });
            }
            Some(_) => {}
        }
        if self.jobs.len() >= self.policy.max_jobs {
            return Err(Refusal::TooManyJobs { job, max: self.policy.max_jobs });
        }
        Ok(())
    }

    pub(super) fn define(&mut self, id: StageId, mut spec: StageSpec, out: &mut Vec<Action>) {
        if let Err(refusal) = self.check_stage(id, &spec) {
            out.push(Action::Refused(refusal));
            return;
        }
        let mut parents = std::mem::take(&mut spec.parents);
        parents.sort_unstable();
        parents.dedup();
        let (mut depth, mut missing) = (0, 0);
        for parent in &parents {
            if let Some(parent) = self.stages.get_mut(parent) {
                parent.children.insert(id);
                depth = depth.max(parent.depth + 1);
                missing += usize::from(!parent.has_output());
            }
        }
        self.inputs += parents.len() + spec.cached.len();
        self.last_stage = Some(id);
        self.stages.insert(id, Stage::new(spec, parents, depth, missing));
    }

    pub(super) fn drop_stage(&mut self, id: StageId, out: &mut Vec<Action>) {
        if let Some(stage) = self.stages.get_mut(&id) {
            stage.dropped = true;
            self.free_if_dropped(id, out);
        }
    }

    /// Frees a dropped stage's output if no job needs it, and forgets it, and dropped inputs of it, if no stage reads it.
    pub(super) fn free_if_dropped(&mut self, id: StageId, out: &mut Vec<Action>) {
        let mut work = vec![id];
        while let Some(id) = work.pop() {
            let Some(stage) = self.stages.get(&id) else { continue };
            if !stage.dropped || !stage.needs.is_empty() {
                continue;
            }
            if stage.partitions.done() > 0 && stage.output == StageOutput::Shuffle {
                out.push(Action::DropOutput { stage: id });
            }
            self.output_lost(id, |partitions| {
                let lost = partitions.done() as usize;
                partitions.reset();
                lost
            });
            work.extend(self.forget_if_unread(id, out));
        }
    }

    /// Nobody can name a dropped stage, so it is gone when the last stage that reads it is. Gives its inputs.
    fn forget_if_unread(&mut self, id: StageId, out: &mut Vec<Action>) -> Vec<StageId> {
        if self.stages.get(&id).is_none_or(|stage| !stage.children.is_empty()) {
            return Vec::new();
        }
        let Some(stage) = self.stages.remove(&id) else { return Vec::new() };
        self.inputs -= stage.parents.len() + stage.cached.len();
        for parent in &stage.parents {
            if let Some(parent) = self.stages.get_mut(parent) {
                parent.children.remove(&id);
            }
        }
        out.push(Action::StageForgotten { stage: id });
        stage.parents
    }

    pub(super) fn submit(&mut self, job: JobId, stage: StageId, out: &mut Vec<Action>) {
        if let Err(refusal) = self.check_job(job, stage) {
            out.push(Action::Refused(refusal));
            return;
        }
        self.last_job = Some(job);
        self.jobs.insert(job, Job { stage, submitted: self.now });
        if self.stages.get(&stage).is_some_and(|s| s.tasks == 0) {
            self.finish_job(job, out);
        } else {
            self.need(job, stage);
        }
    }

    pub(super) fn finish_job(&mut self, job: JobId, out: &mut Vec<Action>) {
        if let Some(Job { stage, submitted }) = self.jobs.remove(&job) {
            out.push(Action::JobFinished { job, elapsed: self.now - submitted });
            self.release(job, stage, out);
        }
    }

    pub(super) fn fail_job(&mut self, job: JobId, cause: FailureCause, out: &mut Vec<Action>) {
        if let Some(Job { stage, .. }) = self.jobs.remove(&job) {
            self.release(job, stage, out);
            out.push(Action::JobFailed { failure: Box::new(JobFailure { job, cause }) });
        }
    }

    /// Fails all jobs that a stage runs for.
    pub(super) fn fail_stage(
        &mut self,
        stage: StageId,
        cause: &FailureCause,
        out: &mut Vec<Action>,
    ) {
        let jobs = self.stages.get(&stage).map(Stage::served_jobs).unwrap_or_default();
        for job in jobs {
            self.fail_job(job, cause.clone(), out);
        }
    }
}
