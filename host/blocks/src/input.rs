//! A file's bytes, decompressed by its extension.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::fs::{OpenOptions, OpenOptionsExt};
use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};
use crate::grants::Grants;
use crate::objects::{self, Broke, Found, Location, is_url};
use crate::sources::SourceFile;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
}

/// The largest window (as a power of 2) that a zstd file may ask the host to hold: all levels up to 19 need at most this.
const ZSTD_WINDOW: u32 = 23;
/// What is read from disk at a time, for decompression.
const COMPRESSED: usize = 256 << 10;

impl Compression {
    pub(crate) fn of(path: &Path) -> Self {
        match path.extension().and_then(|e| e.to_str()) {
            Some("gz") => Self::Gzip,
            Some("zst") => Self::Zstd,
            _ => Self::None,
        }
    }

    /// What a decoder holds, about.
    pub(crate) fn memory(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Gzip => COMPRESSED as u64 + (64 << 10),
            Self::Zstd => COMPRESSED as u64 + (1 << ZSTD_WINDOW) + (512 << 10),
        }
    }
}

/// What reading a file takes, beside the buffer of whoever reads it, about.
pub(crate) fn memory(path: &Path) -> u64 {
    let is_object = path.to_str().is_some_and(is_url);
    Compression::of(path).memory() + if is_object { objects::READER_MEMORY } else { 0 }
}

/// Opens a listed file from `offset` (0 unless it is plain), decompressed. `counter` hears of every byte from disk.
pub(crate) fn open(
    grants: &Grants,
    file: &SourceFile,
    offset: u64,
    counter: &Arc<AtomicU64>,
) -> Result<Box<dyn Read + Send>> {
    let path = &*file.path;
    let bytes = match path.to_str().filter(|text| is_url(text)) {
        Some(url) => {
            let location = Location::parse(url)?;
            grants.may_read(&location)?;
            let listed = Found { len: file.len, tag: file.tag.clone() };
            objects::open(grants.objects(), &location, &listed, offset, counter)?
        }
        None => Box::new(open_file(grants, path, file.len, offset, counter)?),
    };
    Ok(match Compression::of(path) {
        Compression::None => bytes,
        Compression::Gzip => {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(COMPRESSED, bytes)))
        }
        Compression::Zstd => {
            let compressed = BufReader::with_capacity(COMPRESSED, bytes);
            let mut decoder =
                zstd::Decoder::with_buffer(compressed).map_err(Error::io("decompressing", path))?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(Error::io("decompressing", path))?;
            Box::new(decoder)
        }
    })
}

fn open_file(
    grants: &Grants,
    path: &Path,
    listed_len: u64,
    offset: u64,
    counter: &Arc<AtomicU64>,
) -> Result<Disk> {
    let file = open_listed(grants, path, listed_len)?;
    let advice = rustix::fs::Advice::Sequential;
    // Only advice: reading works without.
    let _ = rustix::fs::fadvise(
        &file,
        offset,
        NonZeroU64::new(listed_len - offset.min(listed_len)),
        advice,
    );

    Ok(Disk { file, at: offset, counter: counter.clone() })
}

/// Opens a file of this machine, which must be as it was listed.
pub(crate) fn open_listed(grants: &Grants, path: &Path, listed_len: u64) -> Result<File> {
    let found = grants.read(path)?;
    let mut options = OpenOptions::new();
    // A pipe that took the file's place must not make the slot wait for ever.
    options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let file = match found.dir.open_with(&found.path, &options) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::bad(path, "was there when the source was opened, and is gone"));
        }
        opened => opened.map_err(found.failed("opening"))?.into_std(),
    };
    let metadata = file.metadata().map_err(Error::io("reading", path))?;
    if !metadata.is_file() || metadata.len() != listed_len {
        return Err(changed(path, listed_len));
    }
    Ok(file)
}

pub(crate) fn changed(path: &Path, listed: u64) -> Error {
    Error::bad(
        path,
        format!("changed while the job ran: it had {listed} bytes when the source was opened"),
    )
}

/// What a failed read of a file means.
pub(crate) fn failed(path: &Path, error: io::Error) -> Error {
    if let Some(Broke(problem)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return Error::bad(path, problem);
    }
    let format = match Compression::of(path) {
        // A system error (a disk that fails) is no matter of the format.
        _ if error.raw_os_error().is_some() => return Error::io("reading", path)(error),
        Compression::None => return Error::io("reading", path)(error),
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    };
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Error::bad(
            path,
            format!("ends in the middle of its {format} data: is it a part of a file?"),
        );
    }
    let problem = error.to_string();
    if problem.contains("too much memory") {
        return Error::bad(
            path,
            "needs a larger zstd window than 8 MiB: compress it without --long and --ultra",
        );
    }
    Error::bad(path, format!("is no sound {format} file: {problem}"))
}

/// A file read from front to back, in large pieces.
struct Disk {
    file: File,
    at: u64,
    counter: Arc<AtomicU64>,
}

impl Read for Disk {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        self.counter.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
