//! Reading blocks back, from wherever they are by then.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ingle_core::memory::{Account, MemoryUse, Reservation};

use crate::error::{Error, Result};
use crate::packer::{Segments, Shared};
use crate::segment::{Packed, Place, Stored};

/// Small neighbours on disk are read together, up to so many bytes.
const READ_TOGETHER: usize = 128 << 10;

/// The blocks of one partition, as they were written, output by output.
pub struct BlockReader {
    shared: Arc<Shared>,
    partition: u32,
    outputs: std::vec::IntoIter<Segments>,
    output: Option<Segments>,
    next_segment: usize,
    at: At,
    /// Bytes read from disk: the blocks of `OnDisk::buffered`.
    buffer: Vec<u8>,
    charge: Reservation,
    /// Segments that would be lost if they were evicted now.
    _pins: Vec<Arc<Packed>>,
}

/// The segment that is being read, and the blocks of it still to come.
enum At {
    Nowhere,
    Memory(Arc<Packed>, Range<usize>),
    Disk(OnDisk),
}

struct OnDisk {
    stored: Arc<Stored>,
    file: Arc<File>,
    blocks: Range<usize>,
    /// How many of the next blocks are in the buffer, and where the first of them begins there.
    buffered: usize,
    begin: usize,
}

impl BlockReader {
    /// What a reader holds before it reads: itself, and lists of so many outputs and pins. Charged before the lists are made.
    pub(crate) fn reserve(shared: &Shared, listed: usize) -> Result<Reservation> {
        const READER: usize = 512;
        let bytes = READER + listed * size_of::<Segments>();
        Ok(shared.pool.reserve(MemoryUse::Input, bytes as u64)?)
    }

    /// Reads outputs one after the other. `charge` is what [`BlockReader::reserve`] gave for them.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        partition: u32,
        outputs: Vec<Segments>,
        charge: Reservation,
    ) -> Self {
        Self {
            shared: shared.clone(),
            partition,
            outputs: outputs.into_iter(),
            output: None,
            next_segment: 0,
            at: At::Nowhere,
            buffer: Vec::new(),
            charge,
            _pins: Vec::new(),
        }
    }

    /// Reads one output.
    pub(crate) fn of(shared: &Arc<Shared>, output: Segments) -> Result<Self> {
        let charge = Self::reserve(shared, 1)?;
        Ok(Self::new(shared, 0, vec![output], charge))
    }

    /// What it holds is counted on an account.
    pub fn on(mut self, account: &Arc<Account>) -> Self {
        self.charge.count_on(account);
        self
    }

    /// Keeps segments where they are as long as it lives.
    pub(crate) fn pin(self, pins: Vec<Arc<Packed>>) -> Self {
        Self { _pins: pins, ..self }
    }

    /// The next block; none at the end.
    pub fn next_block(&mut self) -> Result<Option<&[u8]>> {
        while !self.has_more() {
            if !self.open_next()? {
                return Ok(None);
            }
        }
        let block = match &mut self.at {
            At::Nowhere => None,
            At::Memory(packed, blocks) => blocks.next().and_then(|i| packed.block(i)),
            At::Disk(disk) => {
                if disk.buffered == 0 {
                    disk.fill(&mut self.buffer, &mut self.charge)?;
                }
                Some(disk.take(&self.buffer)?)
            }
        };
        let bytes = block.map_or(0, <[u8]>::len);
        self.shared.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(block)
    }

    fn has_more(&self) -> bool {
        match &self.at {
            At::Nowhere => false,
            At::Memory(_, blocks) | At::Disk(OnDisk { blocks, .. }) => !blocks.is_empty(),
        }
    }

    /// Goes on to the next segment; false after the last.
    fn open_next(&mut self) -> Result<bool> {
        let segment = loop {
            if let Some(segment) = self.output.as_ref().and_then(|o| o.get(self.next_segment)) {
                break segment;
            }
            self.output = self.outputs.next();
            self.next_segment = 0;
            if self.output.is_none() {
                self.at = At::Nowhere;
                return Ok(false);
            }
        };
        self.next_segment += 1;
        self.at = match segment.place() {
            Place::Memory(packed) => {
                let blocks = packed.partition(self.partition);
                At::Memory(packed, blocks)
            }
            Place::Disk(stored) => {
                let blocks = stored.partition(self.partition);
                let file = match &self.at {
                    // Saves a reopening between two segments of one file.
                    At::Disk(disk) if Arc::ptr_eq(&disk.stored.file, &stored.file) => {
                        disk.file.clone()
                    }
                    _ if blocks.is_empty() => {
                        self.at = At::Nowhere;
                        return Ok(true);
                    }
                    _ => stored.file.open()?,
                };
                At::Disk(OnDisk { stored, file, blocks, buffered: 0, begin: 0 })
            }
            Place::Lost => {
                return Err(Error::Invalid(
                    "a cached partition was evicted while it was read".into(),
                ));
            }
        };
        Ok(true)
    }
}

impl OnDisk {
    /// Reads the next block, and small ones behind it: those of a partition are neighbours in a segment on disk.
    fn fill(&mut self, buffer: &mut Vec<u8>, charge: &mut Reservation) -> Result<()> {
        let next = self.stored.spans.get(self.blocks.clone()).unwrap_or_default();
        let mut bytes = 0;
        let mut end = None;
        for span in next {
            let follows = end.is_none_or(|end| end == u64::from(span.start));
            if !follows || (self.buffered > 0 && bytes + span.len as usize > READ_TOGETHER) {
                break;
            }
            bytes += span.len as usize;
            end = Some(u64::from(span.start) + u64::from(span.len));
            self.buffered += 1;
        }
        if bytes > buffer.capacity() {
            charge.grow((bytes - buffer.capacity()) as u64)?;
            // Nothing in it is needed any more: don't let the reallocation copy it.
            *buffer = Vec::with_capacity(bytes);
        }
        buffer.resize(bytes, 0);
        self.begin = 0;
        let at = self.stored.at + next.first().map_or(0, |s| u64::from(s.start));
        let path = self.stored.file.path();
        self.file.read_exact_at(buffer, at).map_err(Error::io("reading the spill file", path))
    }

    fn take<'a>(&mut self, buffer: &'a [u8]) -> Result<&'a [u8]> {
        let span = self.blocks.next().and_then(|i| self.stored.spans.get(i));
        let block = span.and_then(|s| buffer.get(self.begin..self.begin + s.len as usize));
        let (Some(span), Some(block)) = (span, block) else {
            return Ok(&[]);
        };
        self.buffered -= 1;
        self.begin += block.len();
        if crc32fast::hash(block) != span.crc {
            let offset = self.stored.at + u64::from(span.start);
            return Err(Error::Damaged { path: self.stored.file.path().to_owned(), offset });
        }
        Ok(block)
    }
}
