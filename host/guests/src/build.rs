//! `ingle build`: from a crate to a component.

use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use thiserror::Error;

use crate::cargo::{Jobs, Metadata, Package, built_modules};
use crate::component::{ComponentError, componentize};
use crate::toolchain::{Missing, Toolchain, Way};

/// A component that was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The job's package.
    pub name: String,
    /// Where the component is.
    pub path: PathBuf,
    /// How it was built.
    pub way: Way,
    /// Its size in bytes.
    pub size: u64,
}

/// Why there is no component.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The folder has no manifest.
    #[error("{} is no crate: it has no Cargo.toml. `ingle new NAME` makes a job crate", .0.display())]
    NotACrate(PathBuf),
    /// The crate makes no WebAssembly module.
    #[error(
        "`{name}` is no job: its library isn't a `cdylib`. Put this in {}:\n\n    [lib]\n    crate-type = [\"cdylib\"]\n",
        manifest.display()
    )]
    NotAJob {
        /// The package.
        name: String,
        /// Where to put it.
        manifest: PathBuf,
    },
    /// A workspace without jobs.
    #[error("no crate of the workspace {} is a job, that is, a library with `crate-type = [\"cdylib\"]`", .0.display())]
    NoJobs(PathBuf),
    /// A workspace of several jobs.
    #[error("{} is a workspace of several jobs; name one of them:{}", dir.display(), list(jobs))]
    SeveralJobs {
        /// The workspace.
        dir: PathBuf,
        /// The jobs' folders.
        jobs: Vec<PathBuf>,
    },
    /// No toolchain makes WebAssembly.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// Cargo refused the manifest.
    #[error("cargo can't read {}:\n{said}", manifest.display())]
    Manifest {
        /// The manifest.
        manifest: PathBuf,
        /// What cargo said.
        said: String,
    },
    /// The build failed; cargo has said why.
    #[error("`{name}` did not build: cargo's messages above say why")]
    Failed {
        /// The job's package.
        name: String,
    },
    /// The build succeeded but gave something else than a job.
    #[error("what cargo built of `{name}` can't be used: {source}")]
    Component {
        /// The job's package.
        name: String,
        /// What is wrong with it.
        source: ComponentError,
    },
    /// A file or a program couldn't be used.
    #[error("can't {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn list(jobs: &[PathBuf]) -> String {
    jobs.iter().map(|job| format!("\n    ingle build {}", job.display())).collect()
}

/// Attaches what was tried to an I/O error.
fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> BuildError + 'a {
    move |source| BuildError::Io { doing, path: path.to_owned(), source }
}

/// Builds the job in `dir` with what [`Toolchain::detect`] finds, and puts its component at `out`, or at `guests/NAME.wasm` of the
/// crate's target folder. Says to `report` what is being done, a line at a time; cargo's own messages go to stderr.
pub fn build(
    dir: &Path,
    out: Option<&Path>,
    report: &mut dyn FnMut(&str),
) -> Result<Built, BuildError> {
    let manifest = manifest_of(dir)?;
    let toolchain = Toolchain::detect(folder_of(&manifest))?;
    let metadata = read_metadata(&toolchain, &manifest)?;
    let job = only_job(&metadata, &manifest)?;
    let path = match out {
        Some(out) => out.to_owned(),
        None => metadata.target_directory.join("guests").join(format!("{}.wasm", job.name)),
    };
    if path.is_dir() {
        let source = io::Error::from(io::ErrorKind::IsADirectory);
        return Err(BuildError::Io { doing: "write a component to", path, source });
    }
    report(&format!("building {} with {}", job.name, toolchain.way()));
    let modules = compile(&toolchain, std::slice::from_ref(&job))?;
    match modules.first() {
        Some(module) => finish(&toolchain, &job, module, path),
        None => Err(BuildError::Failed { name: job.name }),
    }
}

/// Builds the jobs of one workspace in one go, each in a folder of its own, and puts the component of each at `NAME.wasm` in `out`. One
/// job keeps one processor busy for most of its build; several keep all. What they use together has all features that one asks for.
pub fn build_all(
    toolchain: &Toolchain,
    dirs: &[PathBuf],
    out: &Path,
    report: &mut dyn FnMut(&str),
) -> Result<Vec<Built>, BuildError> {
    let manifests = dirs.iter().map(|dir| manifest_of(dir)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = manifests.first() else { return Ok(Vec::new()) };
    let metadata = read_metadata(toolchain, first)?;
    let jobs = manifests.iter().map(|manifest| only_job(&metadata, manifest));
    let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
    report(&format!("building {} jobs with {}", jobs.len(), toolchain.way()));
    let modules = compile(toolchain, &jobs)?;
    let path = |job: &Package| out.join(format!("{}.wasm", job.name));
    jobs.iter()
        .zip(modules)
        .map(|(job, module)| finish(toolchain, job, &module, path(job)))
        .collect()
}

/// Makes a component of a job's module.
fn finish(
    toolchain: &Toolchain,
    job: &Package,
    module: &Path,
    path: PathBuf,
) -> Result<Built, BuildError> {
    let bytes = std::fs::read(module).map_err(io_error("read", module))?;
    let component = componentize(&bytes)
        .map_err(|source| BuildError::Component { name: job.name.clone(), source })?;
    write_whole(&path, &component).map_err(io_error("write", &path))?;
    let (name, size) = (job.name.clone(), component.len() as u64);
    Ok(Built { name, path, way: toolchain.way(), size })
}

fn manifest_of(dir: &Path) -> Result<PathBuf, BuildError> {
    let manifest = dir.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(BuildError::NotACrate(dir.to_owned()));
    }
    manifest.canonicalize().map_err(io_error("find", &manifest))
}

/// A manifest's folder; an absolute path to a file has one.
fn folder_of(manifest: &Path) -> &Path {
    manifest.parent().unwrap_or(manifest)
}

fn read_metadata(toolchain: &Toolchain, manifest: &Path) -> Result<Metadata, BuildError> {
    let refused = |said: String| BuildError::Manifest { manifest: manifest.to_owned(), said };
    let mut cargo = toolchain.cargo(folder_of(manifest));
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
    let program = PathBuf::from(cargo.get_program());
    let output = cargo.output().map_err(io_error("run", &program))?;
    if !output.status.success() {
        return Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Metadata::parse(&output.stdout)
        .map_err(|e| refused(format!("its answer to `cargo metadata` is odd: {e}")))
}

fn only_job(metadata: &Metadata, manifest: &Path) -> Result<Package, BuildError> {
    match metadata.jobs(manifest) {
        Jobs::One(job) => Ok(job),
        Jobs::None(Some(own)) => {
            Err(BuildError::NotAJob { name: own.name, manifest: own.manifest_path })
        }
        Jobs::None(None) => Err(BuildError::NoJobs(folder_of(manifest).to_owned())),
        Jobs::Several(jobs) => Err(BuildError::SeveralJobs {
            dir: folder_of(manifest).to_owned(),
            jobs: jobs.iter().map(|job| folder_of(&job.manifest_path).to_owned()).collect(),
        }),
    }
}

/// Runs cargo and gives the module that it made of each of a workspace's jobs.
fn compile(toolchain: &Toolchain, jobs: &[Package]) -> Result<Vec<PathBuf>, BuildError> {
    let Some(first) = jobs.first() else { return Ok(Vec::new()) };
    let mut cargo = toolchain.cargo_build(folder_of(&first.manifest_path));
    cargo
        .args(["--lib", "--message-format=json-render-diagnostics", "--manifest-path"])
        .arg(&first.manifest_path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    for job in jobs {
        cargo.args(["--package", &job.id]);
    }
    let program = PathBuf::from(cargo.get_program());
    let mut child = cargo.spawn().map_err(io_error("run", &program))?;
    let modules = match child.stdout.take() {
        Some(messages) => built_modules(BufReader::new(messages), jobs)
            .map_err(io_error("hear from", &program))?,
        None => vec![None; jobs.len()],
    };
    let status = child.wait().map_err(io_error("wait for", &program))?;
    let failed = |job: &Package| BuildError::Failed { name: job.name.clone() };
    let modules = jobs.iter().zip(modules).map(|(job, module)| module.ok_or_else(|| failed(job)));
    let modules = modules.collect::<Result<Vec<_>, _>>()?;
    if status.success() { Ok(modules) } else { Err(failed(first)) }
}

/// Writes a file so that nobody ever sees a part of it, making its folder if need be.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder)?;
    // As open to others as the umask lets any new file be, which is not a temporary file's default.
    let permissions = std::fs::Permissions::from_mode(0o666);
    let mut file =
        tempfile::Builder::new().prefix(".ingle-").permissions(permissions).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_manifest_is_no_crate() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = build(folder.path(), None, &mut |_| {}).expect_err("no crate");
        assert!(error.to_string().contains("it has no Cargo.toml. `ingle new NAME`"), "{error}");
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/job.wasm");
        write_whole(&path, b"first, and longer").expect("written");
        write_whole(&path, b"second").expect("written");
        assert_eq!(std::fs::read(&path).expect("read"), b"second");
        assert_eq!(std::fs::read_dir(folder.path().join("deep")).expect("listed").count(), 1);
    }

    #[test]
    fn a_workspaces_jobs_are_listed_as_commands() {
        let error =
            BuildError::SeveralJobs { dir: "w".into(), jobs: vec!["w/a".into(), "w/b".into()] };
        assert_eq!(
            error.to_string(),
            "w is a workspace of several jobs; name one of them:\n    ingle build w/a\n    ingle build w/b"
        );
    }
}
