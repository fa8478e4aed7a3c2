//! Ingle beside a peer: the same jobs on the same data with the same cores and memory, in turn, their results compared.

mod agree;
pub mod jobs;
mod process_tree;
pub mod report;
pub mod size;
pub mod spark;
mod standalone;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use self::jobs::{JOBS, Measure, Task};
use self::report::{Bars, Figures, Measured, Row, Unit};
use self::size::Size;
use self::spark::Spark;
use self::standalone::Standalone;
use crate::cluster::Cluster;
use crate::compare::{Places, Side};
use crate::measure::{Run, Sample};
use crate::rows::number_before;

/// The heading of the peer's part of the report.
pub const HEADING: &str = "## Beside Apache Spark";

/// A text of what was measured and how, and whether all of it could be.
pub struct Report {
    /// As Markdown.
    pub text: String,
    /// Whether every row has its numbers.
    pub whole: bool,
}

/// Measures the jobs of these names, or all.
///
/// The peer is installed in `dir`.
pub fn measure(places: &Places, dir: &Path, size: &Size, only: &[String], context: &str) -> Report {
    let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/spark"));
    let chosen = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    let mut rows = Vec::new();
    let version = match Spark::ready(dir, sources) {
        Ok(spark) => {
            let bench = Bench { places, spark: &spark, size };
            for job in JOBS.iter().filter(|job| chosen(job.name)) {
                match (job.tasks)(&places.data, size) {
                    Ok(tasks) => tasks.iter().for_each(|task| bench.task(task, &mut rows)),
                    Err(error) => rows.push(Row::failed(job.name, &error)),
                }
            }
            spark.version()
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            rows.push(Row::failed("Spark", &error));
            "4.1".to_owned()
        }
    };
    let java = spark::java().unwrap_or_else(|error| format!("{error:#}"));
    let text = format!(
        "{HEADING}\n\n{context}\n{}\n\n{}",
        configured(&version, &java, size.runs),
        report::table("Spark", &rows)
    );
    Report { text, whole: rows.iter().all(|row| row.result.is_ok()) }
}

/// How it was measured.
fn configured(version: &str, java: &str, runs: usize) -> String {
    let settings: Vec<_> =
        spark::SETTINGS.iter().map(|(key, value)| format!("`{key}={value}`")).collect();
    format!(
        "Apache Spark {version} as PyPI distributes it, {java}, its jobs (`bench/spark`) in Java. Both sides have 2 cores and the same \
         executor memory, read the same files from the page cache and run in turn, Ingle after one run for its code cache; \
         medians of {runs}, whole commands (`rsubmit`, `spark-submit`) unless a row says otherwise. \
         Results of the first runs are compared. Times and memory of a cluster are those of its command, master, worker and executor together: processor time \
         by the kernel's counts before and after, memory the sum of the processes' own peaks. \
         Where Spark has two programs, the faster one is held to the bars.\n\n\
         Spark's settings: {}; `spark.default.parallelism` and `spark.sql.shuffle.partitions` 8, of the sort that spills 64; \
         `{}`; driver and executor have the memory that Ingle's executor has; local files in `target`. \
         Its cluster is its standalone master and one worker of 2 cores and 8 GiB.",
        settings.join(", "),
        spark::JAVA
    )
}

/// What each measurement needs.
struct Bench<'a> {
    places: &'a Places,
    spark: &'a Spark,
    size: &'a Size,
}

/// Where both sides run a job.
struct Stage<'a> {
    name: &'a str,
    /// Their masters, ours first, and their daemons.
    masters: [String; 2],
    daemons: [Vec<u32>; 2],
}

impl Bench<'_> {
    /// Measures a task where it has bars: in local mode and on a cluster.
    fn task(&self, task: &Task, rows: &mut Vec<Row>) {
        let [local, cluster] = task.bars;
        if let Some(bars) = local {
            let masters = ["local[2]", "local[2]"].map(str::to_owned);
            let stage = Stage { name: "local[2]", masters, daemons: Default::default() };
            self.rows(task, &stage, bars, rows);
        }
        if let Some(bars) = cluster {
            // New ones for each task: what the last one left in a daemon doesn't count for this one.
            let both = || {
                Ok::<_, anyhow::Error>((
                    Cluster::start(self.places)?,
                    Standalone::start(self.spark)?,
                ))
            };
            match both() {
                Ok((ours, theirs)) => {
                    let masters = [ours.url().to_owned(), theirs.url().to_owned()];
                    let daemons = [ours.processes().to_vec(), theirs.processes()];
                    let stage = Stage { name: "cluster", masters, daemons };
                    self.rows(task, &stage, bars, rows);
                }
                Err(error) => rows.push(Row::failed(format!("{}, cluster", task.what), &error)),
            }
        }
    }

    /// Adds a row for each of the peer's programs, or one that says why there is none.
    fn rows(&self, task: &Task, stage: &Stage<'_>, bars: Bars, rows: &mut Vec<Row>) {
        let what = format!("{}, {}", task.what, stage.name);
        eprintln!("measuring {what}");
        let before = rows.len();
        match self.sides(task, stage) {
            Ok((unit, ours, theirs)) => {
                let best = best(unit, &theirs);
                for (at, ((label, _), theirs)) in task.theirs.iter().zip(theirs).enumerate() {
                    let label =
                        if label.is_empty() { String::new() } else { format!(" (Spark: {label})") };
                    let bars = (at == best).then_some(bars);
                    let result = Ok(Measured { unit, ours, theirs, bars });
                    rows.push(Row { what: format!("{what}{label}"), result });
                }
            }
            Err(error) => rows.push(Row::failed(what, &error)),
        }
        rows.iter().skip(before).for_each(|row| eprintln!("{}", row.line()));
    }

    /// Runs all sides in turn.
    fn sides(&self, task: &Task, stage: &Stage<'_>) -> Result<(Unit, Figures, Vec<Figures>)> {
        let work = tempfile::Builder::new().prefix(".out-").tempdir_in(&self.places.data)?;
        let side = |number: usize| -> Result<Side> {
            let out = work.path().join(number.to_string());
            if out.exists() {
                fs::remove_dir_all(&out)?;
            }
            let mut args = task.args[number.min(1)].clone();
            if task.writes {
                args.push(out.to_str().context("the data folder's name isn't UTF-8")?.to_owned());
            }
            let (command, daemons) = match number.checked_sub(1).and_then(|at| task.theirs.get(at))
            {
                None => (self.ours(task, stage, &args)?, &stage.daemons[0]),
                Some((_, class)) => {
                    let [_, master] = &stage.masters;
                    (self.spark.job(master, task.resources, class, &args), &stage.daemons[1])
                }
            };
            // What an earlier run left to be written must not slow this one down.
            rustix::fs::sync();
            Ok(Side { run: process_tree::run(command, daemons)?, out })
        };

        // Compiles our job, and reads the data into the page cache.
        side(0)?;
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); task.theirs.len() + 1];
        for round in 0..self.size.runs {
            let ours = side(0)?;
            for (number, runs) in runs.iter_mut().enumerate().skip(1) {
                let theirs = side(number)?;
                if round == 0 {
                    task.agree.check(&ours, &theirs)?;
                }
                runs.push(theirs.run);
            }
            runs[0].push(ours.run);
        }

        let unit = match task.measure {
            Measure::Whole => Unit::Seconds,
            Measure::Said(unit, _) => unit,
        };
        let mut figures = Vec::new();
        for runs in runs {
            let values = runs.iter().map(|run| value(task.measure, run)).collect::<Result<_>>()?;
            figures.push(Figures::of(&Sample(runs), values));
        }
        let ours = figures.remove(0);
        Ok((unit, ours, figures))
    }

    fn ours(&self, task: &Task, stage: &Stage<'_>, args: &[String]) -> Result<Command> {
        let memory = format!("{}g", task.resources.memory);
        let flags = [
            "--master",
            &stage.masters[0],
            "--driver-memory",
            &memory,
            "--executor-memory",
            &memory,
        ];
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        self.places.job(&flags, task.ours, &args)
    }
}

/// What is compared of a run.
fn value(measure: Measure, run: &Run) -> Result<f64> {
    match measure {
        Measure::Whole => Ok(run.wall.as_secs_f64()),
        Measure::Said(_, before) => number_before(&run.stdout, before),
    }
}

/// The best of several programs of the peer.
fn best(unit: Unit, figures: &[Figures]) -> usize {
    let better = |figures: &Figures| match unit {
        Unit::Seconds => figures.value,
        Unit::Rate => -figures.value,
    };
    let all = figures.iter().map(better).enumerate();
    all.min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(at, _)| at)
}

/// The part of an older report that a new one without the peer keeps: from the peer's heading on.
pub fn kept(report: &str) -> Option<&str> {
    report.find(HEADING).map(|at| &report[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_better_program_is_the_faster_one() {
        let of = |value| Figures { value, cpu: 1.0, peak: 1.0 };
        assert_eq!(best(Unit::Seconds, &[of(3.0), of(2.0)]), 1);
        assert_eq!(best(Unit::Rate, &[of(3.0), of(2.0)]), 0);
    }

    #[test]
    fn a_report_without_the_peer_keeps_what_was_there() {
        let report = format!("# Reached\n\n| a |\n\n{HEADING}\n\n| b |\n");
        assert_eq!(kept(&report), Some(format!("{HEADING}\n\n| b |\n").as_str()));
        assert_eq!(kept("# Reached\n"), None);
    }

    #[test]
    fn a_value_is_the_commands_time_or_what_it_says() {
        let run = Run {
            wall: std::time::Duration::from_secs(3),
            cpu: Default::default(),
            peak: 0,
            stdout: "sum 7 of 16 tasks in 0.5000 s\n".into(),
        };
        assert_eq!(value(Measure::Whole, &run).unwrap(), 3.0);
        assert_eq!(value(Measure::Said(Unit::Seconds, " s"), &run).unwrap(), 0.5);
    }
}
