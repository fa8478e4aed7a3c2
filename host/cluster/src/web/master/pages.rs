//! The views as HTML.

use ingle_core::size::ByteSize;
use maud::{Markup, html};

use super::{
    AppRow, AppView, DriverRow, DriverView, Overview, Paged, Place, Time, WorkerRow, WorkerView,
};
use crate::web::html::{self, Column, cores, facts, heading, memory, state, table, time};

const HOME: &str = "Ingle master";

fn page(title: &str, body: &Markup) -> Markup {
    html::page(HOME, title, body)
}

pub fn overview(view: &Overview) -> Markup {
    let body = html! {
        (facts(&[
            ("Workers", html! { (view.workers_alive) " alive of " (view.workers.total) }),
            ("Cores in use", cores(view.cores_used, view.cores)),
            ("Memory in use", memory(view.memory_used, view.memory)),
            ("Applications", html! { (view.running.total) " running or waiting, " (view.ended.total) " ended" }),
            ("Up for", html! { (time(view.uptime_seconds)) }),
        ]))
        (heading("Running and waiting applications", view.running.total))
        (apps("/running", &view.running, "Nothing runs. rsubmit --master with the address above starts something."))
        (heading("Workers", view.workers.total))
        (worker_table(&view.workers))
        @if view.drivers.total > 0 {
            (heading("Drivers on workers", view.drivers.total))
            (driver_table(&view.drivers))
        }
        (heading("Ended applications", view.ended.total))
        (apps("/ended", &view.ended, "None yet."))
    };
    page(&view.url, &body)
}

pub fn workers(list: &Paged<WorkerRow>) -> Markup {
    page("Workers", &worker_table(list))
}

pub fn running(list: &Paged<AppRow>) -> Markup {
    page("Running and waiting applications", &apps("/running", list, "Nothing runs."))
}

pub fn ended(list: &Paged<AppRow>) -> Markup {
    page("Ended applications", &apps("/ended", list, "None yet."))
}

pub fn drivers(list: &Paged<DriverRow>) -> Markup {
    page("Drivers on workers", &driver_table(list))
}

fn worker_table(list: &Paged<WorkerRow>) -> Markup {
    let columns: [Column; 7] = [
        ("Worker", false),
        ("Address", false),
        ("State", false),
        ("Cores", true),
        ("Memory", true),
        ("Runs", false),
        ("Page", false),
    ];
    table(
        "/workers",
        &columns,
        list,
        "There are none: ingle worker with the address above adds one.",
        |row| {
            vec![
                worker_link(&row.id),
                html! { (row.address) },
                state(row.state),
                cores(row.cores_used, row.cores),
                memory(row.memory_used, row.memory),
                runs(row),
                own_page(row.page.as_deref()),
            ]
        },
    )
}

fn runs(row: &WorkerRow) -> Markup {
    let many = |n: usize, what: &str| match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    html! {
        (many(row.executors, "executor"))
        @if row.drivers > 0 { ", " (many(row.drivers, "driver")) }
    }
}

fn apps(path: &str, list: &Paged<AppRow>, none: &str) -> Markup {
    let columns: [Column; 7] = [
        ("Application", false),
        ("Name", false),
        ("State", false),
        ("Executors", true),
        ("Cores", true),
        ("Memory of each", true),
        ("Time", true),
    ];
    table(path, &columns, list, none, |row| {
        vec![
            app_link(&row.id),
            named(&row.name, &row.text),
            state(&row.state),
            html! { (row.executors) },
            html! { (row.cores) },
            html! { (ByteSize(row.memory_per_executor)) },
            lasted(&row.time),
        ]
    })
}

fn driver_table(list: &Paged<DriverRow>) -> Markup {
    let columns: [Column; 8] = [
        ("Driver", false),
        ("Name", false),
        ("State", false),
        ("Application", false),
        ("Worker", false),
        ("Cores", true),
        ("Memory", true),
        ("Time", true),
    ];
    table("/drivers", &columns, list, "None yet.", |row| {
        vec![
            driver_link(&row.id),
            named(&row.name, &row.text),
            state(&row.state),
            html! { @if let Some(id) = &row.application { (app_link(id)) } },
            html! { @if let Some(id) = &row.worker { (worker_link(id)) } },
            html! { (row.cores) },
            html! { (ByteSize(row.memory)) },
            lasted(&row.time),
        ]
    })
}

/// A name that a user gave, and what there is to say about it.
fn named(name: &str, text: &str) -> Markup {
    html! {
        bdi { (name) }
        @if !text.is_empty() { div.note { bdi { (text) } } }
    }
}

fn lasted(lasted: &Time) -> Markup {
    html! { (time(lasted.seconds)) }
}

fn when(lasted: &Time) -> Markup {
    let text = time(lasted.seconds);
    match lasted.ended {
        Some(ended) => {
            let ago = crate::master::shell::Shell::wall().saturating_sub(ended);
            html! { (text) ", until " (time(ago)) " ago" }
        }
        None => html! { (text) " so far" },
    }
}

fn app_link(id: &str) -> Markup {
    html! { a href=(format!("/app/{id}")) { (id) } }
}

fn driver_link(id: &str) -> Markup {
    html! { a href=(format!("/driver/{id}")) { (id) } }
}

fn worker_link(id: &str) -> Markup {
    html! { a href=(format!("/worker/{id}")) { (id) } }
}

/// The way to a worker's own page, if it is known.
fn own_page(page: Option<&str>) -> Markup {
    html! { @if let Some(page) = page { a href=(format!("http://{page}/")) { (page) } } }
}

/// The way to the log of an application or a driver.
fn log_link(id: &str) -> Markup {
    html! {
        p { a href=(format!("/logs/{id}")) { "The end of what it printed" } ", or all of it: " code { "ingle logs " (id) } }
    }
}

/// A worker that has logs, and where on its page.
fn place(place: &Place, log: &str) -> Markup {
    html! {
        @match (&place.address, &place.page) {
            (None, _) => { (place.worker) span.soft { ", which is gone with its logs" } }
            (Some(address), page) => {
                (worker_link(&place.worker)) span.soft { " at " (address) }
                @if let Some(page) = page { ", " a href=(format!("http://{page}/logs/{log}")) { "log there" } }
            }
        }
    }
}

pub fn app(view: &AppView) -> Markup {
    let app = &view.app;
    let executors: [Column; 4] =
        [("Worker", false), ("Executor", true), ("State", false), ("Cores", true)];
    let body = html! {
        p.words { bdi { (view.explained) } }
        (facts(&[
            ("State", state(&app.state)),
            ("Cores", html! { (app.cores) }),
            ("Memory of each executor", html! { (ByteSize(app.memory_per_executor)) }),
            ("Driver", match &app.driver {
                Some(id) => driver_link(id),
                None => html! { "with whoever submitted it" },
            }),
            ("Time", when(&app.time)),
        ]))
        (heading("Executors", view.executors_by_worker.total))
        (table(&format!("/app/{}", app.id), &executors, &view.executors_by_worker, "It has none.", |row| vec![
            place(&row.worker, &format!("{}/executor-{}", app.id, row.executor)),
            html! { (row.executor) },
            state(row.state),
            html! { @if let Some(cores) = row.cores { (cores) } },
        ]))
        (heading("Logs", view.logs.total))
        @if view.logs.total == 0 {
            p.none { "Nothing of it has run on a worker yet." }
        } @else {
            (log_link(&app.id))
            ul { @for at in &view.logs.rows { li { (place(at, &app.id)) } } }
            @if view.logs.pages > 1 { p.none { "and more" } }
        }
    };
    page(&app.name, &body)
}

pub fn driver(view: &DriverView) -> Markup {
    let driver = &view.driver;
    let body = html! {
        p.words { bdi { (view.explained) } }
        (facts(&[
            ("State", state(&driver.state)),
            ("Cores", html! { (driver.cores) }),
            ("Memory", html! { (ByteSize(driver.memory)) }),
            ("Application", match &driver.application {
                Some(id) => app_link(id),
                None => html! { "none yet" },
            }),
            ("Started again", html! { (driver.restarts) " times" }),
            ("Time", when(&driver.time)),
        ]))
        h2 { "Logs" }
        @match &view.logs {
            None => p.none { "It has run on no worker yet." },
            Some(at) => { (log_link(&driver.id)) ul { li { (place(at, &driver.id)) } } }
        }
    };
    page(&driver.name, &body)
}

pub fn worker(view: &WorkerView) -> Markup {
    let worker = &view.worker;
    let columns: [Column; 5] =
        [("What", false), ("Of", false), ("Name", false), ("Cores", true), ("Memory", true)];
    let body = html! {
        (facts(&[
            ("State", state(worker.state)),
            ("Address", html! { (worker.address) }),
            ("Cores in use", cores(worker.cores_used, worker.cores)),
            ("Memory in use", memory(worker.memory_used, worker.memory)),
            ("Page", match &worker.page {
                Some(page) => html! { a href=(format!("http://{page}/")) { (page) } },
                None => html! { "it has none" },
            }),
        ]))
        (heading("Executors and drivers", view.runs.total))
        (table(&format!("/worker/{}", worker.id), &columns, &view.runs, "Nothing runs on it.", |row| vec![
            html! { (row.what) },
            if row.id.starts_with("app-") { app_link(&row.id) } else { driver_link(&row.id) },
            html! { bdi { (row.name) } },
            html! { (row.cores) },
            html! { (ByteSize(row.memory)) },
        ]))
    };
    page(&worker.id, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "<script>alert(1)</script>\"'&\u{202e}";

    fn time() -> Time {
        Time { started: 1, ended: Some(2), seconds: 1 }
    }

    fn row() -> AppRow {
        AppRow {
            id: "app-20260131235959-0001".into(),
            name: EVIL.into(),
            state: EVIL.into(),
            text: EVIL.into(),
            executors: 1,
            cores: 2,
            memory_per_executor: 1 << 30,
            driver: Some(EVIL.into()),
            time: time(),
        }
    }

    fn driver_row() -> DriverRow {
        DriverRow {
            id: EVIL.into(),
            name: EVIL.into(),
            state: EVIL.into(),
            text: EVIL.into(),
            worker: Some(EVIL.into()),
            application: Some(EVIL.into()),
            cores: 1,
            memory: 1,
            restarts: 3,
            time: time(),
        }
    }

    fn worker_row() -> WorkerRow {
        WorkerRow {
            id: EVIL.into(),
            address: EVIL.into(),
            state: "ALIVE",
            cores: 4,
            cores_used: 1,
            memory: 1 << 30,
            memory_used: 0,
            executors: 1,
            drivers: 2,
            page: Some(EVIL.into()),
        }
    }

    fn evil_place() -> Place {
        Place { worker: EVIL.into(), address: Some(EVIL.into()), page: Some(EVIL.into()) }
    }

    fn one<T>(row: T) -> Paged<T> {
        Paged::of(1, 1, std::iter::once(row))
    }

    /// Every page, with whatever others chose being hostile.
    fn all() -> Vec<String> {
        let first = Overview {
            url: EVIL.into(),
            version: "1",
            uptime_seconds: 1,
            workers_alive: 1,
            cores: 4,
            cores_used: 1,
            memory: 1 << 30,
            memory_used: 0,
            workers: one(worker_row()),
            running: one(row()),
            ended: one(row()),
            drivers: one(driver_row()),
        };
        let executor = super::super::ExecutorRow {
            executor: 1,
            worker: evil_place(),
            state: "RUNNING",
            cores: Some(1),
        };
        let an_app = AppView {
            app: row(),
            explained: EVIL.into(),
            executors_by_worker: one(executor),
            logs: one(evil_place()),
        };
        let a_driver =
            DriverView { driver: driver_row(), explained: EVIL.into(), logs: Some(evil_place()) };
        let runs = super::super::OnWorker {
            what: EVIL.into(),
            id: EVIL.into(),
            name: EVIL.into(),
            cores: 1,
            memory: 1,
        };
        let a_worker = WorkerView { worker: worker_row(), runs: one(runs) };
        let all = [
            overview(&first),
            workers(&one(worker_row())),
            running(&one(row())),
            ended(&one(row())),
            drivers(&one(driver_row())),
            app(&an_app),
            driver(&a_driver),
            worker(&a_worker),
            html::missing(EVIL),
        ];
        all.map(Markup::into_string).into()
    }

    #[test]
    fn what_others_chose_is_never_part_of_a_page_s_code() {
        for page in all() {
            assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;"), "{page}");
            assert!(!page.contains("<script") && !page.contains("alert(1)</script>"), "{page}");
            // Nor does it leave an attribute.
            for part in page.split("href=\"").skip(1) {
                let link = part.split('"').next().unwrap();
                let ours = ["/", "http://"].iter().any(|start| link.starts_with(start));
                assert!(ours && !link.contains('<'), "{link}");
            }
        }
    }

    #[test]
    fn what_an_application_waits_for_is_on_its_page_and_in_the_list() {
        let text = "waits for 4 cores and 1.0 GiB free on one worker";
        let app_row = || AppRow { name: "sums".into(), text: text.into(), ..row() };
        assert!(running(&one(app_row())).into_string().contains(text));
        let explained = super::super::explained("app-1", "sums", "WAITING", text);
        assert_eq!(explained, format!("app-1 (sums) is WAITING: {text}"));
    }
}
