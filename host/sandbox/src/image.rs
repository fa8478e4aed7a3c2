//! Images: a driver's memory as it was when it ran an action, held once, mapped by all tasks.

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use ingle_core::memory::{MemoryPool, MemoryUse, Reservation};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::component::ComponentHash;
use crate::layers::{Layer, Part, Parts};
use crate::memory::COPIED;
use crate::ranges::{PAGE, ZEROS};

/// A picture of a driver's memory. Clones share it.
#[derive(Clone)]
pub struct Image(Arc<Inner>);

struct Inner {
    /// The first pages, which are copied: those that hold anything.
    head: Vec<Option<Box<[u8; PAGE]>>>,
    /// All others, which are mapped.
    parts: Parts,
    /// Where the picture began in the driver's memory.
    base: u64,
    length: u64,
    /// Its bytes mean something only to the component that they come from.
    component: ComponentHash,
    pieces: Hashes,
    /// Those of the picture before, and which pieces changed since.
    before: Option<(Hashes, BTreeSet<usize>)>,
    _charges: Vec<Arc<Reservation>>,
}

/// Made when the picture is first sent elsewhere.
type Hashes = Arc<OnceLock<Arc<[PieceHash]>>>;

/// What the next picture of the same memory needs of this one. Charged to nobody: the driver's memory, which it lies over, is.
pub struct Before {
    parts: Parts,
    base: u64,
    length: u64,
    pieces: Hashes,
}

/// A picture in more parts than this is taken as a whole again: each part is a mapping, in each task.
const MAX_PARTS: usize = 256;

/// No memory is longer: those of 64 bits are off.
const MEMORY_END: u64 = 4 << 30;

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

/// Runs of pages in a part of `bytes` that hold anything but zeroes.
fn pages_in_use(bytes: &[u8], part: Range<usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (i, page) in bytes[part.clone()].chunks(PAGE).enumerate() {
        if page == &ZEROS[..page.len()] {
            continue;
        }
        let start = part.start + i * PAGE;
        match runs.last_mut() {
            Some(last) if last.end == start => last.end += page.len(),
            _ => runs.push(start..start + page.len()),
        }
    }
    runs
}

/// The first pages, but for those of zeros.
fn head(bytes: &[u8]) -> Vec<Option<Box<[u8; PAGE]>>> {
    let pages = bytes[..bytes.len().min(COPIED)].as_chunks().0.iter();
    pages.map(|page| (*page != ZEROS).then(|| Box::new(*page))).collect()
}

/// A file in memory, as long as `bytes`, that has some parts of them, but for pages of zeros.
fn file(bytes: &[u8], parts: &[Range<usize>]) -> Result<OwnedFd, rustix::io::Errno> {
    let fd = memfd_create("ingle-image", MemfdFlags::CLOEXEC)?;
    ftruncate(&fd, bytes.len() as u64)?;
    for run in parts.iter().flat_map(|part| pages_in_use(bytes, part.clone())) {
        let mut at = run.start as u64;
        let mut rest = &bytes[run];
        while !rest.is_empty() {
            let written = rustix::io::pwrite(&fd, rest, at)?;
            rest = &rest[written..];
            at += written as u64;
        }
    }
    Ok(fd)
}

impl Before {
    /// Where the picture began in the driver's memory.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        self.length
    }
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
        // Before anything is copied.
        let charge = Arc::new(pool.reserve(MemoryUse::Image, bytes.len() as u64)?);
        let head = head(bytes);
        let mapped = head.len() * PAGE..bytes.len();
        let fd = file(bytes, std::slice::from_ref(&mapped))?;
        let layer = Layer::new(fd, bytes.len(), charge.bytes());
        layer.paid_by(&charge);
        let mut parts = Parts::default();
        parts.push(mapped, &layer);
        Self::of(head, parts, component, base, bytes.len() as u64, None, pool)
    }

    /// The next picture of a memory over which the last one lies. `own` are the pages beyond its first ones, counted from these on, that
    /// changed since; of the others nothing is copied. None if so much changed that a whole picture is as good.
    pub fn capture_changes(
        component: ComponentHash,
        before: &Before,
        bytes: &[u8],
        own: &[u32],
        pool: &MemoryPool,
    ) -> Result<Option<Self>, CaptureError> {
        let head = head(bytes);
        let (from, grown) = (head.len() * PAGE, before.length as usize);
        if grown > bytes.len() || grown < COPIED {
            return Ok(None);
        }
        let mut changed: BTreeSet<usize> =
            own.iter().map(|page| (from + *page as usize * PAGE) / PIECE).collect();
        changed.extend(grown / PIECE..bytes.len().div_ceil(PIECE));
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for piece in &changed {
            let piece = (piece * PIECE).max(from)..((piece + 1) * PIECE).min(bytes.len());
            match ranges.last_mut() {
                Some(last) if last.end == piece.start => last.end = piece.end,
                _ if piece.is_empty() => {}
                _ => ranges.push(piece),
            }
        }
        let new: usize = ranges.iter().map(Range::len).sum();
        if new > bytes.len() / 2 {
            return Ok(None);
        }
        let charge = Arc::new(pool.reserve(MemoryUse::Image, new as u64)?);
        let layer = Layer::new(file(bytes, &ranges)?, bytes.len(), charge.bytes());
        layer.paid_by(&charge);
        let parts = before.parts.overlaid(&ranges, &layer);
        // A layer is held for the last of its bytes that shows.
        if parts.count() > MAX_PARTS || parts.charged() > 2 * bytes.len() as u64 {
            return Ok(None);
        }
        // Whether the first pages changed is known to nobody.
        changed.extend(0..COPIED.div_ceil(PIECE));
        let before_this = Some((before.pieces.clone(), changed));
        let length = bytes.len() as u64;
        Self::of(head, parts, component, before.base, length, before_this, pool).map(Some)
    }

    /// A picture that was taken elsewhere and put into files, piece by piece: for each piece the file that has it, at its offset. The
    /// files must not change any more.
    pub fn from_layers(
        component: ComponentHash,
        base: u64,
        length: u64,
        pieces: &[Arc<Layer>],
        pool: &MemoryPool,
    ) -> Result<Self, CaptureError> {
        let invalid = || CaptureError::Kernel(rustix::io::Errno::INVAL);
        let size = usize::try_from(length).map_err(|_| invalid())?;
        // Whoever lays it, or asks where it ends, must find it to be whole pages of a 32-bit memory.
        let is_in_memory = base.checked_add(length).is_some_and(|end| end <= MEMORY_END);
        let is_aligned = base.is_multiple_of(PAGE as u64) && size.is_multiple_of(PAGE);
        if !is_in_memory || !is_aligned || size.div_ceil(PIECE) != pieces.len() {
            return Err(invalid());
        }
        let mut all = Parts::default();
        for (number, layer) in pieces.iter().enumerate() {
            let piece = number * PIECE..((number + 1) * PIECE).min(size);
            if rustix::fs::fstat(layer.fd())?.st_size.cast_unsigned() < piece.end as u64 {
                return Err(invalid());
            }
            all.push(piece, layer);
        }
        let mut first = vec![0; size.min(COPIED)];
        all.read_at(&mut first, 0)?;
        let head = head(&first);
        let mut parts = Parts::default();
        for Part { bytes, layer } in all.iter() {
            parts.push(bytes.start.max(head.len() * PAGE)..bytes.end, layer);
        }
        Self::of(head, parts, component, base, length, None, pool)
    }

    fn of(
        head: Vec<Option<Box<[u8; PAGE]>>>,
        parts: Parts,
        component: ComponentHash,
        base: u64,
        length: u64,
        before: Option<(Hashes, BTreeSet<usize>)>,
        pool: &MemoryPool,
    ) -> Result<Self, CaptureError> {
        let (pieces, _charges) = (Hashes::default(), parts.charge(pool)?);
        let inner = Inner { head, parts, base, length, component, pieces, before, _charges };
        Ok(Self(Arc::new(inner)))
    }

    /// What the next picture needs of this one.
    pub fn before(&self) -> Before {
        let Inner { parts, base, length, pieces, .. } = &*self.0;
        Before { parts: parts.clone(), base: *base, length: *length, pieces: pieces.clone() }
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
        // The first pages are in no file, or nobody knows.
        self.0.parts.read_at(buffer, start)?;
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
            let known = self.0.before.as_ref().and_then(|(before, changed)| {
                let same = !changed.contains(&piece);
                before.get()?.get(piece).copied().filter(|_| same)
            });
            if let Some(known) = known {
                pieces.push(known);
                continue;
            }
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
            None => self.0.parts.at(number.checked_mul(PAGE)?)?.layer.page(number),
        }
    }

    /// Where all but the first pages are: files to map, each at the part's offset.
    pub fn parts(&self) -> &Parts {
        &self.0.parts
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
        let layer = &image.parts().at(COPIED).unwrap().layer;
        let blocks = rustix::fs::fstat(layer.fd()).unwrap().st_blocks as usize * 512;
        assert_eq!(blocks, 3 * PAGE);
        let mut back = vec![9; bytes.len() - COPIED];
        image.parts().read_at(&mut back, COPIED).unwrap();
        assert!(back == bytes[COPIED..]);
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
        let layer = Layer::new(file.into(), bytes.len(), image.length());
        let layers = vec![layer; pieces.len()];
        let there =
            |layers| Image::from_layers(component, image.base(), image.length(), layers, &pool);
        assert!(there(&layers[1..]).is_err(), "each piece is somewhere");
        let there = there(&layers).unwrap();
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

    /// All bytes of an image.
    fn bytes(image: &Image) -> Vec<u8> {
        let (mut all, mut piece) = (Vec::new(), Vec::new());
        for number in 0..image.pieces().unwrap().len() {
            image.read_piece(number, &mut piece).unwrap();
            all.extend_from_slice(&piece);
        }
        all
    }

    #[test]
    fn the_next_picture_holds_what_changed_and_knows_the_rest() {
        let pool = MemoryPool::new(ByteSize(1 << 30));
        let component = ComponentHash::of(b"job");
        let mut memory = vec![3; 20 * PIECE];
        let first = Image::capture(component, PAGE as u64, &memory, &pool).unwrap();
        let told = first.pieces().unwrap();
        let whole = pool.usage().total();
        // In the first pages; a byte; a page that becomes zero; and it grows by a piece and a half.
        memory[7] = 1;
        memory[5 * PIECE + 17] = 2;
        memory[8 * PIECE..8 * PIECE + PAGE].fill(0);
        memory.resize(20 * PIECE + 3 * PIECE / 2, 4);
        let own = [5 * PIECE, 8 * PIECE].map(|at| ((at - COPIED) / PAGE) as u32);
        let next = |own: &[u32]| {
            Image::capture_changes(component, &first.before(), &memory, own, &pool).unwrap()
        };
        let second = next(&own).unwrap();
        assert!(bytes(&second) == memory);
        assert!(bytes(&first)[5 * PIECE..] == vec![3; 15 * PIECE]);
        assert_eq!(pool.usage().total() - whole, (2 * PIECE + 3 * PIECE / 2) as u64);
        assert_eq!(second.parts().count(), 6, "two pieces amid others, and the end");
        let fresh = Image::capture(component, PAGE as u64, &memory, &pool).unwrap();
        assert_eq!(second.pieces().unwrap(), fresh.pieces().unwrap());
        assert_eq!(second.pieces().unwrap()[6..8], told[6..8]);
        assert!(
            fresh.head().iter().map(Option::is_some).eq(second.head().iter().map(Option::is_some))
        );
        drop(first);
        assert!(bytes(&second) == memory, "it needs what the first one had");
    }

    #[test]
    fn a_picture_of_which_most_changed_or_in_too_many_parts_is_taken_whole() {
        let pool = MemoryPool::new(ByteSize(1 << 30));
        let component = ComponentHash::of(b"job");
        let pieces = 2 * MAX_PARTS + 4;
        let memory = vec![3; pieces * PIECE];
        let first = Image::capture(component, 0, &memory, &pool).unwrap();
        let next = |changed: &[usize]| {
            let own: Vec<u32> =
                changed.iter().map(|piece| ((piece * PIECE - COPIED) / PAGE) as u32).collect();
            Image::capture_changes(component, &first.before(), &memory, &own, &pool).unwrap()
        };
        assert!(next(&[]).is_some_and(|image| image.parts().count() == 1));
        let half: Vec<usize> = (2..pieces / 2 + 4).collect();
        assert!(next(&half).is_none());
        let scattered: Vec<usize> = (2..pieces).step_by(4).take(MAX_PARTS / 2 - 1).collect();
        assert!(next(&scattered).is_some());
        let scattered: Vec<usize> = (2..pieces).step_by(3).take(MAX_PARTS / 2 + 1).collect();
        assert!(next(&scattered).is_none());
        assert_eq!(pool.usage().total(), memory.len() as u64, "what wasn't taken isn't charged");
        let short = Image::capture(component, 0, &memory[..COPIED / 2], &pool).unwrap();
        let next = Image::capture_changes(component, &short.before(), &memory, &[], &pool);
        assert!(next.unwrap().is_none(), "nothing of it lies over the memory");
    }

    #[test]
    fn layers_that_hold_much_that_nobody_sees_are_given_up() {
        let pool = MemoryPool::new(ByteSize(1 << 30));
        let component = ComponentHash::of(b"job");
        let memory = vec![3; 12 * PIECE];
        let mut image = Image::capture(component, 0, &memory, &pool).unwrap();
        // Each of these layers shows in one piece that the others leave alone.
        let mut taken = 0;
        let own = |piece: usize| ((piece * PIECE - COPIED) / PAGE) as u32;
        for round in 0..7 {
            let changed: Vec<u32> = [2, 3, 4, 5 + round].map(own).to_vec();
            let next = Image::capture_changes(component, &image.before(), &memory, &changed, &pool);
            let Some(next) = next.unwrap() else { break };
            (image, taken) = (next, round + 1);
            assert!(pool.usage().total() <= 2 * memory.len() as u64);
        }
        assert_eq!(taken, 3, "of 4 pieces each, over 12");
    }
}
