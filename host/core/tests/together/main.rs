//! All cores together, from a seed: a master, workers, drivers with their schedulers, and executors, with a network between them that delays,
//! breaks and is cut, processes that die, and clocks that differ. The processes do what the shells in `host/cluster` do.
//!
//! `SEED=17 cargo test --release -p ingle-core --test together any_weather -- --nocapture` runs one seed and prints what happens.
//!
//! | file | one thing |
//! |---|---|
//! | `world` | what happens when |
//! | `net` | hosts, processes, and connections |
//! | `master`, `worker`, `driver`, `hub`, `executor` | the processes |
//! | `plan`, `misfortune` | what a seed means; what goes wrong |
//! | `settle` | what must hold in the end |

#[path = "../simulation/audit.rs"]
#[allow(dead_code)]
mod audit;
mod driver;
mod executor;
mod hub;
mod master;
mod misfortune;
mod net;
mod plan;
mod settle;
#[path = "../simulation/plan.rs"]
#[allow(dead_code)]
mod stages;
mod worker;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use world::{Counts, World};

/// Runs a check for each seed, or for the one that the environment names; says which seed failed.
fn for_seeds(seeds: std::ops::Range<u64>, mut run: impl FnMut(u64, bool)) {
    if let Ok(seed) = std::env::var("SEED") {
        run(seed.parse().expect("SEED is a number"), true);
        return;
    }
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed, false))) {
            eprintln!("SEED={seed} shows it");
            resume_unwind(panic);
        }
    }
}

#[test]
fn in_calm_weather_every_application_comes_to_its_end() {
    let (mut finished, mut alone) = (0, false);
    for_seeds(0..500, |seed, print| {
        let counts = World::new(seed, plan::small(seed, true), print).run();
        assert_eq!((counts.jobs_failed, counts.workers_lost, counts.misses), (0, 0, 0));
        finished += counts.jobs_finished;
        alone |= print;
    });
    assert!(alone || finished > 2000, "the seeds mean too little: {finished} jobs");
}

#[test]
fn in_any_weather_nothing_counts_twice_and_nothing_is_left_over() {
    let mut all = Counts::default();
    let mut alone = false;
    for_seeds(1000..4000, |seed, print| {
        let counts = World::new(seed, plan::small(seed, false), print).run();
        if print {
            println!("{counts:?}");
        }
        alone |= print;
        all.add(&counts);
    });
    println!("{all:?}");
    let enough = [
        all.jobs_finished > 5000,
        all.jobs_failed > 50,
        all.jobs_cancelled > 100,
        all.apps_over > 1000,
        all.drivers_died > 1000,
        all.masters_died > 1000,
        all.workers_died > 1000,
        all.workers_lost > 1000,
        all.executors_died > 1000,
        all.misses > 1000,
        all.cuts > 1000,
        all.breaks > 1000,
    ];
    assert!(alone || enough.iter().all(|enough| *enough), "the weather was too fair: {enough:?}");
}

#[test]
fn the_same_seed_gives_the_same_actions() {
    for_seeds(2000..2020, |seed, _| {
        let plan = || plan::Plan { recorded: true, ..plan::small(seed, false) };
        let counts = || World::new(seed, plan(), false).run();
        assert_eq!(counts(), counts(), "two runs of one seed differ");
    });
}

#[test]
fn ten_thousand_executors_and_a_million_tasks() {
    if std::env::var("SEED").is_ok() {
        return;
    }
    let begun = Instant::now();
    let counts = World::new(11, plan::big(), false).run();
    println!("{:?} for {counts:?}", begun.elapsed());
    assert_eq!(counts.jobs_finished, 4);
    assert!(counts.tasks >= 1_000_000 && counts.executors > 9_900);
    assert!(counts.workers_lost > 0 && counts.misses > 0 && counts.masters_died > 0);
}
