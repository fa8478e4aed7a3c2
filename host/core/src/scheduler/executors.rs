//! The executors, how full they are, and what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use super::event::{Action, TaskLaunch};
use crate::ids::{ExecutorId, StageId, TaskId, WorkerId};

/// One executor.
#[derive(Debug)]
pub(super) struct Executor {
    slots: u32,
    worker: WorkerId,
    /// It is to be given nothing more.
    draining: bool,
    /// It, or its worker, is to be given nothing for a time.
    excluded: bool,
    worker_excluded: bool,
    /// Partitions whose tasks failed here.
    failed: BTreeSet<(StageId, u32)>,
    last_failure: Duration,
    /// Tasks whose result is wanted, and when they were launched. Their stages know their places here.
    running: Vec<(TaskId, Duration)>,
    /// Tasks that were told to stop and still take up a slot.
    stopping: BTreeSet<TaskId>,
    /// Tasks to be launched at the end of this event.
    launching: Vec<TaskLaunch>,
}

impl Executor {
    pub fn slots(&self) -> u32 {
        self.slots
    }

    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Tasks whose result is wanted, and when they were launched.
    pub fn running(&self) -> &[(TaskId, Duration)] {
        &self.running
    }

    /// Tasks that it has, queued ones and those that are told to stop included.
    pub fn load(&self) -> usize {
        self.running.len() + self.stopping.len()
    }

    /// Whether it is to be given nothing more.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether it may be given tasks at all.
    pub fn is_usable(&self) -> bool {
        !(self.draining || self.excluded || self.worker_excluded)
    }

    fn has_idle_slot(&self) -> bool {
        self.is_usable() && (self.load() as u64) < u64::from(self.slots)
    }
}

/// All executors.
#[derive(Debug, Default)]
pub(super) struct Executors {
    all: BTreeMap<ExecutorId, Executor>,
    /// Those that may be given tasks and have a slot with nothing to do.
    idle: BTreeSet<ExecutorId>,
    /// Those that are given tasks in this event.
    launching: Vec<ExecutorId>,
    /// How many may be given tasks.
    usable: usize,
    /// Whether there were more of them before.
    fewer: bool,
    /// Of those together.
    slots: u64,
    /// Wanted tasks that executors have.
    tasks: usize,
    /// The executors that are or were on a worker, as long as it may hold output of theirs.
    ever: BTreeMap<WorkerId, BTreeSet<ExecutorId>>,
    /// The worker of each of those.
    homes: BTreeMap<ExecutorId, WorkerId>,
    /// Workers whose executors are to be given nothing more, also those that come.
    draining: BTreeSet<WorkerId>,
}

impl Executors {
    /// Adds one, if the name is free and it can run anything.
    pub fn add(&mut self, id: ExecutorId, slots: u32, worker: WorkerId, worker_excluded: bool) {
        if slots == 0 || self.homes.contains_key(&id) {
            return;
        }
        let executor = Executor {
            slots,
            worker,
            draining: self.is_draining(worker),
            excluded: false,
            worker_excluded,
            failed: BTreeSet::new(),
            last_failure: Duration::ZERO,
            running: Vec::new(),
            stopping: BTreeSet::new(),
            launching: Vec::new(),
        };
        self.homes.insert(id, worker);
        self.ever.entry(worker).or_default().insert(id);
        if executor.is_usable() {
            self.idle.insert(id);
            self.usable += 1;
            self.slots += u64::from(slots);
        }
        self.all.insert(id, executor);
    }

    /// Those on a worker are to be given nothing more.
    pub fn drain_worker(&mut self, worker: WorkerId) {
        if self.draining.insert(worker) {
            let there = self.ever.get(&worker).cloned().unwrap_or_default();
            there.into_iter().for_each(|id| self.change(id, |executor| executor.draining = true));
        }
    }

    /// Whether those on a worker are to be given nothing more.
    pub fn is_draining(&self, worker: WorkerId) -> bool {
        self.draining.contains(&worker)
    }

    /// Those that are there and are to be given nothing more.
    pub fn draining(&self) -> impl Iterator<Item = ExecutorId> + '_ {
        let there = self.draining.iter().filter_map(|worker| self.ever.get(worker)).flatten();
        there.copied().filter(|id| self.all.contains_key(id))
    }

    /// One is given nothing for a time, or something again, its failures forgotten.
    pub fn set_excluded(&mut self, id: ExecutorId, excluded: bool) {
        self.change(id, |executor| {
            executor.excluded = excluded;
            executor.failed.clear();
        });
    }

    /// The same for all on a worker.
    pub fn set_worker_excluded(&mut self, worker: WorkerId, excluded: bool) {
        let there = self.ever.get(&worker).cloned().unwrap_or_default();
        for id in there {
            self.change(id, |executor| {
                executor.worker_excluded = excluded;
                executor.failed.clear();
            });
        }
    }

    /// A partition's task failed on one; gives of how many partitions that is so, not counting failures older than `memory`.
    pub fn failed(&mut self, task: TaskId, id: ExecutorId, now: Duration, memory: Duration) -> u32 {
        let Some(executor) = self.all.get_mut(&id) else { return 0 };
        if now.saturating_sub(executor.last_failure) > memory {
            executor.failed.clear();
        }
        executor.last_failure = now;
        executor.failed.insert((task.stage, task.partition));
        u32::try_from(executor.failed.len()).unwrap_or(u32::MAX)
    }

    /// Changes whether one may be given tasks.
    fn change(&mut self, id: ExecutorId, change: impl FnOnce(&mut Executor)) {
        let Some(executor) = self.all.get_mut(&id) else { return };
        let before = executor.is_usable();
        change(executor);
        let slots = u64::from(executor.slots);
        match (before, executor.is_usable()) {
            (true, false) => {
                self.fewer = true;
                self.usable -= 1;
                self.slots -= slots;
                self.idle.remove(&id);
            }
            (false, true) => {
                self.usable += 1;
                self.slots += slots;
                if executor.has_idle_slot() {
                    self.idle.insert(id);
                }
            }
            _ => {}
        }
    }

    /// Removes one; gives the wanted tasks that it had.
    pub fn remove(&mut self, id: ExecutorId) -> Option<Vec<TaskId>> {
        let executor = self.all.remove(&id)?;
        self.idle.remove(&id);
        self.tasks -= executor.running.len();
        if executor.is_usable() {
            self.fewer = true;
            self.usable -= 1;
            self.slots -= u64::from(executor.slots);
        }
        Some(executor.running.into_iter().map(|(task, _)| task).collect())
    }

    /// Nothing that one made is left.
    pub fn forget(&mut self, id: ExecutorId) {
        if let Some(worker) = self.homes.remove(&id)
            && let Some(there) = self.ever.get_mut(&worker)
        {
            there.remove(&id);
            if there.is_empty() {
                self.ever.remove(&worker);
            }
        }
    }

    /// A worker is gone; gives all executors that are or were there.
    pub fn forget_worker(&mut self, worker: WorkerId) -> Vec<ExecutorId> {
        self.draining.remove(&worker);
        let there = self.ever.remove(&worker).unwrap_or_default();
        for id in &there {
            self.homes.remove(id);
        }
        there.into_iter().collect()
    }

    /// An executor and all others that are or were on its worker, as long as they may have made something that is there.
    pub fn on_worker_of(&self, id: ExecutorId) -> Vec<ExecutorId> {
        let there = self.homes.get(&id).and_then(|worker| self.ever.get(worker));
        there.map_or_else(|| vec![id], |there| there.iter().copied().collect())
    }

    pub fn get(&self, id: ExecutorId) -> Option<&Executor> {
        self.all.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (ExecutorId, &Executor)> {
        self.all.iter().map(|(id, executor)| (*id, executor))
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// How many may be given tasks.
    pub fn usable(&self) -> usize {
        self.usable
    }

    /// Whether any can't be given tasks now that could when this was asked last.
    pub fn take_fewer(&mut self) -> bool {
        std::mem::take(&mut self.fewer)
    }

    /// Wanted tasks that executors have.
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    /// The slots of those that may be given tasks.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// The first with an idle slot, after this one.
    pub fn idle_after(&self, id: Option<ExecutorId>) -> Option<ExecutorId> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.idle.range((from, Bound::Unbounded)).next().copied()
    }

    /// All with an idle slot, beginning after this one.
    pub fn idle_from(&self, id: Option<ExecutorId>) -> impl Iterator<Item = ExecutorId> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        let upto = id.map(|id| self.idle.range(..=id));
        self.idle.range((from, Bound::Unbounded)).chain(upto.into_iter().flatten()).copied()
    }

    /// The place that the next task launched on an executor gets.
    pub fn next_position(&self, id: ExecutorId) -> Option<u32> {
        self.all.get(&id).and_then(|e| u32::try_from(e.running.len()).ok())
    }

    /// Notes a task to be launched.
    pub fn launch(&mut self, id: ExecutorId, launch: TaskLaunch, now: Duration) {
        let Some(executor) = self.all.get_mut(&id) else { return };
        if executor.launching.is_empty() {
            self.launching.push(id);
        }
        self.tasks += 1;
        executor.launching.push(launch);
        executor.running.push((launch.task, now));
        if !executor.has_idle_slot() {
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
        self.tasks -= 1;
        if executor.has_idle_slot() {
            self.idle.insert(id);
        }
        executor.running.get(position).map(|(task, _)| *task)
    }

    /// A task isn't wanted any more, but still there. Gives the task that took its place in the list.
    pub fn stop(&mut self, id: ExecutorId, position: u32) -> Option<TaskId> {
        let executor = self.all.get_mut(&id)?;
        let position = position as usize;
        if position >= executor.running.len() {
            return None;
        }
        let (task, _) = executor.running.swap_remove(position);
        self.tasks -= 1;
        executor.stopping.insert(task);
        executor.running.get(position).map(|(task, _)| *task)
    }

    /// A task that was told to stop ended; false if it wasn't one of those.
    pub fn stopped(&mut self, id: ExecutorId, task: TaskId) -> bool {
        let Some(executor) = self.all.get_mut(&id) else { return false };
        let known = executor.stopping.remove(&task);
        if known && executor.has_idle_slot() {
            self.idle.insert(id);
        }
        known
    }

    /// Panics unless the lists agree. For tests.
    pub fn check(&self) {
        let usable = || self.all.values().filter(|e| e.is_usable());
        let slots: u64 = usable().map(|e| u64::from(e.slots)).sum();
        assert_eq!((usable().count(), slots), (self.usable, self.slots), "usable executors, slots");
        let idle: BTreeSet<_> =
            self.iter().filter(|(_, e)| e.has_idle_slot()).map(|(id, _)| id).collect();
        assert_eq!(idle, self.idle, "executors with an idle slot");
        for (id, executor) in self.iter() {
            assert_eq!(self.homes.get(&id), Some(&executor.worker), "the worker of {id}");
            let drains = self.draining.contains(&executor.worker);
            assert_eq!(executor.draining, drains, "whether {id} drains");
            assert!(executor.launching.is_empty(), "{id} has launches that were never asked for");
        }
        let tasks: usize = self.all.values().map(|e| e.running.len()).sum();
        assert_eq!(tasks, self.tasks, "tasks of all executors");
        let homes: BTreeMap<_, _> =
            self.ever.iter().flat_map(|(w, e)| e.iter().map(move |e| (*e, *w))).collect();
        assert_eq!(homes, self.homes, "executors and their workers");
        assert!(self.launching.is_empty(), "launches that were never asked for");
    }
}
