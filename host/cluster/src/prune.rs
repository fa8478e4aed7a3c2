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

/// Removes the oldest files of a folder beyond `keep`, or beyond so many bytes, but for those that are in use.
pub fn files(dir: &Path, keep: usize, most_bytes: u64, in_use: impl Fn(&Path) -> bool) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut all: Vec<(SystemTime, u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            Some((meta.modified().ok()?, meta.len(), entry.path()))
        })
        .collect();
    all.sort();
    let mut bytes = 0;
    for (place, (_, size, path)) in all.iter().rev().enumerate() {
        bytes += size;
        if (place >= keep || bytes > most_bytes) && !in_use(path) {
            // Somebody else may have removed it.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_files_go_unless_they_are_in_use() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..6_u64 {
            let file = fs::File::create(dir.path().join(n.to_string())).unwrap();
            file.set_len(10).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(n)).unwrap();
        }
        let left = || {
            let names = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names.concat()
        };
        let first = |path: &Path| path.ends_with("0");
        files(dir.path(), 4, u64::MAX, first);
        assert_eq!(left(), "02345");
        files(dir.path(), 10, 35, first);
        assert_eq!(left(), "0345");
        files(dir.path(), 0, 0, first);
        assert_eq!(left(), "0");
    }
}
