//! Which pages of a laid image an instance wrote, so that just those are put back between two tasks.
//!
//! Dropping an instance's private pages (`MADV_DONTNEED`) makes every later touch a page fault and, in a process of several
//! threads, an interrupt to the others' processors: a task that does nothing took 115 µs on 2 slots, and takes 7 µs where the few
//! pages that it wrote are copied instead. To know them for certain, the image is made read-only after the first task, but
//! for the pages that it wrote: a write to any other page faults once, is noted, and allowed from then on.
//!
//! Invariants beside those of [`memory`](crate::memory):
//!
//! - While a watch is on, each page of the image is either noted or read-only, so no write escapes it. Pages become writable
//!   only in [`Watch::note`], which notes them first, and all together when the watch ends.
//! - [`Watch::note`] runs in a signal handler, on the thread that runs the guest: it takes no lock, allocates nothing, and calls
//!   only `mprotect`. Its list is allocated before.
//! - Pages are read-only or not for the guest, for host calls that write into its memory, and for nobody else: no system
//!   call is given a guest's memory to write to.

#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use wasmtime::Store;
use wasmtime::unix::StoreExt;

use crate::memory::PAGE;

/// With more pages than this, dropping them all is as good.
const MAX_PAGES: usize = 512;

/// An image's bytes, mapped to be read.
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
        let allowed = match self.pages.get(count) {
            Some(place) => {
                place.store(page, Ordering::Relaxed);
                allow(start + page as usize * PAGE, PAGE)
            }
            // Too many: `restore` will say so.
            None => allow(start, length),
        };
        self.count.store(count + 1, Ordering::Relaxed);
        allowed
    }

    /// Begins to watch an image that lies, writable, at `start`, after the first task on it. False, and nothing is watched, if the
    /// task wrote to too many pages or nothing tells which.
    ///
    /// Called while the guest isn't running.
    pub fn begin(&self, start: usize, length: usize) -> bool {
        let Some(written) = private_pages(start, length) else { return false };
        if written.len() > MAX_PAGES / 2 {
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
    pub fn restore(&self, view: &View) -> bool {
        let (start, length) =
            (self.start.load(Ordering::Relaxed), self.length.load(Ordering::Relaxed));
        let count = self.count.load(Ordering::Relaxed);
        if count > MAX_PAGES || length != view.length {
            self.end();
            return false;
        }
        for page in self.pages.iter().take(count) {
            let offset = page.load(Ordering::Relaxed) as usize * PAGE;
            // SAFETY: noted pages lie in the image's `length` bytes, which both mappings have; those of the guest are writable
            // since they are noted, and no reference to either is alive. They don't overlap: the view is a mapping of its own.
            unsafe {
                ptr::copy_nonoverlapping(
                    (view.at + offset) as *const u8,
                    (start + offset) as *mut u8,
                    PAGE,
                );
            }
        }
        true
    }
}

fn allow(start: usize, length: usize) -> bool {
    protect(start, length, MprotectFlags::READ | MprotectFlags::WRITE)
}

fn forbid(start: usize, length: usize) -> bool {
    protect(start, length, MprotectFlags::READ)
}

fn protect(start: usize, length: usize, flags: MprotectFlags) -> bool {
    // SAFETY: pages of an image that lies below the size of a live memory (see the invariants): they stay readable, and writable ones
    // that become read-only are made writable by `note` when they are written.
    length == 0 || unsafe { rustix::mm::mprotect(start as *mut _, length, flags) }.is_ok()
}

/// The pages of a private file mapping that are no longer the file's: written since it was laid.
fn private_pages(start: usize, length: usize) -> Option<Vec<u32>> {
    /// A page is in memory, or swapped out; and it is a page of a file.
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const OF_FILE: u64 = 1 << 61;
    const ENTRY: usize = size_of::<u64>();

    let pagemap = File::open("/proc/self/pagemap").ok()?;
    let mut written = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    let pages = length / PAGE;
    let mut page = 0;
    while page < pages {
        let some = (pages - page).min(buffer.len() / ENTRY);
        let entries = buffer.get_mut(..some * ENTRY)?;
        pagemap.read_exact_at(entries, ((start / PAGE + page) * ENTRY) as u64).ok()?;
        for (number, entry) in (page..).zip(entries.chunks_exact(ENTRY)) {
            let entry = u64::from_ne_bytes(entry.try_into().ok()?);
            if entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0 {
                written.push(u32::try_from(number).ok()?);
            }
        }
        page += some;
    }
    Some(written)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// A private writable mapping of an image of so many pages, each full of its number.
    fn laid(pages: usize) -> (std::os::fd::OwnedFd, usize) {
        let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let contents: Vec<u8> = (0..pages).flat_map(|page| [page as u8; PAGE]).collect();
        rustix::io::write(&fd, &contents).unwrap();
        let flags = MapFlags::PRIVATE;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping.
        let at = unsafe {
            rustix::mm::mmap(ptr::null_mut(), pages * PAGE, prot, flags, &fd, 0).unwrap()
        };
        (fd, at as usize)
    }

    fn bytes(at: usize, pages: usize) -> &'static mut [u8] {
        // SAFETY: mapped by `laid` and never unmapped; the test looks through one reference at a time.
        unsafe { std::slice::from_raw_parts_mut(at as *mut u8, pages * PAGE) }
    }

    fn watch() -> Watch {
        let pages = (0..MAX_PAGES).map(|_| AtomicU32::new(0)).collect();
        let (start, length, count) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        Watch { start, length, pages, count }
    }

    #[test]
    fn written_pages_are_found_and_put_back() {
        let (fd, at) = laid(6);
        let view = View::new(fd.as_fd(), 6 * PAGE).unwrap();
        bytes(at, 6)[PAGE] = 99;
        assert_eq!(bytes(at, 6)[5 * PAGE], 5, "reading is no writing");
        let watch = watch();
        assert!(watch.begin(at, 6 * PAGE));
        assert_eq!(watch.count.load(Ordering::Relaxed), 1);
        // As the signal would.
        assert!(watch.note(at + 3 * PAGE + 17));
        bytes(at, 6)[3 * PAGE + 17] = 99;
        assert!(watch.restore(&view));
        assert!(bytes(at, 6).iter().enumerate().all(|(i, b)| *b as usize == i / PAGE));
    }

    #[test]
    fn a_fault_elsewhere_or_on_a_writable_page_is_none_of_ours() {
        let (_fd, at) = laid(2);
        let watch = watch();
        assert!(!watch.note(at), "nothing is watched yet");
        assert!(watch.begin(at, 2 * PAGE));
        assert!(!watch.note(at - 1) && !watch.note(at + 2 * PAGE));
        assert!(watch.note(at));
        assert!(!watch.note(at), "it would come again and again");
    }

    #[test]
    fn an_instance_that_writes_everywhere_is_no_longer_watched() {
        let pages = MAX_PAGES + 10;
        let (fd, at) = laid(pages);
        let view = View::new(fd.as_fd(), pages * PAGE).unwrap();
        let watch = watch();
        assert!(watch.begin(at, pages * PAGE));
        assert!((0..=MAX_PAGES).all(|page| watch.note(at + page * PAGE)));
        // All of it is writable now.
        bytes(at, pages).fill(1);
        assert!(!watch.restore(&view));
        assert!(!watch.note(at + PAGE));
        assert!(!watch.begin(at, pages * PAGE), "too many were written");
    }
}
