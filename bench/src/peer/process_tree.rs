//! What a job uses of a cluster: its own process, the daemons, and what they start for it.
//!
//! Time is exact: the kernel adds the time of children that ended and were waited for to their parent's, so what the daemons
//! and their children used is the difference of what `/proc/PID/stat` says before the job and after its executors' end.
//! A peak is the sum of all processes' own peaks (`VmHWM`): of daemons since the job's start, of executors as last seen before they ended.
//! Memory that processes share counts for each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::measure::{self, Run};

/// How often executors are looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// How long executors may take to end after their job.
const GRACE: Duration = Duration::from_secs(60);

/// In which `/proc` counts, by the second, whatever the kernel's own clock does.
const TICKS: f64 = 100.0;

/// Runs a program that daemons work for, and counts what they used for it as the program's own.
pub fn run(command: Command, daemons: &[u32]) -> Result<Run> {
    let watch = Watch::start(daemons)?;
    let mut run = measure::run(command)?;
    let (cpu, peak) = watch.end()?;
    run.cpu += cpu;
    run.peak += peak;
    Ok(run)
}

/// An eye on daemons while they work for one job.
struct Watch {
    daemons: Vec<u32>,
    /// Their children of before: the shell scripts that start Spark's leave one that nobody waits for.
    before: BTreeSet<u32>,
    /// What they had used before.
    used: Duration,
    ended: Arc<AtomicBool>,
    /// Gives the peaks of the children that it saw.
    eye: JoinHandle<BTreeMap<u32, u64>>,
}

impl Watch {
    fn start(daemons: &[u32]) -> Result<Self> {
        for pid in daemons {
            // Sets its peak to what it has now.
            fs::write(format!("/proc/{pid}/clear_refs"), "5")
                .with_context(|| format!("can't begin a peak of process {pid} anew"))?;
        }
        let ended = Arc::new(AtomicBool::new(false));
        let (pids, over) = (daemons.to_vec(), Arc::clone(&ended));
        let before = children(daemons);
        let known = before.clone();
        let eye = thread::spawn(move || {
            let mut peaks = BTreeMap::new();
            while !over.load(Ordering::Relaxed) {
                for child in started(&pids, &known) {
                    if let Some(peak) = peak(child) {
                        peaks.insert(child, peak);
                    }
                }
                thread::sleep(INTERVAL);
            }
            peaks
        });
        Ok(Self { daemons: daemons.to_vec(), before, used: used(daemons)?, ended, eye })
    }

    /// Waits for the end of what the daemons started; gives the time and the memory that all of them took.
    fn end(self) -> Result<(Duration, u64)> {
        let since = Instant::now();
        while !started(&self.daemons, &self.before).is_empty() {
            ensure!(since.elapsed() < GRACE, "an executor goes on after its job");
            thread::sleep(INTERVAL / 5);
        }
        self.ended.store(true, Ordering::Relaxed);
        let children = self.eye.join().unwrap_or_default();
        let daemons: u64 = self.daemons.iter().filter_map(|pid| peak(*pid)).sum();
        let cpu = used(&self.daemons)?.saturating_sub(self.used);
        Ok((cpu, daemons + children.values().sum::<u64>()))
    }
}

/// The time that processes used, with that of their children that ended.
fn used(pids: &[u32]) -> Result<Duration> {
    let each = pids.iter().map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        let stat = stat.with_context(|| format!("process {pid} ended"))?;
        ticks(&stat).with_context(|| format!("the kernel says of process {pid}: {stat}"))
    });
    let ticks = each.sum::<Result<u64>>()?;
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS))
}

/// The sum of user and system time, its own and its ended children's, of a line of `/proc/PID/stat`.
fn ticks(stat: &str) -> Option<u64> {
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let times: Vec<u64> = fields
        .split_ascii_whitespace()
        .skip(11)
        .take(4)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    (times.len() == 4).then(|| times.iter().sum())
}

/// The most memory of a process that was resident, in bytes.
fn peak(pid: u32) -> Option<u64> {
    high_water(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Who was started by processes besides those of before.
fn started(pids: &[u32], before: &BTreeSet<u32>) -> BTreeSet<u32> {
    &children(pids) - before
}

/// Who was started by processes and wasn't waited for yet. Which of its threads did so is the kernel's business.
fn children(pids: &[u32]) -> BTreeSet<u32> {
    let tasks = pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
    let lists = tasks
        .flatten()
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Child, Stdio};

    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a ) 1 (b) S 1 7 7 0 -1 4194560 100 0 0 0 11 12 13 14 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(50));
        assert_eq!(ticks("7 (x) S 1 2"), None);
    }

    #[test]
    fn a_peak_is_in_bytes() {
        assert_eq!(high_water("VmPeak: 9 kB\nVmHWM:\t    2048 kB\nVmRSS: 1 kB\n"), Some(2 << 20));
        assert_eq!(high_water("Name: kthreadd\n"), None);
    }

    /// A shell that does each line that it is sent.
    fn daemon() -> Child {
        Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn what_a_daemon_starts_for_a_job_counts() {
        let mut daemon = daemon();
        let watch = Watch::start(&[daemon.id()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let done = dir.path().join("done");
        // dd holds 64 MiB, and is waited for by the shell.
        let work = "dd if=/dev/zero of=/dev/null bs=64M count=20 2>&1; sleep 0.2";
        let work = format!("{work}; : > {}\n", done.display());
        daemon.stdin.as_mut().unwrap().write_all(work.as_bytes()).unwrap();
        while !done.exists() {
            thread::sleep(INTERVAL);
        }
        let (cpu, peak) = watch.end().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        assert!(cpu > Duration::ZERO);
        assert!(peak > 64 << 20, "{peak}");
    }

    #[test]
    fn daemons_that_ended_are_told() {
        let mut daemon = daemon();
        let watch = Watch::start(&[daemon.id()]).unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        assert!(watch.end().unwrap_err().to_string().contains("ended"));
    }
}
