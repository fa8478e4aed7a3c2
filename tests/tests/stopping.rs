//! Tasks that are killed and ask their host for nothing.

use ingle_tests::{Cluster, Place, Run, wait_until};

/// What the driver says that cancelled such a task, and then needed its slot.
fn goes_on(run: &Run) {
    assert_eq!(run.stdout, "counted 55\n", "{run}");
    assert!(run.stderr.contains("started") && run.stderr.contains("free after"), "{run}");
}

const REPLACED: &str = "another executor takes its place";

#[test]
fn an_executor_is_replaced_whose_task_does_not_stop() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 1);
    let run = cluster.rsubmit("evil").arg("cancel-silent").run().succeeds();
    goes_on(&run.says(&[REPLACED, "ingle.task.interrupt=epoch"]));
    wait_until("nothing to be left of it", || cluster.processes().is_empty());
    cluster.wait_until_clean();
}

#[test]
fn with_epochs_the_task_stops_and_the_executor_stays() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 1);
    let run = cluster.rsubmit("evil").conf("ingle.task.interrupt", "epoch");
    goes_on(&run.arg("cancel-silent").run().succeeds().says_not(&[REPLACED]));
}

#[test]
fn in_local_mode_another_thread_takes_the_slot() {
    let place = Place::new();
    let run = place.rsubmit("evil").flag("--master=local[1]").arg("cancel-silent").run();
    goes_on(&run.succeeds().says(&["a new thread takes the place of its own"]));
    let run = place.rsubmit("evil").flag("--master=local[1]").conf("ingle.task.interrupt", "epoch");
    goes_on(&run.arg("cancel-silent").run().succeeds().says_not(&["a new thread"]));
}
