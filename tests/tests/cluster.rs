//! Jobs on a cluster of whole processes: the same answers, and what is survived.

use ingle_tests::{Cluster, Place, guest, text, wait_until};
use rustix::process::Signal;

#[test]
fn the_same_job_gives_the_same_answer_on_many_workers_and_leaves_nothing() {
    let place = Place::new();
    let expected = text(&place, 4, 2000);
    let cluster = Cluster::new(&place, 2, 1);
    let run = cluster.rsubmit("wordcount").args(["in", "out"]).run().succeeds();
    assert_eq!(place.table("out"), expected);
    assert!(run.stderr.contains("app-"), "it says its name\n{run}");
    wait_until("nothing to be left", || {
        (0..2).all(|w| cluster.children(w).is_empty() && cluster.leftovers(w).is_empty())
    });
    assert!(cluster.ask(&["apps"]).succeeds().stdout.contains("FINISHED"));
}

#[test]
fn captured_memory_reaches_executors_elsewhere() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    cluster.rsubmit("forks").args(["200000", "6"]).run().succeeds();
    place.write("in/a.txt", "the cat and the dog\nthe end\n");
    place.write("stop", "the\nand\n");
    let run = cluster.rsubmit("stopwords").args(["in", "stop", "3"]).run().succeeds();
    assert!(run.stdout.contains("cat") && !run.stdout.contains("the"), "{run}");
}

#[test]
fn files_come_with_the_job_in_every_mode() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    place.write("far/away.txt", "b a\nb\n");
    let modes =
        [["--master", "local[2]"], ["--deploy-mode", "client"], ["--deploy-mode", "cluster"]];
    for (number, mode) in modes.into_iter().enumerate() {
        let out = format!("out{number}");
        let run = if mode[0] == "--master" {
            place.rsubmit("wordcount").flag("--allow-write=.")
        } else {
            cluster.rsubmit("wordcount").flags(["--driver-memory", "512m"])
        };
        let run = run.flags(mode).flags(["--files", "far/away.txt", "--wait"]);
        run.args(["files/away.txt", &out]).run().succeeds();
        let expected = [("a", "1"), ("b", "2")].map(|(w, n)| (w.to_owned(), n.to_owned()));
        assert_eq!(place.table(&out), expected.into());
    }
    let run = cluster.rsubmit("noop").flags(["--files", "no/such"]).arg("1").run();
    run.ends_with(2).says(&["--files no/such"]);
}

#[test]
fn executors_come_with_the_tasks_and_go_when_they_are_idle() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 2, 1);
    let dynamic = |key: &str| format!("ingle.dynamicAllocation.{key}");
    let job = cluster
        .rsubmit("evil")
        .flags(["--executor-cores", "1"])
        .conf(&dynamic("enabled"), "true")
        .conf(&dynamic("executorIdleTimeout"), "0.5")
        .arg("idle-driver")
        .spawn();
    wait_until("two executors", || (0..2).all(|w| cluster.children(w).len() == 1));
    job.wait_for("idle");
    wait_until("them to go", || (0..2).all(|w| cluster.children(w).is_empty()));
    assert!(!job.said().contains("done"), "it idles");
    let run = job.wait().succeeds();
    assert!(run.stdout.contains("done"), "{run}");
    let small = cluster
        .rsubmit("noop")
        .flags(["--executor-cores", "1"])
        .conf(&dynamic("enabled"), "true")
        .arg("1")
        .run()
        .succeeds();
    assert!(small.stdout.starts_with("1 tasks"), "{small}");
    let bad = cluster.rsubmit("noop").conf(&dynamic("maxExecutors"), "0").arg("1").run();
    bad.ends_with(2).says(&["maxExecutors must be at least 1"]);
}

#[test]
fn speculation_and_exclusion_change_no_answer_and_a_straggler_is_overtaken() {
    let place = Place::new();
    let expected = text(&place, 4, 5_000);
    let cluster = Cluster::new(&place, 2, 1);
    // Without a copy of the task that hangs, this would hang.
    let straggle = cluster.rsubmit("evil").conf("ingle.speculation", "true");
    let straggle = straggle.conf("ingle.speculation.quantile", "0.5");
    place.write("marks/none", "");
    let straggle = straggle.args(["straggle", "marks/first"]).run().succeeds();
    assert_eq!(straggle.stdout.trim(), "28");
    let run = cluster
        .rsubmit("wordcount")
        .conf("ingle.speculation", "true")
        .conf("ingle.speculation.quantile", "0.1")
        .conf("ingle.speculation.multiplier", "1")
        .conf("ingle.excludeOnFailure.enabled", "true");
    run.args(["in", "out"]).run().succeeds();
    assert_eq!(place.table("out"), expected);
    let bad = cluster.rsubmit("noop").conf("ingle.speculation.quantile", "2").arg("1").run();
    bad.ends_with(2).says(&["more than 1"]);
}

#[test]
fn a_failing_job_fails_as_it_does_here() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 1);
    cluster.rsubmit("wordcount").args(["nowhere", "out"]).run().ends_with(1).says(&["nowhere"]);
    assert!(!place.exists("out"));
    assert!(cluster.ask(&["apps"]).succeeds().stdout.contains("FAILED"));
}

#[test]
fn a_driver_runs_on_a_worker_and_its_logs_are_read_from_anywhere() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    let submitted = |job: &str| cluster.rsubmit(job).flags(["--deploy-mode", "cluster"]);
    let run = submitted("pi").flag("--wait").args(["100000", "2"]).run().succeeds();
    let id = run.stdout.trim().to_owned();
    assert!(id.starts_with("driver-"), "{run}");
    run.says(&["is FINISHED"]);
    let logs = cluster.ask(&["logs", &id]).succeeds();
    assert!(logs.stdout.contains("Pi is roughly 3.1"), "{logs}");
    let failed = submitted("wordcount").flag("--wait").args(["nowhere", "out"]).run();
    failed.ends_with(1).says(&["is FAILED", "nowhere"]);
}

#[test]
fn a_driver_on_a_worker_is_killed_with_all_that_it_has() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    let run = cluster.rsubmit("noop").flags(["--deploy-mode", "cluster"]).arg("4000000").run();
    let id = run.succeeds().stdout.trim().to_owned();
    wait_until("a driver and its executor", || cluster.children(0).len() == 2);
    place
        .rsubmit_file(guest("noop"))
        .flags(["--master", &cluster.url, "--kill", &id])
        .run()
        .succeeds()
        .prints_something();
    wait_until("both to be gone", || cluster.children(0).is_empty());
    assert!(cluster.ask(&["explain", &id]).succeeds().stdout.contains("KILLED"));
}

#[test]
fn a_killed_executor_costs_its_tasks_and_not_the_job() {
    let place = Place::new();
    let expected = text(&place, 8, 60_000);
    let cluster = Cluster::new(&place, 2, 1);
    let job = cluster.rsubmit_to_all("wordcount").args(["in", "out"]).spawn();
    // It has done something, and is at the next.
    cluster.wait_for_shuffle(0);
    cluster.kill_child(0);
    job.wait().succeeds();
    assert_eq!(place.table("out"), expected);
}

#[test]
fn a_killed_worker_costs_what_it_stored_and_not_the_job() {
    let place = Place::new();
    let expected = text(&place, 8, 60_000);
    let cluster = Cluster::new(&place, 2, 1);
    let job = cluster.rsubmit_to_all("wordcount").args(["in", "out"]).spawn();
    cluster.wait_for_shuffle(1);
    let orphans = cluster.children(1);
    cluster.workers[1].signal(Signal::KILL);
    job.wait().succeeds();
    assert_eq!(place.table("out"), expected);
    wait_until("its executors to be gone", || {
        let gone = |pid: &rustix::process::Pid| {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        orphans.iter().all(gone)
    });
    wait_until("the master to miss it", || {
        !cluster.ask(&["workers"]).succeeds().stdout.contains("worker-2")
    });
}

#[test]
fn a_master_that_is_killed_and_started_again_finds_everyone() {
    let place = Place::new();
    let expected = text(&place, 8, 20_000);
    let mut cluster = Cluster::new(&place, 1, 1);
    let job = cluster.rsubmit("wordcount").args(["in", "out"]).spawn();
    wait_until("an executor", || !cluster.children(0).is_empty());
    let before = cluster.children(0);
    cluster.kill_master();
    cluster.start_master();
    job.wait().succeeds();
    assert_eq!(place.table("out"), expected);
    wait_until("the worker to be back", || {
        cluster.ask(&["workers"]).succeeds().stdout.contains("worker-1")
    });
    assert!(cluster.ask(&["apps"]).succeeds().stdout.contains("wordcount"));
    wait_until("the executor to be gone", || cluster.children(0) != before);
    cluster.rsubmit("noop").arg("10").run().succeeds();
}

#[test]
fn a_client_that_is_killed_takes_its_application_along() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 1);
    let job = cluster.rsubmit("noop").arg("4000000").spawn();
    wait_until("an executor", || !cluster.children(0).is_empty());
    job.signal(Signal::KILL);
    job.wait();
    wait_until("its executor to be gone", || cluster.children(0).is_empty());
    wait_until("the master to see it", || {
        cluster.ask(&["apps"]).succeeds().stdout.contains("KILLED")
    });
    wait_until("its files to be gone", || cluster.leftovers(0).is_empty());
}

#[test]
fn a_worker_that_is_told_to_end_waits_for_what_runs() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    let job = cluster.rsubmit("evil").args(["wait", "go", "2"]).spawn();
    wait_until("two tasks", || job.said().matches("started").count() == 2);
    cluster.workers[0].signal(Signal::TERM);
    wait_until("the master to hear it", || {
        cluster.ask(&["workers"]).succeeds().stdout.contains("DECOMMISSIONING")
    });
    place.write("go", "");
    assert_eq!(job.wait().succeeds().stdout, "done\n");
    wait_until("the worker to have no work", || !cluster.workers[0].runs());
}

#[test]
fn a_decommissioned_worker_gets_no_more_work() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 2, 1);
    let said = cluster.ask(&["decommission", "worker-1"]).succeeds().stdout;
    assert!(said.contains("gets no more work"), "{said}");
    cluster.rsubmit("noop").arg("100").run().succeeds();
    assert!(cluster.ask(&["workers"]).succeeds().stdout.contains("DECOMMISSIONING"));
    cluster.ask(&["decommission", "worker-9"]).ends_with(1).says(&["no worker worker-9"]);
}

#[test]
fn an_executor_leaves_a_decommissioned_worker_after_its_tasks_and_another_one_takes_its_place() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 2, 1);
    let job = cluster.rsubmit("evil").flags(["--num-executors", "1"]);
    let job = job.args(["wait", "go", "2"]).spawn();
    job.wait_for("started");
    let at = (0..2).find(|w| !cluster.children(*w).is_empty()).expect("an executor");
    let name = format!("worker-{}", at + 1);
    let said = cluster.ask(&["decommission", &name]).succeeds().stdout;
    assert!(said.contains("1 executors"), "{said}");
    job.wait_for(&format!("{name} gets no more tasks"));
    place.write("go", "");
    job.wait().succeeds().says(&["executor 0 is gone", "its worker gets no more work"]);
    wait_until("it to be empty", || {
        cluster.children(at).is_empty() && cluster.leftovers(at).is_empty()
    });
}

#[test]
fn what_can_never_be_is_refused_at_once_and_what_must_wait_says_for_what() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 1);
    let refused =
        |flags: [&str; 2]| cluster.rsubmit("noop").flags(flags).arg("1").run().ends_with(1);
    refused(["--executor-cores", "8"]).says(&[
        "fits on no worker",
        "worker-1",
        "1 core and 4.0 GiB",
    ]);
    refused(["--executor-memory", "900g"]).says(&["fits on no worker", "--executor-memory"]);

    let first = cluster.rsubmit("noop").arg("4000000").spawn();
    wait_until("an executor", || !cluster.children(0).is_empty());
    let second = cluster.rsubmit("noop").flags(["--executor-cores", "1"]).arg("1").spawn();
    second.wait_for("waits for 1 core and 1.0 GiB free on one worker");
    let apps = cluster.ask(&["apps"]).succeeds().stdout;
    let waiting = apps.lines().find(|line| line.contains("free on one worker"));
    let waiting = waiting.expect("one that waits");
    let id = waiting.split_whitespace().next().expect("its name");
    let why = cluster.ask(&["explain", id]).succeeds().stdout;
    assert!(why.contains("is WAITING") && why.contains("before it came app-"), "{why}");
    first.signal(Signal::INT);
    first.wait().ends_with(130);
    second.wait().succeeds();
}

#[test]
fn wrong_addresses_and_ids_are_told_in_words() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 0, 1);
    let asked = |flags: &[&str]| {
        let run = place.rsubmit_file(guest("noop")).flags(flags.iter().copied());
        run.run()
    };
    asked(&["--master", "ingle://127.0.0.1:1", "--status", "x"])
        .ends_with(4)
        .says(&["no master at"]);
    asked(&["--master", "ingle://", "--status", "x"])
        .ends_with(2)
        .says(&["write ingle://HOST:PORT"]);
    asked(&["--status", "x"]).ends_with(2).says(&["INGLE_MASTER"]);
    let url = cluster.url.as_str();
    asked(&["--master", url, "--status", "x"]).ends_with(1).says(&["is no id"]);
    let id = "app-20260101000000-0001";
    asked(&["--master", url, "--kill", id]).ends_with(1).says(&["ingle apps"]);
    asked(&["--master", url, "--deploy-mode", "moon"]).ends_with(2).says(&["client or cluster"]);
    let job = cluster.rsubmit("noop").arg("1").spawn();
    job.wait_for("waits for a worker: there is none");
    job.signal(Signal::INT);
    job.wait().ends_with(130);
}
