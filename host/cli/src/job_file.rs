//! The job's file: read, and made a component if it is a core module.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ingle_sandbox::{
    CodeCache, ComponentHash, Interrupt, Job, LoadError, MAX_COMPONENT_BYTES, Sandbox,
};

use crate::exit::{Code, Failure};

fn not_a_job(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new(Code::NotAJob, format!("{}: {why}", path.display()))
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
    ingle_sandbox::kind(bytes).map_err(|error| not_a_job(path, error))?;
    let sandbox =
        Sandbox::new(cache, interrupt).map_err(|error| Failure::host(error.to_string()))?;
    let component = || -> Result<Vec<u8>, Wrapped> {
        compiling();
        let component = ingle_guests::componentize(bytes);
        let component =
            component.map_err(|e| Wrapped(Failure::new(Code::NotAJob, e.to_string())))?;
        Ok(component.into_owned())
    };
    let loaded = sandbox.load(ComponentHash::of(bytes), component);
    loaded.map_err(|Wrapped(Failure { code, text })| Failure {
        code,
        text: format!("{}: {text}", path.display()),
    })
}
