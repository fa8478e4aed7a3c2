//! How far a job is, and what it waits for: data first, then words.

use std::collections::BTreeSet;
use std::fmt;

use super::Scheduler;
use super::event::StageOutput;
use super::stage::Stage;
use crate::ids::{JobId, StageId};

/// A stage that a job needs, for a progress line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageProgress {
    /// The stage.
    pub stage: StageId,
    /// Its name.
    pub name: String,
    /// All of its tasks.
    pub tasks: u32,
    /// Those whose output is there.
    pub done: u32,
    /// Those that an executor has.
    pub running: u32,
    /// Tries that failed or were interrupted.
    pub failed: u64,
}

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The job.
    pub job: JobId,
    /// Its stages that lack output, inputs first.
    pub stages: Vec<(StageProgress, Waits)>,
}

/// What a stage waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Its running tasks.
    Tasks,
    /// Its inputs.
    Inputs(Vec<StageId>),
    /// Another job that runs it first.
    Turn(JobId),
    /// An executor, since there is none.
    Executors,
    /// So many slots of executors, before any task is launched.
    Registered {
        /// Slots that are there.
        there: u64,
        /// Slots that are waited for.
        wanted: u64,
    },
    /// An executor, since all that there are finish what they have and are given nothing more.
    Draining,
    /// An executor, since all that there are, or may be, are excluded after failures of tasks there.
    Excluded,
    /// A free slot.
    Slots,
    /// An executor other than the one with free slots, where its partitions failed.
    OtherExecutor,
    /// For a while, a free slot on the executors that hold cached partitions which it reads.
    Holder,
}

impl Scheduler {
    /// The stages that a job needs: its own and, down to those that have output, their inputs; inputs first.
    pub fn progress(&self, job: JobId) -> Vec<StageProgress> {
        self.needed(job).map(|(id, stage)| progress(job, id, stage)).collect()
    }

    /// What a job waits for; none if there is no such job.
    pub fn explain(&self, job: JobId) -> Option<Explanation> {
        self.jobs.get(&job)?;
        let lacking = self.needed(job).filter(|(_, stage)| !stage.has_output());
        let stages =
            lacking.map(|(id, stage)| (progress(job, id, stage), self.waits(job, stage))).collect();
        Some(Explanation { job, stages })
    }

    fn needed(&self, job: JobId) -> impl Iterator<Item = (StageId, &Stage)> {
        let mut found = BTreeSet::new();
        let mut work: Vec<StageId> = self.jobs.get(&job).map(|j| j.stage).into_iter().collect();
        while let Some(id) = work.pop() {
            if let Some(stage) = self.stages.get(&id)
                && found.insert((stage.depth, id))
                && !stage.has_output()
            {
                work.extend(&stage.parents);
            }
        }
        found.into_iter().filter_map(|(_, id)| Some((id, self.stages.get(&id)?)))
    }

    fn waits(&self, job: JobId, stage: &Stage) -> Waits {
        let lacks_output = |id: &&StageId| self.stages.get(id).is_some_and(|s| !s.has_output());
        match stage.first_job() {
            Some(first) if first != job && stage.output == StageOutput::Results => {
                Waits::Turn(first)
            }
            _ if stage.missing_parents > 0 => {
                Waits::Inputs(stage.parents.iter().filter(lacks_output).copied().collect())
            }
            _ if stage.partitions.pending() == 0 => Waits::Tasks,
            _ if self.all_are_excluded() => Waits::Excluded,
            _ if self.executors.count() == 0 => Waits::Executors,
            _ if self.executors.usable() == 0 => Waits::Draining,
            _ if let Some((wanted, there)) = self.lacks_registered() => {
                Waits::Registered { there, wanted: wanted.slots }
            }
            _ if self.executors.idle_after(None).is_some() => {
                if stage.partitions.kept().next().is_some() {
                    Waits::Holder
                } else {
                    Waits::OtherExecutor
                }
            }
            _ => Waits::Slots,
        }
    }
}

fn progress(job: JobId, id: StageId, stage: &Stage) -> StageProgress {
    let (name, tasks) = (stage.name.clone(), stage.tasks);
    // While a stage of results runs for another job, nothing of it is this job's.
    if stage.output == StageOutput::Results && stage.first_job() != Some(job) {
        return StageProgress { stage: id, name, tasks, done: 0, running: 0, failed: 0 };
    }
    let parts = &stage.partitions;
    let (done, running, failed) = (parts.done(), parts.running(), parts.failed());
    StageProgress { stage: id, name, tasks, done, running, failed }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (at, waits)) in self.stages.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{} ({}): {} of {} tasks done", at.stage, at.name, at.done, at.tasks)?;
            if at.running > 0 {
                write!(f, ", {} running", at.running)?;
            }
            write!(f, "; waits for {waits}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tasks => f.write_str("its running tasks"),
            Self::Inputs(stages) => {
                f.write_str("the output of ")?;
                for (i, stage) in stages.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}{stage}")?;
                }
                Ok(())
            }
            Self::Turn(job) => write!(f, "{job}, which runs the same stage first"),
            Self::Executors => f.write_str("an executor: there is none"),
            Self::Registered { there, wanted } => {
                write!(f, "executors with {wanted} slots: {there} are there")
            }
            Self::Draining => f.write_str("an executor: all that there are get no more tasks"),
            Self::Excluded => {
                f.write_str("an executor: all are excluded for a time, since tasks failed there")
            }
            Self::Slots => f.write_str("a free slot"),
            Self::OtherExecutor => f.write_str("a free slot on an executor where it hasn't failed"),
            Self::Holder => {
                f.write_str("a free slot on an executor that holds the cached partitions it reads")
            }
        }
    }
}
