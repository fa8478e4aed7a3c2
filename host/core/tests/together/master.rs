//! The master's process: `host/cluster/src/master/{shell,service}.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use ingle_core::ids::WorkerId;
use ingle_core::master::{
    Action, AppId, AppNews, ConnectionId, Event, Key, Master, Policy, Record, RequestId,
    WorkerOrder,
};

use crate::net::{Conn, Kind, Msg, Pid, Report, SERVER};
use crate::world::{Next, World};

/// No two ticks follow each other sooner.
const SHORTEST: Duration = Duration::from_millis(5);

#[derive(Clone, Copy)]
enum Who {
    /// It waits for its welcome.
    Nobody,
    Worker(WorkerId),
    App(AppId),
}

pub struct MasterProcess {
    pub pid: Option<Pid>,
    pub core: Master,
    stored: BTreeMap<Key, Record>,
    /// Who is on the other end, and the core's name for the connection.
    peers: BTreeMap<Conn, (ConnectionId, Who)>,
    /// Those that are told something.
    told: BTreeMap<ConnectionId, Conn>,
    last_connection: u64,
    last_request: u64,
    /// When it ticks, and when it looks whether it is time.
    tick_at: u64,
    look_at: Option<u64>,
}

impl MasterProcess {
    pub fn new() -> Self {
        Self {
            pid: None,
            core: Master::new(Policy::default()),
            stored: BTreeMap::new(),
            peers: BTreeMap::new(),
            told: BTreeMap::new(),
            last_connection: 0,
            last_request: 0,
            tick_at: 0,
            look_at: None,
        }
    }
}

impl World {
    pub fn master_starts(&mut self) {
        if self.master.pid.is_some() {
            return;
        }
        self.note(|| "the master starts".into());
        let pid = self.start_process(Kind::Master, 0);
        let mut records: Vec<_> = self.master.stored.values().cloned().collect();
        // In the order of their names in the store: those of applications come first.
        let rank = |record: &Record| match record.key() {
            Key::App(_) => 0,
            Key::Driver(_) => 1,
            Key::Numbers => 2,
            Key::Worker(_) => 3,
        };
        records.sort_by_key(rank);
        let master = &mut self.master;
        master.core = Master::recover(Policy::default(), Duration::ZERO, records);
        (master.pid, master.last_connection, master.look_at) = (Some(pid), 0, None);
        (master.peers, master.told) = (BTreeMap::new(), BTreeMap::new());
        self.master.core.check();
        self.plan_master_tick();
    }

    pub fn master_dies(&mut self) {
        if let Some(pid) = self.master.pid.take() {
            self.note(|| "the master dies".into());
            self.counts.masters_died += 1;
            self.end_process(pid, false);
        }
    }

    /// The shell sleeps until what was the deadline after the last event other than a heartbeat.
    fn plan_master_tick(&mut self) {
        let Some(pid) = self.master.pid else { return };
        let deadline = self.master.core.next_deadline();
        let wait = deadline.map(|at| at.max(self.elapsed(pid) + SHORTEST));
        self.master.tick_at = wait.map_or(u64::MAX, |at| self.when(pid, at));
        self.plan_master_look(pid);
    }

    fn plan_master_look(&mut self, pid: Pid) {
        let at = self.master.tick_at;
        if at < u64::MAX && self.master.look_at.is_none_or(|planned| at < planned) {
            self.master.look_at = Some(at);
            self.at(at, Next::MasterTicks(pid));
        }
    }

    pub fn master_ticks(&mut self, pid: Pid) {
        if self.master.pid != Some(pid) || self.master.look_at != Some(self.now) {
            return;
        }
        self.master.look_at = None;
        if self.master.tick_at <= self.now {
            self.tell_master(Event::Tick);
        }
        self.plan_master_look(pid);
    }

    /// Feeds the core an event and carries out its actions.
    pub fn tell_master(&mut self, event: Event) {
        let Some(pid) = self.master.pid else { return };
        let now = self.elapsed(pid);
        let is_heartbeat = matches!(event, Event::Heartbeat { .. });
        if !is_heartbeat {
            self.note(|| format!("master: {event:?}"));
        }
        let mut actions = Vec::new();
        self.master.core.handle(now, event, &mut actions);
        self.counts.to_master += 1;
        if self.plan.audited || self.counts.to_master.is_multiple_of(1000) {
            self.master.core.check();
        }
        self.digest(&actions);
        let mut acted = false;
        let mut unwelcome = Vec::new();
        for action in actions {
            self.note(|| format!("master:   {action:?}"));
            if let Action::Persist(record) = action {
                assert!(!acted, "{record:?} is stored too late");
                self.master.stored.insert(record.key(), record);
            } else if let Action::Forget(key) = action {
                assert!(!acted, "{key:?} is forgotten too late");
                self.master.stored.remove(&key);
            } else {
                acted = true;
                unwelcome.extend(self.master_acts(action));
            }
        }
        for connection in unwelcome {
            self.tell_master(Event::ConnectionLost { connection });
        }
        if !is_heartbeat {
            self.plan_master_tick();
        }
    }

    /// Gives the connection of a peer that is refused before it was welcome.
    fn master_acts(&mut self, action: Action) -> Option<ConnectionId> {
        let (connection, msg, is_last) = match action {
            Action::Worker(connection, order) => {
                if let WorkerOrder::Welcome(id) = order {
                    self.welcome(connection, Who::Worker(id));
                }
                (connection, Msg::Order(order), false)
            }
            Action::App(connection, news) => {
                if let AppNews::Welcome(id) = news {
                    self.welcome(connection, Who::App(id));
                }
                let is_last = matches!(news, AppNews::Over(_));
                (connection, Msg::News(news), is_last)
            }
            Action::Refuse(connection, why) => (connection, Msg::Refused(why), true),
            Action::Reply(request, reply) => {
                assert!(request.0 <= self.master.last_request);
                assert!(!matches!(reply, Err(text) if text.is_empty()));
                return None;
            }
            _ => return None,
        };
        let conn = *self.master.told.get(&connection)?;
        self.say(conn, SERVER, msg);
        if is_last {
            self.master.told.remove(&connection);
            if matches!(self.master.peers.get(&conn), Some((_, Who::Nobody))) {
                self.master.peers.remove(&conn);
                self.close(conn, SERVER);
                return Some(connection);
            }
        }
        None
    }

    fn welcome(&mut self, connection: ConnectionId, who: Who) {
        if let Some(conn) = self.master.told.get(&connection) {
            self.master.peers.insert(*conn, (connection, who));
        }
    }

    pub fn master_hears(&mut self, conn: Conn, msg: Msg) {
        let event = match msg {
            Msg::WorkerHello(hello) => {
                let connection = self.master_connects(conn);
                self.tell_master(Event::WorkerHello { connection, hello: *hello });
                return;
            }
            Msg::AppHello(id, spec) => {
                let (connection, wall) = (self.master_connects(conn), self.wall(0));
                self.tell_master(Event::AppHello { connection, id, spec: *spec, wall });
                return;
            }
            Msg::Report(report) => report,
            _ => unreachable!("that is not for a master: {msg:?}"),
        };
        let Some((connection, who)) = self.master.peers.get(&conn).copied() else { return };
        let event = match (who, event) {
            (Who::Worker(worker), Report::Heartbeat) => Event::Heartbeat { worker },
            (Who::Worker(worker), Report::Draining) => Event::WorkerDraining { worker },
            (Who::Worker(worker), Report::ExecutorEnded(executor, reason)) => {
                Event::ExecutorEnded { worker, executor, reason }
            }
            (Who::Worker(worker), Report::DriverEnded(driver, finished, reason)) => {
                Event::DriverEnded { worker, driver, finished, reason }
            }
            (Who::App(app), Report::Registered(id)) => {
                Event::ExecutorRegistered { executor: (app, id) }
            }
            (Who::App(app), Report::Wants(executors)) => Event::AppWants { app, executors },
            (Who::App(app), Report::Releases(id)) => Event::AppReleases { executor: (app, id) },
            (Who::App(app), Report::Excludes(workers)) => Event::AppExcludes { app, workers },
            (Who::App(app), Report::Ended(failure)) => Event::AppEnded { app, failure },
            (_, report) => unreachable!("nobody says {report:?}"),
        };
        if self.master.core.holds(connection) {
            self.tell_master(event);
        } else {
            self.close(conn, SERVER);
            self.master_closed(conn);
        }
    }

    fn master_connects(&mut self, conn: Conn) -> ConnectionId {
        self.master.last_connection += 1;
        let connection = ConnectionId(self.master.last_connection);
        self.master.peers.insert(conn, (connection, Who::Nobody));
        self.master.told.insert(connection, conn);
        connection
    }

    pub fn master_closed(&mut self, conn: Conn) {
        if let Some((connection, _)) = self.master.peers.remove(&conn) {
            self.master.told.remove(&connection);
            self.tell_master(Event::ConnectionLost { connection });
        }
    }

    /// Somebody on the master's host asks for something.
    pub fn ask_master(&mut self, event: impl FnOnce(RequestId) -> Event) {
        if self.master.pid.is_some() {
            self.master.last_request += 1;
            let request = RequestId(self.master.last_request);
            self.tell_master(event(request));
        }
    }
}
