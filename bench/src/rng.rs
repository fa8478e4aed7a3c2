//! The random numbers of the Monte Carlo job, its twin and the made-up data: small, seeded, the same everywhere.

/// xorshift64*. The job `examples/pi` has the very same one, so that both sides throw the same darts.
#[derive(Clone, Debug)]
pub struct Xorshift(u64);

impl Xorshift {
    /// A generator for a small seed, such as a partition's number.
    pub fn new(seed: u64) -> Self {
        // The state must never be 0, and differ between seeds.
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number in `[0, 1)`: the upper 53 bits, as many as a double holds.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        // The upper half of the product is uniform but for a bias of bound/2^64.
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_interval_is_filled_evenly() {
        let mut rng = Xorshift::new(1);
        let mut tenths = [0u32; 10];
        for _ in 0..100_000 {
            tenths[(rng.unit() * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|n| (9_500..10_500).contains(n)), "{tenths:?}");
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut rng = Xorshift::new(7);
        let mut seen = [false; 5];
        (0..1_000).for_each(|_| seen[rng.below(5)] = true);
        assert_eq!(seen, [true; 5]);
    }
}
