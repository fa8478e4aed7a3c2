//! Tasks that are kept for a time for the executor that holds what they read.

use std::time::Duration;

use super::{Part, Partitions, State};
use crate::ids::ExecutorId;

/// An executor that asks for a task.
#[derive(Clone, Copy, Debug)]
pub(in crate::scheduler) struct Asker {
    pub executor: ExecutorId,
    /// There is no other.
    pub alone: bool,
}

impl Partitions {
    /// Whether no task of this run was launched or dealt out.
    pub fn is_untouched(&self) -> bool {
        self.parts.is_empty()
    }

    /// Deals out all partitions: to the executors that hold what they read, until then; what nobody holds, to anybody.
    pub fn deal(&mut self, until: Duration, holder: impl Fn(u32) -> Option<ExecutorId>) {
        let part = Part {
            state: State::Waiting,
            attempt: self.first_attempt.wrapping_sub(1),
            failures: 0,
            interruptions: 0,
        };
        self.parts.resize(self.tasks as usize, part);
        self.local_until = until;
        for partition in 0..self.tasks {
            match holder(partition) {
                Some(executor) => self.local.entry(executor).or_default().push_back(partition),
                None => self.waiting.entry(None).or_default().push_back(partition),
            }
        }
    }

    pub(super) fn take_local(&mut self, executor: ExecutorId) -> Option<u32> {
        let queue = self.local.get_mut(&executor)?;
        let partition = queue.pop_front();
        if queue.is_empty() {
            self.local.remove(&executor);
        }
        partition
    }

    /// Until when tasks are kept for somebody, if any are.
    pub fn kept_until(&self) -> Option<Duration> {
        (!self.local.is_empty()).then_some(self.local_until)
    }

    /// Those that are kept for somebody.
    pub fn kept(&self) -> impl Iterator<Item = u32> {
        self.local.values().flatten().copied()
    }

    /// Gives up keeping tasks for these executors: anybody may have them.
    pub fn release(&mut self, concerned: impl Fn(ExecutorId) -> bool) {
        let released: Vec<_> =
            self.local.extract_if(.., |executor, _| concerned(*executor)).collect();
        for (_, mut queue) in released {
            self.waiting.entry(None).or_default().append(&mut queue);
        }
    }
}
