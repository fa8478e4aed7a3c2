//! `rsubmit` and `ingle`: what a user types and reads.

mod access;
mod console;
mod exit;
mod job_file;
mod machine;
mod master;
mod options;
mod settings;
mod submit;

pub use exit::{Code, Failure};
pub use options::Options;
pub use submit::submit;
