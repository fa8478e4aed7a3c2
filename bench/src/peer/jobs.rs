//! The jobs that both sides do, and what is to be reached.

use std::path::Path;

use anyhow::{Context, Result};

use super::agree::Agree;
use super::report::{Bars, Unit};
use super::size::Size;
use super::spark::Resources;
use crate::{data, tables};

/// Jobs that are measured together.
pub struct Job {
    /// What they are called on the command line.
    pub name: &'static str,
    /// Makes their data in a folder.
    pub tasks: fn(&Path, &Size) -> Result<Vec<Task>>,
}

/// One job with its data.
pub struct Task {
    /// What it does.
    pub what: String,
    /// Our example.
    pub ours: &'static str,
    /// The peer's programs, each with what it is called if there are several.
    pub theirs: &'static [(&'static str, &'static str)],
    /// Arguments of ours and theirs.
    pub args: [Vec<String>; 2],
    /// Whether a folder to write to comes last.
    pub writes: bool,
    /// What both may have.
    pub resources: Resources,
    /// What is compared: the whole command's time, or the number that stands before a unit in what was printed.
    pub measure: Measure,
    /// What of the results must agree.
    pub agree: Agree,
    /// What is to be reached in local mode and on a cluster; none isn't measured.
    pub bars: [Option<Bars>; 2],
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The time of the whole command.
    Whole,
    /// What the job says of itself, before a unit.
    Said(Unit, &'static str),
}

/// All there is.
pub const JOBS: &[Job] = &[
    Job { name: "start", tasks: start },
    Job { name: "noop", tasks: noop },
    Job { name: "wordcount", tasks: wordcount },
    Job { name: "sort", tasks: sort },
    Job { name: "spill", tasks: spill },
    Job { name: "medians", tasks: medians },
    Job { name: "join", tasks: join },
    Job { name: "pagerank", tasks: pagerank },
    Job { name: "pi", tasks: pi },
    Job { name: "kmeans", tasks: kmeans },
    Job { name: "logistic", tasks: logistic },
    Job { name: "flights", tasks: flights },
    Job { name: "lookup", tasks: lookup },
];

/// How many steps the iterative jobs take.
const STEPS: &str = "10";

impl Task {
    /// A whole command with 1 GiB that is held to nothing but memory.
    fn new(what: impl Into<String>, ours: &'static str, args: &[&str]) -> Self {
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self {
            what: what.into(),
            ours,
            theirs: &[],
            args: [args.clone(), args],
            writes: false,
            resources: Resources { memory: 1, partitions: 8 },
            measure: Measure::Whole,
            agree: Agree::Numbers,
            // On a cluster only what has a bar there: the peer takes its time.
            bars: [Some(Bars::default()), None],
        }
    }

    /// The same times faster, in local mode and on a cluster.
    fn faster(self, times: f64) -> Self {
        let bars = Some(Bars { speed: Some(times), cpu: None });
        Self { bars: [bars; 2], ..self }
    }
}

fn start(_: &Path, _: &Size) -> Result<Vec<Task>> {
    let task = Task::new("an empty job", "empty", &[]);
    let bars = [Some(Bars::default()); 2];
    Ok(vec![Task { theirs: &[("", "Empty")], agree: Agree::Nothing, bars, ..task }])
}

fn noop(_: &Path, size: &Size) -> Result<Vec<Task>> {
    let args = size.tasks.map(|tasks| vec![tasks.to_string(), "2".to_owned()]);
    let task = Task::new("no-op tasks, in a driver that ran some", "noop", &[]).faster(30.0);
    Ok(vec![Task {
        theirs: &[("", "Noop")],
        args,
        measure: Measure::Said(Unit::Rate, " tasks/s"),
        agree: Agree::Nothing,
        ..task
    }])
}

fn wordcount(dir: &Path, size: &Size) -> Result<Vec<Task>> {
    let input = data::text(dir, size.mib)?;
    let task = Task::new(format!("word count of {} MiB", size.mib), "wordcount", &[utf8(&input)?]);
    let bars = Some(Bars { speed: Some(12.0), cpu: Some(10.0) });
    Ok(vec![Task {
        theirs: &[("RDD", "WordCount"), ("SQL", "WordCountSql")],
        writes: true,
        agree: Agree::Lines,
        bars: [bars; 2],
        ..task
    }])
}

fn sort(dir: &Path, size: &Size) -> Result<Vec<Task>> {
    let resources = Resources { memory: 2, partitions: 8 };
    sort_of(dir, size.mib, resources, 8.0)
}

fn spill(dir: &Path, size: &Size) -> Result<Vec<Task>> {
    let resources = Resources { memory: 1, partitions: 64 };
    let tasks = sort_of(dir, size.spilled, resources, 3.0)?;
    // It takes the peer minutes: in local mode only.
    Ok(tasks.into_iter().map(|task| Task { bars: [task.bars[0], None], ..task }).collect())
}

fn sort_of(dir: &Path, mib: u64, resources: Resources, times: f64) -> Result<Vec<Task>> {
    let input = data::records(dir, mib)?;
    let what = format!("sort of {mib} MiB with {} GiB of executor memory", resources.memory);
    let task = Task::new(what, "sort", &[utf8(&input)?]).faster(times);
    Ok(vec![Task {
        theirs: &[("RDD", "Sort"), ("SQL", "SortSql")],
        writes: true,
        resources,
        agree: Agree::Sorted,
        ..task
    }])
}

fn medians(dir: &Path, size: &Size) -> Result<Vec<Task>> {
    let (rows, keys) = (size.rows * 2, size.keys);
    let input = tables::skewed(dir, rows, keys)?;
    let what = format!(
        "median of each of {} keys, {} rows, half of them of one key",
        count(keys),
        count(rows)
    );
    let task = Task::new(what, "medians", &[utf8(&input)?, "1000"]);
    let resources = Resources { memory: 2, partitions: 8 };
    Ok(vec![Task { theirs: &[("", "Medians")], resources, ..task }])
}

fn join(dir: &Path, size: &Size) -> Result<Vec<Task>> {
    let both = |keys: u64| {
        let (left, right) = (tables::pairs(dir, size.rows, keys)?, tables::keys(dir, keys)?);
        let what = format!("join of {} rows with {}", count(size.rows), count(keys));
        let task = Task::new(what, "join", &[utf8(&left)?, utf8(&right)?]).faster(5.0);
        let resources = Resources { memory: 2, partitions: 8 };
        Ok(Task { theirs: &[("RDD", "Join"), ("SQL", "JoinSql")], resources, ..task })
    };
    [size.keys, size.rows].into_iter().map(both).collect()
}

fn pagerank(dir: &Path, size: &Size) -> Result<Vec<Task>> {
    let debian = data::real_file(dir, "debian-depends.tsv.gz")?;
    let args = [utf8(&debian)?, STEPS, "10"];
    let what = format!("PageRank of debian-depends, {STEPS} iterations");
    let debian = Task { theirs: &[("", "PageRank")], ..Task::new(what, "pagerank", &args) };
    let edges = tables::graph(dir, size.nodes, size.nodes * 10)?;
    let args = [utf8(&edges)?, STEPS, "10"];
    let what = format!(
        "PageRank of {} nodes with {} edges, {STEPS} iterations",
        count(size.nodes),
        count(size.nodes * 10)
    );
    let large = Task {
        theirs: &[("", "PageRank")],
        resources: Resources { memory: 4, partitions: 8 },
        ..Task::new(what, "pagerank", &args)
    };
    Ok(vec![debian.faster(15.0), large])
}

fn pi(_: &Path, size: &Size) -> Result<Vec<Task>> {
    let task = Task::new(
        format!("π by {} darts", count(size.samples)),
        "pi",
        &[&size.samples.to_string(), "8"],
    );
    Ok(vec![Task { theirs: &[("", "Pi")], ..task }])
}

fn kmeans(dir: &Path, size: &Size) -> Result<Vec<Task>> {
    let input = tables::points(dir, size.points)?;
    let k = tables::CLUSTERS.to_string();
    let what = format!("k-means of {} points, {STEPS} iterations", count(size.points));
    let task = Task::new(what, "kmeans", &[utf8(&input)?, &k, STEPS]);
    Ok(vec![Task { theirs: &[("", "KMeans")], ..task }])
}

fn logistic(dir: &Path, size: &Size) -> Result<Vec<Task>> {
    let input = tables::labelled(dir, size.points)?;
    let what = format!("logistic regression of {} points, {STEPS} iterations", count(size.points));
    let task = Task::new(what, "logistic", &[utf8(&input)?, STEPS]);
    Ok(vec![Task { theirs: &[("", "Logistic")], ..task }])
}

fn flights(dir: &Path, _: &Size) -> Result<Vec<Task>> {
    data::real_file(dir, "airlines.csv.gz")?;
    let table = data::real_file(dir, "flights.csv.gz")?;
    let folder = table.parent().context("the data has no folder")?;
    let task = Task::new("flights CSV by carrier", "flights", &[utf8(folder)?]).faster(20.0);
    Ok(vec![Task { theirs: &[("SQL", "Flights")], ..task }])
}

fn lookup(_: &Path, size: &Size) -> Result<Vec<Task>> {
    let [small, large] = size.strings;
    let of = |strings: u64, times: [f64; 2]| {
        let what = format!("captured map of {} strings, 16 tasks, the stage alone", count(strings));
        let task = Task::new(what, "lookup", &[&strings.to_string(), "16"]);
        Task {
            theirs: &[("", "Lookup")],
            resources: Resources { memory: 3, partitions: 8 },
            measure: Measure::Said(Unit::Seconds, " s"),
            agree: Agree::Before(" of"),
            bars: times.map(|times| Some(Bars { speed: Some(times), cpu: None })),
            ..task
        }
    };
    Ok(vec![of(small, [20.0, 20.0]), of(large, [10.0, 8.0])])
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().context("the data folder's name isn't UTF-8")
}

/// A round number in words: 10^7 is easier to read than its zeros.
fn count(number: u64) -> String {
    let zeros = number.checked_ilog10().unwrap_or(0);
    match number / 10u64.pow(zeros) {
        _ if zeros < 5 || !number.is_multiple_of(10u64.pow(zeros)) => number.to_string(),
        1 => format!("10^{zeros}"),
        digit => format!("{digit}·10^{zeros}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_numbers_are_short() {
        let words = [10_000_000, 8_000_000, 1_234_567, 42, 0].map(count);
        assert_eq!(words, ["10^7", "8·10^6", "1234567", "42", "0"]);
    }

    #[test]
    fn every_jobs_classes_have_their_sources() {
        let dir = tempfile::tempdir().unwrap();
        let tiny = Size {
            mib: 1,
            spilled: 1,
            rows: 1_000,
            keys: 10,
            nodes: 10,
            points: 10,
            ..Size::QUICK
        };
        for job in JOBS {
            // Without the real data its jobs have no arguments to make.
            let Ok(tasks) = (job.tasks)(dir.path(), &tiny) else { continue };
            for task in tasks {
                let example =
                    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(task.ours);
                assert!(example.exists(), "{}", task.ours);
                for (_, class) in task.theirs {
                    let source = format!("{}/spark/{class}.java", env!("CARGO_MANIFEST_DIR"));
                    assert!(Path::new(&source).exists(), "{source}");
                }
            }
        }
    }
}
