//! Jobs that fail: what the user is told, and how `rsubmit` ends.

use ingle_tests::{Place, Run};

const FAILED: i32 = 1;

fn evil(behaviour: &str) -> Run {
    Place::new().rsubmit("evil").args(behaviour.split(' ')).run()
}

/// A task fails four times, and the user is told where.
#[track_caller]
fn task_fails(behaviour: &str, stage: &str, says: &[&str]) -> Run {
    let place = Place::new();
    let run = place.rsubmit("evil").flag("--executor-memory=64m").arg(behaviour).run();
    let run = run.ends_with(FAILED).prints("").says_not(&["executor itself"]);
    for attempt in 0..3 {
        let warning = format!(
            "warning: stage 0 ({stage}), partition 2, attempt {attempt} on executor 0 failed and is tried again"
        );
        assert_eq!(run.stderr.matches(&warning).count(), 1, "attempt {attempt}\n{run}");
    }
    let error = format!(
        "error: job 0 failed: stage 0 ({stage}), partition 2 failed 4 times, last in attempt 3 on executor 0: "
    );
    run.says(&[&error]).says(says)
}

#[test]
fn a_tasks_panic_is_told_with_its_place_and_functions() {
    let says = ["tasks.rs:", "the task lost its nerve", "\n    at ", "evil::tasks::in_one_task"];
    task_fails("task-panic", "run_tasks", &says);
    task_fails(
        "task-overflow",
        "run_tasks",
        &["index out of bounds: the len is 3 but the index is 7"],
    );
}

#[test]
fn a_backtrace_begins_at_the_jobs_own_code() {
    // What the SDK does to report a failure is no help to its user.
    let run = evil("task-panic");
    run.says_not(&["install_panic_hook", "bindings::ingle::job::task::fail", "at function "]);
}

#[test]
fn a_tasks_error_is_told_with_its_causes() {
    task_fails("task-error-run", "run_tasks", &["attempt 3 on executor 0: task 2 gave up"]);
    let says = ["executor 0: record 60: invalid digit found in string", "evil::tasks::error_map"];
    task_fails("task-error-map", "count", &says);
    task_fails("task-error-shuffle", "reduce_by_key", &["record 60 can't be paired"]);
}

#[test]
fn a_tasks_trap_is_told_with_its_functions() {
    task_fails("task-trap", "run_tasks", &["aborted", "\n    at ", "evil::tasks::"]);
}

#[test]
fn a_task_that_recurses_for_ever_is_ended() {
    task_fails(
        "task-recursion",
        "run_tasks",
        &["recursion that goes too deep", "evil::tasks::deeper"],
    );
}

#[test]
fn a_task_that_takes_all_memory_is_ended_and_told_what_to_do() {
    let says = ["out of memory", "don't fit into 64.0 MiB", "--executor-memory", "fill_memory"];
    task_fails("task-memory", "run_tasks", &says);
}

#[test]
fn a_task_that_exits_has_failed() {
    task_fails("task-exit", "run_tasks", &["ended itself by exit, with failure"]);
}

#[test]
fn the_last_failure_counts_as_well() {
    evil("task-panic").says(&["(4 tries failed)"]);
}

#[test]
fn a_task_that_fails_at_first_is_tried_again() {
    let run = evil("task-flaky 1").succeeds().prints("[0, 0, 1, 0]\n");
    run.says(&["partition 2, attempt 0", "tried again", "4 tasks (1 try failed)"]);
    evil("task-flaky 3").succeeds().prints("[0, 0, 3, 0]\n");
    evil("task-flaky 4").ends_with(FAILED).prints("");
}

#[test]
fn how_often_a_task_is_tried_is_a_setting() {
    let place = Place::new();
    let flaky = |failures: &str, tries: &str| {
        let run = place.rsubmit("evil").conf("ingle.task.maxFailures", tries);
        run.args(["task-flaky", failures]).run()
    };
    flaky("1", "1").ends_with(FAILED).says(&["partition 2, attempt 0 on executor 0: "]);
    flaky("5", "6").succeeds().prints("[0, 0, 5, 0]\n");
}

#[test]
fn a_drivers_panic_is_told_and_not_called_a_panic_without_message() {
    let run = evil("driver-panic").ends_with(FAILED).prints("");
    let run = run.says(&["driver.rs:", "the driver lost its nerve", "error: the driver of evil"]);
    run.says_not(&["a panic without a message", "RUST_BACKTRACE"]);
}

#[test]
fn a_drivers_error_is_told_with_its_causes() {
    evil("driver-error").ends_with(FAILED).says(&["error: the driver gave up: the cause\n"]);
}

#[test]
fn a_drivers_trap_is_told_with_its_functions() {
    evil("driver-trap").ends_with(FAILED).says(&["the driver of evil: aborted", "evil::driver"]);
}

#[test]
fn a_driver_that_exits_succeeded_or_failed_as_wasi_tells() {
    evil("driver-exit 0").succeeds().prints("before the exit");
    let run = evil("driver-exit 7").ends_with(FAILED).prints("before the exit");
    run.says(&["error: the driver of evil ended itself by exit, with a failure"]);
}

#[test]
fn a_driver_that_takes_all_memory_is_ended_and_told_what_to_do() {
    let run = Place::new().rsubmit("evil").flag("--driver-memory=64m").arg("driver-memory").run();
    let run = run.ends_with(FAILED).says(&["out of memory", "64.0 MiB", "--driver-memory"]);
    // Of a driver there is but one.
    run.says_not(&["more partitions", "in use are tasks"]);
}

#[test]
fn a_driver_may_go_on_after_a_job_that_failed() {
    evil("driver-swallows").succeeds().prints("went on to 10\n");
}

#[test]
fn a_behaviour_or_argument_that_is_missing_is_the_jobs_own_error() {
    evil("no-such-thing").ends_with(FAILED).says(&["error: evil has no behaviour `no-such-thing`"]);
    Place::new().rsubmit("wordcount").run().ends_with(FAILED).says(&["usage: wordcount IN OUT"]);
}

#[test]
fn actions_in_a_closure_are_a_clear_error() {
    for behaviour in ["nested-action", "nested-tasks", "nested-source data"] {
        let run = evil(behaviour).ends_with(FAILED).prints("");
        run.says(&["was called in a task", "belong to the driver"]);
    }
}
