//! What can be wrong with a store, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::{Operation, Request};

/// What becomes of a request.
#[derive(Clone)]
pub enum Fault {
    /// It isn't done: 503.
    Unavailable,
    /// It isn't done before the gate is opened, nor if its client goes away before that.
    Held(Gate),
    /// It is done, and the connection breaks before the answer.
    Lost,
    /// It is given all, though it asked for a range.
    NoRanges,
    /// The connection breaks after so many bytes of the answer's body.
    Cut(usize),
}

/// Holds requests. Clones are the same.
#[derive(Clone)]
pub struct Gate {
    opened: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { opened: Arc::new(Semaphore::new(0)), waiting: Arc::default() }
    }
}

impl Gate {
    /// How many requests are held.
    pub fn holds(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Lets all go, now and later.
    pub fn open(&self) {
        self.opened.close();
    }

    pub(super) async fn pass(&self) {
        struct Waits<'a>(&'a AtomicUsize);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waits = Waits(&self.waiting);
        // Nobody ever gets in: it is closed, in the end.
        let _ = self.opened.acquire().await;
    }
}

/// Which requests meet a fault. At first all.
#[derive(Clone)]
pub struct When {
    operations: Vec<Operation>,
    key: String,
    body: String,
    skipped: usize,
    every: usize,
    most: usize,
}

impl When {
    pub fn any() -> Self {
        let (operations, key, body) = (Vec::new(), String::new(), String::new());
        Self { operations, key, body, skipped: 0, every: 1, most: usize::MAX }
    }

    pub fn is(operation: Operation) -> Self {
        Self { operations: vec![operation], ..Self::any() }
    }

    /// Those whose key has this in it.
    pub fn of(self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self }
    }

    /// Those whose body has this in it.
    pub fn saying(self, body: &str) -> Self {
        Self { body: body.to_owned(), ..self }
    }

    /// One of so many.
    pub fn every(self, every: usize) -> Self {
        Self { every, ..self }
    }

    /// And no more after these.
    pub fn most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Whether it is this one. Counts.
    pub(super) fn meets(&mut self, request: &Request) -> bool {
        let is_one = self.operations.is_empty() || self.operations.contains(&request.operation);
        let is_meant = is_one && request.key.contains(&self.key) && request.says(&self.body);
        if !is_meant || self.most == 0 {
            return false;
        }
        self.skipped += 1;
        if self.skipped < self.every {
            return false;
        }
        self.skipped = 0;
        self.most -= 1;
        true
    }
}
