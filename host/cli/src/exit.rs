//! How `rsubmit` ends.

use std::fmt;
use std::process::ExitCode;

/// `rsubmit`'s exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The job failed: its driver returned an error, panicked, trapped, or called `exit` with anything but 0 (WASI tells no more).
    Job,
    /// The command line, a properties file or a setting makes no sense.
    Usage,
    /// The file can't be run as a job.
    NotAJob,
    /// This machine doesn't give what is needed: memory, a folder, threads.
    Host,
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// SIGHUP: the terminal is gone.
    HungUp,
}

/// The table of codes, for `--help`.
pub const TABLE: &str = "\
Exit codes:
  0    the job succeeded
  1    the job failed: its main returned an error, panicked, trapped, or called exit with anything but 0
  2    the command line, a properties file or a setting makes no sense
  3    the file can't be run as a job
  4    this machine doesn't give what is needed: memory, a folder, threads
  129  the terminal hung up
  130  interrupted (Ctrl-C)
  143  terminated (SIGTERM)";

impl From<Code> for u8 {
    fn from(code: Code) -> u8 {
        match code {
            Code::Job => 1,
            Code::Usage => 2,
            Code::NotAJob => 3,
            Code::Host => 4,
            Code::Interrupted => 130,
            Code::Terminated => 143,
            Code::HungUp => 129,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        u8::from(code).into()
    }
}

/// Why `rsubmit` ends without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the shell is told.
    pub code: Code,
    /// What the user is told; empty if the job said all there is.
    pub text: String,
}

impl Failure {
    /// A failure with words.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// A mistake of the command line's.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(Code::Usage, text)
    }

    /// Something that the machine lacks.
    pub fn host(text: impl Into<String>) -> Self {
        Self::new(Code::Host, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
