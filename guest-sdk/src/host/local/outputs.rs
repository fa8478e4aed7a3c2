//! Output folders of the native runner.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

/// A folder that is being written. Nothing shows in it before its commit; dropped before that, it is removed.
pub(crate) struct Output {
    path: PathBuf,
    /// By partition.
    files: BTreeMap<u32, Vec<u8>>,
    committed: bool,
}

impl Output {
    /// Makes the folder, and those above it. Fails if it exists.
    pub(crate) fn open(path: &str) -> Result<Output, String> {
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
        Ok(Output { path, files: BTreeMap::new(), committed: false })
    }

    /// Takes what a partition's task wrote.
    pub(crate) fn add(&mut self, partition: u32, bytes: Vec<u8>) {
        self.files.insert(partition, bytes);
    }

    /// Writes all files, then `_SUCCESS`.
    pub(crate) fn commit(mut self) -> Result<(), String> {
        let parts = self.files.iter().map(|(partition, bytes)| (part(*partition), &bytes[..]));
        for (name, bytes) in parts.chain([("_SUCCESS".to_owned(), &b""[..])]) {
            let path = self.path.join(name);
            fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        self.committed = true;
        Ok(())
    }
}

fn part(partition: u32) -> String {
    format!("part-{partition:05}")
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.committed {
            // What can't be removed is no reason to fail as well.
            for partition in self.files.keys() {
                let _ = fs::remove_file(self.path.join(part(*partition)));
            }
            let _ = fs::remove_dir(&self.path);
        }
    }
}
