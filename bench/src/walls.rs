//! What an attacker costs its neighbours, and how soon it is stopped.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::Cluster;
use crate::compare::Places;
use crate::data;
use crate::measure::{median, run};
use crate::report::Row;
use crate::rows::{Scale, number_before};

/// A job that attacks for as long as it is let.
struct Attacker(Child);

impl Attacker {
    /// Starts it on a core of its own, and gives it time to begin.
    fn start(mut job: Command) -> Result<Self> {
        let attacker = Self(job.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        std::thread::sleep(Duration::from_secs(1));
        Ok(attacker)
    }

    /// Stops it. It must still have been at work.
    fn stop(mut self) -> Result<()> {
        ensure!(self.0.try_wait()?.is_none(), "the attacker ended before its neighbour");
        Ok(())
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Attacks that go on until they are stopped: what they do, the job's arguments, how many times slower a neighbour may be.
const ATTACKS: [(&str, [&str; 3], f64); 3] = [
    ("a task that spins on its own core", ["endless", "task", "silent"], 1.05),
    ("a task that writes to memory on its own core", ["endless", "task", "memory"], 1.05),
    (
        "a task that writes temporary blocks as fast as it can",
        ["run-flood", "task", "blocks"],
        1.10,
    ),
];

/// All rows of walls.
pub fn measure(places: &Places, scale: Scale) -> Result<Vec<Row>> {
    let cluster = Cluster::start(places)?;
    let input = data::text(&places.data, scale.mib / 4)?;
    let input = input.to_str().context("the data folder's name isn't UTF-8")?;
    let work = tempfile::Builder::new().prefix(".out-").tempdir_in(&places.data)?;
    let out = work.path().join("out");
    let out_text = out.to_str().context("the data folder's name isn't UTF-8")?;
    let small = ["--total-executor-cores", "1", "--master", cluster.url()];
    let neighbour = || -> Result<f64> {
        if out.exists() {
            std::fs::remove_dir_all(&out)?;
        }
        rustix::fs::sync();
        let job = places.job(&small, "wordcount", &[input, out_text])?;
        Ok(run(job)?.wall.as_secs_f64())
    };
    neighbour()?;
    let mut alone = Vec::new();
    let mut beside: [Vec<f64>; ATTACKS.len()] = Default::default();
    for _ in 0..scale.short {
        alone.push(neighbour()?);
        for ((_, args, _), times) in ATTACKS.iter().zip(&mut beside) {
            let attacker = Attacker::start(places.job(&small, "hostile", args)?)?;
            times.push(neighbour()?);
            attacker.stop()?;
            // Its core is free again, and what it wrote is gone.
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let alone = median(alone);
    let mut rows = Vec::new();
    for ((what, _, reach), times) in ATTACKS.iter().zip(beside) {
        let (ratio, runs) = (median(times) / alone, scale.short);
        rows.push(Row::new(
            format!("word count of {} MiB on one core, beside {what}", scale.mib / 4),
            format!("≤ {reach:.2} ×"),
            format!("{ratio:.2} × (alone {alone:.2} s; medians of {runs})"),
            ratio <= *reach,
        ));
    }
    rows.push(freed(places, &cluster, scale)?);
    rows.push(memory(places, &cluster, scale)?);
    Ok(rows)
}

/// From the kill of a task that never calls its host until the next one has its slot.
fn freed(places: &Places, cluster: &Cluster, scale: Scale) -> Result<Row> {
    let flags = ["--total-executor-cores", "1", "--master", cluster.url()];
    let once = || -> Result<f64> {
        let run = run(places.job(&flags, "hostile", &["endless-task", "driver", "silent"])?)?;
        number_before(&run.stdout, " ms until it was free")
    };
    let ms = median((0..scale.short).map(|_| once()).collect::<Result<Vec<_>>>()?);
    Ok(Row::new(
        "a task that never calls its host: from its kill until another task had its core, on a cluster",
        "≤ 1 s",
        format!("{ms:.0} ms (median of {})", scale.short),
        ms <= 1000.0,
    ))
}

/// A task that takes more memory than its executor has, from its start to its failure; beside tasks that go on.
fn memory(places: &Places, cluster: &Cluster, scale: Scale) -> Result<Row> {
    let flags =
        ["--total-executor-cores", "1", "--executor-memory", "1g", "--master", cluster.url()];
    let flags = [&flags[..], &["--conf", "ingle.task.maxFailures=1"]].concat();
    let mut times = Vec::new();
    for _ in 0..scale.short {
        let begun = Instant::now();
        let run = run(places.job(&flags, "hostile", &["memory-bomb", "task", "heap"])?)?;
        times.push(begun.elapsed().as_secs_f64());
        let held = run.stdout.contains("out of memory")
            && run.stdout.contains("on executors {0} before and {0} after");
        ensure!(held, "the bomb cost an executor: {}", run.stdout);
    }
    let took = median(times);
    Ok(Row::new(
        "a task that takes memory without end, of an executor with 1 GiB: the whole job, in which other tasks go on and no executor is lost",
        "≤ 1 s",
        format!("{took:.2} s (median of {})", scale.short),
        took <= 1.0,
    ))
}
