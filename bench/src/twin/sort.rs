//! Sorts 100-byte lines by their first 10 bytes into globally ordered parts, in memory.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::input;
use super::output::Output;
use super::threads::{self, Threads};

/// A line's length with its newline.
pub const RECORD: usize = 100;

/// The part of a line that it is sorted by.
pub const KEY: usize = 10;

/// How many records are read at once.
const BATCH: u64 = 64 << 10;

/// Parts for each thread: enough for even work, few enough for long sequential writes.
const PARTS_PER_THREAD: usize = 4;

/// Records looked at for each part, to find where the parts are to end.
const SAMPLES_PER_PART: u64 = 500;

/// Sorts the records of the input's files into the parts of a new folder.
pub fn sort(spec: &str, out: &Path, threads: Threads) -> Result<()> {
    let files = input::files(spec)?.into_iter().map(Records::open).collect::<Result<Vec<_>>>()?;
    let out = Output::create(out)?;
    let bounds = bounds(&files, threads.get() * PARTS_PER_THREAD)?;

    let batches: Vec<_> = files.iter().flat_map(Records::batches).collect();
    let scattered = threads::fold(
        threads,
        batches.len(),
        || (Vec::new(), vec![Vec::new(); bounds.len() + 1]),
        |(buffer, parts), i| {
            let (file, first, count) = batches[i];
            file.read(first, count, buffer)?;
            for record in buffer.as_chunks::<RECORD>().0 {
                let key = key(record);
                parts[bounds.partition_point(|bound| *bound <= key)].extend_from_slice(record);
            }
            Ok(())
        },
    )?;

    let mut parts = vec![Vec::new(); bounds.len() + 1];
    for (_, mine) in scattered {
        parts.iter_mut().zip(mine).for_each(|(part, piece)| part.push(piece));
    }
    threads::map(threads, parts, |number, pieces| {
        out.part(number, |writer| {
            for record in sorted(&pieces) {
                writer.write_all(record)?;
            }
            Ok(())
        })
    })?;
    out.commit()
}

/// A file of records.
struct Records {
    path: PathBuf,
    file: File,
    count: u64,
}

impl Records {
    fn open(path: PathBuf) -> Result<Self> {
        let file = File::open(&path).with_context(|| format!("can't open {}", path.display()))?;
        let bytes = file.metadata()?.len();
        ensure!(
            bytes.is_multiple_of(RECORD as u64),
            "{} doesn't hold lines of {RECORD} bytes: its length is {bytes}",
            path.display()
        );
        Ok(Self { path, file, count: bytes / RECORD as u64 })
    }

    /// Cuts the file: (itself, first record, how many).
    fn batches(&self) -> impl Iterator<Item = (&Self, u64, u64)> {
        (0..self.count)
            .step_by(BATCH as usize)
            .map(move |first| (self, first, BATCH.min(self.count - first)))
    }

    fn read(&self, first: u64, count: u64, into: &mut Vec<u8>) -> Result<()> {
        into.resize(count as usize * RECORD, 0);
        let read = self.file.read_exact_at(into, first * RECORD as u64);
        read.with_context(|| format!("can't read {}", self.path.display()))
    }
}

/// Keys that cut the records into about even parts, from records spread evenly over the files.
fn bounds(files: &[Records], parts: usize) -> Result<Vec<u128>> {
    let total: u64 = files.iter().map(|f| f.count).sum();
    let step = (total / (parts as u64 * SAMPLES_PER_PART)).max(1);
    let (mut sample, mut record) = (Vec::new(), Vec::new());
    for file in files {
        for i in (0..file.count).step_by(step as usize) {
            file.read(i, 1, &mut record)?;
            sample.extend(record.as_chunks().0.iter().map(key));
        }
    }
    sample.sort_unstable();
    let mut bounds: Vec<_> =
        (1..parts).filter_map(|i| sample.get(i * sample.len() / parts).copied()).collect();
    bounds.dedup();
    Ok(bounds)
}

/// A record's key as a number of the same order, shifted up: the lower 48 bits are free.
fn key(record: &[u8; RECORD]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..KEY].copy_from_slice(&record[..KEY]);
    u128::from_be_bytes(bytes)
}

/// The records of a part in order. What is sorted is small: the key, and below it where the record lies.
fn sorted(pieces: &[Vec<u8>]) -> impl Iterator<Item = &[u8; RECORD]> {
    let pieces: Vec<&[[u8; RECORD]]> = pieces.iter().map(|piece| piece.as_chunks().0).collect();
    let mut order = Vec::with_capacity(pieces.iter().map(|p| p.len()).sum());
    for (p, piece) in pieces.iter().enumerate() {
        order.extend(
            piece.iter().enumerate().map(|(i, record)| key(record) | (p as u128) << 32 | i as u128),
        );
    }
    order.sort_unstable();
    order.into_iter().map(move |at| &pieces[(at >> 32) as u16 as usize][at as u32 as usize])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::rng::Xorshift;

    const TWO: Threads = Threads::new(2).unwrap();

    fn records(count: usize, letters: usize) -> Vec<String> {
        let mut rng = Xorshift::new(3);
        let mut key =
            || (0..KEY).map(|_| char::from(b'a' + rng.below(letters) as u8)).collect::<String>();
        (0..count).map(|i| format!("{}{i:089}\n", key())).collect()
    }

    fn sort_files(files: &[&[String]]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("in"), dir.path().join("out"));
        fs::create_dir(&from).unwrap();
        for (i, records) in files.iter().enumerate() {
            fs::write(from.join(i.to_string()), records.concat()).unwrap();
        }
        sort(from.to_str().unwrap(), &to, TWO).unwrap();
        assert!(to.join("_SUCCESS").exists());
        let parts = input::files(to.to_str().unwrap()).unwrap();
        let text: String = parts.iter().map(|p| fs::read_to_string(p).unwrap()).collect();
        text.split_inclusive('\n').map(str::to_owned).collect()
    }

    #[test]
    fn all_records_come_out_in_the_order_of_their_keys() {
        let mut expected = records(100_000, 26);
        let got = sort_files(&[&expected[..70_000], &[], &expected[70_000..]]);
        expected.sort_unstable();
        assert!(got == expected);
    }

    #[test]
    fn many_equal_keys_lose_nothing() {
        let mut expected = records(5_000, 1);
        let mut got = sort_files(&[&expected]);
        got.sort_unstable();
        expected.sort_unstable();
        assert!(got == expected);
    }

    #[test]
    fn no_records_make_an_empty_output() {
        assert_eq!(sort_files(&[&[]]), Vec::<String>::new());
    }

    #[test]
    fn a_file_of_other_lines_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        fs::write(&path, "short\n").unwrap();
        let error = sort(path.to_str().unwrap(), &dir.path().join("out"), TWO).unwrap_err();
        assert!(error.to_string().contains("its length is 6"), "{error}");
    }
}
