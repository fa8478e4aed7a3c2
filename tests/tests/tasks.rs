//! What tasks are given and give back: captures, prints, accumulators, results, and a state that none leaves to another.

use ingle_tests::{Place, Run};

fn evil(flags: &[&str], behaviour: &str) -> Run {
    let place = Place::new();
    place.write("data/one", "the driver's\n");
    place.write("data/two", "another\n");
    place.write("data/own", "the task's own\n");
    let run = place.rsubmit("evil").flag("--allow-read=data").flags(flags.iter().copied());
    run.args(behaviour.split(' ')).run()
}

const FRESH: &[&str] = &["--conf", "ingle.task.reuse=false"];
const REUSED: &[&str] = &["--conf", "ingle.task.reuse=true"];

#[test]
fn closures_capture_what_the_driver_owns() {
    for flags in [REUSED, FRESH] {
        evil(flags, "captures").succeeds().prints("captured\n");
    }
}

#[test]
fn operators_on_both_sides_of_a_shuffle_capture() {
    let sums = (0..5u64).map(|key| {
        let sum: u64 = (0..100).filter(|n| n % 5 == key).map(|n| n * 10).sum();
        (format!("name {key}"), sum)
    });
    let expected = format!("{:?}\n", sums.collect::<Vec<_>>());
    evil(&[], "captures-dataset").succeeds().prints(&expected);
}

#[test]
fn each_task_sees_the_drivers_state_and_none_of_another_task() {
    for flags in [REUSED, FRESH] {
        for sizes in ["500 0", "300 1", "200 3", "60 6"] {
            evil(flags, &format!("counters {sizes}")).succeeds().prints("all alike\n");
        }
    }
}

#[test]
fn memory_that_a_task_takes_is_zero_whoever_had_it_before() {
    for flags in [REUSED, FRESH] {
        for sizes in ["200 1", "200 3", "60 6"] {
            evil(flags, &format!("zeroes {sizes}")).succeeds().prints("all zero\n");
        }
    }
}

#[test]
fn hash_maps_of_all_tasks_iterate_in_one_order() {
    for flags in [REUSED, FRESH] {
        evil(flags, "hash-order").succeeds().prints("one order\n");
    }
}

#[test]
fn each_stage_has_its_own_image() {
    for flags in [REUSED, FRESH] {
        evil(flags, "many-stages 100").succeeds().prints("all their own\n");
    }
}

#[test]
fn a_drivers_prints_go_where_it_sent_them() {
    let run = evil(&[], "driver-print").succeeds().prints("a line to stdout\nno line end");
    run.says(&["a line to stderr\n"]).says_not(&["a line to stdout"]);
}

#[test]
fn tasks_print_to_stderr_with_their_names() {
    let run = evil(&[], "task-print").succeeds().prints("driver to stdout\ndriver again\n");
    for task in 0..4 {
        for what in ["to stdout", "to stderr", "without line end"] {
            let line = format!("[stage 0, partition {task}] task {task} {what}");
            assert_eq!(run.stderr.lines().filter(|l| *l == line).count(), 1, "{line}\n{run}");
        }
    }
}

#[test]
fn an_accumulator_counts_each_task_once_however_often_it_is_tried() {
    evil(&[], "accumulate 40").succeeds().prints("40\n").says(&["40 tasks (20 tries failed)"]);
}

#[test]
fn two_actions_share_a_shuffle_and_its_accumulators() {
    let run = evil(&[], "accumulate-shuffle").succeeds();
    // 5 tasks of the map side, and 3 for each of the two actions.
    run.prints("10 keys, total 499500, mapped 1000\n").says(&[" 11 tasks, "]);
}

#[test]
fn results_that_are_dropped_early_cancel_the_rest() {
    let run = evil(&[], "drop-early").succeeds().prints("then 10\n");
    let tasks: u64 = run.summary(" tasks").parse().expect("a number");
    assert!(tasks < 1000, "{run}");
}

const HANDLE: &[&str] = &["handles don't travel with a closure", "open it inside of the task"];

#[test]
fn a_captured_file_is_a_clear_error() {
    for flags in [REUSED, FRESH] {
        evil(flags, "captured-file data/one").ends_with(1).prints("").says(HANDLE);
    }
}

#[test]
fn two_captured_files_in_two_closures_are_a_clear_error() {
    evil(&[], "captured-files data/one data/two").ends_with(1).prints("").says(HANDLE);
    evil(&[], "captured-both data/one data/two").ends_with(1).prints("").says(HANDLE);
}

/// The captured file's number may be that of the task's own: then the wrong file is read without a word.
#[test]
fn a_captured_file_never_reads_a_file_that_the_task_opened() {
    for flags in [REUSED, FRESH] {
        let run = evil(flags, "captured-after-own data/one data/own").ends_with(1).prints("");
        run.says(HANDLE);
    }
}

#[test]
fn a_captured_file_never_reads_a_file_that_another_task_left_open() {
    for flags in [FRESH, REUSED] {
        let run = evil(flags, "captured-after-leak data/one data/own").ends_with(1).prints("");
        run.says(HANDLE);
    }
}

#[test]
fn a_captured_file_never_writes_where_the_task_writes() {
    let place = Place::new();
    let run = place.rsubmit_granted("evil").args(["captured-write", "captured", "own"]).run();
    run.ends_with(1).says(HANDLE);
    assert_eq!(place.read("own"), "", "what was meant for another file");
}

#[test]
fn a_captured_file_that_no_task_uses_does_no_harm() {
    let run = evil(&[], "captured-dropped data/one data/own").succeeds();
    run.prints("the driver's\n").says(&[" 20 tasks, "]);
}

#[test]
fn files_that_tasks_leave_open_do_not_pile_up() {
    let run = evil(&["--master=local"], "leaked-files data/own 6000").succeeds();
    run.prints("all opened\n").says_not(&["failed", "resource table"]);
}
