//! Files that hold what memory doesn't.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, fallocate, flock};
use tempfile::TempDir;

use crate::disk::{Disk, DiskCharge};
use crate::error::{Error, Result};
use crate::trees;

const NAME: &str = "ingle-spill-";
/// A folder that was changed since may be one that its process has not locked yet.
const FRESH: Duration = Duration::from_secs(60);
/// As many entries of its parent are looked at.
const MOST: usize = 100_000;

/// A private folder (mode 0700) of spill files, and of shuffle output where nobody else is to read it; removed when the last of them is gone; if the process is killed before that, by the next
/// that makes one beside it.
pub struct SpillFolder {
    folder: TempDir,
    files: AtomicU64,
    /// What is charged for them, if anything is.
    disk: OnceLock<Disk>,
    /// Locked for as long as this process lives.
    _lock: File,
}

impl SpillFolder {
    /// Makes one in `parent`, which exists.
    pub fn new(parent: &Path) -> Result<Arc<Self>> {
        let made = || {
            let mut folder = tempfile::Builder::new();
            folder.prefix(NAME).permissions(Permissions::from_mode(0o700));
            let folder = folder.tempdir_in(parent)?;
            let lock = File::open(folder.path())?;
            // Where there are no locks, nothing is taken for left behind either.
            let _ = flock(&lock, FlockOperation::NonBlockingLockExclusive);
            Ok((folder, lock))
        };
        let made = made().map_err(Error::io("making a folder for spilled blocks in", parent))?;
        remove_left(parent);
        let (mut folder, lock) = made;
        // It is removed by hand.
        folder.disable_cleanup(true);
        Ok(Arc::new(Self { folder, files: AtomicU64::new(0), disk: OnceLock::new(), _lock: lock }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What is written from now on is charged.
    pub(crate) fn charge(&self, disk: &Disk) {
        // Once is enough.
        let _ = self.disk.set(disk.clone());
    }

    /// What is charged.
    pub(crate) fn disk(&self) -> Option<&Disk> {
        self.disk.get()
    }

    /// Removes the folder with all that is in it, whoever still holds it.
    pub(crate) fn remove(&self) {
        let folder = self.path();
        // A guest that broke out may have been there.
        if let Err(error) = trees::remove(folder, &|| true) {
            tracing::warn!(%error, folder = %folder.display(), "spilled blocks could not be removed");
        }
    }
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes what processes of this user left that were killed: nobody holds the lock of such a folder.
fn remove_left(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().take(MOST).flatten();
    for entry in entries.filter(|entry| entry.file_name().as_bytes().starts_with(NAME.as_bytes())) {
        let path = entry.path();
        let left = || -> std::io::Result<bool> {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
            let folder = File::from(rustix::fs::open(&path, flags, Mode::empty())?);
            let metadata = folder.metadata()?;
            let age = metadata.modified()?.elapsed().unwrap_or_default();
            if age < FRESH || metadata.uid() != rustix::process::geteuid().as_raw() {
                return Ok(false);
            }
            flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
            // Under the lock, so that of several only one does.
            trees::remove(&path, &|| true)?;
            Ok(true)
        };
        if let Ok(true) = left() {
            tracing::info!(folder = %path.display(), "removed what a killed process had spilled");
        }
    }
}

/// One task's spilled bytes, appended to by whoever evicts. Made on the first append, removed on drop.
///
/// The file is open only while somebody reads or writes it: a job may have more spilled outputs than the process may
/// have files open.
pub(crate) struct SpillFile {
    folder: Arc<SpillFolder>,
    path: PathBuf,
    end: AtomicU64,
    handle: Mutex<Weak<File>>,
    charge: Mutex<Option<DiskCharge>>,
    /// What nobody needs goes before the file does.
    holes: AtomicBool,
}

/// Less isn't given back by itself.
const BLOCK: u64 = 4096;

impl SpillFile {
    pub fn new(folder: &Arc<SpillFolder>) -> Arc<Self> {
        let number = folder.files.fetch_add(1, Ordering::Relaxed);
        let path = folder.path().join(format!("{number:08}"));
        Arc::new(Self {
            folder: folder.clone(),
            path,
            end: AtomicU64::new(0),
            handle: Mutex::default(),
            charge: Mutex::new(folder.disk.get().map(Disk::charge)),
            holes: AtomicBool::new(false),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, shared with others who have it open.
    pub fn open(&self) -> Result<Arc<File>> {
        let mut handle = self.handle.lock();
        if let Some(file) = handle.upgrade() {
            return Ok(file);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(Error::io("opening the spill file", &self.path))?;
        let file = Arc::new(file);
        *handle = Arc::downgrade(&file);
        Ok(file)
    }

    /// From now on, what is freed goes at once; or it goes with the file.
    pub fn set_holes(&self, holes: bool) {
        self.holes.store(holes, Ordering::Relaxed);
    }

    /// What was appended there is needed no more. Where that can't be given back, it is when the file goes.
    pub fn free(&self, at: u64, length: u64) {
        // A file system has whole blocks.
        let (from, to) = (at.next_multiple_of(BLOCK), (at + length) / BLOCK * BLOCK);
        if !self.holes.load(Ordering::Relaxed) || from >= to {
            return;
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let freed = self.open().is_ok_and(|file| fallocate(&*file, flags, from, to - from).is_ok());
        if let (true, Some(charge)) = (freed, &mut *self.charge.lock()) {
            charge.shrink(to - from);
        }
    }

    /// Appends `bytes` and says where they begin. After a failure their place stays unused.
    pub fn append(&self, bytes: &[u8]) -> Result<u64> {
        if let Some(charge) = &mut *self.charge.lock() {
            charge.grow(bytes.len() as u64)?;
        }
        if let Some(disk) = self.folder.disk() {
            disk.note_write(bytes.len() as u64);
        }
        let file = self.open()?;
        let at = self.end.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        file.write_all_at(bytes, at).map_err(Error::io("writing the spill file", &self.path))?;
        Ok(at)
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        if *self.end.get_mut() > 0
            && let Err(error) = fs::remove_file(&self.path)
        {
            let folder = self.folder.path();
            tracing::debug!(%error, file = %self.path.display(), "left to the removal of {}", folder.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn make_old(folder: &Path) {
        let long_ago = SystemTime::now() - 2 * FRESH;
        File::open(folder).unwrap().set_modified(long_ago).unwrap();
    }

    #[test]
    fn what_a_killed_process_left_goes_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let made = ["ingle-spill-killed", "ingle-spill-new", "of-somebody-else", "precious"];
        let made = made.map(|name| parent.path().join(name));
        for folder in &made {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("00000001"), "x").unwrap();
        }
        let link = parent.path().join("ingle-spill-link");
        std::os::unix::fs::symlink("precious", &link).unwrap();
        let lives = SpillFolder::new(parent.path()).unwrap();
        for folder in [&made[0], &made[2], &made[3], &lives.path().to_owned()] {
            make_old(folder);
        }
        let next = SpillFolder::new(parent.path()).unwrap();
        assert!(!made[0].exists());
        assert!(made[1..].iter().all(|folder| folder.join("00000001").exists()));
        assert!(lives.path().exists() && next.path().exists() && link.exists());
    }
}
