//! The tasks of an executor: those that wait, those that run, and those that are to stop.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ingle_core::ids::TaskId;
use ingle_core::scheduler::TaskLaunch;
use parking_lot::{Condvar, Mutex};

/// Set when a task is to stop; its guest ends at its next call.
pub type Cancelled = Arc<AtomicBool>;

pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: VecDeque<TaskLaunch>,
    /// Of the waiting ones, those that were killed.
    killed: HashSet<TaskId>,
    /// What each slot runs, and the flag that stops it.
    running: Vec<(Option<TaskId>, Cancelled)>,
    /// Slots that others have taken the place of: they end with their tasks.
    replaced: HashSet<usize>,
    idle: usize,
    closed: bool,
}

/// What a slot does next.
pub enum Work {
    Run(TaskLaunch),
    /// Report it as killed: it was before it began.
    Killed(TaskId),
    /// Something changed that may make what the slot keeps useless.
    Look,
    End,
}

impl Queue {
    pub fn new(slots: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            killed: HashSet::new(),
            replaced: HashSet::new(),
            running: (0..slots).map(|_| (None, Cancelled::default())).collect(),
            idle: 0,
            closed: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub fn push(&self, tasks: impl Iterator<Item = TaskLaunch>) {
        let mut state = self.state.lock();
        let before = state.waiting.len();
        state.waiting.extend(tasks);
        let wake = state.idle.min(state.waiting.len() - before);
        drop(state);
        for _ in 0..wake {
            self.changed.notify_one();
        }
    }

    /// Stops a task, or has its slot report it as killed. One that isn't here ended already. Says whether it runs.
    pub fn kill(&self, task: TaskId) -> bool {
        let mut state = self.state.lock();
        if let Some((_, flag)) = state.running.iter().find(|(running, _)| *running == Some(task)) {
            flag.store(true, Ordering::Relaxed);
            return true;
        }
        if state.waiting.iter().any(|launch| launch.task == task) {
            state.killed.insert(task);
        }
        false
    }

    /// Has another slot take the place of the one that runs a task; gives its number. None if the task doesn't run.
    pub fn replace(&self, task: TaskId) -> Option<usize> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        let slot = state.running.iter().position(|(running, _)| *running == Some(task))?;
        state.replaced.insert(slot).then(|| {
            state.running.push((None, Cancelled::default()));
            state.running.len() - 1
        })
    }

    /// Whether a task runs.
    pub fn runs(&self, task: TaskId) -> bool {
        self.state.lock().running.iter().any(|(running, _)| *running == Some(task))
    }

    /// A slot's task has ended. False if another slot has taken its place, and the end was reported.
    pub fn finish(&self, slot: usize) -> bool {
        let mut state = self.state.lock();
        if let Some((running, _)) = state.running.get_mut(slot) {
            *running = None;
        }
        !state.replaced.contains(&slot)
    }

    /// Stops everything.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.waiting.clear();
        for (_, flag) in &state.running {
            flag.store(true, Ordering::Relaxed);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Lets idle slots look at what they keep.
    pub fn wake_all(&self) {
        self.changed.notify_all();
    }

    /// Waits for work. The flag of a slot is its task's until the next call.
    pub fn take(&self, slot: usize) -> (Work, Cancelled) {
        let mut state = self.state.lock();
        let closed = state.closed || state.replaced.contains(&slot);
        let flag = match state.running.get_mut(slot) {
            Some((running, flag)) => {
                *running = None;
                // Reset, or made anew if somebody else still looks at it.
                match Arc::get_mut(flag) {
                    Some(unset) => *unset.get_mut() = closed,
                    None => *flag = Arc::new(AtomicBool::new(closed)),
                }
                flag.clone()
            }
            None => Cancelled::default(),
        };
        if closed {
            return (Work::End, flag);
        }
        if state.waiting.is_empty() {
            state.idle += 1;
            self.changed.wait(&mut state);
            state.idle -= 1;
        }
        if state.closed {
            return (Work::End, flag);
        }
        let Some(launch) = state.waiting.pop_front() else { return (Work::Look, flag) };
        if state.killed.remove(&launch.task) {
            return (Work::Killed(launch.task), flag);
        }
        if let Some((running, _)) = state.running.get_mut(slot) {
            *running = Some(launch.task);
        }
        (Work::Run(launch), flag)
    }
}

#[cfg(test)]
mod tests {
    use ingle_core::ids::{JobId, StageId};

    use super::*;

    fn launch(partition: u32) -> TaskLaunch {
        let task = TaskId { stage: StageId(0), partition, attempt: 0 };
        TaskLaunch { job: JobId(0), task }
    }

    #[test]
    fn tasks_run_in_the_order_of_their_launch() {
        let queue = Queue::new(1);
        queue.push([launch(0), launch(1)].into_iter());
        for partition in 0..2 {
            let (Work::Run(next), _) = queue.take(0) else { panic!("work") };
            assert_eq!(next, launch(partition));
        }
    }

    #[test]
    fn a_waiting_task_that_is_killed_is_reported_and_not_run() {
        let queue = Queue::new(1);
        queue.push([launch(0), launch(1)].into_iter());
        queue.kill(launch(0).task);
        assert!(matches!(queue.take(0), (Work::Killed(task), _) if task == launch(0).task));
        assert!(matches!(queue.take(0), (Work::Run(next), _) if next == launch(1)));
    }

    #[test]
    fn a_running_task_that_is_killed_sees_its_flag_and_the_next_one_does_not() {
        let queue = Queue::new(1);
        queue.push([launch(0), launch(1)].into_iter());
        let (_, first) = queue.take(0);
        queue.kill(launch(0).task);
        assert!(first.load(Ordering::Relaxed) && queue.runs(launch(0).task));
        let (_, second) = queue.take(0);
        assert!(!second.load(Ordering::Relaxed) && !queue.runs(launch(0).task));
    }

    #[test]
    fn another_slot_takes_the_place_of_one_whose_task_does_not_stop() {
        let queue = Queue::new(1);
        queue.push([launch(0), launch(1)].into_iter());
        let (Work::Run(stuck), _flag) = queue.take(0) else { panic!("work") };
        assert!(queue.kill(stuck.task) && !queue.kill(launch(1).task));
        assert_eq!((queue.replace(stuck.task), queue.replace(stuck.task)), (Some(1), None));
        assert!(matches!(queue.take(1), (Work::Killed(task), _) if task == launch(1).task));
        assert!(!queue.finish(0), "should it stop after all");
        assert!(matches!(queue.take(0), (Work::End, _)));
        assert_eq!(queue.replace(stuck.task), None);
    }

    #[test]
    fn no_slot_takes_the_place_of_one_whose_task_has_ended() {
        let queue = Queue::new(1);
        queue.push([launch(0)].into_iter());
        let (Work::Run(ended), _flag) = queue.take(0) else { panic!("work") };
        assert!(queue.kill(ended.task) && queue.finish(0) && !queue.runs(ended.task));
        assert_eq!(queue.replace(ended.task), None);
    }

    #[test]
    fn a_kill_that_comes_late_stops_nobody_else() {
        let queue = Queue::new(1);
        queue.push([launch(0)].into_iter());
        let (_, flag) = queue.take(0);
        queue.kill(launch(7).task);
        assert!(!flag.load(Ordering::Relaxed));
    }

    #[test]
    fn closing_ends_slots_and_stops_what_runs() {
        let queue = Queue::new(1);
        queue.push([launch(0), launch(1)].into_iter());
        let (_, flag) = queue.take(0);
        queue.close();
        assert!(flag.load(Ordering::Relaxed));
        drop(flag);
        assert!(matches!(queue.take(0), (Work::End, _)));
    }
}
