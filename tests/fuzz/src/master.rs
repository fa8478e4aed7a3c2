//! Events of hostile workers, applications and people, at the master of a cluster: after each, its books must agree, also after a
//! restart.

use std::collections::BTreeMap;
use std::time::Duration;

use ingle_core::ids::{ExecutorId, WorkerId};
use ingle_core::master::{
    Action, AppId, AppNews, AppSpec, ConnectionId, DriverId, DriverSpec, DriverTry, Event,
    ExecutorName, Key, Master, Policy, Record, RequestId, Room, Target, WorkerHello, WorkerOrder,
};

use crate::Input;

/// So that no input takes long: the books are looked at as a whole each time.
const MAX_EVENTS: usize = 300;
const WALL: u64 = 1_795_590_923;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut shell = Shell::default();
    let mut master = Master::new(policy());
    let mut now = Duration::ZERO;
    let mut actions = Vec::new();
    for _ in 0..MAX_EVENTS {
        if input.is_empty() {
            break;
        }
        now = match input.byte() % 8 {
            0 => now.saturating_add(Duration::from_secs(u64::from(input.byte()))),
            1 => now.saturating_sub(Duration::from_secs(1)),
            2 => master.next_deadline().unwrap_or(now),
            3 => now.saturating_add(Duration::from_nanos(input.number() / 2)),
            _ => now + Duration::from_millis(1),
        };
        if input.byte() == 200 {
            // It ended, and comes back with what it had stored.
            let records = shell.stored.values().cloned().collect();
            master = Master::recover(policy(), now, records);
            shell.connections.clear();
        } else {
            let event = event(&mut input, &mut shell);
            master.handle(now, event, &mut actions);
            shell.note(&mut actions);
        }
        master.check();
        look(&master, &shell);
    }
}

/// What people and pages ask at any time.
fn look(master: &Master, shell: &Shell) {
    let _ = (master.workers().count(), master.apps().count(), master.drivers().count());
    let _ = master.next_deadline();
    for app in shell.apps.iter().rev().take(2) {
        let _ = (master.app(*app), master.executors(*app).count());
    }
}

fn policy() -> Policy {
    Policy {
        max_workers: 8,
        max_apps: 8,
        max_executors: 32,
        max_cores: 64,
        max_name: 32,
        history: 4,
        ..Policy::default()
    }
}

/// What a shell knows: names that were given, and what is stored.
#[derive(Default)]
struct Shell {
    stored: BTreeMap<Key, Record>,
    connections: Vec<ConnectionId>,
    next: u64,
    apps: Vec<AppId>,
    drivers: Vec<DriverTry>,
    executors: Vec<(WorkerId, ExecutorName)>,
}

impl Shell {
    fn note(&mut self, actions: &mut Vec<Action>) {
        let durable = |a: &Action| matches!(a, Action::Persist(_) | Action::Forget(_));
        let first = actions.iter().position(|a| !durable(a)).unwrap_or(actions.len());
        assert!(!actions[first..].iter().any(durable), "what is stored comes first");
        for action in actions.drain(..) {
            match action {
                Action::Persist(record) => drop(self.stored.insert(record.key(), record)),
                Action::Forget(key) => drop(self.stored.remove(&key)),
                Action::App(_, AppNews::Welcome(app)) => push(&mut self.apps, app),
                Action::Worker(_, WorkerOrder::LaunchExecutor { executor, .. }) => {
                    push(&mut self.executors, (WorkerId(0), executor));
                }
                Action::Worker(_, WorkerOrder::LaunchDriver { driver, .. }) => {
                    push(&mut self.drivers, driver);
                }
                _ => {}
            }
        }
    }

    fn connect(&mut self) -> ConnectionId {
        self.next += 1;
        push(&mut self.connections, ConnectionId(self.next));
        ConnectionId(self.next)
    }

    fn connection(&self, input: &mut Input<'_>) -> ConnectionId {
        let at = input.below(self.connections.len().max(1));
        self.connections.get(at).copied().unwrap_or(ConnectionId(input.number()))
    }

    fn app(&self, input: &mut Input<'_>) -> AppId {
        let at = input.below(self.apps.len().max(1));
        let made_up = AppId::new(WALL, input.id());
        if input.byte() == 99 { made_up } else { self.apps.get(at).copied().unwrap_or(made_up) }
    }

    fn driver(&self, input: &mut Input<'_>) -> DriverTry {
        let at = input.below(self.drivers.len().max(1));
        let made_up = (DriverId::new(WALL, input.id()), input.id());
        if input.byte() == 99 { made_up } else { self.drivers.get(at).copied().unwrap_or(made_up) }
    }

    fn executor(&self, input: &mut Input<'_>) -> ExecutorName {
        let at = input.below(self.executors.len().max(1));
        let made_up = (self.app(input), ExecutorId(input.id()));
        match self.executors.get(at) {
            Some((_, known)) if input.byte() != 99 => *known,
            _ => made_up,
        }
    }
}

fn push<T>(list: &mut Vec<T>, item: T) {
    list.push(item);
    if list.len() > 64 {
        list.remove(0);
    }
}

fn event(input: &mut Input<'_>, shell: &mut Shell) -> Event {
    let worker = |input: &mut Input<'_>| WorkerId(input.id());
    let request = RequestId(shell.next);
    match input.byte() % 24 {
        0..=3 => {
            let connection =
                if input.byte() == 99 { shell.connection(input) } else { shell.connect() };
            Event::WorkerHello { connection, hello: hello(input, shell) }
        }
        4 => Event::Heartbeat { worker: worker(input) },
        5 => Event::WorkerDraining { worker: worker(input) },
        6 => Event::ExecutorEnded {
            worker: worker(input),
            executor: shell.executor(input),
            reason: input.text(),
        },
        7 => Event::ExecutorExpelled {
            worker: worker(input),
            executor: shell.executor(input),
            reason: input.text(),
        },
        8 | 9 => Event::DriverEnded {
            worker: worker(input),
            driver: shell.driver(input),
            finished: input.flag(),
            reason: input.text(),
        },
        10..=12 => {
            let id = input.byte().is_multiple_of(4).then(|| shell.app(input));
            let spec = spec(input, shell);
            Event::AppHello { connection: shell.connect(), id, spec, wall: wall(input) }
        }
        13 => Event::ExecutorRegistered { executor: shell.executor(input) },
        14 => Event::AppWants { app: shell.app(input), executors: input.id() },
        15 => Event::AppReleases { executor: shell.executor(input) },
        16 => {
            let workers = (0..input.below(6)).map(|_| worker(input)).collect();
            Event::AppExcludes { app: shell.app(input), workers }
        }
        17 => {
            Event::AppEnded { app: shell.app(input), failure: input.flag().then(|| input.text()) }
        }
        18 => Event::ConnectionLost { connection: shell.connection(input) },
        19 => Event::SubmitDriver {
            request,
            spec: DriverSpec {
                name: input.text(),
                cores: input.id(),
                memory: input.number(),
                supervise: input.flag(),
                component: input.some_bytes().to_vec(),
                submission: input.some_bytes().to_vec(),
                proof: vec![0],
                has_secrets: input.flag(),
            },
            wall: wall(input),
        },
        20 => {
            let target = if input.flag() {
                Target::App(shell.app(input))
            } else {
                Target::Driver(shell.driver(input).0)
            };
            Event::Kill { request, target }
        }
        21 => Event::Decommission { request, worker: worker(input) },
        _ => Event::Tick,
    }
}

/// The shell's own clock, so not anything.
fn wall(input: &mut Input<'_>) -> u64 {
    WALL + u64::from(input.byte())
}

fn room(input: &mut Input<'_>) -> Room {
    Room { cores: input.id(), memory: input.number() }
}

fn hello(input: &mut Input<'_>, shell: &Shell) -> WorkerHello {
    let addresses = ["a:1", "b:2", "c:3", ""];
    let address = match input.byte() % 8 {
        0 => input.text(),
        at => addresses[usize::from(at) % 4].to_owned(),
    };
    WorkerHello {
        address,
        page: input.text(),
        cores: input.id(),
        memory: input.number(),
        instance: input.number(),
        log_secret: Vec::new(),
        executors: (0..input.below(4)).map(|_| (shell.executor(input), room(input))).collect(),
        drivers: (0..input.below(3)).map(|_| (shell.driver(input), room(input))).collect(),
        applications: (0..input.below(3)).map(|_| shell.app(input)).collect(),
    }
}

fn spec(input: &mut Input<'_>, shell: &Shell) -> AppSpec {
    AppSpec {
        name: input.text(),
        driver_address: input.pick(&["d:1", "", "\u{7}:2"]).to_owned(),
        secret: vec![input.byte() % 4; 32],
        executor_cores: input.flag().then(|| input.id()),
        executor_memory: input.number(),
        total_executor_cores: input.flag().then(|| input.id()),
        num_executors: input.flag().then(|| input.id()),
        spread_out: input.flag(),
        dynamic: input.flag(),
        driver: input.flag().then(|| shell.driver(input).0),
        driver_proof: vec![u8::from(input.flag())],
    }
}
