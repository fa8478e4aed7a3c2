//! How fast an executor may write. One that floods a disk takes more than its disk: the kernel writes for it on anybody's core, and whoever
//! opens or removes a file waits behind it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ingle_core::size::ByteSize;
use parking_lot::Mutex;

/// What was not used may be used later: that of so long.
const BURST: Duration = Duration::from_secs(2);
/// One write waits no longer, for its task may be told to end; the next one waits for the rest.
const MOST: Duration = Duration::from_millis(250);
/// Once it has waited for so long, it is said.
const WORTH_SAYING: Duration = Duration::from_secs(1);

/// A bound of bytes in a second, as a leaky bucket that is a point of time (the generic cell rate algorithm of ITU-T I.371).
#[derive(Debug)]
pub(crate) struct Pace {
    /// Bytes in a second.
    rate: u64,
    since: Instant,
    due: Mutex<Due>,
    waited: AtomicU64,
}

/// When all that was written would have been, at that rate, since the start.
#[derive(Debug, Default)]
struct Due(Duration);

impl Due {
    /// So many bytes are written now. Gives how long that is too early.
    fn write(&mut self, now: Duration, bytes: u64, rate: u64) -> Duration {
        let takes = Duration::try_from_secs_f64(bytes as f64 / rate.max(1) as f64);
        let from = self.0.max(now.saturating_sub(BURST));
        self.0 = from.saturating_add(takes.unwrap_or(Duration::MAX));
        self.0.saturating_sub(now)
    }
}

impl Pace {
    pub fn new(rate: u64) -> Self {
        let waited = AtomicU64::new(0);
        Self { rate, since: Instant::now(), due: Mutex::default(), waited }
    }

    /// Waits until so many bytes may be written.
    pub fn wait(&self, bytes: u64) {
        // At its start it has all of a burst.
        let now = self.since.elapsed() + BURST;
        let early = self.due.lock().write(now, bytes, self.rate).min(MOST);
        if early.is_zero() {
            return;
        }
        std::thread::sleep(early);
        let (early, worth) = (early.as_micros() as u64, WORTH_SAYING.as_micros() as u64);
        let before = self.waited.fetch_add(early, Ordering::Relaxed);
        if before < worth && before + early >= worth {
            tracing::warn!(
                "its tasks write more than {} in a second: they wait, as the worker's --disk-rate allows each of its cores no more",
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
        let start = BURST;
        let ms = Duration::from_millis;
        assert_eq!(due.write(start, 20 * MIB, 10 * MIB), Duration::ZERO);
        assert_eq!(due.write(start, 10 * MIB, 10 * MIB), ms(1000));
        assert_eq!(due.write(start + ms(500), 5 * MIB, 10 * MIB), ms(1000), "debts stay");
        // Long after, no more than a burst was saved.
        let later = start + ms(60_000);
        assert_eq!(due.write(later, 20 * MIB, 10 * MIB), Duration::ZERO);
        assert_eq!(due.write(later, MIB, 10 * MIB), ms(100));
    }

    #[test]
    fn nonsense_waits_and_does_no_harm() {
        let mut due = Due::default();
        assert!(due.write(BURST, u64::MAX, 0) > Duration::from_secs(1 << 30));
        assert!(due.write(BURST, u64::MAX, 0) > Duration::from_secs(1 << 30));
        let pace = Pace::new(1);
        pace.wait(1 << 40);
        assert!(pace.waited.load(Ordering::Relaxed) <= MOST.as_micros() as u64);
    }
}
