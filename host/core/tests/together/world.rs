//! The world: what happens when, and to whom.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use ingle_core::ids::{ExecutorId, TaskId};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::driver::DriverProcess;
use crate::executor::ExecutorProcess;
use crate::master::MasterProcess;
use crate::net::{Conn, Host, HostId, Kind, Link, Msg, Pid, Process, Target};
use crate::plan::{Plan, Weather};
use crate::worker::WorkerProcess;

/// The world's time is in microseconds.
pub const SECOND: u64 = 1_000_000;

/// Something that will happen.
pub enum Next {
    // The network.
    Deliver(Conn, usize, Msg),
    Dial(Pid, Target),
    NoDial(Pid),
    Notice(Conn, usize),
    Keepalive(Conn, usize, (HostId, HostId), u64),
    Flush(Conn, usize),
    Heal(HostId, HostId),
    // Processes.
    Retry(Pid),
    MasterStarts,
    MasterTicks(Pid),
    WorkerStarts(usize),
    Heartbeat(Pid),
    DrainEnds(Pid),
    DriverStarts(usize),
    /// A driver looks at its application.
    Look(Pid),
    /// The driver's program goes on.
    Step(Pid, usize),
    NotGranted(Pid, Conn),
    FarewellEnds(Pid),
    ExecutorStarted(Pid),
    TaskEnds(Pid, TaskId),
    /// A process ends: well or not, and why.
    Ends(Pid, bool, &'static str),
    // The rest.
    Misfortune,
    /// Somebody asks the master.
    Asked,
    /// What must not go on for ever is looked at.
    Watch,
}

struct Entry {
    at: u64,
    number: u64,
    next: Next,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// What came of it all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: u64,
    pub to_master: u64,
    pub to_schedulers: u64,
    pub tasks: u64,
    pub jobs_finished: u32,
    pub jobs_failed: u32,
    pub jobs_cancelled: u32,
    pub apps_done: u32,
    pub apps_over: u32,
    pub drivers_died: u32,
    pub masters_died: u32,
    pub workers_died: u32,
    pub executors_died: u32,
    pub workers_lost: u32,
    pub misses: u32,
    pub cuts: u32,
    pub breaks: u32,
    /// The most executors at a time.
    pub executors: usize,
    pub waiting: u32,
    /// Of all actions of all cores.
    pub digest: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.to_master += other.to_master;
        self.to_schedulers += other.to_schedulers;
        self.tasks += other.tasks;
        self.executors = self.executors.max(other.executors);
        for (sum, more) in [
            (&mut self.jobs_finished, other.jobs_finished),
            (&mut self.jobs_failed, other.jobs_failed),
            (&mut self.jobs_cancelled, other.jobs_cancelled),
            (&mut self.apps_done, other.apps_done),
            (&mut self.apps_over, other.apps_over),
            (&mut self.drivers_died, other.drivers_died),
            (&mut self.masters_died, other.masters_died),
            (&mut self.workers_died, other.workers_died),
            (&mut self.executors_died, other.executors_died),
            (&mut self.workers_lost, other.workers_lost),
            (&mut self.misses, other.misses),
            (&mut self.cuts, other.cuts),
            (&mut self.breaks, other.breaks),
            (&mut self.waiting, other.waiting),
        ] {
            *sum += more;
        }
    }
}

pub struct World {
    pub rng: SmallRng,
    pub print: bool,
    pub now: u64,
    /// When the weather calms down.
    pub storm: u64,
    pub weather: Weather,
    pub plan: Plan,
    agenda: BinaryHeap<Reverse<Entry>>,
    pub entries: u64,
    pub hosts: Vec<Host>,
    pub processes: Vec<Process>,
    pub links: Vec<Link>,
    /// Which ways are cut, by names of their own.
    pub cuts: BTreeMap<(HostId, HostId), u64>,
    /// Which process listens at a driver's address.
    pub listening: BTreeMap<String, Pid>,
    pub master: MasterProcess,
    pub workers: Vec<WorkerProcess>,
    pub drivers: Vec<DriverProcess>,
    pub executors: Vec<ExecutorProcess>,
    /// Applications that were started, or submitted.
    pub submitted: BTreeSet<usize>,
    /// Executors that the master doesn't know, and since when that is seen.
    pub unknown: BTreeMap<Pid, u64>,
    /// Executors of a driver that are waited for in vain, and since when that is seen.
    pub awaited: BTreeMap<(usize, ExecutorId), u64>,
    /// How often files went.
    pub losses: u64,
    pub counts: Counts,
    /// When all applications were over.
    pub all_over: Option<u64>,
}

impl World {
    pub fn new(seed: u64, plan: Plan, print: bool) -> Self {
        let mut world = Self {
            rng: SmallRng::seed_from_u64(seed),
            print,
            now: 0,
            storm: plan.storm,
            weather: plan.weather.clone(),
            agenda: BinaryHeap::new(),
            entries: 0,
            hosts: Vec::new(),
            processes: Vec::new(),
            links: Vec::new(),
            cuts: BTreeMap::new(),
            listening: BTreeMap::new(),
            master: MasterProcess::new(),
            workers: Vec::new(),
            drivers: Vec::new(),
            executors: Vec::new(),
            submitted: BTreeSet::new(),
            unknown: BTreeMap::new(),
            awaited: BTreeMap::new(),
            losses: 1,
            counts: Counts::default(),
            all_over: None,
            plan,
        };
        world.set_up();
        world
    }

    pub fn at(&mut self, at: u64, next: Next) {
        self.entries += 1;
        self.agenda.push(Reverse(Entry { at, number: self.entries, next }));
    }

    /// After so much time on a process's host.
    pub fn after(&mut self, pid: Pid, wait: u64, next: Next) {
        let rate = self.hosts[self.processes[pid].host].rate;
        self.at(self.now + (wait as f64 / rate).ceil() as u64, next);
    }

    /// How long a process runs, as it sees it.
    pub fn elapsed(&self, pid: Pid) -> Duration {
        let process = &self.processes[pid];
        let micros = (self.now - process.started) as f64 * self.hosts[process.host].rate;
        Duration::from_micros(micros as u64)
    }

    /// When it will be that time for a process.
    pub fn when(&self, pid: Pid, elapsed: Duration) -> u64 {
        let process = &self.processes[pid];
        let micros = elapsed.as_micros() as f64 / self.hosts[process.host].rate;
        process.started + micros.ceil() as u64
    }

    /// The wall clock of a host, in seconds since 1970.
    pub fn wall(&self, host: HostId) -> u64 {
        let host = &self.hosts[host];
        host.wall + (self.now as f64 * host.rate) as u64 / SECOND
    }

    pub fn is_alive(&self, pid: Pid) -> bool {
        self.processes[pid].alive
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if self.print {
            println!("{:>11} {}", self.now, text());
        }
    }

    /// Makes two runs that differ differ at their end.
    pub fn digest(&mut self, what: &dyn std::fmt::Debug) {
        if self.plan.recorded {
            struct Fnv(u64);
            impl std::fmt::Write for Fnv {
                fn write_str(&mut self, text: &str) -> std::fmt::Result {
                    for byte in text.bytes() {
                        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                    }
                    Ok(())
                }
            }
            let mut hash = Fnv(self.counts.digest ^ self.now);
            std::fmt::write(&mut hash, format_args!("{what:?}")).expect("it always can");
            self.counts.digest = hash.0;
        }
    }

    /// Lets everything happen.
    pub fn run(mut self) -> Counts {
        let mut steps = 0u64;
        while let Some(Reverse(Entry { at, next, .. })) = self.agenda.pop() {
            if at > self.plan.end || self.all_over.is_some_and(|over| at > over + self.plan.calm) {
                break;
            }
            steps += 1;
            self.now = at;
            self.happens(next);
        }
        self.counts.events = steps;
        self.settled();
        self.counts
    }

    fn happens(&mut self, next: Next) {
        match next {
            Next::Deliver(conn, to, msg) => self.arrives(conn, to, msg),
            Next::Dial(pid, target) => self.dial_arrives(pid, &target),
            Next::NoDial(pid) => {
                if self.is_alive(pid) {
                    self.dialled(pid, None);
                }
            }
            Next::Notice(conn, side) => self.notice(conn, side),
            Next::Keepalive(conn, side, way, name) => self.keepalive(conn, side, way, name),
            Next::Flush(conn, side) => self.flush(conn, side),
            Next::Heal(from, to) => self.heal(from, to),
            Next::MasterStarts => self.master_starts(),
            Next::MasterTicks(pid) => self.master_ticks(pid),
            Next::WorkerStarts(worker) => self.worker_starts(worker),
            Next::DriverStarts(plan) => match self.plan.apps[plan].cluster {
                Some(supervise) => self.submit(plan, supervise),
                None => {
                    self.submitted.insert(plan);
                    self.driver_starts(plan, None);
                }
            },
            Next::Misfortune => self.misfortune(),
            Next::Asked => self.asked(),
            Next::Watch => self.watch(),
            Next::Ends(pid, finished, why) => self.process_ends(pid, finished, why),
            Next::Retry(pid)
            | Next::Heartbeat(pid)
            | Next::DrainEnds(pid)
            | Next::Look(pid)
            | Next::Step(pid, _)
            | Next::NotGranted(pid, _)
            | Next::FarewellEnds(pid)
            | Next::ExecutorStarted(pid)
            | Next::TaskEnds(pid, _) => {
                if self.is_alive(pid) {
                    self.of_process(pid, next);
                }
            }
        }
    }

    fn of_process(&mut self, pid: Pid, next: Next) {
        match (self.processes[pid].kind, next) {
            (Kind::Worker(at), Next::Retry(_)) => self.worker_dials(at),
            (Kind::Worker(at), Next::Heartbeat(_)) => self.worker_beats(at),
            (Kind::Worker(at), Next::DrainEnds(_)) => self.worker_exits(at),
            (Kind::Driver(at), Next::Retry(_)) => self.driver_dials(at),
            (Kind::Driver(at), Next::Look(_)) => self.driver_looks(at),
            (Kind::Driver(at), Next::Step(_, step)) => self.driver_steps(at, step),
            (Kind::Driver(at), Next::NotGranted(_, conn)) => self.not_granted(at, conn),
            (Kind::Driver(at), Next::FarewellEnds(_)) => self.driver_exits(at),
            (Kind::Executor(at), Next::Retry(_)) => self.executor_dials(at),
            (Kind::Executor(at), Next::ExecutorStarted(_)) => self.executor_started(at),
            (Kind::Executor(at), Next::TaskEnds(_, task)) => self.task_ends(at, task),
            _ => unreachable!("that is for another process"),
        }
    }

    /// A process is connected, or couldn't be.
    pub fn dialled(&mut self, pid: Pid, conn: Option<Conn>) {
        match self.processes[pid].kind {
            Kind::Master => {}
            Kind::Worker(at) => self.worker_dialled(at, conn),
            Kind::Driver(at) => self.driver_dialled(at, conn),
            Kind::Executor(at) => self.executor_dialled(at, conn),
        }
    }

    /// A process is told something.
    pub fn heard(&mut self, pid: Pid, conn: Conn, msg: Msg) {
        if !self.is_alive(pid) {
            return;
        }
        match self.processes[pid].kind {
            Kind::Master => self.master_hears(conn, msg),
            Kind::Worker(at) => self.worker_hears(at, conn, msg),
            Kind::Driver(at) => self.driver_hears(at, conn, msg),
            Kind::Executor(at) => self.executor_hears(at, conn, msg),
        }
    }

    /// A process learns that a connection is gone.
    pub fn closed(&mut self, pid: Pid, conn: Conn) {
        if !self.is_alive(pid) {
            return;
        }
        match self.processes[pid].kind {
            Kind::Master => self.master_closed(conn),
            Kind::Worker(at) => self.worker_closed(at, conn),
            Kind::Driver(at) => self.driver_closed(at, conn),
            Kind::Executor(at) => self.executor_closed(at, conn),
        }
    }

    /// A wait before another try, as `rpc::Backoff` has them.
    pub fn backoff(&mut self, next: &mut u64, most: u64) -> u64 {
        use rand::Rng;
        let wait = *next;
        *next = (wait * 2).min(most);
        (wait as f64 * self.rng.random_range(0.75..1.25)) as u64
    }
}
