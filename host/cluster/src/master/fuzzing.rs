//! As [`crate::fuzzing`].

use std::path::Path;

use ingle_core::master::Policy;

use super::shell::Shell;
use super::store::Store;

/// A master's shell, with its state in a folder.
pub fn shell(dir: &Path, policy: Policy) -> Result<Shell, String> {
    Shell::new(policy, Store::open(dir)?)
}
