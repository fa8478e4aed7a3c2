//! What is measured, row by row, and what each is to reach.

use anyhow::{Context, Result, ensure};

use crate::compare::{Places, Side, compare};
use crate::data;
use crate::measure::{Sample, median, run};
use crate::report::{Row, mib};
use crate::{tables, verify};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The size of data sets.
    pub mib: u64,
    /// Rows of a join.
    pub rows: u64,
    /// Darts thrown for π.
    pub samples: u64,
    /// Runs of what takes a moment.
    pub short: usize,
    /// Runs of what takes seconds.
    pub long: usize,
}

/// Rows that are measured together.
pub struct Group {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Measures.
    pub measure: fn(&Places, Scale) -> Result<Vec<Row>>,
}

/// All there is.
pub const GROUPS: &[Group] = &[
    Group { name: "start", measure: start },
    Group { name: "forks", measure: forks },
    Group { name: "noop", measure: noop },
    Group { name: "wordcount", measure: wordcount },
    Group { name: "sort", measure: sort },
    Group { name: "join", measure: join },
    Group { name: "pi", measure: pi },
    Group { name: "linear", measure: linear },
    Group { name: "cluster", measure: crate::cluster::measure },
    Group { name: "neighbours", measure: crate::walls::neighbours },
    Group { name: "stops", measure: crate::walls::stops },
];

/// What a host may hold beside the executors' memory.
const HOST: u64 = 64 << 20;

const GIB: u64 = 1 << 30;

fn start(places: &Places, scale: Scale) -> Result<Vec<Row>> {
    let submit = || run(places.job(&["--master", "local[2]"], "empty", &[])?);
    submit()?;
    // It is over so soon that more runs cost little, and single ones tell little.
    let runs = (0..scale.short * 4).map(|_| submit()).collect::<Result<Vec<_>>>()?;
    let sample = Sample(runs);
    let ms = sample.wall().as_secs_f64() * 1e3;
    let measured =
        format!("{ms:.1} ms (peak {}, median of {})", mib(sample.peak()), sample.0.len());
    let what = "`rsubmit` of an empty job, cached component, whole process";
    Ok(vec![Row::new(what, "≤ 50 ms", measured, ms <= 50.0)])
}

/// A driver that captured this many entries, about 550 MB.
const LARGE: u64 = 8_000_000;

fn forks(places: &Places, scale: Scale) -> Result<Vec<Row>> {
    let small = |reuse| fork_time(places, scale.short, 1, reuse);
    let large = |reuse| fork_time(places, scale.long, LARGE, reuse);
    let (fresh, kept) = (small(false)?, small(true)?);
    let (large_fresh, large_kept) = (large(false)?, large(true)?);
    let (one, two) = (fork_peak(places, 1)?, fork_peak(places, 2)?);

    let bound = |what: &str, most: f64, us: f64| {
        Row::new(what, format!("≤ {most} µs"), format!("{us:.1} µs"), us <= most)
    };
    let times = |what: &str, us: f64, small: f64| {
        let times = us / small;
        Row::new(
            what,
            "≤ 2 × the small driver's",
            format!("{us:.1} µs: {times:.2} ×"),
            times <= 2.0,
        )
    };
    let grown = two as f64 / one as f64;
    let held = format!("{} : {}", mib(two), mib(one));
    Ok(vec![
        bound("forked task, fresh sandbox, small driver, one slot", 100.0, fresh),
        bound("the same on a kept instance", 40.0, kept),
        times("fresh sandbox, driver with 8,000,000 captured entries", large_fresh, fresh),
        times("kept instance, driver with 8,000,000 captured entries", large_kept, kept),
        Row::new(
            "the captured table is held once: peak RSS with 2 slots : with 1",
            "≤ 1.1 ×",
            held,
            grown <= 1.1,
        ),
    ])
}

/// Runs `forks` and gives the mean time of a task and the peak of resident memory.
fn fork(places: &Places, slots: u32, entries: u64, tasks: u64, reuse: bool) -> Result<(f64, u64)> {
    let (master, reuse) = (format!("local[{slots}]"), format!("ingle.task.reuse={reuse}"));
    let flags =
        ["--master", &master, "--driver-memory", "3g", "--executor-memory", "3g", "--conf", &reuse];
    let run = run(places.job(&flags, "forks", &[&entries.to_string(), &tasks.to_string()])?)?;
    Ok((number_before(&run.stdout, " us")?, run.peak))
}

/// What one more forked task takes on one slot, in µs: the image itself is made once, however many
/// tasks start from it.
fn fork_time(places: &Places, runs: usize, entries: u64, reuse: bool) -> Result<f64> {
    // A large image takes a second to make, give or take a tenth: so many tasks that this is little beside them.
    let (few, many) = (1_000, if reuse { 301_000 } else { 31_000 });
    let total = |tasks: u64| {
        Ok::<_, anyhow::Error>(fork(places, 1, entries, tasks, reuse)?.0 * tasks as f64)
    };
    let more = (0..runs).map(|_| Ok((total(many)? - total(few)?) / (many - few) as f64));
    let more = median(more.collect::<Result<Vec<_>>>()?);
    ensure!(more > 0.0, "{many} tasks took no longer than {few}: the machine is too busy to tell");
    Ok(more)
}

fn fork_peak(places: &Places, slots: u32) -> Result<u64> {
    // Few tasks: each slot's resident pages count, though all slots share them.
    Ok(fork(places, slots, LARGE, 100, true)?.1)
}

fn noop(places: &Places, scale: Scale) -> Result<Vec<Row>> {
    let rate = || {
        let run = run(places.job(&["--master", "local[2]"], "noop", &["200000"])?)?;
        number_before(&run.stdout, " tasks/s")
    };
    let rate = median((0..scale.short).map(|_| rate()).collect::<Result<Vec<_>>>()?);
    let measured = format!("{rate:.0} per second (median of {})", scale.short);
    let mut rows = vec![Row::new(
        "no-op tasks through the scheduler, local[2]",
        "≥ 50000 per second",
        measured,
        rate >= 50_000.0,
    )];
    rows.push(flat(places, scale)?);
    Ok(rows)
}

/// What a task costs in stages of few and of many.
fn flat(places: &Places, scale: Scale) -> Result<Row> {
    const TASKS: u64 = 1_000_000;
    let cost = |tasks: u64| {
        // As many tasks in all: few take too short a time to tell.
        let args = [tasks.to_string(), (TASKS / tasks).to_string()];
        let one = || {
            let args = args.each_ref().map(String::as_str);
            let run = run(places.job(&["--master", "local[2]"], "noop", &args)?)?;
            Ok(1e6 / number_before(&run.stdout, " tasks/s")?)
        };
        Ok::<_, anyhow::Error>(median((0..scale.long).map(|_| one()).collect::<Result<Vec<_>>>()?))
    };
    let costs = [1_000, 10_000, 100_000, TASKS].map(cost);
    let costs = costs.into_iter().collect::<Result<Vec<_>>>()?;
    let (times, words) = spread(&costs, |cost| format!("{cost:.2}"));
    Ok(Row::new(
        "cost of a task in stages of 10^3, 10^4, 10^5 and 10^6 tasks: highest to lowest",
        "≤ 1.1 ×",
        format!("{times:.2} × ({words} µs)"),
        times <= 1.1,
    ))
}

/// How many times the highest of values is the lowest, and all of them in words.
fn spread(values: &[f64], word: impl Fn(&f64) -> String) -> (f64, String) {
    let highest = values.iter().copied().fold(0.0, f64::max);
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    (highest / lowest, values.iter().map(word).collect::<Vec<_>>().join(", "))
}

/// What a MiB costs in data sets of all sizes.
fn linear(places: &Places, scale: Scale) -> Result<Vec<Row>> {
    let sizes = [scale.mib / 8, scale.mib, scale.mib * 8];
    let flags = ["--master", "local[2]", "--executor-memory", "1g"];
    let mut costs = Vec::new();
    for mib in sizes {
        let input = data::text(&places.data, mib)?;
        let input = input.to_str().context("the data folder's name isn't UTF-8")?;
        let work = tempfile::Builder::new().prefix(".out-").tempdir_in(&places.data)?;
        let mut runs = Vec::new();
        // The first one reads the data into the page cache.
        for number in 0..=scale.long {
            let out = work.path().join(number.to_string());
            let out = out.to_str().context("the data folder's name isn't UTF-8")?;
            runs.push(run(places.job(&flags, "wordcount", &[input, out])?)?);
        }
        runs.remove(0);
        costs.push(Sample(runs).wall().as_secs_f64() * 1e3 / mib as f64);
    }
    let (times, words) = spread(&costs, |cost| format!("{cost:.2}"));
    let [least, _, most] = sizes;
    Ok(vec![Row::new(
        format!(
            "word count of {least} MiB to {most} MiB, 1 GiB of executor memory: time for a MiB, highest to lowest"
        ),
        "≤ 1.2 ×",
        format!("{times:.2} × ({words} ms)"),
        times <= 1.2,
    )])
}

fn join(places: &Places, scale: Scale) -> Result<Vec<Row>> {
    let small = scale.rows / 100;
    [small, scale.rows].into_iter().map(|keys| join_of(places, scale, keys)).collect()
}

fn join_of(places: &Places, scale: Scale, keys: u64) -> Result<Row> {
    let left = tables::pairs(&places.data, scale.rows, keys)?;
    let right = tables::keys(&places.data, keys)?;
    let args = [left, right].map(|path| path.to_str().map(str::to_owned));
    let args = args.into_iter().collect::<Option<Vec<_>>>();
    let args = args.context("the data folder's name isn't UTF-8")?;
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let sides = compare(
        places,
        scale.long,
        |_| places.job(&["--master", "local[2]", "--executor-memory", "2g"], "join", &args),
        |_| Ok(places.twin("join", &args)),
        |job: &Side, twin: &Side| same(job.run.stdout.trim(), twin.run.stdout.trim()),
    )?;
    let what =
        format!("join of {} rows with {keys}, local[2], 2 GiB of executor memory", scale.rows);
    Ok(Row::ratio(what, 3.0, &sides))
}

/// The number that stands before a unit.
pub fn number_before(text: &str, unit: &str) -> Result<f64> {
    let before =
        text.split_once(unit).and_then(|(before, _)| before.split_whitespace().next_back());
    let number = before.and_then(|number| number.parse().ok());
    number.with_context(|| {
        format!("no number before `{}` in what the job printed: {text}", unit.trim())
    })
}

fn wordcount(places: &Places, scale: Scale) -> Result<Vec<Row>> {
    let input = data::text(&places.data, scale.mib)?;
    let input = input.to_str().context("the data folder's name isn't UTF-8")?;
    let flags = ["--master", "local[2]", "--executor-memory", "1g"];
    let sides = compare(
        places,
        scale.long,
        |out| places.job(&flags, "wordcount", &[input, out]),
        |out| Ok(places.twin("wordcount", &[input, out])),
        |job, twin| same(verify::digest(&job.out)?, verify::digest(&twin.out)?),
    )?;
    Ok(vec![
        Row::ratio(
            format!("word count of {} MiB of text in 8 files, local[2]", scale.mib),
            1.5,
            &sides,
        ),
        Row::memory(
            "peak RSS of word count, 1 GiB of executor memory",
            GIB + HOST,
            sides.job.peak(),
        ),
    ])
}

fn sort(places: &Places, scale: Scale) -> Result<Vec<Row>> {
    let input = data::records(&places.data, scale.mib)?;
    let input = input.to_str().context("the data folder's name isn't UTF-8")?;
    let flags = ["--master", "local[2]", "--executor-memory", "2g"];
    let sides = compare(
        places,
        scale.long,
        |out| places.job(&flags, "sort", &[input, out]),
        |out| Ok(places.twin("sort", &[input, out])),
        |job, twin| same(verify::sorted_digest(&job.out)?, verify::sorted_digest(&twin.out)?),
    )?;
    Ok(vec![
        Row::ratio(
            format!("sort of {} MiB, local[2], 2 GiB of executor memory", scale.mib),
            3.0,
            &sides,
        ),
        Row::memory("peak RSS of sort, 2 GiB of executor memory", 2 * GIB + HOST, sides.job.peak()),
    ])
}

fn pi(places: &Places, scale: Scale) -> Result<Vec<Row>> {
    let samples = scale.samples.to_string();
    let args = [samples.as_str(), "8"];
    let sides = compare(
        places,
        scale.short,
        |_| places.job(&["--master", "local[2]"], "pi", &args),
        |_| Ok(places.twin("pi", &args)),
        |job: &Side, twin: &Side| same(job.run.stdout.trim(), twin.run.stdout.trim()),
    )?;
    Ok(vec![Row::ratio(format!("pi, {samples} samples in 8 partitions, local[2]"), 2.3, &sides)])
}

pub fn same<T: PartialEq + std::fmt::Debug>(job: T, twin: T) -> Result<()> {
    ensure!(job == twin, "the job and its twin disagree: {job:?}, {twin:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_figures_are_found_by_their_unit() {
        assert_eq!(number_before("9 forks of 8 entries, mean 41.5 us\n", " us").unwrap(), 41.5);
        assert_eq!(
            number_before("200 tasks in 2.0 s: 71234 tasks/s\n", " tasks/s").unwrap(),
            71234.0
        );
        assert!(number_before("nothing", " us").unwrap_err().to_string().contains("nothing"));
    }

    #[test]
    fn a_spread_is_of_the_highest_to_the_lowest() {
        let (times, words) = spread(&[2.0, 3.0, 1.5], |value| format!("{value:.1}"));
        assert_eq!((times, words.as_str()), (2.0, "2.0, 3.0, 1.5"));
    }

    #[test]
    fn results_that_differ_are_told() {
        assert!(same(1, 1).is_ok());
        assert!(same("a", "b").unwrap_err().to_string().contains('b'));
    }
}
