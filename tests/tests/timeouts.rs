//! Tasks and drivers that take longer than they may, in every mode, and killed tasks that wait for their host.

use ingle_tests::s3::{Operation, S3, When};
use ingle_tests::{Cluster, Place, Rsubmit, Run, wait_until};

const FAILED: i32 = 1;
const TIMEOUT: &str = "ingle.task.timeout";
const CPU_TIMEOUT: &str = "ingle.task.cpuTimeout";
const REPLACED: &str = "another executor takes its place";

/// A task that calls nothing fails twice, and its job says why.
fn fails(job: Rsubmit, setting: &str) -> Run {
    let run = job.conf(setting, "1500ms").conf("ingle.task.maxFailures", "2").arg("silent-task");
    let run = run.run().ends_with(FAILED);
    let words = format!("{setting} allows, 1.5 s; raise that, or use more partitions");
    run.says(&["partition 1 failed 2 times, last in attempt", &words, "is tried again: it "])
}

#[test]
fn a_task_that_takes_too_long_fails_in_local_mode() {
    let place = Place::new();
    for setting in [TIMEOUT, CPU_TIMEOUT] {
        let run = fails(place.rsubmit("evil").flag("--master=local[2]"), setting);
        run.says(&[
            "took more than it may and asks its host for nothing",
            "a new thread takes the place",
        ]);
        let job = place.rsubmit("evil").flag("--master=local[2]");
        let run = fails(job.conf("ingle.task.interrupt", "epoch"), setting);
        run.says_not(&["a new thread takes the place"]);
    }
}

#[test]
fn a_task_that_takes_too_long_fails_on_a_cluster() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    for setting in [TIMEOUT, CPU_TIMEOUT] {
        fails(cluster.rsubmit("evil"), setting).says(&[REPLACED, "took more than it may"]);
        let job = cluster.rsubmit("evil").conf("ingle.task.interrupt", "epoch");
        fails(job, setting).says_not(&[REPLACED]);
    }
    wait_until("nothing to be left of it", || cluster.processes().is_empty());
    cluster.wait_until_clean();
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_task_that_waits_takes_no_processor_time() {
    let place = Place::new();
    let job = place.rsubmit("evil").conf(CPU_TIMEOUT, "250ms").conf("ingle.task.maxFailures", "1");
    job.arg("sleep").run().succeeds().prints("slept\n");
    let job = place.rsubmit("evil").conf(TIMEOUT, "250ms").conf("ingle.task.maxFailures", "1");
    job.arg("sleep")
        .run()
        .ends_with(FAILED)
        .says(&["longer than ingle.task.timeout allows, 0.2 s"]);
}

#[test]
fn a_driver_that_takes_too_long_is_ended() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 1);
    let words = &["evil was ended: it ran longer than ingle.driver.timeout allows, 1.0 s"];
    for behaviour in ["loop-sleep", "loop-driver"] {
        for job in [place.rsubmit("evil").flag("--master=local[1]"), cluster.rsubmit("evil")] {
            let run = job.conf("ingle.driver.timeout", "1s").arg(behaviour).run();
            run.ends_with(FAILED).says(words);
        }
    }
    // It begins anew with each driver, and one that is done in time hears nothing of it.
    let job = cluster.rsubmit("evil").conf("ingle.driver.timeout", "60s");
    job.args(["accumulate", "4"]).run().succeeds();
    let job = cluster.rsubmit("evil").conf("ingle.driver.timeout", "1s");
    let job = job.flag("--deploy-mode=cluster").flag("--wait");
    let run = job.arg("loop-driver").run();
    run.ends_with(FAILED).says(&["it ran longer than ingle.driver.timeout allows, 1.0 s"]);
    wait_until("nothing to be left of it", || cluster.processes().is_empty());
}

/// A task reads what a store gives only much later than a task that calls nothing is given up.
fn cancelled_while_it_reads(s3: &S3, place: &Place, job: Rsubmit) -> Run {
    s3.behave();
    let gate = s3.hold(When::is(Operation::Get).of("in/slow"));
    let job = s3.submit(job.flag("--allow-read=s3://bucket/in"));
    let job = job.args(["cancel-reading", "s3://bucket/in/slow.txt", "go"]).spawn();
    wait_until("the task to read", || gate.holds() > 0);
    let go = place.write("go", "");
    job.wait_for("cancelled");
    // Four times what one that calls nothing is given.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(gate.holds() > 0 && job.runs(), "it doesn't wait for its host: {}", job.said());
    gate.open();
    std::fs::remove_file(go).expect("it was written");
    job.wait().succeeds().prints("counted 55, on executors {0} and {0}\n")
}

#[test]
fn a_killed_task_that_waits_for_its_host_costs_no_executor() {
    let (s3, place) = (S3::new(), Place::new());
    s3.put("in/slow.txt", "some text\n");
    let cluster = Cluster::new(&place, 1, 1);
    let run = cancelled_while_it_reads(&s3, &place, cluster.rsubmit("evil"));
    run.says_not(&[REPLACED]);
    let local = place.rsubmit_granted("evil").flag("--master=local[1]");
    let run = cancelled_while_it_reads(&s3, &place, local);
    run.says_not(&["a new thread takes the place"]);
}
