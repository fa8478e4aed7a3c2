//! `cargo xtask fuzz NAME`: the long run of a target of `tests/fuzz`.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::place::{Place, succeed};

const INSTALL: &str = "cargo-fuzz isn't installed; to install it, which takes minutes and a C++ compiler: \
                       cargo install --locked cargo-fuzz";

/// Runs libFuzzer on one target. What it finds that is new goes to the target folder; what finds a fault is said at the end.
pub fn fuzz(place: &Place, args: &[String]) -> Result<()> {
    let targets = targets(place)?;
    let Some((name, rest)) = args.split_first().filter(|(name, _)| targets.contains(name)) else {
        let names: Vec<_> = targets.iter().map(String::as_str).collect();
        bail!("which target? There are {}", names.join(", "));
    };
    let seconds = seconds(rest)?;
    if !is_installed() {
        bail!("{INSTALL}");
    }
    let manifest = place.root.join("tests/fuzz/cargo-fuzz");
    let found = place.scratch("fuzz").join("corpus").join(name);
    fs::create_dir_all(&found).with_context(|| format!("making {}", found.display()))?;
    // The versions that the workspace is built with.
    fs::copy(place.root.join("Cargo.lock"), manifest.join("Cargo.lock"))
        .context("copying Cargo.lock")?;
    let mut cargo = place.cargo();
    // No sanitizer: with one, a nightly Rust would be needed, and what is tried has next to no `unsafe`.
    cargo.args(["fuzz", "run", "--sanitizer", "none"]);
    cargo.arg("--fuzz-dir").arg(&manifest).arg("--target-dir").arg(place.scratch("fuzz"));
    if needs_engine(place, name)? {
        cargo.args(["--features", "engine"]);
    }
    // The first one is where new inputs go.
    cargo.arg(name).arg(&found).arg(place.root.join("tests/fuzz/corpus").join(name));
    cargo.args(["--", "-rss_limit_mb=4096", "-timeout=60"]);
    succeed(cargo.arg(format!("-max_total_time={seconds}")))
}

/// The kept corpora.
fn targets(place: &Place) -> Result<Vec<String>> {
    let corpus = place.root.join("tests/fuzz/corpus");
    let entries = fs::read_dir(&corpus).with_context(|| format!("reading {}", corpus.display()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.collect();
    names.sort();
    Ok(names)
}

/// Those take long to build.
fn needs_engine(place: &Place, name: &str) -> Result<bool> {
    let path = place.root.join("tests/fuzz/src/engine/mod.rs");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.contains(&format!("mod {name};")))
}

fn seconds(args: &[String]) -> Result<u64> {
    match args {
        [] => Ok(60),
        [flag, number] if flag == "--seconds" => {
            number.parse().with_context(|| format!("`{number}` is no number of seconds"))
        }
        _ => bail!("after the target's name there is only `--seconds N`"),
    }
}

fn is_installed() -> bool {
    let mut version = Command::new("cargo");
    version.args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}
