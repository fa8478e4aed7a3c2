//! Operators on one partition: each is an iterator adaptor.

use std::rc::Rc;

use crate::narrow::Operator;
use crate::random::Random;

/// Applies a function to each record.
pub struct Map<F> {
    name: &'static str,
    f: F,
}

impl<F> Map<F> {
    pub(crate) fn new(name: &'static str, f: F) -> Self {
        Map { name, f }
    }
}

impl<T: 'static, U: 'static, F: Fn(T) -> U + 'static> Operator<T> for Map<F> {
    type Out = U;
    const IS_ONE_BY_ONE: bool = true;
    const KEEPS_SIZE: bool = true;

    fn name(&self) -> &'static str {
        self.name
    }

    fn apply(
        self: Rc<Self>,
        records: impl Iterator<Item = T> + 'static,
        _: usize,
    ) -> impl Iterator<Item = U> + 'static {
        records.map(move |record| (self.f)(record))
    }
}

/// Keeps some records.
pub struct Filter<F>(pub(crate) F);

impl<T: 'static, F: Fn(&T) -> bool + 'static> Operator<T> for Filter<F> {
    type Out = T;
    const IS_ONE_BY_ONE: bool = true;
    const KEEPS_KEYS: bool = true;
    const KEEPS_SIZE: bool = true;

    fn name(&self) -> &'static str {
        "filter"
    }

    fn apply(
        self: Rc<Self>,
        records: impl Iterator<Item = T> + 'static,
        _: usize,
    ) -> impl Iterator<Item = T> + 'static {
        records.filter(move |record| (self.0)(record))
    }
}

/// Makes any number of records from each.
pub struct FlatMap<F>(pub(crate) F);

impl<T, I, F> Operator<T> for FlatMap<F>
where
    T: 'static,
    I: IntoIterator<IntoIter: 'static, Item: 'static> + 'static,
    F: Fn(T) -> I + 'static,
{
    type Out = I::Item;
    const IS_ONE_BY_ONE: bool = true;

    fn name(&self) -> &'static str {
        "flat_map"
    }

    fn apply(
        self: Rc<Self>,
        records: impl Iterator<Item = T> + 'static,
        _: usize,
    ) -> impl Iterator<Item = I::Item> + 'static {
        records.flat_map(move |record| (self.0)(record))
    }
}

/// Applies a function to each pair's value.
pub struct MapValues<F>(pub(crate) F);

impl<K: 'static, V: 'static, W: 'static, F: Fn(V) -> W + 'static> Operator<(K, V)>
    for MapValues<F>
{
    type Out = (K, W);
    const IS_ONE_BY_ONE: bool = true;
    const KEEPS_KEYS: bool = true;
    const KEEPS_SIZE: bool = true;

    fn name(&self) -> &'static str {
        "map_values"
    }

    fn apply(
        self: Rc<Self>,
        records: impl Iterator<Item = (K, V)> + 'static,
        _: usize,
    ) -> impl Iterator<Item = (K, W)> + 'static {
        records.map(move |(key, value)| (key, (self.0)(value)))
    }
}

/// Makes any number of values from each pair's.
pub struct FlatMapValues<F>(pub(crate) F);

impl<K, V, I, F> Operator<(K, V)> for FlatMapValues<F>
where
    K: Clone + 'static,
    V: 'static,
    I: IntoIterator<IntoIter: 'static, Item: 'static> + 'static,
    F: Fn(V) -> I + 'static,
{
    type Out = (K, I::Item);
    const IS_ONE_BY_ONE: bool = true;
    const KEEPS_KEYS: bool = true;

    fn name(&self) -> &'static str {
        "flat_map_values"
    }

    fn apply(
        self: Rc<Self>,
        records: impl Iterator<Item = (K, V)> + 'static,
        _: usize,
    ) -> impl Iterator<Item = (K, I::Item)> + 'static {
        records.flat_map(move |(key, value)| {
            let values = (self.0)(value).into_iter();
            values.map(move |value| (key.clone(), value))
        })
    }
}

/// A partition's records.
pub type Partition<T> = Box<dyn Iterator<Item = T>>;

/// Applies a function to each partition.
pub struct MapPartitions<F> {
    name: &'static str,
    f: F,
}

impl<F> MapPartitions<F> {
    pub(crate) fn new(name: &'static str, f: F) -> Self {
        MapPartitions { name, f }
    }
}

impl<T, I, F> Operator<T> for MapPartitions<F>
where
    T: 'static,
    I: IntoIterator<IntoIter: 'static, Item: 'static> + 'static,
    F: Fn(usize, Partition<T>) -> I + 'static,
{
    type Out = I::Item;

    fn name(&self) -> &'static str {
        self.name
    }

    fn apply(
        self: Rc<Self>,
        records: impl Iterator<Item = T> + 'static,
        partition: usize,
    ) -> impl Iterator<Item = I::Item> + 'static {
        (self.f)(partition, Box::new(records)).into_iter()
    }
}

/// Makes one record of each partition.
pub struct Glom;

impl<T: 'static> Operator<T> for Glom {
    type Out = Vec<T>;

    fn name(&self) -> &'static str {
        "glom"
    }

    fn apply(
        self: Rc<Self>,
        records: impl Iterator<Item = T> + 'static,
        _: usize,
    ) -> impl Iterator<Item = Vec<T>> + 'static {
        std::iter::once_with(move || records.collect())
    }
}

/// Takes a random part.
pub struct Sample {
    with_replacement: bool,
    fraction: f64,
    seed: u64,
}

impl Sample {
    pub(crate) fn new(with_replacement: bool, fraction: f64, seed: u64) -> Self {
        Sample { with_replacement, fraction, seed }
    }
}

impl<T: Clone + 'static> Operator<T> for Sample {
    type Out = T;
    const KEEPS_KEYS: bool = true;

    fn name(&self) -> &'static str {
        "sample"
    }

    fn apply(
        self: Rc<Self>,
        records: impl Iterator<Item = T> + 'static,
        partition: usize,
    ) -> impl Iterator<Item = T> + 'static {
        let mut random = Random::for_partition(self.seed, partition);
        records.flat_map(move |record| {
            let times = match self.with_replacement {
                true => random.poisson(self.fraction),
                false => usize::from(random.uniform() < self.fraction),
            };
            std::iter::repeat_n(record, times)
        })
    }
}
