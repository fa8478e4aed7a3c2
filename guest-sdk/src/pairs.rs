//! What datasets of `(key, value)` pairs can do besides.

use crate::aggregate::{Aggregated, Combine, Group, Reduce};
use crate::codec::Record;
use crate::dataset::Dataset;
use crate::narrow::{FlatMapValues, Map, MapValues, Narrow};
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

/// Each has a form that is told how many partitions to make; the other takes the context's default.
impl<K: Key, V: Record, P: Plan<Item = (K, V)>> Dataset<(K, V), P> {
    /// Reduces each key's values to one. `f` must give the same whatever the order and the grouping.
    pub fn reduce_by_key(
        &self,
        f: impl Fn(V, V) -> V + 'static,
    ) -> Dataset<(K, V), Aggregated<K, V>> {
        self.reduce_by_key_with_partitions(f, self.ctx.default_parallelism())
    }

    /// As [`Dataset::reduce_by_key`].
    pub fn reduce_by_key_with_partitions(
        &self,
        f: impl Fn(V, V) -> V + 'static,
        partitions: usize,
    ) -> Dataset<(K, V), Aggregated<K, V>> {
        self.then(|parent| {
            Aggregated::new(&self.ctx, "reduce_by_key", &parent, partitions, Reduce(f))
        })
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
        self.fold_by_key_with_partitions(zero, f, self.ctx.default_parallelism())
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
        let f = std::rc::Rc::new(f);
        let (first, add) = (std::rc::Rc::clone(&f), std::rc::Rc::clone(&f));
        let by = Combine {
            create: move |value| first(zero.clone(), value),
            add: move |known, value| add(known, value),
            join: move |one, other| f(one, other),
        };
        self.then(|parent| Aggregated::new(&self.ctx, "fold_by_key", &parent, partitions, by))
    }

    /// Brings each key's values together in a `U`: `add` takes a value in, `join` puts two parts together.
    pub fn aggregate_by_key<U: Record + Clone>(
        &self,
        zero: U,
        add: impl Fn(U, V) -> U + 'static,
        join: impl Fn(U, U) -> U + 'static,
    ) -> Dataset<(K, U), Aggregated<K, U>> {
        self.aggregate_by_key_with_partitions(zero, add, join, self.ctx.default_parallelism())
    }

    /// As [`Dataset::aggregate_by_key`].
    pub fn aggregate_by_key_with_partitions<U: Record + Clone>(
        &self,
        zero: U,
        add: impl Fn(U, V) -> U + 'static,
        join: impl Fn(U, U) -> U + 'static,
        partitions: usize,
    ) -> Dataset<(K, U), Aggregated<K, U>> {
        let add = std::rc::Rc::new(add);
        let first = std::rc::Rc::clone(&add);
        let by = Combine {
            create: move |value| first(zero.clone(), value),
            add: move |known, value| add(known, value),
            join,
        };
        self.then(|parent| Aggregated::new(&self.ctx, "aggregate_by_key", &parent, partitions, by))
    }

    /// Brings each key's values together in a `C`, which `create` makes of the first.
    pub fn combine_by_key<C: Record>(
        &self,
        create: impl Fn(V) -> C + 'static,
        merge_value: impl Fn(C, V) -> C + 'static,
        merge_combiners: impl Fn(C, C) -> C + 'static,
    ) -> Dataset<(K, C), Aggregated<K, C>> {
        let partitions = self.ctx.default_parallelism();
        self.combine_by_key_with_partitions(create, merge_value, merge_combiners, partitions)
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
        self.then(|parent| Aggregated::new(&self.ctx, "combine_by_key", &parent, partitions, by))
    }

    /// Each key with all its values. One key's values must fit in memory; `aggregate_by_key` often spares that.
    pub fn group_by_key(&self) -> Dataset<(K, Vec<V>), Aggregated<K, Vec<V>>> {
        self.group_by_key_with_partitions(self.ctx.default_parallelism())
    }

    /// As [`Dataset::group_by_key`].
    pub fn group_by_key_with_partitions(
        &self,
        partitions: usize,
    ) -> Dataset<(K, Vec<V>), Aggregated<K, Vec<V>>> {
        self.then(|parent| Aggregated::new(&self.ctx, "group_by_key", &parent, partitions, Group))
    }
}
