//! Workers that don't give a job what it is granted, or ended what it had there for what that did: it is tried on others, and over once none is left.

use std::collections::BTreeMap;
use std::time::Duration;

use super::drivers::End;
use super::event::{Action, DriverTry};
use super::explain::AppState;
use super::ids::AppId;
use super::{Master, clean};
use crate::ids::WorkerId;

/// Why a worker has nothing of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It doesn't give it what it is granted.
    NotGranted,
    /// It ended what it had of it.
    Expelled,
}

/// Who refused a job, until when it isn't asked again, and what the last one said, and why.
#[derive(Debug, Default)]
pub(super) struct Refused(BTreeMap<WorkerId, (Duration, Why)>, [String; 2]);

impl Refused {
    pub(super) fn has(&self, worker: WorkerId, now: Duration) -> bool {
        self.0.get(&worker).is_some_and(|(until, _)| *until > now)
    }

    /// For what somebody waits for; empty if nobody refused.
    pub(super) fn words(&self, now: Duration) -> String {
        let of = |why: Why, what: &str| {
            let refused = self.0.values().filter(|(until, of)| *until > now && *of == why);
            match refused.count() {
                0 => String::new(),
                n => format!("; {n} of the workers {what}: {}", self.1[why as usize]),
            }
        };
        of(Why::NotGranted, "didn't give it what it is granted")
            + &of(Why::Expelled, "ended what ran there for what that did")
    }

    fn note(&mut self, worker: WorkerId, why: Why, now: Duration, until: Duration, reason: &str) {
        self.0.retain(|_, (until, _)| *until > now);
        self.0.insert(worker, (until, why));
        reason.clone_into(&mut self.1[why as usize]);
    }
}

impl Master {
    /// A worker has nothing of an application for a while: others may. If none does, and nothing of it works, it is over.
    pub(super) fn app_refused(
        &mut self,
        id: AppId,
        at: WorkerId,
        why: Why,
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        let (now, until) = (self.now, self.now + self.policy.refusal);
        let Some(app) = self.apps.get_mut(&id) else { return };
        app.refused.note(at, why, now, until, reason);
        let (cores, memory) = (app.spec.executor_cores.unwrap_or(1), app.spec.executor_memory);
        let goes_on = self.apps.get(&id).is_some_and(|app| {
            // What works goes on working.
            let works = app.executors.values().any(|executor| executor.registered);
            works || self.is_left(cores, memory, &app.refused)
        });
        if goes_on {
            self.look_at(until);
            return;
        }
        let nobody = match why {
            Why::NotGranted => "no worker gives its executors what it is granted",
            Why::Expelled => "no worker is left that didn't end its executors for what they did",
        };
        let text = format!("{nobody}; {at}: {reason}");
        self.end_app(id, AppState::Failed, &text, actions);
    }

    pub(super) fn driver_refused(
        &mut self,
        at: WorkerId,
        this: DriverTry,
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        let (id, attempt) = this;
        let (now, until) = (self.now, self.now + self.policy.refusal);
        let found = self.drivers.get_mut(&id);
        let found = found.filter(|d| d.worker == Some(at) && d.restarts == attempt);
        // One that has an application was refused nothing.
        if let Some(driver) = found.filter(|driver| driver.app.is_none()) {
            driver.refused.note(at, Why::NotGranted, now, until, &clean(reason));
            let (cores, memory) = (driver.spec.cores, driver.spec.memory);
            let refused = self.drivers.get(&id).map(|driver| &driver.refused);
            if refused.is_some_and(|refused| self.is_left(cores, memory, refused)) {
                self.move_driver(at, this, reason, actions);
                self.look_at(until);
                return;
            }
        }
        self.driver_ended(at, this, End::Failed, reason, actions);
    }

    /// Whether there is a worker that hasn't refused, and can have so much.
    fn is_left(&self, cores: u32, memory: u64, refused: &Refused) -> bool {
        self.workers.iter().any(|(id, worker)| {
            let fits = worker.cores >= cores && worker.memory >= memory;
            fits && !worker.draining && !refused.has(*id, self.now)
        })
    }
}
