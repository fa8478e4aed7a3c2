//! The results of a running action, on their way to the driver.

use std::collections::VecDeque;

use ingle_blocks::TaskResult;
use ingle_core::memory::Reservation;

/// A task's changes to accumulators: the accumulator's number, and the job's own encoding.
#[derive(Default)]
pub struct Updates {
    pub list: Vec<(u32, Vec<u8>)>,
    /// What the list is charged; given back when the driver has it.
    pub charge: Option<Reservation>,
}

/// What a task made for the driver.
#[derive(Default)]
pub struct Made {
    /// None for tasks whose output stays at the executor.
    pub result: Option<TaskResult>,
    pub updates: Updates,
    /// Partitions of cached datasets that are stored now where it ran.
    pub stored: Vec<(u32, u32)>,
}

/// An accepted result.
pub struct Ready {
    pub partition: u32,
    pub result: Option<TaskResult>,
    pub updates: Vec<Updates>,
}

impl Ready {
    /// What it takes in the driver's memory, about.
    fn bytes(&self) -> u64 {
        let updates =
            self.updates.iter().flat_map(|u| &u.list).map(|(_, value)| value.len() as u64);
        self.result.as_ref().map_or(0, TaskResult::bytes) + updates.sum::<u64>() + ENTRY
    }
}

/// What a result costs beside its bytes.
const ENTRY: u64 = 64;
/// The driver is given this much at once, or one result that is larger.
const BATCH_BYTES: u64 = 4 << 20;
const BATCH_RESULTS: usize = 4096;

/// How a job ended.
#[derive(Clone, Debug)]
pub enum Over {
    Finished,
    /// With the text for the user.
    Failed(String),
}

/// One action's accepted results, and its end.
#[derive(Default)]
pub struct Queue {
    ready: VecDeque<Ready>,
    bytes: u64,
    /// Changes by tasks of earlier stages, to go with the next result.
    updates: Vec<Updates>,
    pub over: Option<Over>,
}

impl Queue {
    /// A queue whose first result brings these as well.
    pub fn with_updates(updates: Vec<Updates>) -> Self {
        Self { updates, ..Self::default() }
    }

    /// What the driver never took: results, and changes to accumulators, which count all the same.
    pub fn into_left(self) -> (Vec<TaskResult>, Vec<Updates>) {
        let (mut results, mut updates) = (Vec::new(), Vec::new());
        for ready in self.ready {
            results.extend(ready.result);
            updates.extend(ready.updates);
        }
        updates.extend(self.updates);
        (results, updates)
    }

    pub fn push(&mut self, partition: u32, made: Made) {
        let mut updates = std::mem::take(&mut self.updates);
        if !made.updates.list.is_empty() {
            updates.push(made.updates);
        }
        let ready = Ready { partition, result: made.result, updates };
        self.bytes += ready.bytes();
        self.ready.push_back(ready);
    }

    /// Changes by a task whose output stays at the executor.
    pub fn push_updates(&mut self, updates: Updates) {
        self.updates.push(updates);
    }

    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Whether there is as much as the driver is given at once.
    pub fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.ready.len() >= BATCH_RESULTS
    }

    /// What the driver is given next.
    pub fn take_batch(&mut self) -> Vec<Ready> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.ready.front() {
            bytes += next.bytes();
            let is_too_much = bytes > BATCH_BYTES || batch.len() >= BATCH_RESULTS;
            if is_too_much && !batch.is_empty() {
                break;
            }
            self.bytes -= next.bytes();
            batch.extend(self.ready.pop_front());
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updates(bytes: usize) -> Updates {
        Updates { list: vec![(0, vec![0; bytes])], charge: None }
    }

    #[test]
    fn a_batch_is_bounded_by_bytes_and_never_empty() {
        let mut queue = Queue::default();
        for partition in 0..3 {
            let made = Made { updates: updates(BATCH_BYTES as usize / 2), ..Made::default() };
            queue.push(partition, made);
        }
        assert!(queue.is_full());
        assert_eq!(queue.take_batch().len(), 1);
        queue.push(3, Made { updates: updates(2 * BATCH_BYTES as usize), ..Made::default() });
        let sizes: Vec<_> = (0..3).map(|_| queue.take_batch().len()).collect();
        assert_eq!(sizes, [1, 1, 1], "one that is larger than a batch comes alone");
        assert!(queue.is_empty() && queue.bytes == 0);
    }

    #[test]
    fn updates_of_earlier_stages_go_with_the_next_result() {
        let mut queue = Queue::default();
        queue.push_updates(updates(1));
        queue.push_updates(updates(2));
        queue.push(0, Made { updates: updates(3), ..Made::default() });
        queue.push(1, Made::default());
        let counts: Vec<_> = queue.take_batch().iter().map(|r| r.updates.len()).collect();
        assert_eq!(counts, [3, 0]);
    }
}
