//! What a master's page shows: views of what its core knows.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use ingle_core::ids::WorkerId;
use ingle_core::master::{AppId, AppStatus, DriverId, DriverStatus, Master, WorkerStatus};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};

use super::answer::{Asked, Paged, missing, view};
use super::html::brief;
use super::logs::{self, Readers};

mod pages;

use crate::master::convert::explained;
use crate::master::logs as places;
use crate::master::shell::Shell;

/// What the pages are made from.
#[derive(Clone)]
pub struct MasterSite {
    shell: Arc<Shell>,
    /// The master's host:port.
    address: Arc<str>,
    readers: Readers,
}

impl MasterSite {
    pub fn new(shell: Arc<Shell>, address: &str) -> Self {
        Self { shell, address: address.into(), readers: Readers::new() }
    }

    pub fn router(self) -> Router {
        let router = Router::new().route("/logs/{id}", get(logs_of));
        let router = view(router, "/", overview, pages::overview);
        let router = view(router, "/workers", workers, pages::workers);
        let router = view(router, "/running", running, pages::running);
        let router = view(router, "/ended", ended, pages::ended);
        let router = view(router, "/drivers", drivers, pages::drivers);
        let router = view(router, "/app/{id}", app, pages::app);
        let router = view(router, "/driver/{id}", driver, pages::driver);
        let router = view(router, "/worker/{id}", worker, pages::worker);
        router.fallback(async || missing("")).with_state(self)
    }
}

/// The first page.
#[derive(Serialize)]
struct Overview {
    url: String,
    version: &'static str,
    uptime_seconds: u64,
    workers_alive: usize,
    cores: u32,
    cores_used: u32,
    memory: u64,
    memory_used: u64,
    workers: Paged<WorkerRow>,
    running: Paged<AppRow>,
    ended: Paged<AppRow>,
    drivers: Paged<DriverRow>,
}

#[derive(Serialize)]
struct WorkerRow {
    id: String,
    address: String,
    state: &'static str,
    cores: u32,
    cores_used: u32,
    memory: u64,
    memory_used: u64,
    executors: usize,
    drivers: usize,
    /// Where its own page is.
    page: Option<String>,
}

#[derive(Serialize)]
struct AppRow {
    id: String,
    name: String,
    state: String,
    /// Why, or what it waits for.
    text: String,
    executors: usize,
    cores: u32,
    memory_per_executor: u64,
    driver: Option<String>,
    #[serde(flatten)]
    time: Time,
}

#[derive(Serialize)]
struct DriverRow {
    id: String,
    name: String,
    state: String,
    text: String,
    worker: Option<String>,
    application: Option<String>,
    cores: u32,
    memory: u64,
    restarts: u32,
    #[serde(flatten)]
    time: Time,
}

/// When something was, in seconds since 1970, and for how long.
#[derive(Serialize)]
struct Time {
    started: u64,
    ended: Option<u64>,
    seconds: u64,
}

#[derive(Serialize)]
struct AppView {
    #[serde(flatten)]
    app: AppRow,
    /// As `ingle explain` says it.
    explained: String,
    executors_by_worker: Paged<ExecutorRow>,
    logs: Paged<Place>,
}

#[derive(Serialize)]
struct ExecutorRow {
    executor: u32,
    worker: Place,
    state: &'static str,
    /// Of one that runs.
    cores: Option<u32>,
}

/// A worker that has logs.
#[derive(Serialize)]
struct Place {
    worker: String,
    /// None if it is gone, and its logs with it.
    address: Option<String>,
    page: Option<String>,
}

#[derive(Serialize)]
struct DriverView {
    #[serde(flatten)]
    driver: DriverRow,
    explained: String,
    logs: Option<Place>,
}

#[derive(Serialize)]
struct WorkerView {
    #[serde(flatten)]
    worker: WorkerRow,
    runs: Paged<OnWorker>,
}

/// What runs on a worker.
#[derive(Serialize)]
struct OnWorker {
    /// `executor 3`, or `driver`.
    what: String,
    /// Of its application, or its own.
    id: String,
    name: String,
    cores: u32,
    memory: u64,
}

impl Time {
    fn of(started: u64, ended: Option<u64>) -> Self {
        let seconds = ended.unwrap_or_else(Shell::wall).saturating_sub(started);
        Self { started, ended, seconds }
    }
}

impl AppRow {
    /// The text whole.
    fn whole(status: &AppStatus) -> Self {
        Self {
            id: status.id.to_string(),
            name: status.name.clone(),
            state: status.state.to_string(),
            text: status.text.clone(),
            executors: status.executors.len(),
            cores: status.cores,
            memory_per_executor: status.executor_memory,
            driver: status.driver.map(|id| id.to_string()),
            time: Time::of(status.id.given_at(), status.ended),
        }
    }

    fn brief(status: &AppStatus) -> Self {
        Self { text: brief(&status.text), ..Self::whole(status) }
    }
}

impl DriverRow {
    fn whole(status: &DriverStatus) -> Self {
        Self {
            id: status.id.to_string(),
            name: status.name.clone(),
            state: status.state.to_string(),
            text: status.text.clone(),
            worker: status.worker.map(|id| id.to_string()),
            application: status.app.map(|id| id.to_string()),
            cores: status.cores,
            memory: status.memory,
            restarts: status.restarts,
            time: Time::of(status.id.given_at(), status.ended),
        }
    }

    fn brief(status: &DriverStatus) -> Self {
        Self { text: brief(&status.text), ..Self::whole(status) }
    }
}

impl WorkerRow {
    fn of(status: WorkerStatus) -> Self {
        Self {
            id: status.id.to_string(),
            address: status.address,
            state: status.state,
            cores: status.cores,
            cores_used: status.cores_used,
            memory: status.memory,
            memory_used: status.memory_used,
            executors: status.executors,
            drivers: status.drivers,
            page: Some(status.page).filter(|page| !page.is_empty()),
        }
    }
}

impl Place {
    fn of(core: &Master, worker: WorkerId) -> Self {
        let status = core.worker(worker).map(WorkerRow::of);
        let (address, page) = status.map_or((None, None), |row| (Some(row.address), row.page));
        Self { worker: worker.to_string(), address, page }
    }
}

fn list_workers(core: &Master, page: usize) -> Paged<WorkerRow> {
    Paged::of(core.workers().len(), page, core.workers()).map(WorkerRow::of)
}

/// The latest first.
fn list_running(core: &Master, page: usize) -> Paged<AppRow> {
    let ids = Paged::of(core.live_apps().len(), page, core.live_apps().rev());
    ids.filter_map(|id| core.app(id).map(|status| AppRow::brief(&status)))
}

/// The last to end first.
fn list_ended(core: &Master, page: usize) -> Paged<AppRow> {
    Paged::of(core.ended_apps().len(), page, core.ended_apps().rev()).map(AppRow::brief)
}

/// Those that run first, the latest first.
fn list_drivers(core: &Master, page: usize) -> Paged<DriverRow> {
    let ended = core.ended_drivers().rev().map(|status| status.id);
    let total = core.live_drivers().len() + ended.len();
    let ids = Paged::of(total, page, core.live_drivers().rev().chain(ended));
    ids.filter_map(|id| core.driver(id).map(|status| DriverRow::brief(&status)))
}

fn overview(site: &MasterSite, _: &Asked) -> Option<Overview> {
    site.shell.look(|core| {
        let mut view = Overview {
            url: format!("ingle://{}", site.address),
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: site.shell.uptime().as_secs(),
            workers_alive: 0,
            cores: 0,
            cores_used: 0,
            memory: 0,
            memory_used: 0,
            workers: list_workers(core, 1),
            running: list_running(core, 1),
            ended: list_ended(core, 1),
            drivers: list_drivers(core, 1),
        };
        for worker in core.workers().filter(|worker| worker.state == "ALIVE") {
            view.workers_alive += 1;
            // Workers offer what they like.
            view.cores = view.cores.saturating_add(worker.cores);
            view.cores_used = view.cores_used.saturating_add(worker.cores_used);
            view.memory = view.memory.saturating_add(worker.memory);
            view.memory_used = view.memory_used.saturating_add(worker.memory_used);
        }
        Some(view)
    })
}

fn workers(site: &MasterSite, asked: &Asked) -> Option<Paged<WorkerRow>> {
    Some(site.shell.look(|core| list_workers(core, asked.page)))
}

fn running(site: &MasterSite, asked: &Asked) -> Option<Paged<AppRow>> {
    Some(site.shell.look(|core| list_running(core, asked.page)))
}

fn ended(site: &MasterSite, asked: &Asked) -> Option<Paged<AppRow>> {
    Some(site.shell.look(|core| list_ended(core, asked.page)))
}

fn drivers(site: &MasterSite, asked: &Asked) -> Option<Paged<DriverRow>> {
    Some(site.shell.look(|core| list_drivers(core, asked.page)))
}

fn app(site: &MasterSite, asked: &Asked) -> Option<AppView> {
    let id: AppId = asked.id.parse().ok()?;
    site.shell.look(|core| {
        let status = core.app(id)?;
        let app = AppRow::whole(&status);
        let executors = if status.state.is_over() {
            let list = status.executors.iter();
            Paged::of(list.len(), asked.page, list).map(|(id, worker)| ExecutorRow {
                executor: id.0,
                worker: Place::of(core, *worker),
                state: "ENDED",
                cores: None,
            })
        } else {
            let mut list: Vec<_> = core.executors(id).collect();
            list.sort_by_key(|executor| (executor.worker, executor.id));
            Paged::of(list.len(), asked.page, list.into_iter()).map(|executor| ExecutorRow {
                executor: executor.id.0,
                worker: Place::of(core, executor.worker),
                state: if executor.registered { "RUNNING" } else { "STARTING" },
                cores: Some(executor.cores),
            })
        };
        let workers = status.workers.iter();
        let logs = Paged::of(workers.len(), 1, workers).map(|worker| Place::of(core, *worker));
        let explained = explained(&app.id, &app.name, &app.state, &app.text);
        Some(AppView { app, explained, executors_by_worker: executors, logs })
    })
}

fn driver(site: &MasterSite, asked: &Asked) -> Option<DriverView> {
    let id: DriverId = asked.id.parse().ok()?;
    site.shell.look(|core| {
        let status = core.driver(id)?;
        let driver = DriverRow::whole(&status);
        let logs = status.worker.map(|worker| Place::of(core, worker));
        let explained = explained(&driver.id, &driver.name, &driver.state, &driver.text);
        Some(DriverView { driver, explained, logs })
    })
}

fn worker(site: &MasterSite, asked: &Asked) -> Option<WorkerView> {
    let id = asked.id.strip_prefix("worker-")?.parse().ok().map(WorkerId)?;
    site.shell.look(|core| {
        let worker = WorkerRow::of(core.worker(id)?);
        let (executors, drivers) = core.runs_on(id);
        let executors = executors.map(|((app, executor), room)| (Ok((app, executor)), room));
        let drivers = drivers.map(|((driver, _), room)| (Err(driver), room));
        let total = worker.executors + worker.drivers;
        let runs = Paged::of(total, asked.page, executors.chain(drivers)).map(|(what, room)| {
            let (what, id, name) = match what {
                Ok((app, executor)) => {
                    (executor.to_string(), app.to_string(), core.app(app).map(|app| app.name))
                }
                Err(driver) => {
                    ("driver".into(), driver.to_string(), core.driver(driver).map(|d| d.name))
                }
            };
            let name = name.unwrap_or_default();
            OnWorker { what, id, name, cores: room.cores, memory: room.memory }
        });
        Some(WorkerView { worker, runs })
    })
}

/// The last of what an application and its driver printed, from one worker after the other.
async fn logs_of(State(site): State<MasterSite>, Path(id): Path<String>) -> Response {
    let (app, driver) = (id.parse().ok(), id.parse().ok());
    let Some(places) = site.shell.look(|core| places::places(core, app, driver)) else {
        return missing(&id);
    };
    let Some(place) = site.readers.enter() else { return logs::busy() };
    let (send, parts) = mpsc::channel(logs::AHEAD);
    tokio::spawn(async move {
        let turns = Semaphore::new(1);
        for place in places {
            if !places::relay(place, false, logs::LAST, &turns, &send).await {
                return;
            }
        }
    });
    let whole = format!("ingle logs {id} --master ingle://{}", site.address);
    logs::text(parts, place, whole)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ingle_core::master::{AppSpec, ConnectionId, Event, Policy};

    use super::*;

    /// A master that so many applications came to; so many of them, the first ones, are over.
    fn master(apps: u32, over: u32) -> Master {
        let mut core = Master::new(Policy { history: 100_000, ..Policy::default() });
        for number in 1..=apps {
            let mut secret = vec![0; 32];
            secret[..4].copy_from_slice(&number.to_le_bytes());
            let spec = AppSpec {
                name: format!("job {number}"),
                driver_address: "d:1".into(),
                secret,
                executor_cores: Some(1),
                executor_memory: 1 << 30,
                total_executor_cores: None,
                num_executors: None,
                spread_out: true,
                dynamic: false,
                driver: None,
                driver_proof: Vec::new(),
            };
            let connection = ConnectionId(number.into());
            let hello = Event::AppHello { connection, id: None, spec, wall: number.into() };
            let mut actions = Vec::new();
            core.handle(Duration::ZERO, hello, &mut actions);
            if number <= over {
                core.set_wall(u64::from(number) + 5);
                let app = AppId::new(number.into(), number);
                core.handle(Duration::ZERO, Event::AppEnded { app, failure: None }, &mut actions);
            }
        }
        core
    }

    #[test]
    fn of_10_000s_of_applications_a_part_is_shown_the_latest_first() {
        let core = master(20_100, 20_000);
        let (running, ended) = (list_running(&core, 1), list_ended(&core, 2));
        assert_eq!((running.total, running.pages, running.rows.len()), (100, 2, 50));
        assert_eq!(running.rows[0].name, "job 20100");
        assert_eq!(
            running.rows[0].text,
            "waits for a worker: there is none with 1 core and 1.0 GiB"
        );
        assert_eq!((ended.total, ended.pages, ended.rows.len()), (20_000, 400, 50));
        let first = &ended.rows[0];
        assert_eq!((first.name.as_str(), first.state.as_str()), ("job 19950", "FINISHED"));
        assert_eq!(
            (first.time.started, first.time.ended, first.time.seconds),
            (19_950, Some(19_955), 5)
        );
        assert_eq!(list_ended(&core, 400).rows[49].name, "job 1");
    }
}
