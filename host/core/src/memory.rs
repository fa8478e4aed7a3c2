//! One memory budget: guests, images, cached blocks and shuffle buffers all charge the same pool.
//!
//! A charge is a [`Reservation`], credited when it is dropped. When the pool is short, it first asks those who hold what
//! can be moved to disk ([`Evict`]), outside of its own lock, and only then refuses.

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::size::ByteSize;

/// What a reservation is for: the words of a refusal, and of the report at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryUse {
    /// Linear memories and tables of tasks.
    Guest,
    /// Images of the driver that tasks start from.
    Image,
    /// Shuffle output and results held by the host.
    Shuffle,
    /// Cached partitions.
    Cache,
    /// Input buffers of the host.
    Input,
}

const USES: [MemoryUse; 5] =
    [MemoryUse::Guest, MemoryUse::Image, MemoryUse::Shuffle, MemoryUse::Cache, MemoryUse::Input];

impl MemoryUse {
    fn words(self) -> &'static str {
        match self {
            Self::Guest => "guests",
            Self::Image => "driver images",
            Self::Shuffle => "shuffle and results",
            Self::Cache => "cached partitions",
            Self::Input => "input buffers",
        }
    }
}

/// Bytes by use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage([u64; USES.len()]);

impl Usage {
    /// Bytes charged for one use.
    pub fn of(&self, what: MemoryUse) -> u64 {
        self.0[what as usize]
    }

    /// Bytes charged in all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut used: Vec<_> = USES.into_iter().filter(|u| self.of(*u) > 0).collect();
        used.sort_by_key(|u| std::cmp::Reverse(self.of(*u)));
        for (i, u) in used.into_iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", u.words(), ByteSize(self.of(u)))?;
        }
        Ok(())
    }
}

/// The pool can't give what was asked, even after eviction.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} more don't fit into {capacity}: in use are {usage}", ByteSize(*.asked))]
pub struct OutOfMemory {
    /// Bytes asked for.
    pub asked: u64,
    /// The budget.
    pub capacity: ByteSize,
    /// Who holds it.
    pub usage: Usage,
}

/// A holder of memory that can be given back, by writing it to disk or by dropping what can be made again.
pub trait Evict: Send + Sync {
    /// Gives back at least `want` bytes if it can, by shrinking or dropping reservations; says how many it gave.
    ///
    /// May be called on any thread that reserves, so on one that holds the evictor's own locks if it reserves
    /// under them: don't.
    fn evict(&self, want: u64) -> u64;
}

struct State {
    usage: Usage,
    peak: u64,
}

struct Inner {
    capacity: u64,
    state: Mutex<State>,
    evictors: Mutex<Vec<Weak<dyn Evict>>>,
}

/// The budget. Clones share it.
#[derive(Clone)]
pub struct MemoryPool(Arc<Inner>);

impl MemoryPool {
    /// A pool of `capacity` bytes.
    pub fn new(capacity: ByteSize) -> Self {
        let state = Mutex::new(State { usage: Usage::default(), peak: 0 });
        Self(Arc::new(Inner { capacity: capacity.0, state, evictors: Mutex::default() }))
    }

    /// Asks `evictor` from now on when memory is short, after those registered before.
    pub fn register(&self, evictor: Weak<dyn Evict>) {
        self.0.evictors.lock().push(evictor);
    }

    /// An empty reservation, to be grown.
    pub fn reservation(&self, what: MemoryUse) -> Reservation {
        Reservation { pool: self.clone(), what, bytes: 0 }
    }

    /// Charges `bytes`, evicting others if it must.
    pub fn reserve(&self, what: MemoryUse, bytes: u64) -> Result<Reservation, OutOfMemory> {
        let mut reservation = self.reservation(what);
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// The budget in bytes.
    pub fn capacity(&self) -> ByteSize {
        ByteSize(self.0.capacity)
    }

    /// Who holds what now.
    pub fn usage(&self) -> Usage {
        self.0.state.lock().usage
    }

    /// The most that was ever charged at once.
    pub fn peak(&self) -> ByteSize {
        ByteSize(self.0.state.lock().peak)
    }

    /// Charges if it fits; else says how much is missing.
    fn charge(&self, what: MemoryUse, bytes: u64) -> Result<(), u64> {
        let mut state = self.0.state.lock();
        let total = state.usage.total();
        let free = self.0.capacity - total;
        if bytes > free {
            return Err(bytes - free);
        }
        state.usage.0[what as usize] += bytes;
        state.peak = state.peak.max(total + bytes);
        Ok(())
    }

    fn credit(&self, what: MemoryUse, bytes: u64) {
        self.0.state.lock().usage.0[what as usize] -= bytes;
    }

    /// Asks the evictors for `missing` bytes; says whether any gave something.
    fn evict(&self, missing: u64) -> bool {
        let evictors: Vec<_> = self.0.evictors.lock().iter().filter_map(Weak::upgrade).collect();
        let mut given = 0;
        for evictor in evictors {
            if given >= missing {
                break;
            }
            given += evictor.evict(missing - given);
        }
        given > 0
    }
}

/// A charge on a pool, credited on drop.
#[must_use]
pub struct Reservation {
    pool: MemoryPool,
    what: MemoryUse,
    bytes: u64,
}

impl Reservation {
    /// Bytes charged.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Charges `more` bytes, evicting others if it must.
    pub fn grow(&mut self, more: u64) -> Result<(), OutOfMemory> {
        // Another thread may take what an eviction freed, so try again as long as evictions give something.
        while let Err(missing) = self.pool.charge(self.what, more) {
            if more > self.pool.0.capacity || !self.pool.evict(missing) {
                let (capacity, usage) = (self.pool.capacity(), self.pool.usage());
                return Err(OutOfMemory { asked: more, capacity, usage });
            }
        }
        self.bytes += more;
        Ok(())
    }

    /// Charges `more` bytes if they are free now: asks nobody to evict.
    pub fn try_grow(&mut self, more: u64) -> bool {
        let fits = self.pool.charge(self.what, more).is_ok();
        if fits {
            self.bytes += more;
        }
        fits
    }

    /// Credits `less` bytes, at most what is charged.
    pub fn shrink(&mut self, less: u64) {
        let less = less.min(self.bytes);
        self.bytes -= less;
        self.pool.credit(self.what, less);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.pool.credit(self.what, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Hoard(Mutex<Option<Reservation>>);

    impl Evict for Hoard {
        fn evict(&self, want: u64) -> u64 {
            let mut held = self.0.lock();
            let Some(held) = held.as_mut() else { return 0 };
            let given = want.min(held.bytes());
            held.shrink(given);
            given
        }
    }

    #[test]
    fn a_dropped_reservation_is_credited_and_the_peak_stays() {
        let pool = MemoryPool::new(ByteSize(100));
        drop(pool.reserve(MemoryUse::Guest, 60).unwrap());
        assert_eq!((pool.usage().total(), pool.peak()), (0, ByteSize(60)));
    }

    #[test]
    fn a_short_pool_evicts_just_what_is_missing() {
        let pool = MemoryPool::new(ByteSize(100));
        let held = pool.reserve(MemoryUse::Shuffle, 90).unwrap();
        let hoard: Arc<dyn Evict> = Arc::new(Hoard(Mutex::new(Some(held))));
        pool.register(Arc::downgrade(&hoard));
        let _task = pool.reserve(MemoryUse::Guest, 30).unwrap();
        assert_eq!(pool.usage().of(MemoryUse::Shuffle), 70);
    }

    #[test]
    fn a_refusal_says_who_holds_the_memory() {
        let pool = MemoryPool::new(ByteSize(4 << 20));
        let _a = pool.reserve(MemoryUse::Guest, 3 << 20).unwrap();
        let refused = pool.reserve(MemoryUse::Image, 2 << 20).err().unwrap();
        assert_eq!(
            refused.to_string(),
            "2.0 MiB more don't fit into 4.0 MiB: in use are guests 3.0 MiB"
        );
    }
}
