//! The machine and the commit that a measurement holds for.

use std::fs;
use std::path::Path;
use std::process::Command;

/// One line: processor, cores, memory, kernel.
pub fn describe() -> String {
    let cpu =
        field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let kib: u64 = field("/proc/meminfo", "MemTotal")
        .and_then(|m| m.split(' ').next()?.parse().ok())
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cpu}, {cores} cores, {:.0} GiB of memory, Linux {}",
        kib as f64 / (1 << 20) as f64,
        kernel.trim()
    )
}

/// The value of the first `name: value` line of a file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let values = text.lines().filter_map(|line| line.split_once(':'));
    values.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// How many threads ran or waited for a processor over the last minute.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// The commit of a checkout, marked if files were changed since.
pub fn commit(root: &Path) -> String {
    said(Command::new("git").current_dir(root).args([
        "describe",
        "--always",
        "--dirty",
        "--abbrev=10",
    ]))
}

/// Today, in UTC.
pub fn date() -> String {
    said(Command::new("date").args(["-u", "+%F"]))
}

/// What a command prints, or "unknown".
fn said(command: &mut Command) -> String {
    let output = command.output().ok().filter(|out| out.status.success());
    let text = output.and_then(|out| String::from_utf8(out.stdout).ok());
    text.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_described_in_one_line() {
        let text = describe();
        assert!(
            text.contains(" cores, ") && text.contains("Linux") && !text.contains('\n'),
            "{text}"
        );
    }

    #[test]
    fn a_folder_outside_of_git_has_no_commit() {
        assert_eq!(commit(tempfile::tempdir().unwrap().path()), "unknown");
    }
}
