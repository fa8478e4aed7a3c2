//! Globs of the native runner.

use std::path::{Component, Path, PathBuf};

use crate::host::local::files::is_hidden;

pub(crate) fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '[', '{'])
}

/// The files and folders that a glob matches, without hidden ones.
pub(crate) fn find(pattern: &str) -> Result<Vec<PathBuf>, String> {
    if pattern.contains('{') {
        return Err(format!("{pattern}: the native runner knows no `{{...}}` in a glob"));
    }
    let is_fixed = |part: &Component<'_>| !is_glob(&part.as_os_str().to_string_lossy());
    let fixed = Path::new(pattern).components().take_while(is_fixed).count();
    let found = glob::glob(pattern).map_err(|error| format!("{pattern} is no glob: {error}"))?;
    // What can't be listed has nothing in it for us.
    let is_shown = |path: &PathBuf| {
        !path.components().skip(fixed).any(|part| is_hidden(Path::new(part.as_os_str())))
    };
    Ok(found.flatten().filter(is_shown).collect())
}
