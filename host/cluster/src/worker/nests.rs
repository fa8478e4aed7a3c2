//! Folders as somebody makes them who means harm, for tests.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, mkdirat, openat};

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// Where many folders are quickly made and removed, if there is such a place.
pub fn place() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).unwrap()
}

/// Folders in each other, deeper than any path can say, with a file in the last one.
pub fn nest(top: &Path, depth: usize) {
    let name = "x".repeat(200);
    let mut folder: OwnedFd = fs::File::open(top).unwrap().into();
    for _ in 0..depth {
        mkdirat(&folder, &*name, Mode::RWXU).unwrap();
        folder = openat(&folder, &*name, FOLDER, Mode::empty()).unwrap();
    }
    let file = openat(&folder, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    rustix::io::write(file, b"x").unwrap();
}
