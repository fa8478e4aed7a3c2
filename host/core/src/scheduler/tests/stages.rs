//! Stages, jobs and slots when nothing goes wrong.

use std::time::Duration;

use super::env::TestEnv;
use crate::ids::{ExecutorId, JobId, StageId, TaskId};
use crate::scheduler::{Event, Outcome, Policy, StageOutput, StageSpec, TaskEnd};

#[test]
fn parents_run_before_their_children() {
    let mut env = TestEnv::new();
    let map = env.shuffle(1, &[]);
    let reduce = env.results(1, &[map]);
    env.executor(4);
    env.submit(reduce);
    assert_eq!(env.runs(), [(0, 0, 0, 0)]);
    env.drain();
    assert_eq!(
        env.said(),
        [
            "stage 0 starts 1",
            "accept stage 0, partition 0, attempt 0 for job 0",
            "stage 0 finished",
            "stage 1 starts 1",
            "accept stage 1, partition 0, attempt 0 for job 0",
            "stage 1 finished",
            "job 0 finished",
        ]
    );
}

#[test]
fn independent_stages_run_at_once() {
    let mut env = TestEnv::new();
    let (left, right) = (env.shuffle(1, &[]), env.shuffle(1, &[]));
    let join = env.results(1, &[left, right, left]);
    env.executor(4);
    env.submit(join);
    assert_eq!(env.runs(), [(0, 0, 0, 0), (0, 1, 0, 0)]);
    env.drain();
    assert!(env.said().contains(&"job 0 finished".into()));
}

#[test]
fn output_that_is_there_is_reused_by_a_later_job() {
    let mut env = TestEnv::new();
    let map = env.shuffle(2, &[]);
    let (first, second) = (env.results(1, &[map]), env.results(1, &[map]));
    env.executor(2);
    env.submit(first);
    env.drain();
    env.submit(second);
    assert_eq!(env.runs(), [(0, 2, 0, 0)]);
}

#[test]
fn two_jobs_share_one_run_of_a_stage_that_both_need() {
    let mut env = TestEnv::new();
    let map = env.shuffle(1, &[]);
    let (first, second) = (env.results(1, &[map]), env.results(1, &[map]));
    env.executor(2);
    let first = env.submit(first);
    env.submit(second);
    assert_eq!(env.runs(), [(0, 0, 0, 0)]);
    env.tell(Event::JobCancelled { job: first });
    assert_eq!((env.runs(), env.killed.len()), (vec![(0, 0, 0, 0)], 0), "the other needs it");
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 1 finished");
}

#[test]
fn two_jobs_of_one_stage_get_their_results_one_after_the_other() {
    let mut env = TestEnv::new();
    let stage = env.results(1, &[]);
    env.executor(2);
    env.submit(stage);
    let second = env.submit(stage);
    assert_eq!(
        env.explain(second),
        "stage 0 (s0): 0 of 1 tasks done; waits for job 0, which runs the same stage first"
    );
    env.drain();
    let said = env.said();
    assert!(said.contains(&"accept stage 0, partition 0, attempt 0 for job 0".into()));
    assert!(said.contains(&"accept stage 0, partition 0, attempt 1 for job 1".into()));
}

#[test]
fn jobs_are_served_first_come_first_served() {
    let mut env = TestEnv::new();
    let (late, early) = (env.results(2, &[]), env.results(2, &[]));
    env.executor(1);
    env.submit(early);
    env.submit(late);
    let mut order = Vec::new();
    while !env.running.is_empty() {
        order.push(env.first_ends(Outcome::Succeeded).1.stage);
    }
    assert_eq!(order, [early, early, late, late]);
}

#[test]
fn few_tasks_spread_over_many_executors() {
    let mut env = TestEnv::new();
    let stage = env.results(3, &[]);
    for _ in 0..3 {
        env.executor(4);
    }
    env.submit(stage);
    assert_eq!(env.runs(), [(0, 0, 0, 0), (1, 0, 1, 0), (2, 0, 2, 0)]);
}

#[test]
fn long_tasks_never_exceed_the_slots() {
    let mut env = TestEnv::new();
    let stage = env.results(50, &[]);
    env.executor(3);
    env.submit(stage);
    while !env.running.is_empty() {
        assert!(env.running.len() <= 3);
        env.first_ends(Outcome::Succeeded);
    }
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn short_tasks_are_queued_ahead_up_to_the_limit() {
    let mut env = TestEnv::with(Policy { max_lookahead: 10, ..Policy::default() });
    let stage = env.results(1000, &[]);
    let executor = env.executor(2);
    env.submit(stage);
    for _ in 0..10 {
        let ended = std::mem::take(&mut env.running).into_iter().map(|(_, task)| TaskEnd {
            task,
            run_time: Duration::from_micros(1),
            outcome: Outcome::Succeeded,
            stored: Vec::new(),
        });
        let ended = ended.collect();
        env.tell(Event::TasksEnded { executor, ended });
    }
    assert_eq!(env.running.len(), 2 * (1 + 10));
}

#[test]
fn a_stage_without_tasks_is_complete() {
    let mut env = TestEnv::new();
    let empty = env.shuffle(0, &[]);
    let stage = env.results(1, &[empty]);
    let nothing = env.results(0, &[empty]);
    env.executor(1);
    env.submit(nothing);
    assert_eq!(env.said(), ["job 0 finished"]);
    env.submit(stage);
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 1 finished");
}

#[test]
fn dropped_output_is_freed_once_no_job_uses_it_and_computed_again() {
    let mut env = TestEnv::new();
    let map = env.shuffle(1, &[]);
    let (first, second) = (env.results(1, &[map]), env.results(1, &[map]));
    env.executor(1);
    env.submit(first);
    env.first_ends(Outcome::Succeeded);
    env.said();
    env.tell(Event::StageDropped { stage: map });
    assert_eq!(env.said(), [""; 0], "it is in use");
    env.drain();
    assert_eq!(env.said().last().unwrap(), "drop stage 0");
    env.submit(second);
    assert_eq!(env.runs(), [(0, 0, 0, 1)]);
}

#[test]
fn a_dropped_stage_is_forgotten_with_the_last_stage_that_reads_it() {
    let mut env = TestEnv::new();
    let far = env.shuffle(1, &[]);
    let near = env.shuffle(1, &[far]);
    let last = env.results(1, &[near]);
    env.executor(1);
    env.tell(Event::StageDropped { stage: far });
    env.tell(Event::StageDropped { stage: near });
    assert_eq!(env.said(), [""; 0]);
    env.results(1, &[near]);
    env.submit(last);
    env.tell(Event::StageDropped { stage: last });
    env.drain();
    assert_eq!(
        env.said()
            .into_iter()
            .filter(|said| !said.contains("accept") && !said.contains("start"))
            .collect::<Vec<_>>(),
        [
            "stage 3 can't be defined: its input stage 1 is no shuffle stage defined before, or dropped",
            "stage 0 finished",
            "stage 1 finished",
            "drop stage 0",
            "stage 2 finished",
            "job 0 finished",
            "forget stage 2",
            "drop stage 1",
            "forget stage 1",
            "forget stage 0",
        ]
    );
}

#[test]
fn a_hostile_driver_is_refused_with_a_reason() {
    let policy = Policy {
        max_stages: 2,
        max_tasks_per_stage: 10,
        max_jobs: 1,
        max_inputs: 2,
        ..Policy::default()
    };
    let mut env = TestEnv::with(policy);
    env.results(11, &[]);
    env.results(1, &[StageId(7)]);
    let map = env.shuffle(1, &[]);
    env.results(1, &[map; 3]);
    let stage = env.results(1, &[map]);
    env.results(1, &[]);
    env.submit(map);
    env.submit(StageId(9));
    env.submit(stage);
    env.submit(stage);
    env.tell(Event::JobSubmitted { job: JobId(0), stage });
    env.tell(Event::StageDropped { stage });
    env.tell(Event::JobCancelled { job: JobId(2) });
    assert_eq!(
        env.said(),
        [
            "stage 0 can't have 11 tasks: at most 10 are allowed; use fewer partitions",
            "stage 1 can't be defined: its input stage 7 is no shuffle stage defined before, or dropped",
            "stage 3 can't be defined: all stages together would have more than 2 inputs",
            "stage 5 can't be defined: there are 2 stages, and no more are allowed",
            "job 0 can't be submitted: stage 2 makes shuffle output, which is no result",
            "job 1 can't be submitted: there is no stage 9; it was never defined, or dropped",
            "job 3 can't be submitted: 1 jobs are running, and no more are allowed at once",
            "job 0 can't be submitted: ids ascend, and a later one is taken",
            "forget stage 4",
            "job 2 was cancelled",
        ]
    );
}

#[test]
fn a_very_long_chain_of_stages_overflows_nothing() {
    let mut env = TestEnv::new();
    let mut last = env.shuffle(1, &[]);
    let mut actions = Vec::new();
    for id in 1..50_000 {
        let spec = StageSpec {
            name: String::new(),
            tasks: 1,
            parents: vec![last],
            cached: Vec::new(),
            output: StageOutput::Shuffle,
        };
        last = StageId(id);
        let event = Event::StageDefined { stage: last, spec };
        env.scheduler.handle(Duration::ZERO, event, &mut actions);
    }
    let spec = StageSpec {
        name: String::new(),
        tasks: 1,
        parents: vec![last],
        cached: Vec::new(),
        output: StageOutput::Results,
    };
    env.tell(Event::StageDefined { stage: StageId(50_000), spec });
    let job = env.submit(StageId(50_000));
    assert_eq!(env.scheduler.progress(job).len(), 50_001);
    env.tell(Event::JobCancelled { job });
    assert_eq!(env.said(), ["job 0 was cancelled"]);
}

#[test]
fn unknown_things_are_ignored() {
    let mut env = TestEnv::new();
    let stage = env.results(1, &[]);
    let executor = env.executor(1);
    env.submit(stage);
    env.said();
    let unknown = TaskId { stage: StageId(9), partition: 9, attempt: 9 };
    env.end(executor, unknown, Outcome::Succeeded);
    env.end(executor, TaskId { stage, ..unknown }, Outcome::Succeeded);
    env.end(ExecutorId(9), TaskId { stage, partition: 0, attempt: 0 }, Outcome::Succeeded);
    env.tell(Event::OutputLost { stage, partitions: vec![0, 9] });
    env.lose(ExecutorId(9), true);
    assert_eq!((env.said(), env.runs()), (vec![], vec![(0, 0, 0, 0)]));
}
