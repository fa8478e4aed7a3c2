//! A hash table from keys to accumulated values, and what becomes of it when it does not fit.
//!
//! Keys are held encoded, short ones in the table itself and others in one arena, and are found by their bytes: a hit decodes
//! nothing and mostly touches one place in memory, a miss allocates nothing but room.
//! A table that grew too large is cut into parts, each of which is made a table later.

mod gather;
mod name;
mod parts;
mod passing;
mod waiting;

use std::hash::Hash;
use std::rc::Rc;

use hashbrown::HashTable;
use hashbrown::hash_table::{self, Entry as Slot};

use crate::codec::{self, Cursor, Record};
use crate::shuffle::Writer;
use crate::str::Block;
use crate::task::{Room, done};
pub(crate) use gather::{Gather, Merge};
use name::{Name, SHORT, partition_of, spread};
pub(crate) use name::{hash_of, place};
pub(crate) use parts::{Cut, Part, Parts};
pub(crate) use passing::Passing;
use waiting::AT_ONCE;
pub(crate) use waiting::Waiting;

/// What keys need: to be found, and to travel.
pub trait Key: Record + Hash + Eq {}

impl<K: Record + Hash + Eq> Key for K {}

pub(crate) struct Entry<C> {
    /// Its name, in parts, so that the hash fits beside.
    first: u64,
    rest: u32,
    hash: u32,
    /// Taken out only while it is changed.
    value: Option<C>,
}

impl<C> Entry<C> {
    fn name(&self) -> Name {
        Name { first: self.first, rest: self.rest }
    }

    fn spread(&self) -> u64 {
        spread(self.hash)
    }
}

/// How many places a table has that may hold so many entries: at most seven of eight are taken, and each has a byte beside it.
fn buckets(entries: usize) -> usize {
    entries + entries / 7
}

/// Values by key, in memory.
pub(crate) struct Table<K, C> {
    entries: HashTable<Entry<C>>,
    /// The encodings of keys that aren't short.
    keys: Vec<u8>,
    /// Of a key that comes alone.
    scratch: Vec<u8>,
    key: std::marker::PhantomData<fn() -> K>,
}

/// Arenas are addressed by `u32`; far below, so that it never matters how much a last key adds.
const ARENA: usize = 1 << 30;

/// Tells a key's entry from others. The key lies among `long` if it isn't short, and so do entries' among `keys`.
#[inline(always)]
fn is_key<K: Key, C>(
    hash: u32,
    name: Name,
    long: &[u8],
    keys: &[u8],
) -> impl Fn(&Entry<C>) -> bool {
    move |entry| {
        if entry.hash != hash {
            return false;
        }
        let is_same = match name.is_short() {
            true => entry.name() == name,
            false => {
                let known = entry.name();
                !known.is_short()
                    && keys[known.start()..][..known.len()] == long[name.start()..][..name.len()]
            }
        };
        // Keys that are equal may be encoded in different ways, if their `Eq` says so.
        is_same || decoded::<K>(&name.bytes(long)) == decoded::<K>(&entry.name().bytes(keys))
    }
}

fn decoded<K: Key>(bytes: &[u8]) -> K {
    done(codec::decode(bytes))
}

impl<K: Key, C> Table<K, C> {
    pub(crate) fn new() -> Self {
        Table {
            entries: HashTable::new(),
            keys: Vec::new(),
            scratch: Vec::new(),
            key: std::marker::PhantomData,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it should be put away: it is too large, or the next keys would make it so.
    #[inline]
    pub(crate) fn is_full(&self, room: &Room) -> bool {
        if self.is_empty() {
            return false;
        }
        let is_at_capacity = self.is_at_capacity() || self.are_keys_at_capacity();
        room.is_full() || self.keys.len() >= ARENA || is_at_capacity && self.would_fill(room)
    }

    fn are_keys_at_capacity(&self) -> bool {
        // As many keys as may come before this is asked again, of their usual length.
        let more = || AT_ONCE * (self.keys.len() / self.entries.len().max(1) + SHORT);
        !self.keys.is_empty() && self.keys.capacity() - self.keys.len() < more()
    }

    /// Whether its next room would be much larger than the processor's caches: to cut up what comes is faster then. What values hold
    /// elsewhere doesn't count.
    fn is_large(&self) -> bool {
        const LARGE: usize = 32 << 20;
        let next = 2 * self.entries.capacity() * (size_of::<Entry<C>>() + 1);
        self.is_at_capacity() && next > LARGE || self.keys.len() > LARGE / 2
    }

    /// Whether as many keys as may wait don't fit without more room.
    fn is_at_capacity(&self) -> bool {
        self.entries.capacity() - self.entries.len() < AT_ONCE
    }

    /// Whether twice the room is more than the task may have. A small table may always grow: it is hardly the reason.
    #[cold]
    fn would_fill(&self, room: &Room) -> bool {
        const SMALL: usize = 1024;
        if self.entries.len() < SMALL {
            return false;
        }
        let (len, keys) = (self.entries.len(), self.keys.len());
        let mut more = 0;
        if self.is_at_capacity() {
            more += 2 * buckets(len) * (size_of::<Entry<C>>() + 1);
        }
        if self.are_keys_at_capacity() {
            more += 2 * keys;
        }
        room.would_be_full(more)
    }

    /// Changes the value of a key: `change` is given what there is.
    #[inline]
    pub(crate) fn upsert(&mut self, key: &K, change: impl FnOnce(Option<C>) -> C) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let (hash, name) = Name::of_key(key, &mut scratch, |keys| done(codec::encode(key, keys)));
        self.upsert_named(hash, name, &scratch, change);
        self.scratch = scratch;
    }

    /// As `upsert`, of a key by its name; it lies among `long` if it isn't short.
    #[inline]
    fn upsert_named(
        &mut self,
        hash: u32,
        name: Name,
        long: &[u8],
        change: impl FnOnce(Option<C>) -> C,
    ) {
        let Table { entries, keys, .. } = self;
        match entries.entry(spread(hash), is_key::<K, C>(hash, name, long, keys), Entry::spread) {
            Slot::Occupied(mut slot) => {
                let entry = slot.get_mut();
                entry.value = Some(change(entry.value.take()));
            }
            Slot::Vacant(slot) => {
                let Name { first, rest } = name.moved(keys.len());
                slot.insert(Entry { first, rest, hash, value: Some(change(None)) });
                if !name.is_short() {
                    name.append(long, keys);
                }
            }
        }
    }

    /// Where a key is, for [`Table::at`]; `scratch` is room for its encoding.
    pub(crate) fn locate(&self, key: &K, scratch: &mut Vec<u8>) -> Option<usize> {
        scratch.clear();
        let (hash, name) = Name::of_key(key, scratch, |keys| done(codec::encode(key, keys)));
        let is_key = is_key::<K, C>(hash, name, scratch, &self.keys);
        self.entries.find_bucket_index(spread(hash), is_key)
    }

    /// The value of a key that was located.
    #[inline]
    pub(crate) fn at(&self, place: usize) -> Option<&C> {
        self.entries.get_bucket(place)?.value.as_ref()
    }

    /// As `at`, to be changed.
    #[inline]
    pub(crate) fn at_mut(&mut self, place: usize) -> Option<&mut C> {
        self.entries.get_bucket_mut(place)?.value.as_mut()
    }

    /// What the table itself takes in memory, without what values point at.
    pub(crate) fn bytes(&self) -> usize {
        buckets(self.entries.capacity()) * (size_of::<Entry<C>>() + 1) + self.keys.capacity()
    }

    /// Whether it can't be sure that one more key has room.
    pub(crate) fn is_at_bound(&self) -> bool {
        self.keys.len() >= ARENA
    }

    /// Adds a key; says whether it is new.
    #[inline]
    pub(crate) fn insert(&mut self, key: &K) -> bool
    where
        C: Default,
    {
        let mut is_new = false;
        self.upsert(key, |known| {
            is_new = known.is_none();
            known.unwrap_or_default()
        });
        is_new
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        *self = Table::new();
    }

    /// All keys with their values.
    pub(crate) fn drain(self) -> Drained<K, C> {
        Drained::new(Rc::new(self.keys), self.entries.into_iter())
    }

    /// Writes all entries where their keys belong, and empties the table. Its room is given back: what counts is what is held.
    pub(crate) fn write(&mut self, writer: &mut Writer)
    where
        C: Record,
    {
        let partitions = writer.partitions();
        let Table { entries, keys, .. } = std::mem::replace(self, Table::new());
        for entry in entries {
            writer.push_with(partition_of(entry.hash, partitions), |buffer| {
                append(&entry, &keys, buffer)
            });
        }
    }

    /// Writes all entries to parts, and empties the table.
    fn put_away(&mut self, parts: &mut Parts)
    where
        C: Record,
    {
        let Table { entries, keys, .. } = std::mem::replace(self, Table::new());
        for entry in entries {
            parts.push_with(entry.hash, |buffer| append(&entry, &keys, buffer));
        }
    }
}

fn append<C: Record>(entry: &Entry<C>, keys: &[u8], buffer: &mut Vec<u8>) {
    if let Some(value) = &entry.value {
        entry.name().append(keys, buffer);
        done(codec::encode(value, buffer));
    }
}

/// How many entries are taken from a table at a time.
const BATCH: usize = 1024;

/// The pairs of a table, as it is emptied.
pub(crate) struct Drained<K, C> {
    entries: hash_table::IntoIter<Entry<C>>,
    keys: Block,
    batch: std::vec::IntoIter<Entry<C>>,
    /// The short keys of the batch, so that strings among them share one block, and where the next one begins.
    short: Block,
    at: usize,
    key: std::marker::PhantomData<fn() -> K>,
}

impl<K: Key, C> Drained<K, C> {
    fn new(keys: Block, entries: hash_table::IntoIter<Entry<C>>) -> Self {
        let (batch, short) = (Vec::new().into_iter(), Block::default());
        Drained { entries, keys, batch, short, at: 0, key: std::marker::PhantomData }
    }

    fn refill(&mut self) {
        let batch: Vec<Entry<C>> = self.entries.by_ref().take(BATCH).collect();
        let mut short = Vec::new();
        for entry in batch.iter().filter(|entry| entry.name().is_short()) {
            entry.name().append(&[], &mut short);
        }
        self.short = Rc::new(short);
        self.at = 0;
        self.batch = batch.into_iter();
    }
}

impl<K: Key, C> Iterator for Drained<K, C> {
    type Item = (K, C);

    fn next(&mut self) -> Option<(K, C)> {
        if self.batch.len() == 0 {
            self.refill();
        }
        let entry = self.batch.next()?;
        let key = if entry.name().is_short() {
            let at = self.at;
            self.at += entry.name().len();
            Cursor::over(Rc::clone(&self.short), at).decode()
        } else {
            Cursor::over(Rc::clone(&self.keys), entry.name().start()).decode()
        };
        // Values are out of their entries only while they are changed.
        entry.value.map(|value| (done(key), value))
    }
}
