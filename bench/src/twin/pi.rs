//! π by throwing darts at a square.

use anyhow::Result;

use super::threads::{self, Threads};
use crate::rng::Xorshift;

/// Estimates π. The first partitions throw the darts that don't divide evenly.
///
/// A partition throws with the generator seeded by its number, x before y, as the job `examples/pi`
/// does: both come to the same estimate.
pub fn pi(samples: u64, partitions: u64, threads: Threads) -> Result<f64> {
    let hits = threads::fold(
        threads,
        partitions as usize,
        || 0,
        |hits, i| {
            let i = i as u64;
            let darts = samples / partitions + u64::from(i < samples % partitions);
            *hits += throw(i, darts);
            Ok(())
        },
    )?;
    Ok(4.0 * hits.into_iter().sum::<u64>() as f64 / samples as f64)
}

/// How many of a partition's darts hit the circle.
fn throw(partition: u64, darts: u64) -> u64 {
    let mut rng = Xorshift::new(partition);
    let mut hits = 0;
    for _ in 0..darts {
        let (x, y) = (rng.unit() * 2.0 - 1.0, rng.unit() * 2.0 - 1.0);
        hits += u64::from(x * x + y * y <= 1.0);
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_is_near_and_does_not_depend_on_threads() {
        let one = pi(1_000_003, 7, Threads::MIN).unwrap();
        assert_eq!(one, pi(1_000_003, 7, Threads::new(3).unwrap()).unwrap());
        assert!((one - std::f64::consts::PI).abs() < 0.01, "{one}");
    }
}
