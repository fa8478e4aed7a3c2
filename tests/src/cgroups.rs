//! The cgroups that a worker put a process into.

use std::fs;
use std::path::{Path, PathBuf};

/// A process's groups of Ingle's, where they are mounted, by their controller; "" is version 2's, of all.
pub fn groups_of(process: impl std::fmt::Display) -> Vec<(String, PathBuf)> {
    let of = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
    let mut groups = Vec::new();
    for line in of.lines() {
        // As `7:cpu,cpuacct:/way`, mounted under any of its names.
        let Some((names, way)) = line.split_once(':').and_then(|(_, rest)| rest.split_once(':'))
        else {
            continue;
        };
        for name in names.split(',').filter(|_| way.contains("/ingle-")) {
            let group = Path::new("/sys/fs/cgroup").join(name).join(way.trim_start_matches('/'));
            if group.exists() {
                groups.push((name.to_owned(), group));
            }
        }
    }
    groups
}
