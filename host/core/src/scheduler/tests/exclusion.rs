//! Executors and workers that get no tasks for a time.

use std::time::Duration;

use super::env::{TestEnv, disk_full, failed};
use crate::ids::{ExecutorId, WorkerId};
use crate::scheduler::{Event, Exclusion, Outcome, Policy};

const HOUR: Duration = Duration::from_secs(3600);

fn policy() -> Policy {
    Policy { exclusion: Some(Exclusion::default()), ..Policy::default() }
}

/// Two tasks fail on an executor.
fn fail_twice(env: &mut TestEnv, executor: ExecutorId) {
    for _ in 0..2 {
        let task = env.running.iter().find(|(at, _)| *at == executor).unwrap().1;
        env.end(executor, task, failed(true));
    }
}

fn of_exclusion(env: &mut TestEnv) -> Vec<String> {
    let said = env.said().into_iter();
    said.filter(|s| s.starts_with("exclude") || s.starts_with("include")).collect()
}

#[test]
fn an_executor_where_tasks_fail_gets_none_for_an_hour() {
    let mut env = TestEnv::with(policy());
    let stage = env.results(20, &[]);
    let bad = env.executor(1);
    let good = env.executor(1);
    env.submit(stage);
    fail_twice(&mut env, bad);
    assert_eq!(
        of_exclusion(&mut env),
        ["exclude executor 0 until 3600 s: tasks of 2 partitions failed there"]
    );
    assert_eq!(env.runs(), [(1, 0, 1, 0)]);
    env.first_ends(Outcome::Succeeded);
    assert!(env.running.iter().all(|(at, _)| *at == good));
    assert_eq!(env.scheduler.next_tick(), Some(HOUR));
    env.wait(HOUR);
    assert_eq!(of_exclusion(&mut env), ["include executor 0"]);
    assert_eq!(env.running.len(), 2);
    assert_eq!(env.scheduler.next_tick(), None);
}

#[test]
fn one_partition_that_keeps_failing_excludes_nothing_nor_do_failures_long_ago() {
    let mut env = TestEnv::with(policy());
    let stage = env.results(1, &[]);
    env.executor(1);
    env.submit(stage);
    for _ in 0..4 {
        env.first_ends(failed(true));
    }
    let next = env.results(3, &[]);
    env.wait(2 * HOUR);
    env.submit(next);
    env.first_ends(failed(true));
    env.first_ends(Outcome::Succeeded);
    env.now += 2 * HOUR;
    env.first_ends(failed(true));
    assert_eq!(of_exclusion(&mut env), [""; 0]);
    env.first_ends(Outcome::Succeeded);
    env.first_ends(failed(true));
    assert_eq!(of_exclusion(&mut env).len(), 1);
}

#[test]
fn a_worker_with_enough_excluded_executors_is_excluded_with_those_that_come() {
    let mut env = TestEnv::with(policy());
    let stage = env.results(20, &[]);
    let [first, second] = [env.executor_on(1, 7), env.executor_on(1, 7)];
    let third = env.executor_on(1, 7);
    env.executor_on(1, 8);
    env.submit(stage);
    fail_twice(&mut env, first);
    assert_eq!(env.scheduler.excluded_workers().count(), 0);
    fail_twice(&mut env, second);
    assert_eq!(
        of_exclusion(&mut env)[1..],
        [
            "exclude executor 1 until 3600 s: tasks of 2 partitions failed there",
            "exclude worker-7 until 3600 s: 2 executors there are excluded",
        ]
    );
    assert_eq!(env.scheduler.excluded_workers().collect::<Vec<_>>(), [WorkerId(7)]);
    let late = env.executor_on(4, 7);
    assert!(env.running.iter().all(|(at, _)| *at != late));
    assert!(env.running.iter().any(|(at, _)| *at == third), "what runs may finish");
    env.wait(HOUR);
    assert_eq!(
        of_exclusion(&mut env),
        ["include executor 0", "include executor 1", "include worker-7"]
    );
    assert!(env.running.iter().any(|(at, _)| *at == late));
}

#[test]
fn a_full_disk_excludes_the_worker_at_once_and_isnt_the_partitions_failure() {
    let mut env = TestEnv::with(Policy { max_attempts: 1, ..policy() });
    let stage = env.results(1, &[]);
    env.executor_on(1, 0);
    env.executor_on(1, 0);
    env.submit(stage);
    env.first_ends(disk_full());
    assert_eq!(
        env.said()[1..],
        [
            "exclude worker-0 until 3600 s: of executor 0: the disk is full",
            "retry stage 0, partition 0, attempt 0 on executor 0: the disk is full",
        ]
    );
    assert_eq!(env.runs(), []);
    env.executor_on(1, 1);
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn full_disks_everywhere_fail_the_job_in_the_end() {
    let mut env = TestEnv::with(Policy { max_interruptions: 3, ..Policy::default() });
    let stage = env.results(1, &[]);
    env.executor(1);
    env.submit(stage);
    for _ in 0..3 {
        env.first_ends(disk_full());
    }
    assert_eq!(
        env.said().last().unwrap(),
        "job 0 failed: stage 0 (s0), partition 0 was interrupted 3 times, \
         last in attempt 2 on executor 0: the disk is full"
    );
}

#[test]
fn a_job_that_finds_only_excluded_executors_says_so_and_fails_in_the_end() {
    let mut env = TestEnv::with(policy());
    let stage = env.results(1, &[]);
    let executor = env.executor_on(1, 0);
    let job = env.submit(stage);
    env.first_ends(disk_full());
    assert_eq!(
        env.explain(job),
        "stage 0 (s0): 0 of 1 tasks done; \
         waits for an executor: all are excluded for a time, since tasks failed there"
    );
    env.lose(executor, false);
    assert!(env.explain(job).contains("excluded"), "an executor there wouldn't help");
    env.wait(Duration::from_secs(60));
    let other = env.results(1, &[]);
    env.submit(other);
    assert_eq!(env.scheduler.next_tick(), Some(Duration::from_secs(120)));
    env.wait(Duration::from_secs(60));
    assert_eq!(
        env.said().last().unwrap(),
        "job 0 failed: stage 0 (s0) found no executor for 120 s, since all are excluded after \
         failures of tasks there, worker-0 last: of executor 0: the disk is full; the log says \
         which failures, and for how long; add workers, or mend those"
    );
    assert_eq!(env.scheduler.next_tick(), Some(Duration::from_secs(180)), "each job waits as long");
    env.executor_on(1, 1);
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 1 finished");
    env.tell(Event::WorkerLost { worker: WorkerId(0), reason: "gone".into() });
    assert_eq!(env.scheduler.next_tick(), None);
    assert_eq!(env.scheduler.excluded_workers().count(), 0);
}
