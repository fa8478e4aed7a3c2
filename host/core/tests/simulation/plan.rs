//! What a seed means: the weather, and the stages and jobs of a driver.

use ingle_core::ids::StageId;
use ingle_core::scheduler::{StageOutput, StageSpec};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// How likely each misfortune is.
#[derive(Clone, Debug)]
pub struct Weather {
    /// A task fails, and may be retried.
    pub fails: f64,
    /// A task fails for good.
    pub fails_for_good: f64,
    /// A task runs a hundred times as long.
    pub slow: f64,
    /// A task takes its executor with it.
    pub kills_executor: f64,
    /// A report comes twice.
    pub doubled: f64,
    /// An executor disappears within the time of the simulation.
    pub lost: f64,
    /// Output disappears with its executor, or without.
    pub rots: f64,
    /// A job is cancelled.
    pub cancelled: f64,
    /// An event makes no sense.
    pub nonsense: f64,
}

impl Weather {
    /// Nothing goes wrong.
    pub fn calm() -> Self {
        Self {
            fails: 0.0,
            fails_for_good: 0.0,
            slow: 0.0,
            kills_executor: 0.0,
            doubled: 0.0,
            lost: 0.0,
            rots: 0.0,
            cancelled: 0.0,
            nonsense: 0.0,
        }
    }

    /// A mixture, each misfortune absent in about a third of all seeds.
    pub fn of(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(!seed);
        let mut upto =
            |most: f64| if rng.random_bool(0.35) { 0.0 } else { rng.random_range(0.0..most) };
        Self {
            fails: upto(0.3),
            fails_for_good: upto(0.01),
            slow: upto(0.1),
            kills_executor: upto(0.02),
            doubled: upto(0.3),
            lost: upto(0.9),
            rots: upto(0.5),
            cancelled: upto(0.4),
            nonsense: upto(0.2),
        }
    }
}

/// Stages in the order of their ids: a chain, a ladder of diamonds, or anything.
pub fn stages(rng: &mut SmallRng) -> Vec<StageSpec> {
    let count = rng.random_range(1..12);
    let shape = rng.random_range(0..3);
    let mut stages: Vec<StageSpec> = Vec::new();
    for id in 0..count {
        let shuffles: Vec<StageId> = (0u32..)
            .zip(&stages)
            .filter(|(_, s)| s.output == StageOutput::Shuffle)
            .map(|(i, _)| StageId(i))
            .collect();
        let mut parents: Vec<StageId> = match shape {
            0 => shuffles.last().copied().into_iter().collect(),
            1 => shuffles.iter().rev().take(if id % 3 == 0 { 2 } else { 1 }).copied().collect(),
            _ => shuffles.iter().copied().filter(|_| rng.random_bool(0.3)).collect(),
        };
        if rng.random_bool(0.1) {
            parents.extend(parents.clone());
        }
        let last = id + 1 == count;
        let output = match last || rng.random_bool(0.25) {
            true => StageOutput::Results,
            false => StageOutput::Shuffle,
        };
        let tasks = match rng.random_range(0..10) {
            0 => 0,
            1..8 => rng.random_range(1..10),
            _ => rng.random_range(10..80),
        };
        stages.push(StageSpec { name: format!("s{id}"), tasks, parents, output });
    }
    stages
}
