//! Bulk data at the host: what jobs read, shuffle, cache, and write.
//!
//! Everything here is synchronous and called from slots, which are plain threads. Inputs and outputs go through
//! capabilities ([`Grants`]); what stays inside goes through one [`BlockStore`] an executor, which charges the
//! executor's memory and moves blocks to disk when that is short.

mod block_reader;
mod cache;
mod disk;
mod error;
mod evict;
mod folder_output;
#[doc(hidden)]
pub mod fuzzing;
mod grants;
mod input;
mod listing;
mod mounts;
mod objects;
mod offer;
mod output;
mod pace;
mod packer;
mod parts;
mod ranges;
mod reader;
mod runs;
mod segment;
mod serving;
mod shared_dir;
mod shuffle_dir;
mod shuffle_reader;
mod sources;
mod spill;
mod store;
pub mod trees;
mod writer;

pub use block_reader::BlockReader;
pub use cache::{CacheWriter, CachedStats, StorageLevel};
pub use disk::{Disk, DiskCharge, OutOfDisk, usual_disk};
pub use error::{Error, Result};
pub use grants::{Grants, Preopen, Resolved};
pub use input::Compression as FileCompression;
pub use objects::S3Options;
pub use offer::{Offer, Paths, VOLUMES, Volume};
pub use output::{Output, OutputFile, OutputTarget};
pub use parts::Parts;
pub use ranges::{MAX_RANGE, RangeReader};
pub use reader::{ReadOptions, SplitDescription, SplitReader};
pub use runs::{Loaded, ResultBuffer, RunSet, TaskResult};
pub use serving::{BLOCK_COST, Served, Serving};
pub use shuffle_dir::{Compression, Had, Head, MAX_BLOCK, RemoteBlock, ShuffleDir};
pub use shuffle_reader::{Fetch, Fetched, MapOutput, Place, RemoteBlocks, ShuffleReader};
pub use sources::{Framing, Source, SourceParts};
pub use spill::SpillFolder;
pub use store::{BlockStore, StoreStats, TaskOutput};
pub use writer::{Token, Writer};

#[cfg(test)]
mod tests;
