//! The plan of `join` and its kin.
//!
//! The right dataset's partition is held in a hash table, and the left one's streams past it (`matches.rs`). Where one dataset is known to be
//! small, it may be broadcast instead.

use std::marker::PhantomData;
use std::rc::Rc;

use crate::codec::Record;
use crate::context::Context;
use crate::error::Result;
use crate::join::broadcast::Chosen;
use crate::join::matches::Matches;
use crate::join::side::Side;
use crate::join::small::Pair;
use crate::partitioning::Partitioning;
use crate::pieces::{Adaptive, Input, Pieces};
use crate::plan::{Lineage, Plan};
use crate::table::Key;
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
    /// How large they are, as far as is known.
    hints: [Option<u64>; 2],
    partitioning: Partitioning,
    /// What is tried before the sides are shuffled.
    chosen: Option<Chosen<P, Q>>,
    /// Which tasks compute its partitions.
    pieces: Adaptive,
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
    /// Into as many partitions as are found to be right, if `may_choose`: a side is broadcast then if that seems to be.
    pub(crate) fn new(
        ctx: &Context,
        name: &'static str,
        left: &Rc<P>,
        right: &Rc<Q>,
        partitioning: Partitioning,
        may_choose: bool,
    ) -> Self {
        let to = Some(&partitioning);
        // Then at most the small side is shuffled.
        let is_in_place = left.partitioning().as_ref() == to || right.partitioning().as_ref() == to;
        let chosen = match may_choose && !is_in_place {
            true => Chosen::of::<J>(ctx, left, right),
            false => None,
        };
        // A shuffle, if there must be one after all, makes as many partitions: others may have counted them.
        let partitioning =
            chosen.as_ref().map_or(partitioning, |chosen| Partitioning::hash(chosen.partitions()));
        let hints = [left.bytes_hint(), right.bytes_hint()];
        let right = match J::IS_KEYS {
            true => Side::of_keys(ctx, name, right, &partitioning, true),
            false => Side::of_pairs(ctx, name, right, &partitioning, true),
        };
        let left = Side::of_pairs(ctx, name, left, &partitioning, true);
        let (pieces, kind) = (Adaptive::default(), PhantomData);
        Joined { name, left, right, hints, partitioning, chosen, pieces, kind }
    }

    /// The shuffles that it reads, if it reads nothing else: what lies in place would be computed again by each task that shares a partition, and
    /// is computed partition by partition. A task that gives what was left of a side must see all of the other.
    fn reads(&self) -> Option<[Input<'_>; 2]> {
        let [left, right] = self.hints;
        let read = |dependency, may_share, hint| Input { dependency, may_share, hint };
        Some([
            read(self.left.dependency()?, !J::KEEPS_RIGHT, left),
            read(self.right.dependency()?, !J::KEEPS_LEFT, right),
        ])
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
        Found::Shuffled(Matches::<_, _, _, _, J>::of(
            &self.left,
            &self.right,
            partition,
            &task,
            || self.left.pairs(partition, &task),
        ))
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

    fn find_pieces(&self, ctx: &Context) -> Result<()> {
        match (self.broadcast(), self.reads()) {
            (Some(chosen), _) => chosen.find_pieces(ctx),
            (None, Some(reads)) => self.pieces.find(ctx, self.partitions(), &reads),
            (None, None) => Ok(()),
        }
    }

    fn pieces(&self) -> Option<Pieces> {
        match self.broadcast() {
            Some(chosen) => chosen.pieces(),
            None => self.pieces.pieces(),
        }
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
