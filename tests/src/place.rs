//! A test's own folder, and where what was built lies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::Rsubmit;
use crate::text::table;

const HINT: &str = "build everything, and run the tests, with `cargo xtask test`";

/// The folder of `rsubmit` and `ingle`: where cargo put this very test, but for its `deps`.
fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("INGLE_BIN") {
        return dir.into();
    }
    let test = std::env::current_exe().expect("this program has a path");
    test.ancestors().nth(2).expect("it lies in target/release/deps").to_owned()
}

/// A program that must have been built.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = bin_dir().join(name);
    assert!(path.is_file(), "{} isn't built: {HINT}", path.display());
    path
}

/// The component of an example or of a fixture.
pub fn guest(name: &str) -> PathBuf {
    let dir = match std::env::var_os("INGLE_GUESTS") {
        Some(dir) => PathBuf::from(dir),
        None => target_dir().join("guests"),
    };
    let path = dir.join(format!("{name}.wasm"));
    assert!(path.is_file(), "the job {} isn't built: {HINT}", path.display());
    path
}

/// Cargo's folder around the programs, for what is kept from test to test and from run to run.
pub(crate) fn target_dir() -> PathBuf {
    bin_dir().parent().expect("it isn't the root").to_owned()
}

/// A test's folder, gone when it is over; and one for temporary files, so that what a process forgets is gone as well.
pub struct Place {
    folder: TempDir,
    temporary: TempDir,
    /// What daemons keep: no job is granted a folder around that.
    kept: TempDir,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    pub fn new() -> Self {
        let folder = || tempfile::Builder::new().prefix("ingle-test-").tempdir();
        Self {
            folder: folder().expect("a temporary folder"),
            temporary: folder().expect("a temporary folder"),
            kept: folder().expect("a temporary folder"),
        }
    }

    /// A path in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A path of what daemons keep: `master`, `worker-0`.
    pub fn kept(&self, name: impl AsRef<Path>) -> PathBuf {
        self.kept.path().join(name)
    }

    /// Writes a file, and the folders above it.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders are made");
        fs::write(&path, bytes).expect("a file is written");
        path
    }

    pub fn read(&self, name: impl AsRef<Path>) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("reading {}: {e}", path.display()))
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The names in a folder, sorted.
    pub fn names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let path = self.path(folder);
        let entries =
            fs::read_dir(&path).unwrap_or_else(|e| panic!("listing {}: {e}", path.display()));
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        names
    }

    /// The parts of an output in order. It must be whole: `_SUCCESS`, and nothing but parts.
    pub fn parts(&self, out: &str) -> Vec<String> {
        let mut names = self.names(out);
        let success = names.iter().position(|name| name == "_SUCCESS");
        names.remove(success.unwrap_or_else(|| panic!("{out} has no _SUCCESS: {names:?}")));
        let expected: Vec<_> = (0..names.len()).map(|n| format!("part-{n:05}")).collect();
        assert_eq!(names, expected);
        names.iter().map(|name| self.read(Path::new(out).join(name))).collect()
    }

    /// An output of lines `key<TAB>value`. No key may come twice.
    pub fn table(&self, out: &str) -> BTreeMap<String, String> {
        table(&self.parts(out))
    }

    /// What processes forgot in the folder for temporary files.
    pub fn forgotten(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.temporary.path()).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// `rsubmit` in this folder, of one of the jobs that were built, with nothing granted.
    pub fn rsubmit(&self, job: &str) -> Rsubmit {
        self.rsubmit_file(guest(job))
    }

    /// As [`Place::rsubmit`], in a folder of this one.
    pub fn rsubmit_in(&self, folder: &str, job: &str) -> Rsubmit {
        Rsubmit::new(&self.path(folder), self.temporary.path(), guest(job))
    }

    /// As [`Place::rsubmit`], with leave to read and write all of this folder.
    pub fn rsubmit_granted(&self, job: &str) -> Rsubmit {
        self.rsubmit(job).flag("--allow-read=.").flag("--allow-write=.")
    }

    /// `rsubmit` in this folder, of any file.
    pub fn rsubmit_file(&self, job: impl Into<PathBuf>) -> Rsubmit {
        Rsubmit::new(self.folder.path(), self.temporary.path(), job.into())
    }
}
