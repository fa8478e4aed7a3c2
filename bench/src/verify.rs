//! Whether two outputs say the same.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::twin::input;
use crate::twin::sort::KEY;

/// A multiset of lines, however ordered and cut into files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    lines: u64,
    sum: u64,
}

impl Digest {
    fn add(&mut self, line: &str) {
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        self.lines += 1;
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}

/// The lines of a folder's files.
pub fn digest(folder: &Path) -> Result<Digest> {
    let mut digest = Digest::default();
    each_line(folder, |line| {
        digest.add(line);
        Ok(())
    })?;
    Ok(digest)
}

/// The lines of a folder's files, which must be in the order of their keys from the first file to the last.
pub fn sorted_digest(folder: &Path) -> Result<Digest> {
    let mut digest = Digest::default();
    let mut before = Vec::new();
    each_line(folder, |line| {
        let key = line.as_bytes().get(..KEY).with_context(|| format!("a line is short: {line}"))?;
        ensure!(
            before.as_slice() <= key,
            "line {} of {} is out of order",
            digest.lines + 1,
            folder.display()
        );
        before.clear();
        before.extend_from_slice(key);
        digest.add(line);
        Ok(())
    })?;
    Ok(digest)
}

fn each_line(folder: &Path, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
    ensure!(folder.join("_SUCCESS").exists(), "{} has no _SUCCESS", folder.display());
    let folder = folder.to_str().context("a folder's name isn't UTF-8")?;
    for split in input::splits(&input::files(folder)?)? {
        split.for_each_block(|block| block.lines().try_for_each(&mut each))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(parts: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (i, part) in parts.iter().enumerate() {
            fs::write(dir.path().join(format!("part-{i}")), part).unwrap();
        }
        fs::write(dir.path().join("_SUCCESS"), "").unwrap();
        dir
    }

    fn of(parts: &[&str]) -> Digest {
        digest(folder(parts).path()).unwrap()
    }

    #[test]
    fn order_and_parts_do_not_matter_but_every_line_does() {
        let one = of(&["a\t1\nb\t2\nb\t2\n"]);
        assert_eq!(one, of(&["b\t2\n", "", "b\t2\na\t1\n"]));
        assert_ne!(one, of(&["a\t1\nb\t2\n"]));
        assert_ne!(one, of(&["a\t1\nb\t2\nb\t3\n"]));
        assert_ne!(one, of(&["a\t1\na\t1\nb\t2\n"]));
    }

    #[test]
    fn sorted_parts_must_follow_one_another() {
        let sorted = |parts: &[&str]| sorted_digest(folder(parts).path());
        let (a, b) = ("aaaaaaaaaa 1\n", "bbbbbbbbbb 2\n");
        assert_eq!(sorted(&[a, b]).unwrap(), of(&[b, a]));
        assert!(sorted(&[b, a]).unwrap_err().to_string().contains("line 2"));
    }

    #[test]
    fn an_output_without_success_is_none() {
        let dir = folder(&["a\n"]);
        fs::remove_file(dir.path().join("_SUCCESS")).unwrap();
        assert!(digest(dir.path()).is_err());
    }
}
