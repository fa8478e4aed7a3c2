//! What one of many takes of a pool: a task, of its executor's.

use std::sync::atomic::{AtomicU64, Ordering};

use super::usage::{MemoryUse, Usage};

/// Counts the reservations of one holder, whoever grows, shrinks or drops them: what they have now, by use, and the most they
/// had. Counting waits for nobody, and refuses nothing.
#[derive(Debug, Default)]
pub struct Account {
    uses: [Gauge; MemoryUse::ALL.len()],
    spilled: AtomicU64,
}

#[derive(Debug, Default)]
struct Gauge {
    now: AtomicU64,
    most: AtomicU64,
}

impl Account {
    /// What is charged now.
    pub fn now(&self) -> Usage {
        Usage::by(|what| self.uses[what as usize].now.load(Ordering::Relaxed))
    }

    /// The most that was charged for each use. Their sum may be more than was charged at once.
    pub fn most(&self) -> Usage {
        Usage::by(|what| self.uses[what as usize].most.load(Ordering::Relaxed))
    }

    /// Bytes of it that went to disk.
    pub fn spilled(&self) -> u64 {
        self.spilled.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, what: MemoryUse, bytes: u64) {
        let gauge = &self.uses[what as usize];
        let now = gauge.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Mostly it is less than before, and then nobody else's cache line is taken.
        if now > gauge.most.load(Ordering::Relaxed) {
            gauge.most.fetch_max(now, Ordering::Relaxed);
        }
    }

    pub(super) fn sub(&self, what: MemoryUse, bytes: u64) {
        self.uses[what as usize].now.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_spilled(&self, bytes: u64) {
        self.spilled.fetch_add(bytes, Ordering::Relaxed);
    }
}
