//! Tasks that take long, and their copies. In these tests tasks take a second, as they say.

use std::time::Duration;

use super::env::{TestEnv, failed};
use crate::ids::{ExecutorId, StageId, TaskId};
use crate::scheduler::{Event, Outcome, Policy, Speculation};

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> Policy {
    Policy { speculation: Some(Speculation::default()), ..Policy::default() }
}

fn task(stage: StageId, partition: u32, attempt: u32) -> TaskId {
    TaskId { stage, partition, attempt }
}

/// A stage of ten tasks of which nine are done and partition 0 runs on the first of three executors, two on the first worker.
fn all_but_one(policy: Policy) -> (TestEnv, StageId, [ExecutorId; 3]) {
    let mut env = TestEnv::with(policy);
    let stage = env.results(10, &[]);
    let executors = [env.executor_on(4, 0), env.executor_on(4, 0), env.executor_on(4, 1)];
    env.submit(stage);
    while let Some(&(executor, task)) = env.running.iter().find(|(_, t)| t.partition > 0) {
        env.end(executor, task, Outcome::Succeeded);
    }
    assert_eq!(env.runs(), [(0, 0, 0, 0)]);
    env.said();
    (env, stage, executors)
}

fn with_copy(policy: Policy) -> (TestEnv, StageId, [ExecutorId; 3]) {
    let (mut env, stage, executors) = all_but_one(policy);
    env.wait(4 * SECOND);
    assert_eq!(env.runs(), [(0, 0, 0, 0), (2, 0, 0, 1)], "on another worker");
    (env, stage, executors)
}

#[test]
fn a_task_is_copied_once_and_only_when_it_is_late() {
    let (mut env, ..) = all_but_one(policy());
    assert_eq!(env.scheduler.next_tick(), Some(env.now));
    env.wait(2 * SECOND);
    assert_eq!(env.runs(), [(0, 0, 0, 0)]);
    assert_eq!(env.scheduler.next_tick(), Some(env.now + Duration::from_millis(100)));
    env.wait(2 * SECOND);
    assert_eq!(env.runs(), [(0, 0, 0, 0), (2, 0, 0, 1)]);
    assert_eq!(env.scheduler.next_tick(), None, "there is nothing left to copy");
    env.tell(Event::Tick);
    env.now += 100 * SECOND;
    env.tell(Event::Tick);
    assert_eq!(env.running.len(), 2);
}

#[test]
fn nothing_is_copied_unless_the_policy_says_so_and_enough_is_done() {
    let (mut env, ..) = all_but_one(Policy::default());
    env.now += 100 * SECOND;
    env.tell(Event::Tick);
    assert_eq!((env.running.len(), env.scheduler.next_tick()), (1, None));

    let mut env = TestEnv::with(policy());
    let stage = env.results(20, &[]);
    env.executor(10);
    env.executor(10);
    env.submit(stage);
    for _ in 0..17 {
        env.first_ends(Outcome::Succeeded);
    }
    env.now += 100 * SECOND;
    env.tell(Event::Tick);
    assert_eq!((env.running.len(), env.scheduler.next_tick()), (3, None));
}

#[test]
fn the_first_to_succeed_is_accepted_and_the_other_is_killed() {
    for (winner, loser) in [((0, 0), (2, 1)), ((2, 1), (0, 0))] {
        let (mut env, stage, executors) = with_copy(policy());
        let [(winner, won), (loser, lost)] =
            [winner, loser].map(|(at, attempt)| (executors[at], task(stage, 0, attempt)));
        env.end(winner, won, Outcome::Succeeded);
        assert_eq!(env.killed, [(loser, lost)]);
        assert_eq!(
            env.said(),
            [format!("accept {won} for job 0"), "stage 0 finished".into(), "job 0 finished".into()]
        );
        env.end(loser, lost, Outcome::Succeeded);
        assert_eq!(env.said(), [format!("discard {lost} of {loser}")]);
    }
}

#[test]
fn one_that_fails_leaves_the_other_and_counts() {
    for failing in [0, 1] {
        let (mut env, stage, executors) = with_copy(Policy { max_attempts: 2, ..policy() });
        let at = [executors[0], executors[2]];
        env.end(at[failing], task(stage, 0, failing as u32), failed(true));
        assert_eq!(env.running, [(at[1 - failing], task(stage, 0, 1 - failing as u32))]);
        env.end(at[1 - failing], task(stage, 0, 1 - failing as u32), failed(true));
        let said = env.said();
        assert!(said.last().unwrap().contains("partition 0 failed 2 times"), "{said:?}");
    }
}

#[test]
fn the_last_failure_that_is_allowed_fails_nothing_while_the_other_runs() {
    let (mut env, stage, executors) = with_copy(Policy { max_attempts: 1, ..policy() });
    env.end(executors[2], task(stage, 0, 1), failed(true));
    env.wait(SECOND);
    assert_eq!(env.runs(), [(0, 0, 0, 0)], "it isn't copied again");
    env.first_ends(Outcome::Succeeded);
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn a_loss_of_one_executor_leaves_the_other_and_a_loss_of_both_starts_anew() {
    for lost in [0, 2] {
        let (mut env, stage, executors) = with_copy(policy());
        env.lose(executors[lost], true);
        let left = executors[2 - lost];
        assert_eq!(env.running, [(left, task(stage, 0, 1 - lost as u32 / 2))]);
        env.wait(4 * SECOND);
        assert_eq!(env.running[1].1, task(stage, 0, 2), "and it is copied again");
        env.lose(left, true);
        let copy = env.running[0];
        assert_eq!(env.running.len(), 1);
        env.lose(copy.0, true);
        env.executor(1);
        assert_eq!(env.running[0].1, task(stage, 0, 3));
        env.drain();
        assert_eq!(env.said().last().unwrap(), "job 0 finished");
    }
}

#[test]
fn attempts_go_on_counting_after_a_copy_that_was_not_accepted() {
    let mut env = TestEnv::with(policy());
    let map = env.shuffle(2, &[]);
    let reduce = env.results(1, &[map]);
    let first = env.executor(1);
    let other = env.executor(1);
    env.submit(reduce);
    env.tell(Event::Tick);
    env.end(other, task(map, 1, 0), Outcome::Succeeded);
    env.now += 10 * SECOND;
    env.tell(Event::Tick);
    assert_eq!(env.runs(), [(0, 0, 0, 0), (1, 0, 0, 1)]);
    env.end(first, task(map, 0, 0), Outcome::Succeeded);
    assert_eq!(env.killed, [(other, task(map, 0, 1))]);
    env.tell(Event::OutputLost { stage: map, partitions: vec![0] });
    env.first_ends(failed(true));
    assert_eq!(env.runs(), [(0, 0, 0, 2)]);
    env.end(other, task(map, 0, 1), Outcome::Killed);
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn a_stage_that_ends_kills_copies_and_all() {
    let (mut env, ..) = with_copy(policy());
    env.tell(Event::JobCancelled { job: crate::ids::JobId(0) });
    assert_eq!(env.killed.len(), 2);
    let late = env.killed[1];
    env.end(late.0, late.1, Outcome::Succeeded);
    assert_eq!(
        env.said(),
        ["job 0 was cancelled".to_owned(), format!("discard {} of {}", late.1, late.0)]
    );
    let again = env.results(1, &[]);
    env.submit(again);
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 1 finished");
}

#[test]
fn a_copy_waits_for_a_slot_and_goes_before_later_jobs() {
    let mut env = TestEnv::with(policy());
    let (stage, later) = (env.results(10, &[]), env.results(5, &[]));
    let first = env.executor(1);
    let other = env.executor(1);
    env.submit(stage);
    env.submit(later);
    while let Some(&(executor, task)) = env.running.iter().find(|(_, t)| *t != task(stage, 0, 0))
        && task.stage == stage
    {
        env.end(executor, task, Outcome::Succeeded);
    }
    assert_eq!(env.running, [(first, task(stage, 0, 0)), (other, task(later, 0, 0))]);
    env.wait(4 * SECOND);
    assert_eq!(env.running.len(), 2, "there is no slot");
    env.end(other, task(later, 0, 0), Outcome::Succeeded);
    assert_eq!(env.running, [(first, task(stage, 0, 0)), (other, task(stage, 0, 1))]);
}
