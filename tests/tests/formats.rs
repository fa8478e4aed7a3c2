//! Formats other than plain lines, by whole processes: Parquet, and lines that are compressed as they are written.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use ingle_tests::s3::{Fault, Operation, S3, When};
use ingle_tests::{Cluster, Place, Run};

const FAILED: i32 = 1;

/// Rows of about 400 bytes that nothing compresses, in files of row groups of so many.
#[track_caller]
fn write(place: &Place, out: &str, rows: &str, files: &str, group: &str, codec: &str) {
    let run = place.rsubmit_granted("formats").args(["write", out, rows, files, group, codec]);
    run.run().succeeds();
}

/// How many bytes a job read.
#[track_caller]
fn bytes_read(run: &Run) -> f64 {
    let read = run.summary(" read");
    let (number, unit) = read.split_once(' ').unwrap_or_else(|| panic!("{read}\n{run}"));
    let units = ["B", "KiB", "MiB", "GiB"];
    let power = units.iter().position(|known| *known == unit);
    let power = power.unwrap_or_else(|| panic!("{read}\n{run}"));
    number.parse::<f64>().expect("a number") * 1024f64.powi(power as i32)
}

/// The sum of the numbers from `least` to before `end`.
fn sum(least: u64, end: u64) -> String {
    format!("{}\n", (least..end).sum::<u64>())
}

#[test]
fn parquet_is_read_as_it_was_written_whatever_its_codec() {
    let place = Place::new();
    for codec in ["none", "snappy", "gzip", "lz4"] {
        write(&place, codec, "2000", "3", "150", codec);
        let names = ["_SUCCESS", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet"];
        assert_eq!(place.names(codec), names);
        let run = place.rsubmit_granted("formats").flag("--master=local[2]").args(["all", codec]);
        run.run().succeeds().prints("2000 rows, 0 wrong\n");
    }
}

#[test]
fn only_what_is_asked_for_is_read() {
    let place = Place::new();
    write(&place, "out", "20000", "2", "1000", "snappy");
    let read = |args: &[&str], prints: &str| {
        let run = place.rsubmit_granted("formats").args(args.iter().copied()).run();
        bytes_read(&run.succeeds().prints(prints))
    };
    // Two jobs, of 8 MB and more each.
    let all = read(&["all", "out"], "20000 rows, 0 wrong\n") / 2.0;
    assert!(all > 8e6, "{all}");
    let numbers = read(&["numbers", "out"], &sum(0, 20_000));
    assert!(numbers < all / 20.0, "{numbers} of {all}");
    // Two of twenty row groups.
    let last = read(&["from", "out", "18500"], &sum(18_500, 20_000));
    assert!(last < all / 7.0 && last > all / 20.0, "{last} of {all}");
    let none = read(&["from", "out", "20000"], &sum(0, 0));
    assert!(none < all / 50.0, "{none} of {all}");
}

#[test]
fn a_task_holds_no_more_than_it_has_room_for() {
    let place = Place::new();
    let run =
        place.rsubmit_granted("formats").flags(["--master=local[1]", "--executor-memory=64m"]);
    // Beyond 80 MB before the first row group would be full by its size.
    run.args(["write", "out", "200000", "1", "1000000", "snappy"]).run().succeeds();
    let run =
        place.rsubmit_granted("formats").flags(["--master=local[1]", "--executor-memory=64m"]);
    run.args(["numbers", "out"]).run().succeeds().prints(&sum(0, 200_000));
}

#[test]
fn what_is_not_granted_is_not_read() {
    let place = Place::new();
    write(&place, "out", "10", "1", "10", "none");
    let run = place.rsubmit("formats").args(["all", "out"]).run().ends_with(FAILED);
    run.says(&["out isn't allowed: add --allow-read="]);
}

#[test]
fn files_that_are_no_sound_parquet_fail_their_job_by_name() {
    let place = Place::new();
    write(&place, "out", "100", "1", "30", "snappy");
    let good = std::fs::read(place.path("out/part-00000.parquet")).expect("a part");
    let refused = |name: &str, bytes: &[u8], says: &[&str]| {
        place.write(name, bytes);
        let run = place.rsubmit_granted("formats").conf("ingle.task.maxFailures", "1");
        run.args(["all", name]).run().ends_with(FAILED).says(says);
    };
    refused("empty.parquet", b"", &["empty.parquet is no Parquet file: it has 0 bytes"]);
    let csv = b"name,people\nUlm,126000\n";
    refused("a.csv", csv, &["a.csv is no Parquet file, or its end is missing"]);
    refused(
        "cut.parquet",
        &good[..good.len() - 20],
        &["cut.parquet is no Parquet file, or its end"],
    );
    let mut hole = good.clone();
    let middle = good.len() / 2;
    hole[middle - 8000..middle].fill(0xff);
    refused("hole.parquet", &hole, &["hole.parquet, row group ", ", column `noise"]);
    place.rsubmit_granted("formats").args(["towns", "out"]).run().ends_with(FAILED).says(&[
        "part-00000.parquet, row group 0, row 1: there is no column `people`; the file has `number`, `half`, `noise`, `words`, `by_name`",
    ]);
}

#[test]
fn lines_are_compressed_as_they_are_written_and_read_again() {
    let place = Place::new();
    let expected: String = (0..50_000).map(|n| format!("line {n} of many\n")).collect();
    let gzip = |bytes: &[u8]| {
        let mut text = String::new();
        MultiGzDecoder::new(bytes).read_to_string(&mut text).expect("it is gzip");
        text
    };
    let zstd = |bytes: &[u8]| String::from_utf8(zstd::decode_all(bytes).expect("it is zstd"));
    for (compression, ending) in [("gzip", ".gz"), ("zstd", ".zst"), ("none", "")] {
        let run =
            place.rsubmit_granted("formats").args(["lines", compression, "50000", compression]);
        run.run().succeeds().prints("50000\n");
        let names = place.names(compression);
        let parts = (0..3).map(|part| format!("part-{part:05}{ending}"));
        assert_eq!(names[1..], parts.collect::<Vec<_>>());
        let text = names[1..].iter().map(|name| {
            let bytes = std::fs::read(place.path(compression).join(name)).expect("a part");
            match compression {
                "gzip" => gzip(&bytes),
                "zstd" => zstd(&bytes).expect("it is text"),
                _ => String::from_utf8(bytes).expect("it is text"),
            }
        });
        assert_eq!(text.collect::<String>(), expected);
    }
}

#[test]
fn a_cluster_writes_and_reads_both() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 2, 2);
    let formats = || cluster.rsubmit("formats").flags(["--allow-read=.", "--allow-write=."]);
    formats().args(["write", "out", "3000", "5", "100", "snappy"]).run().succeeds();
    formats().args(["all", "out"]).run().succeeds().prints("3000 rows, 0 wrong\n");
    formats().args(["lines", "text", "5000", "gzip"]).run().succeeds().prints("5000\n");
    assert_eq!(place.names("text")[1..], ["part-00000.gz", "part-00001.gz", "part-00002.gz"]);
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn parts_of_objects_are_read_also_of_a_store_that_misbehaves() {
    let (s3, place) = (S3::new(), Place::new());
    let formats = || {
        let run = s3.submit(place.rsubmit("formats"));
        run.flags(["--allow-read=s3://bucket/", "--allow-write=s3://bucket/"])
    };
    let out = "s3://bucket/out";
    formats().args(["write", out, "5000", "2", "500", "snappy"]).run().succeeds();
    assert_eq!(s3.keys("out/part-"), ["00000.parquet", "00001.parquet"]);
    let ranges = s3.count(Operation::Get, 206);
    formats().args(["all", out]).run().succeeds().prints("5000 rows, 0 wrong\n");
    assert!(s3.count(Operation::Get, 206) > ranges + 4, "it was read in ranges");
    let run = formats().args(["numbers", out]).run().succeeds().prints(&sum(0, 5000));
    assert!(bytes_read(&run) < 300_000.0, "{run}");
    for (when, fault) in [
        (When::is(Operation::Get).every(3), Fault::Unavailable),
        (When::is(Operation::Get).every(2), Fault::Cut(10_000)),
        (When::is(Operation::Get).most(2), Fault::Lost),
    ] {
        s3.misbehave(when, fault);
        let run = formats().args(["all", out]).run();
        s3.behave();
        run.succeeds().prints("5000 rows, 0 wrong\n").says_not(&["is tried again"]);
    }
    s3.misbehave(When::is(Operation::Get), Fault::NoRanges);
    let run = formats().conf("ingle.task.maxFailures", "1").args(["all", out]).run();
    s3.behave();
    run.ends_with(FAILED).says(&[".parquet is at a server that gives no parts of files"]);
}
