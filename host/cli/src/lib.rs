//! `rsubmit` and `ingle`: what a user types and reads.

mod access;
mod cluster;
mod compiling;
mod config;
mod console;
pub mod daemons;
pub mod doctor;
mod exit;
#[doc(hidden)]
pub mod fuzzing;
mod job_file;
mod machine;
mod master;
mod options;
mod policy;
mod settings;
mod submit;
mod summary;
pub mod terminal;
pub mod verbs;
mod walls;

pub use compiling::be_compiler;
pub use exit::{Code, Failure};
pub use options::Options;
pub use submit::submit;
