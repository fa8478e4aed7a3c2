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
    /// Made when the picture is first sent elsewhere.
    pieces: OnceLock<Arc<[PieceHash]>>,
    _charge: Reservation,
}

/// Bytes of a picture that travel, and are named, together: all of its pieces but the last have so many.
pub const PIECE: usize = 256 << 10;

/// The BLAKE3 hash of a piece; of one that is all zeros, [`ZERO_PIECE`].
pub type PieceHash = [u8; 32];

/// Stands for a piece that needn't travel.
pub const ZERO_PIECE: PieceHash = [0; 32];

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
        Ok(Self::of(head, fd, component, base, bytes.len() as u64, charge))
    }

    /// A picture that was taken elsewhere and put into a file, piece by piece. The file must not change any more.
    pub fn from_file(
        component: ComponentHash,
        base: u64,
        length: u64,
        file: OwnedFd,
        pool: &MemoryPool,
    ) -> Result<Self, CaptureError> {
        if rustix::fs::fstat(&file)?.st_size.cast_unsigned() != length
            || !base.is_multiple_of(PAGE as u64)
        {
            return Err(CaptureError::Kernel(rustix::io::Errno::INVAL));
        }
        let charge = pool.reserve(MemoryUse::Image, length)?;
        let copied = length.min(COPIED as u64) as usize / PAGE;
        let mut head = Vec::with_capacity(copied);
        let mut page = Box::new([0; PAGE]);
        for number in 0..copied {
            read_exact_at(&file, &mut *page, (number * PAGE) as u64)?;
            head.push((*page != ZEROS).then(|| page.clone()));
        }
        Ok(Self::of(head, file, component, base, length, charge))
    }

    fn of(
        head: Vec<Option<Box<[u8; PAGE]>>>,
        fd: OwnedFd,
        component: ComponentHash,
        base: u64,
        length: u64,
        charge: Reservation,
    ) -> Self {
        let (view, pieces) = (OnceLock::new(), OnceLock::new());
        let inner = Inner { head, fd, base, length, component, view, pieces, _charge: charge };
        Self(Arc::new(inner))
    }

    /// How many bytes the piece at this place has; none if there is no such piece.
    pub fn piece_length(&self, piece: usize) -> Option<usize> {
        let start = (piece as u64).checked_mul(PIECE as u64).filter(|s| *s < self.length())?;
        Some((self.length() - start).min(PIECE as u64) as usize)
    }

    /// The bytes of one piece, in place of what `buffer` had; empty if there is no such piece.
    pub fn read_piece(&self, piece: usize, buffer: &mut Vec<u8>) -> Result<(), rustix::io::Errno> {
        buffer.clear();
        let Some(length) = self.piece_length(piece) else { return Ok(()) };
        buffer.resize(length, 0);
        let start = piece * PIECE;
        read_exact_at(&self.0.fd, buffer, start as u64)?;
        // The file doesn't have the first pages.
        for (number, page) in self.0.head.iter().enumerate() {
            let at = (number * PAGE).checked_sub(start);
            let place = at.and_then(|at| buffer.get_mut(at..at + PAGE));
            if let (Some(place), Some(page)) = (place, page) {
                place.copy_from_slice(&**page);
            }
        }
        Ok(())
    }

    /// The names of its pieces.
    pub fn pieces(&self) -> Result<Arc<[PieceHash]>, rustix::io::Errno> {
        if let Some(pieces) = self.0.pieces.get() {
            return Ok(pieces.clone());
        }
        let mut buffer = Vec::new();
        let count = self.length().div_ceil(PIECE as u64) as usize;
        let mut pieces = Vec::with_capacity(count);
        for piece in 0..count {
            self.read_piece(piece, &mut buffer)?;
            let is_zero = buffer.chunks(PAGE).all(|page| page == &ZEROS[..page.len()]);
            pieces.push(if is_zero { ZERO_PIECE } else { *blake3::hash(&buffer).as_bytes() });
        }
        Ok(self.0.pieces.get_or_init(|| pieces.into()).clone())
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

/// Fills a buffer from a file. One that ends before is filled with zeros.
fn read_exact_at(
    file: &OwnedFd,
    mut buffer: &mut [u8],
    mut at: u64,
) -> Result<(), rustix::io::Errno> {
    while !buffer.is_empty() {
        let n = rustix::io::pread(file, &mut *buffer, at)?;
        if n == 0 {
            buffer.fill(0);
            break;
        }
        buffer = &mut buffer[n..];
        at += n as u64;
    }
    Ok(())
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
    fn an_image_that_travelled_in_pieces_is_the_same() {
        let pool = MemoryPool::new(ByteSize(64 << 20));
        let component = ComponentHash::of(b"job");
        let mut bytes = vec![0; 3 * PIECE + 5 * PAGE];
        for at in [0, 7 * PAGE + 1, COPIED - 1, COPIED, 3 * PIECE, 3 * PIECE + 5 * PAGE - 1] {
            bytes[at] = at as u8 | 1;
        }
        let image = Image::capture(component, PAGE as u64, &bytes, &pool).unwrap();
        let pieces = image.pieces().unwrap();
        assert_eq!(
            pieces.iter().map(|p| *p == ZERO_PIECE).collect::<Vec<_>>(),
            [false, false, true, false]
        );
        let file = tempfile::tempfile().unwrap();
        file.set_len(image.length()).unwrap();
        let mut buffer = Vec::new();
        for (number, hash) in pieces.iter().enumerate().filter(|(_, hash)| **hash != ZERO_PIECE) {
            image.read_piece(number, &mut buffer).unwrap();
            assert_eq!(blake3::hash(&buffer), *hash);
            std::os::unix::fs::FileExt::write_all_at(&file, &buffer, (number * PIECE) as u64)
                .unwrap();
        }
        let there =
            Image::from_file(component, image.base(), image.length(), file.into(), &pool).unwrap();
        assert_eq!(there.pieces().unwrap(), pieces);
        let is_set = |image: &Image| image.head().iter().map(Option::is_some).collect::<Vec<_>>();
        assert_eq!(is_set(&there), is_set(&image));
        assert_eq!(image.piece_length(4), None);
    }

    #[test]
    fn an_image_beyond_the_budget_is_refused() {
        let pool = MemoryPool::new(ByteSize(PAGE as u64));
        let refused = Image::capture(ComponentHash::of(b""), 0, &[1; 2 * PAGE], &pool).err();
        assert!(matches!(refused, Some(CaptureError::Memory(_))));
    }
}
