//! What somebody on the network sends to a daemon's page.

use std::sync::LazyLock;

use ingle_cluster::fuzzing::Pages;
use ingle_core::master::{
    AppId, AppSpec, ConnectionId, DriverId, DriverSpec, Event, RequestId, WorkerHello,
};
use tempfile::TempDir;

struct Site {
    pages: Pages,
    app: AppId,
    driver: DriverId,
    _dir: TempDir,
}

/// What hostile users and guests call what pages show.
const NAME: &str = "<script>alert(1)</script>&\"'";

thread_local! {
    static SITE: LazyLock<Site> = LazyLock::new(site);
}

fn site() -> Site {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let spec = AppSpec {
        name: NAME.into(),
        driver_address: "d:1".into(),
        secret: vec![7; 32],
        executor_cores: Some(1),
        executor_memory: 1 << 30,
        total_executor_cores: None,
        num_executors: None,
        spread_out: true,
        dynamic: false,
        driver: None,
        driver_proof: Vec::new(),
    };
    let hello = WorkerHello {
        address: "w:1".into(),
        page: NAME.into(),
        cores: 4,
        memory: 8 << 30,
        instance: 1,
        log_secret: vec![3; 32],
        executors: Vec::new(),
        drivers: Vec::new(),
        applications: Vec::new(),
    };
    let driver = DriverSpec {
        name: NAME.into(),
        cores: 1,
        memory: 1 << 20,
        supervise: false,
        component: vec![1; 32],
        submission: Vec::new(),
        proof: vec![7; 32],
        has_secrets: false,
    };
    let happened = vec![
        Event::WorkerHello { connection: ConnectionId(1_000_001), hello },
        Event::AppHello {
            connection: ConnectionId(1_000_002),
            id: None,
            spec,
            wall: 1_795_590_923,
        },
        Event::SubmitDriver { request: RequestId(1_000_003), spec: driver, wall: 1_795_590_923 },
    ];
    let pages = Pages::new(dir.path(), happened).expect("there are pages");
    let (app, driver) = (pages.apps()[0], pages.drivers()[0]);
    Site { pages, app, driver, _dir: dir }
}

pub fn run(data: &[u8]) {
    SITE.with(|site| {
        let Site { pages, app, driver, .. } = &**site;
        // Names that were given.
        let request = replaced(data, b"$APP", &app.to_string());
        let request = replaced(&request, b"$DRIVER", &driver.to_string());
        let answer = pages.ask(&request);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1."), "{text}");
        let is_html = text.contains("text/html");
        assert!(!is_html || !text.contains("<script"), "{text}");
        assert!(answer.len() < 1 << 20, "an answer of {} bytes", answer.len());
        assert!(!text.contains("500 Internal"), "{text}");
    });
}

fn replaced(data: &[u8], from: &[u8], to: &str) -> Vec<u8> {
    match data.windows(from.len()).position(|part| part == from) {
        None => data.to_vec(),
        Some(at) => [&data[..at], to.as_bytes(), &data[at + from.len()..]].concat(),
    }
}
