//! The job's file: read, and made a component if it is a core module.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ingle_sandbox::{
    CodeCache, ComponentHash, Interrupt, Job, LoadError, MAX_COMPONENT_BYTES, Sandbox,
};

use crate::exit::{Code, Failure};

fn not_a_job(path: &Path, why: impl std::fmt::Display) -> Failure {
    of(path, Failure::new(Code::NotAJob, why.to_string()))
}

/// A failure, with the file that it is about.
pub fn of(path: &Path, Failure { code, text }: Failure) -> Failure {
    Failure { code, text: format!("{}: {text}", path.display()) }
}

/// Whether it looks like a job at all.
pub fn check_kind(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    ingle_sandbox::kind(bytes).map(drop).map_err(|error| not_a_job(path, error))
}

/// The file's bytes, no more of them than a job may have.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| not_a_job(path, format!("can't be read: {error}"));
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(not_a_job(
                path,
                "there is no such file; `ingle build` makes one of a job crate",
            ));
        }
        opened => opened.map_err(failed)?,
    };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(not_a_job(
            path,
            "a folder, not a job; to build the job crate in it: ingle build DIR",
        ));
    }
    let mut bytes =
        Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0).min(MAX_COMPONENT_BYTES));
    file.take(MAX_COMPONENT_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

struct Wrapped(Failure);

impl From<LoadError> for Wrapped {
    fn from(error: LoadError) -> Self {
        let code = match error {
            LoadError::Component(_) => Code::NotAJob,
            LoadError::Engine(_) => Code::Host,
        };
        Self(Failure::new(code, error.to_string()))
    }
}

/// Makes a job that was read ready to run. `compiling` is told if that will take a moment.
pub fn load(
    path: &Path,
    bytes: &[u8],
    cache: Option<CodeCache>,
    interrupt: Interrupt,
    compiling: impl FnOnce(),
) -> Result<Job, Failure> {
    check_kind(path, bytes)?;
    let sandbox =
        Sandbox::new(cache, interrupt).map_err(|error| Failure::host(error.to_string()))?;
    load_in(&sandbox, path, bytes, compiling)
}

/// As [`load`], in a sandbox that there is.
pub fn load_in(
    sandbox: &Sandbox,
    path: &Path,
    bytes: &[u8],
    compiling: impl FnOnce(),
) -> Result<Job, Failure> {
    let component = || {
        compiling();
        component(bytes)
    };
    let loaded = sandbox.load(ComponentHash::of(bytes), component);
    loaded.map_err(|Wrapped(failure)| of(path, failure))
}

/// Compiles a job that was read, and says nothing of where.
pub fn make(bytes: &[u8], interrupt: Interrupt) -> Result<Vec<u8>, Failure> {
    let made = || -> Result<Vec<u8>, Wrapped> {
        let sandbox = Sandbox::new(None, interrupt)?;
        Ok(sandbox.make(ComponentHash::of(bytes), &component(bytes)?)?)
    };
    made().map_err(|Wrapped(failure)| failure)
}

fn component(bytes: &[u8]) -> Result<Vec<u8>, Wrapped> {
    let component = ingle_guests::componentize(bytes);
    let component = component.map_err(|e| Wrapped(Failure::new(Code::NotAJob, e.to_string())))?;
    Ok(component.into_owned())
}
