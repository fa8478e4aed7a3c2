//! Hosts with their clocks, processes, and the connections between them.
//!
//! A connection is FIFO. When the way between its hosts is cut, what is under way waits until the cut heals, unless an end gave the
//! connection up before: each does by itself, as keepalive does. One that breaks loses what is under way to one end, to both or to none, and
//! its ends learn of it at different times.

use std::collections::VecDeque;
use std::rc::Rc;

use ingle_core::ids::{ExecutorId, StageId, TaskId, WorkerId};
use ingle_core::master::{
    AppId, AppNews, AppSpec, DriverTry, ExecutorName, WorkerHello, WorkerOrder,
};
use ingle_core::scheduler::{TaskEnd, TaskLaunch};
use rand::Rng;

use crate::driver::Table;
use crate::world::{Next, SECOND, World};

pub type HostId = usize;
pub type Pid = usize;

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conn(pub usize);

/// The ends of a connection.
pub const CLIENT: usize = 0;
pub const SERVER: usize = 1;

/// How long connecting may take, and how long an end waits for a sign of the other one, at least and at most.
const CONNECT: u64 = 5 * SECOND;
const KEEPALIVE: std::ops::Range<u64> = 10 * SECOND..15 * SECOND;

pub struct Host {
    /// How fast its clock is.
    pub rate: f64,
    /// What it shows at the beginning, in seconds since 1970.
    pub wall: u64,
}

/// What a process is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Master,
    Worker(usize),
    Driver(usize),
    Executor(usize),
}

pub struct Process {
    pub kind: Kind,
    pub host: HostId,
    pub alive: bool,
    pub started: u64,
    conns: Vec<Conn>,
}

struct End {
    pid: Pid,
    open: bool,
    /// When what was said last to it comes.
    last: u64,
    /// Nothing more comes here.
    lost: bool,
    /// What waits for a cut to heal.
    stalled: VecDeque<Msg>,
}

pub struct Link([End; 2]);

/// Where a process connects to.
#[derive(Clone, Debug)]
pub enum Target {
    Master,
    /// A driver's address.
    Driver(String),
}

/// What a worker or a driver tells the master.
#[derive(Clone, Debug)]
pub enum Report {
    Heartbeat,
    Draining,
    ExecutorEnded(ExecutorName, String),
    DriverEnded(DriverTry, bool, String),
    Registered(ExecutorId),
    Wants(u32),
    Releases(ExecutorId),
    Excludes(Vec<WorkerId>),
    Ended(Option<String>),
}

/// What is said on a connection.
#[derive(Clone, Debug)]
pub enum Msg {
    /// The other end is closed.
    Fin,
    WorkerHello(Box<WorkerHello>),
    AppHello(Option<AppId>, Box<AppSpec>),
    Report(Report),
    Order(WorkerOrder),
    News(AppNews),
    Refused(String),
    /// From an executor: its name, which says nothing of its application, and its slots.
    Register(ExecutorId, u32),
    Ready,
    Broken,
    Ended(Vec<TaskEnd>),
    Welcome,
    Outputs(StageId, Rc<Table>),
    Launch(Vec<TaskLaunch>),
    Kill(TaskId),
    Forget(StageId),
    /// Nobody need wait for that worker.
    WorkerLost(WorkerId),
}

impl World {
    pub fn start_process(&mut self, kind: Kind, host: HostId) -> Pid {
        let started = self.now;
        self.processes.push(Process { kind, host, alive: true, started, conns: Vec::new() });
        self.processes.len() - 1
    }

    /// A process is gone. Its host says so to whoever was connected, unless it is gone as well.
    pub fn end_process(&mut self, pid: Pid, silently: bool) {
        self.processes[pid].alive = false;
        for conn in std::mem::take(&mut self.processes[pid].conns) {
            for side in [CLIENT, SERVER] {
                let link = &mut self.links[conn.0];
                if link.0[side].pid != pid || !link.0[side].open {
                    continue;
                }
                if silently {
                    link.0[side].open = false;
                    let at = self.now + self.rng.random_range(KEEPALIVE);
                    self.at(at, Next::Notice(conn, 1 - side));
                    continue;
                }
                // A reset may overtake what was said.
                let lost = self.rng.random_bool(0.3);
                self.close(conn, side);
                if lost {
                    self.lose(conn, 1 - side);
                }
            }
        }
    }

    /// Nothing more comes to this end, which learns of it later.
    fn lose(&mut self, conn: Conn, side: usize) {
        self.links[conn.0].0[side].lost = true;
        let at = self.now + self.latency();
        self.at(at, Next::Notice(conn, side));
    }

    /// How long something is under way.
    pub fn latency(&mut self) -> u64 {
        let most = if self.now < self.storm { self.weather.latency } else { 10_000 };
        self.rng.random_range(100..most.max(101))
    }

    pub fn is_cut(&self, from: HostId, to: HostId) -> bool {
        !self.cuts.is_empty() && self.cuts.contains_key(&(from, to))
    }

    /// Whether they can talk.
    pub fn reaches(&self, a: HostId, b: HostId) -> bool {
        !self.is_cut(a, b) && !self.is_cut(b, a)
    }

    /// Who listens there.
    fn listener(&self, target: &Target) -> Option<Pid> {
        match target {
            Target::Master => self.master.pid,
            Target::Driver(address) => self.listening.get(address).copied(),
        }
    }

    fn host_of(&self, target: &Target) -> HostId {
        match target {
            Target::Master => 0,
            Target::Driver(address) => {
                let host = address.split(':').next().and_then(|host| host[1..].parse().ok());
                host.unwrap_or(0)
            }
        }
    }

    /// A process connects: it hears of it by [`World::dialled`].
    pub fn dial(&mut self, pid: Pid, target: Target) {
        let at = self.now + self.latency();
        self.at(at, Next::Dial(pid, target));
    }

    pub fn dial_arrives(&mut self, pid: Pid, target: &Target) {
        if !self.processes[pid].alive {
            return;
        }
        if !self.reaches(self.processes[pid].host, self.host_of(target)) {
            self.at(self.now + CONNECT, Next::NoDial(pid));
            return;
        }
        let Some(server) = self.listener(target).filter(|pid| self.processes[*pid].alive) else {
            let at = self.now + self.latency();
            self.at(at, Next::NoDial(pid));
            return;
        };
        let end = |pid| End { pid, open: true, last: 0, lost: false, stalled: VecDeque::new() };
        self.links.push(Link([end(pid), end(server)]));
        let conn = Conn(self.links.len() - 1);
        for end in [pid, server] {
            self.processes[end].conns.push(conn);
        }
        self.dialled(pid, Some(conn));
    }

    /// Whether all that was said to an end some time ago has come there.
    pub fn hears_in_time(&self, conn: Conn, side: usize) -> bool {
        let ends = &self.links[conn.0].0;
        let [here, there] = [side, 1 - side].map(|side| self.processes[ends[side].pid].host);
        let end = &ends[side];
        end.open && !end.lost && end.stalled.is_empty() && !self.is_cut(there, here)
    }

    /// The process at an end.
    pub fn at_end(&self, conn: Conn, side: usize) -> Pid {
        self.links[conn.0].0[side].pid
    }

    pub fn say(&mut self, conn: Conn, from: usize, msg: Msg) {
        let latency = self.latency();
        let ends = &mut self.links[conn.0].0;
        if !ends[from].open {
            return;
        }
        let to = &mut ends[1 - from];
        to.last = to.last.max(self.now + latency);
        let at = to.last;
        self.at(at, Next::Deliver(conn, 1 - from, msg));
    }

    /// An end is closed by its own process.
    pub fn close(&mut self, conn: Conn, side: usize) {
        self.say(conn, side, Msg::Fin);
        let end = &mut self.links[conn.0].0[side];
        end.open = false;
        end.stalled.clear();
        let pid = end.pid;
        // Those of processes with many connections are looked at when they end.
        if self.processes[pid].conns.len() < 64 {
            self.processes[pid].conns.retain(|c| *c != conn);
        }
    }

    pub fn arrives(&mut self, conn: Conn, to: usize, msg: Msg) {
        let from_host = self.processes[self.links[conn.0].0[1 - to].pid].host;
        let to_host = self.processes[self.links[conn.0].0[to].pid].host;
        let cut = self.is_cut(from_host, to_host);
        let end = &mut self.links[conn.0].0[to];
        if !end.open || end.lost {
            return;
        }
        if cut || !end.stalled.is_empty() {
            end.stalled.push_back(msg);
            return;
        }
        self.hears(conn, to, msg);
    }

    fn hears(&mut self, conn: Conn, to: usize, msg: Msg) {
        if let Msg::Fin = msg {
            self.notice(conn, to);
        } else {
            let pid = self.at_end(conn, to);
            self.heard(pid, conn, msg);
        }
    }

    /// An end learns that its connection is gone.
    pub fn notice(&mut self, conn: Conn, side: usize) {
        if self.links[conn.0].0[side].open {
            self.close(conn, side);
            let pid = self.at_end(conn, side);
            self.closed(pid, conn);
        }
    }

    /// Nothing goes from one host to another from now on.
    pub fn cut(&mut self, from: HostId, to: HostId) {
        self.entries += 1;
        let name = self.entries;
        self.cuts.insert((from, to), name);
        let open: Vec<_> = (0..self.links.len())
            .filter(|at| {
                let ends = &self.links[*at].0;
                let hosts = [0, 1].map(|side: usize| self.processes[ends[side].pid].host);
                (ends[0].open || ends[1].open) && (hosts == [from, to] || hosts == [to, from])
            })
            .collect();
        for at in open {
            for side in [CLIENT, SERVER] {
                let time = self.now + self.rng.random_range(KEEPALIVE);
                self.at(time, Next::Keepalive(Conn(at), side, (from, to), name));
            }
        }
    }

    pub fn heal(&mut self, from: HostId, to: HostId) {
        self.cuts.remove(&(from, to));
        for at in 0..self.links.len() {
            for side in [CLIENT, SERVER] {
                let ends = &self.links[at].0;
                if !ends[side].stalled.is_empty()
                    && self.processes[ends[side].pid].host == to
                    && self.processes[ends[1 - side].pid].host == from
                {
                    let time = self.now + self.latency();
                    self.at(time, Next::Flush(Conn(at), side));
                }
            }
        }
    }

    /// What waited for a cut to heal comes.
    pub fn flush(&mut self, conn: Conn, to: usize) {
        let from = self.processes[self.links[conn.0].0[1 - to].pid].host;
        let here = self.processes[self.links[conn.0].0[to].pid].host;
        while !self.is_cut(from, here)
            && self.links[conn.0].0[to].open
            && let Some(msg) = self.links[conn.0].0[to].stalled.pop_front()
        {
            self.hears(conn, to, msg);
        }
    }

    /// An end gives up a connection that says nothing, if the way is cut since.
    pub fn keepalive(&mut self, conn: Conn, side: usize, way: (HostId, HostId), name: u64) {
        if self.cuts.get(&way) == Some(&name) {
            self.notice(conn, side);
        }
    }

    /// Some connection breaks.
    pub fn break_any(&mut self) {
        for _ in 0..20 {
            let at = self.rng.random_range(0..self.links.len().max(1));
            if self.links.get(at).is_none_or(|link| !link.0[0].open || !link.0[1].open) {
                continue;
            }
            for side in [CLIENT, SERVER] {
                self.links[at].0[side].lost = self.rng.random_bool(0.5);
                let late = if self.rng.random_bool(0.5) { SECOND } else { 15 * SECOND };
                let time = self.now + self.rng.random_range(0..late);
                self.at(time, Next::Notice(Conn(at), side));
            }
            return;
        }
    }
}
