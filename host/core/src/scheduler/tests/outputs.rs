//! What is known of shuffle output, and what a task that misses some takes away.

use super::env::{TestEnv, failed};
use crate::ids::{ExecutorId, StageId};
use crate::scheduler::{Event, Outcome, Policy};

fn damaged(stage: StageId, partition: u32, attempt: u32, executor: ExecutorId) -> Outcome {
    Outcome::FetchFailed { stage, partition, attempt, executor, whole: false }
}

fn outputs(env: &TestEnv, stage: StageId) -> Vec<(u32, u32, u32)> {
    let outputs = env.scheduler.outputs(stage).unwrap();
    outputs.map(|(partition, attempt, at)| (partition, attempt, at.0)).collect()
}

#[test]
fn a_damaged_output_is_the_only_one_that_is_made_again() {
    let mut env = TestEnv::new();
    let map = env.shuffle(4, &[]);
    let reduce = env.results(2, &[map]);
    let executor = env.executor(1);
    env.submit(reduce);
    for _ in 0..4 {
        env.first_ends(Outcome::Succeeded);
    }
    env.first_ends(damaged(map, 2, 0, executor));
    assert_eq!(env.runs(), [(0, 0, 2, 1)]);
    env.first_ends(Outcome::Succeeded);
    assert_eq!(outputs(&env, map), [(0, 0, 0), (1, 0, 0), (2, 1, 0), (3, 0, 0)]);
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn a_fetch_of_an_earlier_attempt_takes_no_output_away() {
    let mut env = TestEnv::new();
    let map = env.shuffle(1, &[]);
    let reduce = env.results(2, &[map]);
    let executor = env.executor(2);
    env.submit(reduce);
    env.first_ends(Outcome::Succeeded);
    let ((_, first), (_, second)) = (env.running[0], env.running[1]);
    env.end(executor, first, damaged(map, 0, 0, executor));
    let (_, again) = env.running[1];
    env.end(executor, again, Outcome::Succeeded);
    assert_eq!(outputs(&env, map), [(0, 1, 0)]);
    env.end(executor, second, damaged(map, 0, 0, executor));
    assert_eq!(outputs(&env, map), [(0, 1, 0)], "what it missed is not what is there now");
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn the_version_of_outputs_grows_with_each_change_and_only_then() {
    let mut env = TestEnv::new();
    let map = env.shuffle(2, &[]);
    let reduce = env.results(1, &[map]);
    env.executor(1);
    env.submit(reduce);
    assert_eq!(env.scheduler.outputs_version(map), 0);
    env.first_ends(Outcome::Succeeded);
    env.first_ends(Outcome::Succeeded);
    let whole = env.scheduler.outputs_version(map);
    env.tell(Event::OutputLost { stage: map, partitions: vec![7] });
    assert_eq!(env.scheduler.outputs_version(map), whole, "there was no such output");
    env.tell(Event::OutputLost { stage: map, partitions: vec![1, 1] });
    let less = env.scheduler.outputs_version(map);
    assert!(less > whole);
    env.first_ends(failed(true));
    env.drain();
    assert!(env.scheduler.outputs_version(map) > less);
    let there = env.scheduler.outputs_version(map);
    env.tell(Event::StageDropped { stage: map });
    assert!(env.scheduler.outputs_version(map) > there);
    assert_eq!(outputs(&env, map), []);
}

#[test]
fn results_and_unknown_stages_have_no_outputs() {
    let mut env = TestEnv::new();
    let results = env.results(1, &[]);
    assert!(env.scheduler.outputs(results).is_none());
    assert!(env.scheduler.outputs(StageId(9)).is_none());
    assert_eq!(env.scheduler.outputs_version(StageId(9)), 0);
}

#[test]
fn losses_among_tasks_that_succeed_fail_nothing() {
    let mut env = TestEnv::with(Policy { max_stage_reruns: 1, ..Policy::default() });
    let map = env.shuffle(1, &[]);
    let reduce = env.results(9, &[map]);
    let executor = env.executor(1);
    env.submit(reduce);
    env.first_ends(Outcome::Succeeded);
    for attempt in 0..9 {
        env.first_ends(damaged(map, 0, attempt, executor));
        env.first_ends(Outcome::Succeeded);
        env.first_ends(Outcome::Succeeded);
    }
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn a_partition_that_misses_its_input_again_and_again_fails_though_others_succeed() {
    let mut env = TestEnv::with(Policy { max_stage_reruns: 1, ..Policy::default() });
    let map = env.shuffle(1, &[]);
    let reduce = env.results(9, &[map]);
    let executor = env.executor(2);
    env.submit(reduce);
    env.first_ends(Outcome::Succeeded);
    for attempt in 0..2 {
        let unlucky = env.running.iter().find(|(_, task)| task.partition == 0).unwrap().1;
        env.end(executor, unlucky, damaged(map, 0, attempt, executor));
        if attempt == 0 {
            // The other, and then the input.
            env.first_ends(Outcome::Succeeded);
            env.first_ends(Outcome::Succeeded);
        }
    }
    let said = env.said();
    assert!(said.iter().any(|s| s.contains("2 times in a row, last in partition 0")), "{said:?}");
}

#[test]
fn a_second_damaged_output_gives_up_all_that_its_worker_holds() {
    let mut env = TestEnv::new();
    let map = env.shuffle(6, &[]);
    let reduce = env.results(1, &[map]);
    let executor = env.executor(1);
    env.submit(reduce);
    for _ in 0..6 {
        env.first_ends(Outcome::Succeeded);
    }
    env.first_ends(damaged(map, 2, 0, executor));
    env.first_ends(Outcome::Succeeded);
    env.first_ends(damaged(map, 4, 0, executor));
    assert_eq!(outputs(&env, map), [], "also the one that was made again");
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn outputs_that_came_to_harm_at_once_fail_nothing_however_many_they_are() {
    let mut env = TestEnv::with(Policy { max_stage_reruns: 1, ..Policy::default() });
    let map = env.shuffle(9, &[]);
    let reduce = env.results(1, &[map]);
    let executors: Vec<_> = (0..9).map(|_| env.executor(1)).collect();
    env.submit(reduce);
    for _ in 0..9 {
        env.first_ends(Outcome::Succeeded);
    }
    let made = outputs(&env, map);
    for (partition, attempt, at) in made {
        env.first_ends(damaged(map, partition, attempt, executors[at as usize]));
        env.first_ends(Outcome::Succeeded);
    }
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}
