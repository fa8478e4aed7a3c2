//! Jobs that are larger than their memory: they spill, they are right, and the process keeps within its bounds.
//!
//! What a process took is never less than what this one had when it started it (the kernel counts so): inputs and outputs
//! are streamed here.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, BufWriter, Write};

use ingle_tests::{Place, Run};

const MIB: u64 = 1 << 20;
/// What the host itself may hold beside the two budgets: its code, the job's, stacks.
const HOST: u64 = 64 * MIB;
const DRIVER: u64 = 32 * MIB;
const TEXT: usize = 64 << 20;

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// A job on `in.txt`, in so many MiB.
#[track_caller]
fn submit(place: &Place, job: &str, mib: u64) -> Run {
    let run = place.rsubmit_granted(job).flags(["--driver-memory=32m", "--master=local[2]"]);
    let run = run.conf("ingle.local.oversubscribe", "true").conf("ingle.local.dir", ".");
    let run = run.flag(format!("--executor-memory={mib}m")).args(["in.txt", "out"]);
    let run = run.run().succeeds();
    assert_ne!(run.summary(" spilled"), "0 B", "\n{run}");
    let bound = mib * MIB + DRIVER + HOST;
    assert!(run.peak <= bound, "it took {} MiB, more than {}\n{run}", run.peak / MIB, bound / MIB);
    assert_eq!(place.names("."), ["in.txt", "out"], "something is left\n{run}");
    run
}

/// The lines of an output, in the order of its parts.
fn lines(place: &Place, out: &str) -> impl Iterator<Item = String> {
    let mut parts = place.names(out);
    parts.retain(|name| name.starts_with("part-"));
    let files: Vec<_> = parts.iter().map(|part| place.path(out).join(part)).collect();
    files.into_iter().flat_map(|file| {
        BufReader::new(File::open(file).expect("a part")).lines().map(|line| line.expect("a line"))
    })
}

/// Words out of so many that differ, ten a line; gives how often each occurs.
fn write_words(place: &Place, differing: u64) -> Vec<u32> {
    let mut random = Random(1);
    let mut counts = vec![0; differing as usize];
    let mut file = BufWriter::new(File::create(place.path("in.txt")).unwrap());
    for _ in 0..TEXT / 91 {
        for _ in 0..10 {
            let word = random.below(differing);
            counts[word as usize] += 1;
            write!(file, "w{word:07} ").unwrap();
        }
        writeln!(file).unwrap();
    }
    file.into_inner().unwrap();
    counts
}

#[track_caller]
fn wordcount_spills(differing: u64, mib: u64) {
    let place = Place::new();
    let mut counts = write_words(&place, differing);
    let run = submit(&place, "wordcount", mib);
    for line in lines(&place, "out") {
        let count = line.strip_prefix('w').and_then(|line| line.split_once('\t'));
        let (word, count) = count.unwrap_or_else(|| panic!("what is `{line}`?\n{run}"));
        let expected = &mut counts[word.parse::<usize>().unwrap()];
        assert_eq!(count.parse(), Ok(*expected), "w{word}, or it came before\n{run}");
        *expected = 0;
    }
    let missing = counts.iter().position(|count| *count > 0);
    assert_eq!(missing, None, "this word is missing\n{run}");
}

#[test]
fn wordcount_of_many_words_spills_in_64_mib() {
    wordcount_spills(3_000_000, 64);
}

#[test]
fn wordcount_of_many_words_spills_in_128_mib() {
    wordcount_spills(3_000_000, 128);
}

#[test]
fn wordcount_of_some_words_spills_in_64_mib() {
    wordcount_spills(700_000, 64);
}

/// The number of lines and a sum that doesn't depend on their order.
#[derive(Default, Debug, PartialEq)]
struct Sum(u64, u64);

impl Sum {
    fn add(&mut self, line: &str) {
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        *self = Sum(self.0 + 1, self.1.wrapping_add(hasher.finish()));
    }
}

#[track_caller]
fn sort_spills(mib: u64) {
    let place = Place::new();
    let (mut random, mut written, mut length) = (Random(2), Sum::default(), 0);
    let mut file = BufWriter::new(File::create(place.path("in.txt")).unwrap());
    while length < TEXT {
        let rest = "x".repeat(random.below(60) as usize);
        let line = format!("{:010} {rest}", random.below(1 << 31));
        length += line.len() + 1;
        written.add(&line);
        writeln!(file, "{line}").unwrap();
    }
    file.into_inner().unwrap();
    let run = submit(&place, "sort", mib);
    let (mut found, mut before) = (Sum::default(), String::new());
    for line in lines(&place, "out") {
        // Lines of one key may come in any order.
        let key = line[..10].to_owned();
        assert!(before <= key, "{key} comes after {before}\n{run}");
        before = key;
        found.add(&line);
    }
    assert_eq!(found, written, "not the same lines\n{run}");
}

#[test]
fn sort_spills_in_48_mib() {
    sort_spills(48);
}

#[test]
fn sort_spills_in_64_mib() {
    sort_spills(64);
}

#[test]
fn results_larger_than_the_drivers_memory_are_a_clear_error() {
    let place = Place::new();
    write_words(&place, 1000);
    // The stop list is collected by the driver.
    let run = place.rsubmit_granted("stopwords").flag("--driver-memory=32m");
    let run = run.args(["in.txt", "in.txt", "3"]).run().ends_with(1);
    run.says(&["out of memory", "32.0 MiB", "--driver-memory"]);
}

/// Two tasks that change all of a captured table of 100 MiB, and linger long enough to be looked at.
fn changes_captured(executor_mib: u64) -> Run {
    let place = Place::new();
    let run = place.rsubmit("evil").flags(["--driver-memory=200m", "--master=local[2]"]);
    let run = run.conf("ingle.task.maxFailures", "1");
    let run = run.flag(format!("--executor-memory={executor_mib}m"));
    run.args(["changes-captured", "100", "2000"]).run()
}

#[test]
fn changing_what_was_captured_is_charged() {
    let run = changes_captured(500).succeeds().prints("each its own\n");
    // The image, and two copies of it.
    assert!(run.memory("peak") > 290.0, "\n{run}");
    // Two copies and one image; the first 16 MiB of a copy are charged in advance, and the rest is the task's as well.
    assert!(run.memory("guests") > 190.0 && run.memory("driver images") > 95.0, "\n{run}");
    assert!((100.0..110.0).contains(&run.memory("largest task")), "\n{run}");
}

#[test]
fn changing_more_of_what_was_captured_than_fits_is_a_clear_error() {
    let run = changes_captured(160).ends_with(1);
    run.says(&[
        "out of memory: the task changed",
        "of what it captured",
        "raise --executor-memory",
    ]);
}

/// Records of 200 bytes, and of a few more that say which they are.
#[track_caller]
fn is_of_records(what: &str, mib: f64, records: f64, run: &Run) {
    let bytes = mib * MIB as f64;
    let bounds = 200.0 * records..230.0 * records;
    assert!(bounds.contains(&bytes), "{what}: {mib} MiB aren't {bounds:?} bytes\n{run}");
}

#[test]
fn the_summary_says_where_the_memory_went() {
    const RECORDS: f64 = 100_000.0;
    let place = Place::new();
    let run = place.rsubmit("kept").flags(["--master=local[1]", "--executor-memory=256m"]);
    let run = run.flag("--verbose").args(["memory", "100000", "200", "30"]).run().succeeds();
    is_of_records("shuffled", run.summary_mib(" shuffled"), RECORDS, &run);
    // All is kept in memory, and beside it what one of four tasks shuffles, until that is in its file.
    is_of_records("cached", run.memory("cached partitions"), RECORDS, &run);
    let held = run.memory("shuffle and results") * MIB as f64 / (RECORDS / 4.0);
    assert!((200.0..260.0).contains(&held), "{held} bytes a record\n{run}");
    assert_eq!(run.summary(" spilled"), "0 B", "\n{run}");
    assert!((30.0..34.0).contains(&run.memory("largest task")), "\n{run}");
    let run = run.says(&["(stage 0, run_tasks, partition 1)"]);
    let of_stage = |stage: &str| {
        let line = run.stderr.lines().find(|line| line.contains(stage) && line.contains("is done"));
        line.unwrap_or_else(|| panic!("where is {stage}?\n{run}"))
    };
    let first = of_stage("stage 0 ");
    // Two of its three tasks took little.
    let (median, most) = first
        .split_once("guests took ")
        .and_then(|(_, rest)| rest.split_once(" MiB (median) to "))
        .unwrap_or_else(|| panic!("{first}"));
    assert!(median.parse::<f64>().unwrap() < 5.0 && most.starts_with("3"), "{first}");
    let shuffled = format!(", {} shuffled, 0 B spilled", run.summary(" shuffled"));
    assert!(of_stage("stage 2 ").ends_with(&shuffled), "{shuffled}\n{run}");
}

#[test]
fn what_does_not_fit_is_told_as_spilled() {
    const RECORDS: f64 = 400_000.0;
    let place = Place::new();
    let run = place.rsubmit("kept").flags(["--master=local[1]", "--executor-memory=64m"]);
    let run = run.conf("ingle.local.oversubscribe", "true").flag("--verbose");
    let run = run.args(["memory", "400000", "200", "30"]).run().succeeds();
    // All of it is kept, and shuffled by tasks that fill what is left of 64 MiB: both go to disk.
    let (data, spilled) = (RECORDS * 200.0 / MIB as f64, run.summary_mib(" spilled"));
    assert!((2.0 * data - 64.0..2.3 * data).contains(&spilled), "{spilled} of {data}\n{run}");
    assert!((50.0..=64.0).contains(&run.memory("peak")), "\n{run}");
    // What tasks say themselves: at least that which they filled the memory with.
    let by_stages: f64 = ["stage 1 ", "stage 2 "]
        .into_iter()
        .map(|stage| {
            let line =
                run.stderr.lines().find(|line| line.contains(stage) && line.contains("is done"));
            let spilled =
                line.and_then(|line| line.strip_suffix(" MiB spilled")?.rsplit(", ").next());
            let spilled = spilled.and_then(|spilled| spilled.parse::<f64>().ok());
            spilled.unwrap_or_else(|| panic!("what did {stage} spill?\n{run}"))
        })
        .sum();
    assert!(by_stages > 10.0 && by_stages <= spilled + 1.0, "{by_stages} of {spilled}\n{run}");
}
