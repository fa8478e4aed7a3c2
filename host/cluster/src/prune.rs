//! Folders of which only the latest entries are kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Hands the entries of a folder beyond the latest `keep` to `remove`, the oldest first.
pub fn oldest(dir: &Path, keep: usize, remove: impl FnMut(PathBuf)) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut all: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    all.sort();
    let excess = all.len().saturating_sub(keep);
    all.into_iter().take(excess).map(|(_, path)| path).for_each(remove);
}
