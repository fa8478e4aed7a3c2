use std::io::Write;

use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::Home;
use crate::{Framing, ReadOptions, Source, SplitReader};

/// All blocks of all splits, with where each began.
fn blocks(
    home: &Home,
    path: &str,
    framing: Framing,
    splits: u32,
    options: &ReadOptions,
) -> Vec<(u64, Vec<u8>)> {
    let source = Source::open(&home.grants, path, framing, splits, 1).unwrap();
    let mut all = Vec::new();
    for split in 0..source.splits() {
        let mut reader = source.open_split(&home.grants, split, options).unwrap();
        let mut at = reader.describe().offset;
        while let Some(block) = reader.next_block().unwrap() {
            all.push((at, block.to_vec()));
            at += block.len() as u64;
        }
        assert!(reader.next_block().unwrap().is_none(), "the end stays the end");
    }
    all
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Lines of very different lengths, with both line ends, and perhaps none at the end.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let line = (prop_oneof![4 => 0usize..12, 1 => 0usize..300], any::<bool>(), any::<u8>());
    (prop::collection::vec(line, 0..60), any::<bool>()).prop_map(|(lines, ends)| {
        let mut text = Vec::new();
        for (len, crlf, letter) in lines {
            text.resize(text.len() + len, b'a' + letter % 26);
            text.extend_from_slice(if crlf { b"\r\n" } else { b"\n" });
        }
        if !ends {
            text.extend_from_slice(b"last");
        }
        text
    })
}

fn check_blocks(blocks: &[(u64, Vec<u8>)], text: &[u8]) -> Result<(), TestCaseError> {
    let mut at = 0;
    for (offset, block) in blocks {
        prop_assert_eq!(*offset, at, "a block begins where the one before it ended");
        at += block.len() as u64;
        prop_assert!(block.ends_with(b"\n") || at == text.len() as u64, "a line was cut");
    }
    let joined: Vec<u8> = blocks.iter().flat_map(|(_, b)| b.iter().copied()).collect();
    prop_assert_eq!(joined, text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_line_comes_once_and_whole_however_files_are_cut(
        text in text(),
        splits in 0u32..40,
        block in 1usize..200,
    ) {
        let home = Home::new();
        home.write("plain.txt", &text);
        let options = ReadOptions { block, max_line: 1000, ..home.options() };
        check_blocks(&blocks(&home, "plain.txt", Framing::Lines, splits, &options), &text)?;
        prop_assert_eq!(home.pool.usage().total(), 0, "buffers are credited");
    }

    #[test]
    fn compressed_lines_are_the_same(text in text(), block in 1usize..200, at in 0usize..1000) {
        let home = Home::new();
        let (a, b) = text.split_at(at.min(text.len()));
        home.write("two-members.gz", [gzip(a), gzip(b)].concat());
        let frames = [a, b].map(|part| zstd::encode_all(part, 1).unwrap());
        home.write("two-frames.zst", frames.concat());
        let options = ReadOptions { block, max_line: 1000, ..home.options() };
        for file in ["two-members.gz", "two-frames.zst"] {
            check_blocks(&blocks(&home, file, Framing::Lines, 9, &options), &text)?;
        }
    }

    #[test]
    fn the_header_is_taken_out_and_told_to_every_split(
        text in text(),
        splits in 0u32..40,
        block in 1usize..200,
    ) {
        let home = Home::new();
        home.write("plain.csv", &text);
        home.write("packed.csv.gz", gzip(&text));
        let header = text.split_inclusive(|b| *b == b'\n').next().unwrap_or_default();
        let options = ReadOptions { block, max_line: 1000, ..home.options() };
        for file in ["plain.csv", "packed.csv.gz"] {
            let source = Source::open(&home.grants, file, Framing::LinesWithHeader, splits, 1).unwrap();
            for split in 0..source.splits() {
                let reader = source.open_split(&home.grants, split, &options).unwrap();
                prop_assert_eq!(reader.describe().header, header);
            }
            let mut all = blocks(&home, file, Framing::LinesWithHeader, splits, &options);
            all.insert(0, (0, header.to_vec()));
            check_blocks(&all, &text)?;
        }
    }

    #[test]
    fn whole_files_come_as_they_are(bytes in prop::collection::vec(any::<u8>(), 0..5000), block in 1usize..3000) {
        let home = Home::new();
        home.write("a.bin", &bytes);
        let options = ReadOptions { block, ..home.options() };
        let blocks = blocks(&home, "a.bin", Framing::WholeFiles, 7, &options);
        prop_assert!(blocks.iter().all(|(_, b)| b.len() <= block));
        prop_assert_eq!(blocks.into_iter().flat_map(|(_, b)| b).collect::<Vec<_>>(), bytes);
    }

    #[test]
    fn a_line_number_counts_the_newlines_before_it(text in text(), at in 0usize..2000) {
        let home = Home::new();
        home.write("plain.txt", &text);
        home.write("packed.gz", gzip(&text));
        let at = at.min(text.len());
        let expected = 1 + text[..at].iter().filter(|b| **b == b'\n').count() as u64;
        for file in ["plain.txt", "packed.gz"] {
            let source = Source::open(&home.grants, file, Framing::Lines, 0, 1).unwrap();
            if source.splits() > 0 {
                let reader = source.open_split(&home.grants, 0, &home.options()).unwrap();
                prop_assert_eq!(reader.line_number(at as u64).unwrap(), expected);
            }
        }
    }
}

fn open(home: &Home, path: &str, options: &ReadOptions) -> SplitReader {
    let source = Source::open(&home.grants, path, Framing::Lines, 0, 1).unwrap();
    source.open_split(&home.grants, 0, options).unwrap()
}

#[test]
fn a_line_beyond_the_limit_is_an_error_that_says_where_it_begins() {
    let home = Home::new();
    let options = ReadOptions { block: 1 << 10, max_line: 64 << 10, ..home.options() };
    let just = [b"short\n".to_vec(), vec![b'x'; 64 << 10], b"\nend".to_vec()].concat();
    home.write("just.txt", &just);
    let read: usize =
        blocks(&home, "just.txt", Framing::Lines, 0, &options).iter().map(|(_, b)| b.len()).sum();
    assert_eq!(read, just.len());

    home.write(
        "over.txt",
        [b"short\n".to_vec(), vec![b'x'; (64 << 10) + 1], b"\nend".to_vec()].concat(),
    );
    let mut reader = open(&home, "over.txt", &options);
    assert_eq!(reader.next_block().unwrap(), Some(&b"short\n"[..]));
    let text = reader.next_block().unwrap_err().to_string();
    assert!(text.ends_with("over.txt has a line longer than 64.0 KiB, from byte 6"), "{text}");
}

#[test]
fn the_room_of_a_long_line_is_given_back() {
    let home = Home::new();
    let long = [vec![b'x'; 8 << 20], b"\n".to_vec(), b"short\n".repeat(1 << 20)].concat();
    home.write("long.txt", long);
    let mut reader = open(&home, "long.txt", &home.options());
    assert!(reader.next_block().unwrap().unwrap().len() > 8 << 20);
    assert!(home.pool.usage().total() > 8 << 20);
    assert!(reader.next_block().unwrap().unwrap().len() <= 1 << 20);
    assert!(home.pool.usage().total() <= 1 << 20);
}

#[test]
fn bytes_read_are_counted_as_they_are_on_disk() {
    let home = Home::new();
    let text = b"a line of text\n".repeat(100_000);
    let packed = gzip(&text);
    home.write("plain.txt", &text);
    home.write("packed.gz", &packed);
    for (file, on_disk) in [("plain.txt", text.len()), ("packed.gz", packed.len())] {
        let options = home.options();
        blocks(&home, file, Framing::Lines, 1, &options);
        let read = options.bytes_read.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(read, on_disk as u64, "{file}");
    }
}
