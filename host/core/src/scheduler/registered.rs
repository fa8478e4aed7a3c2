//! No task is launched before enough of what was asked for has registered, if that is wanted.

use std::time::Duration;

use super::Scheduler;
use super::policy::MinRegistered;

impl Scheduler {
    /// What tasks wait for before any is launched, and how much of it is there.
    pub(super) fn lacks_registered(&self) -> Option<(MinRegistered, u64)> {
        let there = self.executors.slots();
        self.min_registered.map(|wanted| (wanted, there))
    }

    /// Whether tasks may be launched: once they may, they always may.
    pub(super) fn begins(&mut self) -> bool {
        let now = self.now;
        self.min_registered = self
            .lacks_registered()
            .filter(|(wanted, there)| *there < wanted.slots && now < wanted.at_most)
            .map(|(wanted, _)| wanted);
        self.min_registered.is_none()
    }

    /// When tasks wait no longer.
    pub(super) fn next_begin(&self) -> Option<Duration> {
        self.min_registered.filter(|_| !self.ready.is_empty()).map(|wanted| wanted.at_most)
    }
}
