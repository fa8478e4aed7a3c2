//! How a process that a worker started says that it can't go on.

use std::process::ExitStatus;

/// The exit code of one whose job isn't given here what it is granted: `EX_NOPERM` of sysexits.h.
const REFUSED: u8 = 77;

/// Why a process of a worker ends.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// This host doesn't give its job what it is granted. Another may.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for Broken {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl Broken {
    /// With more words.
    pub(crate) fn and(self, more: &str) -> Self {
        match self {
            Self::Refused(why) => Self::Refused(why + more),
            Self::Failed(why) => Self::Failed(why + more),
        }
    }

    /// What the process exits with, for its worker.
    pub fn code(&self) -> u8 {
        match self {
            Self::Refused(_) => REFUSED,
            Self::Failed(_) => 1,
        }
    }
}

/// What became of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    Failed,
    /// As [`Broken::Refused`].
    Refused,
    /// Its worker ended it for what it did, and wants nothing of whom it was for a while.
    Expelled,
}

impl From<ExitStatus> for Outcome {
    fn from(status: ExitStatus) -> Self {
        match status.code() {
            Some(0) => Self::Finished,
            Some(code) if code == i32::from(REFUSED) => Self::Refused,
            _ => Self::Failed,
        }
    }
}
