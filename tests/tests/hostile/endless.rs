//! What never ends by itself.

use ingle_tests::wait_until;
use rustix::process::Signal;

use crate::attack::attacks;
use crate::field::{Field, place};

attacks! {
    "endless-task" Driver: "tasks that spin, with and without touching memory, and never call their host",
        "an executor whose task doesn't stop within 500 ms of its kill is replaced",
        ["silent" => "counted 55", "memory" => "counted 55"], Replaced;
    "endless-task" Driver: "tasks that sleep or wait for ever",
        "an executor whose task doesn't stop within 500 ms of its kill is replaced",
        ["sleep" => "counted 55", "poll" => "counted 55"], Replaced;
    "endless-task" Driver: "tasks that print for ever",
        "the kill of a task closes its streams",
        ["print" => "counted 55"];
    "endless" Alone: "a task that never ends, in a job whose tasks have a second",
        "`ingle.task.timeout`, then the executor is replaced",
        ["silent" => "longer than ingle.task.timeout allows"],
        Replaced, flags "--conf=ingle.task.timeout=1s";
    "endless" Alone: "the same, bounded in processor time, with epochs",
        "`ingle.task.cpuTimeout`",
        ["memory" => "more than ingle.task.cpuTimeout allows"],
        GoesOn, flags "--conf=ingle.task.cpuTimeout=1s" "--conf=ingle.task.interrupt=epoch";
    "endless-task" Driver: "tasks that never call their host, with epochs",
        "wasmtime's epochs (`ingle.task.interrupt=epoch`)",
        ["silent" => "counted 55", "memory" => "counted 55"],
        GoesOn, flags "--conf" "ingle.task.interrupt=epoch";
}

#[test]
fn endless_tasks_are_stopped() {
    crate::hold(ATTACKS);
}

#[test]
fn an_endless_driver_is_killed() {
    let place = place();
    let field = Field::new(&place);
    for way in ["silent", "memory", "print", "sleep", "poll"] {
        let job = field.attacker("hostile").args(["endless", "driver", way]).spawn();
        job.wait_for("started");
        job.signal(Signal::INT);
        job.wait().ends_with(130);
        field.unharmed(way);
        let job = field.attacker("hostile").flag("--deploy-mode=cluster");
        let run = job.args(["endless", "driver", way]).run().succeeds();
        let driver = run.stdout.trim().to_owned();
        wait_until("the driver to run", || {
            field.cluster.ask(&["logs", &driver]).stderr.contains("started")
        });
        field.attacker("hostile").flags(["--kill", &driver]).run().succeeds();
        field.unharmed(way);
    }
    field.end();
}
