//! What becomes of drivers that run on workers.

use std::time::Duration;

use super::event::{
    Action, DriverSpec, DriverTry, Key, Record, Reply, RequestId, Room, WorkerOrder,
};
use super::explain::AppState;
use super::ids::DriverId;
use super::{Driver, Master, Process, clean, has_control};
use crate::ids::WorkerId;
use crate::size::ByteSize;

/// A submission larger than this is none, in bytes.
pub const MAX_SUBMISSION: usize = 32 << 20;
/// And all of those that aren't over together: they are held, and stored.
const MAX_SUBMISSIONS: usize = 1 << 30;

/// Why a driver can't be started any more.
pub const SECRETS_GONE: &str = "its secrets are gone: a master keeps them, and the keys of s3://, in its memory alone, and this one was started \
                                again since; submit the job again";

/// How a driver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Finished,
    Failed,
    /// By its worker, for what it did: it would do it again.
    Expelled,
}

impl Driver {
    pub(super) fn new(spec: DriverSpec) -> Self {
        Self {
            spec,
            worker: None,
            last_worker: None,
            app: None,
            attached: None,
            refused: super::refused::Refused::default(),
            looked_at: false,
            restarts: 0,
            failures: 0,
            secrets_gone: false,
            not_before: Duration::ZERO,
            last: String::new(),
        }
    }

    pub(super) fn room(&self) -> Room {
        Room { cores: self.spec.cores, memory: self.spec.memory }
    }
}

impl Master {
    pub(super) fn submit_driver(
        &mut self,
        request: RequestId,
        spec: DriverSpec,
        wall: u64,
        actions: &mut Vec<Action>,
    ) {
        let refusal = if spec.cores == 0 || spec.memory == 0 {
            Some("a driver must have at least 1 core and some memory".into())
        } else if spec.name.len() > self.policy.max_name || spec.submission.len() > MAX_SUBMISSION {
            Some("its name or its arguments are too long".into())
        } else if has_control(&spec.name) {
            Some("a name must not have control characters".into())
        } else if self.drivers.len() >= self.policy.max_apps {
            Some(format!("there are {} drivers, and no more can be", self.policy.max_apps))
        } else if self.submissions() + spec.submission.len() > MAX_SUBMISSIONS {
            Some(format!(
                "the drivers that there are have {} of arguments, environment, files and settings, and no more than {} can be: wait until one is over",
                ByteSize(self.submissions() as u64),
                ByteSize(MAX_SUBMISSIONS as u64)
            ))
        } else {
            let hint = "; give less with --driver-cores and --driver-memory";
            self.never_fits("a driver", spec.cores, spec.memory).map(|why| why + hint)
        };
        if let Some(why) = refusal {
            actions.push(Action::Reply(request, Err(why)));
            return;
        }
        let id = DriverId::new(wall, self.new_name(actions));
        actions.push(Action::Log(format!("{id} ({}) is submitted", spec.name)));
        self.drivers.insert(id, Driver::new(spec));
        self.persist_driver(id, actions);
        actions.push(Action::Reply(request, Ok(Reply::Driver(id))));
    }

    /// Bytes of all submissions.
    fn submissions(&self) -> usize {
        self.drivers.values().map(|driver| driver.spec.submission.len()).sum()
    }

    pub(super) fn persist_driver(&self, id: DriverId, actions: &mut Vec<Action>) {
        if let Some(driver) = self.drivers.get(&id) {
            actions.push(Action::Persist(Record::Driver {
                id,
                spec: driver.spec.clone(),
                worker: driver.worker,
                restarts: driver.restarts,
            }));
        }
    }

    /// A driver runs nowhere any more, as far as it is wanted: its process `ended`, or is told to.
    fn free_driver(&mut self, id: DriverId, ended: bool) -> Option<(WorkerId, DriverTry)> {
        let driver = self.drivers.get_mut(&id)?;
        let at = driver.worker.take()?;
        driver.last_worker = Some(at);
        let this = (id, driver.restarts);
        if let Some(worker) = self.workers.get_mut(&at) {
            worker.drivers.remove(&this);
            match ended {
                true => worker.give_back(driver.room()),
                false => worker.is_ending(Process::Driver(this), driver.room()),
            }
        }
        Some((at, this))
    }

    pub(super) fn driver_ended(
        &mut self,
        at: WorkerId,
        (id, attempt): DriverTry,
        how: End,
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        if let Some(worker) = self.workers.get_mut(&at) {
            worker.has_ended(Process::Driver((id, attempt)));
        }
        let is_this = |d: &&Driver| d.worker == Some(at) && d.restarts == attempt;
        let Some(driver) = self.drivers.get(&id).filter(is_this) else { return };
        let (supervised, gone, app) = (driver.spec.supervise, driver.secrets_gone, driver.app);
        let reason = &clean(reason);
        self.free_driver(id, true);
        if let Some(app) = app {
            // It may have said so itself.
            let (state, text) = match how {
                End::Finished => (AppState::Finished, String::new()),
                End::Failed | End::Expelled => {
                    (AppState::Failed, format!("its driver failed: {reason}"))
                }
            };
            self.end_app(app, state, &text, actions);
        }
        if how == End::Finished {
            self.end_driver(id, AppState::Finished, "", actions);
        } else if supervised && gone && how == End::Failed {
            let text = format!("{reason}; it isn't started again: {SECRETS_GONE}");
            self.end_driver(id, AppState::Failed, &text, actions);
        } else if supervised && how == End::Failed {
            let now = self.now;
            let failures = self.drivers.get(&id).map_or(0, |driver| driver.failures) + 1;
            // The first wait of a driver is a second.
            let wait = self.backoff(failures) * 10;
            let not_before = now + wait.min(self.policy.max_backoff * 2);
            if let Some(driver) = self.drivers.get_mut(&id) {
                driver.restarts += 1;
                (driver.failures, driver.not_before) = (failures, not_before);
                (driver.app, driver.looked_at) = (None, false);
                reason.clone_into(&mut driver.last);
            }
            self.look_at(not_before);
            self.persist_driver(id, actions);
            actions.push(Action::Log(format!("{id} failed and is started again: {reason}")));
        } else {
            self.end_driver(id, AppState::Failed, reason, actions);
        }
    }

    /// A driver is to run somewhere else, at once: it hasn't begun.
    pub(super) fn move_driver(
        &mut self,
        at: WorkerId,
        (id, attempt): DriverTry,
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        if let Some(worker) = self.workers.get_mut(&at) {
            worker.has_ended(Process::Driver((id, attempt)));
        }
        self.free_driver(id, true);
        let reason = clean(reason);
        if let Some(driver) = self.drivers.get_mut(&id) {
            (driver.restarts, driver.looked_at) = (attempt.saturating_add(1), false);
            driver.last = reason.to_string();
        }
        self.persist_driver(id, actions);
        actions.push(Action::Log(format!("{id} is tried on another worker than {at}: {reason}")));
    }

    /// A driver is over.
    pub(super) fn end_driver(
        &mut self,
        id: DriverId,
        state: AppState,
        text: &str,
        actions: &mut Vec<Action>,
    ) {
        if let Some((worker, this)) = self.free_driver(id, false) {
            self.tell_worker(worker, WorkerOrder::KillDriver(this), actions);
        }
        let Some(driver) = self.drivers.get(&id) else { return };
        let mut status = self.driver_status(id, driver);
        let text = &*clean(text);
        (status.state, status.text, status.ended) = (state, text.to_owned(), Some(self.wall));
        self.drivers.remove(&id);
        let text = if text.is_empty() { String::new() } else { format!(": {text}") };
        actions.push(Action::Log(format!("{id} is {state}{text}")));
        actions.push(Action::Persist(Record::EndedDriver(status.clone())));
        self.ended_drivers.push_back(status);
        if self.ended_drivers.len() > self.policy.history
            && let Some(oldest) = self.ended_drivers.pop_front()
        {
            actions.push(Action::Forget(Key::Driver(oldest.id)));
        }
    }
}
