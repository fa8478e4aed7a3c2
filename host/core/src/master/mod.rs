//! The cluster manager as a state machine: workers, applications, drivers, who gets what, and what survives whom.
//!
//! The shell feeds [`Event`]s to [`Master::handle`] and carries out the [`Action`]s that come back: what is to be stored first, then the
//! others in their order. Peers may say what they like, twice, late or never.
//!
//! | file | one thing |
//! |---|---|
//! | `ids`, `event` | names; what goes in and out |
//! | `workers`, `apps`, `drivers` | what becomes of each |
//! | `allocate` | who gets which cores and bytes |
//! | `explain`, `check` | what people ask; what must always hold |

mod allocate;
mod apps;
mod check;
mod drivers;
mod event;
mod explain;
mod ids;
mod refused;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub use drivers::{MAX_SUBMISSION, SECRETS_GONE};
pub use event::{
    Action, AppNews, AppSpec, ConnectionId, DriverSpec, DriverTry, Event, ExecutorName, Key,
    Policy, Record, Reply, RequestId, Room, Target, WorkerHello, WorkerOrder,
};
pub use explain::{AppState, AppStatus, DriverStatus, ExecutorStatus, WorkerStatus};
pub use ids::{AppId, DriverId};

use apps::Cause;
use drivers::End;
use refused::Refused;
pub use workers::WORKER_LOST;

use crate::ids::{ExecutorId, WorkerId};

/// The master of one cluster.
#[derive(Debug)]
pub struct Master {
    policy: Policy,
    now: Duration,
    /// The same, in seconds since 1970: for people.
    wall: u64,
    workers: BTreeMap<WorkerId, Worker>,
    apps: BTreeMap<AppId, App>,
    drivers: BTreeMap<DriverId, Driver>,
    connections: BTreeMap<ConnectionId, Peer>,
    ended_apps: VecDeque<AppStatus>,
    ended_drivers: VecDeque<DriverStatus>,
    last_worker: u32,
    last_name: u32,
    /// Workers that applications had executors on, the last lost last.
    lost: VecDeque<Lost>,
    /// When something must be looked at again, leases aside.
    looks: BTreeSet<Duration>,
    /// When the leases were looked at last.
    ticked: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Peer {
    Worker(WorkerId),
    App(AppId),
}

#[derive(Debug)]
struct Worker {
    address: String,
    /// Where its page is, as it says itself; empty if it has none.
    page: String,
    /// What whoever reads its logs proves itself with; empty until it said so to this master.
    log_secret: Vec<u8>,
    cores: u32,
    memory: u64,
    instance: u64,
    connection: Option<ConnectionId>,
    /// When it was last heard of.
    seen: Duration,
    draining: bool,
    executors: BTreeSet<ExecutorName>,
    drivers: BTreeSet<DriverTry>,
    /// Applications that it says it has files of: it hears when they are over, and nobody else hears of it.
    holds: BTreeSet<AppId>,
    /// What nobody wants any more, and is there until the worker says otherwise: it takes room until then.
    ending: BTreeMap<Process, Room>,
    cores_used: u32,
    memory_used: u64,
}

/// A worker that is lost.
#[derive(Debug)]
struct Lost {
    id: WorkerId,
    /// Where it was, and which process; not known of one that another master lost.
    process: Option<(String, u64)>,
}

/// What runs on a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Process {
    Executor(ExecutorName),
    Driver(DriverTry),
}

impl Worker {
    fn free_cores(&self) -> u32 {
        self.cores.saturating_sub(self.cores_used)
    }

    fn free_memory(&self) -> u64 {
        self.memory.saturating_sub(self.memory_used)
    }

    fn take(&mut self, room: Room) {
        self.cores_used += room.cores;
        self.memory_used += room.memory;
    }

    fn give_back(&mut self, room: Room) {
        self.cores_used -= room.cores;
        self.memory_used -= room.memory;
    }

    /// It is told to start something. What it said that it has by that name, it made up: no name was given before.
    fn begins(&mut self, process: Process, room: Room) {
        self.has_ended(process);
        match process {
            Process::Executor(name) => self.executors.insert(name),
            Process::Driver(driver) => self.drivers.insert(driver),
        };
        self.take(room);
    }

    /// Something that it ran is told to end; its room is taken already.
    fn is_ending(&mut self, process: Process, room: Room) {
        self.ending.insert(process, room);
    }

    /// Something that was told to end has.
    fn has_ended(&mut self, process: Process) {
        if let Some(room) = self.ending.remove(&process) {
            self.give_back(room);
        }
    }

    /// Whether it gets new work.
    fn takes(&self, cores: u32, memory: u64) -> bool {
        self.connection.is_some()
            && !self.draining
            && self.free_cores() >= cores
            && self.free_memory() >= memory
    }
}

#[derive(Debug)]
struct App {
    spec: AppSpec,
    connection: Option<ConnectionId>,
    /// When its connection was lost.
    lost: Duration,
    executors: BTreeMap<ExecutorId, Executor>,
    next_executor: u32,
    /// How many it wants, if it says so.
    wants: Option<u32>,
    excluded: BTreeSet<WorkerId>,
    refused: Refused,
    /// Executors in a row that never found their driver.
    failures: u32,
    last_failure: String,
    /// Executors in a row that had found their driver and ended soon, and when the last of them was counted.
    ends: u32,
    counted: Duration,
    /// How often in a row it gave executors up soon after it got them, and when that was counted last.
    releases: u32,
    released: Duration,
    /// No new executors before.
    not_before: Duration,
    /// What it was told last that it waits for.
    told: String,
    /// Where it has, or had, executors: workers that are there, and some that are lost.
    workers: BTreeSet<WorkerId>,
}

impl App {
    fn cores(&self) -> u32 {
        self.executors.values().map(|e| e.cores).sum()
    }

    /// It says how much it wants; else it takes what there is, and never has enough.
    fn is_bounded(&self) -> bool {
        let spec = &self.spec;
        spec.dynamic || spec.num_executors.is_some() || spec.total_executor_cores.is_some()
    }

    fn room(&self, executor: &Executor) -> Room {
        Room { cores: executor.cores, memory: self.spec.executor_memory }
    }
}

#[derive(Clone, Copy, Debug)]
struct Executor {
    worker: WorkerId,
    cores: u32,
    /// It found its driver.
    registered: bool,
    /// Since when it has, or runs.
    since: Duration,
}

#[derive(Debug)]
struct Driver {
    spec: DriverSpec,
    worker: Option<WorkerId>,
    last_worker: Option<WorkerId>,
    app: Option<AppId>,
    /// Which try of it had an application.
    attached: Option<u32>,
    refused: Refused,
    /// A worker was looked for.
    looked_at: bool,
    restarts: u32,
    /// A move to another worker is none.
    failures: u32,
    /// The master was started again since it got them.
    secrets_gone: bool,
    not_before: Duration,
    /// How it ended last.
    last: String,
}

impl Master {
    /// A master that knows nothing.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            now: Duration::ZERO,
            wall: 0,
            workers: BTreeMap::new(),
            apps: BTreeMap::new(),
            drivers: BTreeMap::new(),
            connections: BTreeMap::new(),
            ended_apps: VecDeque::new(),
            ended_drivers: VecDeque::new(),
            last_worker: 0,
            last_name: 0,
            lost: VecDeque::new(),
            looks: BTreeSet::new(),
            ticked: Duration::ZERO,
        }
    }

    /// A master that goes on where another one stopped. Workers and applications have a lease to come back within; what they run goes
    /// on meanwhile.
    pub fn recover(policy: Policy, now: Duration, records: Vec<Record>) -> Self {
        let mut master = Self { now, ticked: now, ..Self::new(policy) };
        for record in records {
            match record {
                Record::Numbers { workers, names } => {
                    (master.last_worker, master.last_name) = (workers, names);
                }
                Record::Worker { id, address, cores, memory, instance, draining } => {
                    let worker = Worker {
                        address,
                        // It says so again when it is back.
                        page: String::new(),
                        log_secret: Vec::new(),
                        cores,
                        memory,
                        instance,
                        connection: None,
                        seen: now,
                        draining,
                        executors: BTreeSet::new(),
                        drivers: BTreeSet::new(),
                        holds: BTreeSet::new(),
                        ending: BTreeMap::new(),
                        cores_used: 0,
                        memory_used: 0,
                    };
                    master.workers.insert(id, worker);
                }
                Record::App { id, spec, next_executor, executors, workers } => {
                    let mut app = App::new(spec, None, now);
                    app.next_executor = next_executor;
                    app.workers.extend(workers);
                    for (executor, worker, cores) in executors {
                        // Those of lost connections are looked at when their worker is back.
                        let executor_of = Executor { worker, cores, registered: true, since: now };
                        app.executors.insert(executor, executor_of);
                        app.workers.insert(worker);
                    }
                    master.apps.insert(id, app);
                }
                Record::Driver { id, spec, worker, restarts } => {
                    let mut driver = Driver::new(spec);
                    (driver.worker, driver.restarts, driver.failures) =
                        (worker, restarts, restarts);
                    driver.secrets_gone = driver.spec.has_secrets;
                    master.drivers.insert(id, driver);
                }
                Record::EndedApp(status) => master.ended_apps.push_back(status),
                Record::EndedDriver(status) => master.ended_drivers.push_back(status),
            }
        }
        master.relink();
        master
    }

    /// Makes what the records say only once: what is on which worker.
    fn relink(&mut self) {
        for (id, app) in &mut self.apps {
            let workers = &mut self.workers;
            app.executors.retain(|executor, e| {
                let Some(worker) = workers.get_mut(&e.worker) else { return false };
                worker.executors.insert((*id, *executor));
                worker.take(Room { cores: e.cores, memory: app.spec.executor_memory });
                true
            });
            if let Some(driver) = app.spec.driver.and_then(|d| self.drivers.get_mut(&d)) {
                driver.app = Some(*id);
                driver.attached = Some(driver.restarts);
            }
        }
        let known = self.apps.values().flat_map(|app| &app.workers).copied();
        let lost: BTreeSet<_> = known.filter(|id| !self.workers.contains_key(id)).collect();
        for id in lost {
            self.note_lost(Lost { id, process: None });
        }
        for (id, driver) in &mut self.drivers {
            match driver.worker.and_then(|w| self.workers.get_mut(&w)) {
                Some(worker) => {
                    worker.drivers.insert((*id, driver.restarts));
                    worker.take(driver.room());
                }
                None => driver.worker = None,
            }
        }
    }

    /// What the time is, in seconds since 1970. Nothing is decided by it: it is noted of what ends.
    pub fn set_wall(&mut self, seconds: u64) {
        self.wall = seconds;
    }

    /// Takes note of an event and appends what is to be done. `now` is a time that doesn't go back.
    pub fn handle(&mut self, now: Duration, event: Event, actions: &mut Vec<Action>) {
        self.notice_sleep(now);
        self.now = self.now.max(now);
        let first = actions.len();
        let mut allocate = true;
        match event {
            Event::WorkerHello { connection, hello } => {
                self.worker_hello(connection, hello, actions);
            }
            Event::Heartbeat { worker } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.seen = self.now;
                }
                allocate = false;
            }
            Event::WorkerDraining { worker } => self.drain_worker(worker, actions),
            Event::ExecutorEnded { worker, executor, reason } => {
                self.executor_ended(worker, executor, &reason, Cause::Itself, actions);
            }
            Event::ExecutorRefused { worker, executor, reason } => {
                self.executor_ended(worker, executor, &reason, Cause::Refused, actions);
            }
            Event::ExecutorExpelled { worker, executor, reason } => {
                self.executor_ended(worker, executor, &reason, Cause::Expelled, actions);
            }
            Event::DriverEnded { worker, driver, finished, reason } => {
                let how = if finished { End::Finished } else { End::Failed };
                self.driver_ended(worker, driver, how, &reason, actions);
            }
            Event::DriverExpelled { worker, driver, reason } => {
                self.driver_ended(worker, driver, End::Expelled, &reason, actions);
            }
            Event::DriverRefused { worker, driver, reason } => {
                self.driver_refused(worker, driver, &reason, actions);
            }
            Event::AppHello { connection, id, spec, wall } => {
                self.app_hello(connection, id, spec, wall, actions);
            }
            // What changes nothing leads to nothing: an application may say it as often as it likes.
            Event::ExecutorRegistered { executor } => {
                allocate = self.executor_registered(executor);
            }
            Event::AppWants { app, executors } => {
                let app = self.apps.get_mut(&app).filter(|app| app.spec.dynamic);
                allocate = app.is_some_and(|app| app.wants.replace(executors) != Some(executors));
            }
            Event::AppReleases { executor } => allocate = self.release(executor, actions),
            Event::AppExcludes { app, workers } => {
                if let Some(app) = self.apps.get_mut(&app) {
                    app.excluded = workers.into_iter().take(self.workers.len()).collect();
                }
            }
            Event::AppEnded { app, failure } => {
                let (state, text) = match failure {
                    None => (AppState::Finished, String::new()),
                    Some(text) => (AppState::Failed, text),
                };
                self.end_app(app, state, &text, actions);
            }
            Event::ConnectionLost { connection } => self.connection_lost(connection),
            Event::SubmitDriver { request, spec, wall } => {
                self.submit_driver(request, spec, wall, actions);
            }
            Event::Kill { request, target } => self.kill(request, target, actions),
            Event::Decommission { request, worker } => self.decommission(request, worker, actions),
            Event::Tick => self.tick(actions),
        }
        if allocate {
            self.allocate(actions);
            self.tell_waits(actions);
        }
        // Before anything is done that must not be forgotten.
        actions[first..]
            .sort_by_key(|action| !matches!(action, Action::Persist(_) | Action::Forget(_)));
    }

    /// When to tick, whatever happens before: while there is anybody, well before any lease ends.
    pub fn next_deadline(&self) -> Option<Duration> {
        let anybody = !self.workers.is_empty() || !self.apps.is_empty();
        // Not from now on: in a busy cluster something happens before, time and again, and no lease would ever end.
        let regular = anybody.then(|| self.ticked + self.lease() / 4);
        regular.into_iter().chain(self.looks.first().copied()).min()
    }

    /// The shorter of the leases.
    fn lease(&self) -> Duration {
        self.policy.worker_lease.min(self.policy.app_lease)
    }

    /// A master that was itself stopped for longer than a lease can't hold the others' silence against them.
    fn notice_sleep(&mut self, now: Duration) {
        if now.saturating_sub(self.now) <= self.lease() {
            return;
        }
        for worker in self.workers.values_mut() {
            worker.seen = now;
        }
        for app in self.apps.values_mut() {
            app.lost = now;
        }
    }

    /// Whether a connection is one that the master holds: what comes from an older one of the same peer doesn't count.
    pub fn holds(&self, connection: ConnectionId) -> bool {
        self.connections.contains_key(&connection)
    }

    fn tick(&mut self, actions: &mut Vec<Action>) {
        self.ticked = self.now;
        self.looks.retain(|at| *at > self.now);
        let lease = self.policy.worker_lease;
        let lost: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.seen + lease <= self.now)
            .map(|(id, _)| *id)
            .collect();
        for worker in lost {
            let reason = format!("nothing was heard of it for {} s", lease.as_secs());
            self.worker_lost(worker, &reason, actions);
        }
        let lease = self.policy.app_lease;
        let gone: Vec<_> = self
            .apps
            .iter()
            .filter(|(_, app)| app.connection.is_none() && app.lost + lease <= self.now)
            .map(|(id, _)| *id)
            .collect();
        for app in gone {
            self.end_app(app, AppState::Killed, "its driver is gone", actions);
        }
    }

    fn connection_lost(&mut self, connection: ConnectionId) {
        match self.connections.remove(&connection) {
            Some(Peer::Worker(id)) => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.connection = None;
                    worker.seen = self.now;
                }
            }
            Some(Peer::App(id)) => {
                if let Some(app) = self.apps.get_mut(&id) {
                    (app.connection, app.lost) = (None, self.now);
                }
            }
            None => {}
        }
    }

    fn kill(&mut self, request: RequestId, target: Target, actions: &mut Vec<Action>) {
        let (app, driver) = match target {
            Target::App(id) => (Some(id), self.apps.get(&id).and_then(|app| app.spec.driver)),
            Target::Driver(id) => (self.drivers.get(&id).and_then(|d| d.app), Some(id)),
        };
        let mut killed = Vec::new();
        if let Some(id) = driver
            && self.drivers.contains_key(&id)
        {
            self.end_driver(id, AppState::Killed, "somebody killed it", actions);
            killed.push(id.to_string());
        }
        if let Some(id) = app
            && self.apps.contains_key(&id)
        {
            self.end_app(id, AppState::Killed, "somebody killed it", actions);
            killed.push(id.to_string());
        }
        let state = match target {
            Target::App(id) => self.app(id).map(|status| (id.to_string(), status.state)),
            Target::Driver(id) => self.driver(id).map(|status| (id.to_string(), status.state)),
        };
        let answer = match (killed.is_empty(), state) {
            (false, _) => Ok(Reply::Done(format!("killed {}", killed.join(" and ")))),
            (true, Some((id, state))) => Err(format!("{id} is over already: it is {state}")),
            (true, None) => {
                Err("there is no application or driver of that name; see `ingle apps`".into())
            }
        };
        actions.push(Action::Reply(request, answer));
    }

    /// A name for an application or a driver.
    fn new_name(&mut self, actions: &mut Vec<Action>) -> u32 {
        self.last_name += 1;
        self.persist_numbers(actions);
        self.last_name
    }

    fn persist_numbers(&self, actions: &mut Vec<Action>) {
        let (workers, names) = (self.last_worker, self.last_name);
        actions.push(Action::Persist(Record::Numbers { workers, names }));
    }

    /// Something must be looked at again at this time.
    fn look_at(&mut self, at: Duration) {
        self.looks.insert(at);
    }

    /// How long to wait after so many failures in a row.
    fn backoff(&self, failures: u32) -> Duration {
        let factor = 1u32 << failures.saturating_sub(1).min(20);
        (self.policy.backoff * factor).min(self.policy.max_backoff)
    }
}

/// Texts of others end up on terminals and in the store.
const MAX_TEXT: usize = 4096;

/// A text that peers or guests chose, so that it steers no terminal and isn't long.
fn clean(text: &str) -> String {
    let safe = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    text.chars().take(MAX_TEXT).map(safe).collect()
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}
