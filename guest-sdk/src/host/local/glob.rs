//! Globs of the native runner: `*`, `?` and `[...]` in the names that a path is made of.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::host::local::files::is_hidden;

pub(crate) fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '[', '{'])
}

/// The files and folders that a glob matches, without hidden ones.
pub(crate) fn find(glob: &str) -> Result<Vec<PathBuf>, String> {
    if glob.contains("**") || glob.contains('{') {
        return Err(format!("{glob}: the native runner knows no `**` and no `{{...}}` in a glob"));
    }
    let mut found = vec![PathBuf::new()];
    for part in Path::new(glob).components() {
        found = found.into_iter().flat_map(|folder| below(&folder, part)).collect();
    }
    found.retain(|path| path.exists());
    Ok(found)
}

/// What one part of a glob stands for in a folder.
fn below(folder: &Path, part: Component<'_>) -> Vec<PathBuf> {
    let name = part.as_os_str().to_string_lossy();
    if !is_glob(&name) {
        return vec![folder.join(part)];
    }
    let pattern: Vec<char> = name.chars().collect();
    let listed = fs::read_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    // What is no folder has nothing below it.
    let entries = listed.into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name()).filter(|name| {
        let text: Vec<char> = name.to_string_lossy().chars().collect();
        !is_hidden(name.as_ref()) && matches(&pattern, &text)
    });
    names.map(|name| folder.join(name)).collect()
}

fn matches(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], _) => name.is_empty(),
        (['*', rest @ ..], _) => (0..=name.len()).any(|skip| matches(rest, &name[skip..])),
        (_, []) => false,
        (['?', rest @ ..], [_, others @ ..]) => matches(rest, others),
        (['[', rest @ ..], [first, others @ ..]) => {
            let (negated, rest) = match rest {
                ['!' | '^', rest @ ..] => (true, rest),
                _ => (false, rest),
            };
            // A `]` right at the start is one of the letters.
            match rest.iter().skip(1).position(|letter| *letter == ']') {
                Some(before) => {
                    let (class, rest) = rest.split_at(before + 1);
                    is_in(class, *first) != negated && matches(&rest[1..], others)
                }
                None => false,
            }
        }
        ([letter, rest @ ..], [first, others @ ..]) => letter == first && matches(rest, others),
    }
}

fn is_in(class: &[char], letter: char) -> bool {
    match class {
        [low, '-', high, rest @ ..] => (*low..=*high).contains(&letter) || is_in(rest, letter),
        [known, rest @ ..] => *known == letter || is_in(rest, letter),
        [] => false,
    }
}
