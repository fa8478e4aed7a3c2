//! Random numbers that are the same in every run.

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    /// A stream of its own for each partition.
    pub(crate) fn for_partition(seed: u64, partition: usize) -> Random {
        let mut mixer = Random(seed ^ (partition as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93));
        Random(mixer.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Below a bound that is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// How often something happens that happens so often on average.
    pub(crate) fn poisson(&mut self, mean: f64) -> usize {
        // In steps: the exponential of a large mean is 0.
        let (mut left, mut count) = (mean.max(0.0), 0);
        while left > 0.0 {
            let step = left.min(16.0);
            left -= step;
            let floor = (-step).exp();
            let mut product = self.uniform();
            while product > floor {
                count += 1;
                product *= self.uniform();
            }
        }
        count
    }
}
