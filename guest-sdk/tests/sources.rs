//! Where datasets begin: the driver's values, ranges, text files and whole files.

use std::fs;
use std::io::Write;
use std::path::Path;

use ingle::prelude::*;
use proptest::prelude::*;
use tempfile::TempDir;

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn path(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

fn lines(ctx: &Context, path: &str) -> Vec<String> {
    let lines = ctx.text_file(path).unwrap().collect().unwrap();
    lines.into_iter().map(String::from).collect()
}

/// The lines of a file with these bytes.
fn lines_of(bytes: &[u8]) -> Vec<String> {
    let dir = folder(&[("in.txt", bytes)]);
    lines(&Context::local(), &path(&dir, "in.txt"))
}

#[test]
fn parallelize_keeps_order_and_cuts_evenly() {
    let ctx = Context::local();
    let parts = ctx.parallelize(0..10, 4).glom().collect().unwrap();
    assert_eq!(parts.len(), 4);
    assert!(parts.iter().all(|part| part.len() == 2 || part.len() == 3), "{parts:?}");
    assert_eq!(parts.concat(), (0..10).collect::<Vec<i32>>());
}

#[test]
fn parallelize_makes_partitions_that_are_empty_if_there_are_too_few_values() {
    let ctx = Context::local();
    let values = ctx.parallelize(["a".to_owned(), "b".to_owned()], 5);
    assert_eq!(values.num_partitions(), 5);
    assert_eq!(values.collect().unwrap(), ["a", "b"]);
    assert_eq!(ctx.parallelize(Vec::<u8>::new(), 3).glom().collect().unwrap(), [[0u8; 0]; 3]);
}

#[test]
fn no_partitions_are_taken_for_one() {
    let ctx = Context::local();
    assert_eq!(ctx.parallelize([1, 2], 0).glom().collect().unwrap(), [[1, 2]]);
    assert_eq!(ctx.range(0..2, 0).glom().collect().unwrap(), [[0, 1]]);
}

#[test]
fn range_holds_its_numbers_in_order() {
    let ctx = Context::local();
    assert_eq!(ctx.range(5..12, 3).collect().unwrap(), (5..12).collect::<Vec<u64>>());
    assert_eq!(ctx.range(5..12, 3).num_partitions(), 3);
}

#[test]
fn range_may_be_empty_or_end_before_it_starts_or_at_the_largest_number() {
    let ctx = Context::local();
    assert_eq!(ctx.range(7..7, 2).count().unwrap(), 0);
    let (low, high) = (3, 9);
    assert_eq!(ctx.range(high..low, 2).count().unwrap(), 0);
    let last = ctx.range(u64::MAX - 3..u64::MAX, 2).collect().unwrap();
    assert_eq!(last, [u64::MAX - 3, u64::MAX - 2, u64::MAX - 1]);
}

#[test]
fn text_file_gives_lines_without_their_ends() {
    assert_eq!(lines_of(b"one\ntwo\n\nfour\n"), ["one", "two", "", "four"]);
}

#[test]
fn text_file_takes_windows_line_ends_off() {
    assert_eq!(lines_of(b"one\r\ntwo\r\n\r\n"), ["one", "two", ""]);
}

#[test]
fn text_file_keeps_a_carriage_return_that_ends_no_line() {
    assert_eq!(lines_of(b"a\rb\nc\r"), ["a\rb", "c\r"]);
}

#[test]
fn text_file_gives_a_last_line_without_a_line_break() {
    assert_eq!(lines_of(b"one\ntwo"), ["one", "two"]);
}

#[test]
fn text_file_of_an_empty_file_has_no_lines() {
    assert_eq!(lines_of(b""), [""; 0]);
}

#[test]
fn text_file_reads_a_folders_files_in_order_without_hidden_ones() {
    let dir = folder(&[
        ("b.txt", b"3\n"),
        ("a.txt", b"1\n2"),
        (".hidden", b"no\n"),
        ("_SUCCESS", b"no\n"),
        ("inner/c.txt", b"no\n"),
    ]);
    let ctx = Context::local();
    assert_eq!(lines(&ctx, dir.path().to_str().unwrap()), ["1", "2", "3"]);
}

#[test]
fn text_file_of_a_folder_without_files_is_empty() {
    let dir = folder(&[]);
    let ctx = Context::local();
    let text = ctx.text_file(dir.path().to_str().unwrap()).unwrap();
    assert_eq!(text.collect().unwrap(), [""; 0]);
    assert_eq!(text.count().unwrap(), 0);
    let counts = text.map(|line| (line, 1u64)).reduce_by_key(|a, b| a + b);
    assert!(counts.is_empty().unwrap());
}

#[test]
fn text_file_reads_what_a_glob_matches() {
    let dir = folder(&[
        ("x/a1.txt", b"x/a1\n"),
        ("y/a2.txt", b"y/a2\n"),
        ("y/b2.txt", b"y/b2\n"),
        ("y/a2.csv", b"y/a2.csv\n"),
        ("y/.a3.txt", b"hidden\n"),
        ("_z/a4.txt", b"hidden\n"),
    ]);
    let ctx = Context::local();
    assert_eq!(lines(&ctx, &path(&dir, "*/a*.txt")), ["x/a1", "y/a2"]);
    assert_eq!(lines(&ctx, &path(&dir, "y/[!a]?.txt")), ["y/b2"]);
    assert_eq!(lines(&ctx, &path(&dir, "[x-z]/a[0-1].*")), ["x/a1"]);
    assert_eq!(lines(&ctx, &path(&dir, "?")), ["x/a1", "y/a2.csv", "y/a2", "y/b2"]);
    let error = ctx.text_file(path(&dir, "*.parquet")).unwrap_err().to_string();
    assert!(error.contains("*.parquet") && error.contains("matches no file"), "{error}");
}

#[test]
fn a_file_whose_name_looks_like_a_glob_is_read() {
    let dir = folder(&[("a[1].txt", b"itself\n"), ("a1.txt", b"other\n")]);
    assert_eq!(lines(&Context::local(), &path(&dir, "a[1].txt")), ["itself"]);
}

#[test]
fn a_path_that_is_not_there_is_refused_at_once() {
    let dir = folder(&[]);
    let error = Context::local().text_file(path(&dir, "nothing.txt")).unwrap_err().to_string();
    assert!(error.contains("nothing.txt"), "{error}");
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 3).unwrap()
}

#[test]
fn compressed_files_are_read_by_their_extensions() {
    let large: String = (0..100_000).map(|i| format!("line {i}\n")).collect();
    for (extension, compress) in [("gz", gzip as fn(&[u8]) -> Vec<u8>), ("zst", zstd)] {
        // Several parts one after the other are one file.
        let parts = [compress(b"one\ntwo\nth"), compress(b""), compress(b"ree\n")].concat();
        let name = |name: &str| format!("{name}.{extension}");
        let dir = folder(&[
            (&name("a.txt"), &parts),
            (&name("b.txt"), &compress(large.as_bytes())),
            ("c.txt", b"plain\n"),
        ]);
        let ctx = Context::local();
        assert_eq!(lines(&ctx, &path(&dir, &name("a.txt"))), ["one", "two", "three"]);
        assert!(lines(&ctx, &path(&dir, &name("b.txt"))).iter().eq(large.lines()));
        let all = ctx.text_file_with_partitions(dir.path().to_str().unwrap(), 9).unwrap();
        assert_eq!((all.count().unwrap(), all.num_partitions()), (100_004, 5), "{extension}");
        let whole = ctx.whole_files(path(&dir, &name("a.txt"))).unwrap();
        assert_eq!(whole.values().collect().unwrap(), [b"one\ntwo\nthree\n"]);
    }
}

#[test]
fn a_compressed_file_that_is_none_is_refused_by_name() {
    let zst = zstd(b"some text that repeats itself, that repeats itself");
    for (name, bytes) in [
        ("a.gz", &b"plain text"[..]),
        ("b.zst", b"plain text"),
        ("c.gz", &gzip(b"cut")[..9]),
        ("d.zst", &zst[..zst.len() - 9]),
    ] {
        let dir = folder(&[(name, bytes)]);
        let error = Context::local().text_file(path(&dir, name)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("is no sound"), "{name}: {error}");
    }
}

#[test]
fn text_that_is_not_utf8_fails_and_names_file_and_byte() {
    let dir = folder(&[("in.txt", b"fine\nbad \xFF\n")]);
    let text = Context::local().text_file(path(&dir, "in.txt")).unwrap();
    let error = text.collect().unwrap_err().to_string();
    assert!(error.contains("in.txt is not UTF-8 at byte 9"), "{error}");
    assert!(error.contains("ingle.text.invalid-utf8=replace"), "{error}");
}

#[test]
fn text_that_is_not_utf8_can_be_replaced() {
    let dir = folder(&[("in.txt", b"fine\nbad \xFF\n")]);
    let ctx = Context::local_with([("ingle.text.invalid-utf8", "replace")]);
    assert_eq!(lines(&ctx, &path(&dir, "in.txt")), ["fine", "bad \u{FFFD}"]);
}

#[test]
fn a_wrong_setting_for_invalid_text_is_refused() {
    let dir = folder(&[("in.txt", b"")]);
    let ctx = Context::local_with([("ingle.text.invalid-utf8", "ignore")]);
    let error = ctx.text_file(path(&dir, "in.txt")).unwrap_err().to_string();
    assert!(error.contains("`ignore`") && error.contains("`replace`"), "{error}");
}

#[test]
fn text_file_with_partitions_makes_so_many() {
    let text: String = (0..100).map(|i| format!("line {i}\n")).collect();
    let dir = folder(&[("in.txt", text.as_bytes())]);
    let text = Context::local().text_file_with_partitions(path(&dir, "in.txt"), 7).unwrap();
    assert_eq!(text.num_partitions(), 7);
    let parts = text.glom().collect().unwrap();
    assert!(parts.iter().all(|part| !part.is_empty()));
    assert_eq!(parts.concat(), (0..100).map(|i| format!("line {i}")).collect::<Vec<_>>());
}

#[test]
fn lines_longer_than_a_block_come_whole() {
    let long = "x".repeat(700_000);
    let text = format!("{long}\nshort\n{long}");
    assert_eq!(lines_of(text.as_bytes()), [long.as_str(), "short", long.as_str()]);
}

#[test]
fn whole_files_gives_paths_and_bytes() {
    let large: Vec<u8> = (0..600_000u32).map(|i| i as u8).collect();
    let dir = folder(&[("a", b"one\r\ntwo\n"), ("b", b""), ("c", &large), ("_no", b"no")]);
    let files = Context::local().whole_files(dir.path().to_str().unwrap()).unwrap();
    assert_eq!(files.num_partitions(), 3);
    let found = files.collect().unwrap();
    let names: Vec<_> =
        found.iter().map(|(path, _)| Path::new(path).file_name().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let bytes: Vec<_> = found.into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(bytes, [b"one\r\ntwo\n".to_vec(), Vec::new(), large]);
}

#[test]
fn whole_files_are_never_cut() {
    let dir = folder(&[("a", b"1\n2\n3\n"), ("b", b"4\n5\n")]);
    let path = dir.path().to_str().unwrap();
    let files = Context::local().whole_files_with_partitions(path, 8).unwrap();
    assert_eq!((files.num_partitions(), files.count().unwrap()), (2, 2));
}

proptest! {
    #[test]
    fn text_file_gives_the_lines_of_str_lines(
        text in "([a-cäß ]{0,6}(\r\n|\n|\r)?){0,12}",
        partitions in 0usize..9,
    ) {
        let dir = folder(&[("in.txt", text.as_bytes())]);
        let ctx = Context::local();
        let file = ctx.text_file_with_partitions(path(&dir, "in.txt"), partitions).unwrap();
        prop_assert!(file.num_partitions() >= partitions);
        prop_assert_eq!(file.collect().unwrap(), text.lines().collect::<Vec<_>>());
    }

    #[test]
    fn parallelize_holds_what_it_was_given(
        values in prop::collection::vec(any::<i64>(), 0..50),
        partitions in 1usize..9,
    ) {
        let dataset = Context::local().parallelize(values.clone(), partitions);
        prop_assert_eq!(dataset.num_partitions(), partitions);
        prop_assert_eq!(dataset.collect().unwrap(), values);
    }
}
