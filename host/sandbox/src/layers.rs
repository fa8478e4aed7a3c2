//! The files that an image's bytes lie in: what didn't change since the image before is where that one has it.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};

use ingle_core::memory::{MemoryPool, MemoryUse, OutOfMemory, Reservation};
use parking_lot::Mutex;

use crate::written::View;

/// A file with bytes of images, each at its offset in the image. It doesn't change any more.
pub struct Layer {
    fd: OwnedFd,
    length: usize,
    /// What it is charged with, once, as long as any image needs it.
    bytes: u64,
    charge: Mutex<Weak<Reservation>>,
    /// Made when a page is first put back.
    view: OnceLock<Option<View>>,
}

impl Layer {
    /// A file so long, of which so many bytes are charged.
    pub fn new(fd: OwnedFd, length: usize, bytes: u64) -> Arc<Self> {
        Arc::new(Self { fd, length, bytes, charge: Mutex::default(), view: OnceLock::new() })
    }

    /// Who holds this has paid for it.
    pub fn paid_by(&self, charge: &Arc<Reservation>) {
        *self.charge.lock() = Arc::downgrade(charge);
    }

    /// The file.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Its charge, which others may have already.
    fn charge(&self, pool: &MemoryPool) -> Result<Arc<Reservation>, OutOfMemory> {
        let mut charge = self.charge.lock();
        if let Some(charged) = charge.upgrade() {
            return Ok(charged);
        }
        let charged = Arc::new(pool.reserve(MemoryUse::Image, self.bytes)?);
        *charge = Arc::downgrade(&charged);
        Ok(charged)
    }

    /// Where page `number` is, as long as the layer lives; none if there is no such page, or the file can't be mapped.
    pub fn page(&self, number: usize) -> Option<*const u8> {
        self.view.get_or_init(|| View::new(self.fd(), self.length).ok()).as_ref()?.page(number)
    }

    /// Fills a buffer from an offset on.
    pub fn read_at(&self, mut buffer: &mut [u8], mut at: u64) -> Result<(), rustix::io::Errno> {
        while !buffer.is_empty() {
            let n = rustix::io::pread(&self.fd, &mut *buffer, at)?;
            if n == 0 {
                buffer.fill(0);
                break;
            }
            buffer = &mut buffer[n..];
            at += n as u64;
        }
        Ok(())
    }
}

/// Bytes of an image that lie in one layer.
#[derive(Clone)]
pub struct Part {
    /// Offsets in the image, and in the layer.
    pub bytes: Range<usize>,
    pub layer: Arc<Layer>,
}

/// The parts of an image, without gaps.
#[derive(Clone, Default)]
pub struct Parts(Vec<Part>);

impl Parts {
    /// Adds a part behind the others, which end where it begins.
    pub fn push(&mut self, bytes: Range<usize>, layer: &Arc<Layer>) {
        match self.0.last_mut() {
            _ if bytes.is_empty() => {}
            Some(last) if last.bytes.end == bytes.start && Arc::ptr_eq(&last.layer, layer) => {
                last.bytes.end = bytes.end;
            }
            _ => self.0.push(Part { bytes, layer: layer.clone() }),
        }
    }

    /// The same parts but for some bytes, in order, that are in another layer; those may begin where the parts end.
    pub fn overlaid(&self, changed: &[Range<usize>], layer: &Arc<Layer>) -> Self {
        let mut overlaid = Self::default();
        let mut changed = changed.iter().peekable();
        for part in &self.0 {
            // What changed before may reach into this part, or beyond it.
            let mut at = overlaid.end().map_or(part.bytes.start, |end| end.max(part.bytes.start));
            while let Some(next) = changed.next_if(|next| next.start < part.bytes.end) {
                overlaid.push(at..next.start, &part.layer);
                overlaid.push(next.clone(), layer);
                at = next.end;
            }
            overlaid.push(at..part.bytes.end, &part.layer);
        }
        for next in changed {
            overlaid.push(next.clone(), layer);
        }
        overlaid
    }

    fn end(&self) -> Option<usize> {
        self.0.last().map(|last| last.bytes.end)
    }

    /// How many mappings they take.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Part> {
        self.0.iter()
    }

    /// The part that a byte is in.
    pub fn at(&self, offset: usize) -> Option<&Part> {
        let after = self.0.partition_point(|part| part.bytes.end <= offset);
        self.0.get(after).filter(|part| part.bytes.contains(&offset))
    }

    /// Fills a buffer with what lies from an offset on; bytes of no part stay what they are.
    pub fn read_at(&self, buffer: &mut [u8], start: usize) -> Result<(), rustix::io::Errno> {
        let first = self.0.partition_point(|part| part.bytes.end <= start);
        let end = start + buffer.len();
        for part in self.0.iter().skip(first).take_while(|part| part.bytes.start < end) {
            let (from, to) = (part.bytes.start.max(start), part.bytes.end.min(end));
            if let Some(buffer) = buffer.get_mut(from - start..to - start) {
                part.layer.read_at(buffer, from as u64)?;
            }
        }
        Ok(())
    }

    fn layers(&self) -> Vec<&Arc<Layer>> {
        let mut layers: Vec<&Arc<Layer>> = Vec::new();
        for part in &self.0 {
            if !layers.iter().any(|known| Arc::ptr_eq(known, &part.layer)) {
                layers.push(&part.layer);
            }
        }
        layers
    }

    /// What all layers are charged with, those bytes of them included that later ones lie over.
    pub fn charged(&self) -> u64 {
        self.layers().into_iter().map(|layer| layer.bytes).sum()
    }

    /// Charges all layers, each once.
    pub fn charge(&self, pool: &MemoryPool) -> Result<Vec<Arc<Reservation>>, OutOfMemory> {
        self.layers().into_iter().map(|layer| layer.charge(pool)).collect()
    }
}

#[cfg(test)]
mod tests {
    use ingle_core::size::ByteSize;
    use proptest::prelude::*;

    use super::*;

    fn layer(length: usize, bytes: u64) -> Arc<Layer> {
        Layer::new(tempfile::tempfile().unwrap().into(), length, bytes)
    }

    /// Which of the layers each byte is in.
    fn owners(parts: &Parts, layers: &[Arc<Layer>], length: usize) -> Vec<Option<usize>> {
        let owner = |offset| {
            let part = parts.at(offset)?;
            layers.iter().position(|layer| Arc::ptr_eq(layer, &part.layer))
        };
        (0..length).map(owner).collect()
    }

    proptest! {
        #[test]
        fn what_is_overlaid_last_is_seen(
            overlays in prop::collection::vec(prop::collection::btree_set(0usize..40, 0..12), 1..6),
            growth in prop::collection::vec(0usize..5, 6),
        ) {
            let mut length = 20;
            let mut layers = vec![layer(100, 1)];
            let mut parts = Parts::default();
            parts.push(0..length, &layers[0]);
            let mut model = vec![Some(0); length];
            for (cuts, growth) in overlays.into_iter().zip(growth) {
                let before = length;
                length += growth;
                // Pairs of cuts are changed bytes, and so is what it grew by.
                let cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < before).collect();
                let mut changed: Vec<Range<usize>> =
                    cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
                if growth > 0 {
                    changed.push(before..length);
                }
                layers.push(layer(100, 1));
                let number = layers.len() - 1;
                parts = parts.overlaid(&changed, &layers[number]);
                model.resize(length, None);
                for range in &changed {
                    model[range.clone()].fill(Some(number));
                }
                prop_assert_eq!(&owners(&parts, &layers, length), &model);
                let gaps = parts.0.windows(2).filter(|two| two[0].bytes.end != two[1].bytes.start);
                prop_assert_eq!(gaps.count(), 0);
                let merged = parts.0.windows(2).all(|two| !Arc::ptr_eq(&two[0].layer, &two[1].layer));
                prop_assert!(merged, "neighbours in one layer are one part");
            }
        }
    }

    #[test]
    fn a_layer_is_charged_once_and_as_long_as_anybody_needs_it() {
        let pool = MemoryPool::new(ByteSize(100));
        let (first, second) = (layer(8, 70), layer(8, 20));
        let mut parts = Parts::default();
        parts.push(0..8, &first);
        let one = parts.charge(&pool).unwrap();
        let two = parts.overlaid(&[2..4, 6..8], &second).charge(&pool).unwrap();
        assert_eq!(pool.usage().total(), 90);
        drop(one);
        assert_eq!(pool.usage().total(), 90, "the second needs both");
        drop(two);
        assert_eq!(pool.usage().total(), 0);
        assert!(parts.charge(&pool).is_ok());
        let third = parts.overlaid(&[0..1, 3..4], &layer(8, 40));
        assert!(third.charge(&pool).is_err());
        assert_eq!(pool.usage().total(), 0);
    }
}
