//! What must hold when all has calmed down.

use std::collections::{BTreeMap, BTreeSet};

use ingle_core::ids::WorkerId;
use ingle_core::master::AppState;
use ingle_core::scheduler::Waits;

use crate::worker::Name;
use crate::world::World;

impl World {
    pub fn settled(&mut self) {
        self.master.core.check();
        assert!(self.master.pid.is_some() && self.cuts.is_empty(), "it isn't calm");
        self.jobs_are_over();
        self.workers_run_what_they_should();
    }

    /// Every job of a driver that lives has ended, or says what it waits for.
    fn jobs_are_over(&mut self) {
        let mut lives = BTreeSet::new();
        for at in 0..self.drivers.len() {
            let driver = &self.drivers[at];
            let status = driver.id.and_then(|id| self.master.core.app(id));
            if driver.gone {
                let state = status.map(|status| status.state);
                assert!(
                    state.is_none_or(|state| state.is_over()),
                    "driver {at} is gone: {state:?}"
                );
                continue;
            }
            driver.hub.scheduler.check();
            let status = status.unwrap_or_else(|| panic!("driver {at} is unknown to the master"));
            assert!(!status.state.is_over(), "driver {at} goes on, and {} is over", status.id);
            lives.insert(status.id);
            // What a driver believes of itself is what its master does.
            let executors = status.executors.iter().map(|(id, _)| *id).collect();
            assert_eq!(driver.hub.granted(), executors, "the executors of driver {at}");
            let runs = driver.hub.executors().next().is_some();
            assert_eq!(runs, status.state == AppState::Running, "driver {at}: {}", status.text);
            assert_eq!(driver.waits, status.text, "what driver {at} waits for");
            let waiting: Vec<_> = driver.jobs.iter().filter(|(_, end)| end.is_none()).collect();
            assert!(!waiting.is_empty(), "driver {at} does nothing");
            for (job, _) in waiting {
                let explanation = driver.hub.scheduler.explain(*job);
                let explanation = explanation.expect("a job that waits is known");
                let waits = |wanted: fn(&Waits) -> bool| {
                    explanation.stages.iter().any(|(_, waits)| wanted(waits))
                };
                let text = &status.text;
                let said = (waits(|w| *w == Waits::Executors) && !text.is_empty())
                    || waits(|w| matches!(w, Waits::Turn(_)));
                assert!(said, "driver {at}, {job}: {explanation}; {} says {text:?}", status.id);
                self.counts.waiting += 1;
            }
        }
        for app in self.master.core.apps().filter(|app| !app.state.is_over()) {
            assert!(lives.contains(&app.id), "{} goes on without a driver: {}", app.id, app.text);
        }
    }

    /// What workers run and keep is what the master believes.
    fn workers_run_what_they_should(&self) {
        let core = &self.master.core;
        let mut believed: BTreeMap<WorkerId, BTreeSet<Name>> = BTreeMap::new();
        for app in core.apps().filter(|app| !app.state.is_over()) {
            for (executor, worker) in app.executors {
                believed.entry(worker).or_default().insert(Name::Executor((app.id, executor)));
            }
        }
        let mut drivers: BTreeMap<WorkerId, usize> = BTreeMap::new();
        for driver in core.drivers().filter(|driver| !driver.state.is_over()) {
            match driver.worker {
                Some(worker) if driver.text.is_empty() => *drivers.entry(worker).or_default() += 1,
                _ => assert!(!driver.text.is_empty(), "{} waits for nothing", driver.id),
            }
        }
        let alive = self.workers.iter().filter(|worker| worker.pid.is_some()).count();
        assert_eq!(core.workers().count(), alive, "the workers that the master knows");
        assert_eq!(alive, self.workers.len(), "all workers are back");
        for (at, worker) in self.workers.iter().enumerate() {
            let id = worker.id.unwrap_or_else(|| panic!("worker {at} has no name"));
            let runs: BTreeSet<_> = worker.running.keys().copied().collect();
            let there: BTreeSet<_> = worker.there.values().map(|(name, _)| *name).collect();
            assert_eq!(runs, there, "what runs on {id}, and what it believes");
            let (executors, on): (BTreeSet<_>, BTreeSet<_>) =
                runs.into_iter().partition(|name| matches!(name, Name::Executor(_)));
            assert_eq!(executors, believed.remove(&id).unwrap_or_default(), "worker {at}, {id}");
            assert_eq!(on.len(), drivers.remove(&id).unwrap_or_default(), "drivers on {id}");
            for app in worker.folder.keys() {
                let over = core.app(*app).is_none_or(|app| app.state.is_over());
                assert!(!over, "{id} has files of {app}, which is over");
            }
            let status = core.workers().find(|status| status.id == id);
            let status = status.unwrap_or_else(|| panic!("{id} is unknown"));
            let cores: u32 = worker.there.values().map(|(_, room)| room.cores).sum();
            assert_eq!(status.cores_used, cores, "what {id} gives");
        }
        assert!(believed.is_empty() && drivers.is_empty(), "they run on no worker: {believed:?}");
    }
}
