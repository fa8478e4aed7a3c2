//! What becomes of applications and their executors.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::{
    Action, AppNews, AppSpec, ConnectionId, ExecutorName, Key, Record, WorkerOrder,
};
use super::explain::{AppState, Earlier, Lacks};
use super::ids::AppId;
use super::refused::{Refused, Why};
use super::{App, Executor, Master, Peer, Process, clean, has_control};
use crate::ids::WorkerId;

/// What an executor's end is laid to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Itself,
    WorkerLost,
    /// Its worker doesn't give its job what it is granted. One that worked was refused nothing.
    Refused,
    /// Its worker ended it for what it did, however well it worked.
    Expelled,
}

impl App {
    pub(super) fn new(spec: AppSpec, connection: Option<ConnectionId>, now: Duration) -> Self {
        Self {
            spec,
            connection,
            lost: now,
            executors: BTreeMap::new(),
            next_executor: 0,
            wants: None,
            excluded: BTreeSet::new(),
            refused: Refused::default(),
            failures: 0,
            last_failure: String::new(),
            ends: 0,
            counted: Duration::ZERO,
            releases: 0,
            released: Duration::ZERO,
            not_before: Duration::ZERO,
            told: String::new(),
            workers: BTreeSet::new(),
        }
    }
}

impl Master {
    pub(super) fn app_hello(
        &mut self,
        connection: ConnectionId,
        id: Option<AppId>,
        mut spec: AppSpec,
        wall: u64,
        actions: &mut Vec<Action>,
    ) {
        if let Some(why) = self.refuse_words(&spec) {
            actions.push(Action::Refuse(connection, why));
            return;
        }
        // One without a name that is known by its secret never heard its welcome: as two applications, executors of the one would come to
        // the driver as those of the other.
        let known = || self.apps.iter().find(|(_, app)| is_same(&app.spec.secret, &spec.secret));
        if let Some(id) = id.or_else(|| known().map(|(id, _)| *id)) {
            let back = self.app_back(connection, id, &spec, actions);
            if let Err(why) = back {
                actions.push(Action::Refuse(connection, why));
            }
            return;
        }
        if let Some(why) = self.refuse_app(&spec) {
            actions.push(Action::Refuse(connection, why));
            return;
        }
        let id = AppId::new(wall, self.new_name(actions));
        spec.driver_proof.clear();
        if let Some(driver) = spec.driver.and_then(|d| self.drivers.get_mut(&d)) {
            driver.app = Some(id);
            driver.attached = Some(driver.restarts);
        }
        actions.push(Action::Log(format!("{id} ({}) begins", spec.name)));
        self.apps.insert(id, App::new(spec, Some(connection), self.now));
        self.connections.insert(connection, Peer::App(id));
        self.persist_app(id, actions);
        actions.push(Action::App(connection, AppNews::Welcome(id)));
    }

    /// One whose connection broke, or whose master was away.
    fn app_back(
        &mut self,
        connection: ConnectionId,
        id: AppId,
        spec: &AppSpec,
        actions: &mut Vec<Action>,
    ) -> Result<(), String> {
        let Some(app) = self.apps.get_mut(&id) else {
            return Err(match self.app(id) {
                Some(status) => format!("{id} is over: it is {}, {}", status.state, status.text),
                None => format!("there is no {id}: its master forgot it, or never knew it"),
            });
        };
        if !is_same(&app.spec.secret, &spec.secret) {
            return Err(format!("{id} is another application"));
        }
        if let Some(old) = app.connection.replace(connection) {
            self.connections.remove(&old);
        }
        // It may have moved.
        app.spec.driver_address.clone_from(&spec.driver_address);
        self.connections.insert(connection, Peer::App(id));
        actions.push(Action::App(connection, AppNews::Welcome(id)));
        for (executor, e) in &app.executors {
            if let Some(worker) = self.workers.get(&e.worker) {
                actions.push(Action::App(
                    connection,
                    AppNews::Granted {
                        executor: *executor,
                        worker: e.worker,
                        worker_address: worker.address.clone(),
                        cores: e.cores,
                    },
                ));
            }
        }
        actions
            .push(Action::App(connection, AppNews::Has(app.executors.keys().copied().collect())));
        // Nothing was said on this connection.
        app.told.clear();
        // It may have been away when that happened, and would look for what was stored there.
        let news = app.workers.iter().filter_map(|id| match self.workers.get(id) {
            None => {
                let reason = "it was lost before the driver came back".to_owned();
                Some(AppNews::WorkerLost { worker: *id, reason })
            }
            Some(worker) => worker.draining.then_some(AppNews::WorkerDraining(*id)),
        });
        actions.extend(news.map(|news| Action::App(connection, news)));
        Ok(())
    }

    /// What an application says of itself, also when it comes back, is stored and told to others.
    fn refuse_words(&self, spec: &AppSpec) -> Option<String> {
        let policy = &self.policy;
        let is_long = |text: &str| text.len() > policy.max_name;
        if is_long(&spec.name) || is_long(&spec.driver_address) || is_long_secret(&spec.secret) {
            return Some(format!("a name of more than {} bytes is too long", policy.max_name));
        }
        if has_control(&spec.name) || has_control(&spec.driver_address) {
            return Some("a name must not have control characters".into());
        }
        None
    }

    fn refuse_app(&self, spec: &AppSpec) -> Option<String> {
        let policy = &self.policy;
        if let Some(id) = spec.driver {
            let Some(driver) = self.drivers.get(&id).filter(|driver| driver.worker.is_some())
            else {
                return Some(format!("{id} runs on no worker"));
            };
            // Else a kill of the driver, or its end, would hit another's application; and that one's executors would be its user.
            if !is_same(&driver.spec.proof, &spec.driver_proof) {
                return Some(format!("whoever asks isn't {id}"));
            }
            match driver.app.filter(|app| self.apps.contains_key(app)) {
                Some(app) => return Some(format!("{id} has an application: {app}")),
                // A process has one in its life: else it could fill the history with its own.
                None if driver.attached == Some(driver.restarts) => {
                    return Some(format!("{id} had its application"));
                }
                None => {}
            }
        }
        if self.apps.len() >= policy.max_apps {
            return Some(format!("there are {} applications, and no more can be", policy.max_apps));
        }
        let cores = spec.executor_cores.unwrap_or(1);
        if cores == 0 || spec.executor_memory == 0 {
            return Some("an executor must have at least 1 core and some memory".into());
        }
        if spec.total_executor_cores.is_some_and(|total| total < cores) {
            return Some(format!(
                "--total-executor-cores {} is less than --executor-cores {cores}: there could be no executor",
                spec.total_executor_cores.unwrap_or(0)
            ));
        }
        let hint = "; give less with --executor-cores and --executor-memory";
        self.never_fits("an executor", cores, spec.executor_memory).map(|why| why + hint)
    }

    pub(super) fn persist_app(&self, id: AppId, actions: &mut Vec<Action>) {
        if let Some(app) = self.apps.get(&id) {
            let executors = app.executors.iter().map(|(id, e)| (*id, e.worker, e.cores));
            actions.push(Action::Persist(Record::App {
                id,
                spec: app.spec.clone(),
                next_executor: app.next_executor,
                executors: executors.collect(),
                workers: app.workers.iter().copied().collect(),
            }));
        }
    }

    /// Tells an application something, if it is connected.
    pub(super) fn tell_app(&self, id: AppId, news: AppNews, actions: &mut Vec<Action>) {
        if let Some(connection) = self.apps.get(&id).and_then(|app| app.connection) {
            actions.push(Action::App(connection, news));
        }
    }

    /// Tells a worker something, if it is connected.
    pub(super) fn tell_worker(&self, id: WorkerId, order: WorkerOrder, actions: &mut Vec<Action>) {
        if let Some(connection) = self.workers.get(&id).and_then(|worker| worker.connection) {
            actions.push(Action::Worker(connection, order));
        }
    }

    /// Tells each application what it waits for, when that changed.
    pub(super) fn tell_waits(&mut self, actions: &mut Vec<Action>) {
        let mut news = Vec::new();
        let (mut earlier, mut lacks) = (Earlier::default(), Lacks::new());
        for (id, app) in &self.apps {
            if app.connection.is_some() {
                let waits = self.waits(app, &earlier, &mut lacks);
                if waits != app.told {
                    news.push((*id, waits));
                }
            }
            earlier.note(*id, app);
        }
        for (id, waits) in news {
            self.tell_app(id, AppNews::Waits(waits.clone()), actions);
            if let Some(app) = self.apps.get_mut(&id) {
                app.told = waits;
            }
        }
    }

    /// False: nothing changed.
    pub(super) fn executor_registered(&mut self, (app, executor): ExecutorName) -> bool {
        let now = self.now;
        let Some(app) = self.apps.get_mut(&app) else { return false };
        match app.executors.get_mut(&executor) {
            // Once: who says it again and again undoes no wait.
            Some(executor) if !executor.registered => {
                (executor.registered, executor.since) = (true, now);
                app.failures = 0;
                true
            }
            _ => false,
        }
    }

    /// An executor isn't its application's any more: its process `ended`, or is told to.
    fn free_executor(&mut self, name: ExecutorName, ended: bool) -> Option<Executor> {
        let app = self.apps.get_mut(&name.0)?;
        let executor = app.executors.remove(&name.1)?;
        let room = app.room(&executor);
        if let Some(worker) = self.workers.get_mut(&executor.worker) {
            worker.executors.remove(&name);
            match ended {
                true => worker.give_back(room),
                false => worker.is_ending(Process::Executor(name), room),
            }
        }
        Some(executor)
    }

    pub(super) fn executor_ended(
        &mut self,
        at: WorkerId,
        name: ExecutorName,
        reason: &str,
        cause: Cause,
        actions: &mut Vec<Action>,
    ) {
        if let Some(worker) = self.workers.get_mut(&at) {
            worker.has_ended(Process::Executor(name));
        }
        let (id, executor) = name;
        let reason = &clean(reason);
        let found = self.apps.get(&id).and_then(|app| app.executors.get(&executor));
        if found.is_none_or(|e| e.worker != at) {
            return;
        }
        let Some(executor_of) = self.free_executor(name, true) else { return };
        let lost = AppNews::Lost { executor, reason: reason.to_owned() };
        self.tell_app(id, lost, actions);
        self.persist_app(id, actions);
        let (max, now) = (self.policy.max_executor_failures, self.now);
        let Some(app) = self.apps.get_mut(&id) else { return };
        match cause {
            // That its worker went is no sign of what the application is like.
            Cause::WorkerLost => return,
            Cause::Expelled => {
                self.app_refused(id, at, Why::Expelled, reason, actions);
                return;
            }
            _ if executor_of.registered => {
                let since = executor_of.since;
                self.ended_at_work(name, since, reason, actions);
                return;
            }
            Cause::Refused => {
                self.app_refused(id, at, Why::NotGranted, reason, actions);
                return;
            }
            Cause::Itself => {}
        }
        app.failures += 1;
        reason.clone_into(&mut app.last_failure);
        let failures = app.failures;
        if failures >= max {
            let text = format!(
                "{failures} executors in a row ended before they found their driver, the last, {executor} on {at}: {reason}"
            );
            self.end_app(id, AppState::Failed, &text, actions);
            return;
        }
        let not_before = now + self.backoff(failures);
        if let Some(app) = self.apps.get_mut(&id) {
            app.not_before = app.not_before.max(not_before);
        }
        self.look_at(not_before);
    }

    /// An executor ended that had worked since then. The first is replaced at once; if such ones end soon again and again, each waits longer
    /// than the one before, and in the end it is over.
    fn ended_at_work(
        &mut self,
        (id, executor): ExecutorName,
        since: Duration,
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        let (now, steady) = (self.now, self.policy.steady);
        let Some(app) = self.apps.get_mut(&id) else { return };
        if now.saturating_sub(since) >= steady {
            app.ends = 0;
        } else if app.ends > 0 && since < app.counted {
            // Of those that end together one counts.
            return;
        }
        app.ends += 1;
        app.counted = now;
        reason.clone_into(&mut app.last_failure);
        let (ends, works) = (app.ends, app.executors.values().any(|e| e.registered));
        if ends >= self.policy.max_ends && !works {
            let text = format!(
                "{ends} times in a row its executors ended soon after they had found their driver, the last, {executor}: {reason}"
            );
            self.end_app(id, AppState::Failed, &text, actions);
            return;
        }
        let waits = ends - 1;
        if waits > 0 {
            let not_before = now + self.backoff(waits);
            if let Some(app) = self.apps.get_mut(&id) {
                app.not_before = app.not_before.max(not_before);
            }
            self.look_at(not_before);
        }
    }

    /// An application needs an executor no more. False: it hasn't that one.
    pub(super) fn release(&mut self, name: ExecutorName, actions: &mut Vec<Action>) -> bool {
        let Some(Executor { worker, since, .. }) = self.free_executor(name, false) else {
            return false;
        };
        self.tell_worker(worker, WorkerOrder::KillExecutor(name), actions);
        self.persist_app(name.0, actions);
        self.released_after(name.0, since);
        true
    }

    /// Who gives up soon what it wanted, again and again, waits a moment for more: each start is a process, files, and two records.
    fn released_after(&mut self, id: AppId, since: Duration) {
        /// An honest application may do so, too: it waits no longer.
        const MOST: u32 = 5;
        let (now, steady) = (self.now, self.policy.steady);
        let Some(app) = self.apps.get_mut(&id) else { return };
        if now.saturating_sub(since) >= steady {
            app.releases = 0;
            return;
        }
        // Of those that were there together one counts.
        if app.releases > 0 && since < app.released {
            return;
        }
        app.releases = app.releases.saturating_add(1);
        app.released = now;
        let waits = (app.releases - 1).min(MOST);
        if waits > 0 {
            let not_before = now + self.backoff(waits);
            if let Some(app) = self.apps.get_mut(&id) {
                app.not_before = app.not_before.max(not_before);
            }
            self.look_at(not_before);
        }
    }

    /// An application is over: all that it has goes.
    pub(super) fn end_app(
        &mut self,
        id: AppId,
        state: AppState,
        text: &str,
        actions: &mut Vec<Action>,
    ) {
        let Some(app) = self.apps.get(&id) else { return };
        let mut status = self.app_status(id, app);
        let text = &*clean(text);
        (status.state, status.text, status.ended) = (state, text.to_owned(), Some(self.wall));
        let executors: Vec<_> = app.executors.keys().copied().collect();
        let (mut workers, connection) = (app.workers.clone(), app.connection);
        for executor in executors {
            let freed = self.free_executor((id, executor), false);
            if let Some(Executor { worker, .. }) = freed {
                let kill = WorkerOrder::KillExecutor((id, executor));
                self.tell_worker(worker, kill, actions);
            }
        }
        let holds = self.workers.iter().filter(|(_, worker)| worker.holds.contains(&id));
        workers.extend(holds.map(|(worker, _)| *worker));
        for worker in workers {
            if let Some(worker) = self.workers.get_mut(&worker) {
                worker.holds.remove(&id);
            }
            self.tell_worker(worker, WorkerOrder::ForgetApp(id), actions);
        }
        if let Some(connection) = connection {
            // Its driver said so itself if it ended by itself.
            let words = if text.is_empty() { state.to_string() } else { text.to_owned() };
            actions.push(Action::App(connection, AppNews::Over(words)));
            self.connections.remove(&connection);
        }
        self.apps.remove(&id);
        let text = if text.is_empty() { String::new() } else { format!(": {text}") };
        actions.push(Action::Log(format!("{id} is {state}{text}")));
        actions.push(Action::Persist(Record::EndedApp(status.clone())));
        self.ended_apps.push_back(status);
        if self.ended_apps.len() > self.policy.history
            && let Some(oldest) = self.ended_apps.pop_front()
        {
            actions.push(Action::Forget(Key::App(oldest.id)));
        }
    }
}

fn is_long_secret(secret: &[u8]) -> bool {
    secret.len() > 64
}

/// Whether two secrets are the same, which takes as long wherever they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differ = one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differ) == 0
}
