//! What must hold when all has calmed down.

use std::collections::{BTreeMap, BTreeSet};

use ingle_core::ids::WorkerId;
use ingle_core::master::{DriverId, ExecutorName};

use super::World;

impl World {
    pub(super) fn settled(&self) {
        let mut believed: BTreeMap<WorkerId, BTreeSet<ExecutorName>> = BTreeMap::new();
        let mut drivers: BTreeMap<WorkerId, BTreeSet<DriverId>> = BTreeMap::new();
        for app in self.master.apps().filter(|app| !app.state.is_over()) {
            for (executor, worker) in app.executors {
                believed.entry(worker).or_default().insert((app.id, executor));
            }
        }
        for driver in self.master.drivers().filter(|driver| !driver.state.is_over()) {
            match driver.worker {
                Some(worker) if driver.text.is_empty() => {
                    drivers.entry(worker).or_default().insert(driver.id);
                }
                _ => assert!(!driver.text.is_empty(), "{} waits for nothing", driver.id),
            }
        }
        assert_eq!(self.master.workers().count(), self.workers.len(), "all workers are back");
        for (number, worker) in self.workers.iter().enumerate() {
            let id = worker.id.expect("it has a name");
            let runs: BTreeSet<_> = worker.executors.keys().copied().collect();
            assert_eq!(runs, believed.remove(&id).unwrap_or_default(), "worker {number}, {id}");
            let runs: BTreeSet<_> = worker.drivers.keys().map(|(driver, _)| *driver).collect();
            assert_eq!(runs.len(), worker.drivers.len(), "two tries of a driver on {id}");
            assert_eq!(runs, drivers.remove(&id).unwrap_or_default(), "drivers of {id}");
            for app in &worker.files {
                let over = self.master.app(*app).is_none_or(|app| app.state.is_over());
                assert!(!over, "{id} has files of {app}, which is over");
            }
        }
        assert!(
            believed.is_empty() && drivers.is_empty(),
            "executors on workers that aren't there"
        );
        for (number, app) in self.apps.iter().enumerate() {
            let Some(status) = app.id.and_then(|id| self.master.app(id)) else { continue };
            let lives = app.alive && !app.over;
            assert_eq!(!status.state.is_over(), lives, "application {number}, {}", status.id);
            if lives && status.executors.is_empty() {
                assert!(!status.text.is_empty(), "{} waits for nothing", status.id);
            }
            // Nobody who asked for more waits beside what is free, but whom workers refuse, which he is told.
            let (spec, has) = (&app.spec, status.executors.len());
            let cores = spec.executor_cores.unwrap_or(1);
            let (most, total) = (spec.num_executors, spec.total_executor_cores);
            let wants_more = most.is_none_or(|most| has < most as usize)
                && total.is_none_or(|total| status.cores + cores <= total);
            let asked = most.is_some() || total.is_some() || has == 0;
            if lives && wants_more && asked && !status.text.contains(" of the workers ") {
                let free = self.master.workers().find(|worker| {
                    worker.state == "ALIVE"
                        && worker.cores - worker.cores_used >= cores
                        && worker.memory - worker.memory_used >= spec.executor_memory
                });
                assert!(free.is_none(), "{}: {}", status.id, status.text);
            }
        }
    }
}
