//! What datasets of `(key, value)` pairs can do besides.

use std::rc::Rc;

use crate::aggregate::{Aggregated, Aggregator, Combine, Group, Reduce};
use crate::codec::Record;
use crate::dataset::Dataset;
use crate::narrow::{FlatMapValues, Map, MapValues, Narrow};
use crate::partitioning::Partitioning;
use crate::plan::Plan;
use crate::table::Key;

impl<K: 'static, V: 'static, P: Plan<Item = (K, V)>> Dataset<(K, V), P> {
    /// The keys. Nothing is shuffled or held.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let ages = ctx.parallelize([("ann", 31), ("bob", 28)].map(|(name, age)| (name.to_owned(), age)), 2);
    /// assert_eq!(ages.keys().collect()?, ["ann", "bob"]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn keys(&self) -> Dataset<K, impl Plan<Item = K> + use<K, V, P>> {
        self.apply(Map::new("keys", |(key, _)| key))
    }

    /// The values. Nothing is shuffled or held.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let ages = ctx.parallelize([("ann", 31), ("bob", 28)], 2);
    /// assert_eq!(ages.values().sum()?, 59);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn values(&self) -> Dataset<V, impl Plan<Item = V> + use<K, V, P>> {
        self.apply(Map::new("values", |(_, value)| value))
    }

    /// Applies `f` to each value; keys stay where they are, so that a later operator by key needn't shuffle what lies in place. Nothing is
    /// held.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let sums = ctx.parallelize([('a', 1), ('b', 2)], 2).reduce_by_key(|a, b| a + b);
    /// let doubled = sums.map_values(|n| n * 2);
    /// assert_eq!(doubled.lookup(&'b')?, [4]);
    /// assert_eq!(sums.join(&doubled).lookup(&'a')?, [(1, 2)]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn map_values<W: 'static, F: Fn(V) -> W + 'static>(
        &self,
        f: F,
    ) -> Dataset<(K, W), Narrow<P, MapValues<F>>> {
        self.apply(MapValues(f))
    }

    /// Makes any number of values from each, each with a clone of the key; keys stay where they are, as with
    /// [`map_values`](Dataset::map_values). Nothing is held.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let texts = ctx.parallelize([(1, "to be"), (2, "or not")], 2);
    /// let words = texts.flat_map_values(|text| text.split(' ').map(String::from));
    /// assert_eq!(words.map(|(line, word)| format!("{line} {word}")).collect()?, ["1 to", "1 be", "2 or", "2 not"]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn flat_map_values<I, F>(&self, f: F) -> Dataset<(K, I::Item), Narrow<P, FlatMapValues<F>>>
    where
        K: Clone,
        I: IntoIterator<IntoIter: 'static> + 'static,
        F: Fn(V) -> I + 'static,
    {
        self.apply(FlatMapValues(f))
    }
}

/// Each shuffles the pairs by their keys' hashes, unless their keys lie in place already: they were made by an operator by key with as many
/// partitions, or by [`partition_by`](Dataset::partition_by), and only values were changed since.
///
/// Each has a form that is told how many partitions to make (0 is taken as 1). The other takes the context's default, or what this dataset
/// has if that is more and its keys lie in place.
///
/// Where there are eight partitions or more for each slot, a task computes several that are tiny: together up to
/// `ingle.shuffle.coalesce.size` (4m if that isn't set; 0: never), and no more than a quarter of what a slot has of all. To know how large they are,
/// actions run the shuffle in a job of its own. Operators after it that treat records one by one run in the same tasks; what needs a partition by
/// itself ([`map_partitions`](Dataset::map_partitions), [`cache`](Dataset::cache) and such) is computed by one task for each as ever.
/// `save_as_…` writes a file for each task.
impl<K: Key, V: Record, P: Plan<Item = (K, V)>> Dataset<(K, V), P> {
    fn aggregated<A: Aggregator<V>>(
        &self,
        name: &'static str,
        partitions: Option<usize>,
        by: A,
    ) -> Dataset<(K, A::Sum), Aggregated<K, A::Sum>> {
        let partitioning = match partitions {
            Some(partitions) => Partitioning::hash(partitions),
            None => Partitioning::of_inputs(&self.ctx, [self.plan.partitioning()]),
        };
        self.then(|parent| Aggregated::new(&self.ctx, name, &parent, partitioning, by))
    }

    /// Reduces each key's values to one. `f` must give the same whatever the order and the grouping.
    ///
    /// Tasks reduce what they have before the shuffle, so that about one value for each key travels from each of them. They hold a table of
    /// keys and values; what doesn't fit in memory is sent early, and after the shuffle spilled.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let words = ctx.parallelize(["to", "be", "or", "not", "to", "be"].map(String::from), 2);
    /// let mut counts = words.map(|word| (word, 1)).reduce_by_key(|a, b| a + b).collect()?;
    /// counts.sort();
    /// assert_eq!(counts.pop(), Some(("to".to_owned(), 2)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn reduce_by_key(
        &self,
        f: impl Fn(V, V) -> V + 'static,
    ) -> Dataset<(K, V), Aggregated<K, V>> {
        self.aggregated("reduce_by_key", None, Reduce(f))
    }

    /// As [`Dataset::reduce_by_key`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.range(0..10, 4).map(|n| (n % 3, n));
    /// let greatest = pairs.reduce_by_key_with_partitions(|a, b| a.max(b), 2);
    /// assert_eq!(greatest.num_partitions(), 2);
    /// assert_eq!(greatest.lookup(&1)?, [7]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn reduce_by_key_with_partitions(
        &self,
        f: impl Fn(V, V) -> V + 'static,
        partitions: usize,
    ) -> Dataset<(K, V), Aggregated<K, V>> {
        self.aggregated("reduce_by_key", Some(partitions), Reduce(f))
    }

    /// As [`reduce_by_key`](Dataset::reduce_by_key), where each part of a key's values starts from `zero`. How many parts there are depends
    /// on partitions and memory, so `zero` must change nothing.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([('a', 1), ('a', 2), ('b', 3)], 2);
    /// assert_eq!(pairs.fold_by_key(0, |a, b| a + b).lookup(&'a')?, [3]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn fold_by_key(
        &self,
        zero: V,
        f: impl Fn(V, V) -> V + 'static,
    ) -> Dataset<(K, V), Aggregated<K, V>>
    where
        V: Clone,
    {
        self.aggregated("fold_by_key", None, fold(zero, f))
    }

    /// As [`Dataset::fold_by_key`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([('a', 1), ('a', 2), ('b', 3)], 2);
    /// let folded = pairs.fold_by_key_with_partitions(1, |a, b| a * b, 3);
    /// assert_eq!((folded.num_partitions(), folded.lookup(&'a')?), (3, vec![2]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn fold_by_key_with_partitions(
        &self,
        zero: V,
        f: impl Fn(V, V) -> V + 'static,
        partitions: usize,
    ) -> Dataset<(K, V), Aggregated<K, V>>
    where
        V: Clone,
    {
        self.aggregated("fold_by_key", Some(partitions), fold(zero, f))
    }

    /// Brings each key's values together in a `U`: `add` takes a value in, `join` puts two parts together. Each part starts from `zero`,
    /// which must change nothing. What is held, travels and is spilled is as with [`reduce_by_key`](Dataset::reduce_by_key), of `U`s.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([('a', 1.0), ('a', 2.0), ('b', 5.0)], 2);
    /// let sums = pairs.aggregate_by_key(
    ///     (0.0, 0u32),
    ///     |(sum, count), value| (sum + value, count + 1),
    ///     |one, other| (one.0 + other.0, one.1 + other.1),
    /// );
    /// assert_eq!(sums.map_values(|(sum, count)| sum / f64::from(count)).lookup(&'a')?, [1.5]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn aggregate_by_key<U: Record + Clone>(
        &self,
        zero: U,
        add: impl Fn(U, V) -> U + 'static,
        join: impl Fn(U, U) -> U + 'static,
    ) -> Dataset<(K, U), Aggregated<K, U>> {
        self.aggregated("aggregate_by_key", None, from_zero(zero, add, join))
    }

    /// As [`Dataset::aggregate_by_key`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([('a', "x"), ('a', "yz"), ('b', "")], 2);
    /// let lengths = pairs.map_values(str::len).aggregate_by_key_with_partitions(0, |a, b| a + b, |a, b| a + b, 3);
    /// assert_eq!((lengths.num_partitions(), lengths.lookup(&'a')?), (3, vec![3]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn aggregate_by_key_with_partitions<U: Record + Clone>(
        &self,
        zero: U,
        add: impl Fn(U, V) -> U + 'static,
        join: impl Fn(U, U) -> U + 'static,
        partitions: usize,
    ) -> Dataset<(K, U), Aggregated<K, U>> {
        self.aggregated("aggregate_by_key", Some(partitions), from_zero(zero, add, join))
    }

    /// Brings each key's values together in a `C`, which `create` makes of the first one of each part. What is held, travels and is spilled
    /// is as with [`reduce_by_key`](Dataset::reduce_by_key), of `C`s.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([('a', 3), ('a', 9), ('b', 5)], 2);
    /// let range = pairs.combine_by_key(
    ///     |n| (n, n),
    ///     |(low, high), n| (n.min(low), n.max(high)),
    ///     |one, other| (one.0.min(other.0), one.1.max(other.1)),
    /// );
    /// assert_eq!(range.lookup(&'a')?, [(3, 9)]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn combine_by_key<C: Record>(
        &self,
        create: impl Fn(V) -> C + 'static,
        merge_value: impl Fn(C, V) -> C + 'static,
        merge_combiners: impl Fn(C, C) -> C + 'static,
    ) -> Dataset<(K, C), Aggregated<K, C>> {
        let by = Combine { create, add: merge_value, join: merge_combiners };
        self.aggregated("combine_by_key", None, by)
    }

    /// As [`Dataset::combine_by_key`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([('a', 3), ('a', 9), ('b', 5)], 2);
    /// let sums = pairs.combine_by_key_with_partitions(u64::from, |sum, n: u8| sum + u64::from(n), |a, b| a + b, 3);
    /// assert_eq!((sums.num_partitions(), sums.lookup(&'a')?), (3, vec![12]));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn combine_by_key_with_partitions<C: Record>(
        &self,
        create: impl Fn(V) -> C + 'static,
        merge_value: impl Fn(C, V) -> C + 'static,
        merge_combiners: impl Fn(C, C) -> C + 'static,
        partitions: usize,
    ) -> Dataset<(K, C), Aggregated<K, C>> {
        let by = Combine { create, add: merge_value, join: merge_combiners };
        self.aggregated("combine_by_key", Some(partitions), by)
    }

    /// Each key with all its values. Unless they lie in place all pairs travel: nothing is brought together before the shuffle. Tasks hold
    /// a partition, or spill; one key's values must fit in memory. [`aggregate_by_key`](Dataset::aggregate_by_key) often spares all that.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let pairs = ctx.parallelize([('a', 1), ('b', 2), ('a', 3)], 2);
    /// let mut values = pairs.group_by_key().lookup(&'a')?.concat();
    /// values.sort();
    /// assert_eq!(values, [1, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn group_by_key(&self) -> Dataset<(K, Vec<V>), Aggregated<K, Vec<V>>> {
        self.aggregated("group_by_key", None, Group)
    }

    /// As [`Dataset::group_by_key`], into so many partitions.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let groups = ctx.range(0..10, 4).map(|n| (n % 3, n)).group_by_key_with_partitions(2);
    /// assert_eq!((groups.num_partitions(), groups.count()?), (2, 3));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn group_by_key_with_partitions(
        &self,
        partitions: usize,
    ) -> Dataset<(K, Vec<V>), Aggregated<K, Vec<V>>> {
        self.aggregated("group_by_key", Some(partitions), Group)
    }
}

fn fold<V: Record + Clone>(
    zero: V,
    f: impl Fn(V, V) -> V + 'static,
) -> impl Aggregator<V, Sum = V> {
    let f = Rc::new(f);
    let join = Rc::clone(&f);
    from_zero(zero, move |known, value| f(known, value), move |one, other| join(one, other))
}

fn from_zero<V: Record, U: Record + Clone>(
    zero: U,
    add: impl Fn(U, V) -> U + 'static,
    join: impl Fn(U, U) -> U + 'static,
) -> impl Aggregator<V, Sum = U> {
    let add = Rc::new(add);
    let first = Rc::clone(&add);
    Combine {
        create: move |value| first(zero.clone(), value),
        add: move |known, value| add(known, value),
        join,
    }
}
