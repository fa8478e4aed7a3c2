//! A cluster of one worker on this machine, against local mode and the bars.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::compare::{Places, compare};
use crate::measure::{Sample, median, run};
use crate::report::Row;
use crate::rows::{Scale, number_before, same};
use crate::{data, verify};

/// A master and a worker of 2 cores, each a process. Ended on drop.
pub struct Cluster {
    master: Child,
    worker: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Cluster {
    /// Starts both and waits until the worker is known.
    pub fn start(places: &Places) -> Result<Self> {
        // Beside the data: no job is granted a folder that daemons keep their things in.
        let beside = places.data.parent().context("the data has no folder around it")?;
        let dir = tempfile::Builder::new().prefix(".cluster-").tempdir_in(beside)?;
        let ingle = |args: &[&str], folder: &str| {
            let mut command = Command::new(places.tools.join("ingle"));
            command.args(args).arg(dir.path().join(folder)).stdin(Stdio::null());
            command.stderr(Stdio::piped()).spawn().context("can't start ingle")
        };
        let mut master = ingle(&["master", "--port", "0", "--webui-port", "0", "--dir"], "master")?;
        let url = said(&mut master, "master on ")?;
        let url = url.trim_end_matches(',').to_owned();
        let args = [
            "worker",
            &url,
            "--port",
            "0",
            "--webui-port",
            "0",
            "--cores",
            "2",
            "--memory",
            "8g",
            "--work-dir",
        ];
        let mut worker = ingle(&args, "worker")?;
        said(&mut worker, "registered as ")?;
        Ok(Self { master, worker, url, _dir: dir })
    }

    /// Where jobs are submitted.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The daemons' processes.
    pub fn processes(&self) -> [u32; 2] {
        [self.master.id(), self.worker.id()]
    }

    /// The process that the worker started last.
    fn executor(&self) -> Option<u32> {
        let worker = self.worker.id();
        let tasks = fs::read_dir(format!("/proc/{worker}/task")).ok()?;
        let children = tasks.flatten().filter_map(|task| {
            let list = fs::read_to_string(task.path().join("children")).ok()?;
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).max()
        });
        children.max()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in [&mut self.worker, &mut self.master] {
            // They may have ended by themselves, which their runs have told of.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The word behind a text that a daemon says; goes on reading so that it never blocks.
pub fn said(daemon: &mut Child, before: &str) -> Result<String> {
    let stderr = daemon.stderr.take().context("a pipe")?;
    let mut lines = BufReader::new(stderr).lines();
    let mut all = String::new();
    let word = loop {
        let line = lines.next().with_context(|| format!("it ended: {all}"))??;
        if let Some((_, after)) = line.split_once(before) {
            break after.split_whitespace().next().unwrap_or_default().to_owned();
        }
        all += &line;
    };
    std::thread::spawn(move || lines.count());
    Ok(word)
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}

/// All rows of the cluster.
pub fn measure(places: &Places, scale: Scale) -> Result<Vec<Row>> {
    let cluster = Cluster::start(places)?;
    let master = ["--master", cluster.url.as_str()];
    // Once for the code cache.
    run(places.job(&master, "noop", &["2"])?)?;
    let submit = || run(places.job(&master, "noop", &["2"])?);
    let runs = (0..scale.short * 2).map(|_| submit()).collect::<Result<Vec<_>>>()?;
    let ms = Sample(runs).wall().as_secs_f64() * 1e3;
    let start = Row::new(
        "`rsubmit` of a 2-task job to a cluster, client mode, whole process, cached component",
        "≤ 200 ms",
        format!("{ms:.0} ms (median of {})", scale.short * 2),
        ms <= 200.0,
    );

    let rate = || {
        let run = run(places.job(&master, "noop", &["200000"])?)?;
        number_before(&run.stdout, " tasks/s")
    };
    let rate = median((0..scale.short).map(|_| rate()).collect::<Result<Vec<_>>>()?);
    let noop = Row::new(
        "no-op tasks, 1 worker with 2 cores, all processes on the same 2 cores",
        "≥ 25000 per second",
        format!("{rate:.0} per second (median of {})", scale.short),
        rate >= 25_000.0,
    );

    let input = data::text(&places.data, scale.mib)?;
    let input = input.to_str().context("the data folder's name isn't UTF-8")?;
    let memory = ["--executor-memory", "1g"];
    let flags = |master: [&'static str; 2]| [master[0], master[1], memory[0], memory[1]];
    let remote = [master[0], master[1], memory[0], memory[1]];
    let sides = compare(
        places,
        scale.long,
        |out| places.job(&remote, "wordcount", &[input, out]),
        |out| places.job(&flags(["--master", "local[2]"]), "wordcount", &[input, out]),
        |here, there| same(verify::digest(&here.out)?, verify::digest(&there.out)?),
    )?;
    let ratio = sides.ratio();
    let words = Row::new(
        format!(
            "word count of {} MiB, one executor with 2 cores, against our own local[2]",
            scale.mib
        ),
        "≤ 1.25 ×",
        format!(
            "{ratio:.2} × ({:.2} s : {:.2} s)",
            sides.job.wall().as_secs_f64(),
            sides.twin.wall().as_secs_f64()
        ),
        ratio <= 1.25,
    );

    let lost = lost_by_a_kill(places, &cluster, scale)?;
    let killed = Row::new(
        "time lost when the only executor is killed in the middle of a stage of short tasks",
        "≤ 1 s",
        format!("{lost:.2} s"),
        lost <= 1.0,
    );

    let idle = [("master", cluster.master.id()), ("worker", cluster.worker.id())];
    let mut rows = vec![start, noop, words, killed];
    for (name, pid) in idle {
        let mib = resident(pid)? as f64 / f64::from(1 << 20);
        rows.push(Row::new(
            format!("resident memory of an idle {name}, after these jobs"),
            "≤ 40 MiB",
            format!("{mib:.1} MiB"),
            mib <= 40.0,
        ));
    }
    Ok(rows)
}

/// How much longer a job takes whose executor is killed in its middle. The tasks are short, so that what they had done is no matter.
fn lost_by_a_kill(places: &Places, cluster: &Cluster, scale: Scale) -> Result<f64> {
    let job = || places.job(&["--master", &cluster.url], "noop", &["200000"]);
    let mut lost = Vec::new();
    for _ in 0..scale.long {
        let whole = run(job()?)?.wall;
        let mut command = job()?;
        let begun = Instant::now();
        let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(whole / 2);
        let executor = cluster.executor().context("no executor runs")?;
        let pid = rustix::process::Pid::from_raw(executor.cast_signed()).context("no process")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        ensure!(running.wait()?.success(), "the job failed when its executor was killed");
        lost.push(begun.elapsed().saturating_sub(whole));
    }
    Ok(median(lost.iter().map(Duration::as_secs_f64)))
}
