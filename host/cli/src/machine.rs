//! What this machine, or the container that this process is in, gives.

use std::fs;
use std::path::{Path, PathBuf};

use ingle_core::size::ByteSize;

/// Cores that this process may use: by its affinity, and by its cgroup's quota.
pub fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores).unwrap_or(u32::MAX)
}

/// Memory that this process may use: the machine's, or less if a cgroup says so. None if nothing tells.
pub fn memory() -> Option<ByteSize> {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits =
        limit_files(&cgroups).into_iter().filter_map(|file| limit(&fs::read_to_string(file).ok()?));
    total.into_iter().chain(limits).min().map(ByteSize)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Where the limits of this process's cgroups are, its own and those above: version 2, and version 1.
fn limit_files(cgroups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in cgroups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (root, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|c| c == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let path = Path::new(path.trim_start_matches('/'));
        files.extend(path.ancestors().map(|at| Path::new(root).join(at).join(file)));
    }
    files
}

/// A limit as the kernel writes it; none for `max`. Version 1 writes a number beyond any machine.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(total("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(total("nothing"), None);
        assert!(memory().is_some_and(|m| m > ByteSize(64 << 20)));
    }

    #[test]
    fn limits_of_both_kinds_are_looked_for_up_to_the_root() {
        let files = limit_files("0::/a/b\n4:cpu,memory:/c\n5:pids:/x\nnonsense\n");
        let names: Vec<_> = files.iter().map(|f| f.to_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "/sys/fs/cgroup/a/b/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/memory.max",
                "/sys/fs/cgroup/memory/c/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert_eq!((limit("max\n"), limit("1024\n")), (None, Some(1024)));
    }
}
