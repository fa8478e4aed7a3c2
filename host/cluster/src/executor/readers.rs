//! A task's open inputs, by the numbers that its guest names them with.

use std::sync::Arc;

use ingle_blocks::{BlockReader, ShuffleReader, SplitReader};
use ingle_core::memory::Reservation;
use ingle_sandbox::host::{Block, Stop};

/// More than a merge of all runs that a task may have.
const MAX_READERS: usize = 1 << 17;

pub enum Reader {
    Split(Box<SplitReader>),
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
            Reader::Blocks(_) | Reader::Shuffle(_) => {
                Err(Stop::Misuse(format!("reader {id}, which reads no split")))
            }
        }
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
        };
        let bytes = match next {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error)),
        };
        if Arc::get_mut(&mut self.block).is_none() {
            // Somebody still reads the last one.
            self.block = Arc::default();
            self.charge.shrink(u64::MAX);
        }
        if let Some(buffer) = Arc::get_mut(&mut self.block) {
            buffer.clear();
            let more = bytes.len().saturating_sub(buffer.capacity());
            if more > 0 {
                if let Err(error) = self.charge.grow(more as u64) {
                    return Ok(Err(error.into()));
                }
                buffer.reserve_exact(bytes.len());
            }
            buffer.extend_from_slice(bytes);
        }
        Ok(Ok(Some(self.block.clone())))
    }
}

fn unknown(id: u32) -> Stop {
    Stop::Misuse(format!("reader {id}, which isn't open"))
}
