//! Running a program to its end, and what that took.

use std::io::{Read, Seek, SeekFrom};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use wait4::Wait4;

/// What one run of a program took, start to exit.
#[derive(Clone, Debug)]
pub struct Run {
    /// Time on the clock.
    pub wall: Duration,
    /// Time on processors, its own and the system's for it.
    pub cpu: Duration,
    /// The most memory that was resident, in bytes. The kernel counts from the fork, so it is never
    /// less than what the harness itself has then.
    pub peak: u64,
    /// What it printed.
    pub stdout: String,
}

/// Runs a program. An exit code other than 0 is an error that holds the last of what it wrote to stderr.
pub fn run(mut command: Command) -> Result<Run> {
    let mut stderr = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr.try_clone()?);
    let name = command.get_program().display().to_string();
    // What the harness once had, say to compare outputs, isn't the program's. Where this can't be, the peak is only higher.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("can't start {name}"))?;
    let mut stdout = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut stdout)?;
    }
    let used = child.wait4()?;
    let wall = start.elapsed();
    if !used.status.success() {
        let mut words = String::new();
        stderr.seek(SeekFrom::Start(0))?;
        stderr.read_to_string(&mut words)?;
        let last: Vec<_> = words.lines().rev().take(10).collect();
        let last: Vec<_> = last.into_iter().rev().collect();
        bail!("{name}: {}: {}", used.status, last.join("\n"));
    }
    Ok(Run { wall, cpu: used.rusage.utime + used.rusage.stime, peak: used.rusage.maxrss, stdout })
}

/// Several runs of the same.
#[derive(Debug, Default)]
pub struct Sample(pub Vec<Run>);

impl Sample {
    /// The median time on the clock.
    pub fn wall(&self) -> Duration {
        self.seconds(|run| run.wall.as_secs_f64())
    }

    /// The median time on processors.
    pub fn cpu(&self) -> Duration {
        self.seconds(|run| run.cpu.as_secs_f64())
    }

    /// The highest peak of all runs: a bound is kept always or not at all.
    pub fn peak(&self) -> u64 {
        self.0.iter().map(|run| run.peak).max().unwrap_or(0)
    }

    fn seconds(&self, of: impl Fn(&Run) -> f64) -> Duration {
        Duration::from_secs_f64(median(self.0.iter().map(of)))
    }
}

/// The value in the middle, or the mean of the two there; 0 of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Result<Run> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command)
    }

    #[test]
    fn a_run_tells_what_was_printed_and_used() {
        let run = sh("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done").unwrap();
        assert_eq!(run.stdout, "done\n");
        assert!(
            run.cpu > Duration::ZERO && run.wall > Duration::ZERO && run.peak > 100_000,
            "{run:?}"
        );
    }

    #[test]
    fn a_failed_run_tells_the_code_and_the_last_words() {
        let error = sh("echo out; echo the reason >&2; exit 3").unwrap_err().to_string();
        assert!(error.contains('3') && error.contains("the reason"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(Command::new("no-such-program")).unwrap_err().to_string();
        assert!(error.contains("no-such-program"), "{error}");
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median([]), 0.0);
        assert_eq!(median([9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 9.0]), 3.0);
    }
}
