//! `cargo xtask guests`: every job in `examples/`, and those that tests need, as components.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use ingle_guests::{Missing, Toolchain};

use crate::place::{Place, succeed};

/// Builds the components, installing a toolchain for them first if there is none and that can be done.
pub fn build_all(place: &Place) -> Result<()> {
    let examples = place.root.join("examples");
    let toolchain = match Toolchain::detect(&examples) {
        Err(missing) if ingle_guests::can_install() => {
            install(&missing, place)?;
            Toolchain::detect(&examples)?
        }
        found => found?,
    };
    ingle_guests::build_all(&toolchain, &jobs(place)?, &place.guests(), &mut |line| {
        eprintln!("{line}");
    })?;
    eprintln!("the components are in {}", place.guests().display());
    Ok(())
}

/// Where the crates of jobs lie.
const FOLDERS: [&str; 2] = ["examples", "tests/guests"];

/// The folders that hold a job's crate, in the order of their names.
fn jobs(place: &Place) -> Result<Vec<PathBuf>> {
    let mut jobs = Vec::new();
    for folder in FOLDERS {
        let folder = place.root.join(folder);
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("can't list {}", folder.display()))?;
        for entry in entries {
            let job = entry?.path();
            if job.join("Cargo.toml").is_file() {
                jobs.push(job);
            }
        }
    }
    jobs.sort();
    Ok(jobs)
}

/// Installs the distribution's way to build guests. Nothing that is installed may be removed for it.
fn install(missing: &Missing, place: &Place) -> Result<()> {
    eprintln!(
        "no Rust toolchain of this machine makes WebAssembly; installing what Debian has for it"
    );
    let apt = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    succeed(&mut apt(&["update"]))?;
    // What apt knows may have changed, and with it the packages' names.
    let missing = match Toolchain::detect(&place.root) {
        Err(now) => now,
        Ok(_) => missing.clone(),
    };
    if missing.packages.is_empty() {
        bail!("{missing}");
    }
    succeed(
        apt(&["install", "-y", "--no-remove", "--no-install-recommends"]).args(&missing.packages),
    )
}
