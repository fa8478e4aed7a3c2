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
    succeed(place.cargo().args(["deny", "check", "bans", "licenses", "sources"]))?;
    // Advisories come from elsewhere, which isn't reached from everywhere.
    let fetched = place.cargo().args(["deny", "fetch", "db"]).stderr(Stdio::null()).status();
    if !fetched.is_ok_and(|status| status.success()) {
        eprintln!("\nSKIPPED: `cargo deny check advisories`, for its database can't be fetched.\n");
        return Ok(());
    }
    succeed(place.cargo().args(["deny", "check", "advisories"]))
}

fn has_deny() -> bool {
    let mut version = Command::new("cargo-deny");
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}
