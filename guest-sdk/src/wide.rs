//! Wide operators on any records.

use std::rc::Rc;

use crate::aggregate::Aggregated;
use crate::codec::{self, Record};
use crate::dataset::Dataset;
use crate::plan::Plan;
use crate::shuffle::{Dependency, Exchanged, Writer};
use crate::sort::Sorted;
use crate::table::{self, Key};
use crate::task::{TaskScope, done};

/// Each has a form that is told how many partitions to make (0 is taken as 1); the other takes the context's default.
impl<T: Record, P: Plan<Item = T>> Dataset<T, P> {
    /// The same records, evenly over so many partitions. Always shuffles: each task deals its records out in turn, so all of them travel,
    /// and their order is lost. Those that come out of an operator by key, or a sort, in no certain order go where their bytes say, equal ones
    /// to the same partition. Tasks hold only buffers. To have fewer partitions, [`coalesce`](Dataset::coalesce) may do without a
    /// shuffle.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let spread = ctx.range(0..100, 1).repartition(4);
    /// assert_eq!(spread.glom().map(|part| part.len()).collect()?, [25, 25, 25, 25]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn repartition(&self, partitions: usize) -> Dataset<T, Exchanged<T>> {
        let is_ordered = self.plan.is_ordered();
        let dependency = Dependency::new(
            &self.ctx,
            "repartition",
            &self.plan,
            partitions.max(1),
            false,
            move |plan, task, writer| {
                if !is_ordered {
                    return scatter(plan, task, writer);
                }
                let partition = task.partition();
                // Tasks begin in different places, or the first partition would get the most.
                let mut next = partition % writer.partitions();
                plan.compute(partition, Rc::clone(task)).for_each(|record| {
                    writer.push(next, &record);
                    next = (next + 1) % writer.partitions();
                });
            },
        );
        self.then(|_| Exchanged::new(dependency, is_ordered))
    }

    /// Each record once. Always shuffles, by the records' hashes; of equal records a task sends one, or a few where its table didn't fit.
    /// Tasks hold a partition's distinct records, or spill.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let mut letters = ctx.parallelize(['b', 'a', 'b'], 2).distinct().collect()?;
    /// letters.sort();
    /// assert_eq!(letters, ['a', 'b']);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn distinct(&self) -> Dataset<T, impl Plan<Item = T> + use<T, P>>
    where
        T: Key,
    {
        self.distinct_with_partitions(self.ctx.default_parallelism())
    }

    /// As [`Dataset::distinct`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let remainders = ctx.range(0..10, 4).map(|n| n % 3).distinct_with_partitions(2);
    /// assert_eq!((remainders.num_partitions(), remainders.count()?), (2, 3));
    /// # Ok::<(), Error>(())
    /// ```
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

    /// Each value of `f` with the records that have it. Always shuffles, and all records travel. Tasks hold a partition, or spill; one
    /// value's records must fit in memory.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let words = ctx.parallelize(["to", "be", "not"].map(String::from), 2);
    /// let mut sizes = words.group_by(|word| word.len()).map_values(|words| words.len()).collect()?;
    /// sizes.sort();
    /// assert_eq!(sizes, [(2, 2), (3, 1)]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn group_by<K: Key>(
        &self,
        f: impl Fn(&T) -> K + 'static,
    ) -> Dataset<(K, Vec<T>), Aggregated<K, Vec<T>>> {
        self.group_by_with_partitions(f, self.ctx.default_parallelism())
    }

    /// As [`Dataset::group_by`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let groups = ctx.range(0..10, 4).group_by_with_partitions(|n| n % 3, 2);
    /// assert_eq!((groups.num_partitions(), groups.count()?), (2, 3));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn group_by_with_partitions<K: Key>(
        &self,
        f: impl Fn(&T) -> K + 'static,
        partitions: usize,
    ) -> Dataset<(K, Vec<T>), Aggregated<K, Vec<T>>> {
        self.key_by(f).group_by_key_with_partitions(partitions)
    }

    /// All records in the order of their keys, over all partitions. Always shuffles, by ranges of keys; equal keys lie in one partition.
    ///
    /// The first action runs a job before that samples the keys, to find ranges of about the same size: 60 keys of each task or more
    /// come to the driver. That computes this dataset, which is so computed twice; [persist](Dataset::persist) what costs much. One
    /// partition needs no sample. Tasks hold a range at a time, of about 2 MiB if the sample tells so many, or sort parts of what is larger and spill them: a partition
    /// may be any size. `key` is called several times for a record.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let words = ctx.parallelize(["not", "or", "question"].map(String::from), 2);
    /// assert_eq!(words.sort_by(|word| word.len(), false).collect()?, ["question", "not", "or"]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn sort_by<K: Record + Ord>(
        &self,
        key: impl Fn(&T) -> K + 'static,
        ascending: bool,
    ) -> Dataset<T, Sorted<T, K>> {
        self.sort_by_with_partitions(key, ascending, self.ctx.default_parallelism())
    }

    /// As [`Dataset::sort_by`], into so many partitions. Of few different keys some stay empty.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let numbers = ctx.parallelize([3, 1, 4, 1, 5], 2);
    /// assert_eq!(numbers.sort_by_with_partitions(|n| *n, true, 1).collect()?, [1, 1, 3, 4, 5]);
    /// # Ok::<(), Error>(())
    /// ```
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
    /// All pairs in the order of their keys, over all partitions. It shuffles, samples, holds and spills as [`sort_by`](Dataset::sort_by)
    /// does.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([(2, 'b'), (3, 'c'), (1, 'a')], 2);
    /// assert_eq!(pairs.sort_by_key(true).collect()?, [(1, 'a'), (2, 'b'), (3, 'c')]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn sort_by_key(&self, ascending: bool) -> Dataset<(K, V), Sorted<(K, V), K>> {
        self.sort_by_key_with_partitions(ascending, self.ctx.default_parallelism())
    }

    /// As [`Dataset::sort_by_key`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([(2, 'b'), (3, 'c'), (1, 'a')], 2);
    /// assert_eq!(pairs.sort_by_key_with_partitions(false, 1).values().collect()?, ['c', 'b', 'a']);
    /// # Ok::<(), Error>(())
    /// ```
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

/// Writes each record where its own bytes say. Records that may come in another order when an output is lost and computed again can't be
/// dealt out in turn: the same one would go to another partition, and be lost or read twice by who has read the old output.
fn scatter<T: Record, P: Plan<Item = T>>(plan: Rc<P>, task: &Rc<TaskScope>, writer: &mut Writer) {
    let mut bytes = Vec::new();
    plan.compute(task.partition(), Rc::clone(task)).for_each(|record| {
        bytes.clear();
        done(codec::encode(&record, &mut bytes));
        let to = table::place(&bytes, writer.partitions());
        writer.push_with(to, |buffer| buffer.extend_from_slice(&bytes));
    });
}
