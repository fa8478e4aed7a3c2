//! What people ask: how applications, drivers and workers are, and what is waited for.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::event::{DriverTry, ExecutorName, Room};
use super::ids::{AppId, DriverId};
use super::{App, Driver, Master, Worker};
use crate::ids::{ExecutorId, WorkerId};
use crate::size::ByteSize;

/// How far an application or a driver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppState {
    /// Known, and not looked at yet.
    Submitted,
    /// It has nothing to run on.
    Waiting,
    /// It runs.
    Running,
    /// It ended well.
    Finished,
    /// It ended badly.
    Failed,
    /// Somebody ended it, or its driver went away.
    Killed,
}

impl AppState {
    /// Whether it is over.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Killed)
    }
}

impl fmt::Display for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Submitted => "SUBMITTED",
            Self::Waiting => "WAITING",
            Self::Running => "RUNNING",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Killed => "KILLED",
        })
    }
}

/// An application as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its name.
    pub id: AppId,
    /// What its user calls it.
    pub name: String,
    /// How far it is.
    pub state: AppState,
    /// Why, or what it waits for.
    pub text: String,
    /// The driver that made it, in cluster mode.
    pub driver: Option<DriverId>,
    /// Its executors, and where they are, or were.
    pub executors: Vec<(ExecutorId, WorkerId)>,
    /// Of all its executors.
    pub cores: u32,
    /// Of each, in bytes.
    pub executor_memory: u64,
    /// Workers that its executors were on: their logs are there.
    pub workers: Vec<WorkerId>,
    /// When it was over, in seconds since 1970.
    pub ended: Option<u64>,
}

/// An executor as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutorStatus {
    /// Its number within its application.
    pub id: ExecutorId,
    /// Where it is.
    pub worker: WorkerId,
    /// Its task slots.
    pub cores: u32,
    /// It has found its driver.
    pub registered: bool,
}

/// A driver as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverStatus {
    /// Its name.
    pub id: DriverId,
    /// What its user calls it.
    pub name: String,
    /// How far it is.
    pub state: AppState,
    /// Why, or what it waits for.
    pub text: String,
    /// Where it runs, or ran last.
    pub worker: Option<WorkerId>,
    /// The application that it made last.
    pub app: Option<AppId>,
    /// What it takes.
    pub cores: u32,
    /// What it takes, in bytes.
    pub memory: u64,
    /// How often it was started again.
    pub restarts: u32,
    /// When it was over, in seconds since 1970.
    pub ended: Option<u64>,
}

/// A worker as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Its name.
    pub id: WorkerId,
    /// Where it serves, host:port.
    pub address: String,
    /// Where its page is, host:port; empty if it has none.
    pub page: String,
    /// ALIVE, DISCONNECTED, DECOMMISSIONING.
    pub state: &'static str,
    /// What it offers.
    pub cores: u32,
    /// What of that is taken.
    pub cores_used: u32,
    /// What it offers, in bytes.
    pub memory: u64,
    /// What of that is taken.
    pub memory_used: u64,
    /// How many run on it.
    pub executors: usize,
    /// How many run on it.
    pub drivers: usize,
}

/// The applications before one that have executors.
#[derive(Default)]
pub(super) struct Earlier {
    number: usize,
    /// The first and the last of them.
    ends: Option<(AppId, AppId)>,
}

impl Earlier {
    /// The next application, in the order of their ids.
    pub fn note(&mut self, id: AppId, app: &App) {
        if !app.executors.is_empty() {
            self.number += 1;
            self.ends = Some((self.ends.map_or(id, |(first, _)| first), id));
        }
    }
}

/// What isn't there of so many cores and bytes.
pub(super) type Lacks = BTreeMap<(u32, u64), String>;

impl Master {
    /// All workers.
    pub fn workers(&self) -> impl ExactSizeIterator<Item = WorkerStatus> + '_ {
        self.workers.iter().map(|(id, worker)| worker.status(*id))
    }

    /// How a worker is.
    pub fn worker(&self, id: WorkerId) -> Option<WorkerStatus> {
        self.workers.get(&id).map(|worker| worker.status(id))
    }

    /// What runs on a worker, and what it takes: executors first.
    pub fn runs_on(
        &self,
        id: WorkerId,
    ) -> (impl Iterator<Item = (ExecutorName, Room)>, impl Iterator<Item = (DriverTry, Room)>) {
        let worker = self.workers.get(&id);
        let executors = worker.into_iter().flat_map(|w| &w.executors).filter_map(|name| {
            let app = self.apps.get(&name.0)?;
            Some((*name, app.room(app.executors.get(&name.1)?)))
        });
        let drivers = worker.into_iter().flat_map(|w| &w.drivers);
        let drivers =
            drivers.filter_map(|driver| Some((*driver, self.drivers.get(&driver.0)?.room())));
        (executors, drivers)
    }

    /// The executors of an application that isn't over.
    pub fn executors(&self, app: AppId) -> impl Iterator<Item = ExecutorStatus> {
        let executors = self.apps.get(&app).into_iter().flat_map(|app| &app.executors);
        executors.map(|(id, e)| ExecutorStatus {
            id: *id,
            worker: e.worker,
            cores: e.cores,
            registered: e.registered,
        })
    }

    /// The names of applications that aren't over, the oldest first. How one is costs more to say than its name.
    pub fn live_apps(&self) -> impl DoubleEndedIterator<Item = AppId> + ExactSizeIterator {
        self.apps.keys().copied()
    }

    /// Applications that are over, the first to end first.
    pub fn ended_apps(&self) -> impl DoubleEndedIterator<Item = &AppStatus> + ExactSizeIterator {
        self.ended_apps.iter()
    }

    /// The names of drivers that aren't over, the oldest first.
    pub fn live_drivers(&self) -> impl DoubleEndedIterator<Item = DriverId> + ExactSizeIterator {
        self.drivers.keys().copied()
    }

    /// Drivers that are over, the first to end first.
    pub fn ended_drivers(
        &self,
    ) -> impl DoubleEndedIterator<Item = &DriverStatus> + ExactSizeIterator {
        self.ended_drivers.iter()
    }

    /// All applications that are known, those that are over first.
    pub fn apps(&self) -> impl Iterator<Item = AppStatus> + '_ {
        let (mut earlier, mut lacks) = (Earlier::default(), Lacks::new());
        let live = self.apps.iter().map(move |(id, app)| {
            let status = self.app_status_after(*id, app, &earlier, &mut lacks);
            earlier.note(*id, app);
            status
        });
        self.ended_apps.iter().cloned().chain(live)
    }

    /// All drivers that are known, those that are over first.
    pub fn drivers(&self) -> impl Iterator<Item = DriverStatus> + '_ {
        let live = self.drivers.iter().map(|(id, driver)| self.driver_status(*id, driver));
        self.ended_drivers.iter().cloned().chain(live)
    }

    /// How an application is.
    pub fn app(&self, id: AppId) -> Option<AppStatus> {
        match self.apps.get(&id) {
            Some(app) => Some(self.app_status(id, app)),
            None => self.ended_apps.iter().find(|status| status.id == id).cloned(),
        }
    }

    /// How a driver is.
    pub fn driver(&self, id: DriverId) -> Option<DriverStatus> {
        match self.drivers.get(&id) {
            Some(driver) => Some(self.driver_status(id, driver)),
            None => self.ended_drivers.iter().find(|status| status.id == id).cloned(),
        }
    }

    /// Where a worker serves.
    pub fn worker_address(&self, id: WorkerId) -> Option<&str> {
        self.workers.get(&id).map(|worker| worker.address.as_str())
    }

    /// What whoever reads a worker's logs proves itself with; empty if the worker didn't say so to this master.
    pub fn log_secret(&self, id: WorkerId) -> Option<&[u8]> {
        self.workers.get(&id).map(|worker| worker.log_secret.as_slice())
    }

    /// A worker by its name or address.
    pub fn find_worker(&self, text: &str) -> Option<WorkerId> {
        let named = |(id, worker): (&WorkerId, &Worker)| {
            (id.to_string() == text || worker.address == text).then_some(*id)
        };
        self.workers.iter().find_map(named)
    }

    pub(super) fn app_status(&self, id: AppId, app: &App) -> AppStatus {
        let mut earlier = Earlier::default();
        self.apps.range(..id).for_each(|(id, app)| earlier.note(*id, app));
        self.app_status_after(id, app, &earlier, &mut Lacks::new())
    }

    /// As [`Master::app_status`], for several.
    fn app_status_after(
        &self,
        id: AppId,
        app: &App,
        earlier: &Earlier,
        lacks: &mut Lacks,
    ) -> AppStatus {
        let state = match app.executors.values().any(|e| e.registered) {
            true => AppState::Running,
            false => AppState::Waiting,
        };
        AppStatus {
            id,
            name: app.spec.name.clone(),
            state,
            text: self.waits(app, earlier, lacks),
            driver: app.spec.driver,
            executors: app.executors.iter().map(|(id, e)| (*id, e.worker)).collect(),
            cores: app.cores(),
            executor_memory: app.spec.executor_memory,
            workers: app.workers.iter().copied().collect(),
            ended: None,
        }
    }

    pub(super) fn driver_status(&self, id: DriverId, driver: &Driver) -> DriverStatus {
        let state = match (driver.worker, driver.looked_at) {
            (Some(_), _) => AppState::Running,
            (None, true) => AppState::Waiting,
            (None, false) => AppState::Submitted,
        };
        let spec = &driver.spec;
        let text = match driver.worker {
            Some(_) => String::new(),
            None if driver.not_before > self.now => {
                format!("it failed, and is started again in a moment: {}", driver.last)
            }
            None => {
                let lack = self.lack(spec.cores, spec.memory);
                format!("waits for {lack}{}", driver.refused.words(self.now))
            }
        };
        DriverStatus {
            id,
            name: spec.name.clone(),
            state,
            text,
            worker: driver.worker.or(driver.last_worker),
            app: driver.app,
            cores: spec.cores,
            memory: spec.memory,
            restarts: driver.restarts,
            ended: None,
        }
    }

    /// What an application waits for; empty: for nothing. `earlier` are those that came before it, and `lacks` is for those that are asked about
    /// together.
    pub(super) fn waits(&self, app: &App, earlier: &Earlier, lacks: &mut Lacks) -> String {
        let launched = app.executors.len();
        let launching = app.executors.values().filter(|e| !e.registered).count();
        let wanted = self.wanted(app);
        if app.connection.is_none() {
            return "waits for its driver to come back".into();
        }
        if wanted.is_none() || (!app.is_bounded() && launched > 0) {
            return match launching {
                0 => String::new(),
                n => format!("waits for {n} of {launched} executors to start"),
            };
        }
        let spec = &app.spec;
        let have = match launched {
            0 => String::new(),
            n => format!("has {n} executors, and "),
        };
        if app.not_before > self.now {
            return format!(
                "{have}waits a moment, since its executors failed: {}",
                app.last_failure
            );
        }
        let need = (spec.executor_cores.unwrap_or(1), spec.executor_memory);
        let lack = lacks.entry(need).or_insert_with(|| self.lack(need.0, need.1));
        let before = match (earlier.number, earlier.ends) {
            (_, None) => String::new(),
            (1, Some((one, _))) => format!("; before it came {one}"),
            (number, Some((first, last))) => {
                format!("; before it came {number} applications, {first} to {last}")
            }
        };
        let refused = app.refused.words(self.now);
        format!("{have}waits for {lack}{before}{refused}")
    }

    /// What of a need isn't there.
    fn lack(&self, cores: u32, memory: u64) -> String {
        let taking: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, w)| w.connection.is_some() && !w.draining)
            .map(|(id, w)| (*id, w))
            .collect();
        let need = format!("{} and {}", cores_words(cores), ByteSize(memory));
        if taking.is_empty() {
            return format!("a worker: there is none with {need}");
        }
        let best = taking.iter().max_by_key(|(_, w)| (w.free_memory() >= memory, w.free_cores()));
        let free = match best {
            Some((id, w)) => format!(
                ": {id} ({}) has {} and {} free",
                w.address,
                cores_words(w.free_cores()),
                ByteSize(w.free_memory())
            ),
            None => String::new(),
        };
        format!("{need} free on one worker{free}")
    }

    /// Why a need can never be met, if there are workers and none is large enough.
    pub(super) fn never_fits(&self, what: &str, cores: u32, memory: u64) -> Option<String> {
        let mut workers = self.workers.iter().filter(|(_, worker)| !worker.draining).peekable();
        workers.peek()?;
        let (id, largest) = workers.max_by_key(|(_, w)| {
            (w.cores >= cores && w.memory >= memory, w.memory >= memory, w.cores, w.memory)
        })?;
        if largest.cores >= cores && largest.memory >= memory {
            return None;
        }
        Some(format!(
            "{what} of {} and {} fits on no worker: the largest, {id} ({}), has {} and {}",
            cores_words(cores),
            ByteSize(memory),
            largest.address,
            cores_words(largest.cores),
            ByteSize(largest.memory)
        ))
    }
}

fn cores_words(cores: u32) -> String {
    if cores == 1 { "1 core".into() } else { format!("{cores} cores") }
}

impl Worker {
    fn status(&self, id: WorkerId) -> WorkerStatus {
        let state = match (&self.connection, self.draining) {
            (_, true) => "DECOMMISSIONING",
            (Some(_), _) => "ALIVE",
            (None, _) => "DISCONNECTED",
        };
        WorkerStatus {
            id,
            address: self.address.clone(),
            page: self.page.clone(),
            state,
            cores: self.cores,
            cores_used: self.cores_used,
            memory: self.memory,
            memory_used: self.memory_used,
            executors: self.executors.len(),
            drivers: self.drivers.len(),
        }
    }
}
