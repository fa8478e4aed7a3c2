//! Jobs that were uploaded for drivers in cluster mode, by their hash.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ingle_sandbox::ComponentHash;

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

    /// A job's file.
    pub fn get(&self, hash: ComponentHash) -> Option<Vec<u8>> {
        fs::read(self.0.join(hash.to_string())).ok()
    }

    /// Keeps a job's file, whose hash was checked.
    pub fn put(&self, hash: ComponentHash, bytes: &[u8]) -> Result<(), String> {
        let path = self.0.join(hash.to_string());
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|e| format!("keeping the job: {e}"))?;
        prune::oldest(&self.0, MAX_JOBS, |path| {
            // A driver that starts now asks again.
            let _ = fs::remove_file(path);
        });
        Ok(())
    }
}
