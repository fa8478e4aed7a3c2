//! What a guest may take: every linear memory and table of an instance is charged to one pool.

use std::sync::Arc;

use ingle_core::memory::{MemoryPool, MemoryUse, OutOfMemory, Reservation};
use parking_lot::Mutex;
use wasmtime::ResourceLimiter;

/// What one table element costs: a pointer, and what the engine keeps for it.
const TABLE_ELEMENT_BYTES: u64 = 16;
/// An instance that makes more memories than a job ever needs is up to something.
const MAX_MEMORIES: usize = 8;
const MAX_TABLES: usize = 64;
const MAX_INSTANCES: usize = 64;

/// Of an image up to this size a task is charged all in advance, since it may make every page its own; of a larger one
/// what it does beyond is [`dirtied`](crate::dirtied).
pub const CHARGED_IMAGE_BYTES: u64 = 16 << 20;

/// A guest asked for memory that its budget doesn't have.
#[derive(Debug, thiserror::Error)]
#[error("out of memory: {0}")]
pub struct GuestOutOfMemory(#[from] OutOfMemory);

/// What an instance holds of its budget. It outlives the store, whose memories are unmapped after its data is dropped.
#[derive(Clone)]
pub struct Charge(Arc<Mutex<Reservation>>);

impl Charge {
    pub fn new(pool: &MemoryPool) -> Self {
        Self(Arc::new(Mutex::new(pool.reservation(MemoryUse::Guest))))
    }
}

/// Charges one instance's memories and tables.
pub struct Limiter {
    charge: Charge,
    memories: usize,
    /// Bytes of linear memory, all of this instance's together.
    bytes: u64,
    /// Growth that an image pays for: its pages aren't the instance's own.
    prepaid: u64,
}

impl Limiter {
    pub fn new(charge: Charge) -> Self {
        Self { charge, memories: 0, bytes: 0, prepaid: 0 }
    }

    /// From now on, growth of `length` bytes is charged to the image that is about to be laid there.
    pub fn prepay(&mut self, length: u64) {
        self.prepaid = length.saturating_sub(CHARGED_IMAGE_BYTES);
    }

    /// The image is laid: growth is the instance's own again.
    pub fn end_prepayment(&mut self) {
        self.prepaid = 0;
    }

    /// What the budget is charged for the instance now.
    pub fn charged(&self) -> u64 {
        self.charge.0.lock().bytes()
    }

    /// Bytes of linear memory now.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the instance has just the one memory that an image can put back as it was.
    pub fn has_one_memory(&self) -> bool {
        self.memories == 1
    }

    fn grow(&mut self, more: u64) -> Result<(), GuestOutOfMemory> {
        let prepaid = more.min(self.prepaid);
        self.charge.0.lock().grow(more - prepaid)?;
        self.prepaid -= prepaid;
        Ok(())
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current) as u64;
        // An error, not a `false`, which the guest would see as a failed allocation and abort without words.
        self.grow(more)?;
        self.bytes += more;
        if current == 0 {
            self.memories += 1;
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current) as u64;
        self.charge.0.lock().grow(more * TABLE_ELEMENT_BYTES).map_err(GuestOutOfMemory)?;
        Ok(true)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}
