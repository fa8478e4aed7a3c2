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
    /// The keys.
    pub fn keys(&self) -> Dataset<K, impl Plan<Item = K> + use<K, V, P>> {
        self.apply(Map::new("keys", |(key, _)| key))
    }

    /// The values.
    pub fn values(&self) -> Dataset<V, impl Plan<Item = V> + use<K, V, P>> {
        self.apply(Map::new("values", |(_, value)| value))
    }

    /// Applies `f` to each value; keys stay where they are.
    pub fn map_values<W: 'static, F: Fn(V) -> W + 'static>(
        &self,
        f: F,
    ) -> Dataset<(K, W), Narrow<P, MapValues<F>>> {
        self.apply(MapValues(f))
    }

    /// Makes any number of values from each; keys stay where they are.
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
/// Each has a form that is told how many partitions to make. The other takes the context's default, or what this dataset has if that is
/// more and its keys lie in place.
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
    pub fn reduce_by_key(
        &self,
        f: impl Fn(V, V) -> V + 'static,
    ) -> Dataset<(K, V), Aggregated<K, V>> {
        self.aggregated("reduce_by_key", None, Reduce(f))
    }

    /// As [`Dataset::reduce_by_key`].
    pub fn reduce_by_key_with_partitions(
        &self,
        f: impl Fn(V, V) -> V + 'static,
        partitions: usize,
    ) -> Dataset<(K, V), Aggregated<K, V>> {
        self.aggregated("reduce_by_key", Some(partitions), Reduce(f))
    }

    /// As `reduce_by_key`, where each partition's share of a key starts from `zero`.
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

    /// As [`Dataset::fold_by_key`].
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

    /// Brings each key's values together in a `U`: `add` takes a value in, `join` puts two parts together.
    pub fn aggregate_by_key<U: Record + Clone>(
        &self,
        zero: U,
        add: impl Fn(U, V) -> U + 'static,
        join: impl Fn(U, U) -> U + 'static,
    ) -> Dataset<(K, U), Aggregated<K, U>> {
        self.aggregated("aggregate_by_key", None, from_zero(zero, add, join))
    }

    /// As [`Dataset::aggregate_by_key`].
    pub fn aggregate_by_key_with_partitions<U: Record + Clone>(
        &self,
        zero: U,
        add: impl Fn(U, V) -> U + 'static,
        join: impl Fn(U, U) -> U + 'static,
        partitions: usize,
    ) -> Dataset<(K, U), Aggregated<K, U>> {
        self.aggregated("aggregate_by_key", Some(partitions), from_zero(zero, add, join))
    }

    /// Brings each key's values together in a `C`, which `create` makes of the first.
    pub fn combine_by_key<C: Record>(
        &self,
        create: impl Fn(V) -> C + 'static,
        merge_value: impl Fn(C, V) -> C + 'static,
        merge_combiners: impl Fn(C, C) -> C + 'static,
    ) -> Dataset<(K, C), Aggregated<K, C>> {
        let by = Combine { create, add: merge_value, join: merge_combiners };
        self.aggregated("combine_by_key", None, by)
    }

    /// As [`Dataset::combine_by_key`].
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

    /// Each key with all its values. One key's values must fit in memory; `aggregate_by_key` often spares that.
    pub fn group_by_key(&self) -> Dataset<(K, Vec<V>), Aggregated<K, Vec<V>>> {
        self.aggregated("group_by_key", None, Group)
    }

    /// As [`Dataset::group_by_key`].
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
