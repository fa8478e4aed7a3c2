//! Who gets which cores and bytes: drivers before executors, applications first come, first served.

use std::cmp::Reverse;

use super::drivers::SECRETS_GONE;
use super::event::{Action, AppNews, Room, WorkerOrder};
use super::explain::AppState;
use super::ids::{AppId, DriverId};
use super::{App, Executor, Master, Process};
use crate::ids::{ExecutorId, WorkerId};

impl Master {
    /// Grants what can be.
    pub(super) fn allocate(&mut self, actions: &mut Vec<Action>) {
        let waiting: Vec<_> = self
            .drivers
            .iter()
            .filter(|(_, d)| d.worker.is_none() && d.not_before <= self.now)
            .map(|(id, _)| *id)
            .collect();
        for driver in waiting {
            self.place_driver(driver, actions);
        }
        let apps: Vec<_> = self.apps.keys().copied().collect();
        for app in apps {
            self.grant(app, actions);
        }
    }

    fn place_driver(&mut self, id: DriverId, actions: &mut Vec<Action>) {
        let Some(driver) = self.drivers.get_mut(&id) else { return };
        if driver.secrets_gone {
            self.end_driver(id, AppState::Failed, SECRETS_GONE, actions);
            return;
        }
        driver.looked_at = true;
        let (cores, memory, now) = (driver.spec.cores, driver.spec.memory, self.now);
        let fitting = self
            .workers
            .iter_mut()
            .filter(|(id, worker)| worker.takes(cores, memory) && !driver.refused.has(**id, now));
        // The emptiest one, so that drivers don't gather on one machine.
        let Some((&at, worker)) = fitting.max_by_key(|(id, w)| (w.free_cores(), Reverse(**id)))
        else {
            return;
        };
        let this = (id, driver.restarts);
        worker.begins(Process::Driver(this), driver.room());
        driver.worker = Some(at);
        let spec = driver.spec.clone();
        self.persist_driver(id, actions);
        self.tell_worker(at, WorkerOrder::LaunchDriver { driver: this, spec }, actions);
    }

    /// How many executors, and cores, an application may still be given; none if it wants none.
    pub(super) fn wanted(&self, app: &App) -> Option<(usize, u32)> {
        let spec = &app.spec;
        // A dynamic application gets nothing before it says how many.
        let most = [spec.num_executors, spec.dynamic.then_some(app.wants.unwrap_or(0))];
        let most = most.into_iter().flatten().min().map_or(usize::MAX, |most| most as usize);
        let executors = most.min(self.policy.max_executors).saturating_sub(app.executors.len());
        let cores = spec.total_executor_cores.unwrap_or(u32::MAX).saturating_sub(app.cores());
        let enough = executors == 0 || cores < spec.executor_cores.unwrap_or(1);
        (!enough).then_some((executors, cores))
    }

    fn grant(&mut self, id: AppId, actions: &mut Vec<Action>) {
        let Some(app) = self.apps.get(&id) else { return };
        if app.connection.is_none() || app.not_before > self.now {
            return;
        }
        let Some((executors, cores)) = self.wanted(app) else { return };
        let plan = match app.spec.executor_cores {
            Some(each) => self.plan(app, each, executors.min((cores / each) as usize)),
            None => self.plan_whole(app, executors, cores),
        };
        if plan.is_empty() {
            return;
        }
        for (worker, cores) in plan {
            self.launch(id, worker, cores, actions);
        }
        self.persist_app(id, actions);
    }

    /// Workers that an application may be given something on, the emptiest first.
    fn candidates(&self, app: &App, cores: u32) -> Vec<(WorkerId, u32, u64)> {
        let mut found: Vec<_> = self
            .workers
            .iter()
            .filter(|(id, w)| {
                w.takes(cores, app.spec.executor_memory)
                    && !app.excluded.contains(id)
                    && !app.refused.has(**id, self.now)
            })
            .map(|(id, w)| (*id, w.free_cores(), w.free_memory()))
            .collect();
        found.sort_by_key(|(id, cores, _)| (Reverse(*cores), *id));
        found
    }

    /// Executors of a fixed size: one on each worker in turn, or as many as fit on one after the other.
    fn plan(&self, app: &App, each: u32, mut most: usize) -> Vec<(WorkerId, u32)> {
        let memory = app.spec.executor_memory;
        let mut workers = self.candidates(app, each);
        let mut plan = Vec::new();
        while most > 0 && !workers.is_empty() {
            for (id, cores, free) in &mut workers {
                loop {
                    if most == 0 || *cores < each || *free < memory {
                        break;
                    }
                    (*cores, *free) = (*cores - each, *free - memory);
                    plan.push((*id, each));
                    most -= 1;
                    if app.spec.spread_out {
                        break;
                    }
                }
            }
            workers.retain(|(_, cores, free)| *cores >= each && *free >= memory);
        }
        plan
    }

    /// One executor a worker, as large as can be. Where that is less than its application asked for, another one makes up for it when there is
    /// more; an application that asked for nothing has what there was.
    fn plan_whole(&self, app: &App, executors: usize, mut cores: u32) -> Vec<(WorkerId, u32)> {
        let has = |id: WorkerId| app.executors.values().any(|e| e.worker == id);
        let mut workers = self.candidates(app, 1);
        workers.retain(|(id, ..)| app.is_bounded() || !has(*id));
        workers.truncate(executors);
        let mut plan: Vec<_> = workers.iter().map(|(id, ..)| (*id, 0)).collect();
        if app.spec.spread_out {
            let mut given = true;
            while given && cores > 0 {
                given = false;
                for (place, (_, free, _)) in plan.iter_mut().zip(&workers) {
                    if cores > 0 && place.1 < *free {
                        place.1 += 1;
                        cores -= 1;
                        given = true;
                    }
                }
            }
        } else {
            for (place, (_, free, _)) in plan.iter_mut().zip(&workers) {
                place.1 = cores.min(*free);
                cores -= place.1;
            }
        }
        plan.retain(|(_, cores)| *cores > 0);
        plan
    }

    fn launch(&mut self, id: AppId, at: WorkerId, cores: u32, actions: &mut Vec<Action>) {
        let (Some(app), Some(worker)) = (self.apps.get_mut(&id), self.workers.get_mut(&at)) else {
            return;
        };
        let executor = ExecutorId(app.next_executor);
        app.next_executor += 1;
        let since = self.now;
        app.executors.insert(executor, Executor { worker: at, cores, registered: false, since });
        app.workers.insert(at);
        let room = Room { cores, memory: app.spec.executor_memory };
        worker.begins(Process::Executor((id, executor)), room);
        let order = WorkerOrder::LaunchExecutor {
            executor: (id, executor),
            cores,
            memory: app.spec.executor_memory,
            driver_address: app.spec.driver_address.clone(),
            secret: app.spec.secret.clone(),
            driver: app.spec.driver,
        };
        let news = AppNews::Granted {
            executor,
            worker: at,
            worker_address: worker.address.clone(),
            cores,
        };
        self.tell_app(id, news, actions);
        self.tell_worker(at, order, actions);
    }
}
