//! Where things are, and how commands are run there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// This checkout and its target folder.
pub struct Place {
    /// The workspace.
    pub root: PathBuf,
    target: PathBuf,
}

impl Place {
    /// The checkout that this program was built in.
    pub fn new() -> Place {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().unwrap_or(manifest).to_owned();
        // A relative one means relative to where cargo was called, which is this process's folder too.
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let target = std::path::absolute(&target).unwrap_or(target);
        Place { root, target }
    }

    /// Where `ingle build` puts the components of `examples/`.
    pub fn guests(&self) -> PathBuf {
        self.target.join("guests")
    }

    /// A folder for what a verb makes, below the target folder.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    /// The cargo that runs this, in the workspace.
    pub fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root);
        cargo
    }

    /// Builds every binary of the workspace.
    pub fn build_binaries(&self) -> Result<()> {
        succeed(self.cargo().args(["build", "--release", "--workspace", "--bins"]))
    }

    /// Builds them with all tests: what tests alone need turns on features of what the binaries need, which would be built a second time.
    pub fn build_binaries_and_tests(&self) -> Result<()> {
        succeed(self.cargo().args(["build", "--release", "--workspace", "--bins", "--tests"]))
    }

    /// A binary that [`Place::build_binaries`] built.
    pub fn binary(&self, name: &str) -> Command {
        let mut command = Command::new(self.target.join("release").join(name));
        command.current_dir(&self.root);
        command
    }
}

/// Runs a command that shares this process's terminal and must succeed.
pub fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("can't run {program}"))?;
    let words: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    ensure!(status.success(), "`{program} {}` failed ({status})", words.join(" "));
    Ok(())
}
