//! Pairs put where their keys say.

use std::rc::Rc;

use crate::codec::Record;
use crate::context::Context;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::join::Side;
use crate::partitioning::Partitioning;
use crate::plan::{Lineage, Plan};
use crate::sort::SortedWithin;
use crate::table::Key;
use crate::task::TaskScope;

/// Each key's pairs in one partition. Shuffles, unless they lie so already: they were put there by the same function, or with
/// [`by_hash`](crate::by_hash) by any operator by key, with as many partitions, and only values were changed since.
///
/// The function must give equal keys the same number, always. It may be any number: it is taken modulo the number of partitions. The
/// partitioning is known by its function, if that captures nothing, else by this very call.
///
/// What comes out is partitioned: operators by key on it don't shuffle it again, as long as only values are changed.
/// [`reduce_by_key`](Dataset::reduce_by_key), [`join`](Dataset::join) and their kin take over such a partitioning if it has no fewer partitions
/// than the context's default. `partition_by` pays where its result is used several times.
impl<K: Key, V: Record, P: Plan<Item = (K, V)>> Dataset<(K, V), P> {
    /// The same pairs, in the partitions that `f` says.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.range(0..6, 3).map(|n| (n, ()));
    /// let parts = pairs.partition_by_with_partitions(|n| *n as usize, 2).keys().glom().collect()?;
    /// assert_eq!(parts, [[0, 2, 4], [1, 3, 5]]);
    ///
    /// // As a hash partitioner does it: neither side of this join is shuffled.
    /// let links = pairs.partition_by_with_partitions(by_hash, 8);
    /// let sums = pairs.map_values(|()| 1).reduce_by_key_with_partitions(|a, b| a + b, 8);
    /// assert_eq!(links.join(&sums).count()?, 6);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn partition_by(
        &self,
        f: impl Fn(&K) -> usize + 'static,
    ) -> Dataset<(K, V), PartitionedBy<P>> {
        self.partition_by_with_partitions(f, self.ctx.default_parallelism())
    }

    /// As [`Dataset::partition_by`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.range(0..6, 4).map(|n| (n, ())).partition_by_with_partitions(|n| *n as usize, 3);
    /// assert_eq!(pairs.keys().glom().collect()?, [[0, 3], [1, 4], [2, 5]]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn partition_by_with_partitions(
        &self,
        f: impl Fn(&K) -> usize + 'static,
        partitions: usize,
    ) -> Dataset<(K, V), PartitionedBy<P>> {
        let to = Partitioning::function(partitions, f);
        self.then(|parent| PartitionedBy::new(&self.ctx, "partition_by", &parent, to))
    }

    /// As [`Dataset::partition_by`], with each partition in the order of its keys; pairs of one key stay as they came, as far as a shuffle knows.
    /// What doesn't fit in memory is sorted on disk: unlike [`group_by_key`](Dataset::group_by_key) it may hold any number of values for a key.
    ///
    /// To have each user's events in order of time, make the key of both and place it by the user:
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let events = [((7, 20), "leaves"), ((8, 11), "comes"), ((7, 10), "comes")];
    /// let events = ctx.parallelize(events.map(|(key, what)| (key, what.to_owned())), 3);
    /// let by_user = |(user, _time): &(u32, u32)| *user as usize;
    /// let parts = events.repartition_and_sort_within_partitions_with_partitions(by_user, 2);
    /// assert_eq!(parts.keys().glom().collect()?, [vec![(8, 11)], vec![(7, 10), (7, 20)]]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn repartition_and_sort_within_partitions(
        &self,
        f: impl Fn(&K) -> usize + 'static,
    ) -> Dataset<(K, V), SortedWithin<PartitionedBy<P>>>
    where
        K: Ord + Clone,
    {
        let partitions = self.ctx.default_parallelism();
        self.repartition_and_sort_within_partitions_with_partitions(f, partitions)
    }

    /// As [`Dataset::repartition_and_sort_within_partitions`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([3, 2, 1, 0].map(|n: u32| (n, ())), 2);
    /// let sorted = pairs.repartition_and_sort_within_partitions_with_partitions(|n| *n as usize, 2);
    /// assert_eq!(sorted.keys().glom().collect()?, [[0, 2], [1, 3]]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn repartition_and_sort_within_partitions_with_partitions(
        &self,
        f: impl Fn(&K) -> usize + 'static,
        partitions: usize,
    ) -> Dataset<(K, V), SortedWithin<PartitionedBy<P>>>
    where
        K: Ord + Clone,
    {
        let (name, to) =
            ("repartition_and_sort_within_partitions", Partitioning::function(partitions, f));
        self.then(|parent| PartitionedBy::new(&self.ctx, name, &parent, to)).then(SortedWithin::new)
    }
}

/// The plan of `partition_by`.
pub struct PartitionedBy<P> {
    side: Side<P>,
    partitioning: Partitioning,
}

impl<K: Key, V: Record, P: Plan<Item = (K, V)>> PartitionedBy<P> {
    fn new(ctx: &Context, name: &'static str, parent: &Rc<P>, to: Partitioning) -> Self {
        PartitionedBy { side: Side::of_pairs(ctx, name, parent, &to, false), partitioning: to }
    }
}

impl<K: Key, V: Record, P: Plan<Item = (K, V)>> Plan for PartitionedBy<P> {
    type Item = (K, V);

    fn partitions(&self) -> usize {
        self.partitioning.partitions()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = (K, V)> + 'static {
        self.side.pairs(partition, &task)
    }

    fn lineage(&self, lineage: &mut Lineage) {
        self.side.lineage(lineage);
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        self.side.prepare(ctx)
    }

    fn partitioning(&self) -> Option<Partitioning> {
        Some(self.partitioning.clone())
    }
}
