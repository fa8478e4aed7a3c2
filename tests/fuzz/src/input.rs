//! Bytes read as numbers, texts and choices. What isn't there any more reads as zeros: every input means something.

/// The bytes that are left.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Less than `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Mostly small, as ids and places are; sometimes anything.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::from_le_bytes(self.array()),
            254 => u64::MAX - u64::from(self.byte()),
            253 => u64::from(u32::MAX) - u64::from(self.byte()),
            252 => u64::from(u32::from_le_bytes(self.array())),
            251 => 1 << (self.byte() % 64),
            250 => u64::from(u16::from_le_bytes(self.array())),
            small => u64::from(small) % 16,
        }
    }

    /// As [`Input::number`].
    pub fn id(&mut self) -> u32 {
        self.number() as u32
    }

    /// So many bytes at most, of those that are left.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.bytes(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// Bytes behind their number.
    pub fn some_bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        self.bytes(length)
    }

    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.some_bytes()).into_owned()
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
