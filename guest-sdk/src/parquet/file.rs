//! A file of the host's, of which parts are read: the footer, then column chunks through a window.

use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

use crate::host::{self, Extent};
use crate::task::fail;

/// What is read of a file's end at once: most footers are shorter.
const TAIL: u64 = 64 << 10;
/// The length of the footer's length and of the magic bytes.
const ENDING: u64 = 8;
const MAGIC: &[u8] = b"PAR1";
const ENCRYPTED: &[u8] = b"PARE";
/// A longer footer is none.
const MAX_FOOTER: u64 = 512 << 20;

/// An open file.
pub(crate) struct HostFile {
    reader: u32,
    pub extent: Extent,
    pub path: String,
}

impl HostFile {
    pub fn open(reader: u32) -> HostFile {
        let path = host::describe(reader).path;
        HostFile { reader, extent: host::extent(reader), path }
    }

    /// Ends the task for what is wrong with the file.
    pub fn refuse(&self, text: impl fmt::Display) -> ! {
        fail(format_args!("{} {text}", self.path))
    }

    /// What its footer says.
    pub fn metadata(&self) -> ParquetMetaData {
        let length = self.extent.length;
        if length < ENDING + MAGIC.len() as u64 {
            self.refuse(format_args!("is no Parquet file: it has {length} bytes"));
        }
        let tail = self.read_all(length - TAIL.min(length), TAIL.min(length));
        let (rest, ending) = tail.split_at(tail.len() - ENDING as usize);
        let (footer, magic) = ending.split_at(4);
        match magic {
            MAGIC => {}
            ENCRYPTED => self.refuse("is an encrypted Parquet file, which can't be read"),
            _ => self.refuse("is no Parquet file, or its end is missing: it doesn't end in `PAR1`"),
        }
        let footer = footer.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        if footer > MAX_FOOTER.min(length - ENDING - MAGIC.len() as u64) {
            self.refuse(format_args!(
                "is no sound Parquet file: its footer would be {footer} bytes of {length}"
            ));
        }
        let read = match rest.len().checked_sub(footer as usize) {
            Some(start) => ParquetMetaDataReader::decode_metadata(&rest[start..]),
            None => {
                let bytes = self.read_all(length - ENDING - footer, footer);
                ParquetMetaDataReader::decode_metadata(&bytes)
            }
        };
        match read {
            Ok(metadata) => metadata,
            Err(error) => self.refuse(format_args!(
                "is no sound Parquet file: its footer can't be read: {}",
                words(&error)
            )),
        }
    }

    fn read_all(&self, start: u64, length: u64) -> Bytes {
        match self.read(start, length as usize) {
            Ok(bytes) => bytes,
            Err(error) => fail(words(&error)),
        }
    }

    /// So many bytes, all of which lie in the file.
    fn read(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.extent.length) {
            return Err(ParquetError::General("it lies outside of the file".into()));
        }
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let some = (length - bytes.len()).min(host::MAX_RANGE);
            let read = host::read_at(self.reader, start + bytes.len() as u64, some)
                .map_err(|text| ParquetError::External(Told(text).into()))?;
            if read.is_empty() {
                return Err(ParquetError::EOF("the file ends early".into()));
            }
            if bytes.is_empty() {
                bytes = read;
            } else {
                bytes.extend_from_slice(&read);
            }
        }
        Ok(bytes.into())
    }
}

impl Drop for HostFile {
    fn drop(&mut self) {
        host::close(self.reader);
    }
}

/// What the host said.
#[derive(Debug)]
struct Told(String);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Told {}

/// An error in words that follow a name.
pub(crate) fn words(error: &ParquetError) -> String {
    match error {
        ParquetError::External(error) => error.to_string(),
        ParquetError::General(text) | ParquetError::EOF(text) | ParquetError::NYI(text) => {
            text.clone()
        }
        other => other.to_string(),
    }
}

/// A column chunk, read through a window.
pub(crate) struct Chunk {
    file: Arc<HostFile>,
    end: u64,
    /// How much is read at once, if less is asked for.
    ahead: u64,
    window: Mutex<(u64, Bytes)>,
}

impl Chunk {
    pub fn new(file: &Arc<HostFile>, end: u64, ahead: u64) -> Chunk {
        Chunk { file: Arc::clone(file), end, ahead, window: Mutex::default() }
    }

    /// From `start` on at least `least` bytes, or as there are to the chunk's end.
    fn get(&self, start: u64, least: usize) -> ParquetResult<Bytes> {
        let left = self.end.saturating_sub(start);
        let least = left.min(least as u64);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let known = start.checked_sub(window.0).and_then(|at| {
            let at = usize::try_from(at).ok()?;
            (at <= window.1.len()).then(|| window.1.slice(at..))
        });
        let known = known.unwrap_or_default();
        if known.len() as u64 >= least {
            return Ok(known);
        }
        // Nothing is read twice.
        let wanted = least.max(left.min(self.ahead)) - known.len() as u64;
        let more = self.file.read(start + known.len() as u64, wanted as usize)?;
        let bytes = match known.is_empty() {
            true => more,
            false => [&known[..], &more[..]].concat().into(),
        };
        *window = (start, bytes.clone());
        Ok(bytes)
    }
}

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.file.extent.length
    }
}

impl ChunkReader for Chunk {
    type T = Rest;

    fn get_read(&self, start: u64) -> ParquetResult<Rest> {
        // Of page headers, which are short: what the window holds of it, and more if that isn't enough.
        Ok(Rest {
            chunk: Chunk {
                file: Arc::clone(&self.file),
                end: self.end,
                ahead: self.ahead,
                window: Mutex::new((start, self.get(start, HEADER)?)),
            },
            at: start,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.get(start, length)?;
        match bytes.len() >= length {
            true => Ok(bytes.slice(..length)),
            false => Err(ParquetError::EOF("a page is longer than its column".into())),
        }
    }
}

/// Longer than most page headers.
const HEADER: usize = 512;

/// A chunk from some place on.
pub(crate) struct Rest {
    chunk: Chunk,
    at: u64,
}

impl Read for Rest {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.chunk.get(self.at, 1).map_err(io::Error::other)?;
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        self.at += length as u64;
        Ok(length)
    }
}
