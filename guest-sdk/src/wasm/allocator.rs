//! The allocator of a component: the system's, counting what is live.
//!
//! Operators that hold much ask it when to spill. In the driver it also wipes large blocks as they are freed: the
//! memory image leaves zero pages out, so that a driver which once held much does not ship its garbage.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::wasm::fork;

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Blocks from this size on are wiped in the driver when they are freed. Smaller ones are soon used again.
const LARGE: usize = 64 * 1024;

/// Bytes allocated and not freed.
pub(crate) fn live_bytes() -> u64 {
    LIVE.load(Relaxed) as u64
}

#[cfg(feature = "allocator")]
#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

// SAFETY: every method hands its arguments to the system's allocator as they are, under the same contract, and gives
// back what that gave. Counting touches only an atomic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        if layout.size() >= LARGE && !fork::is_task() {
            // SAFETY: the caller gives up a live block of this size; nobody reads it any more.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.size() >= LARGE && !fork::is_task() {
            // The system would leave the old bytes behind where it moves a block: move it here, and wipe.
            // SAFETY: the caller promises that `new_size`, rounded up to the alignment, does not overflow.
            let moved =
                unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
            if !moved.is_null() {
                // SAFETY: both blocks are live, distinct, and at least this long; the old one is given up.
                unsafe {
                    moved.copy_from_nonoverlapping(block, layout.size().min(new_size));
                    self.dealloc(block, layout);
                }
            }
            return moved;
        }
        LIVE.fetch_add(new_size, Relaxed);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, new_size) }
    }
}
