//! Workers, applications and the network between them and the master.

mod plan;
mod settled;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ingle_core::ids::WorkerId;
use ingle_core::master::{
    Action, AppId, AppNews, AppSpec, ConnectionId, DriverTry, Event, ExecutorName, Key, Master,
    Policy, Record, Room, WorkerHello, WorkerOrder,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// When it gets calm, in milliseconds.
const STORM: u64 = 60_000;
/// When all must be settled.
const END: u64 = 200_000;
const GIB: u64 = 1 << 30;

/// How it ended.
pub struct End {
    pub restarts: u32,
    pub lost_workers: u32,
    pub expelled: u32,
}

struct Worker {
    alive: bool,
    instance: u64,
    id: Option<WorkerId>,
    connection: Option<ConnectionId>,
    cores: u32,
    memory: u64,
    executors: BTreeMap<ExecutorName, Room>,
    drivers: BTreeMap<DriverTry, Room>,
    files: BTreeSet<AppId>,
}

impl Worker {
    /// Nothing of it is given to two at any time.
    fn check(&self) {
        let rooms = || self.executors.values().chain(self.drivers.values());
        let cores: u32 = rooms().map(|room| room.cores).sum();
        let memory: u64 = rooms().map(|room| room.memory).sum();
        assert!(
            cores <= self.cores && memory <= self.memory,
            "{:?} runs more than it has",
            self.id
        );
    }
}

struct App {
    alive: bool,
    id: Option<AppId>,
    connection: Option<ConnectionId>,
    spec: AppSpec,
    over: bool,
}

/// Something that will happen.
enum Next {
    /// The master hears it, unless it is another master than the one that it was said to, or doesn't hold the connection.
    Hear(u32, Option<ConnectionId>, Event),
    /// A peer hears it, unless its connection is another by then.
    WorkerHears(ConnectionId, WorkerOrder),
    AppHears(ConnectionId, AppNews),
    WorkerConnects(usize),
    AppConnects(usize),
    Heartbeats,
    Tick,
    /// A process of this instance of a worker ends.
    ExecutorEnds(usize, u64, ExecutorName),
    DriverEnds(usize, u64, DriverTry),
    ExecutorDies(usize),
    WorkerDies(usize),
    WorkerStarts(usize),
    AppEnds(usize),
    AppDies(usize),
    Breaks,
    MasterDies,
    Asks,
}

pub struct World {
    rng: SmallRng,
    print: bool,
    master: Master,
    /// How often the master was started.
    age: u32,
    stored: BTreeMap<Key, Record>,
    now: u64,
    agenda: BTreeMap<(u64, u64), Next>,
    entries: u64,
    connections: u64,
    /// When the last words of each connection come, to its peer and from it.
    last: BTreeMap<u64, u64>,
    said: BTreeMap<u64, u64>,
    requests: u64,
    workers: Vec<Worker>,
    apps: Vec<App>,
    /// Which worker is at the other end of a connection.
    welcomed: BTreeMap<ConnectionId, WorkerId>,
    /// Workers that expelled an application since the master began. All of this doesn't last as long as that counts.
    expelled: BTreeSet<(AppId, WorkerId)>,
    end: End,
}

impl World {
    pub fn new(seed: u64, print: bool) -> Self {
        let mut world = Self {
            rng: SmallRng::seed_from_u64(seed),
            print,
            master: Master::new(Policy::default()),
            age: 0,
            stored: BTreeMap::new(),
            now: 0,
            agenda: BTreeMap::new(),
            entries: 0,
            connections: 0,
            last: BTreeMap::new(),
            said: BTreeMap::new(),
            requests: 0,
            workers: Vec::new(),
            apps: Vec::new(),
            welcomed: BTreeMap::new(),
            expelled: BTreeSet::new(),
            end: End { restarts: 0, lost_workers: 0, expelled: 0 },
        };
        world.plan();
        world
    }

    fn at(&mut self, time: u64, next: Next) {
        self.entries += 1;
        self.agenda.insert((time, self.entries), next);
    }

    fn soon(&mut self, next: Next) {
        let most = if self.now < STORM { 700 } else { 10 };
        let mut time = self.now + self.rng.random_range(1..most);
        // What is said on one connection comes in its order.
        if let Next::WorkerHears(ConnectionId(way), _) | Next::AppHears(ConnectionId(way), _) = next
        {
            let last = self.last.entry(way).or_default();
            time = time.max(*last);
            *last = time;
        }
        self.at(time, next);
    }

    /// What a peer says to the master on its connection, in order.
    fn say(&mut self, ConnectionId(way): ConnectionId, event: Event) {
        let most = if self.now < STORM { 700 } else { 10 };
        let last = self.said.get(&way).copied().unwrap_or_default();
        let time = last.max(self.now + self.rng.random_range(1..most));
        self.said.insert(way, time);
        self.at(time, Next::Hear(self.age, Some(ConnectionId(way)), event));
    }

    fn connection(&mut self) -> ConnectionId {
        self.connections += 1;
        ConnectionId(self.connections)
    }

    pub fn run(mut self) -> End {
        while let Some(((now, _), next)) = self.agenda.pop_first() {
            if now > END {
                break;
            }
            self.now = now;
            self.happens(next);
        }
        self.settled();
        self.end
    }

    fn happens(&mut self, next: Next) {
        match next {
            Next::Hear(age, on, event) => {
                let new = matches!(event, Event::WorkerHello { .. } | Event::AppHello { .. });
                let counts = on.is_none_or(|on| new || self.master.holds(on));
                if age == self.age && counts {
                    self.tell(event);
                }
            }
            Next::WorkerHears(connection, order) => self.worker_hears(connection, order),
            Next::AppHears(connection, news) => self.app_hears(connection, news),
            Next::WorkerConnects(number) => self.worker_connects(number),
            Next::AppConnects(number) => self.app_connects(number),
            Next::Heartbeats => {
                for number in 0..self.workers.len() {
                    let worker = &self.workers[number];
                    if let (true, Some(connection), Some(id)) =
                        (worker.alive, worker.connection, worker.id)
                    {
                        self.say(connection, Event::Heartbeat { worker: id });
                    }
                }
            }
            Next::Tick => self.tell(Event::Tick),
            Next::ExecutorEnds(number, instance, name) => {
                if self.workers[number].instance == instance {
                    self.executor_ended(number, name, "it was killed");
                }
            }
            Next::DriverEnds(number, instance, driver) => {
                let worker = &mut self.workers[number];
                if worker.instance != instance || worker.drivers.remove(&driver).is_none() {
                    return;
                }
                if let (Some(id), Some(connection)) = (worker.id, worker.connection) {
                    let reason = "it was killed".into();
                    let ended = Event::DriverEnded { worker: id, driver, finished: false, reason };
                    self.say(connection, ended);
                }
            }
            Next::ExecutorDies(number) => {
                let Some(&name) = self.workers[number].executors.keys().next() else { return };
                if self.rng.random_bool(0.25) {
                    self.expels(number, name);
                } else {
                    self.executor_ended(number, name, "bad luck");
                }
            }
            Next::WorkerDies(number) => self.worker_dies(number),
            Next::WorkerStarts(number) => {
                let worker = &mut self.workers[number];
                if worker.alive {
                    return;
                }
                (worker.alive, worker.instance) = (true, worker.instance + 1);
                self.worker_connects(number);
            }
            Next::AppEnds(number) => {
                let app = &mut self.apps[number];
                let (id, connection) = (app.id, app.connection);
                app.over = true;
                match (id, connection) {
                    (Some(id), Some(connection)) => {
                        self.say(connection, Event::AppEnded { app: id, failure: None });
                    }
                    // It can't say so: its lease ends.
                    _ => self.apps[number].alive = false,
                }
                if let Some(connection) = connection {
                    self.say(connection, Event::ConnectionLost { connection });
                    self.apps[number].connection = None;
                }
            }
            Next::AppDies(number) => {
                self.apps[number].alive = false;
                if let Some(connection) = self.apps[number].connection.take() {
                    self.say(connection, Event::ConnectionLost { connection });
                }
            }
            Next::Breaks => self.breaks(),
            Next::MasterDies => self.master_dies(),
            Next::Asks => self.asks(),
        }
    }

    fn tell(&mut self, event: Event) {
        if self.print {
            println!("{} {event:?}", self.now);
        }
        if let Event::ExecutorExpelled { worker, executor: (app, executor), .. } = &event
            && let Some(status) = self.master.app(*app).filter(|status| !status.state.is_over())
            && status.executors.contains(&(*executor, *worker))
        {
            self.end.expelled += 1;
            self.expelled.insert((*app, *worker));
        }
        let mut actions = Vec::new();
        self.master.handle(Duration::from_millis(self.now), event, &mut actions);
        self.master.check();
        for action in actions {
            if self.print {
                println!("{}   {action:?}", self.now);
            }
            match action {
                Action::Persist(record) => {
                    self.stored.insert(record.key(), record);
                }
                Action::Forget(key) => {
                    self.stored.remove(&key);
                }
                Action::Worker(connection, order) => {
                    match (&order, self.welcomed.get(&connection)) {
                        (WorkerOrder::Welcome(id), _) => {
                            self.welcomed.insert(connection, *id);
                        }
                        (WorkerOrder::LaunchExecutor { executor, .. }, Some(id)) => assert!(
                            !self.expelled.contains(&(executor.0, *id)),
                            "{id} gets {executor:?}, whose application it expelled"
                        ),
                        _ => {}
                    }
                    self.soon(Next::WorkerHears(connection, order));
                }
                Action::App(connection, news) => self.soon(Next::AppHears(connection, news)),
                Action::Refuse(connection, _) => self.refused(connection),
                Action::Reply(request, reply) => {
                    assert!(request.0 <= self.requests);
                    assert!(!matches!(reply, Err(text) if text.is_empty()));
                }
                Action::Log(_) => {}
            }
        }
    }

    fn refused(&mut self, connection: ConnectionId) {
        if let Some(number) = self.workers.iter().position(|w| w.connection == Some(connection)) {
            self.workers[number].connection = None;
            self.at(self.now + 2000, Next::WorkerConnects(number));
        }
        if let Some(app) = self.apps.iter_mut().find(|app| app.connection == Some(connection)) {
            // It can't be, or it is over.
            (app.connection, app.over) = (None, true);
        }
    }

    fn worker_connects(&mut self, number: usize) {
        let connection = self.connection();
        let worker = &mut self.workers[number];
        if !worker.alive || worker.connection.is_some() {
            return;
        }
        worker.connection = Some(connection);
        let hello = WorkerHello {
            address: format!("w{number}:1"),
            page: String::new(),
            cores: worker.cores,
            memory: worker.memory,
            instance: worker.instance,
            log_secret: Vec::new(),
            executors: worker.executors.iter().map(|(name, room)| (*name, *room)).collect(),
            drivers: worker.drivers.iter().map(|(driver, room)| (*driver, *room)).collect(),
            applications: worker.files.iter().copied().collect(),
        };
        self.say(connection, Event::WorkerHello { connection, hello });
    }

    fn app_connects(&mut self, number: usize) {
        let connection = self.connection();
        let app = &mut self.apps[number];
        if !app.alive || app.over || app.connection.is_some() {
            return;
        }
        app.connection = Some(connection);
        let (id, spec) = (app.id, app.spec.clone());
        let wall = self.now / 1000;
        self.say(connection, Event::AppHello { connection, id, spec, wall });
    }

    fn executor_ended(&mut self, number: usize, name: ExecutorName, reason: &str) {
        let worker = &mut self.workers[number];
        if worker.executors.remove(&name).is_none() {
            return;
        }
        if let (Some(id), Some(connection)) = (worker.id, worker.connection) {
            let reason = reason.to_owned();
            self.say(connection, Event::ExecutorEnded { worker: id, executor: name, reason });
        }
    }

    fn expels(&mut self, number: usize, executor: ExecutorName) {
        let worker = &mut self.workers[number];
        worker.executors.remove(&executor);
        if let (Some(id), Some(connection)) = (worker.id, worker.connection) {
            let reason = "it has too much".to_owned();
            self.say(connection, Event::ExecutorExpelled { worker: id, executor, reason });
        }
    }

    fn worker_hears(&mut self, connection: ConnectionId, order: WorkerOrder) {
        let found = self.workers.iter().position(|w| w.connection == Some(connection) && w.alive);
        let Some(number) = found else { return };
        match order {
            WorkerOrder::Welcome(id) => self.workers[number].id = Some(id),
            WorkerOrder::LaunchExecutor { executor, cores, memory, .. } => {
                let worker = &mut self.workers[number];
                worker.files.insert(executor.0);
                worker.executors.insert(executor, Room { cores, memory });
                worker.check();
                if self.rng.random_bool(0.05) && self.now < STORM {
                    self.executor_ended(number, executor, "it didn't start");
                } else {
                    let registered = Event::ExecutorRegistered { executor };
                    self.soon(Next::Hear(self.age, None, registered));
                }
            }
            WorkerOrder::KillExecutor(name) => {
                // It takes its time to end.
                let instance = self.workers[number].instance;
                self.soon(Next::ExecutorEnds(number, instance, name));
            }
            WorkerOrder::LaunchDriver { driver, spec } => {
                let room = Room { cores: spec.cores, memory: spec.memory };
                self.workers[number].drivers.insert(driver, room);
                self.workers[number].check();
            }
            WorkerOrder::KillDriver(driver) => {
                let instance = self.workers[number].instance;
                self.soon(Next::DriverEnds(number, instance, driver));
            }
            WorkerOrder::ForgetApp(app) => {
                self.workers[number].files.remove(&app);
            }
        }
    }

    fn app_hears(&mut self, connection: ConnectionId, news: AppNews) {
        let Some(app) = self.apps.iter_mut().find(|app| app.connection == Some(connection)) else {
            return;
        };
        match news {
            AppNews::Welcome(id) => app.id = Some(id),
            AppNews::Over(_) => (app.over, app.connection) = (true, None),
            AppNews::WorkerLost { .. } => self.end.lost_workers += 1,
            _ => {}
        }
    }

    fn worker_dies(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        worker.alive = false;
        worker.executors.clear();
        worker.drivers.clear();
        worker.files.clear();
        // Sometimes nobody notices.
        let connection = worker.connection.take();
        if let Some(connection) = connection
            && self.rng.random_bool(0.7)
        {
            self.say(connection, Event::ConnectionLost { connection });
        } else if let Some(connection) = connection {
            // The keepalive does in the end.
            let late = self.now + 15_000;
            self.at(late, Next::Hear(self.age, None, Event::ConnectionLost { connection }));
        }
        let again = self.now + self.rng.random_range(100..25_000);
        self.at(again, Next::WorkerStarts(number));
    }

    /// Somebody's connection breaks; both sides notice, each in its time.
    fn breaks(&mut self) {
        let again = self.now + self.rng.random_range(100..25_000);
        if self.rng.random_bool(0.5) {
            let number = self.rng.random_range(0..self.workers.len());
            if let Some(connection) = self.workers[number].connection.take() {
                self.say(connection, Event::ConnectionLost { connection });
                self.at(again, Next::WorkerConnects(number));
            }
        } else {
            let number = self.rng.random_range(0..self.apps.len());
            if let Some(connection) = self.apps[number].connection.take() {
                self.say(connection, Event::ConnectionLost { connection });
                self.at(again, Next::AppConnects(number));
            }
        }
    }

    fn master_dies(&mut self) {
        self.end.restarts += 1;
        self.age += 1;
        let records = self.stored.values().cloned().collect();
        let now = Duration::from_millis(self.now);
        self.master = Master::recover(Policy::default(), now, records);
        self.master.check();
        self.expelled.clear();
        for number in 0..self.workers.len() {
            self.workers[number].connection = None;
            let again = self.now + self.rng.random_range(50..5_000);
            self.at(again, Next::WorkerConnects(number));
        }
        for number in 0..self.apps.len() {
            let app = &mut self.apps[number];
            // One that the old master never answered begins anew.
            app.connection = None;
            if !app.over {
                let again = self.now + self.rng.random_range(50..5_000);
                self.at(again, Next::AppConnects(number));
            }
        }
    }
}
