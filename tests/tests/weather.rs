//! What a cluster of whole processes meets outside: kills at any instant, cut networks, full disks, strange peers, damaged files. Jobs end
//! with the answer that they always have, or in words; and nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use ingle_tests::{Chance, Cluster, Disk, Net, Place, Run, Running, lines, text, wait_until};
use rustix::process::{Signal, kill_process};

/// Jobs with a known answer.
struct Jobs {
    place: Place,
    words: BTreeMap<String, String>,
    sorted: String,
}

#[derive(Clone, Copy, Debug)]
enum Job {
    Count,
    Sort,
    /// Takes seconds, and stores nothing.
    Darts,
}

impl Jobs {
    fn new() -> Self {
        let place = Place::new();
        let words = text(&place, 8, 60_000);
        let sorted = lines(&place, 8, 60_000);
        Self { place, words, sorted }
    }

    fn start(&self, cluster: &Cluster<'_>, job: Job, out: &str) -> Running {
        let (name, args) = match job {
            Job::Count => ("wordcount", ["in", out]),
            Job::Sort => ("sort", ["lines", out]),
            Job::Darts => ("pi", ["2000000000", "30"]),
        };
        cluster.rsubmit_to_all(name).args(args).spawn()
    }

    #[track_caller]
    fn check(&self, job: Job, run: &Run, out: &str) {
        match job {
            Job::Darts => assert_eq!(run.stdout, "Pi is roughly 3.141561\n", "\n{run}"),
            Job::Count => assert_eq!(self.place.table(out), self.words),
            Job::Sort => {
                assert!(self.place.parts(out).concat() == self.sorted, "{out} is sorted otherwise");
            }
        }
    }
}

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Executor(usize),
    Worker(usize),
    Master,
}

/// A round's own seed: a round that failed is repeated alone by it.
fn rounds(usual: u64) -> impl Iterator<Item = u64> {
    let rounds = std::env::var("WEATHER_ROUNDS");
    let rounds = rounds.map_or(usual, |n| n.parse().expect("WEATHER_ROUNDS is a whole number"));
    let seed = Chance::seed();
    (seed..seed + rounds).inspect(|seed| {
        println!("SEED={seed} WEATHER_ROUNDS=1 repeats this round");
    })
}

#[test]
fn whoever_is_killed_at_whatever_instant_the_answer_is_exact_and_nothing_is_left() {
    let jobs = Jobs::new();
    // How long they take, and compiled code for all workers.
    let usual = {
        let cluster = Cluster::new(&jobs.place, 3, 1);
        [Job::Count, Job::Sort].map(|job| {
            jobs.start(&cluster, job, &format!("first-{job:?}")).wait().succeeds();
            let started = Instant::now();
            let out = format!("usual-{job:?}");
            let run = jobs.start(&cluster, job, &out).wait().succeeds();
            let took = started.elapsed();
            jobs.check(job, &run, &out);
            println!("{job:?} takes {took:?}");
            took
        })
    };
    for seed in rounds(6) {
        let mut chance = Chance::seeded(seed);
        let job = [Job::Count, Job::Sort][chance.below(2)];
        let workers = 2 + chance.below(2);
        let mut blows: Vec<(Duration, Victim)> = (0..1 + chance.below(3))
            .map(|_| {
                let at = chance.within(usual[job as usize]);
                let worker = chance.below(workers);
                let victims = [Victim::Executor(worker), Victim::Worker(worker), Victim::Master];
                (at, victims[chance.below(3)])
            })
            .collect();
        blows.sort();
        println!("{job:?} on {workers} workers: {blows:?}");
        // So that a round alone is as it was among others.
        std::fs::remove_dir_all(jobs.place.kept("master")).expect("the last master's state");
        let mut cluster = Cluster::new(&jobs.place, workers, 1);
        let out = format!("out-{seed}");
        let running = jobs.start(&cluster, job, &out);
        let started = Instant::now();
        for (at, victim) in blows {
            std::thread::sleep(at.saturating_sub(started.elapsed()));
            if !running.runs() {
                println!("it ended before {victim:?} could be killed");
                break;
            }
            match victim {
                Victim::Executor(worker) => match cluster.children(worker).first() {
                    // It may be gone already.
                    Some(child) => drop(kill_process(*child, Signal::KILL)),
                    None => println!("no executor runs there at {at:?}"),
                },
                Victim::Worker(worker) => cluster.replace_worker(worker, 1),
                Victim::Master => {
                    cluster.kill_master();
                    std::thread::sleep(chance.within(Duration::from_millis(500)));
                    cluster.start_master();
                }
            }
        }
        let run = running.wait().succeeds();
        println!("{}", run.stderr);
        jobs.check(job, &run, &out);
        cluster.wait_until_clean();
        assert_eq!(jobs.place.forgotten(), [] as [&std::path::Path; 0], "the client's own");
        assert_eq!(cluster.panics(), [""; 0]);
        assert!(cluster.workers.iter().all(Running::runs), "a worker gave up");
    }
}

#[test]
fn a_client_that_is_killed_at_whatever_instant_leaves_nothing_on_any_worker() {
    let jobs = Jobs::new();
    let cluster = Cluster::new(&jobs.place, 2, 1);
    jobs.start(&cluster, Job::Sort, "first").wait().succeeds();
    let started = Instant::now();
    jobs.start(&cluster, Job::Sort, "usual").wait().succeeds();
    let usual = started.elapsed();
    for seed in rounds(2) {
        let at = Chance::seeded(seed).within(usual);
        println!("the client is killed after {at:?}");
        let out = format!("out-{seed}");
        let client = jobs.start(&cluster, Job::Sort, &out);
        std::thread::sleep(at);
        client.signal(Signal::KILL);
        let run = client.wait();
        println!("{}", run.stderr);
        cluster.wait_until_clean();
        wait_until("the master to see it", || {
            let apps = cluster.ask(&["apps"]).succeeds().stdout;
            !apps.contains("RUNNING") && !apps.contains("WAITING")
        });
        // All of it was published, or nothing.
        if jobs.place.exists(&format!("{out}/_SUCCESS")) {
            jobs.check(Job::Sort, &run, &out);
        } else {
            let names = jobs.place.exists(&out).then(|| jobs.place.names(&out));
            println!("{out} has {names:?}");
        }
        let again = format!("again-{seed}");
        let run = jobs.start(&cluster, Job::Sort, &again).wait().succeeds();
        jobs.check(Job::Sort, &run, &again);
    }
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_driver_that_is_killed_at_whatever_instant_fails_or_is_started_again_as_it_was_asked() {
    const DARTS: [&str; 2] = ["30000000", "8"];
    let place = Place::new();
    let cluster = Cluster::new(&place, 2, 2);
    let expected = cluster.rsubmit("pi").args(DARTS).run().succeeds().stdout;
    let submit = |cluster: &Cluster<'_>, flags: &[&str]| {
        let job = cluster.rsubmit("pi").flags(["--deploy-mode", "cluster"]);
        job.flags(flags.iter().copied()).args(DARTS).run().succeeds().stdout.trim().to_owned()
    };
    let state = |cluster: &Cluster<'_>, id: &str| cluster.ask(&["explain", id]).succeeds().stdout;
    let started = Instant::now();
    let id = submit(&cluster, &[]);
    wait_until("it to end", || state(&cluster, &id).contains("FINISHED"));
    let usual = started.elapsed();
    println!("it takes {usual:?}");
    for seed in rounds(3) {
        let mut chance = Chance::seeded(seed);
        let supervise = chance.below(2) == 0;
        let at = chance.within(usual);
        println!("the driver is killed after {at:?}; supervised: {supervise}");
        let id = submit(&cluster, if supervise { &["--supervise"] } else { &[] });
        wait_until("a driver", || !cluster.processes_that_are("driver").is_empty());
        std::thread::sleep(at);
        if let Some(driver) = cluster.processes_that_are("driver").first() {
            // It may end this very moment, and well.
            let _ = kill_process(*driver, Signal::KILL);
        }
        wait_until("it to be over", || {
            let state = state(&cluster, &id);
            state.contains("FINISHED") || (state.contains("FAILED") && !supervise)
        });
        let state = state(&cluster, &id);
        println!("{state}");
        if state.contains("FINISHED") {
            let logs = cluster.ask(&["logs", &id]).succeeds().stdout;
            assert!(logs.contains(expected.trim()), "{logs}");
        }
        cluster.wait_until_clean();
        for worker in 0..2 {
            let left = place.names(place.kept(format!("worker-{worker}/spill")));
            assert_eq!(left, [""; 0], "what it spilled on worker {worker}");
        }
    }
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_driver_that_is_started_again_writes_the_output_that_it_left_unfinished() {
    let jobs = Jobs::new();
    let cluster = Cluster::new(&jobs.place, 2, 2);
    let job = cluster.rsubmit("wordcount").flags(["--deploy-mode", "cluster", "--supervise"]);
    let id = job.args(["in", "out"]).run().succeeds().stdout.trim().to_owned();
    wait_until("a driver that writes", || jobs.place.exists("out"));
    let driver = cluster.processes_that_are("driver")[0];
    kill_process(driver, Signal::KILL).expect("it runs");
    wait_until("it to end", || {
        cluster.ask(&["explain", &id]).succeeds().stdout.contains("FINISHED")
    });
    assert_eq!(jobs.place.table("out"), jobs.words);
}

/// A network for two workers, or words that there is none.
fn net() -> Option<Net> {
    let net = Net::new(4);
    if let Err(why) = &net {
        println!("SKIPPED: no network namespaces here: {why}");
    }
    net.ok()
}

const MASTER: usize = 0;
const WORKER: [usize; 2] = [1, 2];
const CLIENT: usize = 3;

/// A job meets something that happens to the network once both workers are at it, says so, and its answer is exact all the same. What
/// happened is undone at the end, if it wasn't before, and then nothing is left.
#[track_caller]
fn survives(job: Job, happens: impl FnOnce(&Net), says: &[&str], undone: impl FnOnce(&Net)) {
    let Some(net) = net() else { return };
    let jobs = Jobs::new();
    let cluster = Cluster::on(&jobs.place, &net, 1);
    let running = jobs.start(&cluster, job, "out");
    for worker in 0..2 {
        match job {
            Job::Count | Job::Sort => cluster.wait_for_shuffle(worker),
            Job::Darts => {
                wait_until("an executor", || !cluster.children(worker).is_empty());
                // It begins, and is far from done.
                std::thread::sleep(Duration::from_millis(300));
            }
        }
    }
    assert!(running.runs(), "it is in the middle of its work");
    let started = Instant::now();
    happens(&net);
    let run = running.wait().succeeds().says(says);
    println!("{:?}: {}", started.elapsed(), run.stderr);
    jobs.check(job, &run, "out");
    undone(&net);
    cluster.wait_until_clean();
    println!("{:?}: clean", started.elapsed());
    // Whoever was cut off is back.
    wait_until("both workers", || {
        cluster.ask(&["workers"]).succeeds().stdout.matches("ALIVE").count() == 2
    });
    let run = jobs.start(&cluster, Job::Count, "next").wait().succeeds();
    jobs.check(Job::Count, &run, "next");
    assert_eq!(cluster.panics(), [""; 0]);
    println!("{:?}: over", started.elapsed());
}

#[test]
fn a_worker_that_is_cut_off_in_mid_job_costs_what_it_stored_and_not_the_job() {
    survives(Job::Sort, |net| net.cut(WORKER[1]), &["worker-2 is lost"], |net| net.heal(WORKER[1]));
}

#[test]
fn a_worker_that_is_back_within_its_lease_is_as_it_was() {
    let happens = |net: &Net| {
        net.cut(WORKER[1]);
        std::thread::sleep(Duration::from_millis(1000));
        net.heal(WORKER[1]);
    };
    survives(Job::Darts, happens, &[], |_| {});
}

#[test]
fn what_a_worker_did_that_is_back_after_its_lease_does_not_count_twice() {
    let happens = |net: &Net| {
        net.cut(WORKER[1]);
        std::thread::sleep(Duration::from_millis(4500));
        net.heal(WORKER[1]);
    };
    survives(Job::Sort, happens, &["worker-2 is lost"], |_| {});
}

#[test]
fn a_worker_that_the_master_does_not_hear_is_given_up_though_it_hears() {
    survives(
        Job::Darts,
        |net| net.lose(WORKER[1], MASTER),
        &["worker-2 is lost"],
        |net| net.find(WORKER[1], MASTER),
    );
}

#[test]
fn executors_that_do_not_hear_their_driver_cost_their_tasks_and_not_the_job() {
    survives(
        Job::Sort,
        |net| net.lose(CLIENT, WORKER[1]),
        &["executor 1 is gone"],
        |net| net.find(CLIENT, WORKER[1]),
    );
}

#[test]
fn a_job_goes_on_and_ends_while_its_master_is_out_of_reach() {
    survives(Job::Sort, |net| net.cut(MASTER), &[], |net| net.heal(MASTER));
}

/// A small disk for a worker's folder, or words that there is none.
fn disk(place: &Place, worker: usize) -> Option<Disk> {
    let disk = Disk::mount(place.kept(format!("worker-{worker}")));
    if let Err(why) = &disk {
        println!("SKIPPED: no disk of a test's own here: {why}");
    }
    disk.ok()
}

/// What a full disk has room for: logs, and less than a job stores.
const LITTLE: usize = 1 << 20;

#[test]
fn a_worker_with_a_full_disk_gets_no_more_tasks_and_the_job_ends_elsewhere() {
    let jobs = Jobs::new();
    let Some(disk) = disk(&jobs.place, 1) else { return };
    let cluster = Cluster::new(&jobs.place, 2, 1);
    let run = jobs.start(&cluster, Job::Sort, "with room").wait().succeeds();
    jobs.check(Job::Sort, &run, "with room");
    cluster.wait_until_clean();
    disk.fill(LITTLE);
    let run = jobs.start(&cluster, Job::Sort, "out").wait().succeeds();
    jobs.check(Job::Sort, &run, "out");
    run.says(&["worker-2 gets no more tasks", "worker-1/apps", "No space left on device"]);
    cluster.wait_until_clean();
    // It was excluded for that application alone.
    disk.empty();
    let run = jobs.start(&cluster, Job::Sort, "with room again").wait().succeeds();
    jobs.check(Job::Sort, &run, "with room again");
    run.says_not(&["gets no more tasks"]);
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_job_that_finds_only_full_disks_fails_and_says_where() {
    let jobs = Jobs::new();
    let Some(disk) = disk(&jobs.place, 0) else { return };
    let cluster = Cluster::new(&jobs.place, 1, 1);
    jobs.start(&cluster, Job::Sort, "with room").wait().succeeds();
    cluster.wait_until_clean();
    disk.fill(LITTLE);
    // It is tried again in a second, and not when the test is long over.
    let job = cluster.rsubmit("sort").conf("ingle.excludeOnFailure.timeout", "1");
    let run = job.args(["lines", "out"]).run().ends_with(1);
    let run =
        run.says(&["worker-1 gets no more tasks", "worker-0/apps", "No space left on device"]);
    let error = run.stderr.lines().find(|line| line.starts_with("error: ")).expect("an error");
    assert!(error.contains("No space left on device"), "{error}");
    assert!(!jobs.place.exists("out"));
    cluster.wait_until_clean();
    disk.empty();
    let run = jobs.start(&cluster, Job::Sort, "with room again").wait().succeeds();
    jobs.check(Job::Sort, &run, "with room again");
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_disk_that_takes_nothing_at_all_is_told_and_waited_for() {
    let jobs = Jobs::new();
    let Some(disk) = disk(&jobs.place, 0) else { return };
    let cluster = Cluster::new(&jobs.place, 1, 1);
    jobs.start(&cluster, Job::Sort, "with room").wait().succeeds();
    cluster.wait_until_clean();
    disk.fill(0);
    let job = jobs.start(&cluster, Job::Sort, "out");
    job.wait_for("can't work: on worker-1");
    disk.empty();
    let run = job.wait().succeeds();
    jobs.check(Job::Sort, &run, "out");
    // 101 is a panic, which there was no room to log.
    run.says(&["No space left on device"]).says_not(&["exit code 101"]);
}

#[test]
fn a_disk_that_is_too_full_for_the_drivers_memory_costs_its_worker_and_not_the_job() {
    let place = Place::new();
    let Some(disk) = disk(&place, 1) else { return };
    let cluster = Cluster::new(&place, 2, 1);
    // A table of megabytes that its tasks have at hand.
    let job = || cluster.rsubmit_to_all("forks").args(["200000", "50"]).run().succeeds();
    job();
    cluster.wait_until_clean();
    disk.fill(LITTLE);
    let run = job();
    run.says(&["worker-2 gets no more tasks", "images", "No space left on device"]);
    cluster.wait_until_clean();
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn executors_end_with_their_worker_though_they_can_not_log_why() {
    let place = Place::new();
    let Some(disk) = disk(&place, 0) else { return };
    let mut cluster = Cluster::new(&place, 1, 1);
    let job = cluster.rsubmit("noop").arg("4000000").spawn();
    // It has all that it needs before there is no room.
    wait_until("an executor at work", || {
        let images = cluster.leftovers(0).into_iter().map(|app| app.join("images"));
        let mut files = images.filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
        files.any(|file| file.path().extension().is_none())
    });
    disk.fill(0);
    // So that nobody tells the driver, which would end it.
    cluster.kill_master();
    cluster.workers[0].signal(Signal::KILL);
    wait_until("its executor to be gone", || cluster.processes().is_empty());
    job.signal(Signal::INT);
    job.wait().ends_with(130);
}

/// Harms shuffle files as they come, each once and so many of them: a bit is flipped or the file ends early.
fn harm(cluster: &Cluster<'_>, running: &Running, chance: &mut Chance, most: usize) -> usize {
    let mut seen = BTreeSet::new();
    let mut harmed = 0;
    while running.runs() {
        let workers = 0..cluster.workers.len();
        for path in workers.flat_map(|worker| cluster.shuffle_files(worker)) {
            if path.extension().is_some() || harmed >= most || !seen.insert(path.clone()) {
                continue;
            }
            // It may be gone already.
            let Ok(file) = File::options().read(true).write(true).open(&path) else { continue };
            let length = file.metadata().expect("its length").len();
            let at = chance.below(length as usize) as u64;
            if chance.below(2) == 0 {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).expect("a byte");
                byte[0] ^= 1 << chance.below(8);
                file.write_all_at(&byte, at).expect("it is written");
                println!("flipped a bit at {at} of {length} of {}", path.display());
            } else {
                file.set_len(at).expect("it is cut");
                println!("cut {} at {at} of {length}", path.display());
            }
            harmed += 1;
        }
        // The job wants to get on as well.
        std::thread::sleep(Duration::from_millis(1));
    }
    harmed
}

/// Jobs whose shuffle files are harmed, so many of each.
fn survives_harm(job_rounds: u64, most: usize) {
    let jobs = Jobs::new();
    let cluster = Cluster::new(&jobs.place, 2, 1);
    let mut harmed = 0;
    for seed in rounds(job_rounds) {
        let mut chance = Chance::seeded(seed);
        let job = [Job::Count, Job::Sort][chance.below(2)];
        let out = format!("out-{seed}");
        let running = jobs.start(&cluster, job, &out);
        harmed += harm(&cluster, &running, &mut chance, most);
        let run = running.wait().succeeds();
        println!("{}", run.stderr);
        jobs.check(job, &run, &out);
    }
    assert!(harmed > 0, "the jobs were always quicker");
    cluster.wait_until_clean();
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn shuffle_files_that_are_harmed_on_disk_change_no_answer() {
    survives_harm(5, 4);
}

#[test]
fn a_disk_that_harms_all_that_a_stage_stored_changes_no_answer() {
    survives_harm(2, 8);
}
