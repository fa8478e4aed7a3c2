//! Jobs that were uploaded for drivers in cluster mode, by their hash.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ingle_sandbox::ComponentHash;
use tempfile::NamedTempFile;

use crate::prune;

/// Jobs beyond this many are removed, the oldest first.
const MAX_JOBS: usize = 200;

/// The folder of uploaded jobs.
#[derive(Clone)]
pub struct Components(PathBuf);

impl Components {
    /// The folder in the master's own.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let dir = dir.join("components");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|e| format!("making {}: {e}", dir.display()))?;
        Ok(Self(dir))
    }

    /// Whether it is there.
    pub fn has(&self, hash: ComponentHash) -> bool {
        self.0.join(hash.to_string()).exists()
    }

    /// A job's file, to be read.
    pub fn read(&self, hash: ComponentHash) -> Option<File> {
        File::open(self.0.join(hash.to_string())).ok()
    }

    /// A file to write a job to. Dropped, it is removed.
    pub fn begin(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().suffix(".tmp").tempfile_in(&self.0)
    }

    /// Keeps a job's file, whose hash was checked.
    pub fn keep(&self, hash: ComponentHash, file: NamedTempFile) -> io::Result<()> {
        file.persist(self.0.join(hash.to_string())).map_err(|e| e.error)?;
        prune::oldest(&self.0, MAX_JOBS, |path| {
            // A driver that starts now asks again.
            let _ = fs::remove_file(path);
        });
        Ok(())
    }
}
