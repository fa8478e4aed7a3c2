//! How fast an executor may write. One that floods a disk takes more than its disk: the kernel writes for it on anybody's core, and whoever
//! opens or removes a file waits behind it.
//!
//! Whoever writes only notes it: that may be a guest's memory that grows, and evicts others' blocks. A task pays for it where it can be told to stop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ingle_core::size::ByteSize;
use parking_lot::Mutex;

/// What was not used may be used later: that of so long.
const BURST: Duration = Duration::from_secs(2);
/// Who pays looks so often whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Once so much was paid, it is said.
const WORTH_SAYING: Duration = Duration::from_secs(1);

/// A bound of bytes in a second, as a leaky bucket that is a point of time (the generic cell rate algorithm of ITU-T I.371).
#[derive(Debug)]
pub(crate) struct Pace {
    /// Bytes in a second.
    rate: u64,
    since: Instant,
    due: Mutex<Due>,
    /// In microseconds.
    paid: AtomicU64,
}

/// When all that was written would have been, at that rate, since the start.
#[derive(Debug, Default)]
struct Due(Duration);

impl Due {
    /// So many bytes are written now.
    fn write(&mut self, now: Duration, bytes: u64, rate: u64) {
        let takes = Duration::try_from_secs_f64(bytes as f64 / rate.max(1) as f64);
        let from = self.0.max(now.saturating_sub(BURST));
        self.0 = from.saturating_add(takes.unwrap_or(Duration::MAX));
    }

    /// How much too early that was.
    fn owed(&self, now: Duration) -> Duration {
        self.0.saturating_sub(now)
    }
}

impl Pace {
    pub fn new(rate: u64) -> Self {
        let paid = AtomicU64::new(0);
        Self { rate, since: Instant::now(), due: Mutex::default(), paid }
    }

    /// At its start it has all of a burst.
    fn now(&self) -> Duration {
        self.since.elapsed() + BURST
    }

    /// So many bytes are written.
    pub fn note(&self, bytes: u64) {
        self.due.lock().write(self.now(), bytes, self.rate);
    }

    /// Waits until nothing is owed, or the one who waits is to stop.
    pub fn pay(&self, is_stopped: impl Fn() -> bool) {
        loop {
            let owed = self.due.lock().owed(self.now());
            if owed.is_zero() || is_stopped() {
                return;
            }
            let some = owed.min(LOOK);
            std::thread::sleep(some);
            self.has_paid(some);
        }
    }

    fn has_paid(&self, some: Duration) {
        let (some, worth) = (some.as_micros() as u64, WORTH_SAYING.as_micros() as u64);
        let before = self.paid.fetch_add(some, Ordering::Relaxed);
        if before < worth && before + some >= worth {
            tracing::warn!(
                "its tasks write more than {} in a second, which is what the worker's --disk-rate allows all of its cores: they wait",
                ByteSize(self.rate)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_burst_is_free_and_what_goes_on_has_its_rate() {
        let mut due = Due::default();
        let ms = Duration::from_millis;
        let mut write = |now: Duration, mib: u64| {
            due.write(now, mib * MIB, 10 * MIB);
            due.owed(now)
        };
        assert_eq!(write(BURST, 20), Duration::ZERO);
        assert_eq!(write(BURST, 10), ms(1000));
        assert_eq!(write(BURST + ms(500), 5), ms(1000), "debts stay");
        // Long after, no more than a burst was saved.
        let later = BURST + ms(60_000);
        assert_eq!(write(later, 20), Duration::ZERO);
        assert_eq!(write(later, 1), ms(100));
    }

    #[test]
    fn who_owes_waits_for_all_of_it_unless_it_is_to_stop() {
        let pace = Pace::new(10 * MIB);
        pace.pay(|| panic!("nobody owes anything"));
        pace.note(22 * MIB);
        let (began, owed) = (Instant::now(), pace.due.lock().owed(pace.now()));
        assert!(!owed.is_zero());
        pace.pay(|| false);
        assert!(began.elapsed() >= owed && pace.due.lock().owed(pace.now()).is_zero());
        // For ever, if it were for that.
        pace.note(u64::MAX);
        pace.note(u64::MAX);
        let looks = AtomicU64::new(0);
        pace.pay(|| looks.fetch_add(1, Ordering::Relaxed) == 2);
        assert!(pace.due.lock().owed(pace.now()) > Duration::from_secs(1 << 30));
    }
}
