//! What must hold after every event.

use std::collections::BTreeMap;

use super::{DriverTry, Master, Process};
use crate::ids::WorkerId;

impl Master {
    /// Panics unless the books agree. For tests.
    pub fn check(&self) {
        let mut used: BTreeMap<WorkerId, (u32, u64)> = BTreeMap::new();
        for (id, app) in &self.apps {
            for (executor, e) in &app.executors {
                let worker = &self.workers[&e.worker];
                assert!(worker.executors.contains(&(*id, *executor)), "{id} {executor}");
                let used = used.entry(e.worker).or_default();
                *used = (used.0 + e.cores, used.1 + app.spec.executor_memory);
            }
        }
        for (id, driver) in &self.drivers {
            if let Some(worker) = driver.worker {
                let drivers = &self.workers[&worker].drivers;
                assert!(drivers.contains(&(*id, driver.restarts)), "{id}");
                let used = used.entry(worker).or_default();
                *used = (used.0 + driver.spec.cores, used.1 + driver.spec.memory);
            }
        }
        for (id, worker) in &self.workers {
            let mut used = used.get(id).copied().unwrap_or_default();
            for (process, room) in &worker.ending {
                let wanted = match process {
                    Process::Executor(name) => worker.executors.contains(name),
                    Process::Driver(driver) => worker.drivers.contains(driver),
                };
                assert!(!wanted, "{process:?} on {id} is to end, and wanted");
                used = (used.0 + room.cores, used.1 + room.memory);
            }
            assert_eq!(used, (worker.cores_used, worker.memory_used), "what {id} gives");
            assert!(used.0 <= worker.cores && used.1 <= worker.memory, "{id} gives too much");
            for (app, executor) in &worker.executors {
                assert!(self.apps[app].executors.contains_key(executor), "{app} {executor}");
            }
            let there = |(driver, attempt): &DriverTry| {
                let driver = &self.drivers[driver];
                driver.worker == Some(*id) && driver.restarts == *attempt
            };
            assert!(worker.drivers.iter().all(there), "{id}");
        }
    }
}
