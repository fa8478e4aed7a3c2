//! Datasets as sets of records.

use crate::cartesian::Cartesian;
use crate::codec::Record;
use crate::dataset::Dataset;
use crate::plan::{Boxed, Plan};
use crate::table::Key;

impl<T: Key, P: Plan<Item = T>> Dataset<T, P> {
    /// The records that `other` lacks, each as often as it occurs here.
    ///
    /// Shuffles both by the records' hashes. Tasks hold a partition of `other`'s distinct records in memory, or spill, while this dataset's
    /// streams past them.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let left = ctx.parallelize([1, 1, 2, 3, 3], 2);
    /// let mut rest = left.subtract(&ctx.parallelize([3, 4, 4], 2)).collect()?;
    /// rest.sort();
    /// assert_eq!(rest, [1, 1, 2]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn subtract<Q: Plan<Item = T>>(
        &self,
        other: &Dataset<T, Q>,
    ) -> Dataset<T, impl Plan<Item = T> + use<T, P, Q>>
    where
        T: Clone,
    {
        self.subtract_with_partitions(other, self.ctx.default_parallelism())
    }

    /// As [`Dataset::subtract`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let rest = ctx.range(0..6, 2).subtract_with_partitions(&ctx.range(1..6, 2), 1);
    /// assert_eq!((rest.num_partitions(), rest.collect()?), (1, vec![0]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn subtract_with_partitions<Q: Plan<Item = T>>(
        &self,
        other: &Dataset<T, Q>,
        partitions: usize,
    ) -> Dataset<T, impl Plan<Item = T> + use<T, P, Q>>
    where
        T: Clone,
    {
        let others = other.map(|record| (record, ()));
        self.map(|record| (record, ())).subtract_by_key_with_partitions(&others, partitions).keys()
    }

    /// The records that both have, each once.
    ///
    /// Shuffles both by the records' hashes; of equal records a task sends one, as far as it can remember. Tasks hold a partition of the distinct
    /// records of both in memory, or spill.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let left = ctx.parallelize([1, 1, 2, 3, 3], 2);
    /// assert_eq!(left.intersection(&ctx.parallelize([3, 3, 3, 4], 2)).collect()?, [3]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn intersection<Q: Plan<Item = T>>(
        &self,
        other: &Dataset<T, Q>,
    ) -> Dataset<T, impl Plan<Item = T> + use<T, P, Q>> {
        self.intersection_with_partitions(other, self.ctx.default_parallelism())
    }

    /// As [`Dataset::intersection`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let both = ctx.range(0..4, 2).intersection_with_partitions(&ctx.range(3..6, 2), 1);
    /// assert_eq!((both.num_partitions(), both.collect()?), (1, vec![3]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn intersection_with_partitions<Q: Plan<Item = T>>(
        &self,
        other: &Dataset<T, Q>,
        partitions: usize,
    ) -> Dataset<T, impl Plan<Item = T> + use<T, P, Q>> {
        const LEFT: u8 = 1;
        const RIGHT: u8 = 2;
        let others = other.map(|record| (record, RIGHT));
        self.map(|record| (record, LEFT))
            .union(&others)
            .reduce_by_key_with_partitions(|one, other| one | other, partitions)
            .filter(|(_, sides)| *sides == LEFT | RIGHT)
            .keys()
    }
}

impl<T: Clone + 'static, P: Plan<Item = T>> Dataset<T, P> {
    /// Each record of this dataset with each one of `other`.
    ///
    /// Nothing is shuffled. There are as many partitions as this dataset has times as many as `other` has; each computes one of both, so
    /// each partition of one dataset is computed as often as the other one has partitions. Where computing costs much, fewer and larger ones
    /// do better ([`coalesce`](Dataset::coalesce)), or what was shuffled before. A task holds its partition of `other` in memory, or spills, and
    /// computes it once.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([1, 2], 1).cartesian(&ctx.parallelize(['a', 'b'], 1));
    /// assert_eq!(pairs.collect()?, [(1, 'a'), (1, 'b'), (2, 'a'), (2, 'b')]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn cartesian<U: Record + Clone, Q: Plan<Item = U>>(
        &self,
        other: &Dataset<U, Q>,
    ) -> Dataset<(T, U), Cartesian<P, Q>> {
        self.then(|left| Cartesian::new(left, std::rc::Rc::clone(&other.plan)))
    }

    /// As [`Dataset::cartesian`], in so many partitions: neighbours are put together, after this dataset was shuffled into more partitions
    /// if there are too few.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let letters = ctx.parallelize(['a', 'b'], 2);
    /// let pairs = ctx.range(0..4, 2).cartesian_with_partitions(&letters, 3);
    /// assert_eq!((pairs.num_partitions(), pairs.count()?), (3, 8));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn cartesian_with_partitions<U: Record + Clone, Q: Plan<Item = U>>(
        &self,
        other: &Dataset<U, Q>,
        partitions: usize,
    ) -> Dataset<(T, U), Boxed<(T, U)>>
    where
        T: Record,
    {
        let others = other.num_partitions().max(1);
        let partitions = partitions.max(1);
        if self.num_partitions().saturating_mul(others) >= partitions {
            self.cartesian(other).coalesce(partitions).boxed()
        } else {
            let spread = self.repartition(partitions.div_ceil(others));
            spread.cartesian(other).coalesce(partitions).boxed()
        }
    }
}
