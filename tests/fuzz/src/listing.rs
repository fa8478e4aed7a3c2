//! A guest's paths and patterns: whatever it says, nothing outside of what was granted.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use ingle_blocks::{Framing, Grants, Output, Parts, Source, Writer};
use tempfile::TempDir;

use crate::Input;

struct Tree {
    root: TempDir,
    grants: Arc<Grants>,
}

/// Made once: no input changes it.
static TREE: LazyLock<Tree> = LazyLock::new(|| make().expect("a folder can be made"));

fn make() -> std::io::Result<Tree> {
    let root = tempfile::tempdir()?;
    let at = |path: &str| root.path().join(path);
    for folder in ["data/deep/deeper", "data/.hidden", "secret", "out"] {
        fs::create_dir_all(at(folder))?;
    }
    let files = ["data/a.txt", "data/b.csv.gz", "data/[x]", "data/deep/c", "data/deep/deeper/d"];
    for file in files.into_iter().chain(["data/.hidden/e", "data/_f", "secret/key"]) {
        fs::write(at(file), file)?;
    }
    symlink("../secret", at("data/up"))?;
    symlink("../../secret/key", at("data/deep/key"))?;
    symlink(at("secret/key"), at("data/whole"))?;
    symlink("/", at("data/all"))?;
    // These stay inside.
    symlink("..", at("data/deep/round"))?;
    symlink("deep/c", at("data/alias"))?;
    let grants = Grants::new_in(root.path(), &["data".into()], &["out".into()]);
    let grants = Arc::new(grants.map_err(std::io::Error::other)?);
    Ok(Tree { root, grants })
}

pub fn run(data: &[u8]) {
    let Tree { root, grants } = &*TREE;
    let mut input = Input::new(data);
    let framings = [Framing::Lines, Framing::LinesWithHeader, Framing::WholeFiles, Framing::Ranges];
    let framing = input.pick(&framings);
    let (min_splits, parallelism) = (input.id() % 2_000_000, input.id());
    // Beneath the granted folder, or anywhere.
    let base = input.pick(&["", "data/", "data/deep/", "./"]);
    let absolute = input.flag();
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    let mut path = format!("{base}{text}");
    if absolute {
        path = format!("{}/{path}", root.path().display());
    }
    let granted = root.path().join("data");
    if let Ok(source) = Source::open(grants, &path, framing, min_splits, parallelism) {
        let parts = source.to_parts();
        for (file, length, _) in &parts.files {
            assert!(file.starts_with(&granted), "{path:?} listed {}", file.display());
            // What is read here follows every link.
            let there = fs::read_to_string(file).expect("what is listed is there");
            assert!(there.starts_with("data/"), "{path:?} listed {}", file.display());
            assert_eq!(*length, there.len() as u64, "{}", file.display());
        }
        // Executors take it as the driver tells it.
        let told = Source::from_parts(parts).expect("a listed source is sound");
        assert_eq!((told.splits(), told.bytes()), (source.splits(), source.bytes()));
    }
    if let Ok(found) = grants.resolve_read(&path)
        && let Ok(read) = found.dir.read_to_string(&found.path)
    {
        assert!(read.starts_with("data/"), "{path:?} leads out, to {read:?}");
    }
    if let Ok(found) = grants.resolve_write(&path) {
        assert!(found.full.starts_with(root.path().join("out")), "{path:?} may be written");
    }
    let parts = Parts::new(text, Default::default());
    if let (Ok(parts), Ok(output)) =
        (parts, Output::open(grants, &path, &Parts::default(), &Writer::default()))
    {
        let target: PathBuf = output.path();
        assert!(target.starts_with(root.path().join("out")), "{path:?} is written");
        assert!(!parts.extension().contains('/'));
    }
}
