//! What two shuffled sides of a join have in common: the right one in a table, the left one past it. Where the table would be too large, both
//! are cut into parts by their keys, and joined part by part.

use std::marker::PhantomData;
use std::rc::Rc;

use crate::codec::Record;
use crate::join::joined::Kind;
use crate::join::side::{PairReader, Side, cut_pairs};
use crate::join::values::{Rights, Values};
use crate::plan::Plan;
use crate::table::{Cut, Drained, Gather, Key, Part, Parts, Passing, Table};
use crate::task::TaskScope;

/// Left pairs that are still to come: the partition's, or those of a part.
enum Lefts<K, V, L> {
    All(L),
    Part(PairReader<K, V, Part>),
}

impl<K: Record, V: Record, L: Iterator<Item = (K, V)>> Iterator for Lefts<K, V, L> {
    type Item = (K, V);

    #[inline]
    fn next(&mut self) -> Option<(K, V)> {
        match self {
            Lefts::All(pairs) => pairs.next(),
            Lefts::Part(pairs) => pairs.next(),
        }
    }
}

/// Left pairs, and the table that they pass.
type Stream<K, V, W, L> = (Lefts<K, V, L>, Table<K, Rights<W>>);

/// A part of both datasets that is still to come, and how it is cut if it must be.
struct Pending {
    left: Part,
    right: Part,
    cut: Option<Cut>,
}

/// The records of a partition.
pub(crate) struct Matches<K, V, W, L, J> {
    task: Rc<TaskScope>,
    stream: Option<Stream<K, V, W, L>>,
    passing: Passing<K, V>,
    /// Then, what there is of keys that none of them had.
    rights: Option<Drained<K, Rights<W>>>,
    /// Last first.
    parts: Vec<Pending>,
    at_hand: AtHand<K, V, W>,
    kind: PhantomData<J>,
}

impl<K: Key, V: Record, W: Record + Clone, L, J: Kind<V, W>> Matches<K, V, W, L, J> {
    /// Of one partition of two sides. The left one's pairs are asked for only where they stream.
    pub(crate) fn of<P, Q>(
        left: &Side<P>,
        right: &Side<Q>,
        partition: usize,
        task: &Rc<TaskScope>,
        stream: impl FnOnce() -> L,
    ) -> Self
    where
        P: Plan<Item = (K, V)>,
        Q: Plan<Item = (K, W)>,
    {
        let mut gather: Gather<K, Rights<W>> = Gather::new(task);
        right.gather(&mut gather, partition, task, |known, value| {
            let mut rights = known.unwrap_or_default();
            if !J::IS_KEYS || rights.values.len() == 0 {
                rights.values.add(value);
            }
            rights
        });
        let mut matches = Matches::nothing(task);
        match gather.into_table() {
            Ok(table) => matches.stream = Some((Lefts::All(stream()), table)),
            Err((rights, cut)) => matches.add(rights, cut, || left.cut(partition, task, cut)),
        }
        matches
    }

    fn nothing(task: &Rc<TaskScope>) -> Self {
        Matches {
            task: Rc::clone(task),
            stream: None,
            passing: Passing::new(),
            rights: None,
            parts: Vec::new(),
            at_hand: AtHand { key: None, left: None, right: Values::None, at: 0 },
            kind: PhantomData,
        }
    }

    /// Adds parts of both datasets.
    fn add(&mut self, rights: Parts, cut: Cut, lefts: impl FnOnce() -> Parts) {
        // What is written by now may leave memory while the others are.
        let rights: Vec<Part> = rights.finish().collect();
        let pairs = lefts().finish().zip(rights);
        let pending = pairs.map(|(left, right)| Pending { left, right, cut: cut.next() });
        let mut pending: Vec<Pending> = pending.collect();
        pending.reverse();
        self.parts.append(&mut pending);
    }

    /// Makes a table of the next part; false if there is none.
    fn begin_part(&mut self) -> bool {
        let Some(Pending { left, right, cut }) = self.parts.pop() else { return false };
        if left.is_empty() && !J::KEEPS_RIGHT {
            return true;
        }
        let mut gather: Gather<K, Rights<W>> = Gather::of_part(&self.task, cut);
        gather.read(right, |known: Option<Rights<W>>, more: Rights<W>| {
            let mut rights = known.unwrap_or_default();
            if !J::IS_KEYS || rights.values.len() == 0 {
                rights.values.append(more.values);
            }
            rights
        });
        match gather.into_table() {
            Ok(table) => self.stream = Some((Lefts::Part(PairReader::new(left)), table)),
            Err((rights, cut)) => self.add(rights, cut, || {
                let mut parts = Parts::new(cut);
                cut_pairs::<K, V>(left, &mut parts);
                parts
            }),
        }
        true
    }
}

impl<K, V, W, L, J> Iterator for Matches<K, V, W, L, J>
where
    K: Key + Clone,
    V: Record + Clone,
    W: Record + Clone,
    L: Iterator<Item = (K, V)>,
    J: Kind<V, W>,
{
    type Item = (K, J::Out);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.at_hand.next::<J>() {
                return Some(found);
            }
            if let Some((lefts, table)) = &mut self.stream {
                let Some((key, value, place)) = self.passing.next(lefts, table) else {
                    let passed = self.stream.take().filter(|_| J::KEEPS_RIGHT);
                    self.rights = passed.map(|(_, table)| table.drain());
                    continue;
                };
                let out = match place.and_then(|place| table.at_mut(place)) {
                    None => J::out(Some(value), None),
                    Some(rights) => {
                        if J::KEEPS_RIGHT {
                            rights.is_met = true;
                        }
                        match &rights.values {
                            Values::One(right) => J::out(Some(value), Some(right.clone())),
                            many => {
                                self.at_hand.put(key, Some(value), many.clone());
                                continue;
                            }
                        }
                    }
                };
                match out {
                    Some(out) => return Some((key, out)),
                    None => continue,
                }
            }
            match self.rights.as_mut().and_then(Iterator::next) {
                Some((key, rights)) if !rights.is_met => {
                    self.at_hand.put(key, None, rights.values);
                }
                Some(_) => {}
                None => {
                    self.rights = None;
                    if !self.begin_part() {
                        return None;
                    }
                }
            }
        }
    }
}

/// What is left to give of a key: a left value, or none, with each of several right ones.
struct AtHand<K, V, W> {
    key: Option<K>,
    left: Option<V>,
    right: Values<W>,
    /// Which of the right values is next.
    at: usize,
}

impl<K: Clone, V: Clone, W: Clone> AtHand<K, V, W> {
    fn put(&mut self, key: K, left: Option<V>, right: Values<W>) {
        (self.key, self.left, self.right, self.at) = (Some(key), left, right, 0);
    }

    /// Clones nothing for the last time that it is needed, but for right values: other left ones may meet them.
    fn next<J: Kind<V, W>>(&mut self) -> Option<(K, J::Out)> {
        while self.key.is_some() {
            let right = self.right.get(self.at).cloned();
            self.at += 1;
            let is_last = self.at >= self.right.len();
            let left = if is_last { self.left.take() } else { self.left.clone() };
            let out = J::out(left, right);
            let key = if is_last { self.key.take() } else { self.key.clone() };
            if let (Some(key), Some(out)) = (key, out) {
                return Some((key, out));
            }
        }
        None
    }
}
