//! Two datasets of pairs brought together by key.

mod broadcast;
mod cogroup;
mod joined;
mod matches;
mod side;
mod small;
mod values;

pub use broadcast::BroadcastJoined;
pub use cogroup::CoGrouped;
pub use joined::{FullOuter, Inner, Joined, Kind, LeftOuter, RightOuter, Without};
pub(crate) use side::Side;

use crate::codec::Record;
use crate::dataset::Dataset;
use crate::partitioning::Partitioning;
use crate::plan::Plan;
use crate::table::Key;

/// Both datasets are shuffled by their keys' hashes, but for one whose records lie where they must already: it was made by an operator by
/// key with as many partitions, or by [`partition_by`](Dataset::partition_by), and only its values were changed since.
///
/// Each operator has a form that is told how many partitions to make (0 is taken as 1). The other takes the context's default, or what
/// one of the inputs has if that is more and its records lie by their keys.
///
/// Tasks hold one partition of `other` in memory while this dataset's streams past it, so the smaller one should be `other`. What doesn't fit
/// is spilled; one key's values must fit.
///
/// A partition that has much more of one side than others have (a quarter more than the mean, and `ingle.join.skew.threshold` or more: 16m if that isn't set;
/// 0: never) is shared by several tasks, which each read what some tasks wrote of that side, and all of the other: not of a side of which what
/// has no partner comes out for the other. To know how large partitions are, actions run the shuffles of a join in a job of their own, unless
/// both sides are known to be small, and there are no more partitions than tasks should be. Operators after it that treat records one by one run in the same tasks; what needs a whole partition
/// ([`map_partitions`](Dataset::map_partitions), [`cache`](Dataset::cache) and such) is computed by one task as ever. `save_as_…` writes a file for
/// each task. Partitions that are tiny are put together, as of any [operator by key](Dataset::reduce_by_key).
///
/// Without a number, [`join`](Dataset::join), `left_outer_join`, `right_outer_join` and `subtract_by_key` shuffle nothing where a side is known
/// to be small before anything runs: they broadcast it, as [`broadcast_join`](Dataset::broadcast_join) does. Small is up to
/// `ingle.join.broadcast.threshold` (10m if that isn't set; 0: nothing is). Known is how large files are that aren't compressed, and the
/// driver's own values without what they point at; `map`, `filter` and their kin, `union`, `coalesce` and `persist` are taken to keep it.
/// Of the other side at least four times as much must be known, or nothing; it must have no fewer partitions than the context's default;
/// and neither may lie in place. It can't be a side whose pairs come out without a partner. What comes out has the other side's partitions,
/// and it isn't known where its keys lie. A side that turns out to be much larger than it seemed is shuffled after all, into as many
/// partitions; what was computed of it by then is computed again, so its closures run twice.
#[allow(clippy::type_complexity, reason = "what comes out is best read where it is returned")]
impl<K: Key, V: Record, P: Plan<Item = (K, V)>> Dataset<(K, V), P> {
    /// How this dataset and another one are brought together.
    fn meet<W: 'static, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
        partitions: Option<usize>,
    ) -> Partitioning {
        match partitions {
            Some(partitions) => Partitioning::hash(partitions),
            None => Partitioning::of_inputs(
                &self.ctx,
                [self.plan.partitioning(), other.plan.partitioning()],
            ),
        }
    }

    /// Each key of either dataset with its values in both. Tasks hold a partition of both.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let left = ctx.parallelize([('a', 1), ('b', 2)], 2);
    /// let right = ctx.parallelize([('a', 10), ('a', 11)], 2);
    /// let mut both = left.cogroup(&right).collect()?;
    /// both.sort();
    /// assert_eq!(both, [('a', (vec![1], vec![10, 11])), ('b', (vec![2], vec![]))]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn cogroup<W: Record, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
    ) -> Dataset<(K, (Vec<V>, Vec<W>)), CoGrouped<P, Q>> {
        let partitioning = self.meet(other, None);
        self.then(|left| CoGrouped::new(&self.ctx, &left, &other.plan, partitioning))
    }

    /// As [`Dataset::cogroup`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([('a', 1), ('b', 2)], 2);
    /// let both = pairs.cogroup_with_partitions(&pairs, 3);
    /// assert_eq!((both.num_partitions(), both.lookup(&'a')?), (3, vec![(vec![1], vec![1])]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn cogroup_with_partitions<W: Record, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
        partitions: usize,
    ) -> Dataset<(K, (Vec<V>, Vec<W>)), CoGrouped<P, Q>> {
        let partitioning = Partitioning::hash(partitions);
        self.then(|left| CoGrouped::new(&self.ctx, &left, &other.plan, partitioning))
    }
}

/// Joins, of pairs that can be cloned: one comes out with each that it meets.
#[allow(clippy::type_complexity, reason = "what comes out is best read where it is returned")]
impl<K: Key + Clone, V: Record + Clone, P: Plan<Item = (K, V)>> Dataset<(K, V), P> {
    fn joined<W: Record + Clone, Q: Plan<Item = (K, W)>, J: Kind<V, W>>(
        &self,
        name: &'static str,
        other: &Dataset<(K, W), Q>,
        partitions: Option<usize>,
    ) -> Dataset<(K, J::Out), Joined<P, Q, J>> {
        let (ctx, right) = (&self.ctx, &other.plan);
        let to = self.meet(other, partitions);
        self.then(|left| Joined::new(ctx, name, &left, right, to, partitions.is_none()))
    }

    /// Each pair of values that a key has in both datasets. Shuffles what doesn't lie in place already, or broadcasts a small side; tasks hold
    /// a partition of `other`, or spill both, and one key's values must fit in memory.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let ages = ctx.parallelize([("ann", 31), ("bob", 28)].map(|(n, a)| (n.to_owned(), a)), 2);
    /// let towns = ctx.parallelize([("ann", 'X'), ("cat", 'Y')].map(|(n, t)| (n.to_owned(), t)), 2);
    /// assert_eq!(ages.join(&towns).collect()?, [("ann".to_owned(), (31, 'X'))]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn join<W: Record + Clone, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
    ) -> Dataset<(K, (V, W)), Joined<P, Q, Inner>> {
        self.joined("join", other, None)
    }

    /// As [`Dataset::join`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([('a', 1), ('b', 2)], 2);
    /// let joined = pairs.join_with_partitions(&pairs, 3);
    /// assert_eq!((joined.num_partitions(), joined.lookup(&'a')?), (3, vec![(1, 1)]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn join_with_partitions<W: Record + Clone, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
        partitions: usize,
    ) -> Dataset<(K, (V, W)), Joined<P, Q, Inner>> {
        self.joined("join", other, Some(partitions))
    }

    /// As [`Dataset::join`], and each pair of this dataset whose key `other` lacks, with `None`.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let left = ctx.parallelize([(1, 'a'), (2, 'b')], 2);
    /// let right = ctx.parallelize([(1, "one".to_owned()), (3, "three".to_owned())], 2);
    /// let mut joined = left.left_outer_join(&right).collect()?;
    /// joined.sort();
    /// assert_eq!(joined, [(1, ('a', Some("one".to_owned()))), (2, ('b', None))]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn left_outer_join<W: Record + Clone, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
    ) -> Dataset<(K, (V, Option<W>)), Joined<P, Q, LeftOuter>> {
        self.joined("left_outer_join", other, None)
    }

    /// As [`Dataset::left_outer_join`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([('a', 1), ('b', 2)], 2);
    /// let joined = pairs.left_outer_join_with_partitions(&pairs.filter(|(key, _)| *key == 'a'), 3);
    /// assert_eq!((joined.num_partitions(), joined.lookup(&'b')?), (3, vec![(2, None)]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn left_outer_join_with_partitions<W: Record + Clone, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
        partitions: usize,
    ) -> Dataset<(K, (V, Option<W>)), Joined<P, Q, LeftOuter>> {
        self.joined("left_outer_join", other, Some(partitions))
    }

    /// As [`Dataset::join`], and each pair of `other` whose key this dataset lacks, with `None`.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let left = ctx.parallelize([(1, 'a'), (2, 'b')], 2);
    /// let right = ctx.parallelize([(1, "one".to_owned()), (3, "three".to_owned())], 2);
    /// let mut joined = left.right_outer_join(&right).collect()?;
    /// joined.sort();
    /// assert_eq!(joined, [(1, (Some('a'), "one".to_owned())), (3, (None, "three".to_owned()))]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn right_outer_join<W: Record + Clone, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
    ) -> Dataset<(K, (Option<V>, W)), Joined<P, Q, RightOuter>> {
        self.joined("right_outer_join", other, None)
    }

    /// As [`Dataset::right_outer_join`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([('a', 1), ('b', 2)], 2);
    /// let joined = pairs.filter(|(key, _)| *key == 'a').right_outer_join_with_partitions(&pairs, 3);
    /// assert_eq!((joined.num_partitions(), joined.lookup(&'b')?), (3, vec![(None, 2)]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn right_outer_join_with_partitions<W: Record + Clone, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
        partitions: usize,
    ) -> Dataset<(K, (Option<V>, W)), Joined<P, Q, RightOuter>> {
        self.joined("right_outer_join", other, Some(partitions))
    }

    /// As [`Dataset::join`], and each pair of either dataset whose key the other one lacks, with `None`.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let left = ctx.parallelize([(1, 'a'), (2, 'b')], 2);
    /// let right = ctx.parallelize([(1, 'x'), (3, 'y')], 2);
    /// let mut joined = left.full_outer_join(&right).collect()?;
    /// joined.sort();
    /// assert_eq!(joined, [(1, (Some('a'), Some('x'))), (2, (Some('b'), None)), (3, (None, Some('y')))]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn full_outer_join<W: Record + Clone, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
    ) -> Dataset<(K, (Option<V>, Option<W>)), Joined<P, Q, FullOuter>> {
        self.joined("full_outer_join", other, None)
    }

    /// As [`Dataset::full_outer_join`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let (left, right) = (ctx.parallelize([('a', 1)], 1), ctx.parallelize([('b', 2)], 1));
    /// let joined = left.full_outer_join_with_partitions(&right, 3);
    /// assert_eq!((joined.num_partitions(), joined.lookup(&'b')?), (3, vec![(None, Some(2))]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn full_outer_join_with_partitions<W: Record + Clone, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
        partitions: usize,
    ) -> Dataset<(K, (Option<V>, Option<W>)), Joined<P, Q, FullOuter>> {
        self.joined("full_outer_join", other, Some(partitions))
    }

    /// The pairs whose keys `other` lacks, all of them however often they occur. Of `other` only keys travel and are held, each once.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let orders = ctx.parallelize([("ann", 1), ("bob", 2), ("bob", 3)].map(|(n, o)| (n.to_owned(), o)), 2);
    /// let paid = ctx.parallelize([("ann".to_owned(), true)], 1);
    /// let mut due = orders.subtract_by_key(&paid).values().collect()?;
    /// due.sort();
    /// assert_eq!(due, [2, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn subtract_by_key<W: 'static, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
    ) -> Dataset<(K, V), impl Plan<Item = (K, V)> + use<K, V, P, W, Q>> {
        self.joined::<_, _, Without>("subtract_by_key", &other.map_values(|_| ()), None)
    }

    /// As [`Dataset::subtract_by_key`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([('a', 1), ('b', 2)], 2);
    /// let rest = pairs.subtract_by_key_with_partitions(&ctx.parallelize([('a', ())], 1), 3);
    /// assert_eq!((rest.num_partitions(), rest.collect()?), (3, vec![('b', 2)]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn subtract_by_key_with_partitions<W: 'static, Q: Plan<Item = (K, W)>>(
        &self,
        other: &Dataset<(K, W), Q>,
        partitions: usize,
    ) -> Dataset<(K, V), impl Plan<Item = (K, V)> + use<K, V, P, W, Q>> {
        let keys = other.map_values(|_| ());
        self.joined::<_, _, Without>("subtract_by_key", &keys, Some(partitions))
    }
}
