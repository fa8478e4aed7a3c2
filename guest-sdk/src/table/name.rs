//! What a table knows a key by: its hash, and its encoding or where that is.

use std::any::Any;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;

use crate::str::{Str, numbers};

/// The same in every task of every stage: partitions are cut by it.
const HASHER: FixedState = FixedState::with_seed(0x0001_A61E);

/// A key's hash: as long as tables keep it, so that an entry of a number lies in half of a cache line.
pub(crate) fn hash_of<K: Hash + 'static>(key: &K) -> u32 {
    match Name::of_word(key).or_else(|| Name::of_number(key)) {
        Some(name) => name.hash(),
        None => hash_of_other(key),
    }
}

/// Of a key that is neither a short word nor a number.
#[inline]
fn hash_of_other<K: Hash>(key: &K) -> u32 {
    (HASHER.hash_one(key) >> 32) as u32
}

/// What a table places a key by: that depends on the lower bits more than on those that chose the partition.
#[inline]
pub(super) fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The partition of a key, by the hash's highest bits.
pub(super) fn partition_of(hash: u32, partitions: usize) -> usize {
    ((u64::from(hash) * partitions as u64) >> u32::BITS) as usize
}

/// The partition in which a key's records lie.
pub(crate) fn place<K: Hash + 'static>(key: &K, partitions: usize) -> usize {
    partition_of(hash_of(key), partitions)
}

/// Encoded keys up to this length lie in their entry: a word, an id.
pub(super) const SHORT: usize = 11;
/// Stands for the length of a longer one.
const LONG: u8 = u8::MAX;

/// A key's encoding, if that is short, padded with zeros, and its length; else where it begins among others, and how long it is.
///
/// As numbers: they are copied and compared without a look at the length, which can't be foreseen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) first: u64,
    pub(super) rest: u32,
}

impl Name {
    pub(super) fn of(bytes: &[u8], start: usize) -> Name {
        let mut padded = [0; SHORT + 1];
        let Some(all) = padded.get_mut(..bytes.len()).filter(|all| all.len() <= SHORT) else {
            let first = (bytes.len() as u64) << u32::BITS | start as u64;
            return Name { first, rest: u32::from_le_bytes([0, 0, 0, LONG]) };
        };
        all.copy_from_slice(bytes);
        padded[SHORT] = bytes.len() as u8;
        let (first, rest) = numbers(&padded);
        Name { first, rest }
    }

    /// Of a key, with its hash. If it isn't short, `encode` has appended its encoding to `keys`.
    #[inline]
    pub(super) fn of_key<K: Hash + 'static>(
        key: &K,
        keys: &mut Vec<u8>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> (u32, Name) {
        if let Some(name) = Name::of_word(key).or_else(|| Name::of_number(key)) {
            return (name.hash(), name);
        }
        let start = keys.len();
        encode(keys);
        let name = Name::of(&keys[start..], start);
        if name.is_short() {
            keys.truncate(start);
        }
        (hash_of_other(key), name)
    }

    /// Of a key that is a word of a text, if it is short.
    #[inline(always)]
    fn of_word<K: 'static>(key: &K) -> Option<Name> {
        // The compiler knows what this comes to.
        let word: &Str = (key as &dyn Any).downcast_ref()?;
        if word.len() >= SHORT {
            return None;
        }
        let (first, rest) = word.head();
        // The encoding is a byte that says how long it is, then itself.
        let len = word.len() as u32;
        Some(Name {
            first: first << 8 | u64::from(len),
            rest: (len + 1) << 24 | rest << 8 | (first >> 56) as u32,
        })
    }

    /// Of a key that is a number, if that isn't very large.
    #[inline(always)]
    fn of_number<K: 'static>(key: &K) -> Option<Name> {
        let key: &dyn Any = key;
        // As they are encoded: negative ones between the others.
        let signed = |number: i64| (number << 1 ^ number >> 63) as u64;
        let number = if let Some(&number) = key.downcast_ref::<u64>() {
            number
        } else if let Some(&number) = key.downcast_ref::<u32>() {
            number.into()
        } else if let Some(&number) = key.downcast_ref::<i64>() {
            signed(number)
        } else if let Some(&number) = key.downcast_ref::<i32>() {
            signed(number.into())
        } else {
            return None;
        };
        // Eight bytes hold seven bits each, and one that says whether another follows.
        if number >> 56 != 0 {
            return None;
        }
        let mut first = number & 0x0FFF_FFFF | (number & 0x00FF_FFFF_F000_0000) << 4;
        first = first & 0x0000_3FFF_0000_3FFF | (first & 0x0FFF_C000_0FFF_C000) << 2;
        first = first & 0x007F_007F_007F_007F | (first & 0x3F80_3F80_3F80_3F80) << 1;
        let more = (u64::BITS - 1 - (number | 1).leading_zeros()) / 7;
        first |= 0x8080_8080_8080_8080 & ((1 << (8 * more)) - 1);
        Some(Name { first, rest: (more + 1) << 24 })
    }

    /// Of a short key, two rounds as MurmurHash3 ends by (`fmix64`), with the multipliers of Stafford's variant 13.
    #[inline]
    fn hash(self) -> u32 {
        let mut hash = self.first.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash = (hash ^ hash >> 32 ^ u64::from(self.rest) << 16).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((hash ^ hash >> 31) >> 32) as u32
    }

    pub(super) fn is_short(self) -> bool {
        self.rest < u32::from(LONG) << 24
    }

    pub(super) fn len(self) -> usize {
        match self.is_short() {
            true => (self.rest >> 24) as usize,
            false => (self.first >> u32::BITS) as usize,
        }
    }

    /// Where it begins, if it isn't short.
    pub(super) fn start(self) -> usize {
        self.first as u32 as usize
    }

    /// The encoding, which lies among `keys` if it isn't short.
    pub(super) fn bytes(self, keys: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append(keys, &mut bytes);
        bytes
    }

    /// The name of a key that lies elsewhere: now from `start` on.
    pub(super) fn moved(self, start: usize) -> Name {
        match self.is_short() {
            true => self,
            false => Name { first: self.first >> u32::BITS << u32::BITS | start as u64, ..self },
        }
    }

    /// Appends the encoding, which lies among `keys` if it isn't short.
    #[inline]
    pub(super) fn append(self, keys: &[u8], out: &mut Vec<u8>) {
        if !self.is_short() {
            return out.extend_from_slice(&keys[self.start()..][..self.len()]);
        }
        // More than that, and then less: the length can't be foreseen.
        let end = out.len() + self.len();
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.rest.to_le_bytes());
        out.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::codec;

    #[test]
    fn a_words_name_is_that_of_its_encoding() {
        let text = Str::from(
            "a bc être question: 12345678 1234567890 long enough, so that no word ends it",
        );
        for word in text.words().chain([Str::from(""), Str::from("end"), Str::from("1234567890")]) {
            let mut bytes = Vec::new();
            codec::encode(&word, &mut bytes).unwrap();
            let name = Name::of(&bytes, 0);
            assert!(name == Name::of_word(&word).unwrap(), "{word}");
            let mut again = Vec::new();
            name.append(&[], &mut again);
            assert_eq!(again, bytes);
        }
        assert!(Name::of_word(&Str::from("12345678901")).is_none());
        assert!(Name::of_word(&String::from("word")).is_none());
    }

    #[test]
    fn a_numbers_name_is_that_of_its_encoding() {
        fn check<K: codec::Record + Copy + std::fmt::Debug>(key: K, is_large: bool) {
            let mut bytes = Vec::new();
            codec::encode(&key, &mut bytes).unwrap();
            match Name::of_number(&key) {
                Some(name) => assert!(name == Name::of(&bytes, 0), "{key:?}"),
                None => assert!(is_large, "{key:?}"),
            }
        }
        for bit in 0..64 {
            for near in [-1, 0, 1] {
                let number = (1u64 << bit).wrapping_add_signed(near);
                check(number, number >> 56 != 0);
                check(number as u32, false);
                check(number as i32, false);
                let signed = number as i64;
                check(signed, (signed.unsigned_abs() >> 54) != 0);
            }
        }
        assert!(Name::of_number(&1u8).is_none());
    }

    #[test]
    fn words_that_are_nearly_the_same_lie_apart() {
        let words: Vec<Str> = (0..100_000).map(|n| Str::from(format!("w{n}"))).collect();
        let low: HashSet<u64> = words.iter().map(|word| spread(hash_of(word)) & 0xF_FFFF).collect();
        let high: HashSet<u32> = words.iter().map(|word| hash_of(word) >> 12).collect();
        // Of 100,000 in 2^20 places by chance, 95,400 different ones are expected, give or take 65.
        assert!(low.len().abs_diff(95_374) < 400, "{}", low.len());
        assert!(high.len().abs_diff(95_374) < 400, "{}", high.len());
        let mut partitions = [0; 10];
        words.iter().for_each(|word| partitions[place(word, 10)] += 1);
        assert!(partitions.iter().all(|&n: &i32| n.abs_diff(10_000) < 500), "{partitions:?}");
    }
}
