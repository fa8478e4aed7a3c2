//! What can go wrong with bulk data, in words for the user.

use std::io;
use std::path::{Path, PathBuf};

use ingle_core::ids::StageId;
use ingle_core::memory::OutOfMemory;

use crate::disk::OutOfDisk;

/// The system's answer; on a worker, what a process may open depends on whom it runs as.
fn told(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{source}, as user {}", rustix::process::geteuid().as_raw())
        }
        _ => source.to_string(),
    }
}

/// An error of a task or of the driver's call, never of the host as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No grant covers the path.
    #[error("{verb} {0} isn't allowed: add {flag}={0}", show(path))]
    NotAllowed {
        /// What was tried: `reading`.
        verb: &'static str,
        /// The flag that would allow it.
        flag: &'static str,
        /// The path, absolute.
        path: PathBuf,
    },
    /// A granted path leads, by a symbolic link, to where no grant reaches.
    #[error(
        "{} leads out of what {flag} allows, by a symbolic link: allow what it points to",
        show(path)
    )]
    Escapes {
        /// The flag whose grant was left.
        flag: &'static str,
        /// The path, absolute.
        path: PathBuf,
    },
    /// Nothing is there.
    #[error("{} doesn't exist", show(.0))]
    NotFound(PathBuf),
    /// An output would replace something.
    #[error("{} exists already: choose another, or remove it", show(.0))]
    Exists(PathBuf),
    /// An output would replace what another job writes, or left.
    #[error(
        "{} exists already, unfinished: a job writes it, or was killed when it did; choose another, or remove it",
        show(.0)
    )]
    Unfinished(PathBuf),
    /// The system refused or failed.
    #[error("{doing} {}: {}", show(path), told(source))]
    Io {
        /// What was tried: `reading`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file's content isn't what it should be.
    #[error("{} {problem}", show(path))]
    BadInput {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The memory budget is used up.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The executor's disk is used up.
    #[error(transparent)]
    Disk(#[from] OutOfDisk),
    /// A task's shuffle output isn't there, or not as it was written.
    #[error(
        "the shuffle output of {stage}, partition {map}, attempt {attempt}, isn't there: it must be computed again"
    )]
    MissingOutput {
        /// The stage that makes it.
        stage: StageId,
        /// The task that makes it: its partition.
        map: u32,
        /// The attempt that was asked for.
        attempt: u32,
        /// The worker that holds it can't be reached, with all that it holds.
        whole: bool,
    },
    /// A spilled block isn't what was written.
    #[error(
        "a spilled block was changed on disk: {} at byte {offset} fails its checksum",
        show(path)
    )]
    Damaged {
        /// The spill file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
    },
    /// A request beyond a bound, or one that makes no sense.
    #[error("{0}")]
    Invalid(String),
}

/// A result whose error is for the user.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: the system's answer, with what was tried on which path.
    pub(crate) fn io<'a>(
        doing: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound(path.to_owned()),
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }

    /// Whether a disk is full: the machine's fault, and nothing that a retry on it would mend.
    pub fn is_disk_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if full.contains(&source.kind()))
    }

    pub(crate) fn bad(path: &Path, problem: impl Into<String>) -> Self {
        Self::BadInput { path: path.to_owned(), problem: problem.into() }
    }
}

/// A path for messages: names are chosen by others, so nothing in them may steer a terminal.
pub(crate) fn show(path: &Path) -> String {
    let volume = crate::offer::as_granted(path);
    let text = volume.map_or_else(|| path.to_string_lossy(), Into::into);
    text.replace(char::is_control, "\u{fffd}")
}
