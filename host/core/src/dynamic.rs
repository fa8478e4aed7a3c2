//! How many executors an application wants: more while tasks wait, fewer when some have nothing to do.
//!
//! As Spark's dynamic allocation: while there are more tasks than executors for them, the target grows by one, two, four and so
//! on, never above what the tasks need. An executor that was idle for long enough may go. Pure: no clock, no I/O.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::ExecutorId;

/// The numbers that [`DynamicAllocation`] decides by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicPolicy {
    /// Executors that there are always.
    pub min: u32,
    /// Executors that there are at most. Should it be less than `min`, it wins.
    pub max: u32,
    /// Executors to begin with, until there are tasks or `idle_timeout` has passed.
    pub initial: u32,
    /// How long an executor is idle until it goes.
    pub idle_timeout: Duration,
    /// How long tasks wait until the first executor is added.
    pub backlog_timeout: Duration,
    /// How long they wait on until the next are.
    pub sustained_backlog_timeout: Duration,
}

impl Default for DynamicPolicy {
    fn default() -> Self {
        Self {
            min: 0,
            max: u32::MAX,
            initial: 0,
            idle_timeout: Duration::from_secs(60),
            backlog_timeout: Duration::from_secs(1),
            sustained_backlog_timeout: Duration::from_secs(1),
        }
    }
}

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// How many executors there should be.
    pub target: u32,
    /// Executors that should go, those that were idle longest first. Named again in each decision until they are gone.
    pub release: Vec<ExecutorId>,
}

/// Decides how many executors an application wants.
#[derive(Debug)]
pub struct DynamicAllocation {
    policy: DynamicPolicy,
    now: Duration,
    target: u32,
    /// How many are added next.
    add: u32,
    /// When they are, if tasks wait until then.
    due: Option<Duration>,
    /// There were no tasks yet; the initial number is kept until then.
    starting_until: Option<Duration>,
    idle_since: BTreeMap<ExecutorId, Duration>,
    /// How many executors there were at last.
    executors: u32,
}

impl DynamicAllocation {
    /// Begins with the initial number of executors, at the time zero.
    pub fn new(policy: DynamicPolicy) -> Self {
        let target = policy.initial.max(policy.min).min(policy.max);
        Self {
            now: Duration::ZERO,
            target,
            add: 1,
            due: None,
            starting_until: Some(policy.idle_timeout),
            idle_since: BTreeMap::new(),
            executors: 0,
            policy,
        }
    }

    /// How many executors there should be.
    pub fn target(&self) -> u32 {
        self.target
    }

    /// Looks at the state of things. `backlog` counts tasks that run or could (see
    /// [`Scheduler::backlog`](crate::scheduler::Scheduler::backlog)); `executors` are all that are there and not about to go,
    /// each with whether it is idle. To be called after changes, at least some times a second while there are any, and at
    /// [`next_tick`](Self::next_tick).
    pub fn update(
        &mut self,
        now: Duration,
        backlog: u64,
        slots_per_executor: u32,
        executors: impl IntoIterator<Item = (ExecutorId, bool)>,
    ) -> Decision {
        self.now = self.now.max(now);
        self.note_idle(executors);
        self.aim(backlog, slots_per_executor);
        Decision { target: self.target, release: self.to_release() }
    }

    /// When to [`update`](Self::update) although nothing happened, as `now` counts.
    pub fn next_tick(&self) -> Option<Duration> {
        let spare = self.executors > self.floor();
        let idle = self.idle_since.values().filter(|_| spare);
        let idle = idle.map(|since| since.saturating_add(self.policy.idle_timeout));
        // What is past was said, and is for the shell to do.
        idle.chain(self.due).chain(self.starting_until).filter(|at| *at > self.now).min()
    }

    fn note_idle(&mut self, executors: impl IntoIterator<Item = (ExecutorId, bool)>) {
        let before = std::mem::take(&mut self.idle_since);
        self.executors = 0;
        for (executor, idle) in executors {
            self.executors = self.executors.saturating_add(1);
            if idle {
                let since = before.get(&executor).copied().unwrap_or(self.now);
                self.idle_since.insert(executor, since);
            }
        }
    }

    fn aim(&mut self, backlog: u64, slots_per_executor: u32) {
        let needed = backlog.div_ceil(u64::from(slots_per_executor.max(1)));
        let needed = u32::try_from(needed).unwrap_or(u32::MAX);
        let needed = needed.max(self.policy.min).min(self.policy.max);
        if backlog > 0 || self.starting_until.is_some_and(|until| until <= self.now) {
            self.starting_until = None;
        }
        // Those that are there needn't be asked for step by step.
        let there = self.target.max(self.executors.min(needed));
        if needed <= there {
            if self.starting_until.is_none() {
                self.target = needed;
            }
            (self.add, self.due) = (1, None);
            return;
        }
        self.target = there;
        let mut due =
            self.due.unwrap_or_else(|| self.now.saturating_add(self.policy.backlog_timeout));
        while due <= self.now && self.target < needed {
            self.target = self.target.saturating_add(self.add).min(needed);
            self.add = self.add.saturating_mul(2);
            due = due.saturating_add(self.policy.sustained_backlog_timeout);
        }
        self.due = Some(due);
        if self.target == needed {
            (self.add, self.due) = (1, None);
        }
    }

    fn floor(&self) -> u32 {
        self.target.max(self.policy.min)
    }

    fn to_release(&self) -> Vec<ExecutorId> {
        let spare = self.executors.saturating_sub(self.floor()) as usize;
        let idle_for = |since: Duration| self.now.saturating_sub(since);
        let long = self.idle_since.iter();
        let long = long.filter(|(_, since)| idle_for(**since) >= self.policy.idle_timeout);
        let mut long: Vec<_> = long.map(|(executor, since)| (*since, *executor)).collect();
        long.sort_unstable();
        long.into_iter().map(|(_, executor)| executor).take(spare).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn policy(min: u32, max: u32) -> DynamicPolicy {
        DynamicPolicy { min, max, ..DynamicPolicy::default() }
    }

    /// So many executors with ids from 0, the first `idle` of them idle.
    fn executors(count: u32, idle: u32) -> Vec<(ExecutorId, bool)> {
        (0..count).map(|id| (ExecutorId(id), id < idle)).collect()
    }

    fn targets(
        core: &mut DynamicAllocation,
        times: std::ops::Range<u64>,
        backlog: u64,
    ) -> Vec<u32> {
        times.map(|at| core.update(seconds(at), backlog, 4, []).target).collect()
    }

    #[test]
    fn the_target_doubles_its_steps_while_tasks_wait_up_to_what_they_need() {
        let mut core = DynamicAllocation::new(policy(0, 1000));
        assert_eq!(targets(&mut core, 0..7, 79), [0, 1, 3, 7, 15, 20, 20]);
        assert_eq!(targets(&mut core, 7..9, 80), [20, 20]);
        assert_eq!(targets(&mut core, 9..11, 100), [20, 21], "from one again");
        assert_eq!(targets(&mut core, 11..12, 8), [2], "less at once");
    }

    #[test]
    fn no_more_than_the_maximum_and_no_less_than_the_minimum_is_asked_for() {
        let mut core = DynamicAllocation::new(policy(2, 5));
        assert_eq!(targets(&mut core, 0..5, 1_000_000), [2, 3, 5, 5, 5]);
        assert_eq!(targets(&mut core, 5..6, 0), [2]);
        assert_eq!(core.update(seconds(6), u64::MAX, 0, []).target, 2, "without slots it is one");
    }

    #[test]
    fn a_short_backlog_adds_nothing() {
        let mut core = DynamicAllocation::new(policy(0, 10));
        core.update(Duration::ZERO, 8, 4, []);
        core.update(Duration::from_millis(900), 0, 4, []);
        assert_eq!(core.update(seconds(1), 8, 4, []).target, 0);
        assert_eq!(core.next_tick(), Some(seconds(2)));
        assert_eq!(core.update(seconds(2), 8, 4, []).target, 1);
    }

    #[test]
    fn a_late_look_makes_up_for_the_steps_that_it_missed() {
        let mut core = DynamicAllocation::new(policy(0, 1000));
        assert_eq!(targets(&mut core, 0..1, 4000), [0]);
        assert_eq!(core.update(seconds(4), 4000, 4, []).target, 15);
    }

    #[test]
    fn executors_that_are_there_are_not_asked_for_step_by_step() {
        let mut core = DynamicAllocation::new(policy(0, 100));
        assert_eq!(core.update(seconds(0), 48, 4, executors(10, 0)).target, 10);
        assert_eq!(core.update(seconds(1), 48, 4, executors(10, 0)).target, 11);
    }

    #[test]
    fn the_initial_number_is_kept_until_there_are_tasks_or_for_the_idle_timeout() {
        let initial = DynamicPolicy { initial: 6, ..policy(1, 100) };
        let mut core = DynamicAllocation::new(initial.clone());
        assert_eq!(core.update(seconds(59), 0, 4, executors(6, 6)).target, 6);
        assert_eq!(core.next_tick(), Some(seconds(60)));
        assert_eq!(core.update(seconds(60), 0, 4, executors(6, 6)).target, 1);
        let mut core = DynamicAllocation::new(initial);
        assert_eq!(core.update(seconds(1), 8, 4, executors(6, 6)).target, 2);
    }

    #[test]
    fn executors_idle_for_long_are_released_the_longest_first_down_to_the_minimum() {
        let mut core = DynamicAllocation::new(policy(1, 100));
        let all = |idle: [bool; 4]| (0..).map(ExecutorId).zip(idle);
        core.update(seconds(0), 0, 1, all([false, false, true, false]));
        core.update(seconds(10), 0, 1, all([true, false, true, true]));
        assert_eq!(core.next_tick(), Some(seconds(60)));
        let released = |core: &mut DynamicAllocation, at, idle| {
            core.update(seconds(at), 0, 1, all(idle)).release
        };
        assert_eq!(released(&mut core, 59, [true, false, true, true]), []);
        assert_eq!(released(&mut core, 60, [true, false, true, true]), [ExecutorId(2)]);
        assert_eq!(
            released(&mut core, 70, [true, true, true, true]),
            [ExecutorId(2), ExecutorId(0), ExecutorId(3)]
        );
        assert_eq!(
            released(&mut core, 71, [true, true, false, true]).len(),
            2,
            "one is busy again"
        );
        assert_eq!(released(&mut core, 500, [true; 4]).len(), 3, "the minimum stays");
    }

    #[test]
    fn idle_executors_that_the_tasks_need_are_not_released() {
        let mut core = DynamicAllocation::new(policy(0, 100));
        core.update(seconds(0), 3, 1, executors(4, 4));
        let decision = core.update(seconds(100), 3, 1, executors(4, 4));
        assert_eq!(decision, Decision { target: 3, release: vec![ExecutorId(0)] });
        assert_eq!(core.next_tick(), None, "nothing changes by itself");
    }
}
