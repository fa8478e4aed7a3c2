//! Files that hold what memory doesn't.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::error::{Error, Result};

/// A private folder (mode 0700) of spill files, removed when the last of them is gone.
pub(crate) struct SpillFolder {
    folder: TempDir,
    files: AtomicU64,
}

impl SpillFolder {
    pub fn new(parent: &Path) -> Result<Arc<Self>> {
        let folder = tempfile::Builder::new()
            .prefix("ingle-spill-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .map_err(Error::io("making a folder for spilled blocks in", parent))?;
        Ok(Arc::new(Self { folder, files: AtomicU64::new(0) }))
    }

    /// Removes the folder with all that is in it, whoever still holds it.
    pub fn remove(&self) {
        let folder = self.folder.path();
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, folder = %folder.display(), "spilled blocks could not be removed");
            }
            _ => {}
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
}

impl SpillFile {
    pub fn new(folder: &Arc<SpillFolder>) -> Arc<Self> {
        let number = folder.files.fetch_add(1, Ordering::Relaxed);
        let path = folder.folder.path().join(format!("{number:08}"));
        Arc::new(Self {
            folder: folder.clone(),
            path,
            end: AtomicU64::new(0),
            handle: Mutex::default(),
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

    /// Appends `bytes` and says where they begin. After a failure their place stays unused.
    pub fn append(&self, bytes: &[u8]) -> Result<u64> {
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
            let folder = self.folder.folder.path();
            tracing::debug!(%error, file = %self.path.display(), "left to the removal of {}", folder.display());
        }
    }
}
