//! Tasks that fail, executors that go, output that is lost, jobs that are given up.

use super::env::{TestEnv, failed};
use crate::ids::{ExecutorId, StageId, TaskId};
use crate::scheduler::{Event, Outcome, Policy};

/// All that the executor made can't be had; partition 0 of this attempt was looked for.
fn fetch_failed(stage: StageId, attempt: u32, executor: ExecutorId) -> Outcome {
    Outcome::FetchFailed { stage, partition: 0, attempt, executor, whole: true }
}

#[test]
fn a_task_that_keeps_failing_fails_its_job_with_the_whole_story() {
    let mut env = TestEnv::new();
    let stage = env.results(1, &[]);
    env.executor(1);
    env.submit(stage);
    for _ in 0..4 {
        env.first_ends(failed(true));
    }
    assert_eq!(
        env.said()[1..],
        [
            "retry stage 0, partition 0, attempt 0 on executor 0: boom",
            "retry stage 0, partition 0, attempt 1 on executor 0: boom",
            "retry stage 0, partition 0, attempt 2 on executor 0: boom",
            "job 0 failed: stage 0 (s0), partition 0 failed 4 times, last in attempt 3 on executor 0: boom",
        ]
    );
}

#[test]
fn failures_are_counted_for_each_partition() {
    let mut env = TestEnv::new();
    let stage = env.results(20, &[]);
    env.executor(1);
    env.submit(stage);
    for _ in 0..20 {
        let (_, task) = env.first_ends(failed(true));
        assert_eq!(env.running[0].1.partition, task.partition);
        env.first_ends(Outcome::Succeeded);
    }
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn a_failure_for_good_is_not_retried_and_kills_the_jobs_other_tasks() {
    let mut env = TestEnv::new();
    let stage = env.results(3, &[]);
    let executor = env.executor(3);
    env.submit(stage);
    env.first_ends(failed(false));
    assert_eq!(env.killed.len(), 2);
    assert_eq!(
        env.said()[1..],
        ["job 0 failed: stage 0 (s0), partition 0, attempt 0 on executor 0: boom"]
    );
    let next = env.results(9, &[]);
    env.submit(next);
    assert_eq!(env.running.len(), 1, "what is told to stop takes up its slot until it has");
    let (_, late) = env.killed[0];
    env.said();
    env.end(executor, late, Outcome::Succeeded);
    assert_eq!(env.said(), [format!("discard {late} of {executor}")]);
    assert_eq!(env.running.len(), 2);
}

#[test]
fn a_retry_goes_to_another_executor_and_waits_for_it() {
    let mut env = TestEnv::new();
    let stage = env.results(2, &[]);
    env.executor(1);
    let other = env.executor(1);
    let job = env.submit(stage);
    env.first_ends(failed(true));
    assert_eq!(env.runs(), [(1, 0, 1, 0)]);
    assert_eq!(
        env.explain(job),
        "stage 0 (s0): 0 of 2 tasks done, 1 running; \
         waits for a free slot on an executor where it hasn't failed"
    );
    env.first_ends(Outcome::Succeeded);
    assert_eq!(env.runs(), [(1, 0, 0, 1)]);
    env.lose(other, false);
    assert_eq!(env.runs(), [(0, 0, 0, 2)], "there is no other any more");
}

#[test]
fn a_failure_of_a_shared_stage_fails_all_its_jobs_and_no_other() {
    let mut env = TestEnv::new();
    let map = env.shuffle(1, &[]);
    let (a, b, c) = (env.results(1, &[map]), env.results(1, &[map]), env.results(1, &[]));
    env.executor(1);
    for stage in [a, b, c] {
        env.submit(stage);
    }
    env.first_ends(failed(false));
    env.drain();
    let said = env.said();
    assert_eq!(said.iter().filter(|s| s.contains("failed: stage 0 (s0)")).count(), 2);
    assert_eq!(said.last().unwrap(), "job 2 finished");
}

#[test]
fn a_later_job_starts_with_no_failures_counted() {
    let mut env = TestEnv::with(Policy { max_attempts: 2, ..Policy::default() });
    let map = env.shuffle(1, &[]);
    let (first, second) = (env.results(1, &[map]), env.results(1, &[map]));
    env.executor(1);
    env.submit(first);
    env.first_ends(failed(true));
    env.first_ends(failed(true));
    env.submit(second);
    env.first_ends(failed(true));
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 1 finished");
}

#[test]
fn a_lost_executors_tasks_run_again_uncharged() {
    let mut env = TestEnv::with(Policy { max_attempts: 1, ..Policy::default() });
    let stage = env.results(2, &[]);
    let first = env.executor(2);
    let job = env.submit(stage);
    env.lose(first, false);
    assert_eq!(
        env.explain(job),
        "stage 0 (s0): 0 of 2 tasks done; waits for an executor: there is none"
    );
    env.executor(2);
    assert_eq!(env.runs(), [(1, 0, 0, 1), (1, 0, 1, 1)]);
    env.said();
    let late = TaskId { stage, partition: 0, attempt: 0 };
    env.end(first, late, Outcome::Succeeded);
    assert_eq!(env.said(), [format!("discard {late} of {first}")]);
}

#[test]
fn a_task_that_brings_down_every_executor_fails_in_the_end() {
    let mut env = TestEnv::with(Policy { max_interruptions: 3, ..Policy::default() });
    let stage = env.results(1, &[]);
    env.submit(stage);
    for _ in 0..3 {
        let executor = env.executor(1);
        env.lose(executor, false);
    }
    assert_eq!(
        env.said().last().unwrap(),
        "job 0 failed: stage 0 (s0), partition 0 was interrupted 3 times, \
         last in attempt 2 on executor 2: power cut"
    );
}

#[test]
fn a_missed_input_is_made_again_where_it_is_missing_and_only_there() {
    let mut env = TestEnv::with(Policy { max_attempts: 1, ..Policy::default() });
    let map = env.shuffle(4, &[]);
    let reduce = env.results(1, &[map]);
    let first = env.executor(1);
    env.executor(1);
    env.submit(reduce);
    for _ in 0..4 {
        env.first_ends(Outcome::Succeeded);
    }
    env.said();
    env.first_ends(fetch_failed(map, 0, first));
    assert_eq!(env.runs(), [(0, 0, 0, 1), (1, 0, 2, 1)], "what the first executor had made");
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn an_input_that_is_missed_again_and_again_fails_the_job() {
    let mut env = TestEnv::with(Policy { max_stage_reruns: 1, ..Policy::default() });
    let map = env.shuffle(1, &[]);
    let reduce = env.results(1, &[map]);
    let executor = env.executor(1);
    env.submit(reduce);
    for attempt in 0..2 {
        env.first_ends(Outcome::Succeeded);
        env.first_ends(fetch_failed(map, attempt, executor));
    }
    assert_eq!(
        env.said().last().unwrap(),
        "job 0 failed: stage 1 (s1) missed output of stage 0 (s0) 2 times in a row, \
         last in partition 0, attempt 1, looking on executor 0"
    );
}

#[test]
fn a_fetch_from_where_output_no_longer_is_takes_no_output_away() {
    let mut env = TestEnv::new();
    let map = env.shuffle(1, &[]);
    let reduce = env.results(2, &[map]);
    let first = env.executor(1);
    let second = env.executor(2);
    env.submit(reduce);
    env.first_ends(Outcome::Succeeded);
    assert_eq!(env.runs(), [(0, 1, 0, 0), (1, 1, 1, 0)]);
    env.lose(first, true);
    let map_again = TaskId { stage: map, partition: 0, attempt: 1 };
    env.end(second, map_again, Outcome::Succeeded);
    assert_eq!(env.first_ends(fetch_failed(map, 0, first)).1.partition, 1);
    assert_eq!(env.runs(), [(1, 1, 0, 1), (1, 1, 1, 1)]);
}

#[test]
fn lost_output_is_made_again_for_the_job_that_needs_it() {
    let mut env = TestEnv::new();
    let map = env.shuffle(3, &[]);
    let reduce = env.results(1, &[map]);
    env.executor(1);
    let job = env.submit(reduce);
    for _ in 0..3 {
        env.first_ends(Outcome::Succeeded);
    }
    env.first_ends(failed(true));
    let (executor, running) = env.running[0];
    env.tell(Event::OutputLost { stage: map, partitions: vec![1, 1] });
    env.end(executor, running, failed(true));
    assert_eq!(env.runs(), [(0, 0, 1, 1)]);
    assert_eq!(
        env.explain(job),
        "stage 0 (s0): 2 of 3 tasks done, 1 running; waits for its running tasks\n\
         stage 1 (s1): 0 of 1 tasks done; waits for the output of stage 0"
    );
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn output_that_is_lost_when_nobody_needs_it_is_not_made_again() {
    let mut env = TestEnv::new();
    let map = env.shuffle(1, &[]);
    let middle = env.shuffle(1, &[map]);
    let reduce = env.results(1, &[middle]);
    env.executor(1);
    env.submit(reduce);
    env.first_ends(Outcome::Succeeded);
    env.first_ends(Outcome::Succeeded);
    env.tell(Event::OutputLost { stage: map, partitions: vec![0] });
    assert_eq!(env.runs(), [(0, 2, 0, 0)]);
    env.drain();
    assert_eq!(env.said().last().unwrap(), "job 0 finished");
}

#[test]
fn a_cancelled_job_frees_its_slots_and_the_next_one_runs() {
    let mut env = TestEnv::new();
    let (first, second) = (env.results(5, &[]), env.results(1, &[]));
    let executor = env.executor(2);
    let first = env.submit(first);
    env.submit(second);
    env.tell(Event::JobCancelled { job: first });
    assert_eq!(env.killed.len(), 2);
    let (_, killed) = env.killed[0];
    env.end(executor, killed, Outcome::Killed);
    env.drain();
    let said = env.said();
    assert_eq!(said[1], "job 0 was cancelled");
    assert_eq!(said.last().unwrap(), "job 1 finished");
}

#[test]
fn a_second_report_of_an_accepted_task_changes_nothing() {
    let mut env = TestEnv::new();
    let stage = env.results(2, &[]);
    env.executor(1);
    env.submit(stage);
    let (executor, task) = env.first_ends(Outcome::Succeeded);
    env.said();
    env.end(executor, task, Outcome::Succeeded);
    env.end(executor, task, failed(false));
    assert_eq!(env.said(), [""; 0]);
    env.drain();
    env.submit(stage);
    env.said();
    env.end(executor, task, Outcome::Succeeded);
    assert_eq!(env.said(), [""; 0], "not even when another run is under way");
}
