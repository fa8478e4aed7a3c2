//! The allocator of a component: dlmalloc, counting what is live, over a heap that grows in large steps once it is large.
//!
//! Operators that hold much ask it when to spill. In the driver it also wipes large blocks as they are freed: the
//! memory image leaves zero pages out, so that a driver which once held much does not ship its garbage.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use dlmalloc::{Allocator, Dlmalloc};

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
static ALLOCATOR: Counting = Counting(UnsafeCell::new(Dlmalloc::new_with_allocator(Memory)));

/// Where the heap begins: a part of the memory that every instance has from its start, so that a task of a small driver never grows its
/// own. Growing costs its host a system call and, on several slots, an interrupt to the others.
const FIRST: usize = 256 << 10;
#[repr(align(16))]
struct First(UnsafeCell<[u8; FIRST]>);
// SAFETY: a component has one thread; and nobody but the heap uses it.
unsafe impl Sync for First {}
static FIRST_PART: First = First(UnsafeCell::new([0; FIRST]));
static FIRST_TAKEN: AtomicBool = AtomicBool::new(false);

/// The component's linear memory.
struct Memory;

/// What one memory page of WebAssembly holds.
const PAGE: usize = 64 * 1024;
/// From this size on the memory grows by whole `STEP`s, which the host can map in one piece.
const LARGE_MEMORY: usize = 8 << 20;
const STEP: usize = 2 << 20;

// SAFETY: `alloc` gives memory that was just grown, or once that of `FIRST_PART`, so nobody else has it; nothing is ever given
// back or moved.
unsafe impl Allocator for Memory {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if size <= FIRST && !FIRST_TAKEN.swap(true, Relaxed) {
            return (FIRST_PART.0.get().cast(), FIRST, 0);
        }
        let end = core::arch::wasm32::memory_size(0) * PAGE;
        let step = if end < LARGE_MEMORY { PAGE } else { STEP };
        let Some(wanted) = end.checked_add(size).and_then(|end| end.checked_next_multiple_of(step))
        else {
            return (std::ptr::null_mut(), 0, 0);
        };
        let more = wanted - end;
        if core::arch::wasm32::memory_grow(0, more / PAGE) == usize::MAX {
            return (std::ptr::null_mut(), 0, 0);
        }
        (end as *mut u8, more, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        std::ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE
    }
}

struct Counting(UnsafeCell<Dlmalloc<Memory>>);

// SAFETY: a component has one thread.
unsafe impl Sync for Counting {}

impl Counting {
    /// The heap.
    ///
    /// # Safety
    ///
    /// Only while no other reference to it is alive: in the methods below, none of which calls another while it has one.
    #[allow(clippy::mut_from_ref)]
    unsafe fn heap(&self) -> &mut Dlmalloc<Memory> {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.0.get() }
    }
}

// SAFETY: every method hands its arguments to dlmalloc as they are, under the same contract, and gives back what that gave.
// Counting touches only an atomic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promise is the one that dlmalloc asks for.
        unsafe { self.heap().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { self.heap().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        if layout.size() >= LARGE && !fork::is_task() {
            // SAFETY: the caller gives up a live block of this size; nobody reads it any more.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        // SAFETY: as above.
        unsafe { self.heap().free(block, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.size() >= LARGE && !fork::is_task() {
            // dlmalloc would leave the old bytes behind where it moves a block: move it here, and wipe.
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
        unsafe { self.heap().realloc(block, layout.size(), layout.align(), new_size) }
    }
}
