//! What tests of whole processes share: a folder each, `rsubmit` on a job in it, and asserts that show all that was said.
//!
//! Programs and jobs are those that `cargo xtask test` builds; `INGLE_BIN` and `INGLE_GUESTS` name other folders.

mod cgroups;
mod chance;
mod cluster;
mod disk;
mod net;
pub mod peer;
mod place;
mod process;
pub mod s3;
mod text;

pub use cgroups::groups_of;
pub use chance::Chance;
pub use cluster::{Cluster, of_a_host_panic, peak, wait_until};
pub use disk::Disk;
pub use net::{Host, Net};
pub use place::{Place, guest};
pub use process::{Rsubmit, Run, Running, ingle, missing_walls};
pub use text::{lines, text, texts};
