//! Properties and TOML files, and flags.

use std::fs;

use ingle_cli::fuzzing;

pub fn run(data: &[u8]) {
    let Ok(root) = tempfile::tempdir() else { return };
    let file = root.path().join("file");
    if fs::write(&file, data).is_err() {
        return;
    }
    fuzzing::properties(&file);
    fuzzing::config(&file);
    if let Ok(text) = std::str::from_utf8(data) {
        fuzzing::flag(text);
    }
}
