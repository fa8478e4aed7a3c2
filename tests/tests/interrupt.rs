//! Ctrl-C and SIGTERM: a job ends soon, whatever it does, and leaves nothing behind.

use ingle_tests::{Place, Run};
use rustix::process::Signal;

const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;

/// Starts a behaviour that never ends, and sends it signals once it has begun.
#[track_caller]
fn stop(place: &Place, behaviour: &str, signals: &[Signal]) -> Run {
    std::fs::create_dir(place.path("spills")).unwrap();
    let run = place.rsubmit_granted("evil").conf("ingle.local.dir", "spills");
    let running = run.flag("--executor-memory=64m").args(behaviour.split(' ')).spawn();
    running.wait_for("started");
    for signal in signals {
        running.signal(*signal);
        if signals.len() > 1 {
            running.wait_for("cancelling; once more");
        }
    }
    running.wait().prints("")
}

/// Stopped by Ctrl-C, it leaves neither an output nor a spill folder.
#[track_caller]
fn interrupted(behaviour: &str) {
    let place = Place::new();
    let run = stop(&place, behaviour, &[Signal::INT]).ends_with(INTERRUPTED);
    let run = run.says(&["cancelling", "error: evil was interrupted"]);
    assert!(!place.exists("out"), "an output is left: {:?}\n{run}", place.names("out"));
    assert_eq!(place.names("spills").len(), 0, "a spill folder is left\n{run}");
}

#[test]
fn a_job_that_writes_is_interrupted() {
    interrupted("loop-save out");
}

#[test]
fn a_job_that_writes_below_new_folders_is_interrupted() {
    let place = Place::new();
    stop(&place, "loop-save a/b/out", &[Signal::INT]).ends_with(INTERRUPTED);
    assert_eq!(place.names("."), ["spills"]);
}

#[test]
fn a_job_that_has_spilled_is_interrupted() {
    interrupted("loop-spill");
}

#[test]
fn a_task_that_prints_for_ever_is_interrupted() {
    interrupted("loop-print");
}

#[test]
fn a_task_that_prints_for_ever_is_ended_by_its_next_call() {
    // Printing is a call of the host.
    let run = stop(&Place::new(), "loop-print", &[Signal::INT]).ends_with(INTERRUPTED);
    run.says_not(&["runs on without calling its host"]);
}

#[test]
fn a_task_that_sleeps_is_interrupted() {
    interrupted("loop-sleep");
}

#[test]
fn a_task_that_never_calls_its_host_is_interrupted() {
    interrupted("loop-silent");
}

#[test]
fn a_task_that_never_calls_its_host_leaves_no_output() {
    interrupted("loop-save-silent out");
}

#[test]
fn a_driver_that_never_calls_its_host_is_interrupted() {
    interrupted("loop-driver");
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let place = Place::new();
    let run = stop(&place, "loop-save-silent out", &[Signal::INT, Signal::INT]);
    let run = run.ends_with(INTERRUPTED);
    assert!(!place.exists("out"), "an output is left\n{run}");
    assert_eq!(place.names("spills").len(), 0, "a spill folder is left\n{run}");
}

#[test]
fn sigterm_ends_it_with_its_own_code() {
    let place = Place::new();
    let run = stop(&place, "loop-save out", &[Signal::TERM]).ends_with(TERMINATED);
    let run = run.says(&["error: evil was terminated"]);
    assert!(!place.exists("out"), "an output is left\n{run}");
    assert_eq!(place.names("spills").len(), 0, "a spill folder is left\n{run}");
}

#[test]
fn a_job_that_fails_beside_a_task_that_never_ends_leaves_nothing() {
    let place = Place::new();
    std::fs::create_dir(place.path("spills")).unwrap();
    let run = place.rsubmit_granted("evil").conf("ingle.local.dir", "spills");
    let run = run.flag("--master=local[2]").conf("ingle.local.oversubscribe", "true");
    let run = run.args(["fail-beside-loop", "out"]).run().ends_with(1).says(&["the bad partition"]);
    assert!(!place.exists("out"), "an output is left\n{run}");
    assert_eq!(place.names("spills").len(), 0, "a spill folder is left\n{run}");
}
