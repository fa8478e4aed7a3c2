//! What is measured, row by row, and what each is to reach.

use anyhow::{Context, Result, ensure};

use crate::compare::{Places, Side, compare};
use crate::data;
use crate::measure::{Sample, median, run};
use crate::report::{Row, mib};
use crate::verify;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The size of data sets.
    pub mib: u64,
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
    Group { name: "pi", measure: pi },
    Group { name: "cluster", measure: crate::cluster::measure },
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
    Ok(vec![Row::new(
        "no-op tasks through the scheduler, local[2]",
        "≥ 50000 per second",
        measured,
        rate >= 50_000.0,
    )])
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
            1.8,
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
            4.0,
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
    fn results_that_differ_are_told() {
        assert!(same(1, 1).is_ok());
        assert!(same("a", "b").unwrap_err().to_string().contains('b'));
    }
}
