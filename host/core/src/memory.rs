//! One memory budget: guests, images, cached blocks and shuffle buffers all charge the same pool.
//!
//! A charge is a [`Reservation`], credited when it is dropped. When the pool is short, it first asks those who hold what
//! can be moved to disk ([`Evict`]), outside of its own lock, and only then refuses.

mod account;
mod usage;

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::size::ByteSize;
pub use account::Account;
pub use usage::{MemoryUse, Usage};

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

/// What was charged on a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charged {
    /// Now.
    pub now: Usage,
    /// The most of each use, whenever that was.
    pub most: Usage,
    /// When the most was charged at once.
    pub at_peak: Usage,
}

struct Inner {
    capacity: u64,
    charged: Mutex<Charged>,
    evictors: Mutex<Vec<Weak<dyn Evict>>>,
}

/// The budget. Clones share it.
#[derive(Clone)]
pub struct MemoryPool(Arc<Inner>);

impl MemoryPool {
    /// A pool of `capacity` bytes.
    pub fn new(capacity: ByteSize) -> Self {
        let (charged, evictors) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { capacity: capacity.0, charged, evictors }))
    }

    /// Asks `evictor` from now on when memory is short, after those registered before.
    pub fn register(&self, evictor: Weak<dyn Evict>) {
        self.0.evictors.lock().push(evictor);
    }

    /// An empty reservation, to be grown.
    pub fn reservation(&self, what: MemoryUse) -> Reservation {
        Reservation { pool: self.clone(), what, bytes: 0, account: None }
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
        self.charged().now
    }

    /// Who holds what, and held.
    pub fn charged(&self) -> Charged {
        *self.0.charged.lock()
    }

    /// The most that was ever charged at once.
    pub fn peak(&self) -> ByteSize {
        ByteSize(self.charged().at_peak.total())
    }

    /// Charges if it fits; else says how much is missing.
    fn charge(&self, what: MemoryUse, bytes: u64) -> Result<(), u64> {
        let mut charged = self.0.charged.lock();
        let Charged { now, most, at_peak } = &mut *charged;
        let total = now.total();
        let free = self.0.capacity - total;
        if bytes > free {
            return Err(bytes - free);
        }
        let of = what as usize;
        now.0[of] += bytes;
        most.0[of] = most.0[of].max(now.0[of]);
        if total + bytes > at_peak.total() {
            *at_peak = *now;
        }
        Ok(())
    }

    fn credit(&self, what: MemoryUse, bytes: u64) {
        self.0.charged.lock().now.0[what as usize] -= bytes;
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
    account: Option<Arc<Account>>,
}

impl Reservation {
    /// Counts it on an account from now on, with what is charged already. Once only.
    pub fn count_on(&mut self, account: &Arc<Account>) {
        debug_assert!(self.account.is_none(), "it is counted on another");
        account.add(self.what, self.bytes);
        self.account = Some(account.clone());
    }

    /// So many bytes of what it is for went to disk.
    pub fn spilled(&self, bytes: u64) {
        if let Some(account) = &self.account {
            account.add_spilled(bytes);
        }
    }

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
        self.grown(more);
        Ok(())
    }

    /// Charges `more` bytes if they are free now: asks nobody to evict.
    pub fn try_grow(&mut self, more: u64) -> bool {
        let fits = self.pool.charge(self.what, more).is_ok();
        if fits {
            self.grown(more);
        }
        fits
    }

    fn grown(&mut self, more: u64) {
        self.bytes += more;
        if let Some(account) = &self.account {
            account.add(self.what, more);
        }
    }

    /// Takes `bytes` out of it, at most what is charged: they are credited by themselves.
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let (pool, account) = (self.pool.clone(), self.account.clone());
        Self { pool, what: self.what, bytes, account }
    }

    /// Credits `less` bytes, at most what is charged.
    pub fn shrink(&mut self, less: u64) {
        let less = less.min(self.bytes);
        self.bytes -= less;
        self.credit(less);
    }

    fn credit(&self, less: u64) {
        self.pool.credit(self.what, less);
        if let Some(account) = &self.account {
            account.sub(self.what, less);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.credit(self.bytes);
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
    fn each_use_has_a_peak_and_the_highest_total_its_parts() {
        let pool = MemoryPool::new(ByteSize(100));
        drop(pool.reserve(MemoryUse::Cache, 50).unwrap());
        drop(pool.reserve(MemoryUse::Cache, 20).unwrap());
        let mut guest = pool.reserve(MemoryUse::Guest, 40).unwrap();
        let shuffle = pool.reserve(MemoryUse::Shuffle, 30).unwrap();
        guest.shrink(25);
        assert!(!guest.try_grow(71), "refused, and not counted");
        let Charged { now, most, at_peak } = pool.charged();
        let of = |usage: Usage| {
            [MemoryUse::Guest, MemoryUse::Shuffle, MemoryUse::Cache].map(|u| usage.of(u))
        };
        assert_eq!((of(now), of(most), of(at_peak)), ([15, 30, 0], [40, 30, 50], [40, 30, 0]));
        assert_eq!((now.total(), pool.peak()), (45, ByteSize(70)));
        drop(shuffle);
        assert!(guest.try_grow(50));
        assert_eq!(pool.charged().at_peak, at_peak, "65 are fewer");
        assert!(guest.try_grow(10));
        assert_eq!(of(pool.charged().at_peak), [75, 0, 0]);
    }

    #[test]
    fn an_account_has_what_its_reservations_have_whoever_takes_it_from_them() {
        let pool = MemoryPool::new(ByteSize(100));
        let (task, other) = (Arc::new(Account::default()), Arc::new(Account::default()));
        let mut early = pool.reserve(MemoryUse::Shuffle, 10).unwrap();
        early.count_on(&task);
        let mut held = pool.reservation(MemoryUse::Shuffle);
        held.count_on(&task);
        held.grow(70).unwrap();
        assert!(held.try_grow(10) && !held.try_grow(11));
        let hoard: Arc<dyn Evict> = Arc::new(Hoard(Mutex::new(Some(held))));
        pool.register(Arc::downgrade(&hoard));
        let mut others = pool.reservation(MemoryUse::Guest);
        others.count_on(&other);
        others.grow(40).unwrap();
        let of = |account: &Account| (account.now(), account.most());
        let (now, most) = of(&task);
        assert_eq!((now.of(MemoryUse::Shuffle), now.total()), (60, 60), "30 were evicted");
        assert_eq!((most.of(MemoryUse::Shuffle), most.total()), (90, 90));
        early.spilled(7);
        drop((early, hoard));
        assert_eq!((task.now().total(), task.most(), task.spilled()), (0, most, 7));
        assert_eq!((other.now().total(), other.spilled()), (40, 0));
    }

    #[test]
    fn what_is_split_off_is_charged_once_and_credited_by_itself() {
        let pool = MemoryPool::new(ByteSize(100));
        let task = Arc::new(Account::default());
        let mut whole = pool.reserve(MemoryUse::Input, 60).unwrap();
        whole.count_on(&task);
        let part = whole.split(20);
        let all = |pool: &MemoryPool| (pool.usage().total(), task.now().total());
        assert_eq!((whole.bytes(), part.bytes(), all(&pool)), (40, 20, (60, 60)));
        drop(whole);
        assert_eq!(all(&pool), (20, 20));
        let mut part = part;
        assert_eq!((part.split(30).bytes(), part.bytes()), (20, 0), "no more than there is");
        assert_eq!(all(&pool), (0, 0));
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
