//! Keys that are looked for together.
//!
//! A table of any size lies beyond the processor's caches, and a look at one entry takes as long as a hundred instructions. Looks that
//! don't depend on each other overlap, if nothing that can't be foreseen comes between them: so keys wait until there are a few, all of
//! their entries are asked for, and only then each is compared, changed or added.

use std::marker::PhantomData;

use super::name::{Name, spread};
use super::{Entry, Key, Table};
use crate::codec;
use crate::task::{Room, done};

/// How many keys wait at most.
pub(super) const AT_ONCE: usize = 32;
/// As many of values that hold memory of their own.
pub(super) const FEW: usize = 8;
/// Where no entry was found.
pub(super) const NOWHERE: usize = usize::MAX;

/// Pairs that wait for their table.
pub(crate) struct Waiting<K, V> {
    names: Vec<(u32, Name)>,
    values: Vec<V>,
    /// The encodings of keys that aren't short.
    keys: Vec<u8>,
    most: usize,
    key: PhantomData<fn() -> K>,
}

impl<K: Key, V> Waiting<K, V> {
    pub(crate) fn new(room: &Room) -> Self {
        let most = match room.is_by_records() {
            // What is spilled is told by records: nothing waits.
            true => 1,
            false if std::mem::needs_drop::<V>() => FEW,
            false => AT_ONCE,
        };
        Waiting {
            names: Vec::with_capacity(most),
            values: Vec::with_capacity(most),
            keys: Vec::new(),
            most,
            key: PhantomData,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.names.len() >= self.most
    }

    #[inline]
    pub(crate) fn push(&mut self, key: &K, value: V) {
        self.push_with(key, value, |keys| done(codec::encode(key, keys)));
    }

    /// As `push`; `encode` appends the key's encoding.
    #[inline]
    pub(super) fn push_with(&mut self, key: &K, value: V, encode: impl FnOnce(&mut Vec<u8>)) {
        let named = Name::of_key(key, &mut self.keys, encode);
        self.names.push(named);
        self.values.push(value);
    }
}

impl<K: Key, C> Table<K, C> {
    /// As `upsert` of each pair that waits, in their order.
    pub(crate) fn upsert_all<V>(
        &mut self,
        waiting: &mut Waiting<K, V>,
        change: impl Fn(Option<C>, V) -> C,
    ) {
        let Waiting { names, values, keys, .. } = waiting;
        // So nothing moves while places are known.
        self.entries.reserve(AT_ONCE, Entry::spread);
        let mut found = [NOWHERE; AT_ONCE];
        for (at, (hash, _)) in found.iter_mut().zip(names.iter()) {
            let is_same = |entry: &Entry<C>| entry.hash == *hash;
            *at = self.entries.find_bucket_index(spread(*hash), is_same).unwrap_or(NOWHERE);
        }
        for ((at, (hash, name)), value) in found.iter().zip(names.iter()).zip(values.drain(..)) {
            if let Some(entry) = self.entries.get_bucket_mut(*at)
                && name.is_short()
                && entry.name() == *name
            {
                entry.value = Some(change(entry.value.take(), value));
                continue;
            }
            self.upsert_named(*hash, *name, keys, |known| change(known, value));
        }
        names.clear();
        keys.clear();
    }
}
