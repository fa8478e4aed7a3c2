//! How much data the jobs get.

/// Sizes of all jobs' data.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// MiB of text, and of records to sort in memory.
    pub mib: u64,
    /// MiB of records to sort with less memory.
    pub spilled: u64,
    /// Rows of a join, and keys of its large side.
    pub rows: u64,
    /// Keys of a join's small side, and of a skewed grouping.
    pub keys: u64,
    /// Nodes of a graph, which has ten times as many edges.
    pub nodes: u64,
    /// Points of the iterative jobs.
    pub points: u64,
    /// Darts thrown for π.
    pub samples: u64,
    /// Tasks that do nothing: ours and the peer's, of which it runs fewer in a second.
    pub tasks: [u64; 2],
    /// Captured strings.
    pub strings: [u64; 2],
    /// Runs of each side.
    pub runs: usize,
}

impl Size {
    /// What the bars are set for.
    pub const FULL: Self = Self {
        mib: 512,
        spilled: 4096,
        rows: 10_000_000,
        keys: 100_000,
        nodes: 1_000_000,
        points: 1_000_000,
        samples: 200_000_000,
        tasks: [200_000, 10_000],
        strings: [1_000_000, 8_000_000],
        runs: 3,
    };

    /// A look, not a result.
    pub const QUICK: Self = Self {
        mib: 64,
        spilled: 256,
        rows: 1_000_000,
        keys: 10_000,
        nodes: 100_000,
        points: 100_000,
        samples: 20_000_000,
        tasks: [100_000, 2_000],
        strings: [100_000, 1_000_000],
        runs: 1,
    };
}
