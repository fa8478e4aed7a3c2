//! What a seed means: the weather, and the stages and jobs of a driver.

use std::time::Duration;

use ingle_core::ids::{CacheId, StageId};
use ingle_core::scheduler::{
    CachedInput, Exclusion, MinRegistered, Policy, Speculation, StageOutput, StageSpec,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Cached datasets, so few that stages share them.
pub const CACHES: u32 = 3;

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
    /// A worker disappears within the time of the simulation.
    pub worker_lost: f64,
    /// An executor is drained within the time of the simulation, and goes when it is idle.
    pub drained: f64,
    /// An executor is such that most tasks fail there.
    pub bad_executor: f64,
    /// A task fails through the executor's fault.
    pub disk_full: f64,
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
            worker_lost: 0.0,
            drained: 0.0,
            bad_executor: 0.0,
            disk_full: 0.0,
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
            worker_lost: upto(0.5),
            drained: upto(0.5),
            bad_executor: upto(0.4),
            disk_full: upto(0.02),
            cancelled: upto(0.4),
            nonsense: upto(0.2),
        }
    }
}

/// What the scheduler may do, in the small times of a simulation.
pub fn policy(rng: &mut SmallRng) -> Policy {
    let speculation = Speculation {
        quantile: rng.random_range(0.0..1.0),
        multiplier: rng.random_range(1.0..4.0),
        min_run_time: Duration::from_millis(rng.random_range(1..5)),
    };
    let exclusion = Exclusion {
        max_task_failures_per_executor: rng.random_range(1..4),
        max_excluded_executors_per_worker: rng.random_range(1..3),
        timeout: Duration::from_millis(rng.random_range(1..60)),
        abort_after: Duration::from_millis(rng.random_range(1..60)),
    };
    let min_registered = MinRegistered {
        slots: rng.random_range(1..12),
        at_most: Duration::from_millis(rng.random_range(0..60)),
    };
    Policy {
        min_registered: rng.random_bool(0.3).then_some(min_registered),
        locality_wait: Duration::from_millis(rng.random_range(0..30)),
        speculation: rng.random_bool(0.6).then_some(speculation),
        exclusion: rng.random_bool(0.6).then_some(exclusion),
        ..Policy::default()
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
        let cached = (0..rng.random_range(0..3))
            .map(|_| CachedInput {
                cache: CacheId(rng.random_range(0..CACHES)),
                first: if rng.random_bool(0.7) { 0 } else { rng.random_range(0..10) },
            })
            .collect();
        stages.push(StageSpec { name: format!("s{id}"), tasks, parents, cached, output });
    }
    stages
}
