//! Charges for the pages of a large image that a task makes its own.
//!
//! An image is charged once, and a task's share of it in advance only up to [`CHARGED_IMAGE_BYTES`](crate::limits): most tasks write
//! to few of its pages, however large it is. What a task writes beyond that, from when it is told where the image belongs, is seen by a
//! sampler, from time to time, and charged. When it doesn't fit, the task fails when it next reads, writes or emits, and its host is told,
//! which stops one that does none of these. Between two looks the wall is the size of the image.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ingle_core::memory::{MemoryPool, MemoryUse, Reservation};
use ingle_core::size::ByteSize;
use parking_lot::Mutex;

use crate::host::Overdrawn;
use crate::pagemap;
use crate::ranges::PAGE;

/// How often the sampler looks while tasks run.
const EVERY: Duration = Duration::from_millis(50);
/// It takes a pause this many times as long as it counted: 2 % of a processor, unless that would leave it blind for long.
const PAUSE: u32 = 50;
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// What one instance wrote to the mapped part of its image.
pub struct Dirtied {
    start: usize,
    length: usize,
    /// Bytes that were charged in advance.
    paid: u64,
    /// Who hears that the task that runs now has too much; none if none runs.
    running: Mutex<Option<Overdrawn>>,
    /// How often the image was put back: what was counted before is of no task after.
    round: AtomicU64,
    reservation: Mutex<Reservation>,
    /// What that is of, for whoever doesn't want to wait.
    charged: AtomicU64,
    /// Why the task of a round may not go on.
    refused: Mutex<Option<(u64, String)>>,
}

impl Dirtied {
    /// Of an image that lies at `start`, its mapped part so long, if that is more than what the task paid for.
    pub fn new(start: usize, length: usize, paid: u64, pool: &MemoryPool) -> Option<Arc<Self>> {
        (length as u64 > paid).then(|| {
            Arc::new(Self {
                start,
                length,
                paid,
                running: Mutex::default(),
                round: AtomicU64::new(0),
                reservation: Mutex::new(pool.reservation(MemoryUse::Guest)),
                charged: AtomicU64::new(0),
                refused: Mutex::default(),
            })
        })
    }

    /// A task begins.
    pub fn begin(&self, overdrawn: Overdrawn) {
        *self.running.lock() = Some(overdrawn);
    }

    /// It ended; what it wrote is there still.
    pub fn end(&self) {
        *self.running.lock() = None;
    }

    /// All pages are the image's again.
    pub fn put_back(&self) {
        self.round.fetch_add(1, Ordering::SeqCst);
        // Whoever grows it now, which may take long, gives it back.
        if let Some(mut reservation) = self.reservation.try_lock() {
            self.give_back(&mut reservation);
        }
    }

    /// Bytes that are charged now, beyond what was in advance. Until its image is put back, a task's only grow.
    pub fn charged(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    fn give_back(&self, reservation: &mut Reservation) {
        let all = reservation.bytes();
        reservation.shrink(all);
        self.charged.store(0, Ordering::Relaxed);
    }

    /// Why the task may not go on, if it may not.
    pub fn refused(&self) -> Option<String> {
        let refused = self.refused.lock();
        let now = self.round.load(Ordering::SeqCst);
        refused.as_ref().filter(|(round, _)| *round == now).map(|(_, words)| words.clone())
    }

    /// Charges what was written until now; says how long it counted.
    fn look(&self) -> Duration {
        let round = self.round.load(Ordering::SeqCst);
        let put_back = || self.round.load(Ordering::SeqCst) != round;
        // That of the task whose round it is, should the next one begin meanwhile.
        let Some(overdrawn) = self.running.lock().clone() else { return Duration::ZERO };
        let began = Instant::now();
        let Some(pages) = pagemap::count_own_pages(self.start, self.length) else {
            pagemap::warn_once();
            return Duration::ZERO;
        };
        let counted = began.elapsed();
        let written = pages * PAGE as u64;
        {
            let mut reservation = self.reservation.lock();
            let more = written.saturating_sub(self.paid).saturating_sub(reservation.bytes());
            // Refused once, it is to end, and takes nothing from others meanwhile.
            if more > 0
                && self.refused().is_none()
                && !put_back()
                && let Err(error) = reservation.grow(more)
            {
                let words = format!(
                    "out of memory: the task changed {} of what it captured, which makes a copy of that: {error}; raise \
                     --executor-memory, or change less of it",
                    ByteSize(written)
                );
                overdrawn(&words);
                *self.refused.lock() = Some((round, words));
            }
            self.charged.store(reservation.bytes(), Ordering::Relaxed);
        }
        // What was counted is gone, and `put_back` may have found the reservation locked.
        if put_back() {
            self.give_back(&mut self.reservation.lock());
        }
        counted
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
            let counted: Duration = instances.iter().map(|instance| instance.look()).sum();
            pause = (counted * PAUSE).clamp(EVERY, MAX_PAUSE);
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
        let paid = (16 * MIB - head) as u64;
        let dirtied = Dirtied::new(part.start() + head, length - head, paid, &pool).unwrap();
        let charged = || pool.usage().of(MemoryUse::Guest) as usize;

        let told = Arc::new(Mutex::new(Vec::new()));
        let telling = told.clone();
        let overdrawn: Overdrawn = Arc::new(move |why| telling.lock().push(why.to_owned()));
        dirtied.look();
        assert_eq!(charged(), 0, "no task runs yet");
        dirtied.begin(overdrawn.clone());
        bytes(&*memory)[..16 * MIB].fill(2);
        assert!(bytes(&*memory).contains(&1), "reading is no writing");
        dirtied.look();
        assert_eq!(charged(), 0, "paid in advance");
        bytes(&*memory)[16 * MIB..26 * MIB].fill(2);
        dirtied.look();
        assert_eq!((charged(), dirtied.charged()), (10 * MIB, 10 << 20));
        dirtied.look();
        assert_eq!(charged(), 10 * MIB);
        dirtied.end();
        bytes(&*memory).fill(2);
        dirtied.look();
        assert_eq!(charged(), 10 * MIB, "no task runs, but the pages are there");
        dirtied.put_back();
        assert_eq!((charged(), dirtied.charged()), (0, 0));

        dirtied.begin(overdrawn);
        assert_eq!((dirtied.refused(), told.lock().len()), (None, 0));
        dirtied.look();
        let refused = dirtied.refused().unwrap();
        assert!(
            refused.contains("out of memory"),
            "40 are the image's, and 24 more don't fit: {refused}"
        );
        dirtied.look();
        assert_eq!(*told.lock(), [refused], "also to one that never asks, and once");
        dirtied.end();
        dirtied.put_back();
        assert_eq!(dirtied.refused(), None, "the next task did nothing");
    }

    #[test]
    fn a_small_image_is_paid_for_in_advance() {
        let pool = MemoryPool::new(ByteSize(1 << 20));
        assert!(Dirtied::new(0, MIB, MIB as u64, &pool).is_none());
        assert!(Dirtied::new(0, MIB + PAGE, MIB as u64, &pool).is_some());
    }

    #[test]
    fn a_sampler_ends_with_the_last_instance_and_begins_anew() {
        let sampler = Sampler::default();
        let pool = MemoryPool::new(ByteSize(1 << 20));
        for _ in 0..2 {
            let dirtied = Dirtied::new(0, 20 * MIB, 0, &pool).unwrap();
            sampler.add(&dirtied).unwrap();
            assert!(sampler.0.lock().running);
            drop(dirtied);
            while sampler.0.lock().running {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
