//! What processes that run guests on a worker have given up. Which walls a host has depends on it: what isn't there is said, and skipped.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

use ingle_tests::{Cluster, Place, ingle, wait_until};

/// Walls that this host doesn't have, by `ingle doctor`.
fn missing(place: &Place) -> BTreeSet<String> {
    let run = ingle(place, ["doctor"]).succeeds();
    let named = run.stdout.lines().filter_map(|line| line.trim().strip_prefix("MISSING"));
    let named: BTreeSet<String> =
        named.filter_map(|rest| rest.split_whitespace().next()).map(str::to_owned).collect();
    if !named.is_empty() {
        eprintln!("SKIPPED: this host lacks walls, which aren't tested here: {named:?}");
    }
    named
}

/// What the kernel says of a process in one of its files.
fn kernel(process: u32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default()
}

fn field(status: &str, name: &str) -> String {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}

#[test]
fn executors_and_drivers_on_workers_are_behind_their_walls() {
    let place = Place::new();
    let missing = missing(&place);
    let cluster = Cluster::new(&place, 1, 2);
    let run = cluster.rsubmit("pi").flags(["--deploy-mode=cluster", "--total-executor-cores=1"]);
    let run = run.args(["100000000000", "4"]).run().succeeds();
    let driver = run.stdout.trim().to_owned();
    let children = || cluster.children(0).into_iter().map(|pid| pid.as_raw_nonzero().get() as u32);
    wait_until("driver and executor are behind their walls", || {
        let filtered = |process| field(&kernel(process, "status"), "Seccomp") != "0";
        children().count() == 2 && (missing.contains("calls") || children().all(filtered))
    });
    let mut groups = BTreeSet::new();
    for process in children() {
        let status = kernel(process, "status");
        for (wall, name, expected) in [
            ("privileges", "NoNewPrivs", "1"),
            ("capabilities", "CapEff", "0000000000000000"),
            ("calls", "Seccomp", "2"),
        ] {
            if !missing.contains(wall) {
                assert_eq!(field(&status, name), expected, "{name}\n{status}");
            }
        }
        let limits = kernel(process, "limits");
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        assert!(core.is_some_and(|line| line.contains(" 0 ")), "{limits}");
        let environment = kernel(process, "environ");
        assert!(!environment.contains("PATH=") && !environment.contains("HOME="), "{environment}");
        if !missing.contains("memory") {
            let of = kernel(process, "cgroup");
            let group = of.lines().filter_map(|line| Some(line.split_once(":/")?.1.to_owned()));
            let group: Vec<_> = group.filter(|group| group.contains("ingle-")).collect();
            assert!(!group.is_empty(), "{of}");
            groups.extend(group);
        }
    }
    cluster.ask(&["explain", &driver]).succeeds();
    cluster.rsubmit("pi").flags(["--kill", &driver]).run().succeeds();
    cluster.wait_until_clean();
    let left = |group: &String| {
        let roots =
            ["", "memory", "pids", "cpu"].map(|root| Path::new("/sys/fs/cgroup").join(root));
        roots.iter().any(|root| root.join(group).exists())
    };
    wait_until("their groups are gone", || !groups.iter().any(left));
}

/// Neither driver nor executors make connections, but what is granted works, wherever the driver runs: their workers connect them with each
/// other, with the master, and with the workers that they fetch blocks from.
#[test]
fn jobs_on_workers_reach_what_was_granted_and_nothing_else() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 2, 1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Who only looked is gone already.
            let _ = stream.and_then(|mut stream| stream.write_all(b"hello"));
        }
    });
    for (grant, came) in [(None, "refused: access-denied"), (Some(&address), "read hello")] {
        let grant = grant.map(|address| format!("--allow-net={address}"));
        let run = cluster.rsubmit("net").flags(grant.as_deref()).args(["connect", &address]).run();
        run.succeeds().prints(&format!("driver: {came}\ntask: {came}\n"));
        let run = cluster.rsubmit("net").flags(["--deploy-mode=cluster"]).flags(grant.as_deref());
        let driver = run.args(["connect", &address]).run().succeeds().stdout.trim().to_owned();
        let logs = cluster.ask(&["logs", "--follow", &driver]).succeeds().stdout;
        let said = |who: &str| logs.contains(&format!("{who}: {came}"));
        assert!(said("driver") && said("task"), "{logs}");
    }
    // Blocks come from the other worker.
    for part in 0..4 {
        place.write(&format!("in/{part}.txt"), &"to be or not to be\n".repeat(1000));
    }
    cluster.rsubmit("wordcount").args(["in", "out"]).run().succeeds();
    cluster.wait_until_clean();
}

#[test]
fn a_worker_that_lacks_a_wall_that_it_requires_does_not_start() {
    let place = Place::new();
    ingle(&place, ["worker", "ingle://127.0.0.1:9", "--require-walls=files,moat"])
        .ends_with(1)
        .says(&["`moat` is no wall", "descriptors", "calls", "all"]);
    let missing = missing(&place);
    let doctor = ingle(&place, ["doctor", "--require=all"]);
    match missing.iter().next() {
        None => drop(doctor.succeeds()),
        Some(wall) => {
            doctor.ends_with(1).says(&["doesn't stand"]);
            let run = ingle(&place, ["worker", "ingle://127.0.0.1:9", "--require-walls=all"]);
            run.ends_with(1).says(&[wall, "doesn't stand", "--require-walls"]);
        }
    }
    ingle(&place, ["doctor", "--require=moat"])
        .ends_with(1)
        .says(&["--require", "`moat` is no wall"]);
}
