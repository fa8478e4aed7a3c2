//! Tasks run where what they read is cached, for a while.

use std::time::Duration;

use super::env::{TestEnv, failed};
use crate::ids::{CacheId, ExecutorId, WorkerId};
use crate::scheduler::{CachedInput, Event, Outcome, Policy};

const CACHE: CacheId = CacheId(7);
const WAIT: Duration = Duration::from_secs(3);

fn input(first: u32) -> CachedInput {
    CachedInput { cache: CACHE, first }
}

/// Two executors of one slot; a stage of 4 tasks has run and each stored its partition where it ran: 0 and 2 on the first.
fn stored() -> TestEnv {
    let mut env = TestEnv::new();
    env.executor(1);
    env.executor(1);
    let stage = env.cached(4, &[input(0)]);
    env.submit(stage);
    while let Some(&(executor, task)) = env.running.first() {
        env.end_storing(executor, task, Outcome::Succeeded, vec![(CACHE, task.partition)]);
    }
    env.said();
    env
}

/// The executor and partition of what runs.
fn runs(env: &TestEnv) -> Vec<(u32, u32)> {
    env.runs().into_iter().map(|(executor, _, partition, _)| (executor, partition)).collect()
}

#[test]
fn tasks_run_where_what_they_read_is_and_wait_for_it() {
    let mut env = stored();
    // Its tasks 1 to 4 read what 0 to 3 of the first stage stored; task 0 reads something else.
    let stage = env.cached(5, &[input(1)]);
    env.submit(stage);
    assert_eq!(
        env.runs(),
        [(0, 1, 1, 0), (1, 1, 2, 0)],
        "first tries, each where its partition is"
    );
    env.first_ends(Outcome::Succeeded);
    assert_eq!(runs(&env), [(1, 2), (0, 3)]);
    env.first_ends(Outcome::Succeeded);
    env.first_ends(Outcome::Succeeded);
    assert_eq!(runs(&env), [(1, 4), (0, 0)], "what nobody holds comes last");
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 1 finished");
}

#[test]
fn an_executor_that_holds_nothing_gets_tasks_only_after_a_while() {
    let mut env = stored();
    env.executor(2);
    let stage = env.cached(4, &[input(0)]);
    let job = env.submit(stage);
    assert_eq!(runs(&env), [(0, 0), (1, 1)]);
    assert_eq!(
        env.explain(job),
        "stage 1 (s1): 0 of 4 tasks done, 2 running; waits for a free slot on an executor that holds the cached partitions it reads"
    );
    env.wait(WAIT - Duration::from_millis(1));
    assert_eq!(env.running.len(), 2);
    env.wait(Duration::from_millis(1));
    assert_eq!(runs(&env), [(0, 0), (1, 1), (2, 2), (2, 3)]);
    // What was stored last counts.
    while let Some(&(executor, task)) = env.running.first() {
        env.end_storing(executor, task, Outcome::Succeeded, vec![(CACHE, task.partition)]);
    }
    let stage = env.cached(4, &[input(0)]);
    env.submit(stage);
    assert_eq!(runs(&env), [(0, 0), (1, 1), (2, 2), (2, 3)]);
}

#[test]
fn what_an_executor_held_that_is_gone_or_drains_anybody_computes_at_once() {
    for drains in [false, true] {
        let mut env = stored();
        let stage = env.cached(4, &[input(0)]);
        env.submit(stage);
        assert_eq!(runs(&env), [(0, 0), (1, 1)]);
        if drains {
            env.tell(Event::WorkerDraining { worker: WorkerId(0) });
            env.first_ends(Outcome::Succeeded);
        } else {
            env.lose(ExecutorId(0), false);
        }
        while let Some(&(executor, task)) = env.running.first() {
            assert_eq!(executor, ExecutorId(1));
            env.end(executor, task, Outcome::Succeeded);
        }
        assert_eq!(env.said().last().unwrap(), "job 1 finished", "drains: {drains}");
    }
}

#[test]
fn who_takes_the_place_of_a_lost_executor_gets_what_that_held_and_not_what_the_other_holds() {
    let mut env = stored();
    env.lose(ExecutorId(0), false);
    let stage = env.cached(4, &[input(0)]);
    env.submit(stage);
    assert_eq!(runs(&env), [(1, 1)], "what it holds comes first");
    env.executor(2);
    assert_eq!(runs(&env), [(1, 1), (2, 0), (2, 2)]);
    env.first_ends(Outcome::Succeeded);
    assert_eq!(runs(&env), [(2, 0), (2, 2), (1, 3)]);
}

#[test]
fn a_task_that_fails_where_its_partition_is_runs_elsewhere() {
    let mut env = stored();
    let stage = env.cached(1, &[input(0)]);
    env.submit(stage);
    assert_eq!(env.runs(), [(0, 1, 0, 0)]);
    env.first_ends(failed(true));
    assert_eq!(env.runs(), [(1, 1, 0, 1)]);
}

#[test]
fn a_dropped_dataset_keeps_nobody_waiting() {
    let mut env = stored();
    env.tell(Event::CacheDropped { cache: CACHE });
    env.executor(2);
    let stage = env.cached(4, &[input(0)]);
    env.submit(stage);
    assert_eq!(env.running.len(), 4);
}

#[test]
fn another_run_of_a_stage_keeps_its_tasks_too_and_no_attempt_comes_twice() {
    let mut env = stored();
    let stage = env.cached(2, &[input(0)]);
    env.submit(stage);
    env.drain();
    env.submit(stage);
    assert_eq!(env.runs(), [(0, 1, 0, 1), (1, 1, 1, 1)]);
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 2 finished");
}

#[test]
fn a_cancelled_job_leaves_nothing_behind_that_is_kept() {
    let mut env = stored();
    let stage = env.cached(4, &[input(0)]);
    let job = env.submit(stage);
    env.tell(Event::JobCancelled { job });
    for (executor, task) in std::mem::take(&mut env.killed) {
        env.end(executor, task, Outcome::Killed);
    }
    assert_eq!(env.scheduler.next_tick(), None);
}

#[test]
fn places_are_bounded() {
    let mut env = TestEnv::with(Policy { max_cached: 1, ..Policy::default() });
    env.executor(1);
    env.executor(1);
    let stage = env.cached(2, &[input(0)]);
    env.submit(stage);
    // The second's place isn't known: it runs anywhere.
    for _ in 0..2 {
        let (executor, task) = env.running[0];
        env.end_storing(executor, task, Outcome::Succeeded, vec![(CACHE, task.partition)]);
    }
    let stage = env.cached(2, &[input(0)]);
    env.submit(stage);
    env.first_ends(Outcome::Succeeded);
    env.first_ends(Outcome::Succeeded);
    assert_eq!(env.said().last().unwrap(), "job 1 finished");
    env.tell(Event::CacheDropped { cache: CACHE });
    let stage = env.cached(2, &[input(0)]);
    env.submit(stage);
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 2 finished");
}
