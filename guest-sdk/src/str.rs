//! A string that shares its block.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::iter::FusedIterator;
use std::ops::{Bound, Deref, Range, RangeBounds};
use std::rc::Rc;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that many records share.
pub(crate) type Block = Rc<Vec<u8>>;

/// A cheap, clonable string: a range of a shared block.
///
/// A line of [`text_file`](crate::Context::text_file) is one, and so are its [`words`](Str::words): cutting a text up
/// allocates nothing. A `Str` keeps its whole block alive; `String::from` makes it independent.
///
/// It compares, sorts and hashes as `str` does.
#[derive(Clone)]
pub struct Str {
    /// Never changed once a `Str` shares it.
    block: Block,
    /// Within the block, and valid UTF-8 there.
    start: usize,
    len: usize,
}

impl Str {
    /// A part of a text that is all valid.
    ///
    /// Private on purpose: `start` and `len` must come from `str` slicing of this very block.
    fn within(block: &Block, start: usize, len: usize) -> Str {
        Str { block: Rc::clone(block), start, len }
    }

    fn of(text: String) -> Str {
        let block = text.into_bytes();
        Str { len: block.len(), start: 0, block: Rc::new(block) }
    }

    /// The string itself. Costs nothing; a `Str` derefs to it as well.
    ///
    /// ```
    /// use ingle::Str;
    ///
    /// let line = Str::from("to be");
    /// assert_eq!(line.as_str(), "to be");
    /// assert!(line.starts_with("to"));
    /// ```
    pub fn as_str(&self) -> &str {
        let bytes = &self.block[self.start..self.start + self.len];
        // SAFETY: every constructor takes `start` and `len` from a valid `str` within this block, and a block that is
        // shared never changes: nothing hands out `&mut` to it.
        #[allow(unsafe_code)]
        unsafe {
            std::str::from_utf8_unchecked(bytes)
        }
    }

    /// Its first 12 bytes, or all of it padded with zeros, as numbers whose lowest bytes come first. Of a short one no length is asked for in
    /// a branch, which could not be foreseen.
    #[inline(always)]
    pub(crate) fn head(&self) -> (u64, u32) {
        const LEN: usize = 12;
        const MASKS: [(u64, u32); LEN + 1] = {
            let mut masks = [(u64::MAX, u32::MAX); LEN + 1];
            let mut len = 0;
            while len < LEN {
                let bits = !(u128::MAX << (8 * len));
                masks[len] = (bits as u64, (bits >> 64) as u32);
                len += 1;
            }
            masks
        };
        // What follows it in the block is masked away; only the block's last strings have nothing behind.
        let (head, last) = match self.block.get(self.start..).and_then(<[u8]>::first_chunk::<LEN>) {
            Some(bytes) => numbers(bytes),
            None => {
                let mut padded = [0; LEN];
                padded.iter_mut().zip(self.as_bytes()).for_each(|(to, from)| *to = *from);
                numbers(&padded)
            }
        };
        let (first, rest) = MASKS[self.len.min(LEN)];
        (head & first, last & rest)
    }

    /// A part of this string, sharing its block: nothing is copied.
    ///
    /// ```
    /// use ingle::Str;
    ///
    /// let line = Str::from("to be");
    /// assert_eq!(line.slice(3..), "be");
    /// ```
    ///
    /// # Panics
    ///
    /// As slicing a `str` does: where the range lies outside or cuts a character.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Str {
        let start = match range.start_bound() {
            Bound::Included(&at) => at,
            Bound::Excluded(&at) => at + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&at) => at + 1,
            Bound::Excluded(&at) => at,
            Bound::Unbounded => self.len,
        };
        let part = &self.as_str()[start..end];
        Str::within(&self.block, self.start + start, part.len())
    }

    /// The words of this string, cut at ASCII whitespace, sharing its block: nothing is copied. No word is empty.
    ///
    /// ```
    /// use ingle::Str;
    ///
    /// let words: Vec<Str> = Str::from(" to  be ").words().collect();
    /// assert_eq!(words, ["to", "be"]);
    /// ```
    pub fn words(&self) -> Words {
        Words { text: self.clone(), at: 0 }
    }

    /// The fields of this string, cut at each `separator`, sharing its block: nothing is copied. There is always one at least; fields may
    /// be empty.
    ///
    /// ```
    /// use ingle::Str;
    ///
    /// let fields: Vec<Str> = Str::from("ann;;31").fields(';').collect();
    /// assert_eq!(fields, ["ann", "", "31"]);
    /// assert_eq!(Str::from("").fields(';').count(), 1);
    /// ```
    pub fn fields(&self, separator: char) -> Fields {
        Fields { text: self.clone(), separator, at: Some(0) }
    }
}

/// Eight bytes and four as numbers.
#[inline(always)]
pub(crate) fn numbers(bytes: &[u8; 12]) -> (u64, u32) {
    let first = bytes.first_chunk().copied().unwrap_or_default();
    let last = bytes.last_chunk().copied().unwrap_or_default();
    (u64::from_le_bytes(first), u32::from_le_bytes(last))
}

/// The words of a [`Str`]; made by [`Str::words`].
#[derive(Clone, Debug)]
pub struct Words {
    text: Str,
    at: usize,
}

/// Where the next word lies, from `at` on.
fn next_word(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = bytes.get(at..)?;
    let start = at + rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let word = bytes.get(start..)?;
    let len = word.iter().position(u8::is_ascii_whitespace).unwrap_or(word.len());
    Some(start..start + len)
}

impl Iterator for Words {
    type Item = Str;

    fn next(&mut self) -> Option<Str> {
        // ASCII whitespace is one byte and never part of a longer character: the cuts are at boundaries.
        let word = next_word(self.text.as_bytes(), self.at)?;
        self.at = word.end;
        Some(Str::within(&self.text.block, self.text.start + word.start, word.len()))
    }

    /// Words' lengths can't be foreseen, so no branch asks for each byte: whitespace is found for 64 bytes at a time.
    fn fold<A, F: FnMut(A, Str) -> A>(self, init: A, mut f: F) -> A {
        let Str { block, start, .. } = &self.text;
        let bytes = self.text.as_bytes();
        let (mut result, mut begin) = (init, self.at);
        for (number, chunk) in bytes[self.at..].chunks(u64::BITS as usize).enumerate() {
            let offset = self.at + number * u64::BITS as usize;
            let mut spaces = spaces(chunk);
            while spaces != 0 {
                let end = offset + spaces.trailing_zeros() as usize;
                spaces &= spaces - 1;
                // Other control characters are rare, and so are words without a letter.
                if !bytes[end].is_ascii_whitespace() {
                    continue;
                }
                if begin < end {
                    result = f(result, Str::within(block, start + begin, end - begin));
                }
                begin = end + 1;
            }
        }
        if begin < bytes.len() {
            result = f(result, Str::within(block, start + begin, bytes.len() - begin));
        }
        result
    }
}

/// Which of at most 64 bytes are spaces or control characters: a bit for each.
fn spaces(chunk: &[u8]) -> u64 {
    let (words, rest) = chunk.as_chunks::<8>();
    let mut mask = 0;
    let mut shift = 0;
    for word in words {
        mask |= spaces_of(*word) << shift;
        shift += 8;
    }
    let mut last = [u8::MAX; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    mask | spaces_of(last).checked_shl(shift).unwrap_or(0)
}

/// As [`spaces`], of eight bytes as one number.
fn spaces_of(bytes: [u8; 8]) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(bytes);
    // The highest bit of each byte: whether its lower ones come to more than a space, or it is a part of a longer character.
    let others = ((word & (EACH * 0x7F)) + EACH * (0x7F - b' ' as u64)) | word;
    // One bit of each byte, gathered in the highest one by a multiplication: no two of its terms meet.
    ((!others >> 7) & EACH).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

impl FusedIterator for Words {}

/// The fields of a [`Str`]; made by [`Str::fields`].
#[derive(Clone, Debug)]
pub struct Fields {
    text: Str,
    separator: char,
    /// Where the next field begins; none after the last.
    at: Option<usize>,
}

impl Iterator for Fields {
    type Item = Str;

    fn next(&mut self) -> Option<Str> {
        let start = self.at?;
        let rest = self.text.get(start..)?;
        let len = rest.find(self.separator);
        self.at = len.map(|len| start + len + self.separator.len_utf8());
        Some(Str::within(&self.text.block, self.text.start + start, len.unwrap_or(rest.len())))
    }
}

impl FusedIterator for Fields {}

/// A block of text that is known to be valid; its lines share it.
pub(crate) struct Text {
    block: Block,
    at: usize,
}

impl Text {
    pub(crate) fn new(text: String) -> Text {
        Text { block: Rc::new(text.into_bytes()), at: 0 }
    }
}

impl Iterator for Text {
    type Item = Str;

    /// The next line without its `\n` or `\r\n`.
    fn next(&mut self) -> Option<Str> {
        let rest = self.block.get(self.at..).filter(|rest| !rest.is_empty())?;
        // A `\r` belongs to the line's end only before a `\n`, as in `str::lines`.
        let (len, step) = match memchr::memchr(b'\n', rest) {
            Some(end) => {
                let line = &rest[..end];
                (line.strip_suffix(b"\r").unwrap_or(line).len(), end + 1)
            }
            None => (rest.len(), rest.len()),
        };
        let start = self.at;
        self.at += step;
        // `\n` and `\r` are one byte and never part of a longer character: the cuts are at boundaries.
        Some(Str::within(&self.block, start, len))
    }

    fn fold<A, F: FnMut(A, Str) -> A>(self, init: A, mut f: F) -> A {
        let mut result = init;
        for line in self {
            result = f(result, line);
        }
        result
    }
}

thread_local! {
    /// The block that records are being decoded from: a `Str` within it shares it.
    static CURRENT: RefCell<Option<Block>> = const { RefCell::new(None) };
}

/// Says which block is decoded from now on.
pub(crate) fn decode_from(block: &Block) {
    CURRENT.with_borrow_mut(|current| match current {
        Some(known) if Rc::ptr_eq(known, block) => {}
        _ => *current = Some(Rc::clone(block)),
    });
}

/// A `Str` of `text` that shares the current block if it lies in it.
fn share(text: &str) -> Str {
    CURRENT.with_borrow(|current| {
        let shared = current.as_ref().and_then(|block| {
            let start = (text.as_ptr() as usize).checked_sub(block.as_ptr() as usize)?;
            // The block is alive, so what lies at an address within it is a part of it.
            (start + text.len() <= block.len()).then(|| Str::within(block, start, text.len()))
        });
        shared.unwrap_or_else(|| Str::of(text.to_owned()))
    })
}

impl<'de> Deserialize<'de> for Str {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Str, D::Error> {
        struct Sharing;

        impl<'de> Visitor<'de> for Sharing {
            type Value = Str;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Str, E> {
                Ok(share(text))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Str, E> {
                Ok(Str::from(text))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Str, E> {
                Ok(Str::from(text))
            }
        }

        deserializer.deserialize_str(Sharing)
    }
}

impl Serialize for Str {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self
    }
}

impl Default for Str {
    fn default() -> Str {
        Str::from("")
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Str {
        Str::of(text.to_owned())
    }
}

impl From<String> for Str {
    fn from(text: String) -> Str {
        Str::of(text)
    }
}

impl From<Str> for String {
    fn from(text: Str) -> String {
        text.as_str().to_owned()
    }
}

/// Lines of a file become a set of strings: `ctx.text_file(path)?.collect()?.into_iter().collect()`.
impl<S: BuildHasher + Default> FromIterator<Str> for HashSet<String, S> {
    fn from_iter<I: IntoIterator<Item = Str>>(items: I) -> Self {
        items.into_iter().map(String::from).collect()
    }
}

impl PartialEq for Str {
    fn eq(&self, other: &Str) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Str {}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Str {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl PartialOrd for Str {
    fn partial_cmp(&self, other: &Str) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Str {
    fn cmp(&self, other: &Str) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_wherever_they_lie() {
        let mut text = String::new();
        for n in 0..500 {
            let gaps = [" ", "\t", "  ", "\r\n", "\u{b}", "\u{1}x ", " \u{0} ", "\u{a0}", "\u{c}"];
            text.push_str(gaps[n % gaps.len()]);
            text.push_str(&"wörd\u{7f}!".repeat(n % 13)[..]);
        }
        let text = Str::from(text);
        for start in (0..text.len()).filter(|at| text.is_char_boundary(*at)).step_by(7) {
            let part = text.slice(start..);
            let expected: Vec<&str> = part.split_ascii_whitespace().collect();
            let mut folded = Vec::new();
            part.words().for_each(|word| folded.push(word));
            assert_eq!(folded, expected);
            let mut words = part.words();
            let first = words.next();
            let mut rest: Vec<Str> = first.into_iter().collect();
            words.for_each(|word| rest.push(word));
            assert_eq!(rest, expected);
        }
    }
}
