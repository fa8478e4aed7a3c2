//! Records that a seed decides.

/// Two datasets: some keys come often, most seldom, and each dataset has keys that the other lacks.
#[derive(Clone, Copy)]
pub struct Records {
    seed: u64,
    size: u64,
}

impl Records {
    pub fn new(seed: u64, size: u64) -> Self {
        Self { seed, size }
    }

    pub fn lefts(self) -> u64 {
        self.size
    }

    pub fn rights(self) -> u64 {
        self.size / 2
    }

    pub fn left(self, n: u64) -> (String, u64) {
        (self.key(n, 1, 0), n)
    }

    pub fn right(self, n: u64) -> (String, u64) {
        (self.key(n, 2, self.size / 8), n)
    }

    fn key(self, n: u64, stream: u64, from: u64) -> String {
        let chance = mix(self.seed ^ mix(n.wrapping_mul(2) + stream));
        let key = match chance % 16 {
            // Some come often, but not so that each with each would be too many.
            0 => from + (chance >> 8) % (self.size / 64 + 1),
            _ => from + (chance >> 8) % (self.size / 2 + 1),
        };
        // Some are short, some aren't.
        if key % 3 == 0 { format!("k{key}") } else { format!("a longer key: {key}") }
    }
}

/// splitmix64
pub fn mix(n: u64) -> u64 {
    let mut mixed = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A place for a key.
#[allow(clippy::ptr_arg, reason = "keys are such")]
pub fn len(key: &String) -> usize {
    key.len()
}

#[allow(clippy::ptr_arg, reason = "keys are such")]
pub fn is_rare(key: &String) -> bool {
    key.ends_with("777")
}
