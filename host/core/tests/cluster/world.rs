//! Workers, applications and the network between them and the master.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ingle_core::ids::WorkerId;
use ingle_core::master::{
    Action, AppId, AppNews, AppSpec, ConnectionId, DriverId, DriverSpec, DriverTry, Event,
    ExecutorName, Key, Master, Policy, Record, RequestId, Room, Target, WorkerHello, WorkerOrder,
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

    fn plan(&mut self) {
        for number in 0..self.rng.random_range(1..6) {
            self.workers.push(Worker {
                alive: false,
                instance: 0,
                id: None,
                connection: None,
                cores: self.rng.random_range(1..9),
                memory: self.rng.random_range(1..17) * GIB,
                executors: BTreeMap::new(),
                drivers: BTreeMap::new(),
                files: BTreeSet::new(),
            });
            let at = self.rng.random_range(0..20_000);
            self.at(at, Next::WorkerStarts(number));
        }
        for number in 0..self.rng.random_range(1..8) {
            let mut maybe =
                |most: u32| self.rng.random_bool(0.5).then(|| self.rng.random_range(1..most));
            let (executor_cores, total, num) = (maybe(4), maybe(12), maybe(6));
            let spec = AppSpec {
                name: format!("job {number}"),
                driver_address: format!("d{number}:1"),
                secret: vec![number as u8; 32],
                executor_cores,
                executor_memory: self.rng.random_range(1..5) * GIB,
                total_executor_cores: total.map(|t| t.max(executor_cores.unwrap_or(1))),
                num_executors: num,
                spread_out: self.rng.random_bool(0.5),
                dynamic: false,
                driver: None,
                driver_proof: Vec::new(),
            };
            self.apps.push(App { alive: true, id: None, connection: None, spec, over: false });
            let at = self.rng.random_range(0..STORM);
            self.at(at, Next::AppConnects(number));
            match self.rng.random_range(0..4) {
                0 => {
                    let end = self.rng.random_range(at..END / 2);
                    self.at(end, Next::AppEnds(number));
                }
                1 => {
                    let end = self.rng.random_range(at..END / 2);
                    self.at(end, Next::AppDies(number));
                }
                _ => {}
            }
        }
        for at in (0..END).step_by(1000) {
            self.at(at, Next::Heartbeats);
            self.at(at + 500, Next::Tick);
        }
        for at in (0..STORM).step_by(1000) {
            let next = match self.rng.random_range(0..16) {
                0 => Next::ExecutorDies(self.rng.random_range(0..self.workers.len())),
                1 => Next::WorkerDies(self.rng.random_range(0..self.workers.len())),
                2 | 3 => Next::Breaks,
                4 => Next::MasterDies,
                5 => Next::Asks,
                _ => continue,
            };
            self.at(at, next);
        }
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

    fn asks(&mut self) {
        self.requests += 1;
        let request = RequestId(self.requests);
        let event = match self.rng.random_range(0..4) {
            0 => {
                let spec = DriverSpec {
                    name: "driver".into(),
                    cores: self.rng.random_range(0..4),
                    memory: GIB,
                    supervise: self.rng.random_bool(0.5),
                    component: Vec::new(),
                    submission: Vec::new(),
                    proof: Vec::new(),
                    has_secrets: self.rng.random_bool(0.2),
                };
                Event::SubmitDriver { request, spec, wall: self.now / 1000 }
            }
            1 => Event::Decommission { request, worker: WorkerId(self.rng.random_range(0..4)) },
            2 => {
                let app = self.apps[self.rng.random_range(0..self.apps.len())].id;
                let app = app.unwrap_or(AppId::new(0, 99));
                Event::Kill { request, target: Target::App(app) }
            }
            _ => {
                let driver = self.master.drivers().next().map(|status| status.id);
                let driver = driver.unwrap_or(DriverId::new(0, 99));
                Event::Kill { request, target: Target::Driver(driver) }
            }
        };
        self.tell(event);
    }

    /// What must hold when all has calmed down.
    fn settled(&self) {
        let mut believed: BTreeMap<WorkerId, BTreeSet<ExecutorName>> = BTreeMap::new();
        let mut drivers: BTreeMap<WorkerId, BTreeSet<DriverId>> = BTreeMap::new();
        for app in self.master.apps().filter(|app| !app.state.is_over()) {
            for (executor, worker) in app.executors {
                believed.entry(worker).or_default().insert((app.id, executor));
            }
        }
        for driver in self.master.drivers().filter(|driver| !driver.state.is_over()) {
            match driver.worker {
                Some(worker) if driver.text.is_empty() => {
                    drivers.entry(worker).or_default().insert(driver.id);
                }
                _ => assert!(!driver.text.is_empty(), "{} waits for nothing", driver.id),
            }
        }
        assert_eq!(self.master.workers().count(), self.workers.len(), "all workers are back");
        for (number, worker) in self.workers.iter().enumerate() {
            let id = worker.id.expect("it has a name");
            let runs: BTreeSet<_> = worker.executors.keys().copied().collect();
            assert_eq!(runs, believed.remove(&id).unwrap_or_default(), "worker {number}, {id}");
            let runs: BTreeSet<_> = worker.drivers.keys().map(|(driver, _)| *driver).collect();
            assert_eq!(runs.len(), worker.drivers.len(), "two tries of a driver on {id}");
            assert_eq!(runs, drivers.remove(&id).unwrap_or_default(), "drivers of {id}");
            for app in &worker.files {
                let over = self.master.app(*app).is_none_or(|app| app.state.is_over());
                assert!(!over, "{id} has files of {app}, which is over");
            }
        }
        assert!(
            believed.is_empty() && drivers.is_empty(),
            "executors on workers that aren't there"
        );
        for (number, app) in self.apps.iter().enumerate() {
            let Some(status) = app.id.and_then(|id| self.master.app(id)) else { continue };
            let lives = app.alive && !app.over;
            assert_eq!(!status.state.is_over(), lives, "application {number}, {}", status.id);
            if lives && status.executors.is_empty() {
                assert!(!status.text.is_empty(), "{} waits for nothing", status.id);
            }
            // Whom a worker refuses waits beside what is free.
            if lives
                && status.text.contains("waits for")
                && !status.text.contains(" of the workers ")
            {
                let cores = app.spec.executor_cores.unwrap_or(1);
                let free = self.master.workers().find(|worker| {
                    worker.state == "ALIVE"
                        && worker.cores - worker.cores_used >= cores
                        && worker.memory - worker.memory_used >= app.spec.executor_memory
                });
                assert!(free.is_none(), "{}: {}", status.id, status.text);
            }
        }
    }
}
