//! The daemons' pages: what people see there, and what strangers and floods don't do to the daemons.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ingle_tests::{Cluster, Place, wait_until};
use serde_json::Value;

/// Somebody's name for a job.
const EVIL: &str = "<script>alert('you & me')</script>";
/// What a master may have in memory, whoever looks at its page.
const MOST: u64 = 40 << 20;

struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Sends what it is given, and reads all that comes back; none if nothing does.
fn send(address: &str, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    // It may close before it has heard all.
    let _ = stream.write_all(bytes);
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read);
    let read = String::from_utf8_lossy(&read).into_owned();
    let (head, body) = read.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let head = head.to_ascii_lowercase();
    let is_chunked = head.contains("transfer-encoding: chunked");
    let body = if is_chunked { joined(body) } else { body.to_owned() };
    Some(Answer { status, head, body })
}

/// A body that came in chunks.
fn joined(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, more)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        body += &more[..length];
        rest = &more[(length + 2).min(more.len())..];
    }
    body
}

fn ask(address: &str, method: &str, path: &str, host: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    send(address, request.as_bytes()).expect("an answer")
}

/// The first page, if there is an answer at all.
fn asked(address: &str) -> Option<Answer> {
    send(address, format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())
}

fn get(address: &str, path: &str) -> Answer {
    let answer = ask(address, "GET", path, address);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer
}

fn json(address: &str, path: &str) -> Value {
    let answer = get(address, path);
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    serde_json::from_str(&answer.body).expect("JSON")
}

#[test]
fn the_masters_page_shows_workers_and_what_runs_on_them() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    let (page, worker_page) = (cluster.master_page(), cluster.worker_page(0));
    cluster.rsubmit("noop").flags(["--name", "first"]).arg("10").run().succeeds();
    let job = cluster.rsubmit("noop").flags(["--name", EVIL]).arg("4000000").spawn();
    wait_until("it to run", || json(&page, "/json")["running"]["rows"][0]["state"] == "RUNNING");

    let all = json(&page, "/json");
    assert_eq!(all["url"], cluster.url.as_str());
    assert_eq!((&all["cores"], &all["cores_used"]), (&2.into(), &2.into()), "{all}");
    let worker = &all["workers"]["rows"][0];
    assert_eq!((&worker["id"], &worker["state"]), (&"worker-1".into(), &"ALIVE".into()));
    assert_eq!(worker["page"], worker_page.as_str(), "it told where its page is");
    let (running, ended) = (&all["running"]["rows"][0], &all["ended"]["rows"][0]);
    assert_eq!((&running["name"], &running["cores"]), (&EVIL.into(), &2.into()));
    assert_eq!(running["memory_per_executor"], 1u64 << 30);
    assert_eq!((&ended["name"], &ended["state"]), (&"first".into(), &"FINISHED".into()));
    assert!(ended["ended"].as_u64() >= ended["started"].as_u64(), "{ended}");

    let first = get(&page, "/");
    let id = running["id"].as_str().expect("an id");
    for text in [&cluster.url, id, "worker-1", &format!("http://{worker_page}/"), "&lt;script&gt;"]
    {
        assert!(first.body.contains(text), "{text} is missing: {}", first.body);
    }
    for path in ["/", "/running", &format!("/app/{id}"), "/worker/worker-1"] {
        assert!(!get(&page, path).body.contains("<script"), "{path}");
    }
    for header in [
        "content-security-policy: default-src 'none'; style-src 'sha256-",
        "x-content-type-options: nosniff",
    ] {
        assert!(first.head.contains(header), "{}", first.head);
    }

    let app = json(&page, &format!("/json/app/{id}"));
    let explained = cluster.ask(&["explain", id]).succeeds().stdout;
    assert_eq!(app["explained"], explained.trim_end());
    let executor = &app["executors_by_worker"]["rows"][0];
    assert_eq!((&executor["state"], &executor["cores"]), (&"RUNNING".into(), &2.into()));
    assert_eq!(executor["worker"]["page"], worker_page.as_str());
    let runs = json(&page, "/json/worker/worker-1");
    assert_eq!(
        (&runs["runs"]["rows"][0]["id"], &runs["runs"]["rows"][0]["name"]),
        (&id.into(), &EVIL.into())
    );

    let own = json(&worker_page, "/json");
    assert_eq!((&own["id"], &own["state"]), (&"worker-1".into(), &"CONNECTED".into()));
    let process = &own["processes"]["rows"][0];
    let pid = cluster.children(0)[0].as_raw_nonzero().get();
    assert_eq!((&process["pid"], &process["cores"]), (&pid.into(), &2.into()), "{own}");
    assert!(get(&worker_page, "/").body.contains(&pid.to_string()));
    let head = ask(&page, "HEAD", "/", &page);
    assert!(head.status == 200 && head.body.is_empty(), "{}", head.body);
    job.end();
    assert_eq!(cluster.panics(), Vec::<String>::new());
}

#[test]
fn a_workers_page_shows_what_its_executors_take_while_they_run() {
    const RECORDS: u64 = 100_000;
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    let page = cluster.worker_page(0);
    let job = cluster.rsubmit("kept").flag("--executor-memory=256m");
    let job = job.args(["memory", &RECORDS.to_string(), "200", "56", "go"]).spawn();
    let used = || json(&page, "/json")["processes"]["rows"][0]["used"].clone();
    let bytes = |value: &Value| value.as_u64().unwrap_or_default();
    let mut seen = Value::Null;
    wait_until("what is cached", || {
        seen = used();
        seen["cached"]["partitions"] == 4
    });
    let kept = 200 * RECORDS..230 * RECORDS;
    assert!(kept.contains(&bytes(&seen["cached"]["in_memory"])), "{seen}");
    assert_eq!((&seen["cached"]["on_disk"], &seen["spilled"]), (&0.into(), &0.into()), "{seen}");
    for state in ["now", "most"] {
        assert!(kept.contains(&bytes(&seen[state]["cache"])), "{seen}");
    }
    // What a task held that is long over, and its like never since.
    let guests = (40 << 20)..(60 << 20);
    assert!(guests.contains(&bytes(&seen["most"]["guests"])), "{seen}");
    assert!(bytes(&seen["now"]["guests"]) < 20 << 20, "{seen}");
    let at_peak = &seen["at_peak"];
    assert_eq!(at_peak["total"], seen["peak"], "{seen}");
    assert!(bytes(&seen["peak"]) >= 40 << 20 && bytes(&seen["peak"]) < 256 << 20, "{seen}");
    let shown = get(&page, "/").body;
    for text in ["of 256.0 MiB", "4 partitions cached: 19.", "guests ", "cached partitions 19."] {
        assert!(shown.contains(text), "{text} is missing: {shown}");
    }
    place.write("go", "");
    let run = job.wait().succeeds();
    assert!((56.0..60.0).contains(&run.memory("largest task")), "{run}");
    // Most was held while that ran, before anything was cached.
    assert!(run.memory("guests") > 40.0, "{run}");
}

#[test]
fn what_waits_says_for_what_and_drivers_and_logs_have_pages() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    let (page, worker_page) = (cluster.master_page(), cluster.worker_page(0));
    let run = cluster.rsubmit("pi").flags(["--deploy-mode", "cluster", "--wait"]);
    let id = run.args(["100000", "2"]).run().succeeds().stdout.trim().to_owned();
    let driver = json(&page, &format!("/json/driver/{id}"));
    assert_eq!((&driver["state"], &driver["worker"]), (&"FINISHED".into(), &"worker-1".into()));
    let app = driver["application"].as_str().expect("it made one");
    assert_eq!(json(&page, &format!("/json/app/{app}"))["driver"], id.as_str());
    get(&page, &format!("/driver/{id}"));
    assert!(get(&page, "/").body.contains(&id) && get(&page, "/drivers").body.contains(&id));
    // By whichever of its names, and from wherever.
    for (page, path) in [
        (&page, format!("/logs/{id}")),
        (&page, format!("/logs/{app}")),
        (&worker_page, format!("/logs/{id}")),
        (&worker_page, format!("/logs/{id}/driver")),
    ] {
        let log = get(page, &path);
        assert!(log.body.contains("--- driver, stdout\nPi is roughly 3.1"), "{path}: {}", log.body);
        assert!(log.head.contains("content-type: text/plain; charset=utf-8"), "{}", log.head);
    }
    assert!(get(&worker_page, "/logs").body.contains(&id));

    let first = cluster.rsubmit("noop").arg("4000000").spawn();
    wait_until("an executor", || !cluster.children(0).is_empty());
    let second = cluster.rsubmit("noop").flags(["--executor-cores", "1"]).arg("1").spawn();
    second.wait_for("waits for 1 core and 1.0 GiB free on one worker");
    assert!(get(&page, "/").body.contains("waits for 1 core and 1.0 GiB free on one worker"));
    assert_eq!(json(&page, "/json/running")["total"], 2);
    first.end();
    second.end();
}

#[test]
fn strangers_get_nothing_and_change_nothing() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 1);
    for page in [cluster.master_page(), cluster.worker_page(0)] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let answer = ask(&page, method, "/", &page);
            assert!(answer.status == 405 && answer.head.contains("allow: get, head"), "{method}");
        }
        for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""] {
            for path in ["/", "/json", "/logs/app-20260101000000-0001", "/nowhere"] {
                let answer = ask(&page, "GET", path, host);
                assert_eq!(answer.status, 403, "{host} {path}");
                assert!(!answer.body.contains("worker-1"), "{}", answer.body);
            }
        }
        let port = page.rsplit(':').next().expect("a port");
        for host in [format!("localhost:{port}"), format!("[::1]:{port}"), "10.1.2.3".into()] {
            assert_eq!(ask(&page, "GET", "/", &host).status, 200, "{host}");
        }
        assert_eq!(send(&page, b"GET / HTTP/1.1\r\n\r\n").expect("an answer").status, 403);
        for path in [
            "/nowhere",
            "/app/x",
            "/app/app-20260101000000-0001",
            "/worker/worker-99",
            "/worker/99",
            "/logs/..",
            "/logs/../lock",
            "/logs/%2e%2e%2flock",
            "/logs/%2Fetc%2Fpasswd",
            "/app/%ff",
            "/json/nowhere",
            "/app/%3Cscript%3E",
            "/json/driver/driver-1",
        ] {
            let answer = ask(&page, "GET", path, &page);
            assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
            assert!(!answer.body.contains("<script"), "{path}: {}", answer.body);
            assert!(answer.head.contains("content-security-policy"), "{path}: {}", answer.head);
        }
        let large = format!("GET / HTTP/1.1\r\nHost: {page}\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
        let many = format!("GET / HTTP/1.1\r\nHost: {page}\r\n{}\r\n", "X: y\r\n".repeat(1000));
        let long = format!("GET /{} HTTP/1.1\r\nHost: {page}\r\n\r\n", "x".repeat(100_000));
        let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for garbage in
            [large.into(), many.into(), long.into(), http2, vec![0; 100_000], vec![b'\n'; 100_000]]
        {
            let answer = send(&page, &garbage);
            assert!(answer.is_none_or(|answer| answer.status >= 400), "{garbage:.40?}");
        }
        get(&page, "/");
    }
    let workers = cluster.ask(&["workers"]).succeeds().stdout;
    assert!(workers.contains("ALIVE"), "{workers}");
    assert_eq!(cluster.panics(), Vec::<String>::new());
}

#[test]
fn those_who_only_connect_cost_the_daemons_nothing_and_the_page_comes_back() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 1);
    let pages = [cluster.master_page(), cluster.worker_page(0)];
    let connect = |page: &String| TcpStream::connect(page).expect("it listens");
    let mut idle: Vec<_> = (0..500).map(|_| connect(&pages[0])).collect();
    idle.extend((0..100).map(|_| connect(&pages[1])));
    wait_until("the crowd to be too large", || {
        idle.extend((0..10).map(|_| connect(&pages[0])));
        asked(&pages[0])
            .is_some_and(|busy| busy.status == 503 && busy.body.contains("come back later"))
    });
    // Work goes on meanwhile.
    cluster.rsubmit("noop").arg("100").run().succeeds();
    let resident = cluster.peaks();
    assert!(resident[0] < MOST, "the master has {} MiB", resident[0] >> 20);
    for page in &pages {
        // They are still connected, and have said nothing for too long.
        wait_until("the page to be back", || asked(page).is_some_and(|page| page.status == 200));
    }
    drop(idle);
    for page in &pages {
        // One after the other, as fast as it goes.
        for _ in 0..300 {
            get(page, "/json");
        }
    }
    let resident = cluster.peaks();
    assert!(resident[0] < MOST, "the master has {} MiB", resident[0] >> 20);
    assert_eq!(cluster.panics(), Vec::<String>::new());
}
