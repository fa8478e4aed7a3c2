//! Linear memories that the host owns: address ranges, recycled.
//!
//! Invariants, which every `unsafe` block here, in `memory` and in `written` leans on:
//!
//! - A [`Range`] is an address range of its own, within one `mmap` of more than `reserved + guard` bytes and never unmapped while
//!   the process runs. It belongs to one linear memory at a time; when that memory is dropped the range goes to the free list.
//! - Of a range, `[base, base + size)` is readable and writable (but for what a [`Watch`](crate::written::Watch) holds read-only)
//!   and all else is `PROT_NONE`. `size` only grows while a memory owns the range. So compiled code may lean on the
//!   guard, and a mapping laid over a part below `size` changes contents, never accessibility.
//! - A range that no memory owns has [`Free::open`] bytes that are readable, writable and zero; all else is `PROT_NONE` and zero too;
//!   none of it is of a file. Pages that stay resident there are charged to nobody: 3 MiB of a range at most, and there are as
//!   many ranges as memories ever lived at once.
//! - Contents change under compiled code only in `memory` and in `Watch::restore`, which are called on the thread that runs the
//!   guest, while the guest is in a host call or isn't running, and while no Rust reference into the memory exists. A linear memory is
//!   plain bytes to wasm: any contents are valid.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use crate::pagemap;

/// What images and mappings are aligned to: the page size of every platform that we run on divides it or equals it.
pub const PAGE: usize = 4096;
pub static ZEROS: [u8; PAGE] = [0; PAGE];

/// What the kernel may map in one piece, with one fault. Ranges begin at such an address, so that a guest's heap can be made of
/// these: it fills sooner, and costs fewer misses where it is large and read in no order.
const HUGE: usize = 2 << 20;

/// Without a reservation given by the engine: a whole 32-bit memory.
const DEFAULT_RESERVATION: usize = 4 << 30;

/// A range that no memory owns keeps pages that were touched below this offset, wiped: the next memory finds them without a fault.
const KEPT: usize = 2 << 20;
/// Unless they are more than this.
const MAX_KEPT_PAGES: usize = 256;

const CLOSED: MprotectFlags = MprotectFlags::empty();
pub const OPEN: MprotectFlags = MprotectFlags::READ.union(MprotectFlags::WRITE);

#[derive(Default)]
struct Shared {
    /// Ranges that no memory owns, by their whole length.
    free: Mutex<HashMap<usize, Vec<Free>>>,
    /// The memories that live, by base.
    live: Mutex<HashMap<usize, Live>>,
}

#[derive(Clone, Copy)]
struct Free {
    base: usize,
    /// Bytes from `base` on that are readable and writable, and zero.
    open: usize,
}

#[derive(Clone, Copy)]
struct Live {
    size: usize,
    /// From this address on, pages may be of an image's file.
    mapped: usize,
    /// The kernel refused half of a change: nobody knows what is where, and the range is never used again.
    broken: bool,
}

thread_local! {
    /// The memories that this thread made, while somebody wants to know.
    static MADE: RefCell<Option<Vec<usize>>> = const { RefCell::new(None) };
}

/// The bases of the memories that are made on this thread meanwhile.
pub fn made_by<T>(makes: impl FnOnce() -> T) -> (T, Vec<usize>) {
    MADE.with_borrow_mut(|made| *made = Some(Vec::new()));
    let done = makes();
    (done, MADE.take().unwrap_or_default())
}

/// Makes the engine's linear memories, reusing their address ranges.
#[derive(Clone, Default)]
pub struct Ranges(Arc<Shared>);

impl Ranges {
    /// How large the memory at `base` is now, if one lives there.
    pub fn size_of(&self, base: usize) -> Option<usize> {
        self.0.live.lock().get(&base).map(|live| live.size)
    }

    /// The memory that lives around an address.
    pub fn memory_around(&self, address: usize) -> Option<usize> {
        let live = self.0.live.lock();
        let around =
            live.iter().find(|(base, live)| (**base..**base + live.size).contains(&address));
        around.map(|(base, _)| *base)
    }

    /// Notes that an image's file is about to be mapped in a memory, from this address on.
    pub fn note_mapped(&self, memory: usize, start: usize) {
        if let Some(live) = self.0.live.lock().get_mut(&memory) {
            live.mapped = live.mapped.min(start);
        }
    }

    /// Gives the range of a memory up once that is dropped.
    pub fn note_broken(&self, memory: usize) {
        if let Some(live) = self.0.live.lock().get_mut(&memory) {
            live.broken = true;
        }
    }
}

struct Range {
    base: usize,
    size: usize,
    reserved: usize,
    whole: usize,
    ranges: Ranges,
}

/// Reserves address space at a multiple of [`HUGE`]; what is left over before and behind stays reserved, which costs nothing.
fn reserve(whole: usize) -> rustix::io::Result<usize> {
    // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing.
    let at = unsafe {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        rustix::mm::mmap_anonymous(ptr::null_mut(), whole + HUGE, ProtFlags::empty(), flags)
    };
    at.map(|p| (p as usize).next_multiple_of(HUGE))
}

/// Empties a part of a range and makes it inaccessible. False if the kernel refuses.
///
/// Called by who has the range, about a part that nothing refers into.
fn close(start: usize, end: usize) -> bool {
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
    // SAFETY: the caller's promise; the new mapping covers a part of our own range.
    start >= end
        || unsafe {
            rustix::mm::mmap_anonymous(at(start), end - start, ProtFlags::empty(), flags).is_ok()
        }
}

/// Changes what a part of a range may be used for.
///
/// Called by who has the range; closing only what nothing refers into.
pub fn protect(start: usize, end: usize, flags: MprotectFlags) -> rustix::io::Result<()> {
    match start >= end {
        true => Ok(()),
        // SAFETY: the caller's promise.
        false => unsafe { rustix::mm::mprotect(at(start), end - start, flags) },
    }
}

// SAFETY: `new_memory` gives a range with `reserved` and `guard` bytes as asked, zero-filled (fresh from the kernel, or
// as `Range::drop` left it), of which just the grown part is accessible.
unsafe impl MemoryCreator for Ranges {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let reserved = reserved.unwrap_or(DEFAULT_RESERVATION);
        let whole = reserved.checked_add(guard).ok_or("a memory's reservation overflows")?;
        let reused = self.0.free.lock().get_mut(&whole).and_then(Vec::pop);
        let Free { base, open } = match reused {
            Some(free) => free,
            None => {
                let base = reserve(whole).map_err(|e| format!("reserving address space: {e}"))?;
                Free { base, open: 0 }
            }
        };
        protect(base + minimum, base + open, CLOSED)
            .map_err(|e| format!("closing a range: {e}"))?;
        let size = open.min(minimum);
        self.0.live.lock().insert(base, Live { size, mapped: usize::MAX, broken: false });
        let mut range = Range { base, size, reserved, whole, ranges: self.clone() };
        range.grow_to(minimum).map_err(|e| e.to_string())?;
        MADE.with_borrow_mut(|made| made.iter_mut().for_each(|made| made.push(base)));
        Ok(Box::new(range))
    }
}

// SAFETY: the base never moves, `byte_size` bytes are accessible, and all beyond traps up to the end of the guard.
unsafe impl LinearMemory for Range {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        self.reserved
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        if size > self.reserved {
            return Err(wasmtime::Error::msg("a memory can't grow beyond its reservation"));
        }
        if size <= self.size {
            return Ok(());
        }
        let (start, end) = (self.base + self.size, self.base + size);
        if let Err(error) = protect(start, end, OPEN) {
            // It may have opened some of it.
            if protect(start, end, CLOSED).is_err() {
                self.ranges.note_broken(self.base);
            }
            return Err(error.into());
        }
        if end - start >= HUGE {
            // SAFETY: the same part; advice changes no contents, and doesn't matter if it isn't taken.
            let _ = unsafe { rustix::mm::madvise(at(start), end - start, Advice::LinuxHugepage) };
        }
        self.size = size;
        if let Some(live) = self.ranges.0.live.lock().get_mut(&self.base) {
            live.size = size;
        }
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.base as *mut u8
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        // The memory is gone, so nothing refers into our range any more.
        let Some(live) = self.ranges.0.live.lock().remove(&self.base) else { return };
        if live.broken {
            return;
        }
        let end = self.base + self.size;
        let low = end.min(self.base + KEPT).min(live.mapped);
        let low = if wipe(self.base, low) { low } else { self.base };
        if close(low, end) {
            let free = Free { base: self.base, open: low - self.base };
            self.ranges.0.free.lock().entry(self.whole).or_default().push(free);
        } else {
            // It is never used again: address space is cheap, another task's bytes are not. Its pages aren't cheap either.
            // SAFETY: a part of our range that nothing refers into any more.
            let _ = unsafe { rustix::mm::madvise(at(low), end - low, Advice::LinuxDontNeed) };
        }
    }
}

/// Makes pages writable, and fills those that were touched with zeros. False, and nothing is promised, if they are too many or not
/// known.
///
/// Called by the owner of a range, about pages of no file, once nothing refers into them any more.
fn wipe(start: usize, end: usize) -> bool {
    // A watch may have left some read-only.
    if start >= end || protect(start, end, OPEN).is_err() {
        return false;
    }
    let Some(touched) = pagemap::own_pages(start, end - start, MAX_KEPT_PAGES) else {
        return false;
    };
    for page in touched {
        // SAFETY: the caller's promise, and writable by the above.
        let bytes = unsafe { page_at(start + page as usize * PAGE) };
        *bytes = ZEROS;
    }
    true
}

/// The page at an address.
///
/// # Safety
///
/// It is readable and writable, and nothing else refers into it while the reference lives.
pub unsafe fn page_at<'a>(address: usize) -> &'a mut [u8; PAGE] {
    // SAFETY: the caller's promise; any bytes are valid, at any alignment.
    unsafe { &mut *(address as *mut [u8; PAGE]) }
}

pub fn at(address: usize) -> *mut c_void {
    address as *mut c_void
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn memory(ranges: &Ranges, size: usize) -> Box<dyn LinearMemory> {
        let ty = MemoryType::new(1, None);
        ranges.new_memory(ty, size, None, Some(64 << 20), 1 << 16).unwrap()
    }

    #[allow(clippy::mut_from_ref)] // a test keeps one at a time
    pub fn bytes(memory: &dyn LinearMemory) -> &mut [u8] {
        // SAFETY: the test owns the memory and keeps one reference at a time.
        unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), memory.byte_size()) }
    }

    /// What `/proc/self/maps` says of the range's addresses: (start, end, permissions), offsets from its base.
    fn mapped(base: usize, whole: usize) -> Vec<(usize, usize, String)> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = |line: &str| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let hex = |number| usize::from_str_radix(number, 16).ok();
            let (start, end) = (hex(start)?.max(base), hex(end)?.min(base + whole));
            (start < end).then(|| (start - base, end - base, rest[..4].to_owned()))
        };
        maps.lines().filter_map(line).collect()
    }

    #[test]
    fn a_reused_range_is_zero() {
        for size in [2 * PAGE, KEPT, KEPT + 4 * PAGE] {
            // Few pages are wiped, many are given back.
            for touched in [1, size / PAGE] {
                let ranges = Ranges::default();
                let first = memory(&ranges, size);
                for page in 0..touched {
                    bytes(&*first)[size - page * PAGE - 1] = 7;
                }
                let base = first.as_ptr();
                drop(first);
                let second = memory(&ranges, size);
                assert_eq!(second.as_ptr(), base);
                assert!(bytes(&*second).iter().all(|b| *b == 0), "{size} {touched}");
            }
        }
    }

    #[test]
    fn a_smaller_memory_in_a_reused_range_ends_where_it_ends() {
        let ranges = Ranges::default();
        let first = memory(&ranges, 8 * PAGE);
        bytes(&*first).fill(7);
        drop(first);
        let mut second = memory(&ranges, 2 * PAGE);
        let base = second.as_ptr() as usize;
        let accessible = |maps: Vec<(usize, usize, String)>| {
            let open = maps.into_iter().filter(|(_, _, flags)| flags != "---p");
            open.map(|(start, end, _)| (start, end)).collect::<Vec<_>>()
        };
        assert_eq!(accessible(mapped(base, 64 << 20)), [(0, 2 * PAGE)]);
        second.grow_to(8 * PAGE).unwrap();
        assert_eq!(accessible(mapped(base, 64 << 20)), [(0, 8 * PAGE)]);
        assert!(bytes(&*second).iter().all(|b| *b == 0));
    }

    #[test]
    fn a_range_with_pages_that_were_read_only_is_reused() {
        let ranges = Ranges::default();
        let first = memory(&ranges, 4 * PAGE);
        bytes(&*first).fill(7);
        let base = first.as_ptr() as usize;
        protect(base, base + 2 * PAGE, MprotectFlags::READ).unwrap();
        drop(first);
        let second = memory(&ranges, 4 * PAGE);
        assert_eq!(second.as_ptr() as usize, base);
        assert!(bytes(&*second).iter().all(|b| *b == 0));
        bytes(&*second).fill(1);
    }

    #[test]
    fn who_makes_memories_learns_where() {
        let ranges = Ranges::default();
        let _before = memory(&ranges, PAGE);
        let (ours, made) = made_by(|| {
            let of_others = ranges.clone();
            std::thread::spawn(move || drop(memory(&of_others, PAGE))).join().unwrap();
            [memory(&ranges, PAGE), memory(&ranges, PAGE)]
        });
        assert_eq!(made, ours.each_ref().map(|memory| memory.as_ptr() as usize));
        assert!(made_by(|| ()).1.is_empty());
    }

    #[test]
    fn growing_past_the_reservation_is_an_error() {
        let ranges = Ranges::default();
        let mut memory = memory(&ranges, PAGE);
        assert!(memory.grow_to((64 << 20) + PAGE).is_err());
        assert_eq!(memory.byte_size(), PAGE);
    }
}
