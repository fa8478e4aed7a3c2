//! Text as `text_file` reads it: a file, a folder or a glob, cut into splits at line boundaries.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use globset::GlobBuilder;
use memchr::{memchr, memrchr};

/// Small enough to share evenly among threads, large enough to cost nothing.
const SPLIT: u64 = 16 << 20;

/// How much is read at once.
const BLOCK: usize = 1 << 20;

/// The files that a path names, in order: itself, a folder's files, or a glob's matches.
pub fn files(spec: &str) -> Result<Vec<PathBuf>> {
    let path = Path::new(spec);
    let mut found = Vec::new();
    if path.is_file() {
        found.push(path.to_owned());
    } else if path.is_dir() {
        for entry in fs::read_dir(path).with_context(|| format!("can't list {spec}"))? {
            let entry = entry?;
            let name = entry.file_name();
            let hidden = name.as_encoded_bytes().starts_with(b".")
                || name.as_encoded_bytes().starts_with(b"_");
            if !hidden && entry.path().is_file() {
                found.push(entry.path());
            }
        }
    } else if spec.contains(['*', '?', '{', '[']) {
        let glob = GlobBuilder::new(spec).literal_separator(true).build()?.compile_matcher();
        walk(&literal_root(spec), &mut |file| {
            if glob.is_match(&file) {
                found.push(file);
            }
        })?;
        if found.is_empty() {
            bail!("no file matches {spec}");
        }
    } else {
        bail!("{spec} doesn't exist");
    }
    found.sort_unstable();
    Ok(found)
}

/// The folder before a glob's first wildcard.
fn literal_root(glob: &str) -> PathBuf {
    let root: PathBuf = Path::new(glob)
        .iter()
        .take_while(|part| !part.to_string_lossy().contains(['*', '?', '{', '[']))
        .collect();
    if root.as_os_str().is_empty() { PathBuf::from(".") } else { root }
}

/// Calls `visit` for every file below a folder. Links to folders aren't followed, so it ends.
fn walk(folder: &Path, visit: &mut impl FnMut(PathBuf)) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("can't list {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), visit)?;
        } else if entry.path().is_file() {
            // A walk from "." would otherwise not match the glob as it was written.
            let path = entry.path();
            visit(path.strip_prefix(".").map(Path::to_owned).unwrap_or(path));
        }
    }
    Ok(())
}

/// A part of a file: the lines that begin in it.
#[derive(Debug)]
pub struct Split {
    path: PathBuf,
    start: u64,
    end: u64,
}

/// Cuts files into splits. A `.gz` can't be cut.
pub fn splits(files: &[PathBuf]) -> Result<Vec<Split>> {
    cut(files, SPLIT)
}

fn cut(files: &[PathBuf], size: u64) -> Result<Vec<Split>> {
    let mut splits = Vec::new();
    for path in files {
        if is_gz(path) {
            splits.push(Split { path: path.clone(), start: 0, end: u64::MAX });
            continue;
        }
        let length =
            fs::metadata(path).with_context(|| format!("can't read {}", path.display()))?.len();
        let mut start = 0;
        while start < length {
            let end = length.min(start + size);
            splits.push(Split { path: path.clone(), start, end });
            start = end;
        }
    }
    Ok(splits)
}

fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "gz")
}

/// All of a file, decompressed if its name ends in `.gz`.
pub fn read_all(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("can't open {}", path.display()))?;
    let read = if is_gz(path) {
        MultiGzDecoder::new(BufReader::new(file)).read_to_string(&mut text)
    } else {
        { file }.read_to_string(&mut text)
    };
    read.with_context(|| format!("can't read {}", path.display()))?;
    Ok(text)
}

impl Split {
    /// Calls `each` with the split's lines, many at a time: blocks of whole lines.
    pub fn for_each_block(&self, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let mut each = |block: &[u8]| {
            let text = str::from_utf8(block);
            each(text.with_context(|| format!("{} isn't UTF-8", self.path.display()))?)
        };
        let mut file = File::open(&self.path)
            .with_context(|| format!("can't open {}", self.path.display()))?;
        if is_gz(&self.path) {
            return blocks(MultiGzDecoder::new(BufReader::new(file)), u64::MAX, &mut each);
        }
        let mut at = self.start;
        if self.start > 0 {
            // The line that the byte before belongs to is the split's before.
            file.seek(SeekFrom::Start(self.start - 1))?;
            let mut skipping = BufReader::new(&file);
            at = self.start - 1 + skipping.skip_until(b'\n')? as u64;
            if at >= self.end {
                return Ok(());
            }
            file.seek(SeekFrom::Start(at))?;
        }
        blocks(file, self.end - at, &mut each)
    }
}

/// Reads blocks of whole lines, up to the line that holds byte number `length`.
fn blocks(
    mut reader: impl Read,
    length: u64,
    each: &mut impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; BLOCK];
    let mut held = 0;
    let mut left = length;
    loop {
        if held == buffer.len() {
            buffer.resize(held * 2, 0);
        }
        let read = reader.read(&mut buffer[held..])?;
        let full = held + read;
        let last = left - 1;
        if last < full as u64 {
            let last = last as usize;
            if let Some(i) = memchr(b'\n', &buffer[last..full]) {
                return each(&buffer[..=last + i]);
            }
            held = full;
        } else if let Some(i) = memrchr(b'\n', &buffer[..full]) {
            each(&buffer[..=i])?;
            buffer.copy_within(i + 1..full, 0);
            held = full - i - 1;
            left -= i as u64 + 1;
        } else {
            held = full;
        }
        if read == 0 {
            return if held > 0 { each(&buffer[..held]) } else { Ok(()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn read(splits: &[Split]) -> Vec<String> {
        let mut blocks = Vec::new();
        for split in splits {
            let mut keep = |block: &str| {
                blocks.push(block.to_owned());
                Ok(())
            };
            split.for_each_block(&mut keep).unwrap();
        }
        blocks
    }

    #[test]
    fn splits_of_any_size_give_every_line_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        for text in [
            "a\nbb\n\nccc\r\ndddd",
            "\n",
            "x",
            "one line that is longer than most splits\n",
            "ä\nö\nü\n",
        ] {
            let path = dir.path().join("text");
            fs::write(&path, text).unwrap();
            for size in 1..12 {
                let blocks = read(&cut(std::slice::from_ref(&path), size).unwrap());
                assert_eq!(blocks.concat(), text, "in splits of {size}");
                assert!(blocks.iter().rev().skip(1).all(|b| b.ends_with('\n')), "{blocks:?}");
            }
        }
    }

    #[test]
    fn a_line_longer_than_the_buffer_comes_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        let text = format!("short\n{}\nshort\n", "x".repeat(3 * BLOCK));
        fs::write(&path, &text).unwrap();
        assert_eq!(read(&splits(&[path]).unwrap()).concat(), text);
    }

    #[test]
    fn a_gzipped_file_is_read_through() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text.gz");
        let mut gz = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        gz.write_all(b"one\ntwo\n").unwrap();
        gz.finish().unwrap();
        assert_eq!(read(&splits(std::slice::from_ref(&path)).unwrap()), ["one\ntwo\n"]);
        assert_eq!(read_all(&path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_folder_gives_its_visible_files_and_a_glob_what_matches() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("deep/er")).unwrap();
        for name in ["b.txt", "a.txt", "_SUCCESS", ".hidden", "deep/er/c.txt", "deep/d.rs"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let names = |spec: &str| -> Vec<String> {
            let found = files(dir.path().join(spec).to_str().unwrap()).unwrap();
            found
                .iter()
                .map(|p| p.strip_prefix(dir.path()).unwrap().display().to_string())
                .collect()
        };
        assert_eq!(names(""), ["a.txt", "b.txt"]);
        assert_eq!(names("*.txt"), ["a.txt", "b.txt"]);
        assert_eq!(names("**/*.txt"), ["a.txt", "b.txt", "deep/er/c.txt"]);
    }

    #[test]
    fn nothing_to_read_is_an_error() {
        assert!(files("no-such-file").is_err());
        assert!(files("no-such-*").unwrap_err().to_string().contains("no-such-*"));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("latin1");
        fs::write(&path, b"caf\xe9\n").unwrap();
        let error = splits(&[path]).unwrap()[0].for_each_block(|_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("latin1"), "{error}");
    }
}
