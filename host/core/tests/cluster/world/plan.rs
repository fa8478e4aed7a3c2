//! What a seed decides: who there is, and what befalls them when.

use std::collections::{BTreeMap, BTreeSet};

use ingle_core::ids::WorkerId;
use ingle_core::master::{AppId, AppSpec, DriverId, DriverSpec, Event, RequestId, Target};
use rand::Rng;

use super::{App, END, GIB, Next, STORM, Worker, World};

impl World {
    pub(super) fn plan(&mut self) {
        for number in 0..self.rng.random_range(1..6) {
            self.workers.push(Worker {
                alive: false,
                instance: 0,
                id: None,
                connection: None,
                cores: self.rng.random_range(1..9),
                memory: self.rng.random_range(1..17) * GIB,
                executors: BTreeMap::new(),
                drivers: BTreeMap::new(),
                files: BTreeSet::new(),
            });
            let at = self.rng.random_range(0..20_000);
            self.at(at, Next::WorkerStarts(number));
        }
        for number in 0..self.rng.random_range(1..8) {
            let mut maybe =
                |most: u32| self.rng.random_bool(0.5).then(|| self.rng.random_range(1..most));
            let (executor_cores, total, num) = (maybe(4), maybe(12), maybe(6));
            let spec = AppSpec {
                name: format!("job {number}"),
                driver_address: format!("d{number}:1"),
                secret: vec![number as u8; 32],
                executor_cores,
                executor_memory: self.rng.random_range(1..5) * GIB,
                total_executor_cores: total.map(|t| t.max(executor_cores.unwrap_or(1))),
                num_executors: num,
                spread_out: self.rng.random_bool(0.5),
                dynamic: false,
                driver: None,
                driver_proof: Vec::new(),
            };
            self.apps.push(App { alive: true, id: None, connection: None, spec, over: false });
            let at = self.rng.random_range(0..STORM);
            self.at(at, Next::AppConnects(number));
            match self.rng.random_range(0..4) {
                0 => {
                    let end = self.rng.random_range(at..END / 2);
                    self.at(end, Next::AppEnds(number));
                }
                1 => {
                    let end = self.rng.random_range(at..END / 2);
                    self.at(end, Next::AppDies(number));
                }
                _ => {}
            }
        }
        for at in (0..END).step_by(1000) {
            self.at(at, Next::Heartbeats);
            self.at(at + 500, Next::Tick);
        }
        for at in (0..STORM).step_by(1000) {
            let next = match self.rng.random_range(0..16) {
                0 => Next::ExecutorDies(self.rng.random_range(0..self.workers.len())),
                1 => Next::WorkerDies(self.rng.random_range(0..self.workers.len())),
                2 | 3 => Next::Breaks,
                4 => Next::MasterDies,
                5 => Next::Asks,
                _ => continue,
            };
            self.at(at, next);
        }
    }

    pub(super) fn asks(&mut self) {
        self.requests += 1;
        let request = RequestId(self.requests);
        let event = match self.rng.random_range(0..4) {
            0 => {
                let spec = DriverSpec {
                    name: "driver".into(),
                    cores: self.rng.random_range(0..4),
                    memory: GIB,
                    supervise: self.rng.random_bool(0.5),
                    component: Vec::new(),
                    submission: Vec::new(),
                    proof: Vec::new(),
                    has_secrets: self.rng.random_bool(0.2),
                };
                Event::SubmitDriver { request, spec, wall: self.now / 1000 }
            }
            1 => Event::Decommission { request, worker: WorkerId(self.rng.random_range(0..4)) },
            2 => {
                let app = self.apps[self.rng.random_range(0..self.apps.len())].id;
                let app = app.unwrap_or(AppId::new(0, 99));
                Event::Kill { request, target: Target::App(app) }
            }
            _ => {
                let driver = self.master.drivers().next().map(|status| status.id);
                let driver = driver.unwrap_or(DriverId::new(0, 99));
                Event::Kill { request, target: Target::Driver(driver) }
            }
        };
        self.tell(event);
    }
}
