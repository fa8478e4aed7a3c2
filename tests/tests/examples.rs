//! The jobs of `examples/`, on small inputs whose answers are known.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use ingle_tests::Place;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn counts(of: &[(&str, u64)]) -> BTreeMap<String, String> {
    of.iter().map(|(word, n)| ((*word).to_owned(), n.to_string())).collect()
}

fn wordcount(place: &Place, input: &str) -> BTreeMap<String, String> {
    place.rsubmit_granted("wordcount").args([input, "out"]).run().succeeds().prints("");
    place.table("out")
}

#[test]
fn wordcount_takes_any_line_end_and_none() {
    let place = Place::new();
    place.write("in.txt", "to be\r\nor not\n\n\r\nto\tbe  \u{e9}t\u{e9}");
    let expected = counts(&[("to", 2), ("be", 2), ("or", 1), ("not", 1), ("\u{e9}t\u{e9}", 1)]);
    assert_eq!(wordcount(&place, "in.txt"), expected);
}

#[test]
fn wordcount_of_an_empty_file_is_an_empty_output() {
    let place = Place::new();
    place.write("in.txt", "");
    assert_eq!(wordcount(&place, "in.txt"), counts(&[]));
}

#[test]
fn wordcount_reads_gzip_also_of_several_members_and_among_plain_files() {
    let place = Place::new();
    place.write("in/a.gz", [gzip(b"one two\nt"), gzip(b"wo one\n")].concat());
    place.write("in/b.txt", "two\n");
    place.write("in/_hidden", "no\n");
    place.write("in/.hidden", "no\n");
    assert_eq!(wordcount(&place, "in"), counts(&[("one", 2), ("two", 3)]));
}

#[test]
fn wordcount_reads_what_a_glob_matches() {
    let place = Place::new();
    place.write("in/2024/a.txt", "a b\n");
    place.write("in/2025/a.txt", "b\n");
    place.write("in/2025/a.log", "c\n");
    assert_eq!(wordcount(&place, "in/*/*.txt"), counts(&[("a", 1), ("b", 2)]));
}

#[test]
fn wordcount_is_right_where_splits_cut_lines() {
    let place = Place::new();
    // Long enough for several splits, whose borders fall anywhere in lines.
    let mut text = String::new();
    let mut expected = BTreeMap::<String, u64>::new();
    for line in 0..200_000u64 {
        let word = format!("word{}", line * line % 977);
        text += &word;
        text.push_str(if line % 3 == 0 { " and\n" } else { "\n" });
        *expected.entry(word).or_default() += 1;
        *expected.entry("and".into()).or_default() += u64::from(line % 3 == 0);
    }
    place.write("in.txt", &text);
    let expected: BTreeMap<_, _> = expected.into_iter().map(|(w, n)| (w, n.to_string())).collect();
    assert_eq!(wordcount(&place, "in.txt"), expected);
}

#[test]
fn sorted_parts_follow_each_other_and_hold_every_line() {
    let place = Place::new();
    let mut lines: Vec<String> =
        (0..50_000u64).map(|i| format!("{:010} line {i}", i * 7_919 % 50_021)).collect();
    lines.extend(["", "short", "\u{e9}"].map(String::from));
    place.write("in.txt", lines.join("\n"));
    place.rsubmit_granted("sort").args(["in.txt", "out"]).run().succeeds();
    let parts = place.parts("out");
    assert!(parts.len() > 1, "one part proves no order over parts");
    // Keys differ but for nothing, so the order by the first 10 bytes is that of whole lines.
    lines.sort();
    assert!(parts.concat().lines().eq(lines.iter()), "not the sorted lines");
}

#[test]
fn sort_keeps_equal_lines() {
    let place = Place::new();
    place.write("in.txt", "b\na\nb\nb\na\n");
    place.rsubmit_granted("sort").args(["in.txt", "out"]).run().succeeds();
    assert_eq!(place.parts("out").concat(), "a\na\nb\nb\nb\n");
}

#[test]
fn stopwords_are_left_out_and_ties_go_by_name() {
    let place = Place::new();
    place.write("in.txt", "the cat and the dog and a cat\nthe ant, the dog\nemu");
    place.write("stop.txt", "the\nand\na\n");
    let run = place.rsubmit_granted("stopwords").args(["in.txt", "stop.txt", "4"]).run();
    run.succeeds().prints("cat\t2\ndog\t2\nant,\t1\nemu\t1\n");
}

#[test]
fn pi_is_the_same_however_many_tasks_run_at_once() {
    let place = Place::new();
    let pi = |flag: &str| {
        let run = place.rsubmit("pi").flag(flag).args(["200000", "7"]).run().succeeds();
        let digits = run.stdout.strip_prefix("Pi is roughly ").expect("an answer").trim();
        let pi: f64 = digits.parse().expect("a number");
        assert!((3.1..3.2).contains(&pi), "{run}");
        run.stdout
    };
    assert_eq!(pi("--master=local"), pi("--master=local[*]"));
}

#[test]
fn join_meets_every_number_with_every_other_of_its_key() {
    let place = Place::new();
    place.write("left.tsv", "1\t2\n1\t3\n2\t5\n4\t7\n");
    place.write("right/a.tsv", "2\t11\n1\t13\n");
    place.write("right/b.tsv", "3\t17\n1\t19\n");
    let run = place.rsubmit_granted("join").args(["left.tsv", "right"]).run();
    let sum = 2 * (13 + 19) + 3 * (13 + 19) + 5 * 11;
    run.succeeds().prints(&format!("5\t{sum}\n"));
}

#[test]
fn medians_are_of_the_largest_keys_and_of_two_the_smaller_number() {
    let place = Place::new();
    place.write("in.tsv", "7\t9\n8\t1\n7\t1\n7\t5\n8\t4\n9\t3\n6\t2\n6\t6\n");
    let run = place.rsubmit_granted("medians").args(["in.tsv", "3"]).run();
    run.succeeds().prints("7\t3\t5\n6\t2\t2\n8\t2\t1\n");
}

#[test]
fn kmeans_finds_two_heaps() {
    let place = Place::new();
    // The first two points, which it starts from, are of one heap.
    place.write("points.txt", "0 0\n1 1\n0 1\n1 0\n10 10\n12 10\n");
    let run = place.rsubmit_granted("kmeans").args(["points.txt", "2", "10"]).run();
    run.succeeds().prints("0.5000 0.5000\n11.0000 10.0000\n");
}

#[test]
fn logistic_takes_a_step_as_by_hand() {
    let place = Place::new();
    place.write("points.txt", "1 2 0.5\n0 -1 0.5\n1 1 -1\n");
    // All chances are a half at first: errors -0.5, 0.5, -0.5.
    let step = |x: [f64; 3]| -> f64 { -(-0.5 * x[0] + 0.5 * x[1] - 0.5 * x[2]) / 3.0 };
    let weights = format!("{:.6}\n{:.6}\n", step([2.0, -1.0, 1.0]), step([0.5, 0.5, -1.0]));
    let run = place.rsubmit_granted("logistic").args(["points.txt", "1"]).run();
    run.succeeds().prints(&weights);
}

#[test]
fn lookup_finds_in_every_task_what_the_driver_captured() {
    let run = Place::new().rsubmit("lookup").args(["10000", "3"]).run().succeeds();
    let sum: u64 = (0..3_000).map(|i| i * 7_919 % 10_000).sum();
    assert!(run.stdout.starts_with(&format!("sum {sum} of 3 tasks in ")), "{run}");
}

#[test]
fn flights_are_joined_to_their_carriers() {
    let place = Place::new();
    let flights = "year,carrier,arr_delay\n2013,AA,10\n2013,BB,-5\n2013,AA,NA\n2013,AA,5\n\
                   2013,CC,NA\n2013,XX,1\n";
    place.write("t/flights.csv.gz", gzip(flights.as_bytes()));
    place.write("t/airlines.csv", "carrier,name\nAA,\"Alpha, Inc\"\nBB,Beta\nCC,Gamma\nDD,Delta\n");
    let run = place.rsubmit("flights").flag("--allow-read=t").arg("t").run();
    run.succeeds()
        .prints("AA\t3\t2\t7.5000\tAlpha, Inc\nBB\t1\t1\t-5.0000\tBeta\nCC\t1\t0\tNaN\tGamma\n");
}

#[test]
fn pagerank_of_a_tiny_graph_is_as_by_hand() {
    let place = Place::new();
    // c gets all of a and half of b; a gets half of b. The second edge a->c counts for nothing.
    place.write("edges.tsv", "a\tc\nb\ta\nb\tc\na\tc\nc\ta\n");
    let run = place.rsubmit_granted("pagerank").args(["edges.tsv", "1", "10"]).run();
    run.succeeds().prints("a\t1.425\nc\t1.425\n");
    // b, on which nobody leans, dropped out: c's share is a's rank alone, and the other way round.
    let rank = 0.15 + 0.85 * 1.425;
    let run = place.rsubmit_granted("pagerank").args(["edges.tsv", "2", "1"]).run();
    run.succeeds().prints(&format!("a\t{rank:.3}\n"));
}

/// A table of the project's real data; none where this checkout lacks them.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    let found = path.canonicalize().ok();
    if found.is_none() {
        println!("skipped: there is no {}", path.display());
    }
    found
}

#[test]
fn flights_of_2013_are_as_computed_elsewhere() {
    let Some(flights) = shared("flights.csv.gz") else { return };
    let folder = flights.parent().expect("a folder");
    let allow = format!("--allow-read={}", folder.display());
    let run = Place::new().rsubmit("flights").flag(allow).arg(folder).run().succeeds();
    let rows: Vec<Vec<&str>> =
        run.stdout.lines().map(|line| line.split('\t').take(4).collect()).collect();
    let known = "9E 18460 17294 7.3797,AA 32729 31947 0.3643,AS 714 709 -9.9309,B6 54635 54049 9.4580,\
                 DL 48110 47658 1.6443,EV 54173 51108 15.7964,F9 685 681 21.9207,FL 3260 3175 20.1159,\
                 HA 342 342 -6.9152,MQ 26397 25037 10.7747,OO 32 29 11.9310,UA 58665 57782 3.5580,\
                 US 20536 19831 2.1296,VX 5162 5116 1.7645,WN 12275 12044 9.6491,YV 601 544 15.5570";
    let known: Vec<Vec<&str>> = known.split(',').map(|row| row.split(' ').collect()).collect();
    assert_eq!(rows, known, "\n{run}");
}

#[test]
fn debians_pagerank_is_as_computed_elsewhere() {
    let Some(edges) = shared("debian-depends.tsv.gz") else { return };
    let allow = format!("--allow-read={}", edges.display());
    let run = Place::new().rsubmit("pagerank").flag(allow).arg(edges).args(["10", "1000"]).run();
    let run = run.succeeds();
    let known = "libgcc-s1 1345.713,libc6 1094.316,gcc-12-base 798.594,python3 43.092,\
                 libstdc++6 24.638,zlib1g 18.751";
    for rank in known.split(',').map(|rank| rank.replace(' ', "\t")) {
        assert!(run.stdout.lines().any(|line| line == rank), "no {rank}\n{run}");
    }
}

#[test]
fn delays_keeps_flights_as_parquet_and_counts_the_late_ones() {
    let place = Place::new();
    let head = "carrier,origin,dest,year,arr_delay\n";
    let lines =
        "UA,EWR,IAH,2013,11\nAA,JFK,MIA,2013,33.5\nUA,LGA,ORD,2013,NA\nUA,EWR,SFO,2013,60\n";
    place.write("flights.csv", format!("{head}{lines}"));
    let run = place.rsubmit_granted("delays").args(["flights.csv", "out", "33.5"]).run();
    run.succeeds().prints("AA\t1\nUA\t1\n");
    assert_eq!(place.names("out"), ["_SUCCESS", "part-00000.parquet"]);
}
