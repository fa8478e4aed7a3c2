//! What memory is used for, and bytes by use.

use std::fmt;

use crate::size::ByteSize;

/// What a reservation is for: the words of a refusal, and of the report at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryUse {
    /// Linear memories and tables of tasks.
    Guest,
    /// Images of the driver that tasks start from.
    Image,
    /// Shuffle output and results held by the host.
    Shuffle,
    /// Cached partitions.
    Cache,
    /// Input buffers of the host.
    Input,
}

impl MemoryUse {
    /// All there are, in the order of [`Usage`].
    pub const ALL: [Self; 5] = [Self::Guest, Self::Image, Self::Shuffle, Self::Cache, Self::Input];

    /// What people call it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Guest => "guests",
            Self::Image => "driver images",
            Self::Shuffle => "shuffle and results",
            Self::Cache => "cached partitions",
            Self::Input => "input buffers",
        }
    }
}

/// Bytes by use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage(pub(super) [u64; MemoryUse::ALL.len()]);

impl Usage {
    /// Bytes of each use.
    pub fn by(mut bytes: impl FnMut(MemoryUse) -> u64) -> Self {
        Self(MemoryUse::ALL.map(&mut bytes))
    }

    /// Bytes of one use.
    pub fn of(&self, what: MemoryUse) -> u64 {
        self.0[what as usize]
    }

    /// Bytes in all. What a peer says may add up to more than there is.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut used: Vec<_> = MemoryUse::ALL.into_iter().filter(|u| self.of(*u) > 0).collect();
        used.sort_by_key(|u| std::cmp::Reverse(self.of(*u)));
        if used.is_empty() {
            return f.write_str("nothing yet");
        }
        for (i, u) in used.into_iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", u.words(), ByteSize(self.of(u)))?;
        }
        Ok(())
    }
}
