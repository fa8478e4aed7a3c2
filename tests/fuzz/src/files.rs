//! Files that a job reads: lines, headers, compressed data, parts of files; cut into splits anyhow.

use std::fs;
use std::sync::Arc;

use ingle_blocks::{Error, Framing, Grants, ReadOptions, Source, SourceParts};
use ingle_core::memory::MemoryPool;
use ingle_core::size::ByteSize;

use crate::Input;

/// A file may unpack to anything: no more of it is read here.
const ENOUGH: usize = 4 << 20;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let framings = [Framing::Lines, Framing::LinesWithHeader, Framing::WholeFiles, Framing::Ranges];
    let framing = input.pick(&framings);
    let name = input.pick(&["f.txt", "f.gz", "f.zst"]);
    let (block, max_line) = (1 + input.below(64) * 7, 1 + input.below(256) * 5);
    let min_splits = u32::from(input.byte()) % 32;
    // Else a driver says what the splits are.
    let told = input.flag().then(|| [(); 3].map(|()| (input.number(), input.number())));
    let offset = input.number();
    let contents = input.rest();

    let Ok(root) = tempfile::tempdir() else { return };
    let path = root.path().join(name);
    if fs::write(&path, contents).is_err() {
        return;
    }
    let grants = Grants::new_in(root.path(), &[root.path().to_owned()], &[]);
    let grants = Arc::new(grants.expect("a folder can be granted"));
    let text = path.to_str().expect("it has a plain name");
    let listed = Source::open(&grants, text, framing, min_splits, 4);
    let mut source = listed.expect("a file can be listed");
    let is_cut_here = told.is_none();
    if let Some(splits) = told {
        let length = contents.len() as u64;
        let splits = splits.map(|(start, end)| (0, start, end.min(length)));
        let files = vec![(path.clone(), length, None)];
        match Source::from_parts(SourceParts { framing, files, splits: splits.into() }) {
            Ok(told) => source = told,
            Err(_) => return,
        }
    }
    // One split needs its buffer, a header, and what a decoder takes.
    let pool = MemoryPool::new(ByteSize(16 << 20));
    let mut options = ReadOptions::new(pool.clone());
    (options.block, options.max_line) = (block, max_line);
    if framing == Framing::Ranges {
        ranges(&grants, &source, &options, contents, offset);
    } else {
        blocks(&grants, &source, &options, contents, is_cut_here && name == "f.txt", offset);
    }
    assert_eq!(pool.usage().total(), 0, "everything is given back");
}

fn ranges(
    grants: &Arc<Grants>,
    source: &Source,
    options: &ReadOptions,
    contents: &[u8],
    offset: u64,
) {
    for split in 0..source.splits() + 1 {
        let Ok(mut reader) = source.open_ranges(grants, split, options) else { continue };
        for length in [0, 1, 4096, offset as u32] {
            if let Ok(bytes) = reader.read_at(offset, length as usize) {
                let expected = usize::try_from(offset).ok().and_then(|at| contents.get(at..));
                let expected = expected.unwrap_or_default();
                let length = expected.len().min(length as usize);
                assert!(bytes == &expected[..length], "other bytes than the file has");
            }
        }
    }
}

fn blocks(
    grants: &Arc<Grants>,
    source: &Source,
    options: &ReadOptions,
    contents: &[u8],
    is_plain: bool,
    offset: u64,
) {
    let (mut all, mut header, mut failed) = (Vec::new(), Vec::new(), false);
    for split in 0..source.splits() + 1 {
        let mut reader = match source.open_split(grants, split, options) {
            Ok(reader) => reader,
            Err(Error::Invalid(_)) if split == source.splits() => break,
            Err(_) => {
                failed = true;
                continue;
            }
        };
        header = reader.describe().header.to_vec();
        loop {
            match reader.next_block() {
                Ok(Some(block)) => {
                    assert!(!block.is_empty());
                    all.extend_from_slice(block);
                }
                Ok(None) => break,
                Err(_) => {
                    failed = true;
                    break;
                }
            }
            if all.len() > ENOUGH {
                return;
            }
        }
        if all.len() < ENOUGH / 4 {
            // Counting reads up to there, decompressed: not of what unpacks to anything.
            let _ = reader.line_number(offset.min(1 << 20));
        }
    }
    if is_plain && !failed {
        let expected = if source.splits() == 0 { &[][..] } else { contents };
        let given = [header, all].concat();
        assert!(given == expected, "splits have each line once");
    }
}
