//! `ingle new`: a job crate that builds.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::environment::clean_command;

const MANIFEST: &str = include_str!("template/Cargo.toml.in");
const README: &str = include_str!("template/README.md.in");
const LIBRARY: &str = include_str!("template/lib.rs.in");

/// The SDK beside the source that this was built from.
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-sdk");

/// Longer names make file names that some file systems refuse.
const LONGEST_NAME: usize = 64;

/// Names that cargo, rustc or the job's own dependencies have taken.
const TAKEN: &[&str] = &[
    "alloc",
    "build",
    "core",
    "deps",
    "examples",
    "incremental",
    "ingle",
    "proc_macro",
    "std",
    "test",
];

/// Rust's words, which can't name a crate.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Why no job crate was made.
#[derive(Debug, Error)]
pub enum CreateError {
    /// The name can't be a crate's.
    #[error("`{name}` can't be the name of a job: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is something already.
    #[error("{} exists already; choose another name, or another folder with --path", .0.display())]
    Exists(PathBuf),
    /// The SDK isn't where it should be.
    #[error("there is no guest SDK at {}: name the folder of the `ingle` crate with --sdk", .0.display())]
    NoSdk(PathBuf),
    /// A file couldn't be written.
    #[error("can't write {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The folder of the SDK that came with this build of Ingle.
pub fn default_sdk() -> PathBuf {
    PathBuf::from(SDK)
}

/// Writes a job crate called `name` into the folder `dir`, which must not exist yet, with `sdk` as its `ingle`
/// dependency. If it fails half-way, what it wrote is removed.
pub fn create(name: &str, dir: &Path, sdk: &Path) -> Result<(), CreateError> {
    check_name(name).map_err(|why| CreateError::Name { name: name.to_owned(), why })?;
    let no_sdk = || CreateError::NoSdk(sdk.to_owned());
    let sdk = sdk
        .canonicalize()
        .ok()
        .filter(|sdk| sdk.join("Cargo.toml").is_file())
        .ok_or_else(no_sdk)?;
    let sdk = toml_string(sdk.to_str().ok_or_else(no_sdk)?);
    let fill = |template: &str| template.replace("{name}", name).replace("{sdk}", &sdk);

    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |source| CreateError::Io { path, source }
    };
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(io_error(parent))?;
    }
    std::fs::create_dir(dir).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => CreateError::Exists(dir.to_owned()),
        _ => io_error(dir)(source),
    })?;
    let files = [
        ("Cargo.toml", fill(MANIFEST)),
        ("README.md", fill(README)),
        (".gitignore", "/target\n*.wasm\n".to_owned()),
        ("src/lib.rs", fill(LIBRARY)),
    ];
    write_files(dir, &files).map_err(|(path, source)| {
        // Best effort: the error that matters is the first one.
        let _ = std::fs::remove_dir_all(dir);
        CreateError::Io { path, source }
    })
}

fn write_files(dir: &Path, files: &[(&str, String)]) -> Result<(), (PathBuf, io::Error)> {
    let source = dir.join("src");
    std::fs::create_dir(&source).map_err(|e| (source, e))?;
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|e| (path, e))?;
    }
    leave_stranger_workspace(dir)
}

/// A crate inside another workspace's folder must be its member or say that it isn't one; cargo builds it in neither case
/// otherwise.
fn leave_stranger_workspace(dir: &Path) -> Result<(), (PathBuf, io::Error)> {
    let manifest = dir.join("Cargo.toml");
    let asked = clean_command("cargo")
        .args(["locate-project", "--workspace", "--manifest-path"])
        .arg(&manifest)
        .output();
    let refused = asked.is_ok_and(|answer| {
        String::from_utf8_lossy(&answer.stderr).contains("believes it's in a workspace")
    });
    if refused {
        let text = std::fs::read_to_string(&manifest).map_err(|e| (manifest.clone(), e))?;
        std::fs::write(&manifest, text + "\n[workspace]\n").map_err(|e| (manifest, e))?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let crate_name = name.replace('-', "_");
    if name.len() > LONGEST_NAME {
        Err("it is longer than 64 letters")
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        Err("it must begin with one of a to z")
    } else if !name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
    {
        Err("only a to z, 0 to 9, `-` and `_` may be in it")
    } else if KEYWORDS.contains(&crate_name.as_str()) {
        Err("it is a word of the Rust language")
    } else if TAKEN.contains(&crate_name.as_str()) {
        Err("cargo, rustc or the SDK uses that name")
    } else {
        Ok(())
    }
}

/// A string as TOML writes it; its basic strings have JSON's escapes.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with an SDK in it.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().expect("a folder");
        let sdk = root.path().join("the \"sdk\"");
        std::fs::create_dir_all(sdk.join("src")).expect("a folder");
        let manifest = "[package]\nname = \"ingle\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
        std::fs::write(sdk.join("Cargo.toml"), manifest).expect("a file");
        std::fs::write(sdk.join("src/lib.rs"), "").expect("a file");
        (root, sdk)
    }

    fn read(path: PathBuf) -> String {
        std::fs::read_to_string(path).expect("a file")
    }

    #[test]
    fn a_job_crate_has_its_name_and_its_sdk_filled_in() {
        let (root, sdk) = place();
        let dir = root.path().join("deep/word-count");
        create("word-count", &dir, &sdk).expect("created");
        let manifest = read(dir.join("Cargo.toml"));
        assert!(manifest.contains("name = \"word-count\"\n"), "{manifest}");
        assert!(manifest.contains(r#"the \"sdk\"""#), "{manifest}");
        assert!(!manifest.contains("[workspace]"), "{manifest}");
        let library = read(dir.join("src/lib.rs"));
        assert!(library.contains("usage: word-count IN OUT"), "{library}");
        for file in ["Cargo.toml", "src/lib.rs", "README.md"] {
            let text = read(dir.join(file));
            assert!(!text.contains("{name}") && !text.contains("{sdk}"), "{text}");
        }
    }

    #[test]
    fn what_exists_is_left_as_it_is() {
        let (root, sdk) = place();
        let dir = root.path().join("job");
        std::fs::create_dir(&dir).expect("a folder");
        assert!(matches!(create("job", &dir, &sdk), Err(CreateError::Exists(_))));
        assert_eq!(std::fs::read_dir(&dir).expect("listed").count(), 0);
    }

    #[test]
    fn without_an_sdk_nothing_is_written() {
        let (root, _) = place();
        let dir = root.path().join("job");
        assert!(matches!(create("job", &dir, root.path()), Err(CreateError::NoSdk(_))));
        assert!(!dir.exists());
    }

    #[test]
    fn inside_another_workspace_a_job_stands_alone_unless_it_is_a_member() {
        let (root, sdk) = place();
        let outer = "[workspace]\nmembers = [\"jobs/*\"]\nresolver = \"3\"\n";
        std::fs::write(root.path().join("Cargo.toml"), outer).expect("a file");
        let member = root.path().join("jobs/member");
        create("member", &member, &sdk).expect("created");
        assert!(!read(member.join("Cargo.toml")).contains("[workspace]"));
        let stranger = root.path().join("elsewhere");
        create("elsewhere", &stranger, &sdk).expect("created");
        assert!(read(stranger.join("Cargo.toml")).ends_with("\n[workspace]\n"));
    }

    #[test]
    fn names_that_cargo_would_refuse_are_refused_with_a_reason() {
        for name in ["wordcount", "word-count", "w2_x"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in [
            "",
            "2fast",
            "-x",
            "Word",
            "wört",
            "a b",
            "a/b",
            "..",
            "a.b",
            "fn",
            "test",
            "ingle",
            &"x".repeat(65),
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
