//! A table of any size.

use std::rc::Rc;

use super::parts::{Cut, Part, Parts};
use super::{Drained, Key, Table, Waiting, hash_of};
use crate::codec::{self, Cursor, Record};
use crate::task::{Room, TaskScope, done};

/// Joins what two parts of a key's records came to.
pub(crate) type Merge<C> = Rc<dyn Fn(C, C) -> C>;

/// A table of what there is of a key, or what is to become one part by part.
pub(crate) struct Gather<K, C> {
    task: Rc<TaskScope>,
    table: Table<K, C>,
    room: Room,
    /// How it is cut up when it is too large; not any more, if there is no way.
    cut: Option<Cut>,
    parts: Option<Parts>,
}

impl<K: Key, C: Record> Gather<K, C> {
    pub(crate) fn new(task: &Rc<TaskScope>) -> Self {
        Gather::of_part(task, Some(Cut::FIRST))
    }

    /// Of a part, which is cut up in another way.
    pub(crate) fn of_part(task: &Rc<TaskScope>, cut: Option<Cut>) -> Self {
        let room = Room::new(task);
        Gather { task: Rc::clone(task), table: Table::new(), room, cut, parts: None }
    }

    /// Takes in pairs, each of which changes what there is of its key.
    pub(crate) fn taking<V, F: Fn(Option<C>, V) -> C>(
        &mut self,
        change: F,
    ) -> Taking<'_, K, V, C, F> {
        let waiting = Waiting::new(&self.room);
        Taking { gather: self, waiting, change }
    }

    /// Takes in all `(K, V)` records of some blocks.
    pub(crate) fn read<V: Record>(
        &mut self,
        blocks: impl Iterator<Item = Vec<u8>>,
        change: impl Fn(Option<C>, V) -> C,
    ) {
        let mut taking = self.taking(change);
        for block in blocks {
            let mut cursor = Cursor::new(block);
            while !cursor.is_empty() {
                let start = cursor.position();
                let key: K = done(cursor.decode());
                let end = cursor.position();
                let value: V = done(cursor.decode());
                let bytes = cursor.bytes(start..end);
                taking.push_with(&key, value, |keys| keys.extend_from_slice(bytes));
            }
        }
        taking.end();
    }

    /// Puts what waits into the table, and that into parts if it is too large.
    fn put<V>(&mut self, waiting: &mut Waiting<K, V>, change: impl Fn(Option<C>, V) -> C) {
        self.table.upsert_all(waiting, change);
        // One key alone is in one part, however it is cut. Where records are counted, parts are to be made all the same.
        let few = usize::from(!self.room.is_by_records());
        let is_full = || self.table.is_full(&self.room) && self.table.entries.len() > few;
        if let Some(cut) = self.cut
            && (self.table.is_large() || is_full())
        {
            let mut parts = Parts::new(cut);
            self.table.put_away(&mut parts);
            self.parts = Some(parts);
        }
    }

    /// One table, or the parts that it was cut into, of records `(K, C)`.
    pub(crate) fn into_table(self) -> Result<Table<K, C>, (Parts, Cut)> {
        match (self.parts, self.cut) {
            (Some(parts), Some(cut)) => Err((parts, cut)),
            _ => Ok(self.table),
        }
    }

    /// All keys, once each, with their values.
    pub(crate) fn finish(self, merge: Merge<C>) -> Gathered<K, C> {
        let mut gathered =
            Gathered { task: Rc::clone(&self.task), merge, table: None, parts: Vec::new() };
        gathered.begin(self);
        gathered
    }
}

/// Pairs on their way into a [`Gather`].
pub(crate) struct Taking<'a, K, V, C, F> {
    gather: &'a mut Gather<K, C>,
    waiting: Waiting<K, V>,
    change: F,
}

impl<K: Key, V, C: Record, F: Fn(Option<C>, V) -> C> Taking<'_, K, V, C, F> {
    pub(crate) fn push(&mut self, key: &K, value: V) {
        self.push_with(key, value, |keys| done(codec::encode(key, keys)));
    }

    /// As `push`; `encode` appends the key's encoding.
    #[inline]
    fn push_with(&mut self, key: &K, value: V, encode: impl FnOnce(&mut Vec<u8>)) {
        if let Some(parts) = &mut self.gather.parts {
            return parts.push_with(hash_of(key), |buffer| {
                encode(buffer);
                done(codec::encode(&(self.change)(None, value), buffer));
            });
        }
        self.waiting.push_with(key, value, encode);
        if self.waiting.is_full() {
            self.gather.put(&mut self.waiting, &self.change);
        }
    }

    /// There are no more.
    pub(crate) fn end(mut self) {
        if !self.waiting.is_empty() {
            self.gather.put(&mut self.waiting, &self.change);
        }
    }
}

/// The pairs of a [`Gather`].
pub(crate) struct Gathered<K, C> {
    task: Rc<TaskScope>,
    merge: Merge<C>,
    table: Option<Drained<K, C>>,
    /// What is still to come, last first, and how that is cut up.
    parts: Vec<(Part, Option<Cut>)>,
}

impl<K: Key, C: Record> Gathered<K, C> {
    fn begin(&mut self, gather: Gather<K, C>) {
        match gather.into_table() {
            Ok(table) => self.table = Some(table.drain()),
            Err((parts, cut)) => {
                self.parts.extend(parts.finish().rev().map(|part| (part, cut.next())));
            }
        }
    }
}

impl<K: Key, C: Record> Iterator for Gathered<K, C> {
    type Item = (K, C);

    fn next(&mut self) -> Option<(K, C)> {
        loop {
            if let Some(pair) = self.table.as_mut().and_then(Iterator::next) {
                return Some(pair);
            }
            self.table = None;
            let (part, cut) = self.parts.pop()?;
            let mut gather = Gather::of_part(&self.task, cut);
            let merge = Rc::clone(&self.merge);
            gather.read(part, |known, more| match known {
                Some(known) => merge(known, more),
                None => more,
            });
            self.begin(gather);
        }
    }
}
