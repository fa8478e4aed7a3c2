//! What processes that run guests on a worker have given up. Which walls a host has depends on it: what isn't there is said, and skipped.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ingle_tests::{Cluster, Place, groups_of, ingle, missing_walls, wait_until};
use rustix::process::{Pid, Signal};

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
    let missing = missing_walls(&place);
    let cluster = Cluster::new(&place, 1, 2);
    let granted = ["--total-executor-cores=1", "--executor-memory=1g", "--driver-memory=1g"];
    let run = cluster.rsubmit("pi").flag("--deploy-mode=cluster").flags(granted);
    let run = run.args(["100000000000", "4"]).run().succeeds();
    let driver = run.stdout.trim().to_owned();
    // And not what compiles for them.
    let children = || {
        let all = ["driver", "executor"].map(|verb| cluster.processes_that_are(verb));
        all.into_iter().flatten().map(|pid| pid.as_raw_nonzero().get() as u32)
    };
    wait_until("driver and executor are behind their walls", || {
        let filtered = |process| field(&kernel(process, "status"), "Seccomp") != "0";
        // Its worker puts it there while it gets there, into that of cores last; in version 2 there is one for all.
        let is_last = |(name, _): &(String, _)| name.is_empty() || name == "cpu";
        let bounded = |process| missing.contains("cores") || groups_of(process).iter().any(is_last);
        children().count() == 2
            && (missing.contains("calls") || children().all(filtered))
            && children().all(bounded)
    });
    let mut groups = BTreeSet::new();
    let drivers = cluster.processes_that_are("driver");
    for process in children() {
        stand(&kernel(process, "status"), "0000000000000000", &missing);
        leaves_no_core(process);
        let environment = kernel(process, "environ");
        assert!(!environment.contains("PATH=") && !environment.contains("HOME="), "{environment}");
        let own = groups_of(process);
        // Each has a core and 1 GiB, and what its process needs itself; a driver as much again for what its host keeps.
        let is_driver = drivers.iter().any(|pid| pid.as_raw_nonzero().get() as u32 == process);
        let memory = (1 << 30) + (512 << 20) + if is_driver { 1 << 30 } else { 0 };
        for (wall, files, most) in [
            ("memory", ["memory.max", "memory.limit_in_bytes"], memory),
            ("threads", ["pids.max", "pids.max"], 1024 + 8),
        ] {
            let paths = files.iter().flat_map(|file| own.iter().map(move |(_, g)| g.join(file)));
            let bound = paths.into_iter().find_map(|path| fs::read_to_string(path).ok());
            let bound = bound.and_then(|bound| bound.trim().parse::<u64>().ok());
            assert!(missing.contains(wall) || bound == Some(most), "{wall}: {bound:?} {own:?}");
        }
        groups.extend(own.into_iter().map(|(_, group)| group));
    }
    cluster.ask(&["explain", &driver]).succeeds();
    cluster.rsubmit("pi").flags(["--kill", &driver]).run().succeeds();
    cluster.wait_until_clean();
    wait_until("their groups are gone", || !groups.iter().any(|group| group.exists()));
}

/// One that can't notice that its worker is gone, as one wouldn't that was broken out of.
#[test]
fn what_a_worker_started_ends_with_it_willing_or_not() {
    let place = Place::new();
    // What loses its parent comes to this process. Else the kernel wakes those of a group that nobody looks after, and hangs up on them.
    let this = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(this)).unwrap();
    let mut cluster = Cluster::new(&place, 1, 2);
    let run = cluster.rsubmit("pi").flags(["--deploy-mode=cluster", "--total-executor-cores=1"]);
    run.args(["100000000000", "4"]).run().succeeds();
    let is_behind_walls = |pid: &Pid| {
        field(&kernel(pid.as_raw_nonzero().get() as u32, "status"), "NoNewPrivs") == "1"
    };
    let mut executor = None;
    wait_until("an executor runs", || {
        executor = cluster.processes_that_are("executor").into_iter().find(is_behind_walls);
        executor.is_some()
    });
    let executor = executor.unwrap();
    rustix::process::kill_process(executor, Signal::STOP).unwrap();
    cluster.replace_worker(0, 2);
    wait_until("it is gone", || !cluster.processes_that_are("executor").contains(&executor));
    rustix::process::set_child_subreaper(None).unwrap();
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
        place.write(&format!("in/{part}.txt"), "to be or not to be\n".repeat(1000));
    }
    cluster.rsubmit("wordcount").args(["in", "out"]).run().succeeds();
    cluster.wait_until_clean();
}

/// What is around a thread, by what the kernel says of it.
#[track_caller]
fn stand(status: &str, capabilities: &str, missing: &BTreeSet<String>) {
    for (wall, name, expected) in [
        ("privileges", "NoNewPrivs", "1"),
        ("capabilities", "CapEff", capabilities),
        ("capabilities", "CapPrm", capabilities),
        ("calls", "Seccomp", "2"),
    ] {
        if !missing.contains(wall) {
            assert_eq!(field(status, name), expected, "{name}\n{status}");
        }
    }
}

#[track_caller]
fn leaves_no_core(process: u32) {
    let limits = kernel(process, "limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    assert!(core.is_some_and(|line| line.contains(" 0 ")), "{limits}");
}

/// A process that runs a guest without a worker: what the kernel says of it, and of each of its threads.
#[track_caller]
fn is_behind_its_walls(process: u32, missing: &BTreeSet<String>) {
    let root = rustix::process::geteuid().is_root();
    // What root goes on having is to open what was granted, whoever owns it.
    let capabilities = if root { "0000000000000002" } else { "0000000000000000" };
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let threads: Vec<_> = threads.map(|entry| entry.unwrap().path().join("status")).collect();
    assert!(threads.len() > 2, "slots, and the driver: {threads:?}");
    for thread in threads {
        // It may have ended.
        let Ok(status) = fs::read_to_string(&thread) else { continue };
        stand(&status, capabilities, missing);
    }
    leaves_no_core(process);
}

#[test]
fn a_guest_without_a_worker_is_behind_the_walls_of_its_process() {
    let place = Place::new();
    let missing = missing_walls(&place);
    let cluster = Cluster::new(&place, 1, 2);
    let granted = ["--allow-read=.", "--allow-write=."];
    for run in [place.rsubmit("evil"), cluster.rsubmit("evil")] {
        let running = run.flags(granted).args(["loop-sleep"]).spawn();
        running.wait_for("started");
        is_behind_its_walls(running.pid().as_raw_nonzero().get() as u32, &missing);
        running.signal(Signal::INT);
        running.wait().ends_with(130).says(&["evil was interrupted"]);
    }
    let running = place.rsubmit("evil").conf("ingle.walls", "off").args(["loop-sleep"]).spawn();
    running.wait_for("started");
    let status = kernel(running.pid().as_raw_nonzero().get() as u32, "status");
    let inherited = kernel(std::process::id(), "status");
    for name in ["NoNewPrivs", "CapEff", "Seccomp"] {
        assert_eq!(field(&status, name), field(&inherited, name), "switched off");
    }
    running.signal(Signal::INT);
    running.wait().ends_with(130);
    assert_eq!(place.forgotten(), [] as [&Path; 0]);
    cluster.wait_until_clean();
}

/// What took the place of a granted file after the walls were raised isn't what was granted: only those keep the host from opening it.
#[test]
fn the_host_opens_only_what_was_granted() {
    let place = Place::new();
    let missing = missing_walls(&place);
    place.write("there/x", "");
    for (walls, switch) in [(true, "on"), (false, "off")] {
        place.write("file", "granted\n");
        let run = place.rsubmit("evil").flags(["--allow-read=there,file"]);
        let running = run.conf("ingle.walls", switch).args(["read-later", "there", "file"]).spawn();
        running.wait_for("started");
        place.write("other", "another\n");
        fs::rename(place.path("other"), place.path("file")).unwrap();
        let go = place.write("there/go", "");
        let run = running.wait();
        if walls && !missing.contains("files") {
            run.ends_with(1).says(&["ermission denied"]);
        } else {
            run.succeeds().prints("[\"another\"]\n");
        }
        fs::remove_file(go).unwrap();
    }
}

#[test]
fn root_reads_and_writes_what_was_granted_whoever_owns_it() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can have files of others");
        return;
    }
    let place = Place::new();
    let file = place.write("in/file", "to be or not to be\n");
    for (path, mode) in [(file, 0o600), (place.path("in"), 0o700)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&path, Some(3_000_000), Some(3_000_000)).unwrap();
    }
    place.rsubmit_granted("wordcount").args(["in", "in/out"]).run().succeeds();
    assert_eq!(place.table("in/out")["be"], "2");
}

/// A component may be made to break a compiler: what compiles it has nothing, and what it made is loaded behind walls.
#[test]
fn a_job_is_compiled_once_by_a_process_behind_walls() {
    let place = Place::new();
    let missing = missing_walls(&place);
    let submit = || {
        let run = place.rsubmit("operators").conf("ingle.cache.dir", "cache").flag("--verbose");
        run.conf("ingle.local.dir", ".").args(["nothing"])
    };
    let is_root = rustix::process::geteuid().is_root();
    let walled = |process: &Pid| {
        let status = kernel(process.as_raw_nonzero().get() as u32, "status");
        let is_walled = missing.contains("calls") || field(&status, "Seccomp") == "2";
        // Root's is nobody's.
        is_walled && (!is_root || field(&status, "Uid").starts_with("2009999999"))
    };
    let running = submit().spawn();
    running.wait_for("compiling");
    wait_until("it is compiled behind walls", || running.children().iter().any(walled));
    running.signal(Signal::INT);
    running.wait().ends_with(130).says(&["operators was interrupted"]);
    assert_eq!(place.names("."), ["cache"], "what was made to run it is gone");
    assert_eq!(place.names("cache"), ["key"]);

    for (said, compiles) in [("compiling", true), ("compiling", false)] {
        let run = submit().run().ends_with(1);
        assert_eq!(run.stderr.contains(said), compiles, "{run}");
        let names = place.names("cache");
        let entries = names.iter().filter(|name| name.ends_with(".cwasm")).count();
        assert_eq!((names.len(), entries), (2, 1), "{names:?}");
    }
}

#[test]
fn rsubmit_asks_for_walls_by_their_names() {
    let place = Place::new();
    let submit = |flag: &str| place.rsubmit("pi").flag(flag).args(["10", "1"]).run();
    submit("--require-walls=files,moat").ends_with(2).says(&["`moat` is no wall", "descriptors"]);
    submit("--require-walls=memory").ends_with(2).says(&["only a worker puts `memory`"]);
    submit("--conf=ingle.walls=no").ends_with(2).says(&["ingle.walls is `no`; it is on or off"]);
    let of_process = |wall: &String| !["memory", "threads", "cores", "user"].contains(&&**wall);
    let asked = submit("--require-walls=all");
    match missing_walls(&place).into_iter().find(of_process) {
        None => drop(asked.succeeds()),
        Some(wall) => drop(asked.ends_with(4).says(&[&wall, "--require-walls asks for it"])),
    }
    let run = place.rsubmit("pi").flags(["--master=ingle://127.0.0.1:9", "--deploy-mode=cluster"]);
    let run = run.flag("--require-walls=all").args(["10", "1"]).run();
    run.ends_with(2).says(&["--require-walls", "`ingle worker` has that flag"]);
}

#[test]
fn a_worker_that_lacks_a_wall_that_it_requires_does_not_start() {
    let place = Place::new();
    ingle(&place, ["worker", "ingle://127.0.0.1:9", "--require-walls=files,moat"])
        .ends_with(1)
        .says(&["`moat` is no wall", "descriptors", "calls", "all"]);
    let missing = missing_walls(&place);
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
