//! Workers: what goes with them, and what outlives an executor on them.

use super::env::{TestEnv, failed};
use crate::ids::WorkerId;
use crate::scheduler::{Event, Outcome};

#[test]
fn outputs_outlive_their_executor_and_go_with_its_worker() {
    let mut env = TestEnv::new();
    let map = env.shuffle(3, &[]);
    let reduce = env.results(2, &[map]);
    let first = env.executor_on(1, 0);
    env.executor_on(1, 0);
    let other = env.executor_on(1, 1);
    env.submit(reduce);
    env.first_ends(Outcome::Succeeded);
    env.lose(first, false);
    env.first_ends(Outcome::Succeeded);
    env.first_ends(Outcome::Succeeded);
    assert_eq!(env.runs(), [(1, 1, 0, 0), (2, 1, 1, 0)], "nothing is lost with the executor");
    let (_, reducing) = env.running[1];
    env.lose_worker(0, &[crate::ids::ExecutorId(1)]);
    assert_eq!(env.runs(), [(2, 1, 1, 0)]);
    env.end(other, reducing, Outcome::Succeeded);
    assert_eq!(env.runs(), [(2, 0, 0, 1)], "what both executors had made is made again");
    env.first_ends(Outcome::Succeeded);
    assert_eq!(env.runs(), [(2, 0, 1, 1)]);
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn a_worker_that_does_not_answer_is_one_miss_however_many_executors_it_had() {
    let mut env = TestEnv::new();
    let map = env.shuffle(7, &[]);
    let reduce = env.results(1, &[map]);
    let there: Vec<_> = (0..6).map(|_| env.executor_on(1, 0)).collect();
    env.executor_on(1, 1);
    env.submit(reduce);
    for _ in 0..7 {
        env.first_ends(Outcome::Succeeded);
    }
    // One is gone, but what it made is as lost as that of the others.
    env.lose(there[5], false);
    let (partition, attempt, executor) = (2, 0, there[2]);
    let missed = Outcome::FetchFailed { stage: map, partition, attempt, executor, whole: true };
    env.first_ends(missed);
    assert_eq!(env.running.len(), 6, "all six outputs are made again");
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn a_worker_takes_all_its_executors_with_it_and_their_tasks_run_elsewhere() {
    let mut env = TestEnv::new();
    let stage = env.results(4, &[]);
    let lost = [env.executor_on(1, 0), env.executor_on(1, 0)];
    env.executor_on(1, 1);
    env.submit(stage);
    env.lose_worker(0, &lost);
    env.lose_worker(0, &lost);
    env.lose_worker(9, &[]);
    env.drain();
    let said = env.said();
    assert_eq!(said.last().unwrap(), "job 0 finished");
    assert!(!said.iter().any(|s| s.starts_with("retry")), "interruptions aren't failures");
}

#[test]
fn a_draining_executor_finishes_what_it_has_and_gets_nothing_more() {
    let mut env = TestEnv::new();
    let stage = env.results(3, &[]);
    let first = env.executor(2);
    let job = env.submit(stage);
    env.tell(Event::WorkerDraining { worker: WorkerId(first.0) });
    env.tell(Event::WorkerDraining { worker: WorkerId(9) });
    assert!(!env.scheduler.is_idle(first) && env.scheduler.is_draining(first));
    env.first_ends(Outcome::Succeeded);
    assert_eq!(env.scheduler.drained().count(), 0);
    env.first_ends(Outcome::Succeeded);
    assert!(env.scheduler.is_idle(first));
    assert!(env.scheduler.drained().eq([first]));
    assert_eq!(
        env.explain(job),
        "stage 0 (s0): 2 of 3 tasks done; \
         waits for an executor: all that there are get no more tasks"
    );
    env.executor(1);
    assert_eq!(env.runs(), [(1, 0, 2, 0)]);
    env.lose(first, false);
    assert!(!env.scheduler.is_idle(first), "it isn't there");
    assert_eq!(env.scheduler.drained().count(), 0);
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn an_executor_that_comes_to_a_draining_worker_gets_nothing() {
    let mut env = TestEnv::new();
    let stage = env.results(1, &[]);
    env.submit(stage);
    env.tell(Event::WorkerDraining { worker: WorkerId(0) });
    let late = env.executor_on(1, 0);
    assert_eq!(env.runs(), []);
    assert!(env.scheduler.drained().eq([late]));
    env.lose_worker(0, &[late]);
    assert!(!env.scheduler.is_draining(late));
    env.executor_on(1, 1);
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn a_partition_that_failed_may_run_there_again_when_all_others_are_draining() {
    let mut env = TestEnv::new();
    let stage = env.results(2, &[]);
    env.executor(1);
    let other = env.executor(1);
    env.submit(stage);
    env.first_ends(failed(true));
    assert_eq!(env.runs(), [(1, 0, 1, 0)]);
    env.tell(Event::WorkerDraining { worker: WorkerId(other.0) });
    assert_eq!(env.runs(), [(1, 0, 1, 0), (0, 0, 0, 1)]);
}

#[test]
fn the_backlog_is_what_could_run_now() {
    let mut env = TestEnv::new();
    let map = env.shuffle(5, &[]);
    let reduce = env.results(7, &[map]);
    assert_eq!(env.scheduler.backlog(), 0);
    env.submit(reduce);
    assert_eq!(env.scheduler.backlog(), 5);
    env.executor(2);
    assert_eq!(env.scheduler.backlog(), 5);
    env.first_ends(Outcome::Succeeded);
    assert_eq!(env.scheduler.backlog(), 4);
    for _ in 0..4 {
        env.first_ends(Outcome::Succeeded);
    }
    assert_eq!(env.scheduler.backlog(), 7);
    env.drain();
    assert_eq!(env.scheduler.backlog(), 0);
}

#[test]
fn the_name_of_a_gone_executor_whose_output_is_there_is_not_free() {
    let mut env = TestEnv::new();
    let map = env.shuffle(1, &[]);
    let reduce = env.results(1, &[map]);
    let first = env.executor_on(1, 0);
    env.submit(reduce);
    env.first_ends(Outcome::Succeeded);
    env.lose(first, false);
    env.tell(Event::ExecutorAdded { executor: first, slots: 1, worker: WorkerId(1) });
    assert_eq!(env.runs(), []);
}
