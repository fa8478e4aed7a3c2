//! Which segments leave memory first, and who does the moving.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use ingle_core::ids::CacheId;
use parking_lot::{Condvar, Mutex};

use crate::error::Error;
use crate::segment::{Evicted, Segment};

thread_local! {
    /// Whose segments stay where they are, whatever this thread wants.
    static SPARED: Cell<Option<CacheId>> = const { Cell::new(None) };
}

/// Runs what may evict segments, but none of this dataset: to make room for one of its partitions by the loss of another would keep
/// none of them, where each is read once in a round.
pub(crate) fn sparing<R>(dataset: Option<CacheId>, f: impl FnOnce() -> R) -> R {
    let before = SPARED.replace(dataset);
    let result = f();
    SPARED.set(before);
    result
}

/// Segments in memory, least recently used first.
///
/// Lazily: a use only stamps the segment, and a stale entry moves back when its turn comes.
struct Queue {
    entries: VecDeque<(u64, Weak<Segment>)>,
    /// When to look for segments that were dropped.
    sweep_at: usize,
}

const FIRST_SWEEP: usize = 1024;

impl Queue {
    fn push(&mut self, used: u64, segment: Weak<Segment>) {
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|(_, s)| s.strong_count() > 0);
            self.sweep_at = FIRST_SWEEP.max(2 * self.entries.len());
        }
        self.entries.push_back((used, segment));
    }

    fn pop(&mut self) -> Option<Arc<Segment>> {
        while let Some((used, weak)) = self.entries.pop_front() {
            let Some(segment) = weak.upgrade() else {
                continue;
            };
            let now = segment.used.load(Ordering::Relaxed);
            if now == used {
                return Some(segment);
            }
            self.entries.push_back((now, weak));
        }
        None
    }
}

struct State {
    queue: Queue,
    /// Evictions that run now, on any thread.
    running: usize,
    /// Bytes freed since the start.
    freed: u64,
}

/// A queue of segments that evictors of all threads work off together.
pub(crate) struct Evictables {
    state: Mutex<State>,
    done: Condvar,
    clock: AtomicU64,
}

impl Evictables {
    pub fn new() -> Self {
        let queue = Queue { entries: VecDeque::new(), sweep_at: FIRST_SWEEP };
        Self {
            state: Mutex::new(State { queue, running: 0, freed: 0 }),
            done: Condvar::new(),
            clock: AtomicU64::new(1),
        }
    }

    /// Adds a sealed segment, as the one used last.
    pub fn add(&self, segment: &Arc<Segment>) {
        let now = self.touch(segment);
        self.state.lock().queue.push(now, Arc::downgrade(segment));
    }

    /// Marks a segment as the one used last.
    pub fn touch(&self, segment: &Segment) -> u64 {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        segment.used.store(now, Ordering::Relaxed);
        now
    }

    /// Frees at least `want` bytes if it can. `report` hears of every eviction.
    ///
    /// Blocks go to disk outside the lock, so several threads move different segments at once. A thread that finds
    /// nothing left waits for those of the others, which may free what it wants.
    pub fn evict(&self, want: u64, report: impl Fn(&Result<Evicted, Error>)) -> u64 {
        let mut given = 0;
        let (mut in_use, spared) = (Vec::new(), SPARED.get());
        let mut state = self.state.lock();
        while given < want {
            let Some(segment) = state.queue.pop() else {
                if state.running == 0 {
                    break;
                }
                let before = state.freed;
                self.done.wait(&mut state);
                given += state.freed - before;
                continue;
            };
            if spared.is_some() && segment.dataset == spared {
                in_use.push(segment);
                continue;
            }
            state.running += 1;
            drop(state);
            let outcome = segment.evict();
            report(&outcome);
            let freed = match outcome {
                Ok(Evicted::Spilled { freed, .. } | Evicted::Lost { freed }) => freed,
                Ok(Evicted::Nothing) => 0,
                Ok(Evicted::InUse) | Err(_) => {
                    in_use.push(segment);
                    0
                }
            };
            given += freed;
            state = self.state.lock();
            state.running -= 1;
            state.freed += freed;
            self.done.notify_all();
        }
        for segment in &in_use {
            state.queue.push(segment.used.load(Ordering::Relaxed), Arc::downgrade(segment));
        }
        // Before `in_use`: dropping a segment may remove its file.
        drop(state);
        given
    }
}
