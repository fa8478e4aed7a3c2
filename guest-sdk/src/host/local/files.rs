//! Input files of the native runner: read whole, cut at lines.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
#[cfg(feature = "parquet")]
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use crate::host::Framing;
use crate::host::local::glob;

/// A part of a file.
#[derive(Debug)]
pub(crate) struct SplitData {
    pub path: String,
    pub offset: u64,
    pub header: Vec<u8>,
    pub blocks: Vec<Vec<u8>>,
    /// Lines before the split.
    lines_before: u64,
    /// Of ranges: where the split ends, and all of the file.
    #[cfg(feature = "parquet")]
    pub ranges: Option<(u64, Rc<Vec<u8>>)>,
}

impl SplitData {
    /// The number of the line at an offset of the file.
    pub(crate) fn line_number(&self, offset: u64) -> u64 {
        let into = offset.saturating_sub(self.offset) as usize;
        let bytes = self.blocks.iter().flatten().take(into);
        self.lines_before + 1 + bytes.filter(|byte| **byte == b'\n').count() as u64
    }
}

/// How much a block holds at least, unless the split ends.
const BLOCK: usize = 256 * 1024;

pub(crate) fn open(
    path: &str,
    framing: Framing,
    min_splits: usize,
) -> Result<Vec<SplitData>, String> {
    let files = list(path)?;
    let each = min_splits.div_ceil(files.len().max(1)).max(1);
    let mut splits = Vec::new();
    for file in files {
        let name = file.display().to_string();
        let bytes = fs::read(&file).map_err(|error| format!("{name}: {error}"))?;
        #[cfg(feature = "parquet")]
        if framing == Framing::Ranges {
            splits.extend(cut_ranges(&name, bytes, each));
            continue;
        }
        match decompressed(&file, &bytes)? {
            None => cut(&name, &bytes, framing, each, &mut splits),
            // Such a file can't be cut.
            Some(bytes) => cut(&name, &bytes, framing, 1, &mut splits),
        }
    }
    Ok(splits)
}

/// A file's bytes, if its extension says that they are compressed.
fn decompressed(file: &Path, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let extension = file.extension().and_then(OsStr::to_str);
    let (format, text) = match extension {
        Some("gz") => {
            let mut text = Vec::new();
            ("gzip", MultiGzDecoder::new(bytes).read_to_end(&mut text).map(|_| text))
        }
        Some("zst") => ("zstd", zstd(bytes)),
        _ => return Ok(None),
    };
    let failed = |error| format!("{} is no sound {format} file: {error}", file.display());
    text.map(Some).map_err(failed)
}

/// The text of all frames.
fn zstd(mut bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    while !bytes.is_empty() {
        match StreamingDecoder::new(&mut bytes) {
            Ok(mut frame) => {
                frame.read_to_end(&mut text)?;
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                bytes = bytes.get(length as usize..).ok_or(io::ErrorKind::UnexpectedEof)?;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Ok(text)
}

/// The files that a path stands for, in order. A path that exists as it is written is no glob.
fn list(path: &str) -> Result<Vec<PathBuf>, String> {
    let mut files = if glob::is_glob(path) && !Path::new(path).exists() {
        let mut files = Vec::new();
        for found in glob::find(path)? {
            files.extend(files_of(&found)?);
        }
        if files.is_empty() {
            return Err(format!("{path} matches no file"));
        }
        files
    } else {
        files_of(Path::new(path))?
    };
    files.sort();
    Ok(files)
}

/// A file itself, or the files right in a folder without hidden ones.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("{}: {error}", path.display());
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.is_file() && !is_hidden(&file) {
            files.push(file);
        }
    }
    Ok(files)
}

pub(crate) fn is_hidden(file: &Path) -> bool {
    file.file_name().is_none_or(|name| {
        name.as_encoded_bytes().starts_with(b".") || name.as_encoded_bytes().starts_with(b"_")
    })
}

fn cut(name: &str, bytes: &[u8], framing: Framing, parts: usize, splits: &mut Vec<SplitData>) {
    let split = |header: &[u8], offset: usize, part: &[u8], lines_before| SplitData {
        path: name.to_owned(),
        offset: offset as u64,
        header: header.to_vec(),
        blocks: blocks(part, framing),
        lines_before,
        #[cfg(feature = "parquet")]
        ranges: None,
    };
    if framing == Framing::WholeFiles {
        return splits.push(split(b"", 0, bytes, 0));
    }
    let body = if framing == Framing::LinesWithHeader { line_end(bytes, 0) } else { 0 };
    let header = &bytes[..body];
    let (mut start, mut lines) = (body, u64::from(body > 0));
    for part in 1..=parts {
        let end = line_end(
            bytes,
            (body + (bytes.len() - body) * part / parts).max(start).saturating_sub(1),
        );
        let end = if part == parts { bytes.len() } else { end };
        splits.push(split(header, start, &bytes[start..end], lines));
        lines += bytes[start..end].iter().filter(|byte| **byte == b'\n').count() as u64;
        start = end;
    }
}

/// Splits of about the same size, at any byte.
#[cfg(feature = "parquet")]
fn cut_ranges(name: &str, bytes: Vec<u8>, parts: usize) -> impl Iterator<Item = SplitData> {
    let bytes = Rc::new(bytes);
    (0..parts).map(move |part| {
        let cut = |part: usize| (bytes.len() * part / parts) as u64;
        SplitData {
            path: name.to_owned(),
            offset: cut(part),
            header: Vec::new(),
            blocks: Vec::new(),
            lines_before: 0,
            ranges: Some((cut(part + 1), Rc::clone(&bytes))),
        }
    })
}

/// Where the line that holds byte `at` ends, with its `\n`.
fn line_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    memchr::memchr(b'\n', rest).map_or(bytes.len(), |len| at + len + 1)
}

fn blocks(bytes: &[u8], framing: Framing) -> Vec<Vec<u8>> {
    if framing == Framing::WholeFiles {
        return bytes.chunks(BLOCK).map(<[u8]>::to_vec).collect();
    }
    let (mut blocks, mut start) = (Vec::new(), 0);
    while start < bytes.len() {
        let end = line_end(bytes, (start + BLOCK - 1).min(bytes.len()));
        blocks.push(bytes[start..end].to_vec());
        start = end;
    }
    blocks
}
