//! How often somebody may ask for something: so many times at once, then so many in a second.

use std::time::{Duration, Instant};

/// A token bucket.
pub struct Pace {
    burst: f64,
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Pace {
    /// Nothing was asked before now.
    pub fn new(burst: f64, per_second: f64, now: Instant) -> Self {
        Self { burst, per_second, left: burst, at: now }
    }

    /// How long the next one has to wait.
    pub fn take(&mut self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now.max(self.at);
        self.left = (self.left + since * self.per_second).min(self.burst) - 1.0;
        Duration::from_secs_f64((-self.left / self.per_second).max(0.0))
    }
}
