//! What became of each partition of a stage. Compact, since a stage may have millions of them.

mod copies;
mod local;
mod made;
mod run_time;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::ids::ExecutorId;
pub(super) use copies::Twin;
pub(super) use local::Asker;
use run_time::RunTime;

/// Where a partition is in its life. One that was never launched has no state at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// In the queue of those to be launched again.
    Waiting,
    /// Launched; `position` is its place in the executor's list of tasks.
    Running { executor: ExecutorId, position: u32 },
    /// Accepted; its output is where it was made. `next` is the partition of the same executor that was accepted before.
    Done { executor: ExecutorId, next: u32 },
}

/// No partition has this number, since it is the highest count of them.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Part {
    state: State,
    /// The latest, but for copies; of one that is done, that which was accepted; of one that was never launched, the one before its
    /// first, wrapping.
    attempt: u32,
    failures: u16,
    interruptions: u16,
}

/// The partitions of one stage, for as long as any of their output may be there.
#[derive(Debug)]
pub(super) struct Partitions {
    tasks: u32,
    /// Those that were ever launched, or were dealt out: the first so many of the stage's.
    parts: Vec<Part>,
    /// Those to be launched again, by the executor that they should stay away from.
    waiting: BTreeMap<Option<ExecutorId>, VecDeque<u32>>,
    /// Those never launched that are kept for an executor.
    local: BTreeMap<ExecutorId, VecDeque<u32>>,
    /// Until when.
    local_until: Duration,
    /// The partition of each executor that was accepted last; the others follow from it. What is lost with an executor is
    /// found without a look at anything else.
    made: BTreeMap<ExecutorId, u32>,
    /// Those whose output was ever lost.
    lost: BTreeSet<u32>,
    /// Executors that made an output which was found damaged, since all of theirs was given up last.
    suspects: BTreeSet<ExecutorId>,
    /// Copies that run, of partitions that run.
    copies: BTreeMap<u32, Twin>,
    /// The last copy's attempt of each partition that ever had one, so that no attempt comes twice.
    copied: BTreeMap<u32, u32>,
    running: u32,
    done: u32,
    failed: u64,
    /// The number of a partition's first try. Above 0 once the stage was reset, so that no attempt comes twice.
    first_attempt: u32,
    run_time: RunTime,
    /// When its first task was launched since it last lacked output.
    pub started: Option<Duration>,
}

impl Partitions {
    pub fn new(tasks: u32) -> Self {
        Self {
            tasks,
            parts: Vec::new(),
            waiting: BTreeMap::new(),
            local: BTreeMap::new(),
            local_until: Duration::ZERO,
            made: BTreeMap::new(),
            lost: BTreeSet::new(),
            suspects: BTreeSet::new(),
            copies: BTreeMap::new(),
            copied: BTreeMap::new(),
            running: 0,
            done: 0,
            failed: 0,
            first_attempt: 0,
            run_time: RunTime::default(),
            started: None,
        }
    }

    pub fn running(&self) -> u32 {
        self.running
    }

    pub fn done(&self) -> u32 {
        self.done
    }

    /// Failed tries of this run.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    pub fn pending(&self) -> u32 {
        self.tasks - self.done - self.running
    }

    pub fn is_complete(&self) -> bool {
        self.done == self.tasks
    }

    /// Whether an executor could be given something.
    pub fn has_work_for(&self, asker: Asker) -> bool {
        (self.parts.len() as u64) < u64::from(self.tasks)
            || self.local.contains_key(&asker.executor)
            || self.bucket(asker).is_some()
    }

    fn bucket(&self, asker: Asker) -> Option<Option<ExecutorId>> {
        self.waiting.keys().copied().find(|avoid| asker.alone || *avoid != Some(asker.executor))
    }

    /// Takes a partition to be launched on this executor: one that is kept for it, else one that was tried before, else the
    /// next. Gives partition and attempt.
    pub fn launch(&mut self, asker: Asker, position: u32) -> Option<(u32, u32)> {
        let state = State::Running { executor: asker.executor, position };
        let queued = self.take_local(asker.executor).or_else(|| self.take_waiting(asker));
        let launched = if let Some(partition) = queued {
            let attempt = self.highest_attempt(partition)?.wrapping_add(1);
            let part = self.parts.get_mut(partition as usize)?;
            (part.state, part.attempt) = (state, attempt);
            (partition, attempt)
        } else {
            let partition = u32::try_from(self.parts.len()).ok().filter(|p| *p < self.tasks)?;
            let attempt = self.first_attempt;
            self.parts.push(Part { state, attempt, failures: 0, interruptions: 0 });
            (partition, attempt)
        };
        self.running += 1;
        Some(launched)
    }

    fn take_waiting(&mut self, asker: Asker) -> Option<u32> {
        let bucket = self.bucket(asker)?;
        let queue = self.waiting.get_mut(&bucket)?;
        let partition = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&bucket);
        }
        partition
    }

    /// Where an attempt is running, with its place there; none if it isn't.
    pub fn running_at(&self, partition: u32, attempt: u32) -> Option<(ExecutorId, u32)> {
        let part = self.parts.get(partition as usize)?;
        match part.state {
            State::Running { executor, position } if part.attempt == attempt => {
                Some((executor, position))
            }
            State::Running { .. } => {
                let copy = self.copies.get(&partition).filter(|c| c.attempt == attempt)?;
                Some((copy.executor, copy.position))
            }
            State::Waiting | State::Done { .. } => None,
        }
    }

    /// Whether any attempt is running.
    pub fn is_running(&self, partition: u32) -> bool {
        let part = self.parts.get(partition as usize);
        part.is_some_and(|p| matches!(p.state, State::Running { .. }))
    }

    /// Whether what an attempt of this run made doesn't count, or not any more.
    pub fn is_superseded(&self, partition: u32, attempt: u32) -> bool {
        let Some(part) = self.parts.get(partition as usize) else { return false };
        let launched = self.highest_attempt(partition).is_some_and(|highest| attempt <= highest);
        let current = part.state != State::Waiting && part.attempt == attempt;
        let copy = self.copies.get(&partition).is_some_and(|copy| copy.attempt == attempt);
        attempt >= self.first_attempt && launched && !current && !copy
    }

    /// A running task moved within its executor's list.
    pub fn moved(&mut self, partition: u32, attempt: u32, to: u32) {
        let Some(part) = self.parts.get_mut(partition as usize) else { return };
        if part.attempt == attempt {
            if let State::Running { position, .. } = &mut part.state {
                *position = to;
            }
        } else if let Some(copy) = self.copies.get_mut(&partition) {
            copy.position = to;
        }
    }

    /// A running attempt's output is accepted. Gives the other that runs and isn't wanted now.
    pub fn finish(&mut self, partition: u32, attempt: u32, run_time: Duration) -> Option<Twin> {
        let part = self.parts.get_mut(partition as usize)?;
        let State::Running { executor, position } = part.state else { return None };
        let first = Twin { attempt: part.attempt, executor, position };
        let (winner, loser) = match self.copies.remove(&partition) {
            Some(copy) if copy.attempt == attempt => (copy, Some(first)),
            copy => (first, copy),
        };
        let next = self.made.insert(winner.executor, partition).unwrap_or(NONE);
        part.state = State::Done { executor: winner.executor, next };
        part.attempt = winner.attempt;
        self.running -= 1;
        self.done += 1;
        self.run_time.record(run_time);
        loser
    }

    /// A running attempt came to nothing: unless another runs, its partition goes back into the queue, if possible not for
    /// that executor.
    pub fn give_back(&mut self, partition: u32, attempt: u32, avoid: Option<ExecutorId>) {
        let Some(part) = self.parts.get_mut(partition as usize) else { return };
        let State::Running { .. } = part.state else { return };
        if part.attempt != attempt {
            if self.copies.get(&partition).is_some_and(|copy| copy.attempt == attempt) {
                self.copies.remove(&partition);
            }
        } else if let Some(Twin { attempt, executor, position }) = self.copies.remove(&partition) {
            (part.state, part.attempt) = (State::Running { executor, position }, attempt);
        } else {
            part.state = State::Waiting;
            self.running -= 1;
            self.waiting.entry(avoid).or_default().push_back(partition);
        }
    }

    /// Remembers a run time for the median.
    pub fn sample(&mut self, run_time: Duration) {
        self.run_time.sample(run_time);
    }

    /// Of the run times that were sampled.
    pub fn median_run_time(&self) -> Option<Duration> {
        self.run_time.median()
    }

    /// Counts a failure of a partition; gives how many there were.
    pub fn charge_failure(&mut self, partition: u32) -> u32 {
        self.parts.get_mut(partition as usize).map_or(0, |part| {
            self.failed += 1;
            part.failures = part.failures.saturating_add(1);
            u32::from(part.failures)
        })
    }

    /// Counts an interruption of a partition; gives how many there were.
    pub fn charge_interruption(&mut self, partition: u32) -> u32 {
        self.parts.get_mut(partition as usize).map_or(0, |part| {
            self.failed += 1;
            part.interruptions = part.interruptions.saturating_add(1);
            u32::from(part.interruptions)
        })
    }

    /// Nobody needs the stage for now: gives running tasks back, by their partition, and forgets
    /// failures, so that a later job starts afresh.
    pub fn stop(&mut self) -> Vec<(u32, Twin)> {
        let copies = std::mem::take(&mut self.copies);
        let mut stopped = Vec::new();
        if self.running > 0 {
            for (partition, part) in (0..).zip(&mut self.parts) {
                if let State::Running { executor, position } = part.state {
                    stopped.push((partition, Twin { attempt: part.attempt, executor, position }));
                    part.state = State::Waiting;
                }
            }
            self.running = 0;
        }
        if self.failed > 0 {
            for part in &mut self.parts {
                (part.failures, part.interruptions) = (0, 0);
            }
            self.failed = 0;
        }
        // Whom to avoid is forgotten as well, and whom to prefer.
        let queues = std::mem::take(&mut self.waiting).into_values();
        let local = std::mem::take(&mut self.local).into_values();
        let mut waiting: Vec<u32> = queues.chain(local).flatten().collect();
        waiting.extend(stopped.iter().map(|(partition, ..)| *partition));
        waiting.sort_unstable();
        if !waiting.is_empty() {
            self.waiting.insert(None, waiting.into());
        }
        self.started = None;
        stopped.extend(copies);
        stopped
    }

    /// As new, but for the numbers of attempts. Nothing may be running.
    pub fn reset(&mut self) {
        let attempts = self.parts.iter().map(|p| p.attempt.wrapping_add(1));
        let used = attempts.chain(self.copied.values().map(|last| last + 1)).max();
        let run_time = std::mem::take(&mut self.run_time);
        let first_attempt = used.unwrap_or(self.first_attempt);
        *self = Self { first_attempt, run_time, ..Self::new(self.tasks) };
    }

    /// How many tasks an executor may have queued for each slot, beyond the one that runs.
    pub fn lookahead(&self, target: Duration, max: u32, slots: u64) -> u32 {
        // Towards the stage's end everyone gets less, so that no one has a queue while others are idle.
        let share = u64::from(self.pending()) / slots.saturating_mul(2).max(1);
        self.run_time.fitting(target).min(max).min(u32::try_from(share).unwrap_or(u32::MAX))
    }

    /// The state of every partition that was ever launched, with its attempt.
    pub fn states(&self) -> impl Iterator<Item = (u32, u32, State)> {
        (0..).zip(&self.parts).map(|(partition, part)| (partition, part.attempt, part.state))
    }

    /// Partitions in the queue of those to be launched again.
    pub fn queued(&self) -> impl Iterator<Item = u32> {
        self.waiting.values().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ExecutorId = ExecutorId(0);
    const THERE: ExecutorId = ExecutorId(1);

    fn asks(executor: ExecutorId, alone: bool) -> Asker {
        Asker { executor, alone }
    }

    fn run(parts: &mut Partitions, nanos: u64) {
        let (partition, attempt) = parts.launch(asks(HERE, true), 0).unwrap();
        parts.finish(partition, attempt, Duration::from_nanos(nanos));
    }

    fn lookahead(parts: &Partitions) -> u32 {
        parts.lookahead(Duration::from_millis(5), 64, 2)
    }

    #[test]
    fn look_ahead_grows_with_knowledge_of_short_tasks() {
        let mut parts = Partitions::new(1000);
        assert_eq!(lookahead(&parts), 0);
        run(&mut parts, 1_000);
        run(&mut parts, 1_000);
        assert_eq!(lookahead(&parts), 2);
        (0..100).for_each(|_| run(&mut parts, 1_000));
        assert_eq!(lookahead(&parts), 64);
    }

    #[test]
    fn look_ahead_shrinks_when_tasks_turn_out_long_and_at_the_end() {
        let mut parts = Partitions::new(200);
        (0..180).for_each(|_| run(&mut parts, 1_000));
        assert_eq!(lookahead(&parts), 5, "20 are left for 2 slots");
        run(&mut parts, 1_000_000_000);
        assert_eq!(lookahead(&parts), 0);
    }

    #[test]
    fn a_partition_that_failed_goes_elsewhere_unless_there_is_no_other() {
        let mut parts = Partitions::new(1);
        assert_eq!(parts.launch(asks(HERE, false), 0), Some((0, 0)));
        parts.give_back(0, 0, Some(HERE));
        assert!(!parts.has_work_for(asks(HERE, false)));
        assert_eq!(parts.launch(asks(HERE, false), 0), None);
        assert_eq!(parts.launch(asks(THERE, false), 0), Some((0, 1)));
        parts.give_back(0, 1, Some(THERE));
        assert_eq!(parts.launch(asks(THERE, true), 0), Some((0, 2)));
    }

    #[test]
    fn attempts_go_on_counting_after_a_reset() {
        let mut parts = Partitions::new(2);
        parts.launch(asks(HERE, true), 0);
        parts.give_back(0, 0, None);
        parts.launch(asks(HERE, true), 0);
        parts.finish(0, 1, Duration::ZERO);
        parts.reset();
        assert_eq!((parts.pending(), parts.launch(asks(HERE, true), 0)), (2, Some((0, 2))));
    }
}
