//! Whom processes of a worker run as, if root starts it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use ingle_tests::{Cluster, Place, Run, ingle, wait_until};

/// Whose a process is: users, and the groups beside.
fn whose(process: u32) -> (Vec<String>, String) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    };
    let users = field("Uid").split_whitespace().map(str::to_owned).collect();
    (users, field("Groups"))
}

/// Whether this test can be made; if not, that is said.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: only root can start a worker that gives its processes other users");
    }
    is_root
}

fn open(place: &Place, path: &str, mode: u32) {
    fs::set_permissions(place.path(path), fs::Permissions::from_mode(mode)).unwrap();
}

/// A cluster whose workers give these users.
fn cluster<'a>(place: &'a Place, users: &str, workers: usize, cores: u32) -> Cluster<'a> {
    open(place, ".", 0o755);
    let mut cluster = Cluster::new(place, 0, 2);
    cluster.worker_flags = vec![format!("--executor-uids={users}")];
    (0..workers).for_each(|_| cluster.start_worker(cores));
    cluster
}

fn end(cluster: &Cluster<'_>) {
    cluster.wait_until_clean();
    assert!(cluster.panics().is_empty());
}

/// A worker that doesn't get so far as to look for its master.
fn worker(place: &Place, users: &str) -> Run {
    let work_dir = format!("--work-dir={}", place.path("refused").display());
    let users = format!("--executor-uids={users}");
    let master = "ingle://127.0.0.1:9";
    ingle(place, ["worker", master, "--port=0", "--webui-port=none", &work_dir, &users])
}

#[test]
fn users_that_cannot_be_are_refused() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    for (users, says) in [
        ("0-9", &["--executor-uids", "FIRST-LAST", "`none`"]),
        ("10-11", &["--executor-uids", "10-11", "too few"]),
    ] {
        worker(&place, users).ends_with(2).says(says);
    }
    open(&place, ".", 0o700);
    worker(&place, "3000000-3000009").ends_with(1).says(&[
        "--executor-uids 3000000-3000009",
        "can't get through",
        "--work-dir",
    ]);
    worker(&place, "1-4000000").ends_with(1).says(&["--executor-uids", "/etc/passwd"]);
}

#[test]
fn an_application_is_a_user_of_its_own_and_the_same_on_all_workers() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    // Two are for what compiles.
    let cluster = cluster(&place, "3000000-3000003", 2, 2);
    let start = |flags: &[&str]| {
        let run = cluster.rsubmit("pi").flag("--deploy-mode=cluster").flags(flags.iter().copied());
        let run = run.args(["100000000000", "4"]).run().succeeds();
        run.stdout.trim().to_owned()
    };
    // On all workers.
    let driver = start(&["--driver-memory=64m", "--executor-memory=64m", "--executor-cores=1"]);
    // And not what compiles for them.
    let children = || {
        let all = ["driver", "executor"].map(|verb| cluster.processes_that_are(verb));
        all.into_iter().flatten().map(|pid| pid.as_raw_nonzero().get() as u32).collect::<Vec<_>>()
    };
    let all_are = |process: &u32| whose(*process).0.iter().all(|user| user.starts_with("300000"));
    // Its driver has a core; the workers have four.
    wait_until("driver and executors are other users", || {
        children().len() == 4 && children().iter().all(all_are)
    });
    let on_both = (0..2).all(|worker| !cluster.children(worker).is_empty());
    assert!(on_both, "something of it runs on either worker");
    let users: BTreeSet<_> =
        children().iter().map(|process| whose(*process).0[0].clone()).collect();
    assert_eq!(users.len(), 1, "{users:?}");
    assert!(children().iter().all(|process| whose(*process).1.is_empty()), "and no groups");
    let user = users.first().unwrap();
    assert!(["3000002", "3000003"].contains(&user.as_str()), "no compiler's: {user}");
    for worker in 0..2 {
        let apps = |own: &PathBuf| own.parent().is_some_and(|dir| dir.ends_with("apps"));
        for own in cluster.leftovers(worker).into_iter().filter(apps) {
            let meta = fs::metadata(own).unwrap();
            assert!(&meta.uid().to_string() == user && meta.mode() & 0o077 == 0, "{meta:?}");
        }
    }
    cluster.rsubmit("pi").flags(["--kill", &driver]).run().succeeds();
    cluster.wait_until_clean();

    assert!(cluster.panics().is_empty());
}

#[test]
fn where_all_users_are_somebodys_nobody_elses_processes_run() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let cluster = cluster(&place, "3000000-3000002", 1, 4);
    let start = || {
        let run = cluster.rsubmit("pi").flags(["--deploy-mode=cluster", "--driver-memory=64m"]);
        let run = run.flag("--total-executor-cores=1").args(["100000000000", "4"]);
        run.run().succeeds().stdout.trim().to_owned()
    };
    let first = start();
    let running = |verb| cluster.processes_that_are(verb).len();
    let is_whole = || (running("driver"), running("executor")) == (1, 1);
    wait_until("the first has what it needs", is_whole);
    let second = start();
    wait_until("there is no user for the second", || {
        let status = cluster.ask(&["explain", &second]).succeeds().stdout;
        status.contains("--executor-uids 3000000-3000002") && status.contains("FAILED")
    });
    assert!(is_whole(), "the first one goes on");
    cluster.rsubmit("pi").flags(["--kill", &first]).run().succeeds();
    end(&cluster);
}

#[test]
fn jobs_of_other_users_write_folders_and_read_what_all_may() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let cluster = cluster(&place, "3000000-3000009", 2, 2);
    for part in 0..3 {
        place.write(&format!("in/{part}.txt"), "to be or not to be\n".repeat(1000));
    }
    place.write("stop", "to\n");
    // Images are mapped, what they shuffle is served.
    cluster.rsubmit("forks").args(["200000", "6"]).run().succeeds();
    let run = cluster.rsubmit("stopwords").args(["in", "stop", "3"]).run().succeeds();
    assert!(run.stdout.contains("be"), "{}", run.stdout);
    // A driver of this user, and one of the application's.
    cluster.rsubmit("wordcount").args(["in", "out"]).run().succeeds();
    fs::create_dir(place.path("shared")).unwrap();
    fs::set_permissions(place.path("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
    let run = cluster.rsubmit("wordcount").flags(["--deploy-mode=cluster", "--wait"]);
    run.args(["in", "shared/out"]).run().succeeds();
    for (folder, whose) in [("out", 0), ("shared/out", 3_000_000)] {
        let mut words = String::new();
        let (mut names, mut users) = (Vec::new(), BTreeSet::new());
        for entry in fs::read_dir(place.path(folder)).unwrap() {
            let entry = entry.unwrap();
            names.push(entry.file_name().into_string().unwrap());
            if names.last().unwrap().starts_with("part-") {
                words += &fs::read_to_string(entry.path()).unwrap();
                users.insert(entry.metadata().unwrap().uid());
            }
        }
        let mut lines: Vec<_> = words.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["be\t6000", "not\t3000", "or\t3000", "to\t6000"], "{folder}");
        assert!(!names.iter().any(|name| name.starts_with('_') && name != "_SUCCESS"), "{names:?}");
        assert!(users.len() == 1 && users.iter().all(|user| *user > 3_000_001), "{users:?}");
        let folder = fs::metadata(place.path(folder)).unwrap();
        match whose {
            0 => assert_eq!(folder.uid(), 0),
            _ => assert!(users.contains(&folder.uid()), "its driver is the same user"),
        }
    }
    // What only root may read they can't, granted or not.
    open(&place, "in/0.txt", 0o600);
    let run = cluster.rsubmit("wordcount").args(["in", "private"]).run();
    run.ends_with(1).says(&["in/0.txt: Permission denied (os error 13), as user 30000"]);
    assert!(!place.path("private").exists());
    open(&place, "in", 0o700);
    let run = cluster.rsubmit("wordcount").flag("--allow-read=in").args(["in", "private"]).run();
    run.ends_with(1).says(&[
        "no worker gives its executors what it is granted",
        "in/: Permission denied (os error 13), as user 30000",
    ]);
    end(&cluster);
}
