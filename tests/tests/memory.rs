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
    let peak = run.summary(" MiB of 500.0 MiB").trim_start_matches("peak memory ");
    assert!(peak.parse::<f64>().unwrap() > 290.0, "\n{run}");
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
