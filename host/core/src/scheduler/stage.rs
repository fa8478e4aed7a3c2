//! A stage and who needs it.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{CachedInput, StageOutput, StageSpec};
use super::partitions::Partitions;
use crate::ids::{JobId, StageId};

/// The order in which stages are served: jobs first come, first served; within a job parents first.
pub(super) type Rank = (JobId, u32, StageId);

/// How often in a row tasks missed input, and were the first to do so.
#[derive(Debug, Default)]
pub(super) struct Misses {
    /// Any of the stage, since one succeeded: all inputs are lost time and again.
    any: u32,
    /// Those of a partition: it alone has bad luck, while others succeed. Only of partitions that missed any.
    of: BTreeMap<u32, u32>,
}

impl Misses {
    /// One more; gives how many there were in a row. Outputs that were never lost before count as one, however many they are: all
    /// may have come to harm at once, and are found out one after the other.
    pub fn count(&mut self, partition: u32, again: bool) -> u32 {
        let of = self.of.entry(partition).or_default();
        for times in [&mut self.any, &mut *of] {
            *times = if again { *times + 1 } else { (*times).max(1) };
        }
        self.any.max(*of)
    }

    /// A partition's task succeeded.
    pub fn succeeded(&mut self, partition: u32) {
        self.any = 0;
        if !self.of.is_empty() {
            self.of.remove(&partition);
        }
    }
}

#[derive(Debug)]
pub(super) struct Stage {
    pub name: String,
    pub tasks: u32,
    pub output: StageOutput,
    pub parents: Vec<StageId>,
    pub cached: Vec<CachedInput>,
    pub children: BTreeSet<StageId>,
    /// How many of the parents lack output.
    pub missing_parents: usize,
    /// The longest way to it from a stage without parents.
    pub depth: u32,
    /// For each live job that needs this stage's output, the number of reasons: stages that lack output themselves and read
    /// this one, and the job itself if it asked for this stage.
    pub needs: BTreeMap<JobId, usize>,
    pub partitions: Partitions,
    /// Grows with each change of which shuffle output is there.
    pub outputs_version: u64,
    /// How often in a row its tasks missed input.
    pub misses: Misses,
    /// The driver dropped it: its output goes as soon as no job needs it.
    pub dropped: bool,
    /// Its entry in the queue of stages that have tasks to launch.
    pub queued: Option<Rank>,
}

impl Stage {
    pub fn new(spec: StageSpec, parents: Vec<StageId>, depth: u32, missing_parents: usize) -> Self {
        Self {
            name: spec.name,
            tasks: spec.tasks,
            output: spec.output,
            parents,
            cached: spec.cached,
            children: BTreeSet::new(),
            missing_parents,
            depth,
            needs: BTreeMap::new(),
            partitions: Partitions::new(spec.tasks),
            outputs_version: 0,
            misses: Misses::default(),
            dropped: false,
            queued: None,
        }
    }

    /// Whether all of its shuffle output is there. Results are never there: each job wants its own.
    pub fn has_output(&self) -> bool {
        self.output == StageOutput::Shuffle && self.partitions.is_complete()
    }

    /// The first of the jobs that need it. A stage of results runs for this job alone, the others wait.
    pub fn first_job(&self) -> Option<JobId> {
        self.needs.keys().next().copied()
    }

    /// The jobs that fail with it.
    pub fn served_jobs(&self) -> Vec<JobId> {
        let shared = match self.output {
            StageOutput::Results => 1,
            StageOutput::Shuffle => usize::MAX,
        };
        self.needs.keys().copied().take(shared).collect()
    }

    /// Its place in the queue of stages that have tasks to launch, if it has any.
    pub fn rank(&self, id: StageId) -> Option<Rank> {
        let job = self.first_job()?;
        let ready = self.missing_parents == 0 && self.partitions.pending() > 0;
        ready.then_some((job, self.depth, id))
    }
}
