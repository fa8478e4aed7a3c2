//! The scheduler against random jobs on random executors in random weather, all from a seed.
//!
//! `INGLE_SIM_SEED=17 cargo test -p ingle-core --test simulation` replays one seed, and prints what happened.

mod audit;
mod plan;
mod world;

use plan::Weather;
use world::World;

/// Runs a check for each seed, or for the one that the environment names; says which seed failed.
fn for_seeds(seeds: std::ops::Range<u64>, run: impl Fn(u64, bool)) {
    if let Ok(seed) = std::env::var("INGLE_SIM_SEED") {
        run(seed.parse().expect("INGLE_SIM_SEED is a number"), true);
        return;
    }
    for seed in seeds {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, false)));
        if let Err(panic) = result {
            eprintln!("replay this failure with INGLE_SIM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn every_job_finishes_in_calm_weather() {
    for_seeds(0..20000, |seed, print| {
        let end = World::new(seed, Weather::calm(), print).run();
        assert_eq!((end.failed, end.cancelled), (0, 0));
        assert!(end.finished > 0);
    });
}

#[test]
fn every_job_ends_once_and_with_cause_in_any_weather() {
    for_seeds(1000..60000, |seed, print| {
        World::new(seed, Weather::of(seed), print).run();
    });
}

#[test]
fn bad_weather_is_bad_enough_to_end_jobs_in_every_way() {
    let ends: Vec<_> =
        (1000..1400).map(|seed| World::new(seed, Weather::of(seed), false).run()).collect();
    let sum = |count: fn(&audit::End) -> usize| ends.iter().map(count).sum::<usize>();
    let (finished, failed) = (sum(|e| e.finished), sum(|e| e.failed));
    let (cancelled, retried, discarded) =
        (sum(|e| e.cancelled), sum(|e| e.retried), sum(|e| e.discarded));
    assert!(finished > 50, "{finished} finished");
    assert!(failed > 10, "{failed} failed");
    assert!(cancelled > 10, "{cancelled} cancelled");
    assert!(retried > 500, "{retried} retried");
    assert!(discarded > 10, "{discarded} discarded");
    let (copied, excluded) = (sum(|e| e.copied), sum(|e| e.excluded));
    let (drained, workers_lost) = (sum(|e| e.drained), sum(|e| e.workers_lost));
    assert!(copied > 50, "{copied} copied");
    assert!(excluded > 50, "{excluded} excluded");
    assert!(drained > 50, "{drained} drained");
    assert!(workers_lost > 50, "{workers_lost} workers lost");
}

#[test]
fn the_same_seed_gives_the_same_actions() {
    for_seeds(2000..2020, |seed, _| {
        let log = || World::new(seed, Weather::of(seed), false).run().log;
        assert!(log() == log(), "two runs of one seed differ");
    });
}
