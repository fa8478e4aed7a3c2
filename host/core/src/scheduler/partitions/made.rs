//! Accepted output, and who made it.

use std::collections::BTreeSet;

use super::{NONE, Partitions, State};
use crate::ids::ExecutorId;

impl Partitions {
    /// The attempt that made a partition's accepted output, and its executor.
    pub fn output(&self, partition: u32) -> Option<(u32, ExecutorId)> {
        let part = self.parts.get(partition as usize)?;
        match part.state {
            State::Done { executor, .. } => Some((part.attempt, executor)),
            State::Waiting | State::Running { .. } => None,
        }
    }

    /// All accepted outputs: partition, attempt, executor.
    pub fn outputs(&self) -> impl Iterator<Item = (u32, u32, ExecutorId)> {
        self.states().filter_map(|(partition, attempt, state)| match state {
            State::Done { executor, .. } => Some((partition, attempt, executor)),
            State::Waiting | State::Running { .. } => None,
        })
    }

    /// Whether any output that this executor made is here.
    pub fn holds_output_of(&self, executor: ExecutorId) -> bool {
        self.made.contains_key(&executor)
    }

    /// Loses all output that an executor made. Says how much there was.
    pub fn lose_all_of(&mut self, executor: ExecutorId) -> usize {
        self.lose_of(executor, |_| true)
    }

    /// Loses what a task found damaged, and all else that was made on that worker, by `there`, if this is the second time:
    /// what harmed two has harmed others, and each would take a task to find it. Says how much there was.
    pub fn lose_damaged(&mut self, partition: u32, there: &[ExecutorId]) -> usize {
        if there.iter().any(|executor| self.suspects.contains(executor)) {
            return self.lose_worker(there);
        }
        self.suspects.extend(self.output(partition).map(|(_, executor)| executor));
        self.lose_these(&[partition])
    }

    /// Loses all output that was made on a worker, by its executors.
    pub fn lose_worker(&mut self, there: &[ExecutorId]) -> usize {
        self.suspects.retain(|executor| !there.contains(executor));
        there.iter().map(|executor| self.lose_all_of(*executor)).sum()
    }

    /// Whether a partition's output was ever lost.
    pub fn was_lost(&self, partition: u32) -> bool {
        self.lost.contains(&partition)
    }

    /// Loses the output of these partitions. Says how much there was.
    pub fn lose_these(&mut self, partitions: &[u32]) -> usize {
        let lost: BTreeSet<u32> = partitions.iter().copied().collect();
        let makers: BTreeSet<_> = lost.iter().filter_map(|p| Some(self.output(*p)?.1)).collect();
        makers.into_iter().map(|e| self.lose_of(e, |p| lost.contains(&p))).sum()
    }

    fn lose_of(&mut self, executor: ExecutorId, is_lost: impl Fn(u32) -> bool) -> usize {
        let mut at = self.made.remove(&executor).unwrap_or(NONE);
        let (mut lost, mut kept) = (Vec::new(), Vec::new());
        while let Some(part) = self.parts.get_mut(at as usize)
            && let State::Done { next, .. } = part.state
        {
            if is_lost(at) {
                part.state = State::Waiting;
                lost.push(at);
            } else {
                kept.push(at);
            }
            at = next;
        }
        for partition in kept.into_iter().rev() {
            if let Some(part) = self.parts.get_mut(partition as usize) {
                let next = self.made.insert(executor, partition).unwrap_or(NONE);
                part.state = State::Done { executor, next };
            }
        }
        self.done -= u32::try_from(lost.len()).unwrap_or(self.done);
        lost.sort_unstable();
        let count = lost.len();
        if count > 0 {
            self.lost.extend(&lost);
            self.waiting.entry(None).or_default().extend(lost);
        }
        count
    }

    /// The partitions whose output is found by its maker.
    pub fn chained(&self) -> impl Iterator<Item = u32> {
        self.made.iter().flat_map(|(maker, &first)| {
            let done = |at: u32| match self.parts.get(at as usize)?.state {
                State::Done { executor, next } if executor == *maker => Some(next),
                _ => None,
            };
            std::iter::successors(Some(first), move |at| done(*at))
                .filter(move |at| done(*at).is_some())
        })
    }
}
