//! Volumes, what a worker's host offers, and secrets: what a job gets of them, and who else doesn't.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use ingle_tests::{Cluster, Place, Rsubmit, ingle, wait_until};

/// What nobody but the job may see.
const SECRET: &str = "swordfish-xyzzy-0815";

/// What is found of it.
const NOWHERE: [&Path; 0] = [];

/// What a job says of it.
fn known() -> String {
    let sum: u32 = SECRET.bytes().map(u32::from).sum();
    format!("{} bytes, {sum}", SECRET.len())
}

fn has_it(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|some| some == SECRET.as_bytes())
}

/// All files below a folder that have the secret.
fn files_with_it(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_with_it(&path));
        } else if has_it(&fs::read(&path).unwrap_or_default()) {
            found.push(path);
        }
    }
    found
}

fn page(address: &str, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("a page");
    let ask = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).expect("it listens");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{path}: {}", String::from_utf8_lossy(&answer));
    answer
}

/// Looks everywhere where somebody else might see it.
#[track_caller]
fn is_nowhere(place: &Place, cluster: &Cluster<'_>, id: &str) {
    for process in cluster.processes().into_iter().chain(cluster.workers.iter().map(|w| w.pid())) {
        for file in ["cmdline", "environ"] {
            let path = format!("/proc/{}/{file}", process.as_raw_nonzero());
            assert!(!has_it(&fs::read(&path).unwrap_or_default()), "{path}");
        }
    }
    for dir in [place.path(""), place.kept("")] {
        assert_eq!(files_with_it(&dir), NOWHERE);
    }
    for address in [cluster.master_page(), cluster.worker_page(0)] {
        for path in ["/", "/json"] {
            assert!(!has_it(&page(&address, path)), "{address}{path}");
        }
    }
    for verb in [&["apps"][..], &["explain", id], &["logs", id]] {
        let told = cluster.ask(verb).succeeds();
        assert!(!has_it(told.stdout.as_bytes()) && !has_it(told.stderr.as_bytes()), "{told}");
    }
}

#[test]
fn a_secret_is_the_jobs_alone() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    place.write("token", format!("{SECRET}\n"));
    let file = format!("--secret=TOKEN=@{}", place.path("token").display());
    let run = cluster.rsubmit("net").flag(&file).flags(["--deploy-mode=cluster", "-v"]);
    let run = run.flag("--total-executor-cores=1").args(["env", "TOKEN", "go"]).run().succeeds();
    let id = run.stdout.trim().to_owned();
    // Only there it is to be.
    fs::remove_file(place.path("token")).expect("it was read");
    wait_until("driver and executor", || cluster.processes().len() == 2);
    is_nowhere(&place, &cluster, &id);
    place.write("go", "");
    wait_until("its end", || cluster.ask(&["explain", &id]).stdout.contains("FINISHED"));
    let logs = cluster.ask(&["logs", &id]).succeeds().stdout;
    let known = known();
    assert!(
        logs.contains(&format!("driver: {known}")) && logs.contains(&format!("task: {known}")),
        "{logs}"
    );
    // Executors had the driver's memory as files.
    cluster.wait_until_clean();
    is_nowhere(&place, &cluster, &id);
    // And where the driver is the user's own.
    let rsubmit = cluster.rsubmit("net").flags(["--secret=TOKEN", "-v"]).env("TOKEN", SECRET);
    let run = rsubmit.args(["env", "TOKEN"]).run().succeeds();
    assert!(!has_it(run.stderr.as_bytes()), "{}", run.stderr);
    run.prints(&format!("driver: {known}\ntask: {known}\n"));
    cluster.wait_until_clean();
    is_nowhere(&place, &cluster, &id);
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_secret_is_not_written_on_the_command_line() {
    let place = Place::new();
    let refused = format!("--secret=TOKEN={SECRET}");
    let run = place.rsubmit("net").flag(&refused).args(["env", "TOKEN"]).run().ends_with(2);
    assert!(!has_it(run.stderr.as_bytes()), "{}", run.stderr);
    run.says(&["--secret TOKEN", "NAME=@FILE"]);
    let run = place.rsubmit("net").flag("--secret=TOKEN").args(["env", "TOKEN"]).run();
    run.ends_with(2).says(&["--secret TOKEN", "no variable of that name"]);
    let run = place.rsubmit("net").flag("--secret=TOKEN").env("TOKEN", SECRET);
    let known = known();
    let run = run.args(["env", "TOKEN"]).run().succeeds();
    run.prints(&format!("driver: {known}\ntask: {known}\n"));
}

#[test]
fn a_driver_that_a_new_master_starts_again_is_told_that_its_secrets_are_gone() {
    let place = Place::new();
    let mut cluster = Cluster::new(&place, 1, 1);
    let hog = cluster.rsubmit("pi").flag("--deploy-mode=cluster").args(["100000000000", "4"]);
    let hog = hog.run().succeeds().stdout.trim().to_owned();
    wait_until("a full worker", || !cluster.processes().is_empty());
    let run = cluster.rsubmit("net").flags(["--deploy-mode=cluster", "--secret=TOKEN"]);
    let run = run.env("TOKEN", SECRET).args(["env", "TOKEN"]).run().succeeds();
    let id = run.stdout.trim().to_owned();
    cluster.kill_master();
    assert_eq!(files_with_it(&place.kept("")), NOWHERE);
    cluster.start_master();
    cluster.rsubmit("pi").flags(["--kill", &hog]).run().succeeds();
    wait_until("its end", || cluster.ask(&["explain", &id]).stdout.contains("FAILED"));
    let told = cluster.ask(&["explain", &id]).succeeds().stdout;
    assert!(told.contains("secrets are gone") && told.contains("submit the job again"), "{told}");
}

#[test]
fn a_volume_is_what_each_host_has_by_its_name() {
    let place = Place::new();
    let mut cluster = Cluster::new(&place, 0, 1);
    place.write("here/a.txt", "of the client");
    place.write("there/a.txt", "of the worker");
    place.write("there/in/words.txt", "a b a\n");
    let (here, there) = (place.path("here"), place.path("there"));
    let (data, fixed) =
        (format!("data={}", there.display()), format!("fixed={}:ro", there.display()));
    cluster.start_worker_with(2, &["--grants=none", "--volume", &data, "--volume", &fixed]);
    let rsubmit = |job: &str| place.rsubmit(job).flags(["--master", &cluster.url]);
    let volume = format!("--volume=data={}", here.display());
    let run = rsubmit("net").flag(&volume).flag("--allow-read=volume:data");
    let run = run.args(["read", "/volumes/data/a.txt"]).run().succeeds();
    run.prints("driver: of the client\ntask: of the worker\n");
    // Where the driver is on the worker as well, nobody needs to know where it is.
    let run = rsubmit("wordcount").flags(["--deploy-mode=cluster", "--wait"]);
    let run = run.flags(["--allow-read=volume:fixed/in", "--allow-write=volume:data/out"]);
    run.args(["volume:fixed/in", "volume:data/out"]).run().succeeds();
    let words = place.table("there/out");
    assert_eq!((words.len(), words["a"].as_str()), (2, "2"));
    // Only what was granted, as it was granted.
    let run =
        rsubmit("net").flags(["--deploy-mode=cluster", "--wait", "--allow-read=volume:data/in"]);
    let run = run.args(["read", "/volumes/data/a.txt"]).run().succeeds();
    let logs = cluster.ask(&["logs", run.stdout.trim()]).succeeds().stdout;
    assert!(logs.contains("driver: ") && !logs.contains("of the worker"), "{logs}");
    let run =
        rsubmit("net").flags(["--deploy-mode=cluster", "--wait", "--allow-read=volume:fixed"]);
    let run = run.args(["write", "/volumes/fixed/new"]).run().succeeds();
    let logs = cluster.ask(&["logs", run.stdout.trim()]).succeeds().stdout;
    assert!(logs.contains("driver: ") && !logs.contains("written"), "{logs}");
    assert!(!place.exists("there/new"));
    cluster.wait_until_clean();
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn what_a_worker_does_not_offer_is_refused_with_what_it_does() {
    let place = Place::new();
    place.write("data/a.txt", "a");
    place.write("vol/a.txt", "of the volume");
    let mut cluster = Cluster::new(&place, 0, 1);
    let volume = format!("data={}:ro", place.path("vol").display());
    cluster.start_worker_with(1, &["--grants=none", "--volume", &volume]);
    let here = format!("--volume=data={}", place.path("vol").display());
    let rsubmit = |flag: &str| place.rsubmit("net").flags(["--master", &cluster.url, flag]);
    for (flag, words) in [
        ("--allow-read=data", &["--grants=none", "--allow-read=volume:data"][..]),
        ("--allow-write=volume:data", &["can only be read", ":ro"]),
        ("--allow-read=volume:else", &["no volume else", "(data)", "--volume else=PATH"]),
    ] {
        // The driver is refused, and where that is the user's own, executors are. Nobody is left to ask.
        let run = rsubmit(flag).flags(["--deploy-mode=cluster", "--wait"]);
        run.args(["env", "X"]).run().ends_with(1).says(words);
        let else_here = here.replace("data=", "else=");
        let run = rsubmit(flag).flags([&*here, &else_here]).args(["env", "X"]).run();
        run.ends_with(1)
            .says(words)
            .says(&["on the worker", "no worker gives its executors what it is granted"]);
    }
    let run = place.rsubmit("net").flag("--allow-read=volume:data").args(["env", "X"]).run();
    run.ends_with(2).says(&["no volume data", "--volume data=PATH"]);
    cluster.wait_until_clean();
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_job_runs_where_its_volumes_are() {
    let place = Place::new();
    place.write("vol/a.txt", "of the volume");
    let volume = format!("--volume=data={}", place.path("vol").display());
    let mut cluster = Cluster::new(&place, 1, 4);
    cluster.start_worker_with(2, &[&volume]);
    // The larger worker is tried first, by drivers as by executors.
    let read = |rsubmit: Rsubmit| rsubmit.args(["read", "/volumes/data/a.txt"]).run().succeeds();
    let rsubmit = || cluster.rsubmit("net").flag("--allow-read=volume:data");
    let run = read(rsubmit().flags([&*volume, "--num-executors=1"]));
    run.prints("driver: of the volume\ntask: of the volume\n");
    let run = read(rsubmit().flags(["--deploy-mode=cluster", "--wait"]));
    let logs = cluster.ask(&["logs", run.stdout.trim()]).succeeds().stdout;
    assert!(logs.contains("task: of the volume"), "{logs}");
    cluster.wait_until_clean();
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_workers_own_folder_is_granted_to_nobody() {
    let place = Place::new();
    let mut cluster = Cluster::new(&place, 1, 2);
    let own = place.kept("worker-0");
    std::os::unix::fs::symlink(&own, place.path("link")).expect("a link");
    let above = own.parent().expect("a folder").display().to_string();
    for path in [
        &own.display().to_string(),
        &own.join("code").display().to_string(),
        &above,
        "link",
        "/proc/self",
        "/",
    ] {
        for flag in ["--allow-read", "--allow-write"] {
            let rsubmit = place.rsubmit("net").flags(["--master", &cluster.url]);
            let rsubmit = rsubmit.flag(format!("{flag}={path}"));
            let run = rsubmit.args(["env", "X"]).run().ends_with(1);
            run.says(&[flag, "no job may touch", "on the worker"]);
        }
    }
    let code = format!("--volume=code={}", own.join("code").display());
    let url = cluster.url.clone();
    let dir = format!("--work-dir={}", place.kept("worker-0").display());
    // Another worker would say so when it starts.
    cluster.workers.remove(0).end();
    ingle(&place, ["worker", &url, "--port=0", "--webui-port=none", &dir, &code])
        .ends_with(1)
        .says(&["--volume code", "no job may touch"]);
    ingle(&place, ["worker", &url, "--grants=none,/x"]).ends_with(1).says(&["--grants", "none"]);
    for (flag, words) in
        [("--net=public,host", "--net host: write ADDRESS"), ("--net=none,::1", "--net none")]
    {
        ingle(&place, ["worker", &url, flag]).ends_with(1).says(&[words]);
    }
    for key in ["grants", "net"] {
        place.write("empty.toml", format!("[worker]\n{key} = []\n"));
        let config = format!("--config={}", place.path("empty.toml").display());
        let words = format!("{key} = []: write [\"none\"]");
        ingle(&place, ["worker", &url, &config]).ends_with(1).says(&[&words]);
    }
    ingle(&place, ["worker", &url, "--volume=x"]).ends_with(1).says(&["--volume x", "NAME=PATH"]);
}

/// What this user's programs keep where nobody says where.
fn usual_folders() -> Vec<PathBuf> {
    let folder = |variable: &str, usual: &str| {
        let said = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        Some(said.or_else(|| Some(std::env::home_dir()?.join(usual)))?.join("ingle"))
    };
    let folders = [folder("XDG_CACHE_HOME", ".cache"), folder("XDG_STATE_HOME", ".local/state")];
    folders.into_iter().flatten().collect()
}

#[test]
fn what_rsubmit_and_other_daemons_keep_is_granted_to_nobody() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    let folders = usual_folders();
    assert_eq!(folders.len(), 2, "there is a home folder");
    for folder in folders {
        // Whether it is there yet or not.
        let path = folder.join("not-yet/either").display().to_string();
        let rsubmit = place.rsubmit("net").flags(["--master", &cluster.url]);
        let run = rsubmit.flag(format!("--allow-write={path}")).args(["env", "X"]).run();
        run.ends_with(1).says(&["--allow-write", "no job may touch", "on the worker"]);
    }
}

#[test]
fn what_is_closed_is_closed_wherever_else_it_is_mounted() {
    let private = ["--mount", "--propagation", "private", "true"];
    let tried = std::process::Command::new("unshare").args(private).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        eprintln!("SKIPPED: this host doesn't let it mount anything");
        return;
    }
    let place = Place::new();
    let mut cluster = Cluster::new(&place, 0, 1);
    let own = place.kept("worker-0");
    fs::create_dir_all(&own).expect("a folder");
    // The driver finds folders there as well, of the same names.
    fs::create_dir_all(place.path("alias/worker-0/apps")).expect("a folder");
    fs::create_dir_all(place.path("beside")).expect("a folder");
    let above = own.parent().expect("a folder").to_owned();
    cluster.bound = Some([above, place.path("alias")]);
    cluster.start_worker(1);
    for path in ["alias/worker-0", "alias/worker-0/apps", "alias", "."] {
        for flag in ["--allow-read", "--allow-write"] {
            let rsubmit = place.rsubmit("net").flags(["--master", &cluster.url]);
            let run = rsubmit.flag(format!("{flag}={path}")).args(["env", "X"]).run();
            run.ends_with(1).says(&[flag, "no job may touch", "on the worker"]);
        }
    }
    let rsubmit = place.rsubmit("net").flags(["--master", &cluster.url, "--allow-read=beside"]);
    rsubmit.args(["env", "X"]).run().succeeds();
}
