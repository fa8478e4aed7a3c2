//! Actions over all records.

use std::collections::{BTreeMap, HashMap};

use ingle::prelude::*;
use proptest::prelude::*;

fn words() -> [String; 6] {
    ["to", "be", "or", "not", "to", "be"].map(String::from)
}

#[test]
fn collect_gives_records_in_the_order_of_partitions() {
    let ctx = Context::local();
    assert_eq!(ctx.parallelize(words(), 4).collect().unwrap(), words());
}

#[test]
fn count_counts() {
    let ctx = Context::local();
    assert_eq!(ctx.range(0..101, 4).count().unwrap(), 101);
    // What is counted need not be a record that can travel.
    assert_eq!(ctx.range(0..9, 2).map(std::rc::Rc::new).count().unwrap(), 9);
}

#[test]
fn count_by_value_counts_each_record() {
    let counts = Context::local().parallelize(words(), 3).count_by_value().unwrap();
    let model = [("to", 2), ("be", 2), ("or", 1), ("not", 1)];
    assert_eq!(counts, HashMap::from(model.map(|(word, n)| (word.to_owned(), n))));
}

#[test]
fn count_by_key_counts_each_keys_pairs() {
    let ctx = Context::local();
    // Values need not be records that can travel.
    let pairs = ctx.range(0..10, 3).map(|n| (n % 3, std::rc::Rc::new(n)));
    assert_eq!(pairs.count_by_key().unwrap(), HashMap::from([(0, 4), (1, 3), (2, 3)]));
}

#[test]
fn lookup_gives_all_values_of_a_key() {
    let pairs = Context::local().range(0..10, 3).map(|n| (n % 3, n));
    assert_eq!(pairs.lookup(&1).unwrap(), [1, 4, 7]);
    assert_eq!(pairs.lookup(&3).unwrap(), [0; 0]);
}

#[test]
fn lookup_in_a_shuffled_dataset_computes_one_partition() {
    let ctx = Context::local();
    let computed = ctx.accumulator("partitions", 0u64);
    let counting = computed.clone();
    let sums =
        ctx.range(0..100, 3).map(|n| (n % 20, n)).reduce_by_key_with_partitions(|a, b| a + b, 8);
    sums.count().unwrap();
    let watched = sums.map_values(move |sum| {
        counting.add(1);
        sum
    });
    for key in 0..25 {
        let model = if key < 20 { vec![5 * key + 200] } else { vec![] };
        assert_eq!(watched.lookup(&key).unwrap(), model);
    }
    assert!(computed.value() < 25 * 20 / 2, "{} records computed", computed.value());
}

#[test]
fn for_each_calls_with_each_record_in_tasks() {
    let ctx = Context::local();
    let sum = ctx.accumulator("sum", 0u64);
    let adding = sum.clone();
    ctx.range(0..10, 3)
        .for_each(move |n| {
            assert!(TaskContext::try_get().is_some());
            adding.add(n);
        })
        .unwrap();
    assert_eq!(sum.value(), 45);
}

#[test]
fn for_each_partition_calls_with_each_partition() {
    let ctx = Context::local();
    let sums = ctx.accumulator("sums", Vec::<u64>::new());
    let adding = sums.clone();
    ctx.range(0..6, 3).for_each_partition(move |part| adding.add(vec![part.sum()])).unwrap();
    let mut found = sums.value();
    found.sort_unstable();
    assert_eq!(found, [1, 5, 9]);
}

#[test]
fn actions_on_nothing_give_none_or_zero() {
    let ctx = Context::local();
    let dir = tempfile::tempdir().unwrap();
    let no_partitions = ctx.text_file(dir.path().to_str().unwrap()).unwrap().map(|_| 1i64).boxed();
    let empty_partitions = ctx.parallelize(Vec::<i64>::new(), 3).boxed();
    for nothing in [no_partitions, empty_partitions] {
        assert_eq!(nothing.collect().unwrap(), [0; 0]);
        assert_eq!(nothing.count().unwrap(), 0);
        assert_eq!(nothing.reduce(|a, b| a + b).unwrap(), None);
        assert_eq!(nothing.first().unwrap(), None);
        assert_eq!(nothing.min().unwrap(), None);
        assert_eq!(nothing.max().unwrap(), None);
        assert_eq!(nothing.mean().unwrap(), None);
        assert_eq!(nothing.sum().unwrap(), 0);
        assert_eq!(nothing.fold(7, i64::max).unwrap(), 7);
        assert_eq!(nothing.aggregate(7u8, |n, _| n, |n, _| n).unwrap(), 7);
        assert_eq!(nothing.tree_aggregate(7u8, |n, _| n, |n, _| n, 3).unwrap(), 7);
        assert_eq!(nothing.histogram(&[0.0, 1.0]).unwrap(), [0]);
        assert_eq!(nothing.stats().unwrap().count, 0);
        assert!(nothing.is_empty().unwrap());
        assert_eq!(nothing.take(3).unwrap(), [0; 0]);
        assert_eq!(nothing.top(3).unwrap(), [0; 0]);
        assert_eq!(nothing.take_ordered(3).unwrap(), [0; 0]);
        assert_eq!(nothing.take_sample(false, 3, 1).unwrap(), [0; 0]);
        assert_eq!(nothing.take_sample(true, 3, 1).unwrap(), [0; 0]);
        assert!(nothing.count_by_value().unwrap().is_empty());
        assert!(nothing.key_by(|n| *n).count_by_key().unwrap().is_empty());
        assert_eq!(nothing.key_by(|n| *n).lookup(&1).unwrap(), [0; 0]);
        nothing.for_each(|_| panic!("there is no record")).unwrap();
    }
}

#[test]
fn aggregate_may_give_another_type() {
    let lengths = Context::local().parallelize(words(), 4).aggregate(
        BTreeMap::<usize, u64>::new(),
        |mut counts, word| {
            *counts.entry(word.len()).or_default() += 1;
            counts
        },
        |mut one, other| {
            other.into_iter().for_each(|(len, n)| *one.entry(len).or_default() += n);
            one
        },
    );
    assert_eq!(lengths.unwrap(), BTreeMap::from([(2, 5), (3, 1)]));
}

#[test]
fn reduce_of_one_record_is_that_record() {
    let one = Context::local().range(5..6, 3).reduce(|_, _| panic!("there is nothing to reduce"));
    assert_eq!(one.unwrap(), Some(5));
}

proptest! {
    #[test]
    fn records_in_one_are_those_of_iterators(
        values in prop::collection::vec(any::<i32>(), 0..60),
        partitions in 1usize..12,
        depth in 0usize..5,
    ) {
        let dataset = Context::local().parallelize(values.clone(), partitions).map(i64::from);
        let values: Vec<i64> = values.into_iter().map(i64::from).collect();
        let sum = values.iter().sum::<i64>();
        let add = |a: i64, b: i64| a + b;
        prop_assert_eq!(dataset.count().unwrap(), values.len() as u64);
        prop_assert_eq!(dataset.sum().unwrap(), sum);
        prop_assert_eq!(dataset.reduce(add).unwrap(), values.iter().copied().reduce(add));
        prop_assert_eq!(dataset.fold(0, add).unwrap(), sum);
        prop_assert_eq!(dataset.aggregate(0, add, add).unwrap(), sum);
        prop_assert_eq!(dataset.tree_aggregate(0, add, add, depth).unwrap(), sum);
        prop_assert_eq!(dataset.min().unwrap(), values.iter().min().copied());
        prop_assert_eq!(dataset.max().unwrap(), values.iter().max().copied());
        prop_assert_eq!(dataset.first().unwrap(), values.first().copied());
        prop_assert_eq!(dataset.is_empty().unwrap(), values.is_empty());
        prop_assert_eq!(dataset.collect().unwrap(), values);
    }

    #[test]
    fn counts_are_those_of_a_map(
        words in prop::collection::vec("[ab]{0,2}", 0..60),
        partitions in 1usize..6,
    ) {
        let dataset = Context::local().parallelize(words.clone(), partitions);
        let mut model: HashMap<String, u64> = HashMap::new();
        words.into_iter().for_each(|word| *model.entry(word).or_default() += 1);
        prop_assert_eq!(dataset.count_by_value().unwrap(), model.clone());
        prop_assert_eq!(dataset.key_by(String::clone).count_by_key().unwrap(), model);
    }
}
