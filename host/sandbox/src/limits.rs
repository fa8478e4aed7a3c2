//! What a guest may take: every linear memory and table of an instance is charged to one pool.

use std::ops::Range;
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
const CHARGED_IMAGE_BYTES: u64 = 16 << 20;

/// A guest asked for memory that its budget doesn't have.
#[derive(Debug, thiserror::Error)]
#[error("out of memory: {0}")]
pub struct GuestOutOfMemory(#[from] OutOfMemory);

/// What an instance holds of its budget. It outlives the store, whose memories are given back after its data is dropped.
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
    /// Bytes of linear memory, all of this instance's together.
    bytes: u64,
    /// Where growth is paid for by an image, whose pages aren't the instance's own.
    prepaid: Range<u64>,
    /// Bytes of the image that it pays for itself.
    paid: u64,
    /// What the budget was charged: it only grows.
    charged: u64,
}

impl Limiter {
    pub fn new(charge: Charge) -> Self {
        Self { charge, bytes: 0, prepaid: 0..0, paid: 0, charged: 0 }
    }

    /// From now on, growth of the instance's only memory where an image is about to be laid, at `base`, is charged to that, but for a
    /// part that the instance pays for: all of what it has there already, or what [`CHARGED_IMAGE_BYTES`] says.
    pub fn prepay(&mut self, base: u64, length: u64) {
        let has = self.bytes.saturating_sub(base);
        self.paid = length.min(has.max(CHARGED_IMAGE_BYTES));
        let end = base.saturating_add(length);
        self.prepaid = end - (length - self.paid)..end;
    }

    /// Bytes of the image that the instance has paid for.
    pub fn paid(&self) -> u64 {
        self.paid
    }

    /// The image is laid: growth is the instance's own again.
    pub fn end_prepayment(&mut self) {
        self.prepaid = 0..0;
    }

    /// What the budget is charged for the instance now.
    pub fn charged(&self) -> u64 {
        self.charged
    }

    /// Bytes of linear memory now.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn grow(&mut self, from: u64, to: u64) -> Result<(), GuestOutOfMemory> {
        let (first, last) = (self.prepaid.start.max(from), self.prepaid.end.min(to));
        self.charge(to.saturating_sub(from) - last.saturating_sub(first))
    }

    fn charge(&mut self, more: u64) -> Result<(), GuestOutOfMemory> {
        self.charge.0.lock().grow(more)?;
        self.charged += more;
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
        // An error, not a `false`, which the guest would see as a failed allocation and abort without words.
        self.grow(current as u64, desired as u64)?;
        self.bytes += desired.saturating_sub(current) as u64;
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
        self.charge(more * TABLE_ELEMENT_BYTES)?;
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

#[cfg(test)]
mod tests {
    use ingle_core::size::ByteSize;

    use super::*;

    const MIB: usize = 1 << 20;

    /// What is charged for a task whose memory began with so much, and then holds an image of so much from 1 MiB on.
    fn forked(minimum: usize, image: usize) -> (Limiter, u64) {
        let pool = MemoryPool::new(ByteSize(4 << 30));
        let mut limiter = Limiter::new(Charge::new(&pool));
        assert!(limiter.memory_growing(0, minimum, None).unwrap());
        limiter.prepay(MIB as u64, image as u64);
        let end = (MIB + image).max(minimum);
        assert!(limiter.memory_growing(minimum, end, None).unwrap());
        let charged = limiter.charged();
        limiter.end_prepayment();
        (limiter, charged)
    }

    #[test]
    fn a_task_pays_for_16_mib_of_a_large_image() {
        let (limiter, charged) = forked(2 * MIB, 500 * MIB);
        assert_eq!((charged, limiter.paid()), (17 << 20, 16 << 20));
        let (limiter, charged) = forked(2 * MIB, 5 * MIB);
        assert_eq!((charged, limiter.paid()), (6 << 20, 5 << 20));
    }

    #[test]
    fn what_a_task_has_already_counts() {
        let (limiter, charged) = forked(201 * MIB, 500 * MIB);
        assert_eq!((charged, limiter.paid()), (201 << 20, 200 << 20));
        let (limiter, charged) = forked(201 * MIB, 100 * MIB);
        assert_eq!((charged, limiter.paid()), (201 << 20, 100 << 20));
    }

    #[test]
    fn growth_below_the_image_is_not_prepaid() {
        let pool = MemoryPool::new(ByteSize(4 << 30));
        let mut limiter = Limiter::new(Charge::new(&pool));
        assert!(limiter.memory_growing(0, MIB, None).unwrap());
        limiter.prepay(200 << 20, 100 << 20);
        assert!(limiter.memory_growing(MIB, 200 * MIB, None).unwrap());
        assert_eq!(limiter.charged(), 200 << 20);
        assert!(limiter.memory_growing(200 * MIB, 216 * MIB, None).unwrap());
        assert!(limiter.memory_growing(216 * MIB, 300 * MIB, None).unwrap());
        assert_eq!(limiter.charged(), 216 << 20);
    }

    #[test]
    fn growth_beyond_the_image_is_not_prepaid() {
        let (mut limiter, charged) = forked(2 * MIB, 500 * MIB);
        assert!(limiter.memory_growing(501 * MIB, 510 * MIB, None).unwrap());
        assert_eq!(limiter.charged() - charged, 9 << 20);
    }
}
