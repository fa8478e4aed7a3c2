//! Output folders of the native runner.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::actions::Compression;
use crate::host::OutputSpec;

/// A folder that is being written. Nothing shows in it before its commit; dropped before that, it is removed.
pub(crate) struct Output {
    path: PathBuf,
    extension: &'static str,
    compression: Compression,
    /// By partition.
    files: BTreeMap<u32, Vec<u8>>,
    committed: bool,
}

impl Output {
    /// Makes the folder, and those above it. Fails if it exists.
    pub(crate) fn open(spec: OutputSpec<'_>) -> Result<Output, String> {
        let OutputSpec { path, extension, compression } = spec;
        let path = PathBuf::from(path);
        let made = match path.parent() {
            Some(parent) => fs::create_dir_all(parent).and_then(|()| fs::create_dir(&path)),
            None => fs::create_dir(&path),
        };
        made.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                format!("{} exists already: choose another, or remove it", path.display())
            }
            _ => format!("{}: {error}", path.display()),
        })?;
        Ok(Output { path, extension, compression, files: BTreeMap::new(), committed: false })
    }

    fn part(&self, partition: u32) -> String {
        let compressed = match self.compression {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
        };
        format!("part-{partition:05}{}{compressed}", self.extension)
    }

    /// Takes what a partition's task wrote.
    pub(crate) fn add(&mut self, partition: u32, bytes: Vec<u8>) {
        self.files.insert(partition, bytes);
    }

    /// Writes all files, then `_SUCCESS`.
    pub(crate) fn commit(mut self) -> Result<(), String> {
        let parts = self.files.iter().map(|(partition, bytes)| {
            compressed(bytes, self.compression).map(|bytes| (self.part(*partition), bytes))
        });
        for part in parts.chain([Ok(("_SUCCESS".to_owned(), Vec::new()))]) {
            let (name, bytes) =
                part.map_err(|error| format!("{}: {error}", self.path.display()))?;
            let path = self.path.join(name);
            fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        self.committed = true;
        Ok(())
    }
}

fn compressed(bytes: &[u8], compression: Compression) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(bytes.to_vec()),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Compression::Zstd => Ok(compress_to_vec(bytes, CompressionLevel::Fastest)),
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.committed {
            // What can't be removed is no reason to fail as well.
            for partition in self.files.keys() {
                let _ = fs::remove_file(self.path.join(self.part(*partition)));
            }
            let _ = fs::remove_dir(&self.path);
        }
    }
}
