//! The executors, how full they are, and what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::event::{Action, TaskLaunch};
use crate::ids::{ExecutorId, TaskId, WorkerId};

/// One executor.
#[derive(Debug)]
pub(super) struct Executor {
    slots: u32,
    worker: WorkerId,
    /// It gets no new tasks.
    draining: bool,
    /// Tasks whose result is wanted. Their stages know their places here.
    running: Vec<TaskId>,
    /// Tasks that were told to stop and still take up a slot.
    stopping: BTreeSet<TaskId>,
    /// Tasks to be launched at the end of this event.
    launching: Vec<TaskLaunch>,
}

impl Executor {
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Whether it gets no new tasks.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    pub fn running(&self) -> &[TaskId] {
        &self.running
    }

    /// Tasks that it has, queued ones and those that are told to stop included.
    pub fn load(&self) -> usize {
        self.running.len() + self.stopping.len()
    }

    fn is_idle(&self) -> bool {
        !self.draining && (self.load() as u64) < u64::from(self.slots)
    }
}

/// All executors.
#[derive(Debug, Default)]
pub(super) struct Executors {
    all: BTreeMap<ExecutorId, Executor>,
    /// Those with a slot that has nothing to do.
    idle: BTreeSet<ExecutorId>,
    /// Those that are given tasks in this event.
    launching: Vec<ExecutorId>,
    /// Of all executors that take tasks together.
    slots: u64,
    /// How many of them take no new tasks.
    draining: usize,
    /// Where each executor is that there ever was: what it made may still be there.
    workers: BTreeMap<ExecutorId, WorkerId>,
}

impl Executors {
    /// Adds one, if the name is free and it can run anything.
    pub fn add(&mut self, id: ExecutorId, slots: u32, worker: WorkerId) {
        if slots == 0 || self.workers.contains_key(&id) {
            return;
        }
        self.workers.insert(id, worker);
        let executor = Executor {
            slots,
            worker,
            draining: false,
            running: Vec::new(),
            stopping: BTreeSet::new(),
            launching: Vec::new(),
        };
        self.all.insert(id, executor);
        self.idle.insert(id);
        self.slots += u64::from(slots);
    }

    /// Removes one; gives the wanted tasks that it had.
    pub fn remove(&mut self, id: ExecutorId) -> Option<Vec<TaskId>> {
        let executor = self.all.remove(&id)?;
        self.idle.remove(&id);
        if executor.draining {
            self.draining -= 1;
        } else {
            self.slots -= u64::from(executor.slots);
        }
        Some(executor.running)
    }

    /// Gives one no new tasks.
    pub fn drain(&mut self, id: ExecutorId) {
        if let Some(executor) = self.all.get_mut(&id)
            && !executor.draining
        {
            executor.draining = true;
            self.draining += 1;
            self.slots -= u64::from(executor.slots);
            self.idle.remove(&id);
        }
    }

    /// Those on a machine that are there.
    pub fn on(&self, worker: WorkerId) -> Vec<ExecutorId> {
        self.iter().filter(|(_, executor)| executor.worker == worker).map(|(id, _)| id).collect()
    }

    /// Whether an executor is, or was, on a machine.
    pub fn was_on(&self, id: ExecutorId, worker: WorkerId) -> bool {
        self.workers.get(&id) == Some(&worker)
    }

    pub fn get(&self, id: ExecutorId) -> Option<&Executor> {
        self.all.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (ExecutorId, &Executor)> {
        self.all.iter().map(|(id, executor)| (*id, executor))
    }

    /// How many take new tasks.
    pub fn count(&self) -> usize {
        self.all.len() - self.draining
    }

    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// The first with an idle slot, after this one.
    pub fn idle_after(&self, id: Option<ExecutorId>) -> Option<ExecutorId> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.idle.range((from, Bound::Unbounded)).next().copied()
    }

    /// The place that the next task launched on an executor gets.
    pub fn next_position(&self, id: ExecutorId) -> Option<u32> {
        self.all.get(&id).and_then(|e| u32::try_from(e.running.len()).ok())
    }

    /// Notes a task to be launched.
    pub fn launch(&mut self, id: ExecutorId, launch: TaskLaunch) {
        let Some(executor) = self.all.get_mut(&id) else { return };
        if executor.launching.is_empty() {
            self.launching.push(id);
        }
        executor.launching.push(launch);
        executor.running.push(launch.task);
        if executor.load() == executor.slots as usize {
            self.idle.remove(&id);
        }
    }

    /// Asks for all launches of this event, a batch for each executor.
    pub fn flush(&mut self, out: &mut Vec<Action>) {
        for id in self.launching.drain(..) {
            if let Some(executor) = self.all.get_mut(&id) {
                let tasks = std::mem::take(&mut executor.launching);
                out.push(Action::Launch { executor: id, tasks });
            }
        }
    }

    /// A wanted task ended. Gives the task that took its place in the list.
    pub fn ended(&mut self, id: ExecutorId, position: u32) -> Option<TaskId> {
        let executor = self.all.get_mut(&id)?;
        let position = position as usize;
        if position >= executor.running.len() {
            return None;
        }
        executor.running.swap_remove(position);
        if executor.is_idle() {
            self.idle.insert(id);
        }
        executor.running.get(position).copied()
    }

    /// A task isn't wanted any more, but still there. Gives the task that took its place in the list.
    pub fn stop(&mut self, id: ExecutorId, position: u32) -> Option<TaskId> {
        let executor = self.all.get_mut(&id)?;
        let position = position as usize;
        if position >= executor.running.len() {
            return None;
        }
        let task = executor.running.swap_remove(position);
        executor.stopping.insert(task);
        executor.running.get(position).copied()
    }

    /// A task that was told to stop ended; false if it wasn't one of those.
    pub fn stopped(&mut self, id: ExecutorId, task: TaskId) -> bool {
        let Some(executor) = self.all.get_mut(&id) else { return false };
        let known = executor.stopping.remove(&task);
        if known && executor.is_idle() {
            self.idle.insert(id);
        }
        known
    }

    /// Panics unless the lists agree. For tests.
    pub fn check(&self) {
        let taking = self.all.values().filter(|e| !e.draining);
        let slots: u64 = taking.map(|e| u64::from(e.slots)).sum();
        assert_eq!(slots, self.slots, "total slots");
        let idle: BTreeSet<_> =
            self.iter().filter(|(_, e)| e.is_idle()).map(|(id, _)| id).collect();
        assert_eq!(idle, self.idle, "executors with an idle slot");
        for (id, executor) in self.iter() {
            assert!(executor.launching.is_empty(), "{id} has launches that were never asked for");
        }
        assert!(self.launching.is_empty(), "launches that were never asked for");
    }
}
