//! Clocks that tick in steps, for those who'd rather not let jobs time their neighbours.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

/// Both of WASI's clocks, seen at the last step only.
#[derive(Clone, Copy)]
struct Coarse {
    step: Duration,
    start: Instant,
}

/// Lets a guest's clocks tick in such steps. Waiting for a time is as exact as ever: it ends at no step but its own.
pub fn coarsen(wasi: &mut WasiCtxBuilder, step: Duration) {
    let clock = Coarse { step, start: Instant::now() };
    wasi.monotonic_clock(clock).wall_clock(clock);
}

/// The last step that isn't after a time, in nanoseconds.
fn floor(time: Duration, step: Duration) -> u128 {
    let step = step.as_nanos().max(1);
    time.as_nanos() / step * step
}

fn nanoseconds(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl HostMonotonicClock for Coarse {
    fn resolution(&self) -> u64 {
        nanoseconds(self.step.as_nanos())
    }

    fn now(&self) -> u64 {
        nanoseconds(floor(self.start.elapsed(), self.step))
    }
}

impl HostWallClock for Coarse {
    fn resolution(&self) -> Duration {
        self.step
    }

    fn now(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_nanos(nanoseconds(floor(now, self.step)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_stands_at_its_last_step() {
        let (ms, us) = (Duration::from_millis, Duration::from_micros);
        let seen = [0, 1, 999, 1000, 1999, 2000].map(|time| floor(us(time), ms(1)));
        assert_eq!(seen, [0, 0, 0, 1_000_000, 1_000_000, 2_000_000]);
        assert_eq!(floor(ms(7), Duration::ZERO), 7_000_000);
        let clock = Coarse { step: ms(20), start: Instant::now() };
        std::thread::sleep(ms(25));
        let now = HostMonotonicClock::now(&clock);
        assert!(now >= 20_000_000 && now.is_multiple_of(20_000_000), "{now}");
        assert!(HostWallClock::now(&clock).as_nanos().is_multiple_of(20_000_000));
    }
}
