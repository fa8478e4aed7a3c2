//! Logs of processes that print more than anyone keeps.

use std::path::Path;

use ingle_tests::{Cluster, Place};

/// What the logs of a worker take, and how many files the longest has.
fn logs(worker: &Path) -> (u64, usize) {
    let folders =
        std::fs::read_dir(worker.join("logs")).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files: Vec<_> = files.map(|entry| entry.unwrap()).collect();
    let of_tasks = |name: &str| name.starts_with("executor-") && name.contains(".out");
    let names = files.iter().map(|entry| entry.file_name().into_string().unwrap());
    let longest = names.filter(|name| of_tasks(name)).count();
    (files.iter().map(|entry| entry.metadata().unwrap().len()).sum(), longest)
}

#[test]
fn the_middle_of_a_long_log_is_left_out() {
    let place = Place::new();
    let mut cluster = Cluster::new(&place, 0, 1);
    cluster.start_worker_with(2, &["--log-size", "64k"]);
    // In cluster mode, so that the driver's is a log, too.
    let job = cluster.rsubmit("evil").flags(["--deploy-mode", "cluster", "--wait"]);
    let run = job.args(["print-much", "20000"]).run().succeeds();
    let (bytes, files) = logs(&place.kept("worker-0"));
    // Two of each of two processes.
    assert!(bytes < 4 * (65 << 10), "{bytes}");
    assert_eq!(files, 3);
    let id = run.stdout.trim().to_owned();
    let read = cluster.ask(&["logs", &id]).succeeds();
    let whole = format!("{}{}", read.stdout, read.stderr);
    for text in ["driver line 0000000", "driver line 0019999", "bytes before this are left out"] {
        assert!(whole.contains(text), "{text}");
    }
    assert!(!whole.contains("driver line 0010000") && whole.contains("--log-size"));
}
