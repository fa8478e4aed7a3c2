//! A disk that is small, and can be filled.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own on a folder, unmounted when it is dropped.
pub struct Disk(PathBuf);

const SIZE: &str = "size=64m";

fn run(program: &str, args: &[&str], path: &Path) -> Result<(), String> {
    let output = Command::new(program).args(args).arg(path).output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

impl Disk {
    /// The error says why this machine lets us have none.
    pub fn mount(path: PathBuf) -> Result<Self, String> {
        fs::create_dir_all(&path).expect("a folder");
        run("mount", &["-t", "tmpfs", "-o", SIZE, "tmpfs"], &path)?;
        Ok(Self(path))
    }

    /// Leaves room for so many bytes.
    pub fn fill(&self, but: usize) {
        let path = self.0.join("filler");
        let mut filler = File::create(&path).expect("a file");
        let block = vec![1; 64 << 10];
        let full = loop {
            if let Err(error) = filler.write_all(&block) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
        let length = filler.metadata().expect("its length").len();
        filler.set_len(length.saturating_sub(but as u64)).expect("it shrinks");
    }

    pub fn empty(&self) {
        fs::remove_file(self.0.join("filler")).expect("it was filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What still looks at it doesn't keep the folder from being removed.
        if let Err(why) = run("umount", &["--lazy"], &self.0) {
            eprintln!("{}: {why}", self.0.display());
        }
    }
}
