//! A task's open inputs, by the numbers that its guest names them with.

use std::path::Path;
use std::sync::Arc;

use ingle_blocks::{BlockReader, RangeReader, ShuffleReader, SplitReader};
use ingle_core::memory::Reservation;
use ingle_sandbox::host::{Block, Extent, SplitDescription, Stop};

/// More than all runs that a task may have.
const MAX_READERS: usize = 1 << 17;

pub enum Reader {
    Split(Box<SplitReader>),
    Ranges(Box<RangeReader>),
    Blocks(BlockReader),
    Shuffle(ShuffleReader),
}

/// Open readers, and the one block that is on its way to the guest.
pub struct Readers {
    open: Vec<Option<Reader>>,
    /// Closed ones, whose numbers are free.
    free: Vec<u32>,
    block: Block,
    charge: Reservation,
}

impl Readers {
    pub fn new(charge: Reservation) -> Self {
        Self { open: Vec::new(), free: Vec::new(), block: Arc::default(), charge }
    }

    pub fn add(&mut self, reader: Reader) -> Result<u32, Stop> {
        if let Some(id) = self.free.pop()
            && let Some(place) = self.open.get_mut(id as usize)
        {
            *place = Some(reader);
            return Ok(id);
        }
        if self.open.len() >= MAX_READERS {
            return Err(Stop::Misuse(format!("more than {MAX_READERS} open readers")));
        }
        self.open.push(Some(reader));
        Ok(self.open.len() as u32 - 1)
    }

    pub fn close(&mut self, id: u32) -> Result<(), Stop> {
        let closed = self.open.get_mut(id as usize).and_then(Option::take);
        drop(closed.ok_or_else(|| unknown(id))?);
        self.free.push(id);
        Ok(())
    }

    fn get(&mut self, id: u32) -> Result<&mut Reader, Stop> {
        self.open.get_mut(id as usize).and_then(Option::as_mut).ok_or_else(|| unknown(id))
    }

    pub fn split(&mut self, id: u32) -> Result<&SplitReader, Stop> {
        match self.get(id)? {
            Reader::Split(split) => Ok(split),
            Reader::Blocks(_) | Reader::Shuffle(_) | Reader::Ranges(_) => {
                Err(Stop::Misuse(format!("reader {id}, which reads no split of lines or files")))
            }
        }
    }

    /// What a guest may ask about a split.
    pub fn describe(&mut self, id: u32) -> Result<SplitDescription, Stop> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        if let Reader::Ranges(ranges) = self.get(id)? {
            let (offset, ..) = ranges.extent();
            return Ok(SplitDescription { path: text(ranges.path()), offset, header: Vec::new() });
        }
        let found = self.split(id)?.describe();
        let (path, header) = (text(found.path), found.header.to_vec());
        Ok(SplitDescription { path, offset: found.offset, header })
    }

    /// Where in its file a split of ranges lies.
    pub fn extent(&mut self, id: u32) -> Result<Extent, Stop> {
        let Reader::Ranges(ranges) = self.get(id)? else { return Err(without_ranges(id)) };
        let (start, end, length) = ranges.extent();
        Ok(Extent { start, end, length })
    }

    /// The next block of a reader, copied to a buffer that the next call reuses.
    pub fn read(&mut self, id: u32) -> Result<ingle_blocks::Result<Option<Block>>, Stop> {
        // Not by `get`: the buffer is borrowed beside the reader.
        let reader =
            self.open.get_mut(id as usize).and_then(Option::as_mut).ok_or_else(|| unknown(id))?;
        let next = match reader {
            Reader::Split(split) => split.next_block(),
            Reader::Blocks(blocks) => blocks.next_block(),
            Reader::Shuffle(blocks) => blocks.next_block(),
            Reader::Ranges(_) => {
                return Err(Stop::Misuse(format!("reader {id}, which has no blocks")));
            }
        };
        match next {
            Ok(Some(bytes)) => Ok(lend(&mut self.block, &mut self.charge, bytes).map(Some)),
            Ok(None) => Ok(Ok(None)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// A part of a reader's file, in the same buffer.
    pub fn read_at(
        &mut self,
        id: u32,
        offset: u64,
        length: u32,
    ) -> Result<ingle_blocks::Result<Block>, Stop> {
        let reader =
            self.open.get_mut(id as usize).and_then(Option::as_mut).ok_or_else(|| unknown(id))?;
        let Reader::Ranges(ranges) = reader else { return Err(without_ranges(id)) };
        let read = ranges.read_at(offset, length as usize);
        Ok(read.and_then(|bytes| lend(&mut self.block, &mut self.charge, bytes)))
    }
}

/// Copies bytes to the one buffer that the guest is given.
fn lend(block: &mut Block, charge: &mut Reservation, bytes: &[u8]) -> ingle_blocks::Result<Block> {
    if Arc::get_mut(block).is_none() {
        // Somebody still reads the last one.
        *block = Arc::default();
        charge.shrink(u64::MAX);
    }
    if let Some(buffer) = Arc::get_mut(block) {
        buffer.clear();
        let more = bytes.len().saturating_sub(buffer.capacity());
        if more > 0 {
            charge.grow(more as u64)?;
            buffer.reserve_exact(bytes.len());
        }
        buffer.extend_from_slice(bytes);
    }
    Ok(block.clone())
}

fn without_ranges(id: u32) -> Stop {
    Stop::Misuse(format!("reader {id}, of which only blocks are read"))
}

fn unknown(id: u32) -> Stop {
    Stop::Misuse(format!("reader {id}, which isn't open"))
}
