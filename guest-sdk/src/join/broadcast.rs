//! Joins that shuffle nothing: the small side is in the driver's memory, and so in that of all tasks.

use std::marker::PhantomData;
use std::rc::Rc;

use crate::codec::Record;
use crate::context::Context;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::join::joined::{Inner, Kind, LeftOuter, Without};
use crate::join::small::{Pair, Small};
use crate::partitioning::Partitioning;
use crate::pieces::Pieces;
use crate::plan::{Lineage, Plan};
use crate::table::Key;
use crate::task::TaskScope;

/// Joins with a small dataset, which shuffle nothing.
///
/// The first action that needs one computes `other` in a job before its own; all its pairs travel to the driver, which holds them in a
/// hash table as long as the joined dataset lives. Tasks have the driver's memory, so they find the table there, and this dataset's pairs
/// stream past it in their own partitions, in their order. An executor has one copy for all its tasks.
///
/// The driver's memory must hold `other`, encoded and as a table: of small records some 100 bytes each (`--driver-memory`).
/// [`join`](Dataset::join) and some of its kin do the same on their own where it is known that a side is small.
///
/// # Errors
///
/// An action fails if `other` can't be computed, and the job if the driver's memory doesn't hold it.
#[allow(clippy::type_complexity, reason = "what comes out is best read where it is returned")]
impl<K: Key + Clone, V: Clone + 'static, P: Plan<Item = (K, V)>> Dataset<(K, V), P> {
    fn broadcast_joined<W: Record + Clone, Q: Plan<Item = (K, W)>, J: Kind<V, W>>(
        &self,
        name: &'static str,
        other: &Dataset<(K, W), Q>,
    ) -> Dataset<(K, J::Out), BroadcastJoined<P, Q, J>> {
        let small = Small::new(&other.plan, None);
        self.then(|stream| BroadcastJoined { name, stream, small, kind: PhantomData })
    }

    /// Each pair of values that a key has in both datasets, as [`join`](Dataset::join) gives them: `other` is small, and nothing is
    /// shuffled. Pairs stay where they are.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let flights = ctx.parallelize([("LH", 7), ("AF", 3), ("LH", 5)].map(|(code, late)| (code.to_owned(), late)), 2);
    /// let names = ctx.parallelize([("LH".to_owned(), "Lufthansa".to_owned())], 1);
    /// let named = flights.broadcast_join(&names).values().map(|(late, name)| format!("{name} {late}"));
    /// assert_eq!(named.explanation(), "stage 0 (result): 2 tasks\n    parallelize -> broadcast_join -> values -> map\n");
    /// assert_eq!(named.collect()?, ["Lufthansa 7", "Lufthansa 5"]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn broadcast_join<W: Record + Clone, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
    ) -> Dataset<(K, (V, W)), BroadcastJoined<P, Q, Inner>> {
        self.broadcast_joined("broadcast_join", other)
    }

    /// As [`Dataset::broadcast_join`], and each pair of this dataset whose key `other` lacks, with `None`.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let numbers = ctx.range(0..4, 2).map(|n| (n % 3, n));
    /// let names = ctx.parallelize([(0, 'a'), (1, 'b')], 1);
    /// let named = numbers.broadcast_left_outer_join(&names);
    /// assert_eq!(named.values().collect()?, [(0, Some('a')), (1, Some('b')), (2, None), (3, Some('a'))]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn broadcast_left_outer_join<W: Record + Clone, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
    ) -> Dataset<(K, (V, Option<W>)), BroadcastJoined<P, Q, LeftOuter>> {
        self.broadcast_joined("broadcast_left_outer_join", other)
    }

    /// The pairs whose keys `other` lacks, all of them however often they occur, as with [`subtract_by_key`](Dataset::subtract_by_key):
    /// `other` is small, and nothing is shuffled. Of `other` only keys travel and are held, each once.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let words = ctx.parallelize(["to", "be", "or", "not"].map(|word| (word.to_owned(), word.len())), 2);
    /// let dull = ctx.parallelize(["to", "or"].map(|word| (word.to_owned(), ())), 1);
    /// assert_eq!(words.broadcast_subtract_by_key(&dull).keys().collect()?, ["be", "not"]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn broadcast_subtract_by_key<W: 'static, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
    ) -> Dataset<(K, V), impl Plan<Item = (K, V)> + use<K, V, P, W, Q>> {
        let keys = other.map_values(|_| ());
        self.broadcast_joined::<_, _, Without>("broadcast_subtract_by_key", &keys)
    }
}

/// The plan of `broadcast_join` and its kin.
pub struct BroadcastJoined<P, Q: Plan<Item: Pair>, J> {
    name: &'static str,
    stream: Rc<P>,
    small: Small<Q>,
    kind: PhantomData<J>,
}

impl<K, V, W, P, Q, J> Plan for BroadcastJoined<P, Q, J>
where
    K: Key + Clone,
    V: Clone + 'static,
    W: Record + Clone,
    P: Plan<Item = (K, V)>,
    Q: Plan<Item = (K, W)>,
    J: Kind<V, W>,
{
    type Item = (K, J::Out);

    fn partitions(&self) -> usize {
        self.stream.partitions()
    }

    fn find_pieces(&self, ctx: &Context) -> Result<()> {
        self.stream.find_pieces(ctx)
    }

    fn pieces(&self) -> Option<Pieces> {
        self.stream.pieces()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = Self::Item> + 'static {
        let pairs = Rc::clone(&self.stream).compute(partition, task);
        self.small.meet(pairs, |left, right| J::out(Some(left), right))
    }

    fn lineage(&self, lineage: &mut Lineage) {
        self.stream.lineage(lineage);
        lineage.operator(self.name);
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        self.stream.prepare(ctx)?;
        self.small.prepare(ctx, J::IS_KEYS)
    }

    fn partitioning(&self) -> Option<Partitioning> {
        self.stream.partitioning()
    }

    fn is_ordered(&self) -> bool {
        self.stream.is_ordered()
    }
}

/// The side of a join that is broadcast on the join's own account, and the one that streams past it.
pub(crate) enum Chosen<P: Plan<Item: Pair>, Q: Plan<Item: Pair>> {
    Left(Small<P>, Rc<Q>),
    Right(Rc<P>, Small<Q>),
}

impl<K, V, W, P, Q> Chosen<P, Q>
where
    K: Key,
    V: Record + Clone,
    W: Record + Clone,
    P: Plan<Item = (K, V)>,
    Q: Plan<Item = (K, W)>,
{
    /// A side is broadcast that is known to be small, where the other one isn't known to be small as well: of little data a shuffle
    /// costs little, and gives what the next operator needn't shuffle. And only if there is then work for as many tasks as after a
    /// shuffle.
    pub(crate) fn of<J: Kind<V, W>>(ctx: &Context, left: &Rc<P>, right: &Rc<Q>) -> Option<Self> {
        let threshold = ctx.thresholds().broadcast;
        let is_small = |hint: Option<u64>| hint.is_some_and(|bytes| bytes <= threshold);
        let is_large = |hint: Option<u64>, partitions| {
            hint.is_none_or(|bytes| bytes / LARGE >= threshold)
                && partitions >= ctx.default_parallelism()
        };
        let (lefts, rights) = (left.bytes_hint(), right.bytes_hint());
        if threshold == 0 {
            None
        } else if !J::KEEPS_RIGHT && is_small(rights) && is_large(lefts, left.partitions()) {
            Some(Chosen::Right(Rc::clone(left), Small::new(right, Some(threshold))))
        } else if !J::KEEPS_LEFT && is_small(lefts) && is_large(rights, right.partitions()) {
            Some(Chosen::Left(Small::new(left, Some(threshold)), Rc::clone(right)))
        } else {
            None
        }
    }

    /// How many partitions the join has.
    pub(crate) fn partitions(&self) -> usize {
        match self {
            Chosen::Left(_, stream) => stream.partitions(),
            Chosen::Right(stream, _) => stream.partitions(),
        }
    }

    pub(crate) fn find_pieces(&self, ctx: &Context) -> Result<()> {
        match self {
            Chosen::Left(_, stream) => stream.find_pieces(ctx),
            Chosen::Right(stream, _) => stream.find_pieces(ctx),
        }
    }

    pub(crate) fn pieces(&self) -> Option<Pieces> {
        match self {
            Chosen::Left(_, stream) => stream.pieces(),
            Chosen::Right(stream, _) => stream.pieces(),
        }
    }

    pub(crate) fn lineage(&self, lineage: &mut Lineage) {
        match self {
            Chosen::Left(_, stream) => stream.lineage(lineage),
            Chosen::Right(stream, _) => stream.lineage(lineage),
        }
    }

    pub(crate) fn prepare(&self, ctx: &Context, are_keys: bool) -> Result<()> {
        match self {
            Chosen::Left(small, stream) => {
                stream.prepare(ctx)?;
                small.prepare(ctx, false)
            }
            Chosen::Right(stream, small) => {
                stream.prepare(ctx)?;
                small.prepare(ctx, are_keys)
            }
        }
    }

    /// Whether the small side was found to be none.
    pub(crate) fn is_too_large(&self) -> bool {
        match self {
            Chosen::Left(small, _) => small.is_too_large(),
            Chosen::Right(_, small) => small.is_too_large(),
        }
    }
}

/// How many times the threshold a side is at least that isn't small.
const LARGE: u64 = 4;
