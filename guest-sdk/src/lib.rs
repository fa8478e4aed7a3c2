//! Write jobs for Ingle.
//!
//! A job is a crate with one function, its driver. The closures it gives to datasets and tasks may capture anything
//! they own: tasks are forks of the driver.
//!
//! ```
//! # mod job {
//! use ingle::prelude::*;
//!
//! #[ingle::main]
//! fn main(ctx: &Context) -> Result<()> {
//!     let words = ["to", "be", "or", "not", "to", "be"];
//!     let counts = ctx.parallelize(words.map(String::from), 2).map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b);
//!     for (word, n) in counts.sort_by_key(true).collect()? {
//!         println!("{word}\t{n}");
//!     }
//!     Ok(())
//! }
//! # pub fn run() -> Result<()> {
//! #     main(&Context::local())
//! # }
//! # }
//! # fn main() {
//! #     job::run().unwrap();
//! # }
//! ```
//!
//! A native build runs the same API in its own process ([`Context::local`]), so that a job's logic is tested by `cargo test`.

mod accumulator;
mod actions;
mod aggregate;
mod broadcast;
mod cartesian;
mod checkpoint;
mod codec;
mod context;
mod dataset;
mod error;
mod explain;
mod host;
mod job;
mod join;
mod narrow;
mod pairs;
#[cfg(feature = "parquet")]
pub mod parquet;
mod partitioning;
mod persist;
mod pieces;
mod placed;
mod plan;
mod random;
mod sets;
mod settings;
mod shuffle;
mod sort;
mod sources;
mod stage;
mod str;
mod table;
mod task;
mod tasks;
#[cfg(target_family = "wasm")]
mod wasm;
mod wide;

pub use anyhow::{anyhow, bail, ensure};
pub use ingle_macros::main;

pub use crate::accumulator::{Accumulate, Accumulator};
pub use crate::actions::{Compression, JobHandle, Number, Stats};
pub use crate::broadcast::Broadcast;
pub use crate::codec::Record;
pub use crate::context::Context;
pub use crate::dataset::Dataset;
pub use crate::error::{Error, Result};
pub use crate::host::StorageLevel;
pub use crate::partitioning::{Partitioning, by_hash};
pub use crate::plan::{Boxed, Lineage, Plan};
pub use crate::str::{Fields, Str, Words};
pub use crate::task::{TaskContext, TaskScope};
pub use crate::tasks::TaskResults;

/// The types of plans, for who must name them; `.boxed()` spares that.
pub mod plans {
    pub use crate::aggregate::Aggregated;
    pub use crate::cartesian::Cartesian;
    pub use crate::checkpoint::Checkpointed;
    pub use crate::join::{
        BroadcastJoined, CoGrouped, FullOuter, Inner, Joined, Kind, LeftOuter, RightOuter, Without,
    };
    pub use crate::narrow::*;
    #[cfg(feature = "parquet")]
    pub use crate::parquet::ParquetFile;
    pub use crate::persist::{Cached, Persisted};
    pub use crate::pieces::Pieces;
    pub use crate::placed::PartitionedBy;
    pub use crate::shuffle::Exchanged;
    pub use crate::sort::{Sorted, SortedWithin};
    pub use crate::sources::{CsvFile, JsonLines, Parallelized, RangeOf, TextFile, WholeFiles};
}

/// What a job needs, by `use ingle::prelude::*`.
pub mod prelude {
    pub use anyhow::Context as _;

    pub use crate::{
        Boxed, Compression, Context, Dataset, Error, Plan, Result, StorageLevel, Str, TaskContext,
        anyhow, bail, by_hash, ensure,
    };
}

/// What `#[ingle::main]` expands to. Not for anyone else.
#[doc(hidden)]
pub mod __private {
    #[cfg(target_family = "wasm")]
    pub use crate::wasm::bindings::{self, export, exports::ingle::job::main::Guest};
    #[cfg(target_family = "wasm")]
    pub use crate::wasm::roles::{Outcome, drive, run};
}
