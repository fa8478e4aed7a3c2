//! Behaviour that spans files of this crate.

mod disk;
mod lines;
mod outputs;
mod pressure;
mod ranges;
mod shuffle_files;
mod sources;
mod store;

use std::path::PathBuf;
use std::sync::Arc;

use ingle_core::memory::MemoryPool;
use ingle_core::size::ByteSize;
use tempfile::TempDir;

use crate::{Grants, MapOutput, Place, ReadOptions, Result, ShuffleReader};

/// The first attempts of so many map tasks.
fn outputs(maps: u32) -> Arc<[MapOutput]> {
    (0..maps).map(|map| MapOutput { map, attempt: 0, place: Place::Here }).collect()
}

fn drain_shuffle(mut reader: ShuffleReader) -> Result<Vec<Vec<u8>>> {
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block()? {
        blocks.push(block.to_vec());
    }
    Ok(blocks)
}

/// A folder that a job may read and write, as `.`.
struct Home {
    folder: TempDir,
    grants: Arc<Grants>,
    pool: MemoryPool,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let all = [PathBuf::from(".")];
        let grants = Arc::new(Grants::new_in(folder.path(), &all, &all).unwrap());
        Self { folder, grants, pool: MemoryPool::new(ByteSize(1 << 30)) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn options(&self) -> ReadOptions {
        ReadOptions::new(self.pool.clone())
    }

    /// The names below a folder, sorted.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
