//! A hash table from keys to accumulated values, and what becomes of it when it does not fit.
//!
//! Keys are held encoded, short ones in the table itself and others in one arena, and are found by their bytes: a hit decodes
//! nothing and mostly touches one place in memory, a miss allocates nothing but room.
//! A table that grew past the task's memory goes to a run of the host's, sorted by hash; runs are merged in the end.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::rc::Rc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::{self, Entry as Slot};

use crate::codec::{self, Cursor, Record};
use crate::host;
use crate::shuffle::Writer;
use crate::str::Block;
use crate::task::{Blocks, Room, TaskScope, done};

/// What keys need: to be found, and to travel.
pub trait Key: Record + Hash + Eq {}

impl<K: Record + Hash + Eq> Key for K {}

/// The same in every task of every stage: partitions are cut by it.
const HASHER: FixedState = FixedState::with_seed(0x0001_A61E);

pub(crate) fn hash_of<K: Hash>(key: &K) -> u64 {
    HASHER.hash_one(key)
}

/// The partition of a key, by other bits than those by which a table places it.
fn partition_of(hash: u64, partitions: usize) -> usize {
    let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    ((mixed * partitions as u64) >> 32) as usize
}

/// The partition in which a key's records lie.
pub(crate) fn place<K: Hash>(key: &K, partitions: usize) -> usize {
    partition_of(hash_of(key), partitions)
}

/// Encoded keys up to this length lie in their entry: a word, an id.
const SHORT: usize = 12;

/// Where a key's encoding is, beside its length: short ones themselves, padded with zeros; of others where they begin in the arena.
type Place = [u8; SHORT];

/// A key's `Place`, of one that lies at the end of an arena.
fn place_of(bytes: &[u8], start: usize) -> Place {
    let mut place = [0; SHORT];
    match place.get_mut(..bytes.len()) {
        Some(all) => all.copy_from_slice(bytes),
        // At most `ARENA` and a key.
        None => place[..4].copy_from_slice(&(start as u32).to_le_bytes()),
    }
    place
}

pub(crate) struct Entry<C> {
    hash: u64,
    len: u32,
    place: Place,
    /// Taken out only while it is changed.
    value: Option<C>,
}

impl<C> Entry<C> {
    fn is_short(&self) -> bool {
        self.len as usize <= SHORT
    }

    /// Where in the arena the key begins, if it isn't short.
    fn start(&self) -> usize {
        let [a, b, c, d, ..] = self.place;
        u32::from_le_bytes([a, b, c, d]) as usize
    }

    fn key<'a>(&'a self, arena: &'a [u8]) -> &'a [u8] {
        let len = self.len as usize;
        if self.is_short() { &self.place[..len] } else { &arena[self.start()..][..len] }
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
    key: std::marker::PhantomData<fn() -> K>,
}

/// Arenas are addressed by `u32`; far below, so that it never matters how much a last key adds.
const ARENA: usize = 1 << 30;
/// Room for any usual key while it is looked for.
const FIRST_ARENA: usize = 256;
/// Blocks of runs: as many are in memory as there are runs, when they are merged.
const RUN_BLOCK: usize = 64 << 10;

/// Tells a key's entry from others, by its encoding.
#[inline(always)]
fn is_key<K: Key, C>(
    key: &K,
    hash: u64,
    keys: &[u8],
    bytes: &[u8],
    place: Place,
) -> impl Fn(&Entry<C>) -> bool {
    let (len, is_short) = (bytes.len(), bytes.len() <= SHORT);
    move |entry| {
        if entry.hash != hash {
            return false;
        }
        let is_same = entry.len as usize == len
            && if is_short { entry.place == place } else { entry.key(keys) == bytes };
        // Keys that are equal may be encoded in different ways, if their `Eq` says so.
        is_same || done(codec::decode::<K>(entry.key(keys))) == *key
    }
}

impl<K: Key, C> Table<K, C> {
    pub(crate) fn new() -> Self {
        Table {
            entries: HashTable::new(),
            keys: Vec::with_capacity(FIRST_ARENA),
            key: std::marker::PhantomData,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it should be put away: it is too large, or the next key would make it so.
    #[inline]
    pub(crate) fn is_full(&self, room: &Room) -> bool {
        if self.is_empty() {
            return false;
        }
        let is_at_capacity = self.entries.len() == self.entries.capacity()
            || self.keys.capacity() - self.keys.len() < SHORT;
        room.is_full() || self.keys.len() >= ARENA || is_at_capacity && self.would_fill(room)
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
        if len == self.entries.capacity() {
            more += 2 * buckets(len) * (size_of::<Entry<C>>() + 1);
        }
        if self.keys.capacity() - keys < SHORT {
            more += 2 * keys;
        }
        room.would_be_full(more)
    }

    /// Changes the value of a key: `change` is given what there is.
    #[inline]
    pub(crate) fn upsert(&mut self, key: &K, change: impl FnOnce(Option<C>) -> C) {
        let start = self.keys.len();
        done(codec::encode(key, &mut self.keys));
        self.upsert_last(key, start, change);
    }

    /// As `upsert`, of a key whose encoding is known.
    #[inline]
    pub(crate) fn upsert_encoded(
        &mut self,
        key: &K,
        bytes: &[u8],
        change: impl FnOnce(Option<C>) -> C,
    ) {
        let start = self.keys.len();
        self.keys.extend_from_slice(bytes);
        self.upsert_last(key, start, change);
    }

    /// As `upsert`, of the key that lies at the arena's end.
    #[inline]
    fn upsert_last(&mut self, key: &K, start: usize, change: impl FnOnce(Option<C>) -> C) {
        let hash = hash_of(key);
        let Table { entries, keys, .. } = self;
        let bytes = &keys[start..];
        let (len, is_short) = (bytes.len(), bytes.len() <= SHORT);
        let place = place_of(bytes, start);
        match entries.entry(hash, is_key(key, hash, keys, bytes, place), |entry| entry.hash) {
            Slot::Occupied(mut slot) => {
                let entry = slot.get_mut();
                entry.value = Some(change(entry.value.take()));
                keys.truncate(start);
            }
            Slot::Vacant(slot) => {
                slot.insert(Entry { hash, len: len as u32, place, value: Some(change(None)) });
                if is_short {
                    keys.truncate(start);
                }
            }
        }
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn find(&mut self, key: &K) -> Option<&mut C> {
        let start = self.keys.len();
        done(codec::encode(key, &mut self.keys));
        let bytes = &self.keys[start..];
        let (hash, place) = (hash_of(key), place_of(bytes, start));
        let found = self.entries.find_mut(hash, is_key(key, hash, &self.keys, bytes, place));
        self.keys.truncate(start);
        found.and_then(|entry| entry.value.as_mut())
    }

    /// Where a key is, for [`Table::at`]. Of the table nothing is changed: `scratch` is room for the key's encoding.
    #[inline]
    pub(crate) fn locate(&self, key: &K, scratch: &mut Vec<u8>) -> Option<usize> {
        scratch.clear();
        done(codec::encode(key, scratch));
        let (hash, place) = (hash_of(key), place_of(scratch, 0));
        self.entries.find_bucket_index(hash, is_key(key, hash, &self.keys, scratch, place))
    }

    /// The value of a key that was located.
    #[inline]
    pub(crate) fn at(&self, place: usize) -> Option<&C> {
        self.entries.get_bucket(place)?.value.as_ref()
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

    /// Puts all entries away, in the order of their hashes, and empties the table.
    fn write_run(&mut self) -> u32
    where
        C: Record,
    {
        /// Memory is short now, so only a part of the entries is listed for sorting at a time: those whose hashes start alike.
        const PARTS: u32 = 8;
        let run = host::create_run();
        let Table { entries, keys, .. } = std::mem::replace(self, Table::new());
        let mut buffer = Vec::with_capacity(RUN_BLOCK);
        for part in 0..PARTS {
            let is_in =
                |entry: &&Entry<C>| entry.hash >> (u64::BITS - PARTS.ilog2()) == u64::from(part);
            let mut listed: Vec<(u64, &Entry<C>)> =
                Vec::with_capacity(entries.len() / PARTS as usize);
            listed.extend(entries.iter().filter(is_in).map(|entry| (entry.hash, entry)));
            // Of one hash there is nearly always one key; where not, those that merge look at all of them.
            listed.sort_unstable_by_key(|(hash, _)| *hash);
            for (_, entry) in listed {
                append(entry, &keys, &mut buffer);
                if buffer.len() >= RUN_BLOCK {
                    host::write_run(run, &buffer);
                    buffer.clear();
                }
            }
        }
        if !buffer.is_empty() {
            host::write_run(run, &buffer);
        }
        run
    }
}

fn append<C: Record>(entry: &Entry<C>, keys: &[u8], buffer: &mut Vec<u8>) {
    if let Some(value) = &entry.value {
        buffer.extend_from_slice(entry.key(keys));
        done(codec::encode(value, buffer));
    }
}

/// Joins what two parts of a key's records came to.
pub(crate) type Merge<C> = Rc<dyn Fn(C, C) -> C>;

/// A table of any size: what memory does not hold is in runs.
pub(crate) struct Gather<K, C> {
    table: Table<K, C>,
    runs: Vec<u32>,
    room: Room,
}

impl<K: Key, C: Record> Gather<K, C> {
    pub(crate) fn new(task: &Rc<TaskScope>) -> Self {
        Gather { table: Table::new(), runs: Vec::new(), room: Room::new(task) }
    }

    fn make_room(&mut self) {
        if self.table.is_full(&self.room) {
            self.runs.push(self.table.write_run());
            self.room.renew();
        }
    }

    pub(crate) fn upsert(&mut self, key: &K, change: impl FnOnce(Option<C>) -> C) {
        self.table.upsert(key, change);
        self.make_room();
    }

    /// Takes in all `(K, V)` records of a reader.
    pub(crate) fn read<V: Record>(&mut self, reader: u32, change: impl Fn(Option<C>, V) -> C) {
        for block in Blocks::of(reader) {
            let mut cursor = Cursor::new(block);
            while !cursor.is_empty() {
                let start = cursor.position();
                let key: K = done(cursor.decode());
                let end = cursor.position();
                let value: V = done(cursor.decode());
                self.table
                    .upsert_encoded(&key, cursor.bytes(start..end), |known| change(known, value));
                self.make_room();
            }
        }
    }

    /// All in one table, unless something is in runs.
    pub(crate) fn into_table(self) -> Result<Table<K, C>, Gather<K, C>> {
        if self.runs.is_empty() { Ok(self.table) } else { Err(self) }
    }

    /// All keys, once each, with their values.
    pub(crate) fn finish(mut self, merge: Merge<C>) -> Gathered<K, C> {
        if self.runs.is_empty() {
            return Gathered::InMemory(self.table.drain());
        }
        if !self.table.is_empty() {
            self.runs.push(self.table.write_run());
        }
        Gathered::Merged(MergedRuns::new(&self.runs, merge))
    }
}

/// The pairs of a [`Gather`].
pub(crate) enum Gathered<K, C> {
    InMemory(Drained<K, C>),
    Merged(MergedRuns<K, C>),
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
        let short = batch.iter().filter(|entry| entry.is_short()).flat_map(|entry| entry.key(&[]));
        self.short = Rc::new(short.copied().collect());
        self.at = 0;
        self.batch = batch.into_iter();
    }
}

struct Run<K, C> {
    blocks: Blocks,
    cursor: Cursor,
    head: Option<(K, C)>,
}

impl<K: Key, C: Record> Run<K, C> {
    /// Reads the next pair; gives its hash.
    fn advance(&mut self) -> Option<u64> {
        while self.cursor.is_empty() {
            self.cursor = Cursor::new(self.blocks.next()?);
        }
        let key: K = done(self.cursor.decode());
        let hash = hash_of(&key);
        self.head = Some((key, done(self.cursor.decode())));
        Some(hash)
    }
}

/// Runs as one, by hash.
pub(crate) struct MergedRuns<K, C> {
    runs: Vec<Run<K, C>>,
    /// The hash of each run's head.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
    /// Pairs of one hash: nearly always one.
    ready: VecDeque<(K, C)>,
    merge: Merge<C>,
}

impl<K: Key, C: Record> MergedRuns<K, C> {
    fn new(runs: &[u32], merge: Merge<C>) -> Self {
        let open = |&run: &u32| {
            let blocks = Blocks::of(host::open_run(run));
            Run { blocks, cursor: Cursor::new(Vec::new()), head: None }
        };
        let mut runs: Vec<Run<K, C>> = runs.iter().map(open).collect();
        let first = runs.iter_mut().enumerate();
        let heads = first.filter_map(|(at, run)| Some(Reverse((run.advance()?, at)))).collect();
        MergedRuns { runs, heads, ready: VecDeque::new(), merge }
    }

    /// Gathers the pairs of the lowest hash.
    fn fill(&mut self) {
        let Some(&Reverse((lowest, _))) = self.heads.peek() else { return };
        while let Some(&Reverse((hash, at))) = self.heads.peek() {
            if hash != lowest {
                break;
            }
            self.heads.pop();
            let run = &mut self.runs[at];
            let head = run.head.take();
            if let Some(hash) = run.advance() {
                self.heads.push(Reverse((hash, at)));
            }
            let Some((key, value)) = head else { continue };
            match self
                .ready
                .iter()
                .position(|(known, _)| *known == key)
                .and_then(|at| self.ready.remove(at))
            {
                Some((key, known)) => self.ready.push_back((key, (self.merge)(known, value))),
                None => self.ready.push_back((key, value)),
            }
        }
    }
}

impl<K: Key, C> Iterator for Drained<K, C> {
    type Item = (K, C);

    fn next(&mut self) -> Option<(K, C)> {
        if self.batch.len() == 0 {
            self.refill();
        }
        let entry = self.batch.next()?;
        let key = if entry.is_short() {
            let at = self.at;
            self.at += entry.len as usize;
            Cursor::over(Rc::clone(&self.short), at).decode()
        } else {
            Cursor::over(Rc::clone(&self.keys), entry.start()).decode()
        };
        // Values are out of their entries only while they are changed.
        entry.value.map(|value| (done(key), value))
    }
}

impl<K: Key, C: Record> Iterator for Gathered<K, C> {
    type Item = (K, C);

    fn next(&mut self) -> Option<(K, C)> {
        match self {
            Gathered::InMemory(drained) => drained.next(),
            Gathered::Merged(merged) => {
                if merged.ready.is_empty() {
                    merged.fill();
                }
                merged.ready.pop_front()
            }
        }
    }
}
