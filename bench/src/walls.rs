//! What an attacker costs its neighbours, and how soon it is stopped.

use std::fs::{self, Permissions};
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::cluster::Cluster;
use crate::compare::Places;
use crate::data;
use crate::measure::{median, run};
use crate::report::Row;
use crate::rows::{Scale, number_before};

/// Something at work on the other core until it is dropped.
enum Beside {
    /// A job that attacks for as long as it is let.
    Attacker(Child),
    /// The same loop in this process: what any program costs its neighbours on this machine.
    Plain { stop: Arc<AtomicBool>, thread: Option<JoinHandle<()>> },
}

impl Beside {
    /// Starts a job, and waits until its task says that it is at work.
    fn attacker(mut job: Command) -> Result<Self> {
        let mut child = job.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let told = child.stderr.take().context("stderr is piped")?;
        let attacker = Self::Attacker(child);
        let mut lines = BufReader::new(told).lines();
        loop {
            let line = lines.next().context("the attacker ended before it began")??;
            if line.contains("started") {
                break;
            }
        }
        std::thread::spawn(move || lines.for_each(drop));
        Ok(attacker)
    }

    fn plain(mut work: Work) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                work();
            }
        });
        Self::Plain { stop, thread: Some(thread) }
    }

    /// It must still have been at work.
    fn check(&mut self) -> Result<()> {
        if let Self::Attacker(job) = self {
            ensure!(job.try_wait()?.is_none(), "the attacker ended before its neighbour");
        }
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        match self {
            Self::Attacker(job) => {
                // Interrupted, it takes its executors along; it may have ended by itself.
                if let Some(pid) = rustix::process::Pid::from_raw(job.id() as i32) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
                }
                let _ = job.wait();
            }
            Self::Plain { stop, thread } => {
                stop.store(true, Ordering::Relaxed);
                thread.take().map(JoinHandle::join);
            }
        }
    }
}

/// An attack that goes on until it is stopped.
struct Attack {
    what: &'static str,
    args: [&'static str; 3],
    /// How many times slower a neighbour may be.
    reach: f64,
    /// The same as a program that isn't sandboxed.
    plain: fn(&Path) -> Result<Work>,
}

const ATTACKS: [Attack; 3] = [
    Attack {
        what: "a task that spins on its own core",
        args: ["endless", "task-alone", "silent"],
        reach: 1.05,
        plain: spin,
    },
    Attack {
        what: "a task that writes to memory on its own core",
        args: ["endless", "task-alone", "memory"],
        reach: 1.05,
        plain: scribble,
    },
    Attack {
        what: "a task that writes temporary blocks as fast as it can",
        args: ["run-flood", "task-alone", "blocks"],
        reach: 1.10,
        plain: write,
    },
];

/// A little of some work at each call, with what it needs in a folder.
type Work = Box<dyn FnMut() + Send>;

fn spin(_: &Path) -> Result<Work> {
    Ok(Box::new(|| (0..1 << 20).for_each(|n: u32| _ = black_box(n))))
}

/// As much memory as the attack has.
fn scribble(_: &Path) -> Result<Work> {
    let mut cells = vec![1u64; 1 << 16];
    Ok(Box::new(move || {
        cells.iter_mut().for_each(|cell| *cell = black_box(cell.wrapping_mul(3)));
    }))
}

/// Blocks to a file that is deleted already, up to 4 GiB of them.
fn write(beside: &Path) -> Result<Work> {
    let file = tempfile::tempfile_in(beside)?;
    let mut blocks = (0..4u64 << 14).cycle();
    Ok(Box::new(move || {
        let at = blocks.next().unwrap_or_default() << 16;
        // A full disk is as much of a neighbour.
        let _ = file.write_all_at(&[0; 64 << 10], at);
    }))
}

/// What its neighbours notice.
pub fn neighbours(places: &Places, scale: Scale) -> Result<Vec<Row>> {
    let cluster = Cluster::start(places)?;
    let input = data::text(&places.data, scale.mib / 4)?;
    let input = input.to_str().context("the data folder's name isn't UTF-8")?;
    let work = tempfile::Builder::new().prefix(".out-").tempdir_in(&places.data)?;
    let out = work.path().join("out");
    let out_text = out.to_str().context("the data folder's name isn't UTF-8")?;
    let small = ["--total-executor-cores", "1", "--master", cluster.url()];
    let neighbour = || -> Result<f64> {
        if out.exists() {
            fs::remove_dir_all(&out)?;
        }
        rustix::fs::sync();
        let job = places.job(&small, "wordcount", &[input, out_text])?;
        Ok(run(job)?.wall.as_secs_f64())
    };
    neighbour()?;
    let runs = scale.short * 2 + 1;
    let mut rows = Vec::new();
    for Attack { what, args, reach, plain } in ATTACKS {
        let (mut alone, mut attacked, mut usual) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..runs {
            alone.push(neighbour()?);
            let mut attacker = Beside::attacker(places.job(&small, "hostile", &args)?)?;
            attacked.push(neighbour()?);
            attacker.check()?;
            drop(attacker);
            let plain = Beside::plain(plain(&places.data)?);
            usual.push(neighbour()?);
            drop(plain);
        }
        // Each beside its own, for the machine's pace drifts.
        let times =
            |times: &[f64]| median(times.iter().zip(&alone).map(|(one, alone)| one / alone));
        let (ratio, usual) = (times(&attacked), times(&usual));
        rows.push(Row::new(
            format!("word count of {} MiB on one core, beside {what}", scale.mib / 4),
            format!("≤ {reach:.2} ×"),
            format!(
                "{ratio:.2} × (beside a program that does the same without a sandbox {usual:.2} ×; alone {:.2} s; medians of {runs})",
                median(alone)
            ),
            ratio <= reach,
        ));
    }
    Ok(rows)
}

/// How soon an attacker is stopped.
pub fn stops(places: &Places, scale: Scale) -> Result<Vec<Row>> {
    let cluster = Cluster::start(places)?;
    Ok(vec![freed(places, &cluster, scale)?, memory(places, &cluster, scale)?])
}

/// From the kill of two tasks that never call their host until the next ones have their slots.
fn freed(places: &Places, cluster: &Cluster, scale: Scale) -> Result<Row> {
    let flags = ["--total-executor-cores", "2", "--allow-read=data", "--allow-write=data"];
    let flags = [&flags[..], &["--master", cluster.url()]].concat();
    // For whatever user they run as.
    let work = tempfile::tempdir()?;
    let marks = work.path().join("data");
    fs::create_dir(&marks)?;
    fs::set_permissions(work.path(), Permissions::from_mode(0o755))?;
    fs::set_permissions(&marks, Permissions::from_mode(0o777))?;
    let once = || -> Result<f64> {
        let mut job = places.job(&flags, "hostile", &["endless-task", "driver", "silent"])?;
        job.current_dir(work.path());
        number_before(&run(job)?.stdout, " ms until it was free")
    };
    let ms = median((0..scale.short).map(|_| once()).collect::<Result<Vec<_>>>()?);
    Ok(Row::new(
        "two tasks that never call their host: from their kill until others had their cores, on a cluster",
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
        let run = run(places.job(&flags, "hostile", &["memory-bomb", "task-alone", "heap"])?)?;
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
