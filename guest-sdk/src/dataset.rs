//! The handle that jobs hold, and its narrow operators.

use std::fmt;
use std::rc::Rc;

use crate::context::Context;
use crate::error::Result;
use crate::narrow::{
    Coalesced, Filter, FlatMap, Glom, Map, MapPartitions, Narrow, Operator, Partition, Sample,
    Union, ZipWithIndex, Zipped,
};
use crate::plan::{Boxed, Plan};
use crate::tasks::succeeded;

/// A dataset: records in partitions, computed in tasks when an action asks for them.
///
/// A cheap handle; clones are the same dataset. Its narrow operators are in its type `P`, so that a stage is compiled as one
/// loop; [`Dataset::boxed`] forgets them.
pub struct Dataset<T, P = Boxed<T>> {
    pub(crate) ctx: Context,
    pub(crate) plan: Rc<P>,
    record: std::marker::PhantomData<fn() -> T>,
}

impl<T, P> Clone for Dataset<T, P> {
    fn clone(&self) -> Self {
        Dataset { ctx: self.ctx.clone(), plan: Rc::clone(&self.plan), record: self.record }
    }
}

impl<T, P> fmt::Debug for Dataset<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("record", &std::any::type_name::<T>())
            .finish_non_exhaustive()
    }
}

impl<T: 'static, P: Plan<Item = T>> Dataset<T, P> {
    pub(crate) fn new(ctx: &Context, plan: P) -> Self {
        Dataset { ctx: ctx.clone(), plan: Rc::new(plan), record: std::marker::PhantomData }
    }

    /// A dataset of this one's context that is computed from this one's plan.
    pub(crate) fn then<Q: Plan>(&self, plan: impl FnOnce(Rc<P>) -> Q) -> Dataset<Q::Item, Q> {
        Dataset::new(&self.ctx, plan(Rc::clone(&self.plan)))
    }

    /// The context it was made with.
    pub fn context(&self) -> &Context {
        &self.ctx
    }

    /// How many partitions it has.
    pub fn num_partitions(&self) -> usize {
        self.plan.partitions()
    }

    /// The same dataset without its operators in its type, for loops and struct fields. Costs a virtual call a record.
    pub fn boxed(&self) -> Dataset<T> {
        self.then(Boxed::new)
    }

    /// Applies an operator to each partition.
    pub(crate) fn apply<O: Operator<T>>(&self, operator: O) -> Dataset<O::Out, Narrow<P, O>> {
        self.then(|parent| Narrow::new(parent, operator))
    }

    /// Applies `f` to each record.
    pub fn map<U: 'static, F: Fn(T) -> U + 'static>(&self, f: F) -> Dataset<U, Narrow<P, Map<F>>> {
        self.apply(Map::new("map", f))
    }

    /// As [`Dataset::map`]; an `Err` fails its task with that text.
    pub fn try_map<U: 'static, F: Fn(T) -> Result<U> + 'static>(
        &self,
        f: F,
    ) -> Dataset<U, impl Plan<Item = U> + use<T, P, U, F>> {
        self.apply(Map::new("try_map", move |record| succeeded(f(record))))
    }

    /// Keeps the records for which `f` is true.
    pub fn filter<F: Fn(&T) -> bool + 'static>(&self, f: F) -> Dataset<T, Narrow<P, Filter<F>>> {
        self.apply(Filter(f))
    }

    /// Makes any number of records from each.
    pub fn flat_map<I, F>(&self, f: F) -> Dataset<I::Item, Narrow<P, FlatMap<F>>>
    where
        I: IntoIterator<IntoIter: 'static> + 'static,
        F: Fn(T) -> I + 'static,
    {
        self.apply(FlatMap(f))
    }

    /// Applies `f` to each partition's records as an iterator.
    pub fn map_partitions<I, F>(
        &self,
        f: F,
    ) -> Dataset<I::Item, impl Plan<Item = I::Item> + use<T, P, I, F>>
    where
        I: IntoIterator<IntoIter: 'static> + 'static,
        F: Fn(Partition<T>) -> I + 'static,
    {
        self.apply(MapPartitions::new("map_partitions", move |_, records| f(records)))
    }

    /// As [`Dataset::map_partitions`], with the partition's number before its records.
    pub fn map_partitions_with_index<I, F>(
        &self,
        f: F,
    ) -> Dataset<I::Item, Narrow<P, MapPartitions<F>>>
    where
        I: IntoIterator<IntoIter: 'static> + 'static,
        F: Fn(usize, Partition<T>) -> I + 'static,
    {
        self.apply(MapPartitions::new("map_partitions_with_index", f))
    }

    /// Makes pairs: `f` gives each record its key.
    pub fn key_by<K: 'static, F: Fn(&T) -> K + 'static>(
        &self,
        f: F,
    ) -> Dataset<(K, T), impl Plan<Item = (K, T)> + use<T, P, K, F>> {
        self.apply(Map::new("key_by", move |record| (f(&record), record)))
    }

    /// Makes one record of each partition: all of its records.
    pub fn glom(&self) -> Dataset<Vec<T>, Narrow<P, Glom>> {
        self.apply(Glom)
    }

    /// A random part: each record with this probability, or with replacement so often on average. The same seed gives the same
    /// part.
    pub fn sample(
        &self,
        with_replacement: bool,
        fraction: f64,
        seed: u64,
    ) -> Dataset<T, Narrow<P, Sample>>
    where
        T: Clone,
    {
        // Nobody means more copies of a record than this; infinity would be without end.
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1e6) };
        self.apply(Sample::new(with_replacement, fraction, seed))
    }

    /// The records of both, this one's first. Nothing is made distinct.
    pub fn union<Q: Plan<Item = T>>(&self, other: &Dataset<T, Q>) -> Dataset<T, Union<P, Q>> {
        self.then(|parent| Union::new(parent, Rc::clone(&other.plan)))
    }

    /// The same records in at most so many partitions, by putting neighbours together; nothing is shuffled.
    pub fn coalesce(&self, partitions: usize) -> Dataset<T, Coalesced<P>> {
        self.then(|parent| Coalesced::new(parent, partitions))
    }

    /// Pairs the records of both, first with first. Nothing is shuffled: partitions are paired too.
    ///
    /// Both must have as many partitions, or actions fail before anything runs, and each of these as many records, or its task fails. That is
    /// so of datasets that were made of one by operators such as `map`; others may be joined by
    /// [`zip_with_index`](Dataset::zip_with_index).
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let numbers = ctx.parallelize([1, 2, 3], 2);
    /// let squares = numbers.map(|n| n * n);
    /// assert_eq!(numbers.zip(&squares).collect()?, [(1, 1), (2, 4), (3, 9)]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn zip<U: 'static, Q: Plan<Item = U>>(
        &self,
        other: &Dataset<U, Q>,
    ) -> Dataset<(T, U), Zipped<P, Q>> {
        self.then(|parent| Zipped::new(parent, Rc::clone(&other.plan)))
    }

    /// Pairs each record with its number, from 0, in the order of `collect`. Runs a job that counts when there are several
    /// partitions.
    pub fn zip_with_index(&self) -> Dataset<(T, u64), ZipWithIndex<P>> {
        self.then(ZipWithIndex::new)
    }
}
