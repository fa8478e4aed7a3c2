//! What an executor reads ahead of its tasks from other workers, of all their streams together.

use std::sync::Arc;

use ingle_core::memory::{MemoryPool, MemoryUse, OutOfMemory, Reservation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a stream asks for at a time, at most, and at least.
const BATCH: u64 = 1 << 20;
const SMALL: u64 = 64 << 10;
/// What all streams read ahead together, at most.
const ALL: u64 = 64 << 20;

/// The room for that: a part of the executor's pool, charged as it is taken.
pub struct Ahead {
    pool: MemoryPool,
    batch: u64,
    /// In units of [`SMALL`].
    left: Arc<Semaphore>,
}

/// Room for blocks on their way.
pub struct Room {
    /// Blocks that came take their part of it with them.
    pub charge: Reservation,
    /// What is read ahead is one of a few; what its reader waits for isn't.
    pub permit: Option<Arc<OwnedSemaphorePermit>>,
}

impl Ahead {
    pub fn new(pool: MemoryPool) -> Self {
        let capacity = pool.capacity().0;
        let batch = (capacity / 64).clamp(SMALL, BATCH);
        let all = (capacity / 8).clamp(batch, ALL);
        let left = Arc::new(Semaphore::new((all / SMALL) as usize));
        Self { pool, batch, left }
    }

    /// What a stream asks for at a time.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// Room that is free: nobody has to give anything for what is only read ahead.
    pub fn free(&self) -> Option<Room> {
        let permit = self.left.clone().try_acquire_many_owned((self.batch / SMALL) as u32).ok()?;
        let mut charge = self.pool.reservation(MemoryUse::Input);
        charge.try_grow(self.batch).then(|| Room { charge, permit: Some(Arc::new(permit)) })
    }

    /// A little room, for a reader that waits.
    pub async fn needed(&self) -> Result<Room, OutOfMemory> {
        let mut room = Room { charge: self.pool.reservation(MemoryUse::Input), permit: None };
        room.grow(SMALL).await?;
        Ok(room)
    }
}

impl Room {
    /// More of it, which others may have to give: they write it to disk, so not on a thread that all share.
    pub async fn grow(&mut self, more: u64) -> Result<(), OutOfMemory> {
        if self.charge.try_grow(more) {
            return Ok(());
        }
        let mut charge = self.charge.split(u64::MAX);
        let grown = tokio::task::spawn_blocking(move || {
            charge.grow(more)?;
            Ok(charge)
        });
        // It doesn't panic, and a runtime that ends asks for no memory.
        if let Ok(grown) = grown.await {
            self.charge = grown?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ingle_core::size::ByteSize;

    use super::*;

    #[test]
    fn what_is_read_ahead_is_a_part_of_the_pool_and_what_is_needed_comes_anyway() {
        let pool = MemoryPool::new(ByteSize(64 << 20));
        let ahead = Ahead::new(pool.clone());
        let mut rooms: Vec<_> = std::iter::from_fn(|| ahead.free()).collect();
        assert_eq!((rooms.len(), pool.usage().of(MemoryUse::Input)), (8, 8 << 20));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let needed = runtime.block_on(ahead.needed()).unwrap();
        assert_eq!(pool.usage().of(MemoryUse::Input), (8 << 20) + SMALL);
        // Its blocks are read, one by one.
        let mut room = rooms.pop().unwrap();
        let (block, permit) = (room.charge.split(1000), room.permit.clone());
        drop(room);
        assert!(ahead.free().is_none(), "one is still there");
        assert_eq!(pool.usage().of(MemoryUse::Input), (7 << 20) + SMALL + 1000);
        drop((block, permit));
        assert!(ahead.free().is_some());
        drop(rooms);
        let _others = pool.reserve(MemoryUse::Guest, (64 << 20) - SMALL - 1000).unwrap();
        assert!(ahead.free().is_none(), "nobody gives anything for it");
        let refused = runtime.block_on(ahead.needed()).err().unwrap();
        assert_eq!(refused.asked, SMALL);
        drop(needed);
        assert_eq!(ahead.left.available_permits(), (8 << 20) / SMALL as usize);
    }
}
