//! How long a stage's tasks run.

use std::collections::BTreeMap;
use std::time::Duration;

/// The run times of a stage's tasks: smoothed, and sampled if asked for.
#[derive(Debug, Default)]
pub(super) struct RunTime {
    mean: u64,
    samples: u32,
    /// How many took how long, in steps of a sixteenth: few entries, since a stage's tasks are much alike.
    sampled: BTreeMap<u16, u32>,
}

impl RunTime {
    pub fn record(&mut self, time: Duration) {
        let nanos = nanos(time);
        self.samples = self.samples.saturating_add(1);
        self.mean = match self.samples {
            1 => nanos,
            _ => self.mean - self.mean / 8 + nanos / 8,
        };
    }

    /// How many tasks fit into a time; not more than were seen, so that trust grows with knowledge.
    pub fn fitting(&self, time: Duration) -> u32 {
        u32::try_from(nanos(time) / self.mean.max(1)).unwrap_or(u32::MAX).min(self.samples)
    }

    /// Remembers a time for the median.
    pub fn sample(&mut self, time: Duration) {
        let count = self.sampled.entry(step(nanos(time))).or_default();
        *count = count.saturating_add(1);
    }

    /// The median of the sampled times, within a sixteenth.
    pub fn median(&self) -> Option<Duration> {
        let total: u64 = self.sampled.values().map(|count| u64::from(*count)).sum();
        let mut below = 0;
        for (&step, &count) in &self.sampled {
            below += u64::from(count);
            if below > total / 2 {
                return Some(Duration::from_nanos(start(step)));
            }
        }
        None
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The step that a time falls into: 16 for each power of two.
fn step(nanos: u64) -> u16 {
    let power = nanos.max(16).ilog2();
    let sixteenth = (nanos >> (power - 4)) & 15;
    (power * 16) as u16 + sixteenth as u16
}

/// The shortest time of a step.
fn start(step: u16) -> u64 {
    let (power, sixteenth) = (u32::from(step / 16), u64::from(step % 16));
    (16 + sixteenth) << power.saturating_sub(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_near_the_middle_time() {
        let mut times = RunTime::default();
        assert_eq!(times.median(), None);
        for millis in 1..=1001 {
            times.sample(Duration::from_millis(millis));
        }
        let median = times.median().unwrap();
        assert!((470..=501).contains(&median.as_millis()), "{median:?}");
        times.sample(Duration::MAX);
        times.sample(Duration::ZERO);
        assert_eq!(times.median(), Some(median));
        assert!(times.sampled.len() < 200);
    }

    #[test]
    fn a_step_starts_at_a_time_that_falls_into_it() {
        for nanos in [16, 17, 31, 32, 1_000, 1_000_000_007, u64::MAX] {
            let from = start(step(nanos));
            assert_eq!(step(from), step(nanos));
            assert!(from <= nanos && nanos - from <= nanos / 16, "{nanos} from {from}");
        }
    }
}
