//! Objects read and written by whole processes: in every mode, by a store that misbehaves, and with kills in between. Answers are exact,
//! outputs are whole or not there, and no upload is left.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use ingle_tests::s3::{Done, Fault, Gate, Operation, PUBLIC, S3, SECRET_KEY, When};
use ingle_tests::{Cluster, Place, Rsubmit, Run, Running, texts, wait_until};
use rustix::process::{Signal, kill_process};

const FAILED: i32 = 1;

/// A store with text of which the words are counted.
struct World {
    s3: S3,
    place: Place,
    words: BTreeMap<String, String>,
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("it is in memory");
    encoder.finish().expect("it is in memory")
}

impl World {
    /// Large enough that an object is cut, and its lines with it.
    fn new() -> Self {
        Self::of(100_000)
    }

    /// So many lines in an object of its own, as many in one that is compressed, and in several: all in all more than one page of a list
    /// has.
    fn of(lines: usize) -> Self {
        let (s3, place) = (S3::new(), Place::new());
        let (texts, words) = texts(3, lines);
        let [first, second, third] = texts.as_slice() else { panic!("three texts") };
        s3.put("in/a.txt", first.clone());
        let pieces: Vec<_> = second.lines().collect();
        for (number, lines) in pieces.chunks(lines.div_ceil(12)).enumerate() {
            s3.put(&format!("in/b-{number:02}.txt"), lines.join("\n"));
        }
        s3.put("in/c.txt.gz", gzipped(third));
        Self { s3, place, words }
    }

    /// Word count of `in` to `out`.
    fn count(&self, job: Rsubmit, out: &str) -> Rsubmit {
        self.s3.submit(self.granted(job)).args(["s3://bucket/in", &format!("s3://bucket/{out}")])
    }

    fn granted(&self, job: Rsubmit) -> Rsubmit {
        job.flags(["--allow-read=s3://bucket/in", "--allow-write=s3://bucket/"])
    }

    fn rsubmit(&self) -> Rsubmit {
        let job = self.place.rsubmit("wordcount").flags(["--master", "local[4]"]);
        job.conf("ingle.local.oversubscribe", "true")
    }

    /// As [`World::count`], on this machine.
    fn local(&self, out: &str) -> Rsubmit {
        self.count(self.rsubmit(), out)
    }

    /// As [`World::count`], on a cluster.
    fn spread(&self, cluster: &Cluster<'_>, out: &str) -> Rsubmit {
        self.count(cluster.rsubmit("wordcount"), out)
    }

    /// The output is whole, and its answer right.
    #[track_caller]
    fn check(&self, out: &str) {
        assert_eq!(self.s3.table(out), self.words);
        // It was said to be whole when all of it was there.
        let log = self.s3.log();
        let place_of = |operation: Operation, key: &str| {
            let is =
                |done: &Done| (done.operation, done.status) == (operation, 200) && done.key == key;
            log.iter().rposition(is).unwrap_or_else(|| panic!("no {operation:?} of {key}"))
        };
        let whole = place_of(Operation::Put, &format!("{out}/_SUCCESS"));
        for part in self.s3.keys(&format!("{out}/part-")) {
            assert!(place_of(Operation::Complete, &format!("{out}/part-{part}")) < whole);
        }
    }

    /// Nothing is there of an output, nor of how it was made.
    #[track_caller]
    fn check_nothing_of(&self, out: &str) {
        assert_eq!(self.s3.keys(&format!("{out}/")), [""; 0]);
        assert_eq!(self.s3.pending(), [""; 0], "uploads are left");
    }
}

#[test]
fn words_of_objects_are_counted_in_every_mode() {
    let world = World::new();
    for unwanted in ["in/_SUCCESS", "in/.hidden", "in/deeper/d.txt", "in.txt", "inside"] {
        world.s3.put(unwanted, "unwanted");
    }
    let cluster = Cluster::new(&world.place, 2, 4);
    let here = || world.rsubmit();
    let client = || cluster.rsubmit("wordcount");
    let driver = || cluster.rsubmit("wordcount").flags(["--deploy-mode", "cluster", "--wait"]);
    let modes: [(&str, &dyn Fn() -> Rsubmit); 3] =
        [("local", &here), ("client", &client), ("cluster", &driver)];
    for (name, mode) in modes {
        // So many parts that a list of all that was made for them has several pages.
        let job = mode().conf("ingle.default.parallelism", "12");
        let ranges = world.s3.count(Operation::Get, 206);
        world.count(job, name).run().succeeds();
        world.check(name);
        assert!(world.s3.count(Operation::Get, 206) > ranges, "it was read in ranges");
    }
    for (name, mode) in modes {
        let out = format!("by variables & ümlaut+more/{name}");
        let job = world.s3.submit_by_variables(world.granted(mode()));
        job.args(["s3a://bucket/in/*.{txt,txt.gz}", &format!("s3://bucket/{out}")])
            .run()
            .succeeds();
        world.check(&out);
    }
    // What was written is read as well.
    let job = world.s3.submit_by_variables(here());
    let job = job.flags(["--allow-read=s3://bucket/local", "--allow-write=."]);
    job.args(["s3://bucket/local", "again"]).run().succeeds();
    let again = world.place.table("again");
    assert!(world.words.keys().all(|word| again.get(word).is_some_and(|n| n == "1")));
    cluster.wait_until_clean();
    assert_eq!(cluster.panics(), [""; 0]);
    // The master has them in its memory, for a driver that is started again; nobody stores them.
    for dir in [world.place.path(""), world.place.kept("")] {
        assert_eq!(files_with_keys(&dir), [] as [&Path; 0]);
    }
}

/// All files below a folder in which the secret key is.
fn files_with_keys(dir: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("it is there"));
    let in_one = |path: PathBuf| {
        if path.is_dir() {
            return files_with_keys(&path);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        let has_it = bytes.windows(SECRET_KEY.len()).any(|some| some == SECRET_KEY.as_bytes());
        Vec::from_iter(has_it.then_some(path))
    };
    entries.flat_map(|entry| in_one(entry.path())).collect()
}

#[test]
fn what_a_web_server_has_is_read() {
    let world = World::new();
    for key in ["a.txt", "weak.txt"] {
        world.s3.put_in(PUBLIC, &format!("texts/{key}"), world.s3.read("in/a.txt"));
    }
    world.s3.weaken("texts/weak.txt");
    let texts = format!("{}/public/texts", world.s3.endpoint());
    let count = |name: &str, out: &str| {
        let job = world.rsubmit().flag(format!("--allow-read={texts}")).flag("--allow-write=.");
        job.arg(format!("{texts}/{name}")).arg(out).run()
    };
    let (_, expected) = ingle_tests::texts(1, 100_000);
    for name in ["a.txt", "weak.txt"] {
        count(name, name).succeeds();
        assert_eq!(world.place.table(name), expected);
    }
    let ranges = || world.s3.count(Operation::Get, 206);
    let before = ranges();
    assert!(before > 0, "it was read in ranges");
    world.s3.misbehave(When::is(Operation::Get), Fault::NoRanges);
    count("a.txt", "without ranges").succeeds();
    assert_eq!((world.place.table("without ranges"), ranges()), (expected, before));
    count("none.txt", "out").ends_with(FAILED).says(&["/public/texts/none.txt doesn't exist"]);
    count("*.txt", "out").ends_with(FAILED).says(&["/public/texts/*.txt", "named by itself"]);
    assert!(!world.place.exists("out"));
}

/// A job for which the store misbehaves, on this machine; it isn't any the worse.
#[track_caller]
fn survives(world: &World, out: &str, when: When, fault: Fault) {
    world.s3.misbehave(when, fault);
    let run = world.local(out).run();
    world.s3.behave();
    // Not even a task fails for it.
    run.succeeds().says_not(&["is tried again"]);
    world.check(out);
}

#[test]
fn a_store_that_is_unavailable_now_and_then_is_asked_again() {
    let world = World::of(2_000);
    survives(&world, "out", When::any().every(4), Fault::Unavailable);
    assert!(world.s3.log().iter().filter(|done| done.status == 503).count() >= 5);
}

#[test]
fn bodies_that_break_off_are_read_on() {
    let world = World::new();
    survives(&world, "out", When::is(Operation::Get).every(2), Fault::Cut(100_000));
}

#[test]
fn what_is_done_though_its_answer_is_lost_counts_once() {
    use Operation::*;
    let world = World::of(200);
    for operation in [Get, Head, List, Put, Begin, Part, Complete, Delete] {
        println!("the first answer to {operation:?} is lost");
        survives(&world, &format!("out-{operation:?}"), When::is(operation).most(1), Fault::Lost);
    }
    for what in ["_temporary/open", "_temporary/attempt", "_SUCCESS"] {
        println!("the first answer to a put of {what} is lost");
        let when = When::is(Put).of(what).most(1);
        survives(&world, &format!("out-{}", what.replace('/', "-")), when, Fault::Lost);
    }
}

/// Waits until so many requests of a job are held.
#[track_caller]
fn wait_for_held(job: &Running, gate: &Gate, requests: usize) {
    wait_until("requests to be held", || gate.holds() == requests || !job.runs());
    assert_eq!(gate.holds(), requests, "{}", job.said());
}

#[test]
fn attempts_that_race_leave_each_part_once() {
    let world = World::new();
    let cluster = Cluster::new(&world.place, 2, 1);
    let racing = |out: &str| {
        let job = world.spread(&cluster, out).conf("ingle.default.parallelism", "4");
        let job = job.conf("ingle.speculation", "true").conf("ingle.speculation.multiplier", "1");
        job.conf("ingle.speculation.quantile", "0.5")
    };
    use Operation::{Begin, Complete, Part, Put};
    // Not one that begins an upload: when it gets there, its process may have ended with the job, and nobody gives it up.
    let held = [
        When::is(Put).of("_temporary/attempt").saying("\"whole\":false"),
        When::is(Part),
        When::is(Put).of("_temporary/attempt").saying("\"whole\":true"),
    ];
    for (number, when) in held.into_iter().enumerate() {
        // Without another attempt at that part, this would hang.
        let out = format!("out-{number}");
        let gate = world.s3.hold(when.most(1));
        let run = racing(&out).run().succeeds();
        gate.open();
        println!("{run}");
        world.check(&out);
        let of_it = |done: &&Done| done.key.starts_with(&out) && done.status == 200;
        let count = |operation| {
            let log = world.s3.log();
            log.iter().filter(of_it).filter(|done| done.operation == operation).count()
        };
        assert!(count(Begin) >= 4 && count(Complete) == 4, "{number}: {}", count(Begin));
    }
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn an_executor_that_is_killed_while_it_uploads_leaves_no_upload() {
    let world = World::new();
    let cluster = Cluster::new(&world.place, 1, 1);
    let gate = world.s3.hold(When::is(Operation::Part).most(1));
    let job = world.spread(&cluster, "out").spawn();
    wait_for_held(&job, &gate, 1);
    assert_eq!(world.s3.pending().len(), 1);
    cluster.kill_child(0);
    wait_for_held(&job, &gate, 0);
    job.wait().succeeds();
    world.check("out");
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_worker_that_is_killed_while_it_uploads_leaves_no_upload() {
    let world = World::new();
    let cluster = Cluster::new(&world.place, 2, 1);
    let gate = world.s3.hold(When::is(Operation::Part).most(2));
    let job = world.spread(&cluster, "out").spawn();
    wait_for_held(&job, &gate, 2);
    cluster.workers[1].signal(Signal::KILL);
    wait_for_held(&job, &gate, 1);
    gate.open();
    job.wait().succeeds();
    world.check("out");
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_job_that_is_interrupted_or_fails_while_it_uploads_leaves_nothing() {
    let world = World::new();
    let cluster = Cluster::new(&world.place, 1, 2);
    for place in ["local", "cluster"] {
        let gate = world.s3.hold(When::is(Operation::Part).most(2));
        let job = if place == "local" { world.local("out") } else { world.spread(&cluster, "out") };
        let job = job.spawn();
        wait_for_held(&job, &gate, 2);
        assert!(world.s3.pending().len() >= 2);
        job.signal(Signal::INT);
        // What is under way is done, or not; nobody waits for it.
        let run = job.wait().ends_with(130);
        gate.open();
        println!("{run}");
        world.check_nothing_of("out");
    }
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_commit_that_fails_publishes_nothing() {
    let world = World::of(2_000);
    world.s3.misbehave(When::is(Operation::Complete).of("part-00002"), Fault::Unavailable);
    let run = world.local("out").run().ends_with(FAILED);
    let run = run.says(&["publishing s3://bucket/out", "reduce your request rate"]);
    println!("{run}");
    assert!(world.s3.count(Operation::Complete, 200) > 0, "others were completed");
    world.check_nothing_of("out");
}

#[test]
fn a_commit_that_is_interrupted_publishes_all_or_nothing() {
    let world = World::of(2_000);
    let interrupted = |out: &str| {
        world.s3.behave();
        let gate = world.s3.hold(When::is(Operation::Complete).of("part-00002"));
        let job = world.local(out).spawn();
        wait_for_held(&job, &gate, 1);
        job.signal(Signal::INT);
        job.wait_for("cancelling");
        (gate, job)
    };
    // A second more than a job may usually take to end.
    for (out, patience) in [("soon", 0), ("late", 3500)] {
        let (gate, job) = interrupted(out);
        std::thread::sleep(Duration::from_millis(patience));
        gate.open();
        job.wait().ends_with(130);
        match world.s3.keys(&format!("{out}/")).is_empty() {
            true => world.check_nothing_of(out),
            false => world.check(out),
        }
    }
    // Nobody has to wait for a store that doesn't answer.
    let (gate, job) = interrupted("never");
    while job.runs() {
        job.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(100));
    }
    job.wait().ends_with(130);
    assert_eq!(world.s3.keys("never/_SUCCESS"), [""; 0]);
    gate.open();
}

#[test]
fn a_driver_that_is_killed_while_it_uploads_publishes_nothing() {
    let world = World::new();
    let cluster = Cluster::new(&world.place, 1, 4);
    let uploads = |start: &dyn Fn() -> Running, kill: &dyn Fn(&Running)| {
        let gate = world.s3.hold(When::is(Operation::Part).most(1));
        let job = start();
        wait_for_held(&job, &gate, 1);
        kill(&job);
        // All that worked for it ends with it.
        wait_until("nothing to be held", || gate.holds() == 0);
        cluster.wait_until_clean();
        world.s3.behave();
        job.end();
    };
    let client = || world.spread(&cluster, "client").spawn();
    uploads(&client, &|job| job.signal(Signal::KILL));
    let driver = || {
        let job = cluster.rsubmit("wordcount").flags(["--deploy-mode", "cluster", "--wait"]);
        world.count(job, "cluster").spawn()
    };
    uploads(&driver, &|_| {
        kill_process(cluster.processes_that_are("driver")[0], Signal::KILL).expect("it runs");
    });
    for out in ["client", "cluster"] {
        let keys = world.s3.keys(&format!("{out}/"));
        assert!(keys.iter().all(|key| key.starts_with("_temporary/")), "{keys:?}");
        let run = world.spread(&cluster, out).run().ends_with(FAILED);
        run.says(&["exists already, unfinished"]);
    }
    assert!(world.s3.pending().len() >= 2, "nobody knows that they are over");
    for out in ["client", "cluster"] {
        world.s3.remove(&format!("{out}/"));
        world.spread(&cluster, out).run().succeeds();
    }
    for out in ["client", "cluster"] {
        world.check(out);
    }
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_driver_that_is_started_again_writes_the_objects_that_it_left_unfinished() {
    let world = World::new();
    let cluster = Cluster::new(&world.place, 1, 4);
    let gate = world.s3.hold(When::is(Operation::Part).most(1));
    let job = cluster.rsubmit("wordcount").flags(["--deploy-mode", "cluster", "--supervise"]);
    let job = world.count(job.flag("--wait"), "out").spawn();
    wait_for_held(&job, &gate, 1);
    kill_process(cluster.processes_that_are("driver")[0], Signal::KILL).expect("it runs");
    job.wait().succeeds();
    world.check("out");
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_store_that_went_away_for_good_is_named() {
    let mut world = World::new();
    let gate = world.s3.hold(When::is(Operation::Get).of("in/a.txt").most(1));
    let job = world.local("out").conf("ingle.task.maxFailures", "1").spawn();
    wait_for_held(&job, &gate, 1);
    world.s3.stop();
    let run = job.wait().ends_with(FAILED).says(&[
        "s3://bucket/in/",
        "nothing answers",
        "ingle.s3.endpoint",
    ]);
    println!("{run}");
}

/// A job of which the error is looked at.
#[track_caller]
fn refused(world: &World, job: Rsubmit, says: &[&str]) -> Run {
    let run = job.run().ends_with(FAILED).says(says);
    println!("{}", run.stderr);
    world.check_nothing_of("out");
    run
}

#[test]
fn what_can_not_be_had_is_told_in_words() {
    let world = World::of(200);
    let s3 = |job: Rsubmit| world.s3.submit(job);
    let all = ["--allow-read=s3://bucket/", "--allow-write=s3://bucket/"];
    let to = |job: Rsubmit, from: &str, to: &str| job.args([from, to]);
    let (input, output) = ("s3://bucket/in", "s3://bucket/out");

    let wrong = || world.local("out").conf("ingle.s3.access.key", "wrong");
    refused(&world, wrong(), &["s3://bucket/in", "these keys", "ingle.s3.access.key"]);
    let job = s3(world.rsubmit().flags(["--allow-read=.", all[1]]));
    world.place.write("words", "a b c\n");
    let job = to(job.conf("ingle.s3.access.key", "wrong"), "words", output);
    refused(&world, job, &["s3://bucket/out", "these keys", "ingle.s3.access.key"]);
    let job = world.rsubmit().flags(all).conf("ingle.s3.endpoint", world.s3.endpoint());
    refused(&world, to(job, input, output), &["s3://bucket/in", "these keys"]);

    let job = s3(world.rsubmit().flags(["--allow-read=s3://missing/", all[1]]));
    let says = ["s3://missing/in", "bucket does not exist"];
    refused(&world, to(job, "s3://missing/in", output), &says);
    let job = s3(world.rsubmit().flags([all[0], "--allow-write=s3://missing/"]));
    let says = ["s3://missing/out", "bucket does not exist"];
    refused(&world, to(job, input, "s3://missing/out"), &says);

    let job = || s3(world.rsubmit().flags(all));
    refused(&world, to(job(), "s3://bucket/no", output), &["s3://bucket/no doesn't exist"]);
    refused(&world, to(job(), "s3://bucket/in/*.csv", output), &["matches no file"]);
    let job = s3(world.rsubmit().flag(all[1]));
    refused(&world, to(job, input, output), &["reading", "--allow-read=s3://bucket/in"]);
    let job = s3(world.rsubmit().flag(all[0]));
    refused(&world, to(job, input, output), &["writing", "--allow-write=s3://bucket/out"]);

    let job = s3(world.rsubmit().flags(all));
    refused(&world, to(job, input, "s3://bucket/in"), &["s3://bucket/in exists already"]);
}

#[test]
fn an_object_that_changes_while_a_job_runs_fails_it() {
    let world = World::new();
    let gate = world.s3.hold(When::is(Operation::Get).of("in/a.txt").most(1));
    let job = world.local("out").spawn();
    wait_for_held(&job, &gate, 1);
    // As long as before.
    world.s3.put("in/a.txt", world.s3.read("in/a.txt").replace("w1 ", "w2 "));
    gate.open();
    job.wait().ends_with(FAILED).says(&["s3://bucket/in/a.txt changed while the job ran"]);
    world.check_nothing_of("out");
}
