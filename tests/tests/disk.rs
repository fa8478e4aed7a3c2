//! Disks that applications may use only so much of: tasks fail, and say so, in every mode; the machine's disk stays as it was.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ingle_tests::{Cluster, Place, Rsubmit, wait_until};

const FAILED: i32 = 1;

/// Shuffles 64 MiB of which each executor may store 16.
fn too_much(job: Rsubmit) -> Rsubmit {
    let job = job.conf("ingle.shuffle.compression", "none").conf("ingle.task.maxFailures", "1");
    job.flag("--executor-memory=64m").args(["shuffle-much", "64"])
}

/// What the files of a folder take.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// The most that a folder took while a job ran.
fn most(job: Rsubmit, folder: &Path) -> (ingle_tests::Run, u64) {
    let (job, mut most) = (job.spawn(), 0);
    while job.runs() {
        most = most.max(size(folder));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    (job.wait(), most)
}

#[test]
fn an_executor_stores_no_more_than_it_may_in_local_mode() {
    let place = Place::new();
    std::fs::create_dir(place.path("spilled")).unwrap();
    let job = |limit: &str| {
        let job = too_much(place.rsubmit("evil").flag("--master=local[2]"));
        job.conf("ingle.local.dir", place.path("spilled")).conf("ingle.executor.disk", limit)
    };
    let (run, most) = most(job("16m"), &place.path("spilled"));
    run.ends_with(FAILED).says(&[
        "out of disk: ",
        "don't fit into 16.0 MiB",
        "raise ingle.executor.disk",
    ]);
    assert!(most < 17 << 20, "{most}");
    job("1g").run().succeeds().prints("65536 records\n");
    assert_eq!(size(&place.path("spilled")), 0);
}

#[test]
fn tasks_that_store_faster_than_they_may_wait_for_it() {
    let place = Place::new();
    let mut cluster = Cluster::new(&place, 0, 1);
    // 2 s of it are free, and as many are waited for.
    cluster.start_worker_with(1, &["--disk-rate=4m"]);
    let job = cluster.rsubmit("evil").conf("ingle.shuffle.compression", "none");
    job.args(["shuffle-much", "16"]).run().succeeds().prints("16384 records\n");
    let logs = std::fs::read_dir(place.kept("worker-0/logs")).unwrap().flatten();
    let logs = logs.flat_map(|app| std::fs::read_dir(app.path()).unwrap().flatten());
    let mut logs = logs.map(|log| std::fs::read_to_string(log.path()).unwrap_or_default());
    assert!(logs.any(|log| log.contains("more than 4.0 MiB in a second, which is what")));
}

#[test]
fn an_executor_stores_no_more_than_it_may_on_a_cluster() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    let apps = place.kept("worker-0/apps");
    let job = |limit: &str| too_much(cluster.rsubmit("evil")).conf("ingle.executor.disk", limit);
    let (run, most) = most(job("16m"), &apps);
    run.ends_with(FAILED).says(&["out of disk: ", "into 16.0 MiB", "raise ingle.executor.disk"]);
    assert!(most < 18 << 20, "{most}");
    job("1g").run().succeeds().prints("65536 records\n");
    wait_until("its files to be gone", || size(&apps) == 0);
}

#[test]
fn a_worker_bounds_what_an_application_stores() {
    let place = Place::new();
    let mut cluster = Cluster::new(&place, 0, 1);
    cluster.start_worker_with(2, &["--disk", "16m"]);
    let run = too_much(cluster.rsubmit("evil")).conf("ingle.executor.disk", "1g").run();
    run.ends_with(FAILED).says(&["into 15.", "this worker's --disk allows an application"]);
    // Others are none the worse.
    cluster.rsubmit("evil").args(["shuffle-much", "1"]).run().succeeds();
}

#[test]
fn what_got_past_an_executor_ends_it() {
    let place = Place::new();
    let mut cluster = Cluster::new(&place, 0, 1);
    cluster.start_worker_with(1, &["--disk", "16m"]);
    let job = cluster.rsubmit("evil").args(["wait", "never", "1"]).spawn();
    job.wait_for("started");
    let apps = place.kept("worker-0/apps");
    let folder = std::fs::read_dir(&apps).unwrap().next().unwrap().unwrap().path();
    // As one that was broken out of may.
    std::fs::write(folder.join("smuggled"), vec![1; 20 << 20]).unwrap();
    // There is no other worker.
    job.wait().ends_with(FAILED).says(&[
        "no worker is left that didn't end its executors for what they did",
        "has 20.",
        "on this worker's disk, more than its --disk allows an application, 16.0 MiB",
    ]);
    cluster.workers[0].wait_for("more than its --disk allows an application, 16.0 MiB");
}

#[test]
fn executors_share_what_their_application_may_store_and_none_is_lost_for_it() {
    let place = Place::new();
    let mut cluster = Cluster::new(&place, 0, 1);
    cluster.start_worker_with(2, &["--disk", "64m"]);
    // 40 MiB by each.
    let job = |much: &'static str| {
        let job = cluster.rsubmit("evil").conf("ingle.shuffle.compression", "none");
        let job = job.conf("ingle.task.maxFailures", "2").flag("--executor-memory=64m");
        job.flags(["--executor-cores=1", "--num-executors=2", "-v"]).args(["shuffle-much", much])
    };
    let run = job("80")
        .run()
        .ends_with(FAILED)
        .says(&["out of disk: ", "its share of what this worker's --disk allows an application"]);
    for lost in ["is gone", "executor 2", "on this worker's disk, more than"] {
        assert!(!run.stderr.contains(lost), "{lost}: {}", run.stderr);
    }
    assert!(!cluster.workers[0].said().contains("its processes here are ended"));
    job("48").run().succeeds();
}

#[test]
fn a_task_writes_no_more_to_an_output_than_it_may() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    for (number, job) in
        [place.rsubmit_granted("evil"), cluster.rsubmit("evil")].into_iter().enumerate()
    {
        let out = place.path(format!("out-{number}"));
        let job = job.conf("ingle.task.output.limit", "1m").args(["save-much", "8"]).arg(&out);
        job.run()
            .ends_with(FAILED)
            .says(&["ingle.task.output.limit allows 1.0 MiB", "use more partitions"]);
        assert!(!out.exists());
    }
    let job = place.rsubmit_granted("evil").conf("ingle.task.output.limit", "16m");
    job.args(["save-much", "8"]).arg(place.path("out")).run().succeeds();
}
