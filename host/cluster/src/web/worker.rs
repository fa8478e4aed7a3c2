//! What a worker's page shows: what runs on it, and its logs.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::get;
use ingle_core::ids::WorkerId;
use maud::{Markup, html};
use serde::Serialize;
use tokio::sync::mpsc;

use super::answer::{Asked, Paged, missing, view};
use super::html::{self, Column, cores, facts, heading, memory, state, table, time};
use super::logs::{self, Readers};
use super::memory::{Used, brief, by_use};
use crate::worker::WorkerOptions;
use crate::worker::folders::Folders;
use crate::worker::logs::Tail;
use crate::worker::processes::{Name, Processes};

/// What the pages are made from.
#[derive(Clone)]
pub struct WorkerSite {
    processes: Arc<Processes>,
    folders: Arc<Folders>,
    offers: Arc<Offers>,
    readers: Readers,
}

struct Offers {
    started: Instant,
    address: String,
    master: String,
    cores: u32,
    memory: u64,
}

impl WorkerSite {
    pub fn new(
        options: &WorkerOptions,
        address: &str,
        processes: Arc<Processes>,
        folders: Arc<Folders>,
    ) -> Self {
        let offers = Offers {
            started: Instant::now(),
            address: address.to_owned(),
            master: options.master.clone(),
            cores: options.cores,
            memory: options.memory.0,
        };
        Self { processes, folders, offers: Arc::new(offers), readers: Readers::new() }
    }

    pub fn router(self) -> Router {
        let router = Router::new()
            .route("/logs/{id}", get(async |State(site), Path(id)| logs_of(&site, id, None)))
            .route(
                "/logs/{id}/{source}",
                get(async |State(site), Path((id, source))| logs_of(&site, id, Some(source))),
            );
        let router = view(router, "/", overview, show_overview);
        let router = view(router, "/logs", kept, show_kept);
        router.fallback(async || missing("")).with_state(self)
    }
}

#[derive(Serialize)]
struct Overview {
    /// None until its master gave it one.
    id: Option<String>,
    address: String,
    master: String,
    state: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    cores: u32,
    cores_used: u32,
    memory: u64,
    memory_used: u64,
    processes: Paged<Process>,
    /// Walls around them that this host doesn't have.
    missing_walls: Vec<Missing>,
    /// Applications and drivers whose logs are here.
    logs: Paged<String>,
}

#[derive(Serialize)]
struct Missing {
    wall: &'static str,
    why: String,
    remedy: &'static str,
}

#[derive(Serialize)]
struct Process {
    /// `executor 3`, or `driver`.
    what: String,
    /// Of its application, or its own.
    id: String,
    /// None until it is started.
    pid: Option<u32>,
    cores: u32,
    /// Its room, in bytes.
    memory: u64,
    /// None of a driver, nor before an executor said so.
    used: Option<Used>,
    seconds: u64,
    /// Where its log is, on this page.
    log: String,
}

fn list_logs(site: &WorkerSite, page: usize) -> Paged<String> {
    let all = site.folders.all_logs();
    Paged::of(all.len(), page, all.into_iter())
}

fn overview(site: &WorkerSite, asked: &Asked) -> Option<Overview> {
    let offers = &site.offers;
    let mut all = site.processes.shown();
    all.sort_by_key(|process| Reverse(process.since));
    let cores_used = all.iter().map(|process| process.room.cores).sum();
    let memory_used = all.iter().map(|process| process.room.memory).sum();
    let processes = Paged::of(all.len(), asked.page, all.into_iter()).map(|process| {
        let (what, id, source) = match process.name {
            Name::Executor { application, executor } => {
                (format!("executor {executor}"), application, format!("executor-{executor}"))
            }
            Name::Driver { driver, .. } => ("driver".into(), driver, "driver".into()),
        };
        let log = format!("/logs/{id}/{source}");
        let (cores, memory) = (process.room.cores, process.room.memory);
        let seconds = process.since.elapsed().as_secs();
        let used = process.used.map(Used::from);
        Process { what, id, pid: process.pid, cores, memory, used, seconds, log }
    });
    let state = match (site.processes.is_connected(), site.processes.is_draining()) {
        (_, true) => "DRAINING",
        (true, false) => "CONNECTED",
        (false, false) => "LOOKING FOR ITS MASTER",
    };
    let missing_walls = site.processes.walls().down.iter().map(|down| Missing {
        wall: down.wall.name(),
        why: down.why.clone(),
        remedy: down.wall.remedy(),
    });
    Some(Overview {
        id: site.processes.worker().map(|number| WorkerId(number).to_string()),
        address: offers.address.clone(),
        master: format!("ingle://{}", offers.master),
        state,
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: offers.started.elapsed().as_secs(),
        cores: offers.cores,
        cores_used,
        memory: offers.memory,
        memory_used,
        processes,
        missing_walls: missing_walls.collect(),
        logs: list_logs(site, 1),
    })
}

fn kept(site: &WorkerSite, asked: &Asked) -> Option<Paged<String>> {
    Some(list_logs(site, asked.page))
}

fn page(title: &str, body: &Markup) -> Markup {
    html::page("Ingle worker", title, body)
}

fn walls(missing: &[Missing]) -> Markup {
    html! {
        @if missing.is_empty() { "all stand" }
        @for missing in missing {
            div { (missing.wall) " is missing: " (missing.why) "; " (missing.remedy) }
        }
    }
}

fn show_overview(view: &Overview) -> Markup {
    let columns: [Column; 8] = [
        ("What", false),
        ("Of", false),
        ("Process", true),
        ("Cores", true),
        ("Memory", true),
        ("Used for", false),
        ("Time", true),
        ("Log", false),
    ];
    let title = match &view.id {
        Some(id) => format!("{id} at {}", view.address),
        None => view.address.clone(),
    };
    let body = html! {
        (facts(&[
            ("State", state(view.state)),
            ("Master", html! { (view.master) }),
            ("Walls", walls(&view.missing_walls)),
            ("Cores in use", cores(view.cores_used, view.cores)),
            ("Memory in use", memory(view.memory_used, view.memory)),
            ("Up for", html! { (time(view.uptime_seconds)) }),
        ]))
        (heading("Executors and drivers", view.processes.total))
        (table("/", &columns, &view.processes, "Nothing runs here.", |row| vec![
            html! { (row.what) },
            html! { (row.id) },
            html! { @match row.pid { Some(pid) => (pid), None => "is started" } },
            html! { (row.cores) },
            brief(row.used.as_ref(), row.memory),
            html! { @if let Some(used) = &row.used { (by_use(used)) } },
            html! { (time(row.seconds)) },
            html! { a href=(row.log) { "its end" } },
        ]))
        (heading("Logs that are here", view.logs.total))
        (log_table(&view.logs))
    };
    page(&title, &body)
}

fn show_kept(list: &Paged<String>) -> Markup {
    page("Logs that are here", &log_table(list))
}

fn log_table(list: &Paged<String>) -> Markup {
    table("/logs", &[("Of", false)], list, "There are none.", |id| {
        vec![html! { a href=(format!("/logs/{id}")) { (id) } }]
    })
}

/// The last of what was printed here.
fn logs_of(site: &WorkerSite, id: String, only: Option<String>) -> Response {
    let Some(dir) = site.folders.logs(&id) else { return missing(&id) };
    let Some(place) = site.readers.enter() else { return logs::busy() };
    let (send, parts) = mpsc::channel(logs::AHEAD);
    let tail = Tail::new(dir, only, logs::LAST);
    tokio::spawn(tail.run(|| false, send));
    let whole = format!("ingle logs {id} --master ingle://{}", site.offers.master);
    logs::text(parts, place, whole)
}

#[cfg(test)]
mod tests {
    use ingle_proto::v1;

    use super::*;

    fn executor_use() -> v1::ExecutorUse {
        const MIB: u64 = 1 << 20;
        let usage = |guests, cache| {
            Some(v1::MemoryUsage { guests: guests * MIB, cache: cache * MIB, ..Default::default() })
        };
        v1::ExecutorUse {
            capacity: 3 << 30,
            now: usage(100, 300),
            most: usage(700, 400),
            at_peak: usage(600, 350),
            spilled: 5 * MIB,
            cached: Some(v1::CachedUse { partitions: 7, in_memory: 290 * MIB, on_disk: 4 * MIB }),
        }
    }

    #[test]
    fn a_worker_shows_what_runs_on_it() {
        let evil = "<script>alert(1)</script>\"";
        let process = Process {
            what: "executor 7".into(),
            id: evil.into(),
            pid: Some(4711),
            cores: 2,
            memory: 3 << 30,
            used: Some(executor_use().into()),
            seconds: 61,
            log: "/logs/app-1/executor-7".into(),
        };
        let view = Overview {
            id: Some("worker-3".into()),
            address: evil.into(),
            master: evil.into(),
            state: "CONNECTED",
            version: "1",
            uptime_seconds: 1,
            cores: 4,
            cores_used: 2,
            memory: 8 << 30,
            memory_used: 3 << 30,
            processes: Paged::of(1, 1, std::iter::once(process)),
            missing_walls: vec![Missing { wall: "files", why: evil.into(), remedy: "get it" }],
            logs: Paged::of(1, 1, std::iter::once(evil.to_owned())),
        };
        let page = show_overview(&view).into_string();
        for text in [
            "worker-3 at",
            "executor 7",
            "4711",
            "3.0 GiB of 8.0 GiB",
            "1 min 1 s",
            "files is missing",
        ] {
            assert!(page.contains(text), "{text} is missing: {page}");
        }
        for text in [
            "400.0 MiB of 3.0 GiB",
            "peak 950.0 MiB",
            "guests 100.0 MiB, peak 700.0 MiB",
            "cached partitions 300.0 MiB, peak 400.0 MiB",
            "7 partitions cached: 290.0 MiB in memory, 4.0 MiB on disk",
            "5.0 MiB spilled",
        ] {
            assert!(page.contains(text), "{text} is missing: {page}");
        }
        assert!(!page.contains("driver images"), "there never were any: {page}");
        let json = serde_json::to_value(&view).unwrap();
        let used = &json["processes"]["rows"][0]["used"];
        assert_eq!(used["peak"], 950u64 << 20, "{used}");
        assert_eq!(used["now"]["total"], 400u64 << 20, "{used}");
        assert_eq!(used["now"]["guests"], 100u64 << 20, "{used}");
        assert_eq!(used["at_peak"]["cache"], 350u64 << 20, "{used}");
        assert_eq!(used["most"]["guests"], 700u64 << 20, "{used}");
        assert_eq!(used["cached"]["partitions"], 7, "{used}");
        assert_eq!(used["cached"]["on_disk"], 4u64 << 20, "{used}");
        assert_eq!(used["spilled"], 5u64 << 20, "{used}");
        assert!(page.contains("href=\"/logs/app-1/executor-7\""));
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
    }
}
