//! A segment: blocks packed into one buffer, in memory or, after an eviction, on disk.
//!
//! It is the unit of allocation, of eviction and of the index. A task fills its own ([`Packed`]) without any lock; a
//! full one is sealed into a [`Segment`], which readers and evictors share.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ingle_core::ids::CacheId;
use ingle_core::memory::{OutOfMemory, Reservation};
use parking_lot::Mutex;

use crate::error::Result;
use crate::spill::SpillFile;

/// Where a block lies in its segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub partition: u32,
    pub start: u32,
    pub len: u32,
    /// Of the block's bytes; set when they go to disk.
    pub crc: u32,
}

/// What a segment costs beside its bytes and spans: itself, and its place in lists.
const OVERHEAD: u64 = 256;
const FIRST_SPANS: usize = 8;
const SPAN: u64 = size_of::<Span>() as u64;

/// The spans of one partition; spans are sorted by partition.
fn of_partition(spans: &[Span], partition: u32) -> Range<usize> {
    spans.partition_point(|s| s.partition < partition)
        ..spans.partition_point(|s| s.partition <= partition)
}

/// Blocks in memory, charged to the pool by capacity.
pub(crate) struct Packed {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    charge: Reservation,
}

impl Packed {
    /// Room for so many bytes, by a charge that is empty so far.
    pub fn new(mut charge: Reservation, capacity: usize) -> Result<Self, OutOfMemory> {
        charge.grow(capacity as u64 + FIRST_SPANS as u64 * SPAN + OVERHEAD)?;
        Ok(Self {
            bytes: Vec::with_capacity(capacity),
            spans: Vec::with_capacity(FIRST_SPANS),
            charge,
        })
    }

    /// Copies a block in. False, and nothing happened, if there is no room for it, or no memory for its index.
    pub fn push(&mut self, partition: u32, block: &[u8]) -> bool {
        if block.len() > self.bytes.capacity() - self.bytes.len() {
            return false;
        }
        if self.spans.len() == self.spans.capacity() {
            let more = self.spans.capacity();
            if self.charge.grow(more as u64 * SPAN).is_err() {
                return false;
            }
            self.spans.reserve_exact(more);
        }
        // A segment is at most as long as its first block or `SEGMENT`, both of which fit into 32 bits.
        let (start, len) = (self.bytes.len() as u32, block.len() as u32);
        self.spans.push(Span { partition, start, len, crc: 0 });
        self.bytes.extend_from_slice(block);
        true
    }

    pub fn is_full(&self) -> bool {
        self.bytes.len() == self.bytes.capacity()
    }

    /// Gives back what stays unused, and sorts the index.
    pub fn seal(mut self) -> Self {
        let before = self.bytes.capacity();
        if before - self.bytes.len() > before / 8 {
            self.bytes.shrink_to_fit();
            self.charge.shrink((before - self.bytes.capacity()) as u64);
        }
        self.spans.sort_by_key(|s| s.partition);
        self
    }

    pub fn partition(&self, partition: u32) -> Range<usize> {
        of_partition(&self.spans, partition)
    }

    pub fn block(&self, span: usize) -> Option<&[u8]> {
        let Span { start, len, .. } = *self.spans.get(span)?;
        self.bytes.get(start as usize..start as usize + len as usize)
    }

    /// All bytes, in the order written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes the blocks to disk, those of one partition next to each other; says where, and their new index.
    fn write_to(&self, file: &SpillFile) -> Result<(u64, Vec<Span>)> {
        let mut spans = self.spans.clone();
        let in_order = spans.is_sorted_by_key(|s| s.start);
        let mut gathered = Vec::with_capacity(if in_order { 0 } else { self.bytes.len() });
        for (i, span) in spans.iter_mut().enumerate() {
            let block = self.block(i).unwrap_or_default();
            span.crc = crc32fast::hash(block);
            if !in_order {
                span.start = gathered.len() as u32;
                gathered.extend_from_slice(block);
            }
        }
        let at = file.append(if in_order { &self.bytes } else { &gathered })?;
        Ok((at, spans))
    }
}

/// Blocks on disk; their index is still in memory and charged.
pub(crate) struct Stored {
    pub file: Arc<SpillFile>,
    /// Where the segment begins in the file.
    pub at: u64,
    pub spans: Vec<Span>,
    /// Of the blocks.
    bytes: u64,
    _charge: Reservation,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.file.free(self.at, self.bytes);
    }
}

impl Stored {
    pub fn partition(&self, partition: u32) -> Range<usize> {
        of_partition(&self.spans, partition)
    }
}

/// Where a segment's blocks are now. Whoever holds a clone keeps them there.
#[derive(Clone)]
pub(crate) enum Place {
    Memory(Arc<Packed>),
    Disk(Arc<Stored>),
    /// Evicted without a copy: it must be computed again.
    Lost,
}

/// What an eviction does to a segment.
pub(crate) enum Pressure {
    Spill(Arc<SpillFile>),
    Lose,
}

/// A sealed segment.
pub(crate) struct Segment {
    /// Held only to clone a place, and by the one who evicts; nobody reserves memory under it.
    place: Mutex<Place>,
    pressure: Pressure,
    /// The cached dataset that it is of.
    pub dataset: Option<CacheId>,
    /// When it was last opened, in ticks of its queue.
    pub used: AtomicU64,
}

impl Segment {
    pub fn new(packed: Packed, pressure: Pressure, dataset: Option<CacheId>) -> Self {
        Self {
            place: Mutex::new(Place::Memory(Arc::new(packed.seal()))),
            pressure,
            dataset,
            used: AtomicU64::new(0),
        }
    }

    /// A segment of one block that never was in memory of ours, by a charge that is empty so far.
    pub fn written_through(
        mut charge: Reservation,
        file: &Arc<SpillFile>,
        partition: u32,
        block: &[u8],
    ) -> Result<Self> {
        charge.grow(SPAN + OVERHEAD)?;
        let at = file.append(block)?;
        let bytes = block.len() as u64;
        charge.spilled(bytes);
        let span =
            Span { partition, start: 0, len: block.len() as u32, crc: crc32fast::hash(block) };
        let stored = Stored { file: file.clone(), at, spans: vec![span], bytes, _charge: charge };
        let pressure = Pressure::Spill(file.clone());
        Ok(Self {
            place: Mutex::new(Place::Disk(Arc::new(stored))),
            pressure,
            dataset: None,
            used: AtomicU64::new(0),
        })
    }

    pub fn place(&self) -> Place {
        self.place.lock().clone()
    }

    /// Bytes of its blocks in memory, and on disk; none if they are lost. Whoever counts doesn't wait for a disk: what is on its way there
    /// is left out.
    pub fn held(&self) -> Option<(u64, u64)> {
        match self.place.try_lock().as_deref() {
            None => Some((0, 0)),
            Some(Place::Memory(packed)) => Some((packed.bytes.len() as u64, 0)),
            Some(Place::Disk(stored)) => Some((0, stored.bytes)),
            Some(Place::Lost) => None,
        }
    }

    /// Moves the blocks to disk, or drops them; says how many bytes left memory. Nobody loses what they read.
    pub fn evict(&self) -> Result<Evicted> {
        let mut place = self.place.lock();
        let packed = match std::mem::replace(&mut *place, Place::Lost) {
            Place::Memory(packed) => packed,
            elsewhere => {
                *place = elsewhere;
                return Ok(Evicted::Nothing);
            }
        };
        let packed = match Arc::try_unwrap(packed) {
            Ok(packed) => packed,
            Err(in_use) => {
                *place = Place::Memory(in_use);
                return Ok(Evicted::InUse);
            }
        };
        let (freed, payload) = (packed.bytes.capacity() as u64, packed.bytes.len() as u64);
        let Pressure::Spill(file) = &self.pressure else {
            return Ok(Evicted::Lost { freed });
        };
        match packed.write_to(file) {
            Ok((at, spans)) => {
                let Packed { bytes, mut charge, .. } = packed;
                drop(bytes);
                charge.shrink(freed);
                charge.spilled(payload);
                let file = file.clone();
                let stored = Stored { file, at, spans, bytes: payload, _charge: charge };
                *place = Place::Disk(Arc::new(stored));
                Ok(Evicted::Spilled { freed, payload })
            }
            Err(error) => {
                *place = Place::Memory(Arc::new(packed));
                Err(error)
            }
        }
    }
}

/// What came of an eviction.
pub(crate) enum Evicted {
    /// There was nothing in memory.
    Nothing,
    /// Somebody reads it right now.
    InUse,
    Lost {
        freed: u64,
    },
    Spilled {
        freed: u64,
        payload: u64,
    },
}
