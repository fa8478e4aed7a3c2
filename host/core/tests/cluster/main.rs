//! A master with simulated workers and applications, from a seed: messages are late, connections break, processes die, the master too.
//!
//! After every event the master's books must agree; in the end, when the weather is calm, what workers run is what the master believes, nothing
//! runs for an application that is over, and whoever lacks something says what it waits for. `INGLE_SIM_SEED=N` runs one seed and prints it.

mod world;

use world::World;

fn seeds() -> (std::ops::Range<u64>, bool) {
    match std::env::var("INGLE_SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => (seed..seed + 1, true),
        None => (0..2000, false),
    }
}

#[test]
fn nothing_is_granted_twice_and_nothing_is_left_over() {
    let (seeds, print) = seeds();
    let mut restarts = 0;
    let mut lost = 0;
    let mut expelled = 0;
    for seed in seeds {
        let end = std::panic::catch_unwind(|| World::new(seed, print).run());
        let end = end.unwrap_or_else(|_| panic!("INGLE_SIM_SEED={seed} shows it"));
        restarts += end.restarts;
        lost += end.lost_workers;
        expelled += end.expelled;
    }
    let enough = restarts > 500 && lost > 500 && expelled > 500;
    assert!(print || enough, "the weather was too fair: {restarts} {lost} {expelled}");
}
