//! Attacks by jobs, and that they fail as the book says: the host goes on, so do the executor's other tasks, other applications on
//! the same worker, and the daemons; and nothing is left behind.
//!
//! `INGLE_HOSTILE_RUNS=20 INGLE_TESTS_TIMEOUT=3600` holds each of them so often; `INGLE_BLESS=1` writes the book's table anew.

mod attack;
mod book;

mod field;

mod adapters;
mod driver;
mod endless;
mod files;
mod floods;
mod forged;
mod memory;
mod modules;
mod peers;

mod sockets;

use attack::Attack;
use field::{Field, hold_locally, place};

/// How often each attack is made.
fn runs() -> u32 {
    std::env::var("INGLE_HOSTILE_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(1)
}

/// Holds a family of attacks, on a cluster with a neighbour, and alone.
fn hold(attacks: &[Attack]) {
    let place = place();
    let field = Field::new(&place);
    for _ in 0..runs() {
        attacks.iter().for_each(|attack| field.hold(attack));
    }
    field.end();
    attacks.iter().for_each(|attack| hold_locally(&place, attack));
}
