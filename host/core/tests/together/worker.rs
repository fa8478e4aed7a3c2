//! A worker's process and its children: `host/cluster/src/worker`.

use std::collections::{BTreeMap, BTreeSet};

use ingle_core::ids::{StageId, WorkerId};
use ingle_core::master::{AppId, DriverTry, ExecutorName, Room, WorkerHello, WorkerOrder};
use rand::Rng;

use crate::net::{CLIENT, Conn, HostId, Kind, Msg, Pid, Report, Target};
use crate::world::{Next, SECOND, World};

const HEARTBEAT: u64 = SECOND;
const FIRST_WAIT: u64 = SECOND / 10;
const LONGEST_WAIT: u64 = 5 * SECOND;
/// How long what runs may go on once the worker shall end.
const DRAIN: u64 = 10 * SECOND;
/// How long a driver that is killed may take to end by itself.
const GRACE: u64 = 3 * SECOND;

/// How long children run on at most when their worker is gone: their standard input ends.
const CHILDREN_END: u64 = SECOND / 20;

/// What a process is to its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Executor(ExecutorName),
    Driver(DriverTry),
}

/// The output of a task: stage, partition, attempt.
pub type File = (StageId, u32, u32);

/// A machine's worker, one process after the other.
pub struct WorkerProcess {
    pub host: HostId,
    pub room: Room,
    pub pid: Option<Pid>,
    instance: u64,
    pub id: Option<WorkerId>,
    conn: Option<Conn>,
    welcome: bool,
    backoff: u64,
    /// Ends that wait to be told.
    ended: Vec<Report>,
    pub draining: bool,
    told_draining: bool,
    /// How often in a row it was refused.
    refused: u32,
    /// What the worker believes that runs.
    pub running: BTreeMap<Name, (Pid, Room)>,
    /// What really runs on the machine.
    pub there: BTreeMap<Pid, (Name, Room)>,
    used: Room,
    /// The files of each application.
    pub folder: BTreeMap<AppId, BTreeSet<File>>,
    /// Applications that are to be forgotten once nothing of them runs.
    forgetting: BTreeSet<AppId>,
    /// When it died.
    pub dead_since: Option<u64>,
}

impl WorkerProcess {
    pub fn new(host: HostId, room: Room) -> Self {
        Self {
            host,
            room,
            pid: None,
            instance: 0,
            id: None,
            conn: None,
            welcome: false,
            backoff: FIRST_WAIT,
            ended: Vec::new(),
            draining: false,
            told_draining: false,
            refused: 0,
            running: BTreeMap::new(),
            there: BTreeMap::new(),
            used: Room::default(),
            folder: BTreeMap::new(),
            forgetting: BTreeSet::new(),
            dead_since: None,
        }
    }

    fn runs_any_of(&self, app: AppId) -> bool {
        self.running.keys().any(|name| matches!(name, Name::Executor((of, _)) if *of == app))
    }

    /// Forgets what nobody writes any more.
    fn forget(&mut self) {
        let forgetting = std::mem::take(&mut self.forgetting);
        let (later, now) = forgetting.into_iter().partition(|app| self.runs_any_of(*app));
        self.forgetting = later;
        let now: BTreeSet<AppId> = now;
        self.folder.retain(|app, _| !now.contains(app));
    }
}

/// Where a worker serves, and back.
pub fn address(at: usize) -> String {
    format!("w{at}:1")
}

pub fn at_address(address: &str) -> usize {
    address[1..address.len() - 2].parse().expect("a worker's address")
}

impl World {
    pub fn worker_starts(&mut self, at: usize) {
        if self.workers[at].pid.is_some() {
            return;
        }
        // Whoever starts it again isn't faster than its children are at ending.
        if let Some(dead) =
            self.workers[at].dead_since.filter(|dead| self.now < dead + CHILDREN_END)
        {
            self.at(dead + CHILDREN_END, Next::WorkerStarts(at));
            return;
        }
        self.note(|| format!("worker at {} starts", address(at)));
        let pid = self.start_process(Kind::Worker(at), self.workers[at].host);
        let instance: u64 = self.rng.random();
        let old = &mut self.workers[at];
        let mut new = WorkerProcess::new(old.host, old.room);
        (new.pid, new.instance) = (Some(pid), instance);
        // Of an earlier worker's children, some may not have ended yet.
        (new.there, new.used) = (std::mem::take(&mut old.there), old.used);
        *old = new;
        self.worker_dials(at);
        self.after(pid, HEARTBEAT, Next::Heartbeat(pid));
    }

    pub fn worker_dials(&mut self, at: usize) {
        if let Some(pid) = self.workers[at].pid {
            self.dial(pid, Target::Master);
        }
    }

    pub fn worker_dialled(&mut self, at: usize, conn: Option<Conn>) {
        let Some(conn) = conn else {
            self.worker_waits(at);
            return;
        };
        let worker = &mut self.workers[at];
        (worker.conn, worker.welcome, worker.told_draining) = (Some(conn), false, false);
        // What ended before is told by what the hello doesn't list.
        worker.ended.clear();
        let mut hello = WorkerHello {
            address: address(at),
            page: String::new(),
            cores: worker.room.cores,
            memory: worker.room.memory,
            instance: worker.instance,
            log_secret: Vec::new(),
            executors: Vec::new(),
            drivers: Vec::new(),
            applications: worker.folder.keys().copied().collect(),
        };
        for (name, (_, room)) in &worker.running {
            match name {
                Name::Executor(name) => hello.executors.push((*name, *room)),
                Name::Driver(driver) => hello.drivers.push((*driver, *room)),
            }
        }
        self.say(conn, CLIENT, Msg::WorkerHello(Box::new(hello)));
    }

    fn worker_waits(&mut self, at: usize) {
        let mut backoff = self.workers[at].backoff;
        let wait = self.backoff(&mut backoff, LONGEST_WAIT);
        self.workers[at].backoff = backoff;
        if let Some(pid) = self.workers[at].pid {
            self.after(pid, wait, Next::Retry(pid));
        }
    }

    pub fn worker_closed(&mut self, at: usize, conn: Conn) {
        if self.workers[at].conn == Some(conn) {
            self.workers[at].conn = None;
            // One that is refused would be again, soon.
            if std::mem::replace(&mut self.workers[at].welcome, false) {
                self.workers[at].backoff = FIRST_WAIT;
            }
            self.worker_waits(at);
        }
    }

    pub fn worker_beats(&mut self, at: usize) {
        let Some(pid) = self.workers[at].pid else { return };
        if self.workers[at].welcome {
            self.worker_reports(at, Report::Heartbeat);
        }
        self.after(pid, HEARTBEAT, Next::Heartbeat(pid));
    }

    /// Tells the master, now or once it is there.
    fn worker_reports(&mut self, at: usize, report: Report) {
        match self.workers[at].conn {
            Some(conn) if self.workers[at].welcome => self.say(conn, CLIENT, Msg::Report(report)),
            _ => self.workers[at].ended.push(report),
        }
    }

    pub fn worker_hears(&mut self, at: usize, conn: Conn, msg: Msg) {
        if self.workers[at].conn != Some(conn) {
            return;
        }
        match msg {
            Msg::Refused(_) => {
                let worker = &mut self.workers[at];
                worker.refused += 1;
                // Until the master has noticed that its predecessor is gone.
                assert!(worker.refused < 30, "worker {at} asks {} times", worker.refused);
                self.close(conn, CLIENT);
                self.worker_closed(at, conn);
            }
            Msg::Order(order) => self.worker_obeys(at, order),
            _ => unreachable!("that is not for a worker: {msg:?}"),
        }
    }

    fn worker_obeys(&mut self, at: usize, order: WorkerOrder) {
        match order {
            WorkerOrder::Welcome(id) => {
                let worker = &mut self.workers[at];
                (worker.id, worker.welcome, worker.refused) = (Some(id), true, 0);
                for report in std::mem::take(&mut worker.ended) {
                    self.worker_reports(at, report);
                }
                self.worker_says_that_it_drains(at);
            }
            WorkerOrder::LaunchExecutor { executor, cores, memory, driver_address, .. } => {
                let (name, room) = (Name::Executor(executor), Room { cores, memory });
                if self.workers[at].running.contains_key(&name) {
                    return;
                }
                self.workers[at].folder.entry(executor.0).or_default();
                let pid = self.executor_starts(at, executor, cores, driver_address);
                self.child_starts(at, name, room, pid);
            }
            WorkerOrder::LaunchDriver { driver, spec } => {
                let name = Name::Driver(driver);
                let room = Room { cores: spec.cores, memory: spec.memory };
                if self.workers[at].running.contains_key(&name) {
                    return;
                }
                let plan = spec.name.parse().expect("the place of its plan");
                let pid = self.driver_starts(plan, Some((at, driver)));
                self.child_starts(at, name, room, pid);
            }
            WorkerOrder::KillExecutor(executor) => self.kill_child(at, Name::Executor(executor)),
            WorkerOrder::KillDriver(driver) => self.kill_child(at, Name::Driver(driver)),
            WorkerOrder::ForgetApp(app) => {
                self.workers[at].forgetting.insert(app);
                self.workers[at].forget();
            }
        }
    }

    fn child_starts(&mut self, at: usize, name: Name, room: Room, pid: Pid) {
        let worker = &mut self.workers[at];
        worker.running.insert(name, (pid, room));
        worker.there.insert(pid, (name, room));
        worker.used.cores += room.cores;
        worker.used.memory += room.memory;
        let (used, has) = (worker.used, worker.room);
        assert!(
            used.cores <= has.cores && used.memory <= has.memory,
            "{} runs more than it has: {used:?} of {has:?}, by {:?}",
            address(at),
            worker.there.values()
        );
    }

    fn kill_child(&mut self, at: usize, name: Name) {
        let Some((pid, _)) = self.workers[at].running.get(&name).copied() else {
            let reason = "it wasn't there".to_owned();
            self.worker_reports(at, ended(name, false, reason));
            return;
        };
        // A driver is asked to end first.
        let most = if let Name::Driver(_) = name { GRACE } else { self.weather.slow_end.max(2) };
        let wait = self.rng.random_range(1..most);
        self.at(self.now + wait, Next::Ends(pid, false, "it was killed"));
    }

    /// A child of a worker ends.
    pub fn child_ended(&mut self, at: usize, pid: Pid, finished: bool, why: &str) {
        let Some((name, room)) = self.workers[at].there.remove(&pid) else { return };
        let worker = &mut self.workers[at];
        worker.used.cores -= room.cores;
        worker.used.memory -= room.memory;
        if worker.pid.is_none() || worker.running.get(&name).is_none_or(|(at, _)| *at != pid) {
            return;
        }
        worker.running.remove(&name);
        worker.forget();
        self.worker_reports(at, ended(name, finished, why.to_owned()));
        if self.workers[at].draining && self.workers[at].running.is_empty() {
            self.worker_exits(at);
        }
    }

    /// Somebody wants the worker to end.
    pub fn worker_drains(&mut self, at: usize) {
        let Some(pid) = self.workers[at].pid else { return };
        if std::mem::replace(&mut self.workers[at].draining, true) {
            return;
        }
        self.note(|| format!("worker at {} shall end", address(at)));
        self.worker_says_that_it_drains(at);
        let at_once = self.workers[at].running.is_empty();
        self.after(pid, if at_once { 0 } else { DRAIN }, Next::DrainEnds(pid));
    }

    fn worker_says_that_it_drains(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        if worker.draining && worker.welcome && !std::mem::replace(&mut worker.told_draining, true)
        {
            self.worker_reports(at, Report::Draining);
        }
    }

    /// A worker that was told to ends, after what it runs, and removes all its files.
    pub fn worker_exits(&mut self, at: usize) {
        self.worker_dies(at, false);
        let again = self.now + self.rng.random_range(SECOND..10 * SECOND);
        self.at(again, Next::WorkerStarts(at));
    }

    /// A worker's process is gone, and soon its children; `silently` if it is its host that is gone.
    pub fn worker_dies(&mut self, at: usize, silently: bool) {
        let Some(pid) = self.workers[at].pid.take() else { return };
        self.note(|| format!("worker at {} is gone, silently: {silently}", address(at)));
        self.counts.workers_died += 1;
        self.end_process(pid, silently);
        let worker = &mut self.workers[at];
        (worker.conn, worker.welcome) = (None, false);
        worker.dead_since = Some(self.now);
        worker.running.clear();
        worker.folder.clear();
        self.losses += 1;
        let worker = &self.workers[at];
        for child in worker.there.keys().copied().collect::<Vec<_>>() {
            if silently {
                self.end_process(child, true);
                self.process_ends(child, false, "its host is gone");
            } else {
                let wait = self.rng.random_range(1..CHILDREN_END);
                self.at(self.now + wait, Next::Ends(child, false, "its worker is gone"));
            }
        }
    }

    /// A process of a driver or an executor comes to its end.
    pub fn process_ends(&mut self, pid: Pid, finished: bool, why: &str) {
        let worker = match self.processes[pid].kind {
            Kind::Executor(at) => Some(self.executors[at].worker),
            Kind::Driver(at) => self.drivers[at].worker,
            Kind::Master | Kind::Worker(_) => None,
        };
        if self.is_alive(pid) {
            let kind = self.processes[pid].kind;
            self.note(|| format!("process {pid}, {kind:?}, ends: {why}"));
            self.end_process(pid, false);
        }
        match self.processes[pid].kind {
            Kind::Driver(at) => self.driver_ended(at),
            Kind::Executor(at) => self.executors[at].clear(),
            Kind::Master | Kind::Worker(_) => {}
        }
        if let Some(worker) = worker {
            self.child_ended(worker, pid, finished, why);
        }
    }
}

fn ended(name: Name, finished: bool, reason: String) -> Report {
    match name {
        Name::Executor(name) => Report::ExecutorEnded(name, reason),
        Name::Driver(driver) => Report::DriverEnded(driver, finished, reason),
    }
}
