//! What applications have on this worker's disk, whoever wrote it: their executors count for themselves, and may have been broken out of.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingle_core::size::ByteSize;

use super::folders::Folders;
use super::processes::Processes;

/// How often it is looked, at most.
const EVERY: Duration = Duration::from_secs(1);
/// And no more than a part of the time is spent with that.
const PART: u32 = 20;

/// Ends executors of applications that have more than so many bytes here, as long as it is polled.
pub async fn watch(folders: Arc<Folders>, processes: Arc<Processes>, limit: u64) {
    loop {
        let (began, looked) = (Instant::now(), folders.clone());
        let look = move || {
            let applications = looked.applications().into_iter();
            let sizes = applications.map(|id| (looked.size(&id), id));
            sizes.filter(|(size, _)| *size > limit).collect::<Vec<_>>()
        };
        for (size, id) in tokio::task::spawn_blocking(look).await.unwrap_or_default() {
            let (size, limit) = (ByteSize(size), ByteSize(limit));
            let why = format!(
                "{id} has {size} on this worker's disk, more than --disk allows an application, {limit}"
            );
            if processes.kill_executors(&id, &why) {
                tracing::warn!("{why}: its executors are ended");
            }
        }
        tokio::time::sleep(EVERY.max(began.elapsed() * PART)).await;
    }
}

/// Bytes that a folder takes, without following links.
pub fn size(path: &Path) -> u64 {
    let mut size = 0u64;
    let mut left = vec![path.to_owned()];
    while let Some(folder) = left.pop() {
        // What goes meanwhile takes nothing.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            size = size.saturating_add(metadata.blocks().saturating_mul(512));
            if metadata.is_dir() {
                left.push(entry.path());
            }
        }
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_lies_in_a_folder_counts_and_nothing_beyond_links() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(elsewhere.path().join("large"), vec![1; 1 << 20]).unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("a/link")).unwrap();
        let small = size(dir.path());
        assert!(small < 100 << 10, "{small}");
        fs::write(dir.path().join("a/b/file"), vec![1; 200 << 10]).unwrap();
        // A file that is long, and takes nothing.
        fs::File::create(dir.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        let large = size(dir.path()) - small;
        assert!((200 << 10..300 << 10).contains(&large), "{large}");
    }
}
