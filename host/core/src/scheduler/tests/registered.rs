//! Waiting for executors before the first task.

use std::time::Duration;

use super::env::TestEnv;
use crate::scheduler::{MinRegistered, Outcome, Policy};

const LONG: Duration = Duration::from_secs(30);

fn waiting_for(slots: u64) -> TestEnv {
    let min_registered = Some(MinRegistered { slots, at_most: LONG });
    TestEnv::with(Policy { min_registered, ..Policy::default() })
}

#[test]
fn nothing_runs_before_enough_slots_are_there_and_then_it_runs_on_all() {
    let mut env = waiting_for(4);
    let stage = env.results(4, &[]);
    let job = env.submit(stage);
    assert_eq!(
        env.explain(job),
        "stage 0 (s0): 0 of 4 tasks done; waits for an executor: there is none"
    );
    let first = env.executor(3);
    assert_eq!(env.running, []);
    assert_eq!(
        env.explain(job),
        "stage 0 (s0): 0 of 4 tasks done; waits for executors with 4 slots: 3 are there"
    );
    let second = env.executor(2);
    let on = |id| env.running.iter().filter(|(executor, _)| *executor == id).count();
    assert_eq!((on(first), on(second)), (2, 2));
}

#[test]
fn they_are_waited_for_once_and_not_for_ever() {
    let mut env = waiting_for(2);
    let stage = env.results(1, &[]);
    let executor = env.executor(1);
    assert_eq!(env.scheduler.next_tick(), None, "nothing waits yet");
    env.submit(stage);
    assert_eq!(env.scheduler.next_tick(), Some(LONG));
    env.wait(LONG - Duration::from_nanos(1));
    assert_eq!(env.running, []);
    env.wait(Duration::from_nanos(1));
    assert_eq!(env.running.len(), 1);
    env.first_ends(Outcome::Succeeded);
    env.lose(executor, true);
    assert_eq!(env.said().last().unwrap(), "job 0 finished");

    // As many were there once.
    let mut env = waiting_for(2);
    let both = [env.executor(1), env.executor(1)];
    env.lose(both[0], true);
    let stage = env.results(1, &[]);
    env.submit(stage);
    assert_eq!(env.running.len(), 1);
}

#[test]
fn executors_that_get_no_tasks_count_for_nothing() {
    let mut env = waiting_for(2);
    env.executor_on(1, 0);
    env.tell(crate::scheduler::Event::WorkerDraining { worker: crate::ids::WorkerId(0) });
    let stage = env.results(2, &[]);
    env.submit(stage);
    env.executor_on(1, 1);
    assert_eq!(env.running, []);
    env.executor_on(1, 2);
    assert_eq!(env.running.len(), 2);
}
