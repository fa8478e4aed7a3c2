//! What becomes of workers.

use std::collections::{BTreeMap, BTreeSet};

use super::apps::Cause;
use super::drivers::End;
use super::event::{
    Action, AppNews, ConnectionId, Key, Record, Reply, RequestId, Room, WorkerHello, WorkerOrder,
};
use super::{Lost, Master, Peer, Process, Worker, has_control};
use crate::ids::WorkerId;
use crate::size::ByteSize;

/// Lost workers that are remembered.
const MOST_LOST: usize = 1000;

/// How the reason of an executor's end begins whose worker is lost.
pub const WORKER_LOST: &str = "its worker is lost";

impl Master {
    pub(super) fn worker_hello(
        &mut self,
        connection: ConnectionId,
        hello: WorkerHello,
        actions: &mut Vec<Action>,
    ) {
        let known = self.workers.iter().find(|(_, worker)| worker.address == hello.address);
        let known = known.map(|(id, worker)| (*id, worker.instance, worker.connection));
        if let Some(why) = self.refuse_worker(&hello, known.is_some()) {
            actions.push(Action::Refuse(connection, why));
            return;
        }
        let id = match known {
            Some((id, instance, old)) if instance == hello.instance => {
                if let Some(old) = old {
                    // It lost a connection that we hold for sound.
                    self.connections.remove(&old);
                }
                id
            }
            Some((id, _, Some(_))) => {
                let why = format!(
                    "another worker, {id}, is registered at {}: give this one another --port, or stop that one",
                    hello.address
                );
                actions.push(Action::Refuse(connection, why));
                return;
            }
            Some((id, _, None)) => {
                self.worker_lost(id, "another process took its place", actions);
                self.new_worker(&hello, actions)
            }
            None => self.new_worker(&hello, actions),
        };
        self.connections.insert(connection, Peer::Worker(id));
        let now = self.now;
        if let Some(worker) = self.workers.get_mut(&id) {
            (worker.connection, worker.seen) = (Some(connection), now);
            worker.page = if is_place(&hello.page) { hello.page.clone() } else { String::new() };
            worker.log_secret.clone_from(&hello.log_secret);
            (worker.cores, worker.memory) =
                (hello.cores.max(worker.cores_used), hello.memory.max(worker.memory_used));
        }
        actions.push(Action::Worker(connection, WorkerOrder::Welcome(id)));
        self.reconcile(id, connection, hello, actions);
    }

    fn refuse_worker(&self, hello: &WorkerHello, is_known: bool) -> Option<String> {
        let policy = &self.policy;
        if hello.cores == 0 || hello.memory == 0 {
            return Some("a worker must offer at least 1 core and some memory".into());
        }
        if hello.cores > policy.max_cores || hello.memory > policy.max_memory {
            return Some(format!(
                "{} cores and {} are more than a worker can have",
                hello.cores,
                ByteSize(hello.memory)
            ));
        }
        let address = &hello.address;
        if address.is_empty() || address.len() > policy.max_name || has_control(address) {
            return Some("a worker's address must be HOST:PORT".into());
        }
        if !is_known && self.workers.len() >= policy.max_workers {
            return Some(format!("there are {} workers, and no more can be", policy.max_workers));
        }
        None
    }

    fn new_worker(&mut self, hello: &WorkerHello, actions: &mut Vec<Action>) -> WorkerId {
        self.last_worker += 1;
        self.persist_numbers(actions);
        let id = WorkerId(self.last_worker);
        let worker = Worker {
            address: hello.address.clone(),
            page: String::new(),
            log_secret: Vec::new(),
            cores: hello.cores,
            memory: hello.memory,
            instance: hello.instance,
            connection: None,
            seen: self.now,
            draining: false,
            executors: BTreeSet::new(),
            drivers: BTreeSet::new(),
            holds: BTreeSet::new(),
            ending: BTreeMap::new(),
            cores_used: 0,
            memory_used: 0,
        };
        self.workers.insert(id, worker);
        self.persist_worker(id, actions);
        actions.push(Action::Log(format!(
            "{id} at {} offers {} cores and {}",
            hello.address,
            hello.cores,
            ByteSize(hello.memory)
        )));
        id
    }

    pub(super) fn persist_worker(&self, id: WorkerId, actions: &mut Vec<Action>) {
        if let Some(worker) = self.workers.get(&id) {
            actions.push(Action::Persist(Record::Worker {
                id,
                address: worker.address.clone(),
                cores: worker.cores,
                memory: worker.memory,
                instance: worker.instance,
                draining: worker.draining,
            }));
        }
    }

    /// Compares what a worker runs with what it should.
    fn reconcile(
        &mut self,
        id: WorkerId,
        connection: ConnectionId,
        hello: WorkerHello,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get(&id) else { return };
        let process = (worker.address.clone(), worker.instance);
        let (should, drivers) = (worker.executors.clone(), worker.drivers.clone());
        let runs: BTreeMap<_, _> = hello.executors.into_iter().collect();
        let runs_drivers: BTreeMap<_, _> = hello.drivers.into_iter().collect();
        let order = |order| Action::Worker(connection, order);
        // What was told to end, and what nobody knows: it takes room as long as it is there.
        let strangers = runs.iter().filter(|(name, _)| !should.contains(name));
        let strangers = strangers.map(|(name, room)| (Process::Executor(*name), *room));
        let old_tries = runs_drivers.iter().filter(|(driver, _)| !drivers.contains(driver));
        let old_tries = old_tries.map(|(driver, room)| (Process::Driver(*driver), *room));
        let unwanted: Vec<_> = strangers.chain(old_tries).collect();
        if let Some(worker) = self.workers.get_mut(&id) {
            for room in std::mem::take(&mut worker.ending).into_values() {
                worker.give_back(room);
            }
            for (process, room) in &unwanted {
                // No more than it has: it may say anything.
                let free = Room { cores: worker.free_cores(), memory: worker.free_memory() };
                let room = Room {
                    cores: room.cores.min(free.cores),
                    memory: room.memory.min(free.memory),
                };
                worker.take(room);
                worker.is_ending(*process, room);
            }
        }
        actions.extend(unwanted.into_iter().map(|(process, _)| {
            order(match process {
                Process::Executor(name) => WorkerOrder::KillExecutor(name),
                Process::Driver(driver) => WorkerOrder::KillDriver(driver),
            })
        }));
        // It may have been another worker to us: then those who had executors there know it as both.
        let before = self.lost.iter().filter(|lost| lost.process.as_ref() == Some(&process));
        let before: BTreeSet<_> = before.map(|lost| lost.id).collect();
        let mut holds = BTreeSet::new();
        for app in hello.applications {
            match self.apps.get_mut(&app) {
                // Whatever it says, nobody who wasn't there hears of it.
                Some(known) => {
                    if known.workers.iter().any(|id| before.contains(id)) {
                        known.workers.insert(id);
                    }
                    holds.insert(app);
                }
                None => actions.push(order(WorkerOrder::ForgetApp(app))),
            }
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.holds = holds;
        }
        let reason = "it ended while its worker was out of reach";
        for name in should.into_iter().filter(|name| !runs.contains_key(name)) {
            self.executor_ended(id, name, reason, Cause::WorkerLost, actions);
        }
        for driver in drivers.into_iter().filter(|driver| !runs_drivers.contains_key(driver)) {
            self.driver_ended(id, driver, End::Failed, reason, actions);
        }
    }

    /// A worker gets no new work; whoever has something there is told.
    pub(super) fn drain_worker(&mut self, id: WorkerId, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if std::mem::replace(&mut worker.draining, true) {
            return;
        }
        self.persist_worker(id, actions);
        self.tell_apps_with(id, &AppNews::WorkerDraining(id), actions);
    }

    /// Tells the applications that have, or had, executors on a worker.
    fn tell_apps_with(&self, id: WorkerId, news: &AppNews, actions: &mut Vec<Action>) {
        for app in self.apps.values().filter(|app| app.workers.contains(&id)) {
            if let Some(connection) = app.connection {
                actions.push(Action::App(connection, news.clone()));
            }
        }
    }

    pub(super) fn decommission(
        &mut self,
        request: RequestId,
        id: WorkerId,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get(&id) else {
            let why = format!("there is no {id}; see `ingle workers`");
            actions.push(Action::Reply(request, Err(why)));
            return;
        };
        let text = format!(
            "{id} ({}) gets no more work; {} executors on it go when their tasks have ended, {} drivers when they have",
            worker.address,
            worker.executors.len(),
            worker.drivers.len()
        );
        self.drain_worker(id, actions);
        actions.push(Action::Reply(request, Ok(Reply::Done(text))));
    }

    /// A worker is gone, with all that it ran and stored.
    pub(super) fn worker_lost(&mut self, id: WorkerId, reason: &str, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get(&id) else { return };
        let (address, drivers) = (worker.address.clone(), worker.drivers.clone());
        let executors = worker.executors.clone();
        if let Some(connection) = worker.connection {
            actions.push(Action::Refuse(connection, format!("{id} was given up: {reason}")));
            self.connections.remove(&connection);
        }
        let news = AppNews::WorkerLost { worker: id, reason: reason.to_owned() };
        self.tell_apps_with(id, &news, actions);
        for name in executors {
            let reason = format!("{WORKER_LOST}: {reason}");
            self.executor_ended(id, name, &reason, Cause::WorkerLost, actions);
        }
        for driver in drivers {
            let reason = format!("its worker {id} ({address}) is lost: {reason}");
            self.driver_ended(id, driver, End::Failed, &reason, actions);
        }
        if let Some(worker) = self.workers.remove(&id)
            && self.apps.values().any(|app| app.workers.contains(&id))
        {
            self.note_lost(Lost { id, process: Some((worker.address, worker.instance)) });
        }
        actions.push(Action::Forget(Key::Worker(id)));
        actions.push(Action::Log(format!("{id} at {address} is lost: {reason}")));
    }
}

impl Master {
    /// A worker is lost that applications had executors on. They may be away and must hear of it, and it may come back: of the last ones that is known.
    pub(super) fn note_lost(&mut self, lost: Lost) {
        self.lost.push_back(lost);
        if self.lost.len() > MOST_LOST
            && let Some(Lost { id, .. }) = self.lost.pop_front()
        {
            for app in self.apps.values_mut() {
                app.workers.remove(&id);
            }
        }
    }
}

/// The longest name of a host, a port, and the brackets of an IPv6 address.
const MAX_PLACE: usize = 255 + 8;

/// Whether a text has the letters of a host:port and no others: people follow it.
fn is_place(text: &str) -> bool {
    let is_fit = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]%".contains(&b);
    text.len() <= MAX_PLACE && text.bytes().all(is_fit)
}
