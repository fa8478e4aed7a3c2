//! Records that one table doesn't hold, cut by their keys' hashes into parts that are looked at one after the other.
//!
//! As in a Grace hash join (Kitsuregawa, Tanaka, Moto-oka, 1983): each record is written and read once, in whatever order, and nothing is
//! sorted. A part that is still too large is cut again, by other bits.

use crate::host;
use crate::task::Blocks;

/// How many parts a cut makes.
const PARTS: usize = 16;
/// How often a part may be cut: there is nothing left to cut it by then, or it is one key's.
const CUTS: u32 = 6;
/// What is gathered of a part before it goes to the host.
const BLOCK: usize = 64 << 10;

/// Which bits of a hash tell parts apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut(u32);

impl Cut {
    /// That of a task's whole input.
    pub(crate) const FIRST: Cut = Cut(0);

    /// That of a part of this one; none if there should be no more.
    pub(crate) fn next(self) -> Option<Cut> {
        (self.0 + 1 < CUTS).then_some(Cut(self.0 + 1))
    }

    #[inline]
    fn part(self, hash: u32) -> usize {
        // Partitions and tables take bits as they are: these are others, by the end of 32-bit MurmurHash3 (`fmix32`).
        let mut bits = (hash ^ hash >> 16).wrapping_mul(0x85EB_CA6B);
        bits = (bits ^ bits >> 13).wrapping_mul(0xC2B2_AE35);
        (bits >> (self.0 * PARTS.ilog2())) as usize % PARTS
    }
}

/// The writing side.
pub(crate) struct Parts {
    cut: Cut,
    parts: Box<[Writing; PARTS]>,
}

#[derive(Default)]
struct Writing {
    buffer: Vec<u8>,
    run: Option<u32>,
}

impl Parts {
    pub(crate) fn new(cut: Cut) -> Parts {
        Parts { cut, parts: Default::default() }
    }

    /// Adds a record, which `encode` appends.
    #[inline]
    pub(crate) fn push_with(&mut self, hash: u32, encode: impl FnOnce(&mut Vec<u8>)) {
        let part = &mut self.parts[self.cut.part(hash)];
        encode(&mut part.buffer);
        if part.buffer.len() >= BLOCK {
            part.flush();
        }
    }

    /// All parts; what has as many records of the same keys is cut in the same way.
    pub(crate) fn finish(self) -> impl DoubleEndedIterator<Item = Part> {
        <[Writing; PARTS]>::into_iter(*self.parts).map(Writing::finish)
    }
}

impl Writing {
    fn flush(&mut self) {
        let run = *self.run.get_or_insert_with(host::create_run);
        host::write_run(run, &self.buffer);
        self.buffer.clear();
        // One large record doesn't keep its room.
        self.buffer.shrink_to(4 * BLOCK);
    }

    fn finish(mut self) -> Part {
        if self.run.is_some() && !self.buffer.is_empty() {
            self.flush();
        }
        match self.run {
            Some(run) => {
                Part { buffer: Vec::new(), run: Some((run, Blocks::of(host::open_run(run)))) }
            }
            None => Part { buffer: self.buffer, run: None },
        }
    }
}

/// The blocks of a part. Its memory is given back when it is dropped.
pub(crate) struct Part {
    /// All of it, if it is small.
    buffer: Vec<u8>,
    run: Option<(u32, Blocks)>,
}

impl Part {
    pub(crate) fn is_empty(&self) -> bool {
        self.run.is_none() && self.buffer.is_empty()
    }
}

impl Iterator for Part {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        match &mut self.run {
            Some((_, blocks)) => blocks.next(),
            None => (!self.buffer.is_empty()).then(|| std::mem::take(&mut self.buffer)),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some((run, blocks)) = self.run.take() {
            drop(blocks);
            host::drop_run(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::hash_of;

    #[test]
    fn each_cut_makes_parts_of_about_the_same_size_of_what_others_left_together() {
        let together = |cut: Cut, hashes: &[u32]| {
            let mut parts = vec![Vec::new(); PARTS];
            hashes.iter().for_each(|&hash| parts[cut.part(hash)].push(hash));
            let even = hashes.len() / PARTS;
            assert!(parts.iter().all(|part| part.len().abs_diff(even) < even / 3), "{cut:?}");
            parts.swap_remove(3)
        };
        let mut hashes: Vec<u32> = (0u64..4_000_000).map(|key| hash_of(&key)).collect();
        // One partition of seven.
        hashes.retain(|&hash| (u64::from(hash) * 7) >> 32 == 2);
        let (mut cut, mut left) = (Some(Cut::FIRST), hashes);
        while let Some(this) = cut.filter(|_| left.len() > 2_000) {
            left = together(this, &left);
            cut = this.next();
        }
        assert!(left.len() < 2_000);
    }
}
