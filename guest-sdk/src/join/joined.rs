//! The plan of `join` and its kin.
//!
//! The right dataset's partition is held in a hash table, and the left one's streams past it. Where the table doesn't fit in memory,
//! both go to runs, which are merged key by key. Where one dataset is known to be small, it may be broadcast instead.

use std::marker::PhantomData;
use std::rc::Rc;

use crate::codec::Record;
use crate::context::Context;
use crate::error::Result;
use crate::join::broadcast::Chosen;
use crate::join::side::Side;
use crate::join::small::Pair;
use crate::join::values::{Both, Values};
use crate::partitioning::Partitioning;
use crate::plan::{Lineage, Plan};
use crate::table::{Gather, Gathered, Key, Table};
use crate::task::TaskScope;

/// What becomes of a value and one of the other dataset that has the same key, or of a value for which there is none.
pub trait Kind<V, W>: 'static {
    /// What a key comes out with.
    type Out: 'static;

    /// Whether values of the left dataset that have no partner come out.
    const KEEPS_LEFT: bool;

    /// Whether values of the right dataset that have no partner come out.
    const KEEPS_RIGHT: bool;

    /// Whether all that matters of the right dataset is which keys it has.
    const IS_KEYS: bool = false;

    /// At least one of the two is there.
    fn out(left: Option<V>, right: Option<W>) -> Option<Self::Out>;
}

/// The kind of `join`.
pub enum Inner {}

impl<V: 'static, W: 'static> Kind<V, W> for Inner {
    type Out = (V, W);
    const KEEPS_LEFT: bool = false;
    const KEEPS_RIGHT: bool = false;

    fn out(left: Option<V>, right: Option<W>) -> Option<(V, W)> {
        left.zip(right)
    }
}

/// The kind of `left_outer_join`.
pub enum LeftOuter {}

impl<V: 'static, W: 'static> Kind<V, W> for LeftOuter {
    type Out = (V, Option<W>);
    const KEEPS_LEFT: bool = true;
    const KEEPS_RIGHT: bool = false;

    fn out(left: Option<V>, right: Option<W>) -> Option<Self::Out> {
        left.map(|left| (left, right))
    }
}

/// The kind of `right_outer_join`.
pub enum RightOuter {}

impl<V: 'static, W: 'static> Kind<V, W> for RightOuter {
    type Out = (Option<V>, W);
    const KEEPS_LEFT: bool = false;
    const KEEPS_RIGHT: bool = true;

    fn out(left: Option<V>, right: Option<W>) -> Option<Self::Out> {
        right.map(|right| (left, right))
    }
}

/// The kind of `full_outer_join`.
pub enum FullOuter {}

impl<V: 'static, W: 'static> Kind<V, W> for FullOuter {
    type Out = (Option<V>, Option<W>);
    const KEEPS_LEFT: bool = true;
    const KEEPS_RIGHT: bool = true;

    fn out(left: Option<V>, right: Option<W>) -> Option<Self::Out> {
        Some((left, right))
    }
}

/// The kind of `subtract_by_key`.
pub enum Without {}

impl<V: 'static, W: 'static> Kind<V, W> for Without {
    type Out = V;
    const KEEPS_LEFT: bool = true;
    const KEEPS_RIGHT: bool = false;
    const IS_KEYS: bool = true;

    fn out(left: Option<V>, right: Option<W>) -> Option<V> {
        if right.is_none() { left } else { None }
    }
}

/// Two datasets joined by key, in a way that `J` says.
pub struct Joined<P: Plan<Item: Pair>, Q: Plan<Item: Pair>, J> {
    name: &'static str,
    left: Side<P>,
    right: Side<Q>,
    partitioning: Partitioning,
    /// What is tried before the sides are shuffled.
    chosen: Option<Chosen<P, Q>>,
    kind: PhantomData<J>,
}

impl<K, V, W, P, Q, J> Joined<P, Q, J>
where
    K: Key,
    V: Record + Clone,
    W: Record + Clone,
    P: Plan<Item = (K, V)>,
    Q: Plan<Item = (K, W)>,
    J: Kind<V, W>,
{
    pub(crate) fn new(
        ctx: &Context,
        name: &'static str,
        left: &Rc<P>,
        right: &Rc<Q>,
        partitioning: Partitioning,
    ) -> Self {
        Joined::with(ctx, name, left, right, partitioning, None)
    }

    /// As `new`, into as many partitions as are found to be right; broadcasts a side if that seems to be.
    pub(crate) fn choosing(
        ctx: &Context,
        name: &'static str,
        left: &Rc<P>,
        right: &Rc<Q>,
        partitioning: Partitioning,
    ) -> Self {
        let to = Some(&partitioning);
        // Then at most the small side is shuffled.
        let is_in_place = left.partitioning().as_ref() == to || right.partitioning().as_ref() == to;
        let chosen = if is_in_place { None } else { Chosen::of::<J>(ctx, left, right) };
        // A shuffle, if there must be one after all, makes as many partitions: others may have counted them.
        let partitioning =
            chosen.as_ref().map_or(partitioning, |chosen| Partitioning::hash(chosen.partitions()));
        Joined::with(ctx, name, left, right, partitioning, chosen)
    }

    fn with(
        ctx: &Context,
        name: &'static str,
        left: &Rc<P>,
        right: &Rc<Q>,
        partitioning: Partitioning,
        chosen: Option<Chosen<P, Q>>,
    ) -> Self {
        let right = match J::IS_KEYS {
            true => Side::of_keys(ctx, name, right, &partitioning),
            false => Side::of_pairs(ctx, name, right, &partitioning),
        };
        let left = Side::of_pairs(ctx, name, left, &partitioning);
        Joined { name, left, right, partitioning, chosen, kind: PhantomData }
    }

    /// What is broadcast, as far as is known.
    fn broadcast(&self) -> Option<&Chosen<P, Q>> {
        self.chosen.as_ref().filter(|chosen| !chosen.is_too_large())
    }
}

impl<K, V, W, P, Q, J> Plan for Joined<P, Q, J>
where
    K: Key + Clone,
    V: Record + Clone,
    W: Record + Clone,
    P: Plan<Item = (K, V)>,
    Q: Plan<Item = (K, W)>,
    J: Kind<V, W>,
{
    type Item = (K, J::Out);

    fn partitions(&self) -> usize {
        self.partitioning.partitions()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = Self::Item> + 'static {
        match self.broadcast() {
            Some(Chosen::Right(stream, small)) => {
                let pairs = Rc::clone(stream).compute(partition, task);
                return Found::PastRight(
                    small.meet(pairs, |left, right| J::out(Some(left), right)),
                );
            }
            Some(Chosen::Left(small, stream)) => {
                let pairs = Rc::clone(stream).compute(partition, task);
                return Found::PastLeft(small.meet(pairs, |right, left| J::out(left, Some(right))));
            }
            None => {}
        }
        let mut gather: Gather<K, Both<V, W>> = Gather::new(&task);
        self.right.gather(&mut gather, partition, &task, |known, value| {
            let mut both = known.unwrap_or_default();
            if !J::IS_KEYS || both.right.len() == 0 {
                both.right.add(value);
            }
            both
        });
        let (stream, keys) = match gather.into_table() {
            Ok(table) => (Some((self.left.pairs(partition, &task), table)), None),
            Err(mut gather) => {
                self.left.gather(&mut gather, partition, &task, |known, value| {
                    let mut both = known.unwrap_or_default();
                    both.left.add(value);
                    both
                });
                (None, Some(gather.finish(Rc::new(Both::merge))))
            }
        };
        let at_hand = AtHand::nothing();
        Found::Shuffled(Matches::<_, _, _, _, J> { stream, keys, at_hand, kind: PhantomData })
    }

    fn lineage(&self, lineage: &mut Lineage) {
        if let Some(chosen) = self.broadcast() {
            chosen.lineage(lineage);
            return lineage.operator(format!("broadcast_{}", self.name));
        }
        self.left.lineage(lineage);
        self.right.lineage(lineage);
        lineage.operator(self.name);
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        if let Some(chosen) = self.broadcast() {
            chosen.prepare(ctx, J::IS_KEYS)?;
        }
        if self.broadcast().is_none() {
            self.left.prepare(ctx)?;
            self.right.prepare(ctx)?;
        }
        Ok(())
    }

    fn partitioning(&self) -> Option<Partitioning> {
        // That must not depend on what is found later.
        self.chosen.is_none().then(|| self.partitioning.clone())
    }
}

/// The records of a partition, however they are found.
enum Found<R, L, M> {
    PastRight(R),
    PastLeft(L),
    Shuffled(M),
}

impl<T, R, L, M> Iterator for Found<R, L, M>
where
    R: Iterator<Item = T>,
    L: Iterator<Item = T>,
    M: Iterator<Item = T>,
{
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        match self {
            Found::PastRight(records) => records.next(),
            Found::PastLeft(records) => records.next(),
            Found::Shuffled(records) => records.next(),
        }
    }

    fn fold<A, F: FnMut(A, T) -> A>(self, init: A, f: F) -> A {
        match self {
            Found::PastRight(records) => records.fold(init, f),
            Found::PastLeft(records) => records.fold(init, f),
            Found::Shuffled(records) => records.fold(init, f),
        }
    }
}

/// Left pairs, and the table that they pass.
type Stream<K, V, W, L> = (L, Table<K, Both<V, W>>);

/// The records of a partition.
struct Matches<K, V, W, L, J> {
    /// What is still to come of the left dataset, where the right one is in memory.
    stream: Option<Stream<K, V, W, L>>,
    /// Then, keys with all that is to be said of them.
    keys: Option<Gathered<K, Both<V, W>>>,
    at_hand: AtHand<K, V, W>,
    kind: PhantomData<J>,
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
                let Some((key, value)) = lefts.next() else {
                    let left = self.stream.take().filter(|_| J::KEEPS_RIGHT);
                    self.keys = left.map(|(_, table)| Gathered::InMemory(table.drain()));
                    continue;
                };
                let out = match table.find(&key) {
                    None => J::out(Some(value), None),
                    Some(both) => {
                        if J::KEEPS_RIGHT {
                            both.left = Values::Met;
                        }
                        match &both.right {
                            Values::One(right) => J::out(Some(value), Some(right.clone())),
                            many => {
                                self.at_hand.put(key, Values::One(value), many.clone());
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
            let (key, both) = self.keys.as_mut()?.next()?;
            if !matches!(both.left, Values::Met) {
                self.at_hand.put(key, both.left, both.right);
            }
        }
    }
}

/// What is left to give of a key.
struct AtHand<K, V, W> {
    key: Option<K>,
    left: Option<V>,
    /// The left values after that.
    lefts: std::vec::IntoIter<V>,
    right: Values<W>,
    /// Which of the right values is next.
    at: usize,
}

impl<K: Clone, V: Clone, W: Clone> AtHand<K, V, W> {
    fn nothing() -> Self {
        AtHand { key: None, left: None, lefts: Vec::new().into_iter(), right: Values::None, at: 0 }
    }

    fn put(&mut self, key: K, left: Values<V>, right: Values<W>) {
        (self.key, self.right, self.at) = (Some(key), right, 0);
        self.left = match left {
            Values::None | Values::Met => None,
            Values::One(value) => Some(value),
            Values::Many(values) => {
                self.lefts = Rc::unwrap_or_clone(values).into_iter();
                self.lefts.next()
            }
        };
    }

    /// Clones nothing for the last time that it is needed, but for right values: other left ones may meet them.
    fn next<J: Kind<V, W>>(&mut self) -> Option<(K, J::Out)> {
        while self.key.is_some() {
            let right = self.right.get(self.at).cloned();
            self.at += 1;
            let is_last_right = self.at >= self.right.len();
            let (left, is_over) = match &self.left {
                None => (None, is_last_right),
                Some(left) if !is_last_right => (Some(left.clone()), false),
                Some(_) => {
                    self.at = 0;
                    let left = std::mem::replace(&mut self.left, self.lefts.next());
                    (left, self.left.is_none())
                }
            };
            let out = J::out(left, right);
            let key =
                if is_over { self.key.take() } else { out.as_ref().and_then(|_| self.key.clone()) };
            if let (Some(key), Some(out)) = (key, out) {
                return Some((key, out));
            }
        }
        None
    }
}
