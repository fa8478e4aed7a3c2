//! Every operator in the sandbox, on records that a seed decides, against a plain program.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use ingle_tests::{Chance, Cluster, Place, Rsubmit, Run};

/// What the job names, in its order.
const OPERATORS: [&str; 12] = [
    "join",
    "left_outer_join",
    "right_outer_join",
    "full_outer_join",
    "subtract_by_key",
    "cogroup",
    "subtract",
    "intersection",
    "cartesian",
    "partition_by",
    "join of what lies in place",
    "repartition_and_sort_within_partitions",
];

#[track_caller]
fn agree(place: &Place, seed: u64, size: u64, with: impl FnOnce(Rsubmit) -> Rsubmit) -> Run {
    let args = [seed, size].map(|n| n.to_string());
    let run = with(place.rsubmit("operators"));
    let run = run.args(["agree", &args[0], &args[1]]).run().succeeds();
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines.len(), OPERATORS.len(), "\n{run}");
    for (line, name) in lines.into_iter().zip(OPERATORS) {
        let count = line.strip_prefix(name).and_then(|line| line.strip_prefix(": "));
        let count = count.and_then(|count| count.strip_suffix(" records")?.parse::<u64>().ok());
        // Of few records nothing may be what is right.
        assert!(count.is_some_and(|count| count > 0 || size < 1000), "`{line}`\n{run}");
    }
    run
}

#[test]
fn operators_agree_with_plain_programs() {
    let (place, seed) = (Place::new(), Chance::seed());
    println!("SEED={seed}");
    for size in [0, 1, 20, 20_000] {
        agree(&place, seed, size, |run| run.flag("--master=local[2]"));
    }
}

#[test]
fn operators_agree_with_plain_programs_where_they_spill() {
    let (place, seed) = (Place::new(), Chance::seed());
    println!("SEED={seed}");
    let run = agree(&place, seed, 600_000, |run| {
        let run = run.flags(["--master=local[2]", "--executor-memory=28m"]);
        run.conf("ingle.local.oversubscribe", "true").conf("ingle.default.parallelism", "2")
    });
    assert_ne!(run.summary(" spilled"), "0 B", "\n{run}");
}

#[test]
fn operators_agree_with_plain_programs_where_tasks_share_partitions() {
    let (place, seed) = (Place::new(), Chance::seed());
    println!("SEED={seed}");
    for size in [1, 20, 900] {
        agree(&place, seed, size, |run| {
            let run = run.flag("--master=local[2]").conf("ingle.join.skew.threshold", "1b");
            run.conf("ingle.default.parallelism", "16")
        });
    }
}

/// How many tasks computed each of some datasets.
fn tasks(run: &Run) -> Vec<u32> {
    let tasks = run.stdout.lines().map(|line| line.split(' ').next()?.parse().ok());
    tasks.collect::<Option<Vec<u32>>>().unwrap_or_else(|| panic!("{run}"))
}

#[test]
fn tasks_share_a_partition_that_is_much_larger_than_others() {
    let place = Place::new();
    for (threshold, records) in [("1k", "20000"), ("16m", "20000"), ("0", "20000")] {
        let run = place.rsubmit("operators").flag("--master=local[2]");
        let run = run.conf("ingle.join.skew.threshold", threshold).args(["shared", records]);
        let run = run.run().succeeds();
        // What six tasks wrote: in six parts, or not at all.
        let expected = if threshold == "1k" { [13, 13] } else { [8, 8] };
        assert_eq!(tasks(&run), expected, "{threshold}\n{run}");
    }
}

#[test]
fn tasks_on_several_workers_share_a_partition() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 2, 1);
    let run = cluster.rsubmit("operators").conf("ingle.join.skew.threshold", "1k");
    let run = run.args(["shared", "20000"]).run().succeeds();
    assert_eq!(tasks(&run), [13, 13], "\n{run}");
}

#[test]
fn tiny_partitions_are_computed_by_fewer_tasks() {
    let place = Place::new();
    for (size, fewer) in [("4m", true), ("1k", true), ("0", false)] {
        let run = place.rsubmit("operators").flag("--master=local[2]");
        let run = run.conf("ingle.shuffle.coalesce.size", size).args(["tiny", "20000"]);
        let tasks = tasks(&run.run().succeeds());
        assert_eq!(tasks.len(), 4);
        for count in tasks {
            // At least four for each slot.
            assert_eq!((8..400).contains(&count), fewer, "{count} tasks of up to {size}");
        }
    }
}

#[test]
fn tiny_partitions_on_several_workers_are_computed_by_fewer_tasks() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 2, 1);
    let run = cluster.rsubmit("operators").args(["tiny", "20000"]).run().succeeds();
    assert!(tasks(&run).iter().all(|count| (8..16).contains(count)), "\n{run}");
}

#[test]
fn joins_with_a_small_side_shuffle_nothing() {
    let (place, seed) = (Place::new(), Chance::seed());
    println!("SEED={seed}");
    for size in [0, 1, 20, 200_000].map(|size| size.to_string()) {
        let run = place.rsubmit("operators").flag("--master=local[2]");
        let run = run.args(["broadcast", &seed.to_string(), &size]).run().succeeds();
        assert_eq!(run.stdout.lines().count(), 7, "\n{run}");
        assert_eq!(run.summary(" shuffled"), "0 B", "\n{run}");
    }
}

#[test]
fn a_side_that_is_not_as_small_as_it_seemed_is_shuffled() {
    let (place, seed) = (Place::new(), Chance::seed());
    println!("SEED={seed}");
    // 10,000 records are hinted at with 80,000 bytes, and have 80,000,000.
    let run = place.rsubmit("operators").flags(["--master=local[2]", "--driver-memory=64m"]);
    let run =
        run.conf("ingle.join.broadcast.threshold", "1m").conf("ingle.local.oversubscribe", "true");
    let run = run.args(["grown", &seed.to_string(), "20000"]).run().succeeds();
    assert!(run.stdout.starts_with("before: true\nafter: false\n"), "\n{run}");
    assert_eq!(run.stdout.lines().count(), 4, "\n{run}");
}

#[test]
fn what_a_task_holds_beside_an_operator_does_not_keep_it_from_combining() {
    let place = Place::new();
    // More than half of what the task may have.
    let run = place.rsubmit("operators").flags(["--master=local[1]", "--executor-memory=200m"]);
    let run = run.args(["held", "130000000"]).run().succeeds().prints("all alike\n");
    // 3,000,000 records were made of 100 keys; a few of each travel.
    shuffled_little(&run);
}

#[track_caller]
fn shuffled_little(run: &Run) {
    let shuffled = run.summary(" shuffled");
    assert!(shuffled.ends_with(" B") || shuffled.ends_with(" KiB"), "{shuffled}\n{run}");
}

#[test]
fn few_keys_that_have_more_than_memory_holds_are_grouped_one_by_one() {
    // 80 MB of values, in a task that may have 72 MiB; each key's need 8 to 16.
    let place = Place::new();
    let run = place.rsubmit("operators").flags(["--master=local[1]", "--executor-memory=72m"]);
    run.arg("few").run().succeeds().prints("all alike\n");
}

#[test]
fn keys_that_are_taken_away_travel_once() {
    let run = Place::new().rsubmit("operators").arg("keys").run().succeeds().prints("all alike\n");
    shuffled_little(&run);
}

#[test]
fn actions_run_beside_each_other() {
    for slots in ["local[1]", "local[2]"] {
        let place = Place::new();
        let run = place.rsubmit("operators").flag(format!("--master={slots}"));
        let run = run.args(["concurrent", "10000"]).run().succeeds();
        run.prints("100 keys, total 49995000, mapped 10000\n");
    }
}

#[test]
fn json_lines_are_read_as_they_are_and_compressed() {
    let place = Place::new();
    let lines: String = (0..5000)
        .map(|n| format!("{{\"score\": {n}.5, \"user\": \"u{}\", \"more\": [1, {{}}]}}\n", n % 3))
        .collect();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    place.write("in/a.json", &lines);
    place.write("in/b.json.gz", gzip.finish().unwrap());
    place.write("in/c.json.zst", zstd::encode_all(lines.as_bytes(), 3).unwrap());
    let sum =
        |user: u32| (0..5000).filter(|n| n % 3 == user).map(|n| f64::from(n) + 0.5).sum::<f64>();
    let expected: String = (0..3).map(|user| format!("u{user}\t{}\n", 3.0 * sum(user))).collect();
    let run = place.rsubmit_granted("operators").args(["json", "in"]).run().succeeds();
    run.prints(&expected);
    place.write("in/d.json", format!("{lines}\n{{\"user\": \"u1\"}}\n"));
    let run = place.rsubmit_granted("operators").args(["json", "in"]).run().ends_with(1);
    run.says(&["in/d.json, line 5002, column 14: missing field `score`"]);
}
