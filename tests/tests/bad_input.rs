//! Inputs and outputs that aren't as a job expects: each is named, and nothing half-written stays.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use flate2::Compression;
use flate2::write::GzEncoder;
use ingle_tests::{Place, Run};

const FAILED: i32 = 1;

/// Counts the words of a bad input: fails, says why, and leaves no output behind.
#[track_caller]
fn refused(place: &Place, input: &str, says: &[&str]) -> Run {
    let run = place.rsubmit_granted("wordcount").args([input, "out"]).run();
    let run = run.ends_with(FAILED).prints("").says(says);
    assert!(!place.exists("out"), "an output is left: {:?}\n{run}", place.names("out"));
    run
}

#[test]
fn an_input_that_is_not_there_is_named() {
    let place = Place::new();
    let full = place.path("nowhere.txt");
    refused(&place, "nowhere.txt", &[&format!("{} doesn't exist", full.display())]);
    refused(&place, "none/*.txt", &["none"]);
    place.write("some/a.log", "a");
    refused(&place, "some/*.txt", &["some/*.txt matches no file"]);
}

#[test]
fn a_path_that_is_not_granted_is_told_with_its_flag() {
    let place = Place::new();
    place.write("in.txt", "a b");
    let (input, output) = (place.path("in.txt"), place.path("out"));
    let submit = |flags: &[&str]| {
        let rsubmit = place.rsubmit("wordcount").flags(flags.iter().copied());
        rsubmit.args(["in.txt", "out"]).run().ends_with(FAILED)
    };
    let read = format!("--allow-read={}", input.display());
    let write = format!("--allow-write={}", output.display());
    submit(&["--allow-write=."]).says(&["reading", &read]);
    submit(&["--allow-read=."]).says(&["writing", &write]);
    // Doing what was said helps.
    place.rsubmit("wordcount").flag(read).flag(write).args(["in.txt", "out"]).run().succeeds();
    assert_eq!(place.table("out").len(), 2);
}

#[test]
fn a_folder_stands_for_its_files() {
    let place = Place::new();
    place.write("in/a.txt", "a");
    place.write("in/deeper/b.txt", "b");
    place.rsubmit_granted("wordcount").args(["in", "out"]).run().succeeds();
    assert_eq!(place.table("out").into_keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn what_is_neither_file_nor_folder_is_refused() {
    let place = Place::new();
    let _socket = UnixListener::bind(place.path("socket")).unwrap();
    refused(&place, "socket", &["socket is neither a file nor a folder"]);
    refused(&place, ".", &["socket is neither a file nor a folder"]);
}

#[test]
fn an_output_that_exists_is_left_as_it_is() {
    let place = Place::new();
    place.write("in.txt", "a b");
    place.write("folder/kept", "as it was");
    place.write("file", "as it was");
    symlink("nowhere", place.path("dangling")).unwrap();
    std::fs::create_dir(place.path("empty")).unwrap();
    for out in ["folder", "file", "dangling", "empty", "."] {
        let run = place.rsubmit_granted("wordcount").args(["in.txt", out]).run();
        run.ends_with(FAILED).says(&["exists already"]);
    }
    assert_eq!(
        (place.read("folder/kept"), place.read("file")),
        ("as it was".into(), "as it was".into())
    );
    assert_eq!(place.names("."), ["dangling", "empty", "file", "folder", "in.txt"]);
    assert_eq!(place.names("empty").len(), 0);
}

#[test]
fn folders_made_for_an_output_go_with_it() {
    let place = Place::new();
    place.write("in.txt", b"\xff");
    let run = place.rsubmit_granted("wordcount").args(["in.txt", "a/b/out"]).run();
    run.ends_with(FAILED);
    assert_eq!(place.names("."), ["in.txt"]);
}

#[test]
fn text_that_is_not_utf8_is_told_by_file_and_byte() {
    let place = Place::new();
    // Beyond the first block, in the second file.
    let mut bytes = "good line\n".repeat(300_000).into_bytes();
    let at = bytes.len() + 3;
    bytes.extend(b"bad\xff\n");
    place.write("in/a.txt", "good\n");
    place.write("in/b.txt", &bytes);
    let byte = format!("b.txt is not UTF-8 at byte {at}");
    refused(&place, "in", &[&byte, "--conf ingle.text.invalid-utf8=replace"]);

    let replaced = place.rsubmit_granted("wordcount").conf("ingle.text.invalid-utf8", "replace");
    replaced.args(["in", "out"]).run().succeeds();
    assert_eq!(place.table("out")["bad\u{fffd}"], "1");
    let odd = place.rsubmit_granted("wordcount").conf("ingle.text.invalid-utf8", "maybe");
    odd.args(["in", "out2"]).run().ends_with(FAILED).says(&["`maybe`", "`fail` or `replace`"]);
}

#[test]
fn a_line_of_100_mib_is_read() {
    let place = Place::new();
    let mut text = vec![b' '; 100 << 20];
    text[..5].copy_from_slice(b"first");
    text.extend(b"last\nnext line\n");
    place.write("in.txt", text);
    place.rsubmit_granted("wordcount").args(["in.txt", "out"]).run().succeeds();
    let words: Vec<_> = place.table("out").into_keys().collect();
    assert_eq!(words, ["first", "last", "line", "next"]);
}

#[test]
fn a_line_that_memory_can_not_hold_is_told() {
    let place = Place::new();
    place.write("in.txt", vec![b'x'; 100 << 20]);
    let run = place.rsubmit_granted("wordcount").flag("--executor-memory=64m");
    let run = run.args(["in.txt", "out"]).run().ends_with(FAILED);
    run.says(&["don't fit into 64.0 MiB", "--executor-memory"]);
    assert!(!place.exists("out"));
}

#[test]
fn gzip_that_was_cut_or_is_none_is_told() {
    let place = Place::new();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    (0..50_000).for_each(|i| writeln!(encoder, "line {i}").unwrap());
    let whole = encoder.finish().unwrap();
    place.write("cut.gz", &whole[..whole.len() / 2]);
    refused(&place, "cut.gz", &["cut.gz ends in the middle of its gzip data"]);
    place.write("tail.gz", &whole[..whole.len() - 4]);
    refused(&place, "tail.gz", &["tail.gz ends in the middle of its gzip data"]);
    place.write("none.gz", "this is plain text, by whatever name\n");
    refused(&place, "none.gz", &["none.gz is no sound gzip file"]);
    place.write("short.gz", "plain\n");
    refused(&place, "short.gz", &["short.gz"]);
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 0xff;
    place.write("damaged.gz", damaged);
    refused(&place, "damaged.gz", &["damaged.gz"]);
}

/// `flights` on this table of flights.
#[track_caller]
fn flights_refused(flights: &str, says: &[&str]) {
    let place = Place::new();
    place.write("t/flights.csv", flights);
    place.write("t/airlines.csv", "carrier,name\nAA,Alpha\n");
    let run = place.rsubmit("flights").flag("--allow-read=t").arg("t").run();
    run.ends_with(FAILED).prints("").says(says);
}

#[test]
fn a_row_with_too_few_fields_is_told_by_file_and_line() {
    let says = ["t/flights.csv, line 4: ", "2 fields", "header 3"];
    flights_refused("x,carrier,arr_delay\n1,AA,2\n1,AA,3\n1,AA\n1,AA,4\n", &says);
    let says = ["t/flights.csv, line 2: ", "4 fields", "header 3"];
    flights_refused("x,carrier,arr_delay\n1,AA,2,3\n", &says);
}

#[test]
fn a_bad_row_far_into_a_table_has_the_right_line() {
    let flights = format!("x,carrier,arr_delay\n{}1,AA\n", "1,AA,2\n".repeat(400_000));
    flights_refused(&flights, &["t/flights.csv, line 400002: "]);
}

#[test]
fn a_column_that_is_missing_is_named() {
    flights_refused("x,carrier,delay\n1,AA,2\n", &["t/flights.csv", "`arr_delay`"]);
}

#[test]
fn an_output_inside_of_the_input_is_no_trap() {
    // Hidden while it is written, so it isn't read either.
    let place = Place::new();
    place.write("in/a.txt", "a a");
    place.rsubmit_granted("wordcount").args(["in", "in/out"]).run().succeeds();
    assert_eq!(place.table("in/out")["a"], "2");
}
