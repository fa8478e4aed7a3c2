//! Linear memories that the host owns, and private mappings of images over them. With `written`, the only `unsafe` of the host but
//! for one line that loads compiled code.
//!
//! Invariants, which every `unsafe` block here leans on:
//!
//! - A [`Range`] is an address range of its own, within one `mmap` of more than `reserved + guard` bytes and never unmapped while
//!   the process runs. It belongs to one linear memory at a time; when that memory is dropped the range is
//!   emptied (`PROT_NONE`) and goes to the free list.
//! - Of a range, `[base, base + size)` is readable and writable and all else is `PROT_NONE`. `size` only grows while a memory
//!   owns the range. So compiled code may lean on the guard, and a mapping laid over a part below `size` changes contents,
//!   never accessibility.
//! - Contents change under compiled code only in [`lay`] and [`reset`], which are called on the thread that runs the
//!   guest, while the guest is in a host call ([`lay`]) or isn't running ([`reset`]), and while no Rust reference into
//!   the memory exists. A linear memory is plain bytes to wasm: any contents are valid.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use crate::image::Image;

/// What images and mappings are aligned to: the page size of every platform that we run on divides it or equals it.
pub const PAGE: usize = 4096;

/// What the kernel may map in one piece, with one fault. Ranges begin at such an address, so that a guest's heap can be made of
/// these: it fills sooner, and costs fewer misses where it is large and read in no order.
const HUGE: usize = 2 << 20;

/// Without a reservation given by the engine: a whole 32-bit memory.
const DEFAULT_RESERVATION: usize = 4 << 30;

#[derive(Default)]
struct Shared {
    /// Ranges that no memory owns, by their whole length.
    free: Mutex<HashMap<usize, Vec<usize>>>,
    /// Sizes of the memories that live, by base.
    live: Mutex<HashMap<usize, usize>>,
}

/// Makes the engine's linear memories, reusing their address ranges.
#[derive(Clone, Default)]
pub struct Ranges(Arc<Shared>);

impl Ranges {
    /// How large the memory at `base` is now, if one lives there.
    fn size_of(&self, base: usize) -> Option<usize> {
        self.0.live.lock().get(&base).copied()
    }
}

struct Range {
    base: usize,
    size: usize,
    reserved: usize,
    whole: usize,
    shared: Arc<Shared>,
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

// SAFETY: `new_memory` gives a range with `reserved` and `guard` bytes as asked, zero-filled (fresh from the kernel, or
// emptied by `Range::drop`), of which just the grown part is accessible.
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
        let base = match reused {
            Some(base) => base,
            None => reserve(whole).map_err(|e| format!("reserving address space: {e}"))?,
        };
        let mut range = Range { base, size: 0, reserved, whole, shared: self.0.clone() };
        range.grow_to(minimum).map_err(|e| e.to_string())?;
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
        if size > self.size {
            let flags = MprotectFlags::READ | MprotectFlags::WRITE;
            // SAFETY: within our own range, and only pages that no one could access before change.
            unsafe {
                rustix::mm::mprotect(at(self.base + self.size), size - self.size, flags)?;
            }
            if size - self.size >= HUGE {
                // SAFETY: the same part; advice changes no contents, and doesn't matter if it isn't taken.
                let _ = unsafe {
                    rustix::mm::madvise(
                        at(self.base + self.size),
                        size - self.size,
                        Advice::LinuxHugepage,
                    )
                };
            }
            self.size = size;
        }
        self.shared.live.lock().insert(self.base, self.size);
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.base as *mut u8
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        self.shared.live.lock().remove(&self.base);
        // SAFETY: the memory is gone, so nothing refers into our range any more; the new mapping covers a part of it.
        let emptied = unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
            rustix::mm::mmap_anonymous(at(self.base), self.size, ProtFlags::empty(), flags)
        };
        // A range that can't be emptied is never used again: address space is cheap, another task's bytes are not.
        if self.size == 0 || emptied.is_ok() {
            self.shared.free.lock().entry(self.whole).or_default().push(self.base);
        }
    }
}

fn at(address: usize) -> *mut c_void {
    address as *mut c_void
}

/// A part of a linear memory over which an image lies.
#[derive(Clone, Copy, Debug)]
pub struct Laid {
    memory: usize,
    start: usize,
}

/// Why an image can't be laid.
#[derive(Debug, thiserror::Error)]
pub enum LayError {
    #[error("an image must begin on a page of {PAGE} bytes and end with one")]
    Unaligned,
    #[error("the region isn't in a memory of this sandbox where the image belongs")]
    OutsideMemory,
    #[error("mapping an image: {0}")]
    Kernel(#[from] rustix::io::Errno),
}

/// Checks that `region`, bytes of a linear memory of `ranges`, lies at `offset` in it, and is made of whole pages.
pub fn check(ranges: &Ranges, region: &[u8], offset: u64) -> Result<Laid, LayError> {
    let start = region.as_ptr() as usize;
    let offset = usize::try_from(offset).map_err(|_| LayError::OutsideMemory)?;
    let memory = start.checked_sub(offset).ok_or(LayError::OutsideMemory)?;
    if !start.is_multiple_of(PAGE) || !region.len().is_multiple_of(PAGE) || region.is_empty() {
        return Err(LayError::Unaligned);
    }
    let size = ranges.size_of(memory).ok_or(LayError::OutsideMemory)?;
    match offset.checked_add(region.len()) {
        Some(end) if end <= size => Ok(Laid { memory, start }),
        _ => Err(LayError::OutsideMemory),
    }
}

/// Where in its memory, of those that live in `ranges`, a region starts: the offset that `check` will ask for.
pub fn offset_of(ranges: &Ranges, region: &[u8]) -> Option<u64> {
    let start = region.as_ptr() as usize;
    let live = ranges.0.live.lock();
    let inside = live.iter().find(|(base, size)| (**base..**base + **size).contains(&start));
    inside.map(|(base, _)| (start - base) as u64)
}

/// Lays a private mapping of `image` over the part of a linear memory that `check` has seen.
///
/// Called in a host call of the guest that owns the memory, with no reference into it alive.
pub fn lay(part: Laid, image: &Image) -> Result<(), LayError> {
    let length = image.length() as usize;
    // SAFETY: `check` found the part to be whole pages below `size` of a live memory, so this replaces accessible pages
    // of one of our ranges by accessible pages; see the invariants for who may look at them meanwhile.
    unsafe {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        rustix::mm::mmap(at(part.start), length, prot, flags, image.fd(), 0)?;
    }
    Ok(())
}

impl Laid {
    /// The address at which the image begins.
    pub fn start(self) -> usize {
        self.start
    }
}

/// Puts a memory back to what it was right after `lay`, from byte `from` of the image on: the image's pages as they are in the
/// image, all beyond zero.
///
/// Called while the guest that owns the memory isn't running.
pub fn reset(ranges: &Ranges, part: Laid, from: usize) -> Result<(), LayError> {
    let size = ranges.size_of(part.memory).ok_or(LayError::OutsideMemory)?;
    let (start, end) = (part.start + from, part.memory + size);
    if start > end || !from.is_multiple_of(PAGE) {
        return Err(LayError::OutsideMemory);
    }
    if start == end {
        return Ok(());
    }
    // SAFETY: whole pages of a live memory of ours; `DONTNEED` drops the private copies, so that the next access finds the
    // image's page or a zero page. Both are valid contents.
    unsafe { rustix::mm::madvise(at(start), end - start, Advice::LinuxDontNeed)? };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(ranges: &Ranges, size: usize) -> Box<dyn LinearMemory> {
        let ty = MemoryType::new(1, None);
        ranges.new_memory(ty, size, None, Some(1 << 20), 1 << 16).unwrap()
    }

    #[allow(clippy::mut_from_ref)] // a test keeps one at a time
    fn bytes(memory: &dyn LinearMemory) -> &mut [u8] {
        // SAFETY: the test owns the memory and keeps one reference at a time.
        unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), memory.byte_size()) }
    }

    fn image(contents: &[u8]) -> Image {
        let pool = ingle_core::memory::MemoryPool::new(ingle_core::size::ByteSize(1 << 20));
        Image::capture(crate::ComponentHash::of(b""), 0, contents, &pool).unwrap()
    }

    #[test]
    fn a_reused_range_is_zero() {
        let ranges = Ranges::default();
        let first = memory(&ranges, 2 * PAGE);
        bytes(&*first).fill(7);
        let base = first.as_ptr();
        drop(first);
        let second = memory(&ranges, 2 * PAGE);
        assert_eq!(second.as_ptr(), base);
        assert!(bytes(&*second).iter().all(|b| *b == 0));
    }

    #[test]
    fn reset_brings_back_the_image_and_zeroes_what_lies_beyond() {
        let ranges = Ranges::default();
        let memory = memory(&ranges, 3 * PAGE);
        let image = image(&[5; PAGE]);
        let part = check(&ranges, &bytes(&*memory)[PAGE..2 * PAGE], PAGE as u64).unwrap();
        lay(part, &image).unwrap();
        bytes(&*memory).fill(9);
        reset(&ranges, part, 0).unwrap();
        assert!(bytes(&*memory)[..PAGE].iter().all(|b| *b == 9));
        assert!(bytes(&*memory)[PAGE..2 * PAGE].iter().all(|b| *b == 5));
        assert!(bytes(&*memory)[2 * PAGE..].iter().all(|b| *b == 0));
        bytes(&*memory).fill(9);
        reset(&ranges, part, PAGE).unwrap();
        assert!(bytes(&*memory)[..2 * PAGE].iter().all(|b| *b == 9));
        assert!(bytes(&*memory)[2 * PAGE..].iter().all(|b| *b == 0));
    }

    #[test]
    fn two_memories_of_one_image_do_not_see_each_other() {
        let ranges = Ranges::default();
        let (a, b) = (memory(&ranges, PAGE), memory(&ranges, PAGE));
        let image = image(&[5; PAGE]);
        for m in [&a, &b] {
            lay(check(&ranges, bytes(&**m), 0).unwrap(), &image).unwrap();
        }
        bytes(&*a).fill(1);
        assert!(bytes(&*b).iter().all(|x| *x == 5));
    }

    #[test]
    fn regions_that_are_not_whole_pages_of_the_right_place_are_refused() {
        let ranges = Ranges::default();
        let memory = memory(&ranges, 4 * PAGE);
        let all = bytes(&*memory);
        assert!(matches!(check(&ranges, &all[1..PAGE + 1], 1), Err(LayError::Unaligned)));
        assert!(matches!(check(&ranges, &all[..PAGE - 1], 0), Err(LayError::Unaligned)));
        assert!(matches!(check(&ranges, &all[..0], 0), Err(LayError::Unaligned)));
        assert!(matches!(check(&ranges, &all[PAGE..], 0), Err(LayError::OutsideMemory)));
        assert!(matches!(check(&ranges, all, u64::MAX), Err(LayError::OutsideMemory)));
        let foreign = vec![0u8; 3 * PAGE];
        let skip = foreign.as_ptr().align_offset(PAGE);
        let region = &foreign[skip..skip + PAGE];
        assert!(matches!(check(&ranges, region, 0), Err(LayError::OutsideMemory)));
    }

    #[test]
    fn growing_past_the_reservation_is_an_error() {
        let ranges = Ranges::default();
        let mut memory = memory(&ranges, PAGE);
        assert!(memory.grow_to((1 << 20) + PAGE).is_err());
        assert_eq!(memory.byte_size(), PAGE);
    }
}
