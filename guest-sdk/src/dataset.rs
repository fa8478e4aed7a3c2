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
/// A cheap handle; clones are the same dataset. Its narrow operators are in its type `P`, so that a stage is compiled as one loop;
/// [`Dataset::boxed`] forgets them. An action computes again what was neither shuffled nor [persisted](Dataset::persist) before; what
/// was shuffled is kept as long as there is a dataset that reads it.
///
/// ```
/// # use ingle::prelude::*;
/// # let ctx = Context::local();
/// let words = ctx.parallelize(["to", "be", "or", "not", "to", "be"].map(String::from), 2);
/// let lengths = words.map(|word| (word.len(), 1)).reduce_by_key(|a, b| a + b);
/// assert_eq!(lengths.lookup(&2)?, [5]);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
///
/// A task fails if a closure panics, if `try_map` and its kin are given an `Err`, or if a record can't be encoded or decoded. It is
/// tried again, up to 4 times in all (`ingle.task.maxFailures`); then its action gives an error with the text of the last failure.
/// Actions in a task, where there is no driver to ask, give one too.
///
/// ```
/// # use ingle::prelude::*;
/// # let ctx = Context::local();
/// let error = ctx.parallelize([1, 0], 1).map(|n| 10 / n).collect().unwrap_err();
/// assert!(error.to_string().contains("divide by zero"));
/// # Ok::<(), Error>(())
/// ```
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
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let numbers = ctx.range(0..4, 2);
    /// assert_eq!(numbers.context().default_parallelism(), ctx.default_parallelism());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn context(&self) -> &Context {
        &self.ctx
    }

    /// How many partitions it has: as many tasks compute it, or a few more where they share large partitions of a join. Nothing runs.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.range(0..4, 2).union(&ctx.range(4..6, 3)).num_partitions(), 5);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn num_partitions(&self) -> usize {
        self.plan.partitions()
    }

    /// The same dataset without its operators in its type, for loops and struct fields. Costs a virtual call a record.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let mut numbers = ctx.range(0..3, 2).boxed();
    /// for _ in 0..10 {
    ///     numbers = numbers.map(|n| n + 1).boxed();
    /// }
    /// assert_eq!(numbers.collect()?, [10, 11, 12]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn boxed(&self) -> Dataset<T> {
        self.then(Boxed::new)
    }

    /// Applies an operator to each partition.
    pub(crate) fn apply<O: Operator<T>>(&self, operator: O) -> Dataset<O::Out, Narrow<P, O>> {
        self.then(|parent| Narrow::new(parent, operator))
    }

    /// Applies `f` to each record. Nothing is shuffled or held. Of pairs it is no longer known where their keys lie:
    /// [`map_values`](Dataset::map_values) keeps that.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.range(0..4, 2).map(|n| n * n).collect()?, [0, 1, 4, 9]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn map<U: 'static, F: Fn(T) -> U + 'static>(&self, f: F) -> Dataset<U, Narrow<P, Map<F>>> {
        self.apply(Map::new("map", f))
    }

    /// As [`Dataset::map`]; an `Err` fails its task with that text.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let numbers = ctx.parallelize(["1", "2", "x"], 2).try_map(|text| Ok(text.parse::<u32>()?));
    /// let error = numbers.collect().unwrap_err();
    /// assert!(error.to_string().contains("invalid digit"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn try_map<U: 'static, F: Fn(T) -> Result<U> + 'static>(
        &self,
        f: F,
    ) -> Dataset<U, impl Plan<Item = U> + use<T, P, U, F>> {
        self.apply(Map::new("try_map", move |record| succeeded(f(record))))
    }

    /// Keeps the records for which `f` is true, where they are: nothing is shuffled or held. Partitions may be left small or empty;
    /// [`coalesce`](Dataset::coalesce) puts some together.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.range(0..6, 2).filter(|n| n % 2 == 0).collect()?, [0, 2, 4]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn filter<F: Fn(&T) -> bool + 'static>(&self, f: F) -> Dataset<T, Narrow<P, Filter<F>>> {
        self.apply(Filter(f))
    }

    /// Makes any number of records from each. They are taken from the iterator one at a time; nothing is shuffled or held.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let lines = ctx.parallelize(["to be", "or not"], 2);
    /// assert_eq!(lines.flat_map(|line| line.split(' ').map(String::from)).collect()?, ["to", "be", "or", "not"]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn flat_map<I, F>(&self, f: F) -> Dataset<I::Item, Narrow<P, FlatMap<F>>>
    where
        I: IntoIterator<IntoIter: 'static> + 'static,
        F: Fn(T) -> I + 'static,
    {
        self.apply(FlatMap(f))
    }

    /// Applies `f` to each partition's records as an iterator, once for each partition, also for those without records: for what is costly
    /// to set up. Nothing is shuffled.
    ///
    /// What comes out is taken from the iterator that `f` gives one record at a time, so adaptors of the given one hold nothing. What `f`
    /// collects must fit in the task's memory: it is never spilled.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let sums = ctx.range(0..6, 2).map_partitions(|numbers| [numbers.sum::<u64>()]);
    /// assert_eq!(sums.collect()?, [3, 12]);
    /// # Ok::<(), Error>(())
    /// ```
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
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let placed = ctx.range(0..4, 2).map_partitions_with_index(|at, numbers| numbers.map(move |n| (at, n)));
    /// assert_eq!(placed.collect()?, [(0, 0), (0, 1), (1, 2), (1, 3)]);
    /// # Ok::<(), Error>(())
    /// ```
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

    /// Makes pairs: `f` gives each record its key. Nothing is shuffled or held.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let words = ctx.parallelize(["to", "be", "not"].map(String::from), 2);
    /// assert_eq!(words.key_by(|word| word.len()).keys().collect()?, [2, 2, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn key_by<K: 'static, F: Fn(&T) -> K + 'static>(
        &self,
        f: F,
    ) -> Dataset<(K, T), impl Plan<Item = (K, T)> + use<T, P, K, F>> {
        self.apply(Map::new("key_by", move |record| (f(&record), record)))
    }

    /// Makes one record of each partition: all of its records, which must fit in the task's memory. Nothing is shuffled. For tests, and to
    /// see how records lie.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.range(0..5, 2).glom().collect()?, [vec![0, 1], vec![2, 3, 4]]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn glom(&self) -> Dataset<Vec<T>, Narrow<P, Glom>> {
        self.apply(Glom)
    }

    /// A random part: each record with this probability, or with replacement so often on average. Nothing is shuffled or held, and pairs
    /// stay where they are.
    ///
    /// The same seed gives the same part, if partitions hold the same records in the same order. A `fraction` below 0 or NaN is taken as 0.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let some = ctx.range(0..10_000, 4).sample(false, 0.1, 7);
    /// let count = some.count()?;
    /// assert!((800..1200).contains(&count));
    /// assert_eq!(some.count()?, count);
    /// # Ok::<(), Error>(())
    /// ```
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

    /// The records of both, this one's first: the partitions of both, one after the other. Nothing is made distinct, shuffled or held. Of
    /// pairs it is no longer known where their keys lie.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let both = ctx.range(0..2, 1).union(&ctx.range(1..3, 1));
    /// assert_eq!(both.collect()?, [0, 1, 1, 2]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn union<Q: Plan<Item = T>>(&self, other: &Dataset<T, Q>) -> Dataset<T, Union<P, Q>> {
        self.then(|parent| Union::new(parent, Rc::clone(&other.plan)))
    }

    /// The same records in at most so many partitions, by putting neighbours together; nothing is shuffled or held. There are then fewer
    /// tasks also for what comes before, back to the last shuffle; [`repartition`](Dataset::repartition) keeps those.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let numbers = ctx.range(0..6, 3);
    /// assert_eq!(numbers.coalesce(2).glom().collect()?, [vec![0, 1], vec![2, 3, 4, 5]]);
    /// assert_eq!(numbers.coalesce(8).num_partitions(), 3);
    /// # Ok::<(), Error>(())
    /// ```
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

    /// Pairs each record with its number, from 0, in the order of partitions. Nothing is shuffled or held.
    ///
    /// Where there are several partitions, the first action runs a job before that counts the records of all but the last one, so those are
    /// computed twice; [persist](Dataset::persist) what costs much to compute. The counts are kept with the dataset.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let letters = ctx.parallelize(['a', 'b', 'c'], 2);
    /// assert_eq!(letters.zip_with_index().collect()?, [('a', 0), ('b', 1), ('c', 2)]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn zip_with_index(&self) -> Dataset<(T, u64), ZipWithIndex<P>> {
        self.then(ZipWithIndex::new)
    }
}
