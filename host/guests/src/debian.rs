//! What a Debian must install to build guests. Package names differ between releases, so apt is asked.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::toolchain::{new_enough, printed};

/// A part of the distribution's way to build guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// rustc and cargo, new enough.
    Rust,
    /// The standard library's source.
    Source,
    /// The guest's C library.
    Libc,
    /// `wasm-ld`.
    Linker,
}

/// One of Debian's families of Rust packages: of one release's age, and the newer one kept for browsers. They conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Family {
    rustc: &'static str,
    cargo: &'static str,
    source: &'static str,
}

const RELEASE: Family = Family { rustc: "rustc", cargo: "cargo", source: "rust-src" };
const WEB: Family = Family { rustc: "rustc-web", cargo: "cargo-web", source: "rust-web-src" };

/// The linker to name before apt has ever fetched a list.
const USUAL_LINKER: &str = "lld-19";

/// The packages with the parts that are lacking; none where there is no apt, or no Rust that is new enough.
pub(crate) fn packages(lacking: &[Part]) -> Vec<String> {
    if !has_apt() {
        return Vec::new();
    }
    let installed = printed(Command::new("dpkg-query").args(["-S", "/usr/bin/rustc"]));
    let candidate = |package: &str| {
        let policy =
            printed(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C"))?;
        candidate_version(&policy).map(str::to_owned)
    };
    let family = match installed.as_deref().and_then(owner) {
        Some(family) if !lacking.contains(&Part::Rust) => Some(family),
        _ => choose_family(candidate),
    };
    let linkers = printed(Command::new("apt-cache").args(["pkgnames", "lld-"])).unwrap_or_default();
    family.map(|family| select(lacking, family, &newest_linker(&linkers))).unwrap_or_default()
}

/// What to type to install packages.
pub(crate) fn install_command(packages: &[String]) -> String {
    let sudo = if is_root() { "" } else { "sudo " };
    format!(
        "{sudo}apt-get update && {sudo}apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    )
}

pub(crate) fn has_apt() -> bool {
    Path::new("/usr/bin/apt-get").exists()
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

fn select(lacking: &[Part], family: Family, linker: &str) -> Vec<String> {
    let named = lacking.iter().flat_map(|part| match part {
        Part::Rust => vec![family.rustc, family.cargo],
        Part::Source => vec![family.source],
        Part::Libc => vec!["wasi-libc"],
        Part::Linker => vec![linker],
    });
    named.map(str::to_owned).collect()
}

/// The family that owns a file, from `dpkg-query -S`: `rustc-web: /usr/bin/rustc`.
fn owner(answer: &str) -> Option<Family> {
    let (package, _) = answer.split_once(':')?;
    [RELEASE, WEB].into_iter().find(|family| family.rustc == package)
}

/// The release's own Rust if it is new enough, else the other one. Where apt knows neither, as before its first `update`,
/// the latter is the better guess.
fn choose_family(candidate: impl Fn(&str) -> Option<String>) -> Option<Family> {
    let (release, web) = (candidate(RELEASE.rustc), candidate(WEB.rustc));
    let fits = |version: &Option<String>| version.as_deref().is_some_and(new_enough);
    if fits(&release) {
        Some(RELEASE)
    } else if fits(&web) || (release.is_none() && web.is_none()) {
        Some(WEB)
    } else {
        None
    }
}

/// The version of `apt-cache policy` that would be installed.
fn candidate_version(policy: &str) -> Option<&str> {
    let line = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (line != "(none)").then_some(line)
}

fn newest_linker(names: &str) -> String {
    let versions = names.lines().filter_map(|name| name.strip_prefix("lld-")?.parse::<u32>().ok());
    versions.max().map_or_else(|| USUAL_LINKER.to_owned(), |version| format!("lld-{version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(release: Option<&str>, web: Option<&str>) -> Option<Family> {
        choose_family(|name| if name == "rustc" { release } else { web }.map(str::to_owned))
    }

    #[test]
    fn the_family_of_a_rust_that_is_new_enough_is_chosen() {
        assert_eq!(family(Some("1.63.0+dfsg1-2"), Some("1.96.0+dfsg1-1~deb12u2")), Some(WEB));
        assert_eq!(family(Some("1.97.0+dfsg1-1"), Some("1.96.0+dfsg1-1")), Some(RELEASE));
        assert_eq!(family(Some("1.63.0+dfsg1-2"), None), None);
        assert_eq!(family(None, None), Some(WEB));
    }

    #[test]
    fn only_what_is_lacking_is_installed() {
        assert_eq!(
            select(&[Part::Source, Part::Linker], RELEASE, "lld-22"),
            ["rust-src", "lld-22"]
        );
        let all = [Part::Rust, Part::Source, Part::Libc, Part::Linker];
        assert_eq!(
            select(&all, WEB, "lld-19"),
            ["rustc-web", "cargo-web", "rust-web-src", "wasi-libc", "lld-19"]
        );
    }

    #[test]
    fn apts_answers_are_read() {
        let policy =
            "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1\n  Version table:\n";
        assert_eq!(candidate_version(policy), Some("1.96.0+dfsg1-1"));
        assert_eq!(candidate_version("x:\n  Candidate: (none)\n"), None);
        assert_eq!(candidate_version(""), None);
        assert_eq!(owner("rustc-web: /usr/bin/rustc"), Some(WEB));
        assert_eq!(owner("something: /usr/bin/rustc"), None);
        assert_eq!(newest_linker("lld-9\nlld-22\nlld-19\nlld-dev\n"), "lld-22");
        assert_eq!(newest_linker(""), USUAL_LINKER);
    }
}
