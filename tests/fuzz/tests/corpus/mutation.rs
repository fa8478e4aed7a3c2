//! Changes of kept inputs, the same ones each time.

/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    127,
    128,
    255,
    1 << 15,
    u16::MAX as u64,
    i32::MAX as u64,
    u32::MAX as u64,
    1 << 32,
    i64::MAX as u64,
    u64::MAX,
];
/// Longer inputs find nothing else.
const MOST: usize = 64 << 10;

pub struct Mutations<'a> {
    corpus: &'a [Vec<u8>],
    chance: u64,
    input: Vec<u8>,
}

impl<'a> Mutations<'a> {
    pub fn new(name: &str, corpus: &'a [Vec<u8>]) -> Self {
        let seed = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let chance = name.bytes().fold(0xcbf2_9ce4_8422_2325, seed);
        Self { corpus, chance, input: Vec::new() }
    }

    /// splitmix64.
    fn number(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.number() % end.max(1) as u64) as usize
    }

    /// The next one.
    pub fn next(&mut self) -> &[u8] {
        let from = self.below(self.corpus.len());
        self.input.clear();
        self.input.extend_from_slice(&self.corpus[from]);
        for _ in 0..1 + self.below(4) {
            self.change();
        }
        self.input.truncate(MOST);
        &self.input
    }

    fn change(&mut self) {
        let length = self.input.len();
        let at = self.below(length + 1);
        match self.below(8) {
            0 => {
                let bit = 1 << self.below(8);
                self.input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
            }
            1 => {
                let with = self.number() as u8;
                self.input.iter_mut().skip(at).take(1).for_each(|byte| *byte = with);
            }
            // A number in any of its widths, or one of its neighbours.
            2 | 3 => {
                let edge = EDGES[self.below(EDGES.len())];
                let edge = edge.wrapping_add(self.below(3) as u64).wrapping_sub(1);
                let width = 1 << self.below(4);
                let bytes = edge.to_le_bytes();
                let place = self.input.iter_mut().skip(at).take(width);
                place.zip(bytes).for_each(|(place, byte)| *place = byte);
            }
            4 => self.input.truncate(at),
            5 => {
                let end = length.min(at + self.below(32));
                self.input.drain(at..end);
            }
            6 => {
                let bytes: Vec<u8> = (0..1 + self.below(16)).map(|_| self.number() as u8).collect();
                self.input.splice(at..at, bytes);
            }
            // A part of another one.
            _ => {
                let corpus = self.corpus;
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                let part = &other[from..other.len().min(from + self.below(256))];
                self.input.splice(at..at, part.iter().copied());
            }
        }
    }
}
