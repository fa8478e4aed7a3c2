//! Images: a driver's memory as it was when it ran an action, held once, mapped by all tasks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use ingle_core::memory::{MemoryPool, MemoryUse, Reservation};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::component::ComponentHash;
use crate::memory::COPIED;
use crate::ranges::{PAGE, ZEROS};
use crate::written::View;

/// A picture of a driver's memory. Clones share it.
#[derive(Clone)]
pub struct Image(Arc<Inner>);

struct Inner {
    /// The first pages, which are copied: those that hold anything.
    head: Vec<Option<Box<[u8; PAGE]>>>,
    /// All others, which are mapped.
    fd: OwnedFd,
    /// Where the picture began in the driver's memory.
    base: u64,
    length: u64,
    /// Its bytes mean something only to the component that they come from.
    component: ComponentHash,
    /// Made when a page of the file is first put back.
    view: OnceLock<Option<View>>,
    _charge: Reservation,
}

/// Why a picture wasn't taken.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("the driver's memory doesn't fit: {0}; raise --executor-memory, or capture less")]
    Memory(#[from] ingle_core::memory::OutOfMemory),
    #[error("writing the driver's memory to an image: {0}")]
    Kernel(#[from] rustix::io::Errno),
}

/// Runs of pages in `bytes` from page `first` on that hold anything but zeroes, as (offset, length).
fn pages_in_use(bytes: &[u8], first: usize) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (i, page) in bytes.chunks(PAGE).enumerate().skip(first) {
        if page == &ZEROS[..page.len()] {
            continue;
        }
        let offset = i * PAGE;
        match runs.last_mut() {
            Some((start, length)) if *start + *length == offset => *length += page.len(),
            _ => runs.push((offset, page.len())),
        }
    }
    runs
}

impl Image {
    /// Copies `bytes`, which begin at `base` of the driver's memory, but for pages of zeros. They are charged to `pool` all the same:
    /// a task that looks at such a page makes the kernel give the file one.
    pub fn capture(
        component: ComponentHash,
        base: u64,
        bytes: &[u8],
        pool: &MemoryPool,
    ) -> Result<Self, CaptureError> {
        let charge = pool.reserve(MemoryUse::Image, bytes.len() as u64)?;
        let head: Vec<_> = bytes[..bytes.len().min(COPIED)]
            .as_chunks()
            .0
            .iter()
            .map(|page| (*page != ZEROS).then(|| Box::new(*page)))
            .collect();
        let runs = pages_in_use(bytes, head.len());
        let fd = memfd_create("ingle-image", MemfdFlags::CLOEXEC)?;
        ftruncate(&fd, bytes.len() as u64)?;
        for (offset, length) in runs {
            let mut rest = &bytes[offset..offset + length];
            let mut at = offset as u64;
            while !rest.is_empty() {
                let written = rustix::io::pwrite(&fd, rest, at)?;
                rest = &rest[written..];
                at += written as u64;
            }
        }
        let length = bytes.len() as u64;
        let view = OnceLock::new();
        let inner = Inner { head, fd, base, length, component, view, _charge: charge };
        Ok(Self(Arc::new(inner)))
    }

    /// Where the picture began in the driver's memory.
    pub fn base(&self) -> u64 {
        self.0.base
    }

    /// Bytes, zero pages included.
    pub fn length(&self) -> u64 {
        self.0.length
    }

    /// The component that the picture comes from.
    pub fn component(&self) -> ComponentHash {
        self.0.component
    }

    /// Its first pages: none where a page is zero.
    pub fn head(&self) -> &[Option<Box<[u8; PAGE]>>] {
        &self.0.head
    }

    /// Bytes of its first pages.
    pub fn head_length(&self) -> usize {
        self.0.head.len() * PAGE
    }

    /// Where a page's bytes are, for as long as the image lives; none if there is no such page, or the file can't be mapped.
    pub fn page(&self, number: usize) -> Option<*const u8> {
        match self.0.head.get(number) {
            Some(page) => Some(page.as_deref().unwrap_or(&ZEROS).as_ptr()),
            None => {
                let map = || View::new(self.fd(), self.length() as usize).ok();
                self.0.view.get_or_init(map).as_ref()?.page(number)
            }
        }
    }

    /// The file to map, with all but the first pages, at their places.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingle_core::size::ByteSize;

    #[test]
    fn zero_pages_are_not_written_but_charged() {
        let pool = MemoryPool::new(ByteSize(1 << 20));
        let first = COPIED / PAGE;
        let mut bytes = vec![0; COPIED + 10 * PAGE];
        bytes[5 * PAGE] = 1;
        bytes[COPIED + 3 * PAGE] = 1;
        bytes[COPIED + 4 * PAGE + 7] = 2;
        bytes[COPIED + 9 * PAGE + 4095] = 3;
        let image = Image::capture(ComponentHash::of(b""), 0, &bytes, &pool).unwrap();
        assert_eq!(pool.usage().of(MemoryUse::Image), bytes.len() as u64);
        let blocks = rustix::fs::fstat(image.fd()).unwrap().st_blocks as usize * 512;
        assert_eq!(blocks, 3 * PAGE);
        let mut back = vec![9; bytes.len()];
        assert_eq!(rustix::io::pread(image.fd(), &mut back, 0).unwrap(), bytes.len());
        assert!(back[COPIED..] == bytes[COPIED..]);
        assert_eq!(image.head().len(), first);
        assert!(image.head().iter().enumerate().all(|(i, page)| page.is_some() == (i == 5)));
        drop(image);
        assert_eq!(pool.usage().total(), 0);
    }

    #[test]
    fn an_image_beyond_the_budget_is_refused() {
        let pool = MemoryPool::new(ByteSize(PAGE as u64));
        let refused = Image::capture(ComponentHash::of(b""), 0, &[1; 2 * PAGE], &pool).err();
        assert!(matches!(refused, Some(CaptureError::Memory(_))));
    }
}
