//! Which pages of a laid image an instance wrote, so that just those are put back between two tasks.
//!
//! Dropping an instance's private pages (`MADV_DONTNEED`) makes every later touch a page fault and, in a process of several
//! threads, an interrupt to the others' processors: a task that does nothing took 115 µs on 2 slots, and takes 7 µs where the few
//! pages that it wrote are copied instead. To know them for certain, the image is made read-only after the first task, but
//! for the pages that it wrote: a write to any other page faults once, is noted, and allowed from then on.
//!
//! Invariants beside those of [`ranges`](crate::ranges):
//!
//! - While a watch is on and has no more than [`MAX_PAGES`], each page of the image is either noted or read-only, so no write
//!   escapes it. Pages become writable only in [`Watch::note`], which notes them first, and all together with one too many.
//! - [`Watch::note`] runs in a signal handler, on the thread that runs the guest: it takes no lock, allocates nothing, and calls
//!   only `mprotect`. Its list is allocated before.
//! - Pages are read-only or not for the guest, for host calls that write into its memory, and for nobody else: no system
//!   call is given a guest's memory to write to.

#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use wasmtime::Store;
use wasmtime::unix::StoreExt;

use crate::image::Image;
use crate::pagemap;
use crate::ranges::{OPEN, PAGE, ZEROS, protect};

/// With more pages than this, dropping them all is as good.
const MAX_PAGES: usize = 512;

/// An image's file, mapped to be read.
pub struct View {
    at: usize,
    length: usize,
}

impl View {
    /// Maps `length` bytes of an image's file.
    pub fn new(image: BorrowedFd<'_>, length: usize) -> rustix::io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing.
        let at = unsafe {
            rustix::mm::mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, image, 0)?
        };
        Ok(Self { at: at as usize, length })
    }

    /// Where page `number` begins, for as long as the view lives; none beyond its end.
    pub fn page(&self, number: usize) -> Option<*const u8> {
        let offset = number.checked_mul(PAGE).filter(|offset| *offset < self.length)?;
        Some((self.at + offset) as *const u8)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody refers into once we are gone. Failing leaves it mapped, which costs address space.
        let _ = unsafe { rustix::mm::munmap(self.at as *mut _, self.length) };
    }
}

/// Notes the pages of one laid image that are written. Watches nothing until [`Watch::begin`].
pub struct Watch {
    /// Where the image lies, and how long it is: 0 while nothing is watched.
    start: AtomicUsize,
    length: AtomicUsize,
    /// Numbers of noted pages, the first `count` of them.
    pages: Box<[AtomicU32]>,
    count: AtomicUsize,
}

impl Watch {
    /// A watch for one store, whose guest's faults it sees from now on.
    pub fn new<T>(store: &mut Store<T>) -> Arc<Self> {
        let watch = Arc::new(Self {
            start: AtomicUsize::new(0),
            length: AtomicUsize::new(0),
            pages: (0..MAX_PAGES).map(|_| AtomicU32::new(0)).collect(),
            count: AtomicUsize::new(0),
        });
        let noting = watch.clone();
        // SAFETY: the handler is async-signal-safe: `note` reads and writes atomics and calls `mprotect`.
        unsafe {
            store.set_signal_handler(move |signal, info, _| {
                // SAFETY: the kernel gave `info` with the signal; SIGSEGV has an address.
                signal == libc::SIGSEGV && noting.note((*info).si_addr() as usize)
            });
        }
        watch
    }

    /// A write fault: notes the page and allows it. False if it is none of ours.
    fn note(&self, address: usize) -> bool {
        let (start, length) =
            (self.start.load(Ordering::Relaxed), self.length.load(Ordering::Relaxed));
        let Some(offset) = address.checked_sub(start).filter(|offset| *offset < length) else {
            return false;
        };
        let page = (offset / PAGE) as u32;
        let count = self.count.load(Ordering::Relaxed);
        let known = self.pages.iter().take(count);
        if known.into_iter().any(|p| p.load(Ordering::Relaxed) == page) {
            // It is writable: whatever this is, it would come again and again.
            return false;
        }
        if let Some(place) = self.pages.get(count) {
            place.store(page, Ordering::Relaxed);
            if allow(start + page as usize * PAGE, PAGE) {
                self.count.store(count + 1, Ordering::Relaxed);
                return true;
            }
        }
        // Too many, here or for the kernel. To make all writable needs no more mappings. `restore` will see it.
        self.count.store(MAX_PAGES + 1, Ordering::Relaxed);
        allow(start, length)
    }

    /// Begins to watch an image that lies, writable, at `start`, after the first task on it. False, and nothing is watched, if the
    /// task wrote to too many pages or nothing tells which.
    ///
    /// Called while the guest isn't running.
    pub fn begin(&self, start: usize, image: &Image) -> bool {
        let (length, head) = (image.length() as usize, image.head_length());
        let most = MAX_PAGES / 2;
        let Some(own) = pagemap::own_pages(start + head, length - head, most) else { return false };
        // SAFETY: the guest isn't running.
        let written = unsafe { changed_pages(image, start) };
        let written: Vec<u32> =
            written.chain(own.into_iter().map(|page| page + (head / PAGE) as u32)).collect();
        if written.len() > most {
            return false;
        }
        let end = (length / PAGE) as u32;
        let mut from = 0;
        for page in written.iter().copied().chain([end]) {
            // A part that stays writable would be written unnoticed: all or nothing.
            if page > from && !forbid(start + from as usize * PAGE, (page - from) as usize * PAGE) {
                allow(start, length);
                return false;
            }
            from = page + 1;
        }
        for (place, page) in self.pages.iter().zip(&written) {
            place.store(*page, Ordering::Relaxed);
        }
        self.count.store(written.len(), Ordering::Relaxed);
        self.start.store(start, Ordering::Relaxed);
        self.length.store(length, Ordering::Relaxed);
        true
    }

    /// Ends watching; the whole image is writable.
    fn end(&self) {
        let (start, length) =
            (self.start.load(Ordering::Relaxed), self.length.load(Ordering::Relaxed));
        self.length.store(0, Ordering::Relaxed);
        allow(start, length);
    }

    /// Puts noted pages back as they are in the image. False if there are too many of them: then nothing is put back, and nothing is
    /// watched any more.
    ///
    /// Called while the guest isn't running, with no reference into its memory alive.
    pub fn restore(&self, image: &Image) -> bool {
        let (start, length) =
            (self.start.load(Ordering::Relaxed), self.length.load(Ordering::Relaxed));
        let count = self.count.load(Ordering::Relaxed);
        if count > MAX_PAGES || length as u64 != image.length() {
            self.end();
            return false;
        }
        for page in self.pages.iter().take(count) {
            let page = page.load(Ordering::Relaxed) as usize;
            let Some(from) = image.page(page) else {
                self.end();
                return false;
            };
            // SAFETY: noted pages lie in the image's `length` bytes, and are writable since they are noted; no reference into
            // the guest's memory is alive. The image's own page lies elsewhere, is as long, and is never written.
            unsafe { ptr::copy_nonoverlapping(from, (start + page * PAGE) as *mut u8, PAGE) };
        }
        true
    }
}

// Of an image that lies below the size of a live memory (see the invariants). Its pages stay readable, and those that become
// read-only are made writable by `note` when they are written.

fn allow(start: usize, length: usize) -> bool {
    protect(start, start + length, OPEN).is_ok()
}

fn forbid(start: usize, length: usize) -> bool {
    protect(start, start + length, MprotectFlags::READ).is_ok()
}

/// Which of its first pages are no longer what they were in the image.
///
/// # Safety
///
/// The image lies at `start`, and nothing else refers into it meanwhile.
unsafe fn changed_pages(image: &Image, start: usize) -> impl Iterator<Item = u32> {
    let changed = move |(number, page): (usize, &Option<Box<[u8; PAGE]>>)| {
        // SAFETY: the caller's promise.
        let now = unsafe { &*((start + number * PAGE) as *const [u8; PAGE]) };
        (now != page.as_deref().unwrap_or(&ZEROS)).then_some(number as u32)
    };
    image.head().iter().enumerate().filter_map(changed)
}

#[cfg(test)]
mod tests {
    use ingle_core::memory::MemoryPool;
    use ingle_core::size::ByteSize;

    use super::*;
    use crate::ComponentHash;
    use crate::memory::{COPIED, Laid, check, lay};
    use crate::ranges::Ranges;

    const HEAD: usize = COPIED / PAGE;

    /// An image laid over a memory: so many pages after the copied ones, each full of its number.
    struct Under {
        image: Image,
        at: usize,
        pages: usize,
        watch: Watch,
        _memory: Box<dyn wasmtime::LinearMemory>,
    }

    impl Under {
        fn new(mapped: usize) -> Self {
            use wasmtime::{MemoryCreator, MemoryType};
            let pages = HEAD + mapped;
            let contents: Vec<u8> = (0..pages).flat_map(|page| [page as u8; PAGE]).collect();
            let pool = MemoryPool::new(ByteSize(1 << 30));
            let ranges = Ranges::default();
            let hash = ComponentHash::of(b"");
            let image = Image::capture(hash, 0, &contents, &pool).unwrap();
            let ty = MemoryType::new(1, None);
            let whole = Some(1 << 30);
            let memory = ranges.new_memory(ty, pages * PAGE, None, whole, 1 << 16).unwrap();
            // SAFETY: accessible, and the test looks through one reference at a time.
            let region = unsafe { std::slice::from_raw_parts(memory.as_ptr(), pages * PAGE) };
            let part: Laid = check(&ranges, region, 0).unwrap();
            lay(&ranges, part, &image).unwrap();
            let places = (0..MAX_PAGES).map(|_| AtomicU32::new(0)).collect();
            let (start, length, count) =
                (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
            let watch = Watch { start, length, pages: places, count };
            Self { image, at: part.start(), pages, watch, _memory: memory }
        }

        #[allow(clippy::mut_from_ref)] // a test keeps one at a time
        fn bytes(&self) -> &mut [u8] {
            // SAFETY: as above.
            unsafe { std::slice::from_raw_parts_mut(self.at as *mut u8, self.pages * PAGE) }
        }

        fn begin(&self) -> bool {
            self.watch.begin(self.at, &self.image)
        }

        /// As the signal would.
        fn note(&self, page: usize) -> bool {
            self.watch.note(self.at + page * PAGE + 17)
        }

        fn is_restored(&self) -> bool {
            self.bytes()
                .chunks(PAGE)
                .enumerate()
                .all(|(i, page)| page.iter().all(|b| *b == i as u8))
        }
    }

    #[test]
    fn written_pages_are_found_and_put_back() {
        let under = Under::new(6);
        assert!(under.is_restored(), "laid as it was");
        under.bytes()[PAGE] = 99;
        under.bytes()[(HEAD + 1) * PAGE] = 99;
        assert_eq!(under.bytes()[(HEAD + 5) * PAGE], (HEAD + 5) as u8, "reading is no writing");
        assert!(under.begin());
        assert_eq!(under.watch.count.load(Ordering::Relaxed), 2);
        for page in [3, HEAD + 3] {
            assert!(under.note(page));
            under.bytes()[page * PAGE + 17] = 99;
        }
        assert!(under.watch.restore(&under.image));
        assert!(under.is_restored());
    }

    #[test]
    fn a_fault_elsewhere_or_on_a_writable_page_is_none_of_ours() {
        let under = Under::new(2);
        assert!(!under.note(0), "nothing is watched yet");
        assert!(under.begin());
        assert!(!under.watch.note(under.at - 1) && !under.note(HEAD + 2));
        assert!(under.note(0));
        assert!(!under.note(0), "it would come again and again");
    }

    #[test]
    fn an_instance_that_writes_everywhere_is_no_longer_watched() {
        let under = Under::new(MAX_PAGES + 10);
        assert!(under.begin());
        assert!((0..=MAX_PAGES).all(|page| under.note(page)));
        // All of it is writable now.
        under.bytes().fill(1);
        assert!(!under.watch.restore(&under.image));
        assert!(!under.note(1));
        assert!(!under.begin(), "too many were written");
    }
}
