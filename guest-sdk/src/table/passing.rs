//! Pairs that pass a table, each of which is told what that has of its key.

use std::collections::VecDeque;

use super::name::{Name, spread};
use super::waiting::{AT_ONCE, FEW, NOWHERE};
use super::{Entry, Key, Table};
use crate::codec;
use crate::task::done;

/// Pairs that were looked for together, as those that wait ([`Waiting`](super::Waiting)) are.
pub(crate) struct Passing<K, V> {
    /// With where the key's entry is.
    pairs: VecDeque<(K, V, usize)>,
    names: Vec<(u32, Name)>,
    keys: Vec<u8>,
    scratch: Vec<u8>,
    /// There are no more: an iterator is not asked again.
    is_over: bool,
}

impl<K: Key, V> Passing<K, V> {
    pub(crate) fn new() -> Self {
        Passing {
            pairs: VecDeque::new(),
            names: Vec::new(),
            keys: Vec::new(),
            scratch: Vec::new(),
            is_over: false,
        }
    }

    /// The next pair, and where in the table its key is: for [`Table::at`]. It must be the same table, with the same keys, until there are no
    /// more; then it may be another one.
    #[inline]
    pub(crate) fn next<C>(
        &mut self,
        pairs: &mut impl Iterator<Item = (K, V)>,
        table: &Table<K, C>,
    ) -> Option<(K, V, Option<usize>)> {
        if self.pairs.is_empty() {
            if std::mem::take(&mut self.is_over) {
                return None;
            }
            self.look(pairs, table);
        }
        let Some((key, value, at)) = self.pairs.pop_front() else {
            self.is_over = false;
            return None;
        };
        Some((key, value, (at != NOWHERE).then_some(at)))
    }

    fn look<C>(&mut self, pairs: &mut impl Iterator<Item = (K, V)>, table: &Table<K, C>) {
        let most = if std::mem::needs_drop::<V>() { FEW } else { AT_ONCE };
        for (key, value) in pairs.take(most) {
            let keys = &mut self.keys;
            self.names.push(Name::of_key(&key, keys, |keys| done(codec::encode(&key, keys))));
            self.pairs.push_back((key, value, NOWHERE));
        }
        self.is_over = self.pairs.len() < most;
        for ((.., at), (hash, _)) in self.pairs.iter_mut().zip(&self.names) {
            let is_same = |entry: &Entry<C>| entry.hash == *hash;
            *at = table.entries.find_bucket_index(spread(*hash), is_same).unwrap_or(NOWHERE);
        }
        for ((key, _, at), (_, name)) in self.pairs.iter_mut().zip(&self.names) {
            let entry = table.entries.get_bucket(*at);
            if entry.is_some_and(|entry| !name.is_short() || entry.name() != *name) {
                // Another key of the same hash came first, or it takes more to tell.
                *at = table.locate(key, &mut self.scratch).unwrap_or(NOWHERE);
            }
        }
        self.names.clear();
        self.keys.clear();
    }
}
