//! The tasks of an executor: those that wait, those that run, and those that are to stop.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ingle_core::ids::TaskId;
use ingle_core::scheduler::TaskLaunch;
use parking_lot::{Condvar, Mutex};

use super::time::{Excess, Stopping, Stuck, Taken, TaskTime, ThreadClock};

/// What a task and those who stop it share.
#[derive(Debug, Default)]
pub struct Told {
    stop: AtomicBool,
    /// Its slot is in the host's code, which comes back by itself.
    in_host: AtomicBool,
    /// Why it is stopped, if that is its own fault.
    excess: OnceLock<Excess>,
}

/// Tells a task to stop; its guest ends at its next call.
pub type Cancelled = Arc<Told>;

impl Told {
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Set if it was stopped for what it took.
    pub fn excess(&self) -> Option<&Excess> {
        self.excess.get()
    }

    /// From now on the slot is in the host's code, or in the guest's.
    pub fn enter_host(&self, in_host: bool) {
        self.in_host.store(in_host, Ordering::Relaxed);
    }

    fn new(stopped: bool) -> Self {
        let told = Self::default();
        told.enter_host(true);
        if stopped {
            told.stop();
        }
        told
    }
}

pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Something is to be watched.
    watch: Condvar,
    time: TaskTime,
}

struct State {
    waiting: VecDeque<TaskLaunch>,
    /// Of the waiting ones, those that were killed.
    killed: HashSet<TaskId>,
    running: Vec<Slot>,
    /// Slots that were given up, as are their tasks: they end with them.
    replaced: HashSet<usize>,
    idle: usize,
    closed: bool,
    /// Whoever watches waits until something is to be watched.
    unwatched: bool,
}

impl State {
    /// The slot of a task, unless both were given up.
    fn runs(&mut self, task: TaskId) -> Option<&mut Slot> {
        let Self { running, replaced, .. } = self;
        let mut slots = running.iter_mut().enumerate();
        let found =
            slots.find(|(number, slot)| slot.task == Some(task) && !replaced.contains(number));
        found.map(|(_, slot)| slot)
    }
}

/// What a slot runs.
struct Slot {
    task: Option<TaskId>,
    told: Cancelled,
    began: Instant,
    /// That of its thread, if processor time is bounded, and what it said when the task began.
    clock: Option<ThreadClock>,
    clock_began: Option<Duration>,
    stopping: Option<Stopping>,
}

impl Slot {
    fn new() -> Self {
        Self {
            task: None,
            told: Cancelled::default(),
            began: Instant::now(),
            clock: None,
            clock_began: None,
            stopping: None,
        }
    }

    fn taken(&self, now: Instant) -> Taken {
        let clock = self.clock.as_ref().and_then(ThreadClock::read);
        let processor = clock.zip(self.clock_began).map(|(now, then)| now.saturating_sub(then));
        Taken { wall: now.saturating_duration_since(self.began), processor }
    }

    /// By its own fault.
    fn stop_for(&mut self, now: Instant, excess: Excess) {
        // Before the flag: who sees that wants to know why.
        let _ = self.told.excess.set(excess);
        self.stop(now);
    }

    fn stop(&mut self, now: Instant) {
        self.told.stop();
        self.stopping.get_or_insert_with(|| Stopping::new(now));
    }
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

/// A task that was told to stop and doesn't.
#[derive(Debug)]
pub struct GivenUp {
    pub task: TaskId,
    pub stuck: Stuck,
    /// Why it was told, if that is its own fault.
    pub excess: Option<Excess>,
}

/// What a look at the running tasks gave.
#[derive(Debug, Default)]
pub struct Watched {
    /// Some were told to stop just now.
    pub stopped: bool,
    pub given_up: Vec<GivenUp>,
}

/// How often tasks that were told to stop are looked at.
const STOPPING_PERIOD: Duration = Duration::from_millis(50);

impl Queue {
    pub fn new(slots: usize, time: TaskTime) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            killed: HashSet::new(),
            replaced: HashSet::new(),
            running: (0..slots).map(|_| Slot::new()).collect(),
            idle: 0,
            closed: false,
            unwatched: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), watch: Condvar::new(), time }
    }

    /// Called once by each slot, before it takes anything.
    pub fn begin(&self, slot: usize) {
        if self.time.processor.is_some()
            && let Some(slot) = self.state.lock().running.get_mut(slot)
        {
            // Without it its tasks fail, and say why.
            slot.clock = ThreadClock::of_this_thread().ok();
        }
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

    /// Stops a task, or has its slot report it as killed. One that isn't here ended already.
    pub fn kill(&self, task: TaskId) {
        let mut state = self.state.lock();
        if let Some(slot) = state.runs(task) {
            slot.stop(Instant::now());
            drop(state);
            self.watch.notify_all();
        } else if state.waiting.iter().any(|launch| launch.task == task) {
            state.killed.insert(task);
        }
    }

    /// Stops a task that took more than it may, unless it is told to stop already, or isn't here any more.
    pub fn stop_for(&self, task: TaskId, excess: Excess) {
        let mut state = self.state.lock();
        if let Some(slot) = state.runs(task).filter(|slot| slot.stopping.is_none()) {
            slot.stop_for(Instant::now(), excess);
            drop(state);
            self.watch.notify_all();
        }
    }

    /// Waits until it is time for another look, when the last one was `last`. False once the queue is closed.
    pub fn wait_to_look(&self, last: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.closed {
            let stopping = state.running.iter().any(|slot| slot.stopping.is_some());
            let working = || state.running.iter().any(|slot| slot.task.is_some());
            let bounded = self.time.period().filter(|_| working());
            let period = stopping.then_some(STOPPING_PERIOD).into_iter().chain(bounded).min();
            match period {
                Some(period) if Instant::now() >= last + period => return true,
                Some(period) => drop(self.watch.wait_until(&mut state, last + period)),
                None => {
                    state.unwatched = true;
                    self.watch.wait(&mut state);
                    state.unwatched = false;
                }
            }
        }
        false
    }

    /// Looks at what runs, now: stops what took too long, and gives up what was stopped and goes on. The slot of such a task is no longer one.
    pub fn look(&self, now: Instant) -> Watched {
        let mut watched = Watched::default();
        let mut state = self.state.lock();
        let State { running, replaced, closed, .. } = &mut *state;
        if *closed {
            return watched;
        }
        for (number, slot) in running.iter_mut().enumerate() {
            let Some(task) = slot.task.filter(|_| !replaced.contains(&number)) else { continue };
            if slot.stopping.is_none()
                && let Err(excess) = self.time.judge(slot.taken(now))
            {
                slot.stop_for(now, excess);
                watched.stopped = true;
            }
            let in_host = slot.told.in_host.load(Ordering::Relaxed);
            if let Some(stuck) = slot.stopping.as_mut().and_then(|s| s.look(now, in_host)) {
                slot.stopping = None;
                replaced.insert(number);
                let excess = slot.told.excess().cloned();
                watched.given_up.push(GivenUp { task, stuck, excess });
            }
        }
        watched
    }

    /// Another slot, for one that was given up; gives its number. None if the queue is closed.
    pub fn add_slot(&self) -> Option<usize> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.running.push(Slot::new());
        Some(state.running.len() - 1)
    }

    /// A slot's task has ended. False if it was given up, and its end was reported.
    pub fn finish(&self, slot: usize) -> bool {
        let mut state = self.state.lock();
        if let Some(running) = state.running.get_mut(slot) {
            (running.task, running.stopping) = (None, None);
        }
        !state.replaced.contains(&slot)
    }

    /// Stops everything.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.waiting.clear();
        for slot in &state.running {
            slot.told.stop();
        }
        drop(state);
        self.changed.notify_all();
        self.watch.notify_all();
    }

    /// Lets idle slots look at what they keep.
    pub fn wake_all(&self) {
        self.changed.notify_all();
    }

    /// Waits for work. What is told to a slot is told to its task until the next call.
    pub fn take(&self, slot: usize) -> (Work, Cancelled) {
        let mut state = self.state.lock();
        let closed = state.closed || state.replaced.contains(&slot);
        let told = match state.running.get_mut(slot) {
            Some(running) => {
                (running.task, running.stopping) = (None, None);
                // Reset, or made anew if somebody else still looks at it.
                match Arc::get_mut(&mut running.told) {
                    Some(unset) => *unset = Told::new(closed),
                    None => running.told = Arc::new(Told::new(closed)),
                }
                running.told.clone()
            }
            None => Cancelled::default(),
        };
        if closed {
            return (Work::End, told);
        }
        if state.waiting.is_empty() {
            state.idle += 1;
            self.changed.wait(&mut state);
            state.idle -= 1;
        }
        if state.closed {
            return (Work::End, told);
        }
        let Some(launch) = state.waiting.pop_front() else { return (Work::Look, told) };
        if state.killed.remove(&launch.task) {
            return (Work::Killed(launch.task), told);
        }
        if let Some(running) = state.running.get_mut(slot) {
            running.task = Some(launch.task);
            if self.time.is_bounded() {
                running.began = Instant::now();
                running.clock_began = running.clock.as_ref().and_then(ThreadClock::read);
                if state.unwatched {
                    self.watch.notify_one();
                }
            }
        }
        (Work::Run(launch), told)
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
        let queue = Queue::new(1, TaskTime::default());
        queue.push([launch(0), launch(1)].into_iter());
        for partition in 0..2 {
            let (Work::Run(next), _) = queue.take(0) else { panic!("work") };
            assert_eq!(next, launch(partition));
        }
    }

    #[test]
    fn a_waiting_task_that_is_killed_is_reported_and_not_run() {
        let queue = Queue::new(1, TaskTime::default());
        queue.push([launch(0), launch(1)].into_iter());
        queue.kill(launch(0).task);
        assert!(matches!(queue.take(0), (Work::Killed(task), _) if task == launch(0).task));
        assert!(matches!(queue.take(0), (Work::Run(next), _) if next == launch(1)));
    }

    /// Looks as often as whoever watches does, until `until`.
    fn look_until(queue: &Queue, start: Instant, until: u64) -> Vec<GivenUp> {
        let looks = (0..=until).step_by(50);
        looks.flat_map(|at| queue.look(start + Duration::from_millis(at)).given_up).collect()
    }

    #[test]
    fn a_running_task_that_is_killed_sees_its_flag_and_the_next_one_does_not() {
        let queue = Queue::new(1, TaskTime::default());
        queue.push([launch(0), launch(1)].into_iter());
        let (_, first) = queue.take(0);
        queue.kill(launch(0).task);
        assert!(first.is_stopped() && first.excess().is_none());
        let (_, second) = queue.take(0);
        assert!(!second.is_stopped());
    }

    #[test]
    fn a_task_that_does_not_stop_is_given_up_with_its_slot() {
        let queue = Queue::new(1, TaskTime::default());
        queue.push([launch(0), launch(1)].into_iter());
        let (Work::Run(stuck), told) = queue.take(0) else { panic!("work") };
        told.enter_host(false);
        let start = Instant::now();
        assert!(look_until(&queue, start, 2000).is_empty(), "nobody told it to stop");
        queue.kill(stuck.task);
        queue.kill(launch(1).task);
        let given_up = look_until(&queue, Instant::now(), 2000);
        let [GivenUp { task, stuck: Stuck::Silent, excess: None }] = given_up[..] else {
            panic!("{given_up:?}")
        };
        assert_eq!((task, queue.add_slot()), (stuck.task, Some(1)));
        assert!(matches!(queue.take(1), (Work::Killed(task), _) if task == launch(1).task));
        assert!(!queue.finish(0), "should it stop after all");
        assert!(matches!(queue.take(0), (Work::End, _)));
    }

    #[test]
    fn one_that_waits_in_its_host_is_not() {
        let queue = Queue::new(1, TaskTime::default());
        queue.push([launch(0)].into_iter());
        let (Work::Run(waits), _told) = queue.take(0) else { panic!("work") };
        queue.kill(waits.task);
        assert!(look_until(&queue, Instant::now(), 20_000).is_empty());
        assert!(queue.finish(0), "its end is its own to report");
    }

    #[test]
    fn no_slot_is_given_up_whose_task_has_ended() {
        let queue = Queue::new(1, TaskTime::default());
        queue.push([launch(0)].into_iter());
        let (Work::Run(ended), told) = queue.take(0) else { panic!("work") };
        told.enter_host(false);
        queue.kill(ended.task);
        assert!(queue.finish(0) && look_until(&queue, Instant::now(), 2000).is_empty());
    }

    #[test]
    fn a_task_that_takes_too_long_is_told_to_stop_and_why() {
        let time = TaskTime { wall: Some(Duration::from_secs(10)), processor: None };
        let queue = Queue::new(1, time);
        queue.begin(0);
        queue.push([launch(0), launch(1)].into_iter());
        let (_, told) = queue.take(0);
        told.enter_host(false);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!queue.look(at(9)).stopped && !told.is_stopped());
        assert!(queue.look(at(11)).stopped && told.is_stopped());
        assert!(told.excess().unwrap().to_string().contains("ingle.task.timeout"));
        // Nobody told it twice.
        assert!(!queue.look(at(11)).stopped);
        let given_up = queue.look(at(12)).given_up;
        assert!(given_up[0].excess.as_ref() == told.excess(), "{given_up:?}");
        assert!(matches!(queue.take(0), (Work::End, _)));
    }

    #[test]
    fn a_task_with_too_much_is_stopped_or_given_up_and_fails_with_these_words() {
        let queue = Queue::new(1, TaskTime::default());
        queue.push([launch(0)].into_iter());
        let (_, told) = queue.take(0);
        told.enter_host(false);
        queue.stop_for(launch(7).task, Excess("of another".into()));
        assert!(!told.is_stopped());
        let excess = Excess("too much".into());
        queue.stop_for(launch(0).task, excess.clone());
        queue.stop_for(launch(0).task, Excess("more".into()));
        assert!(told.is_stopped() && told.excess() == Some(&excess), "{told:?}");
        let given_up = look_until(&queue, Instant::now(), 2000);
        let [GivenUp { stuck: Stuck::Silent, excess: Some(said), .. }] = &given_up[..] else {
            panic!("{given_up:?}")
        };
        assert_eq!(said, &excess);
        queue.stop_for(launch(0).task, Excess("again".into()));
        queue.kill(launch(0).task);
        assert!(look_until(&queue, Instant::now(), 2000).is_empty(), "it was given up");
        assert!(queue.state.lock().running[0].stopping.is_none(), "nobody waits for it");
    }

    #[test]
    fn the_next_task_begins_with_all_of_its_time() {
        let time = TaskTime { wall: None, processor: Some(Duration::from_millis(20)) };
        let queue = Queue::new(1, time);
        queue.begin(0);
        queue.push([launch(0), launch(1)].into_iter());
        let (_, first) = queue.take(0);
        while !queue.look(Instant::now()).stopped {}
        assert!(first.excess().unwrap().to_string().contains("ingle.task.cpuTimeout"));
        let (_, second) = queue.take(0);
        assert!(!queue.look(Instant::now()).stopped && !second.is_stopped());
    }

    #[test]
    fn a_kill_that_comes_late_stops_nobody_else() {
        let queue = Queue::new(1, TaskTime::default());
        queue.push([launch(0)].into_iter());
        let (_, flag) = queue.take(0);
        queue.kill(launch(7).task);
        assert!(!flag.is_stopped());
    }

    #[test]
    fn closing_ends_slots_and_stops_what_runs() {
        let queue = Queue::new(1, TaskTime::default());
        queue.push([launch(0), launch(1)].into_iter());
        let (_, flag) = queue.take(0);
        queue.close();
        assert!(flag.is_stopped());
        drop(flag);
        assert!(matches!(queue.take(0), (Work::End, _)));
    }
}
