//! Parquet files, read and written by serde. Behind the feature `parquet`.
//!
//! No arrow: the crate `parquet` decodes pages to values, and rows are put together from these right into the job's own types. A task opens
//! its file itself, reads the footer, and then of its row groups the columns that it wants.

mod byte;
mod cells;
mod columns;
mod file;
mod filter;
mod gather;
mod infer;
mod pages;
mod parts;
mod predicate;
mod read;
mod rows;
mod save;
mod schema;
mod shape;
mod values;
mod write;

pub use predicate::{Column, Literal, Predicate, col};
pub use read::ParquetFile;
pub use save::{ParquetCodec, ParquetOptions};
