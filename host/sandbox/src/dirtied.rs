//! Charges for the pages of a large image that a task makes its own.
//!
//! An image is charged once, and a task's share of it in advance only up to [`CHARGED_IMAGE_BYTES`]: most tasks write to few of its
//! pages, however large it is. What a task writes beyond that is seen by a sampler, from time to time, charged, and when it doesn't
//! fit, the task is told at its next call of the host. Between two looks, and in a task that never calls its host, the
//! wall is the size of the image.

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use ingle_core::memory::{MemoryPool, MemoryUse, Reservation};
use ingle_core::size::ByteSize;
use parking_lot::Mutex;

use crate::limits::CHARGED_IMAGE_BYTES;
use crate::pagemap;
use crate::ranges::PAGE;

/// How often the sampler looks while tasks run.
const EVERY: Duration = Duration::from_millis(50);
/// It takes a pause this many times as long as its look took: 2 % of a processor at most.
const PAUSE: u32 = 50;

/// What one instance wrote to the mapped part of its image, while a task runs on it.
pub struct Dirtied {
    start: usize,
    length: usize,
    /// Bytes that were charged in advance.
    charged: u64,
    more: Mutex<More>,
    refused: OnceLock<String>,
}

struct More {
    running: bool,
    reservation: Reservation,
}

impl Dirtied {
    /// Of an image that lies at `start`, its mapped part so long; if that is more than what a task pays in advance.
    pub fn new(start: usize, length: usize, head: usize, pool: &MemoryPool) -> Option<Arc<Self>> {
        let charged = CHARGED_IMAGE_BYTES.saturating_sub(head as u64);
        if length as u64 <= charged {
            return None;
        }
        let reservation = pool.reservation(MemoryUse::Guest);
        let more = Mutex::new(More { running: true, reservation });
        Some(Arc::new(Self { start, length, charged, more, refused: OnceLock::new() }))
    }

    /// A task begins, on pages that are the image's.
    pub fn begin(&self) {
        self.more.lock().running = true;
    }

    /// It ended, and nobody writes until the next.
    pub fn end(&self) {
        let mut more = self.more.lock();
        more.running = false;
        let all = more.reservation.bytes();
        more.reservation.shrink(all);
    }

    /// Why the task may not go on, if it may not.
    pub fn refused(&self) -> Option<&str> {
        self.refused.get().map(String::as_str)
    }

    /// Charges what was written until now.
    fn look(&self) {
        if !self.more.lock().running || self.refused.get().is_some() {
            return;
        }
        let Some(pages) = pagemap::count_own_pages(self.start, self.length) else { return };
        let wanted = (pages * PAGE as u64).saturating_sub(self.charged);
        let mut more = self.more.lock();
        let held = more.reservation.bytes();
        if more.running
            && wanted > held
            && let Err(error) = more.reservation.grow(wanted - held)
        {
            let _ = self.refused.set(format!(
                "out of memory: the task changed {} of what it captured, which makes a copy of that: {error}; raise \
                 --executor-memory, or change less of it",
                ByteSize(pages * PAGE as u64)
            ));
        }
    }
}

/// Looks at instances for as long as there are any.
#[derive(Clone, Default)]
pub struct Sampler(Arc<Mutex<Sampled>>);

#[derive(Default)]
struct Sampled {
    instances: Vec<Weak<Dirtied>>,
    running: bool,
}

impl Sampler {
    /// Looks at this one too, until it is dropped.
    pub fn add(&self, dirtied: &Arc<Dirtied>) -> std::io::Result<()> {
        let mut sampled = self.0.lock();
        if !sampled.running {
            let sampler = self.clone();
            std::thread::Builder::new().name("sampler".into()).spawn(move || sampler.run())?;
            sampled.running = true;
        }
        sampled.instances.push(Arc::downgrade(dirtied));
        Ok(())
    }

    fn run(&self) {
        let mut pause = EVERY;
        loop {
            std::thread::sleep(pause);
            let instances: Vec<_> = {
                let mut sampled = self.0.lock();
                sampled.instances.retain(|instance| instance.strong_count() > 0);
                sampled.running = !sampled.instances.is_empty();
                if !sampled.running {
                    return;
                }
                sampled.instances.iter().filter_map(Weak::upgrade).collect()
            };
            let began = Instant::now();
            for instance in instances {
                instance.look();
            }
            pause = EVERY.max(began.elapsed() * PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ComponentHash;
    use crate::image::Image;
    use crate::memory::{check, lay};
    use crate::ranges::Ranges;
    use crate::ranges::tests::{bytes, memory};

    const MIB: usize = 1 << 20;

    #[test]
    fn what_a_task_writes_beyond_its_share_is_charged_until_it_ends() {
        let ranges = Ranges::default();
        let length = 40 * MIB;
        let memory = memory(&ranges, length);
        let pool = MemoryPool::new(ByteSize(60 << 20));
        let image = Image::capture(ComponentHash::of(b""), 0, &vec![1; length], &pool).unwrap();
        let part = check(&ranges, bytes(&*memory), 0).unwrap();
        lay(&ranges, part, &image).unwrap();
        let head = image.head_length();
        let dirtied = Dirtied::new(part.start() + head, length - head, head, &pool).unwrap();
        let charged = || pool.usage().of(MemoryUse::Guest) as usize;

        bytes(&*memory)[..16 * MIB].fill(2);
        assert!(bytes(&*memory).contains(&1), "reading is no writing");
        dirtied.look();
        assert_eq!(charged(), 0, "paid in advance");
        bytes(&*memory)[16 * MIB..26 * MIB].fill(2);
        dirtied.look();
        assert_eq!(charged(), 10 * MIB);
        dirtied.look();
        assert_eq!(charged(), 10 * MIB);
        dirtied.end();
        dirtied.look();
        assert_eq!(charged(), 0);

        dirtied.begin();
        bytes(&*memory).fill(2);
        dirtied.look();
        assert!(dirtied.refused().is_some(), "40 are the image's, and 24 more don't fit into 60");
    }

    #[test]
    fn a_small_image_is_paid_for_in_advance() {
        let pool = MemoryPool::new(ByteSize(1 << 20));
        assert!(Dirtied::new(0, 16 * MIB - PAGE, PAGE, &pool).is_none());
        assert!(Dirtied::new(0, 16 * MIB, PAGE, &pool).is_some());
    }

    #[test]
    fn a_sampler_ends_with_the_last_instance_and_begins_anew() {
        let sampler = Sampler::default();
        let pool = MemoryPool::new(ByteSize(1 << 20));
        for _ in 0..2 {
            let dirtied = Dirtied::new(0, 20 * MIB, PAGE, &pool).unwrap();
            sampler.add(&dirtied).unwrap();
            assert!(sampler.0.lock().running);
            drop(dirtied);
            while sampler.0.lock().running {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
