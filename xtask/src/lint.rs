//! `cargo xtask lint`.

use std::process::{Command, Stdio};

use anyhow::Result;

use crate::place::{Place, succeed};

/// What a change must pass besides its tests.
pub fn lint(place: &Place) -> Result<()> {
    succeed(place.cargo().args(["fmt", "--all", "--check"]))?;
    let clippy = ["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    succeed(place.cargo().args(clippy))?;
    if !has_deny() {
        eprintln!(
            "\nSKIPPED: `cargo deny check` (licences, advisories, sources), for cargo-deny isn't installed.\n\
             To install it, which takes minutes: cargo install --locked cargo-deny\n"
        );
        return Ok(());
    }
    succeed(place.cargo().args(["deny", "check"]))
}

fn has_deny() -> bool {
    let mut version = Command::new("cargo-deny");
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}
