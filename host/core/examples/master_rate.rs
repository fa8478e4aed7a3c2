//! What a decision of the master costs, by the size of the cluster: `cargo run --release -p ingle-core --example master_rate`.

use std::time::{Duration, Instant};

use ingle_core::ids::{ExecutorId, WorkerId};
use ingle_core::master::{
    Action, AppNews, AppSpec, ConnectionId, Event, Master, Policy, WorkerHello,
};

const GIB: u64 = 1 << 30;
/// Of each worker, and so many executors of one core run on it.
const CORES: u32 = 10;

fn main() {
    println!(
        "| workers | executors | applications | heartbeat | executor ends | application comes |"
    );
    println!("|--:|--:|--:|--:|--:|--:|");
    for workers in [1, 10, 100, 1_000] {
        measure(workers);
    }
}

fn measure(workers: u32) {
    let mut master = Master::new(Policy::default());
    let mut actions = Vec::new();
    let mut next = 0;
    let mut connection = || {
        next += 1;
        ConnectionId(next)
    };
    for number in 0..workers {
        let hello = WorkerHello {
            address: format!("w{number}:1"),
            page: String::new(),
            cores: CORES,
            memory: 64 * GIB,
            instance: 1,
            log_secret: Vec::new(),
            executors: Vec::new(),
            drivers: Vec::new(),
            applications: Vec::new(),
        };
        let hello = Event::WorkerHello { connection: connection(), hello };
        master.handle(Duration::ZERO, hello, &mut actions);
    }
    let apps = (workers / 10).max(1);
    let spec = |executors| AppSpec {
        name: "job".into(),
        driver_address: "d:1".into(),
        secret: vec![0; 32],
        executor_cores: Some(1),
        executor_memory: GIB,
        total_executor_cores: None,
        num_executors: Some(executors),
        spread_out: true,
        dynamic: false,
        driver: None,
        driver_proof: Vec::new(),
    };
    let mut granted = Vec::new();
    for _ in 0..apps {
        actions.clear();
        let spec = spec(workers * CORES / apps);
        let hello = Event::AppHello { connection: connection(), id: None, spec, wall: 0 };
        master.handle(Duration::ZERO, hello, &mut actions);
        let mut app = None;
        for action in &actions {
            match action {
                Action::App(_, AppNews::Welcome(id)) => app = Some(*id),
                Action::App(_, AppNews::Granted { executor, worker, .. }) => {
                    granted.extend(app.map(|app| ((app, *executor), *worker)));
                }
                _ => {}
            }
        }
        for ((app, executor), _) in &granted {
            let executor = (*app, ExecutorId(executor.0));
            master.handle(Duration::ZERO, Event::ExecutorRegistered { executor }, &mut Vec::new());
            if workers > 10 {
                // Once is enough to have them run; all of them would only take long.
                break;
            }
        }
    }
    let executors = granted.len();
    let mut time = |times: u32, event: &mut dyn FnMut(u32) -> Event| {
        let started = Instant::now();
        for number in 0..times {
            actions.clear();
            master.handle(Duration::ZERO, event(number), &mut actions);
        }
        started.elapsed() / times
    };
    let heartbeat = time(10_000, &mut |n| Event::Heartbeat { worker: WorkerId(n % workers + 1) });
    let times = executors.min(100) as u32;
    let ends = time(times, &mut |n| {
        let (executor, worker) = granted[n as usize];
        Event::ExecutorEnded { worker, executor, reason: "it ended".into() }
    });
    let mut at = next;
    let comes = time(20, &mut |_| {
        at += 1;
        let connection = ConnectionId(at);
        Event::AppHello { connection, id: None, spec: spec(1), wall: 0 }
    });
    println!("| {workers} | {executors} | {apps} | {heartbeat:.1?} | {ends:.1?} | {comes:.1?} |");
}
