//! What a task writes to what outlives it: its output, and files of folders that it was granted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ingle_core::size::ByteSize;
use ingle_sandbox::host::{FileWrites, Stop};

use super::queue::Cancelled;

pub struct Written {
    cancelled: Cancelled,
    /// Before compression.
    bytes: AtomicU64,
    most: Option<u64>,
}

impl Written {
    /// `most`: of `ingle.task.output.limit`.
    pub fn new(cancelled: Cancelled, most: Option<u64>) -> Arc<Self> {
        Arc::new(Self { cancelled, bytes: AtomicU64::new(0), most })
    }
}

impl FileWrites for Written {
    fn allow(&self, more: u64) -> Result<(), Stop> {
        if self.cancelled.is_stopped() {
            return Err(Stop::Cancelled);
        }
        let now = self.bytes.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        match self.most {
            Some(most) if now > most => Err(Stop::Host(format!(
                "it wrote {} to its output and to files, and ingle.task.output.limit allows {}; raise that, or use more partitions",
                ByteSize(now),
                ByteSize(most)
            ))),
            _ => Ok(()),
        }
    }
}
