//! A folder of part files.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A new folder of part files, closed by `_SUCCESS`.
pub struct Output(PathBuf);

impl Output {
    /// Makes the folder; it must not exist.
    pub fn create(path: &Path) -> Result<Self> {
        fs::create_dir(path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// Writes one part.
    pub fn part<T>(
        &self,
        number: usize,
        write: impl FnOnce(&mut BufWriter<File>) -> Result<T>,
    ) -> Result<T> {
        let path = self.0.join(format!("part-{number:05}"));
        let file =
            File::create_new(&path).with_context(|| format!("can't make {}", path.display()))?;
        let mut writer = BufWriter::with_capacity(256 << 10, file);
        let value = write(&mut writer)?;
        writer.flush().with_context(|| format!("can't write {}", path.display()))?;
        Ok(value)
    }

    /// Says that all parts are there.
    pub fn commit(self) -> Result<()> {
        File::create_new(self.0.join("_SUCCESS"))?;
        Ok(())
    }
}
