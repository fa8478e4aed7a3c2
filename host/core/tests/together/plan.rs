//! What a seed means: the machines, the applications, and the weather.

use std::time::Duration;

use ingle_core::dynamic::DynamicPolicy;
use ingle_core::ids::{JobId, StageId};
use ingle_core::master::{AppSpec, Room};
use ingle_core::scheduler::{
    Exclusion, MinRegistered, Policy, Speculation, StageOutput, StageSpec,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::net::{Host, HostId};
use crate::stages;
use crate::worker::WorkerProcess;
use crate::world::{Next, SECOND, World};

const GIB: u64 = 1 << 30;

/// How likely each misfortune is.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    /// The longest way of a message.
    pub latency: u64,
    /// How long a killed process takes at most.
    pub slow_end: u64,
    /// How long an executor loads its job at most.
    pub load: u64,
    /// An executor never comes to be.
    pub stillborn: f64,
    /// A task runs twenty times as long.
    pub slow: f64,
    /// A task fails.
    pub fails: f64,
    /// One that fails may be tried again.
    pub good_end: f64,
    /// A task takes its executor with it.
    pub kills_executor: f64,
    /// How often something of the rest happens.
    pub every: u64,
    /// How likely each of the rest is then, in the order of [`Misfortune`](crate::misfortune::Misfortune).
    pub of: [f64; 11],
    /// How often somebody asks the master for what isn't there, if ever: also when all is calm.
    pub asked: Option<u64>,
}

/// What a driver's program does.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Run(JobId, StageId),
    Cancel(JobId),
    Drop(StageId),
}

#[derive(Clone, Debug)]
pub struct AppPlan {
    pub spec: AppSpec,
    /// It is submitted to run on a worker, again if it fails.
    pub cluster: Option<bool>,
    /// Else where it runs.
    pub host: HostId,
    pub start: u64,
    pub stages: Vec<StageSpec>,
    pub steps: Vec<(u64, Step)>,
    pub policy: Policy,
    pub dynamic: Option<DynamicPolicy>,
    /// How long its tasks run.
    pub task_time: (u64, u64),
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub hosts: usize,
    /// Clocks go wrong by so much at most.
    pub skew: f64,
    /// What the machines have. They are the hosts from 1.
    pub workers: Vec<Room>,
    pub apps: Vec<AppPlan>,
    pub weather: Weather,
    pub storm: u64,
    /// When all must be over.
    pub end: u64,
    /// How long it goes on once all applications are over.
    pub calm: u64,
    /// Everything is looked at after every event.
    pub audited: bool,
    /// All actions go into the digest.
    pub recorded: bool,
}

/// A small cluster. In calm weather nothing goes wrong.
pub fn small(seed: u64, calm: bool) -> Plan {
    let mut rng = SmallRng::seed_from_u64(!seed);
    let rng = &mut rng;
    let workers: Vec<_> = (0..rng.random_range(1..6))
        .map(|_| Room { cores: rng.random_range(1..9), memory: rng.random_range(1..17) * GIB })
        .collect();
    let apps: Vec<_> = (0..rng.random_range(1..5)).map(|at| app(rng, at, workers.len())).collect();
    let weather = if calm { Weather { latency: 50_000, ..Weather::default() } } else { storm(rng) };
    Plan {
        hosts: 1 + workers.len() + apps.len(),
        skew: rng.random_range(0.0..0.05),
        workers,
        apps,
        weather,
        storm: 40 * SECOND,
        end: 1000 * SECOND,
        calm: 60 * SECOND,
        audited: true,
        recorded: false,
    }
}

/// Each misfortune is absent in about a third of all seeds.
fn storm(rng: &mut SmallRng) -> Weather {
    let mut upto =
        |most: f64| if rng.random_bool(0.35) { 0.0 } else { rng.random_range(0.0..most) };
    Weather {
        latency: upto(700_000.0) as u64,
        slow_end: upto(3_000_000.0) as u64,
        load: upto(3_000_000.0) as u64,
        stillborn: upto(0.1),
        slow: upto(0.05),
        fails: upto(0.1),
        good_end: 1.0 - upto(0.05),
        kills_executor: upto(0.01),
        every: 500_000,
        of: std::array::from_fn(|_| upto(0.08)),
        asked: rng.random_bool(0.2).then(|| rng.random_range(SECOND / 2..2 * SECOND)),
    }
}

fn app(rng: &mut SmallRng, at: usize, workers: usize) -> AppPlan {
    let mut maybe = |most: u32| rng.random_bool(0.5).then(|| rng.random_range(1..most));
    let (executor_cores, total, num) = (maybe(4), maybe(12), maybe(6));
    let dynamic = rng.random_bool(0.4).then(|| DynamicPolicy {
        min: rng.random_range(0..2),
        max: rng.random_range(1..8),
        initial: rng.random_range(0..3),
        idle_timeout: Duration::from_millis(rng.random_range(500..10_000)),
        backlog_timeout: Duration::from_millis(rng.random_range(100..1_000)),
        sustained_backlog_timeout: Duration::from_millis(rng.random_range(100..1_000)),
    });
    let spec = AppSpec {
        name: format!("job {at}"),
        driver_address: String::new(),
        secret: Vec::new(),
        executor_cores,
        executor_memory: rng.random_range(1..5) * GIB / 2,
        total_executor_cores: total.map(|total| total.max(executor_cores.unwrap_or(1))),
        num_executors: num,
        spread_out: rng.random_bool(0.5),
        dynamic: dynamic.is_some(),
        driver: None,
        driver_proof: Vec::new(),
    };
    let stages = stages::stages(rng);
    let mut steps = Vec::new();
    let mut time = 0;
    for job in 0..rng.random_range(1..10) {
        time += rng.random_range(0..5 * SECOND);
        let any = rng.random_range(0..stages.len());
        let last = job == 0 || rng.random_bool(0.5);
        let stage = if last { last_of(&stages) } else { StageId(any as u32) };
        steps.push((time, Step::Run(JobId(job), stage)));
        if rng.random_bool(0.1) {
            let later = time + rng.random_range(0..5 * SECOND);
            steps.push((later, Step::Cancel(JobId(job))));
        }
    }
    if rng.random_bool(0.2) {
        // One more when all is calm again, and maybe much of what was made is gone.
        steps.push((rng.random_range(120..150) * SECOND, Step::Run(JobId(99), last_of(&stages))));
    }
    for stage in 0..stages.len() as u32 {
        if rng.random_bool(0.1) {
            steps.push((rng.random_range(0..40 * SECOND), Step::Drop(StageId(stage))));
        }
    }
    let longest = rng.random_range(20_000..SECOND);
    AppPlan {
        spec,
        cluster: rng.random_bool(0.3).then(|| rng.random_bool(0.5)),
        host: if rng.random_bool(0.2) { 1 } else { 1 + workers + at },
        start: rng.random_range(0..25 * SECOND),
        stages,
        steps,
        policy: policy(rng),
        dynamic,
        task_time: (1000, longest),
    }
}

fn last_of(stages: &[StageSpec]) -> StageId {
    StageId(stages.len() as u32 - 1)
}

fn policy(rng: &mut SmallRng) -> Policy {
    let speculation = Speculation {
        quantile: rng.random_range(0.3..1.0),
        multiplier: rng.random_range(1.0..4.0),
        min_run_time: Duration::from_millis(rng.random_range(50..1000)),
    };
    let exclusion = Exclusion {
        max_task_failures_per_executor: rng.random_range(1..4),
        max_excluded_executors_per_worker: rng.random_range(1..3),
        timeout: Duration::from_millis(rng.random_range(1000..20_000)),
        abort_after: Duration::from_millis(rng.random_range(5_000..30_000)),
    };
    let min_registered = MinRegistered {
        slots: rng.random_range(1..8),
        at_most: Duration::from_millis(rng.random_range(100..10_000)),
    };
    Policy {
        min_registered: rng.random_bool(0.3).then_some(min_registered),
        speculation: rng.random_bool(0.4).then_some(speculation),
        exclusion: rng.random_bool(0.4).then_some(exclusion),
        ..Policy::default()
    }
}

/// Ten thousand executors on a thousand workers, and a million tasks of some applications.
pub fn big() -> Plan {
    const WORKERS: u32 = 1000;
    const APPS: u32 = 4;
    const TASKS: u32 = 1_000_000 / APPS / 2;
    let app = |at: u32| AppPlan {
        spec: AppSpec {
            name: format!("job {at}"),
            driver_address: String::new(),
            secret: Vec::new(),
            executor_cores: Some(1),
            executor_memory: GIB,
            total_executor_cores: None,
            num_executors: Some(10 * WORKERS / APPS),
            spread_out: true,
            dynamic: at % 2 == 1,
            driver: None,
            driver_proof: Vec::new(),
        },
        cluster: None,
        host: (1 + WORKERS + at) as usize,
        start: 5 * SECOND,
        stages: [(StageOutput::Shuffle, vec![]), (StageOutput::Results, vec![StageId(0)])]
            .map(|(output, parents)| StageSpec {
                name: "s".into(),
                tasks: TASKS,
                parents,
                cached: Vec::new(),
                output,
            })
            .to_vec(),
        steps: vec![(5 * SECOND, Step::Run(JobId(0), StageId(1)))],
        policy: Policy { speculation: Some(Speculation::default()), ..Policy::default() },
        dynamic: (at % 2 == 1).then(DynamicPolicy::default),
        task_time: (9 * SECOND / 10, 11 * SECOND / 10),
    };
    let mut of = [0.0; 11];
    // Breaks, cuts, masters, workers, hosts, executors, and files.
    for (misfortune, chance) in [(0, 0.5), (1, 0.03), (2, 0.05), (3, 0.02), (4, 0.02), (5, 0.5)] {
        of[misfortune] = chance;
    }
    Plan {
        hosts: (1 + WORKERS + APPS) as usize,
        skew: 0.01,
        workers: vec![Room { cores: 10, memory: 16 * GIB }; WORKERS as usize],
        apps: (0..APPS).map(app).collect(),
        weather: Weather {
            latency: 2000,
            slow_end: 20_000,
            load: 500_000,
            slow: 0.0005,
            fails: 0.0001,
            good_end: 1.0,
            kills_executor: 0.00001,
            every: SECOND,
            of,
            ..Weather::default()
        },
        storm: 100 * SECOND,
        end: 1000 * SECOND,
        calm: 60 * SECOND,
        audited: false,
        recorded: false,
    }
}

impl World {
    pub fn set_up(&mut self) {
        let skew = self.plan.skew;
        for _ in 0..self.plan.hosts {
            let rate = 1.0 + self.rng.random_range(-1.0..1.0) * skew;
            let wall = 1_700_000_000 + self.rng.random_range(0..10_000);
            self.hosts.push(Host { rate, wall });
        }
        self.master_starts();
        for (at, room) in self.plan.workers.clone().into_iter().enumerate() {
            self.workers.push(WorkerProcess::new(1 + at, room));
            let start = self.rng.random_range(0..4 * SECOND);
            self.at(start, Next::WorkerStarts(at));
        }
        for (at, app) in self.plan.apps.iter().map(|app| app.start).enumerate().collect::<Vec<_>>()
        {
            self.at(app, Next::DriverStarts(at));
        }
        if self.weather.every > 0 {
            for at in (0..self.storm).step_by(self.weather.every as usize) {
                self.at(at, Next::Misfortune);
            }
        }
        self.at(0, Next::Watch);
        if self.weather.asked.is_some() {
            self.at(0, Next::Asked);
        }
    }
}
