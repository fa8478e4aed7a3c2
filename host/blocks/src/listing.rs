//! Which files a source's path stands for.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, Metadata};
use globset::{GlobBuilder, GlobMatcher};

use crate::error::{Error, Result};
use crate::grants::{Grants, opening};
use crate::objects::{self, Found, is_url};

/// More names than this in one walk, and the user should say more precisely what is meant.
pub(crate) const MAX_ENTRIES: usize = 1_000_000;
/// And what the names of the files among them may have together.
const MAX_NAMES: usize = 256 << 20;
/// Deeper than any sane tree, and than what a path may name.
const MAX_DEPTH: usize = 64;
const FLAG: &str = "--allow-read";

/// Files by path, and what was found of each.
type Files = BTreeMap<PathBuf, Found>;

/// The files of a path: itself, those in a folder, or those that a glob matches; a matched folder stands for its files.
///
/// Names that start with `.` or `_` are hidden, in folders and from globs. A path that exists as it is written is no
/// glob, whatever letters it has.
pub(crate) fn list(grants: &Grants, path: &str) -> Result<Files> {
    if is_url(path) {
        return objects::list(grants.objects(), path, |location| grants.may_read(location));
    }
    let full = grants.absolute(path)?;
    let is_glob = full.to_string_lossy().contains(['*', '?', '[', '{']);
    let plain = grants.read(&full).and_then(|found| {
        let metadata = found.dir.metadata(&found.path).map_err(found.failed("reading"))?;
        Ok((found, metadata))
    });
    let mut walk = Walk { files: Files::new(), entries: 0, names: 0 };
    match plain {
        Ok((found, metadata)) if metadata.is_dir() => {
            let dir = found.dir.open_dir(&found.path).map_err(found.failed("opening"))?;
            walk.folder(&dir, &full)?;
        }
        Ok((_, metadata)) => walk.add(full, &metadata)?,
        Err(Error::NotFound(_) | Error::NotAllowed { .. }) if is_glob => {
            glob(grants, &full, &mut walk)?
        }
        Err(error) => return Err(error),
    }
    Ok(walk.files)
}

fn glob(grants: &Grants, full: &Path, walk: &mut Walk) -> Result<()> {
    let is_plain = |part: &&OsStr| !part.to_string_lossy().contains(['*', '?', '[', '{']);
    let parts: Vec<&OsStr> = full.iter().collect();
    let fixed = parts.iter().copied().take_while(is_plain).count();
    let (base, pattern): (PathBuf, PathBuf) =
        (parts.iter().take(fixed).collect(), parts.iter().skip(fixed).collect());
    let pattern = pattern.to_string_lossy();
    let matcher = GlobBuilder::new(&pattern)
        .literal_separator(true)
        .build()
        .map_err(|error| {
            Error::Invalid(format!("{} is no glob: {}", full.display(), error.kind()))
        })?
        .compile_matcher();
    let depth = if pattern.contains("**") {
        MAX_DEPTH
    } else {
        pattern.matches('/').count().min(MAX_DEPTH)
    };

    let found = grants.read(&base)?;
    let dir = found.dir.open_dir(&found.path).map_err(found.failed("opening"))?;
    walk.matching(&dir, &base, Path::new(""), &matcher, depth)?;
    if walk.files.is_empty() {
        return Err(Error::bad(full, "matches no file"));
    }
    Ok(())
}

struct Walk {
    files: Files,
    entries: usize,
    names: usize,
}

impl Walk {
    fn add(&mut self, path: PathBuf, metadata: &Metadata) -> Result<()> {
        if !metadata.is_file() {
            return Err(Error::bad(&path, "is neither a file nor a folder"));
        }
        self.names += path.as_os_str().len();
        if self.names > MAX_NAMES {
            return Err(Error::bad(
                &path,
                "is one of so many that their names have more than 256 MiB: say more precisely what to read",
            ));
        }
        self.files.insert(path, Found { len: metadata.len(), tag: None });
        Ok(())
    }

    /// The files right in a folder; folders in it are left out.
    fn folder(&mut self, dir: &Dir, full: &Path) -> Result<()> {
        for name in self.visible(dir, full)? {
            let path = full.join(&name);
            let metadata = dir.metadata(&name).map_err(opening("reading", &path, FLAG))?;
            if !metadata.is_dir() {
                self.add(path, &metadata)?;
            }
        }
        Ok(())
    }

    /// What a glob matches below a folder, which lies at `below` from where the glob begins.
    fn matching(
        &mut self,
        dir: &Dir,
        full: &Path,
        below: &Path,
        matcher: &GlobMatcher,
        depth: usize,
    ) -> Result<()> {
        for name in self.visible(dir, full)? {
            let (path, below) = (full.join(&name), below.join(&name));
            let is_match = matcher.is_match(&below);
            let kind =
                dir.symlink_metadata(&name).map_err(opening("reading", &path, FLAG))?.file_type();
            if kind.is_dir() {
                // Through the folder itself, not through a link to it: links may lead in circles.
                if is_match || depth > 0 {
                    let inner = dir.open_dir(&name).map_err(opening("opening", &path, FLAG))?;
                    if is_match {
                        self.folder(&inner, &path)?;
                    }
                    if depth > 0 {
                        self.matching(&inner, &path, &below, matcher, depth - 1)?;
                    }
                }
            } else if is_match {
                let metadata = dir.metadata(&name).map_err(opening("reading", &path, FLAG))?;
                if !metadata.is_dir() {
                    self.add(path, &metadata)?;
                }
            }
        }
        Ok(())
    }

    fn visible(&mut self, dir: &Dir, full: &Path) -> Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in dir.entries().map_err(Error::io("listing", full))? {
            let name = entry.map_err(Error::io("listing", full))?.file_name();
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                let problem = format!(
                    "and what lies below has more than {MAX_ENTRIES} names: say more precisely what to read"
                );
                return Err(Error::bad(full, problem));
            }
            if !name.as_encoded_bytes().starts_with(b".")
                && !name.as_encoded_bytes().starts_with(b"_")
            {
                names.push(name.into());
            }
        }
        Ok(names)
    }
}
