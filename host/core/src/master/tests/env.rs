//! A master whose peers say what a test wants.

use std::time::Duration;

use super::super::*;
use crate::ids::WorkerId;

pub const GIB: u64 = 1 << 30;

pub struct Env {
    pub master: Master,
    pub now: Duration,
    pub next: u64,
    pub apps: u8,
    pub stored: BTreeMap<Key, Record>,
    /// What was said last.
    pub actions: Vec<Action>,
}

impl Env {
    pub fn new() -> Self {
        let master = Master::new(Policy::default());
        let (now, stored, actions) = (Duration::ZERO, BTreeMap::new(), Vec::new());
        Self { master, now, next: 0, apps: 0, stored, actions }
    }

    pub fn tell(&mut self, event: Event) {
        self.actions.clear();
        self.master.handle(self.now, event, &mut self.actions);
        self.master.check();
        let durable = |a: &Action| matches!(a, Action::Persist(_) | Action::Forget(_));
        let first = self.actions.iter().position(|a| !durable(a)).unwrap_or(self.actions.len());
        assert!(!self.actions[first..].iter().any(durable), "what is stored comes first");
        for action in &self.actions {
            match action {
                Action::Persist(record) => drop(self.stored.insert(record.key(), record.clone())),
                Action::Forget(key) => drop(self.stored.remove(key)),
                _ => {}
            }
        }
    }

    /// Time passes, and the master looks at the clock as often as it wants to.
    pub fn pass(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while self.now < until {
            let next = self.master.next_deadline().unwrap_or(until);
            self.now = next.clamp(self.now + Duration::from_millis(1), until);
            self.tell(Event::Tick);
        }
    }

    /// As [`Env::pass`], with a worker that goes on being there.
    pub fn pass_with(&mut self, worker: WorkerId, seconds: u64) {
        for _ in 0..seconds {
            self.pass(1);
            self.tell(Event::Heartbeat { worker });
        }
    }

    /// The end of all that the worker was told to end.
    pub fn killed(&mut self, worker: WorkerId) {
        let orders: Vec<_> = self.orders().into_iter().cloned().collect();
        for order in orders {
            let reason = "it was killed".to_owned();
            match order {
                WorkerOrder::KillExecutor(executor) => {
                    self.tell(Event::ExecutorEnded { worker, executor, reason });
                }
                WorkerOrder::KillDriver(driver) => {
                    self.tell(Event::DriverEnded { worker, driver, finished: false, reason });
                }
                _ => {}
            }
        }
    }

    pub fn connection(&mut self) -> ConnectionId {
        self.next += 1;
        ConnectionId(self.next)
    }

    pub fn hello(&self, name: &str, cores: u32, gib: u64) -> WorkerHello {
        WorkerHello {
            address: format!("{name}:1"),
            page: format!("{name}:2"),
            cores,
            memory: gib * GIB,
            instance: 1,
            log_secret: Vec::new(),
            executors: Vec::new(),
            drivers: Vec::new(),
            applications: Vec::new(),
        }
    }

    pub fn worker(&mut self, name: &str, cores: u32, gib: u64) -> (WorkerId, ConnectionId) {
        let hello = self.hello(name, cores, gib);
        self.worker_says(hello)
    }

    pub fn worker_says(&mut self, hello: WorkerHello) -> (WorkerId, ConnectionId) {
        let connection = self.connection();
        self.tell(Event::WorkerHello { connection, hello });
        let welcome = self.actions.iter().find_map(|action| match action {
            Action::Worker(to, WorkerOrder::Welcome(id)) if *to == connection => Some(*id),
            _ => None,
        });
        (welcome.expect("a welcome"), connection)
    }

    /// A new one: only the first has the secret of [`spec`].
    pub fn app(&mut self, mut spec: AppSpec) -> (AppId, ConnectionId) {
        let connection = self.connection();
        self.apps += 1;
        spec.secret = vec![self.apps; 32];
        self.tell(Event::AppHello { connection, id: None, spec, wall: 0 });
        let welcome = self.actions.iter().find_map(|action| match action {
            Action::App(to, AppNews::Welcome(id)) if *to == connection => Some(*id),
            _ => None,
        });
        (welcome.expect("a welcome"), connection)
    }

    /// Executors that workers were told to start: worker and cores.
    pub fn launched(&self) -> Vec<(WorkerId, u32)> {
        let granted = self.actions.iter().filter_map(|action| match action {
            Action::App(_, AppNews::Granted { worker, cores, .. }) => Some((*worker, *cores)),
            _ => None,
        });
        granted.collect()
    }

    pub fn refusal(&self) -> &str {
        let refusal = self.actions.iter().find_map(|action| match action {
            Action::Refuse(_, why) | Action::Reply(_, Err(why)) => Some(why.as_str()),
            _ => None,
        });
        refusal.expect("a refusal")
    }

    pub fn news(&self) -> Vec<&AppNews> {
        let news = self.actions.iter().filter_map(|action| match action {
            Action::App(_, news) => Some(news),
            _ => None,
        });
        news.collect()
    }

    pub fn orders(&self) -> Vec<&WorkerOrder> {
        let orders = self.actions.iter().filter_map(|action| match action {
            Action::Worker(_, order) => Some(order),
            _ => None,
        });
        orders.collect()
    }

    /// Another master with what was stored.
    pub fn restart(&mut self) {
        let records = self.stored.values().cloned().collect();
        self.master = Master::recover(Policy::default(), self.now, records);
        self.master.check();
    }
}

pub fn spec() -> AppSpec {
    AppSpec {
        name: "job".into(),
        driver_address: "d:1".into(),
        secret: vec![1; 32],
        executor_cores: Some(1),
        executor_memory: GIB,
        total_executor_cores: None,
        num_executors: None,
        spread_out: true,
        dynamic: false,
        driver: None,
        driver_proof: vec![5; 16],
    }
}

pub fn driver_spec(cores: u32, supervise: bool) -> DriverSpec {
    DriverSpec {
        name: "job".into(),
        cores,
        memory: GIB,
        supervise,
        component: vec![0; 32],
        submission: Vec::new(),
        proof: vec![5; 16],
        has_secrets: false,
    }
}

pub fn room(cores: u32) -> Room {
    Room { cores, memory: GIB }
}

pub fn count(launched: &[(WorkerId, u32)]) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for (worker, _) in launched {
        *counts.entry(worker.0).or_default() += 1;
    }
    counts
}
