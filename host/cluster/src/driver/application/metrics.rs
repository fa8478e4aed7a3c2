//! What tasks and executors took, added up: for the end of a stage, and for the application's.

use std::collections::BTreeMap;
use std::fmt;

use ingle_core::ids::{ExecutorId, StageId, TaskId};
use ingle_core::memory::Usage;
use ingle_core::scheduler::Outcome;
use ingle_core::size::ByteSize;
use ingle_proto::v1;

use crate::protocol;

/// Tasks' memory is told apart in steps of a page of WebAssembly.
const STEP: u64 = 64 << 10;
/// No guest takes more: whatever executors say, a stage keeps no more numbers than this.
const MAX_STEPS: u64 = (8 << 30) / STEP;

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks that succeeded.
    pub tasks: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Bytes read from files, before decompression.
    pub bytes_read: u64,
    /// Shuffle output of tasks that succeeded.
    pub bytes_shuffled: u64,
}

/// What the tasks of a stage took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTook {
    /// The memory of its guest, of a task in the middle and of the largest one.
    pub guest_median: u64,
    /// The latter.
    pub guest_most: u64,
    /// By tasks that succeeded.
    pub bytes_shuffled: u64,
    /// Until the ends of the tasks that made it.
    pub bytes_spilled: u64,
}

impl fmt::Display for StageTook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guest_median, guest_most, bytes_shuffled, bytes_spilled } = *self;
        write!(
            f,
            "its tasks' guests took {} (median) to {}, {} shuffled, {} spilled",
            ByteSize(guest_median),
            ByteSize(guest_most),
            ByteSize(bytes_shuffled),
            ByteSize(bytes_spilled),
        )
    }
}

/// The task whose guest took most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargestTask {
    /// Its stage.
    pub stage: StageId,
    /// The stage's name.
    pub name: String,
    /// Which of its tasks.
    pub partition: u32,
    /// Memories and tables, and pages of a large image that it changed.
    pub guest: u64,
}

/// The executor that had most charged to its memory at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeakMemory {
    /// Which.
    pub executor: ExecutorId,
    /// Of how many that there ever were.
    pub executors: usize,
    /// What its memory was used for then.
    pub usage: Usage,
}

/// All of it.
#[derive(Default)]
pub struct Metrics {
    pub counts: Counts,
    /// Of those that aren't finished, the oldest first.
    stages: Vec<(StageId, Stage)>,
    largest: Option<LargestTask>,
    /// What executors elsewhere said last.
    executors: BTreeMap<ExecutorId, Used>,
}

#[derive(Default)]
struct Stage {
    /// How many tasks took so many steps.
    guests: BTreeMap<u32, u32>,
    most: u64,
    shuffled: u64,
    spilled: u64,
}

struct Used {
    at_peak: Usage,
    spilled: u64,
}

impl Metrics {
    /// A try at a task ended. `name`: its stage's, or none if that is over or never was; then it counts as little as it may.
    pub fn ended(
        &mut self,
        task: TaskId,
        outcome: &Outcome,
        metrics: &v1::TaskMetrics,
        name: Option<&str>,
    ) {
        let succeeded = matches!(outcome, Outcome::Succeeded);
        let shuffled = if succeeded { metrics.bytes_shuffled } else { 0 };
        let Counts { bytes_read, bytes_shuffled, .. } = &mut self.counts;
        *bytes_read = bytes_read.saturating_add(metrics.bytes_read);
        *bytes_shuffled = bytes_shuffled.saturating_add(shuffled);
        self.counts.failed += u64::from(matches!(outcome, Outcome::Failed(_)));
        let guest = metrics.peak_guest.saturating_add(metrics.peak_own_pages);
        // It never ran.
        if guest == 0 {
            return;
        }
        let Some(name) = name else { return };
        let stage = self.stage(task.stage);
        let steps = guest.div_ceil(STEP).min(MAX_STEPS) as u32;
        *stage.guests.entry(steps).or_default() += 1;
        stage.most = stage.most.max(guest);
        stage.shuffled = stage.shuffled.saturating_add(shuffled);
        stage.spilled = stage.spilled.saturating_add(metrics.bytes_spilled);
        if self.largest.as_ref().is_none_or(|largest| guest > largest.guest) {
            let TaskId { stage, partition, .. } = task;
            self.largest = Some(LargestTask { stage, name: name.to_owned(), partition, guest });
        }
    }

    fn stage(&mut self, id: StageId) -> &mut Stage {
        // Few run at a time, mostly the youngest.
        let place = self.stages.binary_search_by_key(&id, |(id, _)| *id);
        let place = place.unwrap_or_else(|place| {
            self.stages.insert(place, (id, Stage::default()));
            place
        });
        &mut self.stages[place].1
    }

    /// A stage is finished, or forgotten: what its tasks took; none if none ran.
    pub fn take(&mut self, id: StageId) -> Option<StageTook> {
        let place = self.stages.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let (_, stage) = self.stages.remove(place);
        Some(StageTook {
            guest_median: median(&stage.guests).min(stage.most),
            guest_most: stage.most,
            bytes_shuffled: stage.shuffled,
            bytes_spilled: stage.spilled,
        })
    }

    /// An executor elsewhere says what it takes.
    pub fn used(&mut self, executor: ExecutorId, used: &v1::ExecutorUse) {
        let at_peak = protocol::usage(used.at_peak);
        self.executors.insert(executor, Used { at_peak, spilled: used.spilled });
    }

    /// Blocks that went to disk, of all executors elsewhere.
    pub fn bytes_spilled(&self) -> u64 {
        self.executors.values().fold(0, |sum, used| sum.saturating_add(used.spilled))
    }

    /// The executor elsewhere that took most.
    pub fn peak(&self) -> Option<PeakMemory> {
        // Of equal ones the first.
        let most = self.executors.iter().rev().max_by_key(|(_, used)| used.at_peak.total());
        most.map(|(executor, used)| PeakMemory {
            executor: *executor,
            executors: self.executors.len(),
            usage: used.at_peak,
        })
    }

    pub fn largest(&self) -> Option<&LargestTask> {
        self.largest.as_ref()
    }
}

/// Of an even number the lower one.
fn median(guests: &BTreeMap<u32, u32>) -> u64 {
    let all: u64 = guests.values().map(|count| u64::from(*count)).sum();
    let mut left = all.div_ceil(2);
    let middle = guests.iter().find(|(_, count)| {
        let count = u64::from(**count);
        let is_there = left <= count;
        left = left.saturating_sub(count);
        is_there
    });
    middle.map_or(0, |(steps, _)| u64::from(*steps) * STEP)
}

#[cfg(test)]
mod tests {
    use ingle_core::memory::MemoryUse;
    use ingle_core::scheduler::TaskFailure;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn task(stage: u32, partition: u32) -> TaskId {
        TaskId { stage: StageId(stage), partition, attempt: 0 }
    }

    fn took(guest: u64, own_pages: u64) -> v1::TaskMetrics {
        v1::TaskMetrics {
            peak_guest: guest,
            peak_own_pages: own_pages,
            bytes_shuffled: 10,
            bytes_spilled: 3,
            ..v1::TaskMetrics::default()
        }
    }

    fn failed() -> Outcome {
        let message = "boom".into();
        Outcome::Failed(TaskFailure { message, retryable: true, executor_at_fault: false })
    }

    #[test]
    fn a_stage_says_what_its_tasks_took_and_the_largest_of_all_is_known() {
        let mut metrics = Metrics::default();
        let mut ends = |task: TaskId, outcome, took: v1::TaskMetrics| {
            let name = format!("of {}", task.stage);
            metrics.ended(task, &outcome, &took, (task.stage != StageId(7)).then_some(&name));
        };
        for (partition, guest) in [(0, 5), (1, 1), (2, 2), (3, 1), (4, 4)] {
            ends(task(2, partition), Outcome::Succeeded, took(guest * MIB, 0));
        }
        ends(task(1, 0), Outcome::Succeeded, took(MIB, 0));
        // One that failed held memory as any; one that was killed in the queue held none.
        ends(task(2, 5), failed(), took(3 * MIB, 6 * MIB + 1));
        ends(task(2, 6), Outcome::Killed, v1::TaskMetrics::default());
        // A stage that nobody knows any more.
        ends(task(7, 0), Outcome::Killed, took(100 * MIB, 0));
        let largest = LargestTask {
            stage: StageId(2),
            name: "of stage 2".into(),
            partition: 5,
            guest: 9 * MIB + 1,
        };
        assert_eq!(metrics.largest(), Some(&largest));
        let counts = Counts { tasks: 0, failed: 1, bytes_read: 0, bytes_shuffled: 60 };
        assert_eq!(metrics.counts, counts, "who counts tasks accepts them");
        let took = StageTook {
            guest_median: 2 * MIB,
            guest_most: 9 * MIB + 1,
            bytes_shuffled: 50,
            bytes_spilled: 18,
        };
        assert_eq!(metrics.take(StageId(2)), Some(took));
        let words =
            "its tasks' guests took 2.0 MiB (median) to 9.0 MiB, 50 B shuffled, 18 B spilled";
        assert_eq!(took.to_string(), words);
        assert_eq!(metrics.take(StageId(2)), None);
        assert_eq!(metrics.take(StageId(7)), None);
        assert_eq!(metrics.take(StageId(1)).map(|took| took.guest_median), Some(MIB));
    }

    #[test]
    fn a_stage_keeps_few_numbers_whatever_executors_say() {
        let mut metrics = Metrics::default();
        for n in 0..100 {
            let took = took(u64::MAX - n * STEP, u64::MAX);
            metrics.ended(task(1, 0), &Outcome::Succeeded, &took, Some("huge"));
            let took = self::took((8 << 30) + n * STEP, 0);
            metrics.ended(task(1, 1), &Outcome::Succeeded, &took, Some("large"));
        }
        assert_eq!(metrics.stages[0].1.guests.len(), 1);
    }

    #[test]
    fn of_executors_the_one_that_took_most_is_told_with_its_parts() {
        let mut metrics = Metrics::default();
        assert_eq!(metrics.peak(), None);
        let usage = |guests, cache| v1::MemoryUsage { guests, cache, ..Default::default() };
        let used = |at_peak, spilled| v1::ExecutorUse {
            at_peak: Some(at_peak),
            spilled,
            ..Default::default()
        };
        metrics.used(ExecutorId(1), &used(usage(100, 0), 1));
        metrics.used(ExecutorId(2), &used(usage(1, 1), 0));
        metrics.used(ExecutorId(3), &used(usage(60, 0), u64::MAX - 10));
        // What it says later is of all its life.
        metrics.used(ExecutorId(2), &used(usage(40, 70), 5));
        let peak = metrics.peak().unwrap();
        assert_eq!((peak.executor, peak.executors), (ExecutorId(2), 3));
        assert_eq!(peak.usage.of(MemoryUse::Guest), 40);
        assert_eq!(peak.usage.of(MemoryUse::Cache), 70);
        assert_eq!(metrics.bytes_spilled(), u64::MAX - 4);
        metrics.used(ExecutorId(1), &used(usage(u64::MAX, u64::MAX), u64::MAX));
        assert_eq!(metrics.peak().map(|peak| peak.executor), Some(ExecutorId(1)));
        assert_eq!(metrics.bytes_spilled(), u64::MAX, "whatever a peer says");
    }
}
