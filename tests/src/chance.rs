//! Numbers that look like chance, and can be had again.

use std::time::{Duration, SystemTime};

/// A source of numbers that its seed decides (splitmix64).
pub struct Chance(u64);

impl Chance {
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// What `SEED` says, else another one each time.
    pub fn seed() -> u64 {
        match std::env::var("SEED") {
            Ok(seed) => seed.parse().expect("SEED is a whole number"),
            Err(_) => {
                let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
                u64::from(now.subsec_nanos()) % 1_000_000
            }
        }
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    /// An instant within so long.
    pub fn within(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros().max(1) as usize) as u64)
    }
}
