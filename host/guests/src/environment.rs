//! Commands that don't inherit an outer cargo's opinions.

use std::ffi::OsStr;
use std::process::Command;

/// What an outer `cargo run`, `cargo xtask` or a user's shell sets about *host* builds. Left in place, the outer rustup
/// toolchain would be used instead of the one that the job's folder asks for, and host flags would reach the guest.
const FOREIGN: &[&str] = &[
    "CARGO",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_TMPDIR",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// Prefixes of variables that hold facts of the crate whose binary is running.
const FOREIGN_PREFIXES: &[&str] = &["CARGO_BIN_", "CARGO_PKG_", "CARGO_PROFILE_"];

/// A command without what an outer cargo left in the environment.
pub fn clean_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (key, _) in std::env::vars_os() {
        if key.to_str().is_some_and(is_foreign) {
            command.env_remove(&key);
        }
    }
    command
}

fn is_foreign(key: &str) -> bool {
    FOREIGN.contains(&key) || FOREIGN_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_outer_cargo_sets_is_foreign_and_what_a_user_sets_is_not() {
        for key in ["RUSTC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO_PKG_NAME", "CARGO"] {
            assert!(is_foreign(key), "{key}");
        }
        for key in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_TARGET_DIR",
            "PATH",
            "RUSTUP_HOME",
            "RUSTC_WRAPPER",
        ] {
            assert!(!is_foreign(key), "{key}");
        }
    }

    #[test]
    fn a_clean_command_removes_what_cargo_test_itself_set() {
        let removed = |command: &Command, name: &str| {
            command.get_envs().any(|(key, value)| key == OsStr::new(name) && value.is_none())
        };
        // `cargo test` sets this for every test.
        assert!(removed(&clean_command("true"), "CARGO_MANIFEST_DIR"));
        assert!(!removed(&clean_command("true"), "PATH"));
    }
}
