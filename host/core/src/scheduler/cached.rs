//! Who holds what of cached datasets, and which tasks are kept for them.
//!
//! It is a hint: an executor that lost a partition computes it again, and one that gets another's task stores a copy. So places are
//! noted as they are told, and looked at only when a stage could start. Its tasks are then kept for the executors that hold
//! what they read, for [`locality_wait`](super::Policy::locality_wait) and no longer, so that none is idle for long while another has all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Scheduler;
use crate::ids::{CacheId, ExecutorId, StageId};

/// Of the cached datasets that a stage reads, as many are looked at: a hostile driver names thousands, for each of millions of tasks.
const MOST_INPUTS: usize = 16;

/// The places of cached partitions.
#[derive(Debug, Default)]
pub(super) struct Cached {
    /// The executor that stored a partition last.
    places: BTreeMap<CacheId, BTreeMap<u32, ExecutorId>>,
    count: usize,
    /// Stages that keep tasks for somebody.
    keeping: BTreeSet<StageId>,
}

impl Cached {
    pub fn drop_cache(&mut self, cache: CacheId) {
        self.count -= self.places.remove(&cache).map_or(0, |of| of.len());
    }
}

impl Scheduler {
    /// An executor stored partitions of cached datasets.
    pub(super) fn note_stored(&mut self, executor: ExecutorId, stored: &[(CacheId, u32)]) {
        let Cached { places, count, .. } = &mut self.cached;
        for (cache, partition) in stored {
            let known = places.get_mut(cache).and_then(|of| of.get_mut(partition));
            if let Some(place) = known {
                *place = executor;
            } else if *count < self.policy.max_cached {
                // Where so many are known, those that come aren't; their tasks run anywhere.
                places.entry(*cache).or_default().insert(*partition, executor);
                *count += 1;
            }
        }
    }

    /// Deals out the tasks of a stage that could start now, if any executor holds what they read.
    pub(super) fn keep_local(&mut self, id: StageId) {
        let Some(stage) = self.stages.get_mut(&id) else { return };
        // Also where there is only one executor: another may come before it is done.
        let never = self.policy.locality_wait.is_zero();
        if never || stage.cached.is_empty() || !stage.partitions.is_untouched() {
            return;
        }
        let (places, executors) = (&self.cached.places, &self.executors);
        let inputs: Vec<_> = stage
            .cached
            .iter()
            .filter_map(|input| Some((input.first, places.get(&input.cache)?)))
            .take(MOST_INPUTS)
            .collect();
        if inputs.is_empty() {
            return;
        }
        let usable =
            |executor: &ExecutorId| executors.get(*executor).is_some_and(|e| e.is_usable());
        let holder = |task: u32| {
            let held = inputs.iter().filter_map(|(first, places)| {
                places.get(&task.checked_sub(*first)?).copied().filter(usable)
            });
            held.into_iter().next()
        };
        stage.partitions.deal(self.now + self.policy.locality_wait, holder);
        if stage.partitions.kept_until().is_some() {
            self.cached.keeping.insert(id);
        }
    }

    /// When the first tasks are kept for nobody any more.
    pub(super) fn next_release(&self) -> Option<Duration> {
        let stages = self.cached.keeping.iter().filter_map(|id| self.stages.get(id));
        stages.filter_map(|stage| stage.partitions.kept_until()).min()
    }

    /// Gives tasks to anybody that were kept long enough, or for an executor that takes none.
    pub(super) fn release_local(&mut self) {
        let fewer = self.executors.take_fewer();
        let (stages, executors, now) = (&mut self.stages, &self.executors, self.now);
        self.cached.keeping.retain(|id| {
            let Some(stage) = stages.get_mut(id) else { return false };
            let late = stage.partitions.kept_until().is_some_and(|until| until <= now);
            if late || fewer {
                stage.partitions.release(|executor| {
                    late || !executors.get(executor).is_some_and(|e| e.is_usable())
                });
            }
            stage.partitions.kept_until().is_some()
        });
    }
}
