//! A cluster under attack, with a neighbour who must not notice.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ingle_tests::{Cluster, Place, Rsubmit, Run, Running, groups_of, of_a_host_panic, wait_until};

use crate::attack::{Attack, By, End};

/// What no daemon needs.
const MUCH: u64 = 400 << 20;
/// What may be open beside what was at the start: connections that end in their own time.
const SLACK: usize = 16;
/// The worker keeps so much of each log.
pub const LOG: usize = 1 << 20;
/// What a failure may say: `MAX_MESSAGE_BYTES` of the sandbox, and some words around it.
const WORDS: usize = 20 << 10;
/// And all that is said of one.
const ALL_WORDS: usize = 256 << 10;
/// Who works on has done something in so long, whatever the machine is busy with.
const LONG: Duration = Duration::from_secs(10);

/// What a field of attack leaves behind when nothing leaks.
struct Usual {
    descriptors: Vec<usize>,
    threads: Vec<usize>,
    groups: BTreeSet<PathBuf>,
}

pub struct Field<'a> {
    place: &'a Place,
    pub cluster: Cluster<'a>,
    neighbour: Running,
    /// Where the worker makes cgroups.
    parents: Vec<PathBuf>,
    usual: Usual,
}

/// A test's folder with what attackers are granted, and what they must not reach.
pub fn place() -> Place {
    let place = Place::new();
    place.write("granted/data/in.txt", "granted\n");
    place.write("granted/data/sub/x", "");
    place.write("granted/ro/in.txt", "granted\n");
    place.write("granted/ro/sub/x", "");
    place.write("granted/secret.txt", SECRET);
    place
}

/// What an attacker is granted of the machine.
const LITTLE: [&str; 5] = [
    "--conf=ingle.executor.memory=256m",
    "--conf=ingle.driver.memory=512m",
    "--conf=ingle.task.maxFailures=1",
    // Both slots in one executor, even while one of the attacker's before it is on its way out.
    "--executor-cores=2",
    "--total-executor-cores=2",
];
const SECRET: &str = "secret of the place\n";

impl<'a> Field<'a> {
    pub fn new(place: &'a Place) -> Self {
        let mut cluster = Cluster::new(place, 0, 4);
        cluster.start_worker_with(4, &["--log-size", "1m"]);
        let neighbour = cluster.rsubmit("evil").flag("--total-executor-cores=1");
        let neighbour =
            neighbour.flag("--executor-memory=256m").args(["neighbour", "stop"]).spawn();
        neighbour.wait_for("started");
        let parents = parents(&cluster);
        let groups = groups(&parents);
        if groups.is_empty() {
            eprintln!("SKIPPED: this host has no cgroups for executors: `ingle doctor` says why");
        }
        let usual = Usual { descriptors: open_files(&cluster), threads: threads(&cluster), groups };
        Self { place, cluster, neighbour, parents, usual }
    }

    /// The attacker's `rsubmit`: granted two folders, and little memory.
    pub fn attacker(&self, job: &str) -> Rsubmit {
        granted(self.place, job).flag("--master").flag(&self.cluster.url)
    }

    /// As [`Field::attacker`], of a file.
    pub fn attacker_file(&self, file: &Path) -> Rsubmit {
        let rsubmit = self.place.rsubmit_file(file).flag("--master").flag(&self.cluster.url);
        rsubmit.flags(LITTLE)
    }

    /// The process of the neighbour's driver.
    pub fn neighbour_pid(&self) -> i32 {
        self.neighbour.pid().as_raw_nonzero().get()
    }

    /// Runs an attack in all of its ways, and looks at what it did to others.
    pub fn hold(&self, attack: &Attack) {
        let runs = |ways: &[(&str, &str)]| {
            let job = self.attacker("hostile").flags(attack.flags.iter().copied());
            let job = job.args([attack.name, attack.by.name()]);
            let (began, beats) = (Instant::now(), self.beats());
            check(attack, ways, &job.args(ways.iter().map(|(way, _)| *way)).run());
            let stood_still = began.elapsed() > LONG && self.beats() == beats;
            assert!(!stood_still, "{}: the neighbour stood still meanwhile", attack.name);
            self.unharmed(attack.name);
        };
        in_turn(attack, runs);
    }

    /// How often the neighbour was right so far.
    fn beats(&self) -> u64 {
        self.place.read("beat").parse().expect("a number")
    }

    /// Nobody else may have noticed, and nothing may be left.
    #[track_caller]
    pub fn unharmed(&self, attack: &str) {
        assert!(self.neighbour.runs(), "{attack}: the neighbour ended: {}", self.neighbour.said());
        assert!(self.cluster.workers.iter().all(Running::runs), "{attack}: a worker ended");
        assert_eq!(self.cluster.panics(), [""; 0], "{attack}");
        let beats = self.beats();
        wait_until(&format!("{attack}'s neighbour to go on"), || self.beats() > beats);
        // One process, and one folder, is the neighbour's.
        wait_until(&format!("{attack} to leave nothing"), || {
            self.cluster.processes().len() == 1 && self.cluster.leftovers(0).len() == 1
        });
        let few = |now: Vec<usize>, usual: &[usize]| {
            now.iter().zip(usual).all(|(now, usual)| *now <= usual + SLACK)
        };
        wait_until(&format!("{attack}'s descriptors and threads to be closed"), || {
            few(open_files(&self.cluster), &self.usual.descriptors)
                && few(threads(&self.cluster), &self.usual.threads)
        });
        wait_until(&format!("{attack}'s cgroups to be removed"), || {
            groups(&self.parents) == self.usual.groups
        });
        let resident = self.cluster.peaks();
        assert!(resident.iter().all(|bytes| *bytes < MUCH), "{attack}: {resident:?}");
    }

    /// The neighbour ends as it would have without anybody.
    pub fn end(self) {
        self.place.write("stop", "");
        let run = self.neighbour.wait().succeeds();
        run.says_not(&["lost", "panicked", "failed"]).prints("undisturbed, on executors {0}\n");
        self.cluster.wait_until_clean();
        assert_eq!(self.place.forgotten(), [""; 0].map(std::path::PathBuf::from));
        // Workers remove them in the background.
        wait_until("the cgroups to be removed", || groups(&self.parents).is_empty());
        intact(self.place);
    }
}

/// `rsubmit` with two folders granted.
fn granted(place: &Place, job: &str) -> Rsubmit {
    let grants = ["--allow-read=data", "--allow-write=data", "--allow-read=ro"];
    place.rsubmit_in("granted", job).flags(grants).flags(LITTLE)
}

/// What the attackers were not to change is as it was.
#[track_caller]
fn intact(place: &Place) {
    assert_eq!(place.read("granted/secret.txt"), SECRET);
    assert_eq!(place.read("granted/ro/in.txt"), "granted\n");
    assert_eq!(place.names("granted"), ["data", "ro", "secret.txt"]);
    assert_eq!(place.names("granted/ro"), ["in.txt", "sub"]);
}

/// Ways that end the driver, or cost an executor, are tried each in a run of its own.
fn in_turn(attack: &Attack, run: impl Fn(&[(&'static str, &'static str)])) {
    match attack.end {
        End::GoesOn => run(attack.ways),
        End::Replaced | End::DriverEnds | End::Spent => {
            attack.ways.iter().for_each(|way| run(&[*way]))
        }
    }
}

/// As [`Field::hold`], in local mode: where there is nobody else.
pub fn hold_locally(place: &Place, attack: &Attack) {
    in_turn(attack, |ways| {
        let job = granted(place, "hostile").flag("--master=local[2]");
        let job = job.flags(attack.flags.iter().copied()).args([attack.name, attack.by.name()]);
        check(attack, ways, &job.args(ways.iter().map(|(way, _)| *way)).run());
    });
    intact(place);
    assert_eq!(place.forgotten(), [""; 0].map(std::path::PathBuf::from));
}

/// Its words came, and it ended as it must.
#[track_caller]
fn check(attack: &Attack, ways: &[(&str, &str)], run: &Run) {
    let name = attack.name;
    assert!(!run.stdout.contains("ESCAPED"), "{name} got through\n{run}");
    assert!(!of_a_host_panic(&run.stderr), "{name}: the host panicked\n{run}");
    // But for what tasks print, which is their own.
    let words = run.stderr.lines().filter(|line| !line.starts_with('['));
    assert!(words.map(str::len).sum::<usize>() < ALL_WORDS, "{name}: too many words\n{run}");
    let code = match attack.end {
        End::GoesOn | End::Replaced => 0,
        End::DriverEnds | End::Spent => 1,
    };
    assert_eq!(run.status.code(), Some(code), "{name}\n{run}");
    for (way, words) in ways {
        let told = run.stdout.lines().find_map(|line| line.strip_prefix(way)?.strip_prefix(": "));
        let told = if attack.end == End::DriverEnds { Some(&*run.stderr) } else { told };
        let told = told.unwrap_or_else(|| panic!("{name} {way} never ended\n{run}"));
        assert!(told.len() < WORDS, "{name} {way}: too many words\n{run}");
        let came = words.split(" | ").any(|words| told.contains(words));
        assert!(came, "{name} {way}: no `{words}`\n{run}");
    }
    let others = "others: went on, on executors {0} before and {0} after";
    match attack.end {
        End::GoesOn => assert!(run.stdout.contains(others), "{name}\n{run}"),
        End::Replaced => {
            assert!(run.stdout.contains("others: went on"), "{name}\n{run}");
            // In local mode a thread takes the place.
            let replaced = ["takes its place", "takes the place of its own"];
            assert!(replaced.iter().any(|words| run.stderr.contains(words)), "{name}\n{run}");
        }
        End::DriverEnds | End::Spent => {}
    }
    if attack.by != By::Driver && attack.end == End::GoesOn {
        assert!(!run.stderr.contains("is lost"), "{name} cost an executor\n{run}");
    }
}

/// What the daemons have open.
fn open_files(cluster: &Cluster<'_>) -> Vec<usize> {
    count(cluster, "fd")
}

fn threads(cluster: &Cluster<'_>) -> Vec<usize> {
    count(cluster, "task")
}

fn count(cluster: &Cluster<'_>, what: &str) -> Vec<usize> {
    let of = |pid: rustix::process::Pid| {
        let dir = format!("/proc/{}/{what}", pid.as_raw_nonzero());
        fs::read_dir(dir).map_or(0, Iterator::count)
    };
    cluster.daemons().into_iter().map(of).collect()
}

/// Where the groups of a worker's processes are: those above one of these.
fn parents(cluster: &Cluster<'_>) -> Vec<PathBuf> {
    let executors = cluster.processes_that_are("executor");
    let [process] = executors[..] else { panic!("the neighbour has no executor") };
    let groups = groups_of(process.as_raw_nonzero());
    groups.iter().filter_map(|(_, group)| Some(group.parent()?.to_owned())).collect()
}

/// The groups of the worker's processes.
fn groups(parents: &[PathBuf]) -> BTreeSet<PathBuf> {
    let inside =
        parents.iter().flat_map(|parent| fs::read_dir(parent).into_iter().flatten().flatten());
    inside.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}
