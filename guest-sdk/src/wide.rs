//! Wide operators on any records.

use std::rc::Rc;

use crate::aggregate::Aggregated;
use crate::codec::Record;
use crate::dataset::Dataset;
use crate::plan::Plan;
use crate::shuffle::{Dependency, Exchanged};
use crate::sort::Sorted;
use crate::table::Key;

/// Each has a form that is told how many partitions to make; the other takes the context's default.
impl<T: Record, P: Plan<Item = T>> Dataset<T, P> {
    /// The same records, evenly over so many partitions.
    pub fn repartition(&self, partitions: usize) -> Dataset<T, Exchanged<T>> {
        let dependency = Dependency::new(
            &self.ctx,
            "repartition",
            &self.plan,
            partitions.max(1),
            |plan, task, writer| {
                let partition = task.context().partition as usize;
                // Tasks begin in different places, or the first partition would get the most.
                let mut next = partition % writer.partitions();
                plan.compute(partition, Rc::clone(task)).for_each(|record| {
                    writer.push(next, &record);
                    next = (next + 1) % writer.partitions();
                });
            },
        );
        self.then(|_| Exchanged::new(dependency))
    }

    /// Each record once.
    pub fn distinct(&self) -> Dataset<T, impl Plan<Item = T> + use<T, P>>
    where
        T: Key,
    {
        self.distinct_with_partitions(self.ctx.default_parallelism())
    }

    /// As [`Dataset::distinct`].
    pub fn distinct_with_partitions(
        &self,
        partitions: usize,
    ) -> Dataset<T, impl Plan<Item = T> + use<T, P>>
    where
        T: Key,
    {
        self.map(|record| (record, ()))
            .reduce_by_key_with_partitions(|(), ()| (), partitions)
            .keys()
    }

    /// Each value of `f` with the records that have it. One value's records must fit in memory.
    pub fn group_by<K: Key>(
        &self,
        f: impl Fn(&T) -> K + 'static,
    ) -> Dataset<(K, Vec<T>), Aggregated<K, Vec<T>>> {
        self.group_by_with_partitions(f, self.ctx.default_parallelism())
    }

    /// As [`Dataset::group_by`].
    pub fn group_by_with_partitions<K: Key>(
        &self,
        f: impl Fn(&T) -> K + 'static,
        partitions: usize,
    ) -> Dataset<(K, Vec<T>), Aggregated<K, Vec<T>>> {
        self.key_by(f).group_by_key_with_partitions(partitions)
    }

    /// All records in the order of their keys, over all partitions. A job samples the keys first.
    pub fn sort_by<K: Record + Ord>(
        &self,
        key: impl Fn(&T) -> K + 'static,
        ascending: bool,
    ) -> Dataset<T, Sorted<T, K>> {
        self.sort_by_with_partitions(key, ascending, self.ctx.default_parallelism())
    }

    /// As [`Dataset::sort_by`].
    pub fn sort_by_with_partitions<K: Record + Ord>(
        &self,
        key: impl Fn(&T) -> K + 'static,
        ascending: bool,
        partitions: usize,
    ) -> Dataset<T, Sorted<T, K>> {
        self.then(|parent| Sorted::new(&self.ctx, "sort_by", &parent, partitions, key, ascending))
    }
}

impl<K: Record + Ord + Clone, V: Record, P: Plan<Item = (K, V)>> Dataset<(K, V), P> {
    /// All pairs in the order of their keys, over all partitions. A job samples the keys first.
    pub fn sort_by_key(&self, ascending: bool) -> Dataset<(K, V), Sorted<(K, V), K>> {
        self.sort_by_key_with_partitions(ascending, self.ctx.default_parallelism())
    }

    /// As [`Dataset::sort_by_key`].
    pub fn sort_by_key_with_partitions(
        &self,
        ascending: bool,
        partitions: usize,
    ) -> Dataset<(K, V), Sorted<(K, V), K>> {
        let key = |pair: &(K, V)| pair.0.clone();
        self.then(|parent| {
            Sorted::new(&self.ctx, "sort_by_key", &parent, partitions, key, ascending)
        })
    }
}
