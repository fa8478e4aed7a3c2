//! An image laid over a linear memory, and put back. Its invariants are those of [`ranges`](crate::ranges).

#![allow(unsafe_code)]

use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::image::Image;
use crate::layers::Part;
use crate::pagemap;
use crate::ranges::{OPEN, PAGE, Ranges, ZEROS, at, page_at, protect};

/// So much of an image is copied, from its beginning, instead of mapped: statics and what a task's start touches. A page that is
/// mapped and then written costs a fault. With 64 KiB a fresh fork took 143 µs, with 192 KiB 107, with 320 KiB 73.
pub const COPIED: usize = 320 << 10;

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
    Some((start - ranges.memory_around(start)?) as u64)
}

/// Lays `image` over the part of a linear memory that `check` has seen: its first [`COPIED`] bytes as a copy, the rest as a private
/// mapping.
///
/// Called in a host call of the guest that owns the memory, with no reference into it alive.
pub fn lay(ranges: &Ranges, part: Laid, image: &Image) -> Result<(), LayError> {
    let copied = image.head_length();
    let (start, end) = (part.start + copied, part.start + image.length() as usize);
    if start < end {
        ranges.note_mapped(part.memory, start);
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        for Part { bytes, layer } in image.parts().iter() {
            let place = part.start + bytes.start;
            // SAFETY: `check` found the part to be whole pages below `size` of a live memory, and those of an image lie in its
            // `length`, so this replaces accessible pages of one of our ranges by accessible pages; see the invariants for who may look at
            // them meanwhile.
            let mapped = unsafe {
                rustix::mm::mmap(
                    at(place),
                    bytes.len(),
                    prot,
                    flags,
                    layer.fd(),
                    bytes.start as u64,
                )
            };
            if let Err(error) = mapped {
                // Older kernels take away what was there before they see that they can't.
                ranges.note_broken(part.memory);
                return Err(error.into());
            }
        }
    }
    copy_head(part, image);
    Ok(())
}

/// Makes the first pages what the image's are.
fn copy_head(part: Laid, image: &Image) {
    // All others are zero. Looking at them would cost more than asking which they are, and make each a page to be wiped.
    let touched = pagemap::own_pages(part.start, image.head_length(), usize::MAX);
    let mut touched = touched.map(|pages| pages.into_iter().peekable());
    for (number, page) in (0..).zip(image.head()) {
        let touched = match &mut touched {
            Some(pages) => pages.next_if_eq(&number).is_some(),
            None => true,
        };
        if !touched && page.is_none() {
            continue;
        }
        // SAFETY: a page of the part that `check` has seen; see the invariants for who may look at it meanwhile.
        let bytes = unsafe { page_at(part.start + number as usize * PAGE) };
        match page {
            Some(page) => *bytes = **page,
            None => *bytes = ZEROS,
        }
    }
}

impl Laid {
    /// The address at which the image begins.
    pub fn start(self) -> usize {
        self.start
    }
}

/// Puts a memory back to what it was right after `lay`: the image's pages as they are in the image, all beyond zero.
///
/// Called while the guest that owns the memory isn't running.
pub fn reset(ranges: &Ranges, part: Laid, image: &Image) -> Result<(), LayError> {
    // A watch that couldn't end may have left pages read-only.
    protect(part.start, part.start + image.length() as usize, OPEN)?;
    drop_pages(ranges, part, 0)?;
    copy_head(part, image);
    Ok(())
}

/// The same for what lies beyond the image.
pub fn reset_beyond(ranges: &Ranges, part: Laid, image: &Image) -> Result<(), LayError> {
    drop_pages(ranges, part, image.length() as usize)
}

/// Drops pages from byte `from` of the image on, to the memory's end.
fn drop_pages(ranges: &Ranges, part: Laid, from: usize) -> Result<(), LayError> {
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
    use ingle_core::memory::MemoryPool;
    use ingle_core::size::ByteSize;

    use super::*;
    use crate::ComponentHash;
    use crate::ranges::tests::{bytes, memory};

    fn image(contents: &[u8]) -> Image {
        let pool = MemoryPool::new(ByteSize(1 << 30));
        Image::capture(ComponentHash::of(b""), 0, contents, &pool).unwrap()
    }

    fn full_of(byte: u8, bytes: &[u8]) -> bool {
        bytes.iter().all(|b| *b == byte)
    }

    #[test]
    fn laying_replaces_what_was_there_zeros_included() {
        let ranges = Ranges::default();
        let length = COPIED + 2 * PAGE;
        let memory = memory(&ranges, length);
        bytes(&*memory).fill(9);
        let mut contents = vec![0; length];
        contents[3 * PAGE] = 1;
        contents[COPIED + PAGE] = 2;
        let part = check(&ranges, bytes(&*memory), 0).unwrap();
        lay(&ranges, part, &image(&contents)).unwrap();
        assert!(bytes(&*memory) == contents);
    }

    #[test]
    fn reset_brings_back_the_image_and_zeroes_what_lies_beyond() {
        let ranges = Ranges::default();
        let length = COPIED + PAGE;
        let memory = memory(&ranges, PAGE + length + PAGE);
        let image = image(&vec![5; length]);
        let (from, to) = (PAGE, PAGE + length);
        let part = check(&ranges, &bytes(&*memory)[from..to], PAGE as u64).unwrap();
        lay(&ranges, part, &image).unwrap();
        assert!(full_of(5, &bytes(&*memory)[from..to]));
        bytes(&*memory).fill(9);
        reset(&ranges, part, &image).unwrap();
        assert!(full_of(9, &bytes(&*memory)[..from]));
        assert!(full_of(5, &bytes(&*memory)[from..to]));
        assert!(full_of(0, &bytes(&*memory)[to..]));
        bytes(&*memory).fill(9);
        reset_beyond(&ranges, part, &image).unwrap();
        assert!(full_of(9, &bytes(&*memory)[..to]));
        assert!(full_of(0, &bytes(&*memory)[to..]));
    }

    #[test]
    fn reset_writes_where_a_watch_left_pages_read_only() {
        let ranges = Ranges::default();
        let memory = memory(&ranges, COPIED);
        let image = image(&vec![5; COPIED]);
        let part = check(&ranges, bytes(&*memory), 0).unwrap();
        lay(&ranges, part, &image).unwrap();
        bytes(&*memory)[PAGE] = 9;
        protect(part.start, part.start + COPIED, rustix::mm::MprotectFlags::READ).unwrap();
        reset(&ranges, part, &image).unwrap();
        assert!(full_of(5, bytes(&*memory)));
    }

    #[test]
    fn two_memories_of_one_image_do_not_see_each_other() {
        let ranges = Ranges::default();
        let length = COPIED + PAGE;
        let (a, b) = (memory(&ranges, length), memory(&ranges, length));
        let image = image(&vec![5; length]);
        for m in [&a, &b] {
            lay(&ranges, check(&ranges, bytes(&**m), 0).unwrap(), &image).unwrap();
        }
        bytes(&*a).fill(1);
        assert!(full_of(5, bytes(&*b)));
    }

    #[test]
    fn a_memory_finds_nothing_of_an_image_that_lay_in_its_range() {
        let ranges = Ranges::default();
        // The file's pages begin below what a range keeps.
        let length = COPIED + 4 * PAGE;
        let first = memory(&ranges, length);
        lay(&ranges, check(&ranges, bytes(&*first), 0).unwrap(), &image(&vec![5; length])).unwrap();
        bytes(&*first)[COPIED..COPIED + PAGE].fill(7);
        let base = first.as_ptr();
        drop(first);
        let second = memory(&ranges, length);
        assert_eq!(second.as_ptr(), base);
        assert!(full_of(0, bytes(&*second)));
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
}
