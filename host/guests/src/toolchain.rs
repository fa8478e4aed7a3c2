//! Which of the machine's Rust toolchains can make WebAssembly, and how.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use crate::debian::{self, Part};
use crate::environment::clean_command;

/// The oldest Rust that compiles the SDK.
const OLDEST_RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Where a distribution puts its Rust. A rustup proxy is never here.
const DISTRIBUTION_RUSTC: &str = "/usr/bin/rustc";
const DISTRIBUTION_CARGO: &str = "/usr/bin/cargo";

/// Where distributions put the C library of `wasm32-wasip1`.
const LIBC_FOLDERS: &[&str] = &[
    "/usr/lib/wasm32-wasip1",
    "/usr/lib/wasm32-wasi",
    "/usr/wasm32-wasi/lib/wasm32-wasip1",
    "/usr/wasm32-wasi/lib/wasm32-wasi",
];

/// How a toolchain comes by the standard library of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The active toolchain has the target `wasm32-wasip2`, which gives components.
    Wasip2,
    /// The active toolchain has the target `wasm32-wasip1`, which gives core modules.
    Wasip1,
    /// The distribution's Rust builds its standard library from source.
    Distribution,
}

impl Way {
    /// The target to name to cargo.
    pub fn target(self) -> &'static str {
        match self {
            Way::Wasip2 => "wasm32-wasip2",
            Way::Wasip1 | Way::Distribution => "wasm32-wasip1",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Wasip2 | Way::Wasip1 => write!(f, "the active toolchain's {}", self.target()),
            Way::Distribution => {
                f.write_str("the distribution's Rust, its standard library built from source")
            }
        }
    }
}

/// A toolchain that makes WebAssembly.
#[derive(Clone, Debug)]
pub struct Toolchain {
    way: Way,
    cargo: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    flags: Vec<String>,
}

/// No toolchain of this machine makes WebAssembly.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Missing {
    /// Any one of these, typed into a shell, adds a toolchain that does.
    pub commands: Vec<String>,
    /// What the last of them installs with apt; empty where there is no apt.
    pub packages: Vec<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no Rust toolchain of this machine makes WebAssembly. To add one, type")?;
        for (i, command) in self.commands.iter().enumerate() {
            let or = if i == 0 { "" } else { "\nor" };
            write!(f, "{or}\n    {command}")?;
        }
        Ok(())
    }
}

impl Toolchain {
    /// Finds the toolchain for the crate in `dir`: what the active toolchain has wins over the distribution's Rust.
    pub fn detect(dir: &Path) -> Result<Toolchain, Missing> {
        let sysroot = sysroot(clean_command("rustc").current_dir(dir));
        if let Some(way) = sysroot.as_deref().and_then(installed) {
            return Ok(Toolchain {
                way,
                cargo: "cargo".into(),
                environment: Vec::new(),
                flags: common_flags(),
            });
        }
        distribution(sysroot.as_deref()).map_err(|lacking| Missing::of(dir, &lacking))
    }

    /// How it comes by the guest's standard library.
    pub fn way(&self) -> Way {
        self.way
    }

    /// This toolchain's cargo, in `dir`, with nothing that an outer cargo set.
    pub(crate) fn cargo(&self, dir: &Path) -> Command {
        let mut cargo = clean_command(&self.cargo);
        cargo.current_dir(dir).envs(self.environment.iter().map(|(key, value)| (key, value)));
        cargo
    }

    /// `cargo build` for the guest, still without a package: one optimised unit, so that a stage's operators fuse, with
    /// the functions' names kept for backtraces.
    pub(crate) fn cargo_build(&self, dir: &Path) -> Command {
        let mut cargo = self.cargo(dir);
        cargo.args(["build", "--release", "--target", self.way.target()]);
        if self.way == Way::Distribution {
            cargo.arg("-Zbuild-std=std,panic_abort");
        }
        // Encoded flags stand above every `rustflags` of a config file: those are meant for the host's processor.
        cargo.env("CARGO_ENCODED_RUSTFLAGS", self.flags.join("\x1f"));
        for (key, value) in [
            ("LTO", "fat"),
            ("CODEGEN_UNITS", "1"),
            ("PANIC", "abort"),
            ("OPT_LEVEL", "3"),
            ("DEBUG", "false"),
            ("STRIP", "debuginfo"),
        ] {
            cargo.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
        }
        cargo
    }
}

impl Missing {
    fn of(dir: &Path, lacking: &[Part]) -> Missing {
        let mut commands = Vec::new();
        if clean_command("rustup").arg("--version").current_dir(dir).output().is_ok() {
            commands.push(format!("rustup target add {}", Way::Wasip2.target()));
        }
        let packages = debian::packages(lacking);
        if !packages.is_empty() {
            commands.push(debian::install_command(&packages));
        }
        if commands.is_empty() {
            commands.push(format!(
                "curl https://sh.rustup.rs -sSf | sh -s -- -y --target {}",
                Way::Wasip2.target()
            ));
        }
        Missing { commands, packages }
    }
}

/// Whether this process could install what is missing: root, on a machine with apt. It may have to ask for apt's lists first.
pub fn can_install() -> bool {
    debian::has_apt() && debian::is_root()
}

fn common_flags() -> Vec<String> {
    vec!["-Ctarget-feature=+simd128".into()]
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    printed(rustc.args(["--print", "sysroot"])).map(PathBuf::from)
}

/// What a command prints, if it can be run and succeeds.
pub(crate) fn printed(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// The best guest target whose standard library lies in a sysroot.
fn installed(sysroot: &Path) -> Option<Way> {
    let has = |way: &Way| sysroot.join("lib/rustlib").join(way.target()).join("lib").is_dir();
    [Way::Wasip2, Way::Wasip1].into_iter().find(has)
}

/// The distribution's Rust, or what it lacks.
fn distribution(active_sysroot: Option<&Path>) -> Result<Toolchain, Vec<Part>> {
    let mut lacking = Vec::new();
    let rustc = || clean_command(DISTRIBUTION_RUSTC);
    let version = printed(rustc().arg("--version"));
    if !version.as_deref().is_some_and(new_enough) || !Path::new(DISTRIBUTION_CARGO).exists() {
        lacking.push(Part::Rust);
    }
    let source =
        |sysroot: PathBuf| sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml").exists();
    if !sysroot(&mut rustc()).is_some_and(source) {
        lacking.push(Part::Source);
    }
    let libc = LIBC_FOLDERS.iter().find(|folder| is_libc(Path::new(folder)));
    if libc.is_none() {
        lacking.push(Part::Libc);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let linker = newest_linker(std::env::split_paths(&path))
        .or_else(|| active_sysroot.and_then(bundled_linker));
    if linker.is_none() {
        lacking.push(Part::Linker);
    }
    let (Some(libc), Some(linker), true) = (libc, linker, lacking.is_empty()) else {
        return Err(lacking);
    };
    let mut flags = common_flags();
    flags.extend([
        "-Clink-self-contained=no".to_owned(),
        format!("-L{libc}"),
        format!("-Clink-arg={libc}/crt1-reactor.o"),
    ]);
    let environment = vec![
        ("RUSTC", DISTRIBUTION_RUSTC.into()),
        // Building the standard library is a nightly option of cargo; a distribution's compiler and source are a pair.
        ("RUSTC_BOOTSTRAP", "1".into()),
        ("CARGO_TARGET_WASM32_WASIP1_LINKER", linker.into_os_string()),
    ];
    Ok(Toolchain { way: Way::Distribution, cargo: DISTRIBUTION_CARGO.into(), environment, flags })
}

fn is_libc(folder: &Path) -> bool {
    ["libc.a", "crt1-reactor.o"].iter().all(|file| folder.join(file).exists())
}

/// `wasm-ld`, or of several `wasm-ld-N` the newest.
fn newest_linker(folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    let linkers = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let numbered = linkers.filter_map(|entry| {
        let name = entry.file_name();
        let rest = name.to_str()?.strip_prefix("wasm-ld")?;
        let version = match rest.strip_prefix('-') {
            Some(number) => number.parse().ok()?,
            // The one that a user chose to call by its plain name.
            None if rest.is_empty() => u32::MAX,
            None => return None,
        };
        Some((version, entry.path()))
    });
    numbered.max().map(|(_, path)| path)
}

/// The linker that rustup's toolchains bring. Not by one of the names under `gcc-ld`: rustc says what to link itself, and those do, too.
fn bundled_linker(sysroot: &Path) -> Option<PathBuf> {
    let hosts = std::fs::read_dir(sysroot.join("lib/rustlib")).ok()?;
    hosts.flatten().map(|host| host.path().join("bin/rust-lld")).find(|linker| linker.exists())
}

/// Whether a version, as `rustc --version` or as a package has it, is of a Rust that compiles the SDK.
pub(crate) fn new_enough(version: &str) -> bool {
    let number = version.strip_prefix("rustc ").unwrap_or(version);
    matches!((minor(number), minor(OLDEST_RUST)), (Some(has), Some(wants)) if has >= wants)
}

/// The `95` of `1.95.0`, also of a Debian version such as `1.95.0+dfsg1-1`.
fn minor(version: &str) -> Option<u32> {
    let rest = version.strip_prefix("1.")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, "").expect("a file");
        }
        root
    }

    #[test]
    fn wasip2_wins_over_wasip1() {
        let both = folder(&["lib/rustlib/wasm32-wasip1/lib/x", "lib/rustlib/wasm32-wasip2/lib/x"]);
        assert_eq!(installed(both.path()), Some(Way::Wasip2));
        let one = folder(&["lib/rustlib/wasm32-wasip1/lib/x"]);
        assert_eq!(installed(one.path()), Some(Way::Wasip1));
        let none = folder(&["lib/rustlib/x86_64-unknown-linux-gnu/lib/x"]);
        assert_eq!(installed(none.path()), None);
    }

    #[test]
    fn the_newest_linker_is_taken_and_a_plain_name_before_it() {
        let numbered = folder(&["wasm-ld-9", "wasm-ld-19", "wasm-ld-x", "wasm-ldd", "ld"]);
        let of = |root: &tempfile::TempDir| newest_linker([root.path().to_owned()].into_iter());
        assert_eq!(of(&numbered), Some(numbered.path().join("wasm-ld-19")));
        let plain = folder(&["wasm-ld", "wasm-ld-19"]);
        assert_eq!(of(&plain), Some(plain.path().join("wasm-ld")));
        assert_eq!(of(&folder(&["ld.lld"])), None);
    }

    #[test]
    fn rustups_own_linker_is_found_whatever_the_host() {
        let root = folder(&["lib/rustlib/aarch64-unknown-linux-gnu/bin/rust-lld"]);
        assert!(bundled_linker(root.path()).is_some());
        assert_eq!(bundled_linker(folder(&[]).path()), None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(new_enough("rustc 1.100.0 (abc 2027-01-01)"));
        assert!(new_enough(OLDEST_RUST));
        assert!(new_enough("1.96.0+dfsg1-1~deb12u2"));
        assert!(!new_enough("rustc 1.63.0 (4b91a6ea7 2022-08-08)"));
        assert!(!new_enough("1.9.0"));
        assert!(!new_enough("gcc 13"));
    }

    #[test]
    fn what_is_missing_reads_as_commands_to_type() {
        let missing = Missing { commands: vec!["one".into(), "two".into()], packages: Vec::new() };
        assert_eq!(
            missing.to_string(),
            "no Rust toolchain of this machine makes WebAssembly. To add one, type\n    one\nor\n    two"
        );
    }
}
