//! What a job's file must be, and the words when it isn't.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex};

/// A component larger than this isn't looked at: compiling costs time and memory in proportion.
pub const MAX_COMPONENT_BYTES: usize = 128 << 20;

/// SHA-256 of a job's file: its name everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ComponentHash([u8; 32]);

impl ComponentHash {
    /// The hash of a file's bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash of a file, from where it stands to its end.
    pub fn of_file(mut file: &File) -> io::Result<Self> {
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => digest.update(buffer.get(..read).unwrap_or_default()),
            }
        }
        Ok(Self(digest.finalize().into()))
    }

    /// A hash that somebody else computed.
    pub fn from_bytes(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ComponentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ComponentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ComponentHash({self})")
    }
}

/// Why a file can't be run as a job.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    #[error("not WebAssembly: it doesn't begin with the bytes \\0asm")]
    NotWasm,
    #[error("{} of WebAssembly are more than the {} that a job may have", size(*.0), size(MAX_COMPONENT_BYTES))]
    TooLarge(usize),
    #[error(
        "a core WebAssembly module, not a component: build it with `ingle build`, which makes a component of it"
    )]
    CoreModule,
    #[error("not a WebAssembly component that can be compiled: {0}")]
    Invalid(String),
    #[error(
        "not an Ingle job: it doesn't export {0}; use #[ingle::main] and build with `ingle build`"
    )]
    MissingExport(String),
    #[error("it imports what this host doesn't have: {}{}", .0.join(", "), import_hint(.0))]
    UnknownImports(Vec<String>),
    #[error("its imports don't fit this host: {0}")]
    Mismatch(String),
}

fn size(bytes: usize) -> ingle_core::size::ByteSize {
    ingle_core::size::ByteSize(bytes as u64)
}

fn import_hint(missing: &[String]) -> &'static str {
    if missing.iter().any(|name| name.starts_with("ingle:job/")) {
        "; it was built for another version of Ingle, build it again with this one's SDK"
    } else if missing.iter().any(|name| name.starts_with("wasi:http")) {
        "; HTTP isn't offered to jobs"
    } else {
        ""
    }
}

/// What kind of file the first bytes promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Component,
    CoreModule,
}

/// Tells a component from a core module by its preamble (the layer field that follows the version).
pub fn kind(bytes: &[u8]) -> Result<FileKind, ComponentError> {
    if bytes.len() > MAX_COMPONENT_BYTES {
        return Err(ComponentError::TooLarge(bytes.len()));
    }
    match bytes {
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => Ok(FileKind::CoreModule),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(FileKind::Component),
        _ => Err(ComponentError::NotWasm),
    }
}

/// What a job must export, from `wit/job.wit`.
pub const MAIN: &str = "ingle:job/main@0.1.0";

/// The functions of [`MAIN`].
#[derive(Clone, Copy)]
pub struct Exports {
    pub drive: ComponentExportIndex,
    pub run: ComponentExportIndex,
}

/// Finds what a job must export.
pub fn exports(engine: &Engine, component: &Component) -> Result<Exports, ComponentError> {
    let main = component.get_export_index(None, MAIN);
    let function = |name| component.get_export_index(main.as_ref(), name);
    let missing = match (&main, function("drive"), function("run")) {
        (Some(_), Some(drive), Some(run)) => return Ok(Exports { drive, run }),
        (Some(_), drive, _) => {
            let name = if drive.is_none() { "drive" } else { "run" };
            format!("the function `{name}` of `{MAIN}`")
        }
        (None, ..) => {
            let others = component.component_type();
            let others: Vec<_> = others.exports(engine).map(|(n, _)| n.to_owned()).collect();
            let only = match others.as_slice() {
                [] => String::new(),
                others => format!(", only {}", others.join(", ")),
            };
            format!("`{MAIN}` (functions `drive` and `run`){only}")
        }
    };
    Err(ComponentError::MissingExport(missing))
}

/// The component's imports that `offered` doesn't have, versions aside as far as semver allows.
pub fn unknown_imports(
    engine: &Engine,
    component: &Component,
    offered: impl Fn(&str) -> bool,
) -> Vec<String> {
    let names = component.component_type();
    names.imports(engine).map(|(name, _)| name.to_owned()).filter(|name| !offered(name)).collect()
}
