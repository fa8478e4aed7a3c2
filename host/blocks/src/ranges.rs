//! Reading any part of a file: of formats that aren't read from front to back.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ingle_core::memory::{MemoryPool, MemoryUse, Reservation};
use ingle_core::size::ByteSize;

use crate::error::{Error, Result};
use crate::grants::Grants;
use crate::input;
use crate::objects::{self, Found, Location, is_url};
use crate::reader::ReadOptions;
use crate::sources::{SourceFile, Split};

/// The most bytes that are read at a time.
pub const MAX_RANGE: usize = 8 << 20;

/// A file of which any part may be read, and the split that it was opened as.
pub struct RangeReader {
    file: SourceFile,
    split: Split,
    bytes: Bytes,
    buffer: Vec<u8>,
    counter: Arc<AtomicU64>,
    pool: MemoryPool,
    charge: Reservation,
}

enum Bytes {
    Disk(File),
    Object(Arc<Grants>, Location),
}

impl RangeReader {
    pub(crate) fn open(
        grants: &Arc<Grants>,
        file: &SourceFile,
        split: Split,
        options: &ReadOptions,
    ) -> Result<Self> {
        let bytes = match file.path.to_str().filter(|text| is_url(text)) {
            Some(url) => {
                let location = Location::parse(url)?;
                grants.may_read(&location)?;
                Bytes::Object(grants.clone(), location)
            }
            None => Bytes::Disk(input::open_listed(grants, &file.path, file.len)?),
        };
        Ok(Self {
            file: file.clone(),
            split,
            bytes,
            buffer: Vec::new(),
            counter: options.bytes_read.clone(),
            pool: options.pool.clone(),
            charge: options.charge(),
        })
    }

    /// The file.
    pub fn path(&self) -> &std::path::Path {
        &self.file.path
    }

    /// Where in the file the split begins and ends, and how long the file is.
    pub fn extent(&self) -> (u64, u64, u64) {
        (self.split.start, self.split.end, self.file.len)
    }

    /// As many bytes from `offset` on, or as there are to the end of the file.
    pub fn read_at(&mut self, offset: u64, length: usize) -> Result<&[u8]> {
        if length > MAX_RANGE {
            let (length, most) = (ByteSize(length as u64), ByteSize(MAX_RANGE as u64));
            return Err(Error::Invalid(format!(
                "{length} were asked for at a time, of at most {most}"
            )));
        }
        let path = &*self.file.path;
        let left = self.file.len.saturating_sub(offset);
        let length = usize::try_from(left).map_or(length, |left| length.min(left));
        self.buffer.clear();
        if length == 0 {
            return Ok(&self.buffer);
        }
        let more = length.saturating_sub(self.buffer.capacity());
        if more > 0 {
            self.charge.grow(more as u64)?;
            self.buffer.reserve_exact(length);
        }
        match &self.bytes {
            Bytes::Disk(file) => {
                self.buffer.resize(length, 0);
                let read = file.read_exact_at(&mut self.buffer, offset);
                read.map_err(|error| match error.kind() {
                    std::io::ErrorKind::UnexpectedEof => input::changed(path, self.file.len),
                    _ => input::failed(path, error),
                })?;
            }
            Bytes::Object(grants, location) => {
                let listed = Found { len: self.file.len, tag: self.file.tag.clone() };
                let range = offset..offset + length as u64;
                // The store's answer, which is copied right away.
                let _answer = self.pool.reserve(MemoryUse::Input, length as u64)?;
                let bytes = objects::read_range(grants.objects(), location, &listed, range)?;
                self.buffer.extend_from_slice(&bytes);
            }
        }
        self.counter.fetch_add(length as u64, Ordering::Relaxed);
        Ok(&self.buffer)
    }
}
