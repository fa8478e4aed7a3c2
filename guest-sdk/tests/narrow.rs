//! Operators on each partition by itself.

use std::collections::HashSet;

use ingle::prelude::*;
use proptest::prelude::*;

fn words() -> Vec<(String, u32)> {
    [("b", 2), ("a", 1), ("b", 0)].map(|(word, n)| (word.to_owned(), n)).to_vec()
}

#[test]
fn map_applies_its_closure_to_each_record() {
    let ctx = Context::local();
    let texts = ctx.range(0..5, 2).map(|n| format!("<{n}>"));
    assert_eq!(texts.collect().unwrap(), ["<0>", "<1>", "<2>", "<3>", "<4>"]);
    assert_eq!(texts.num_partitions(), 2);
}

#[test]
fn closures_capture_what_they_own() {
    let ctx = Context::local();
    let stop: HashSet<String> = ["to", "or"].map(String::from).into();
    let words = ctx.parallelize(["to", "be", "or", "not"].map(String::from), 3);
    let kept = words.filter(move |word| !stop.contains(word));
    assert_eq!(kept.collect().unwrap(), ["be", "not"]);
}

#[test]
fn filter_keeps_what_its_closure_likes() {
    let ctx = Context::local();
    let even = ctx.range(0..10, 3).filter(|n| n % 2 == 0);
    assert_eq!(even.collect().unwrap(), [0, 2, 4, 6, 8]);
    assert_eq!(even.filter(|_| false).num_partitions(), 3);
}

#[test]
fn flat_map_makes_any_number_of_records() {
    let ctx = Context::local();
    let many = ctx.range(0..4, 2).flat_map(|n| (0..n).map(move |_| n));
    assert_eq!(many.collect().unwrap(), [1, 2, 2, 3, 3, 3]);
    let some = ctx.range(0..4, 2).flat_map(|n| (n > 1).then_some(n));
    assert_eq!(some.collect().unwrap(), [2, 3]);
}

#[test]
fn the_word_count_of_the_documentation_compiles_with_str_methods() {
    let ctx = Context::local();
    let lines = ctx.parallelize(["to be or", "", " not  to be"].map(Str::from), 2);
    let words =
        lines.flat_map(|line| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(words.collect().unwrap(), ["to", "be", "or", "not", "to", "be"]);
    let words = lines.flat_map(|line| line.words());
    assert_eq!(words.collect().unwrap(), ["to", "be", "or", "not", "to", "be"]);
}

#[test]
fn map_partitions_sees_each_partition_as_one_iterator() {
    let ctx = Context::local();
    let sums = ctx.range(0..10, 4).map_partitions(|part| [part.sum::<u64>()]);
    assert_eq!(sums.collect().unwrap(), [1, 9, 11, 24]);
    assert_eq!(ctx.range(0..10, 4).map_partitions(|part| part).count().unwrap(), 10);
}

#[test]
fn map_partitions_is_called_for_empty_partitions_too() {
    let ctx = Context::local();
    let empty = ctx.parallelize(Vec::<u64>::new(), 3);
    assert_eq!(empty.map_partitions(|part| [part.count() as u64]).collect().unwrap(), [0; 3]);
}

#[test]
fn map_partitions_with_index_is_told_the_partition() {
    let ctx = Context::local();
    let numbered = ctx
        .range(0..6, 3)
        .map_partitions_with_index(|partition, part| part.map(move |n| (partition as u64, n)));
    assert_eq!(numbered.collect().unwrap(), [(0, 0), (0, 1), (1, 2), (1, 3), (2, 4), (2, 5)]);
}

#[test]
fn key_by_puts_a_key_before_each_record() {
    let ctx = Context::local();
    let pairs = ctx.range(0..4, 2).key_by(|n| n % 2);
    assert_eq!(pairs.collect().unwrap(), [(0, 0), (1, 1), (0, 2), (1, 3)]);
}

#[test]
fn keys_and_values_take_pairs_apart() {
    let pairs = Context::local().parallelize(words(), 2);
    assert_eq!(pairs.keys().collect().unwrap(), ["b", "a", "b"]);
    assert_eq!(pairs.values().collect().unwrap(), [2, 1, 0]);
}

#[test]
fn map_values_leaves_keys_as_they_are() {
    let pairs = Context::local().parallelize(words(), 2).map_values(|n| n * 10);
    let model = [("b".to_owned(), 20), ("a".to_owned(), 10), ("b".to_owned(), 0)];
    assert_eq!(pairs.collect().unwrap(), model);
}

#[test]
fn flat_map_values_repeats_keys() {
    let pairs = Context::local().parallelize(words(), 2).flat_map_values(|n| 0..n);
    let model = [("b".to_owned(), 0), ("b".to_owned(), 1), ("a".to_owned(), 0)];
    assert_eq!(pairs.collect().unwrap(), model);
}

#[test]
fn try_map_gives_what_succeeded() {
    let ctx = Context::local();
    let numbers =
        ctx.parallelize(["1", "2"].map(String::from), 2).try_map(|text| Ok(text.parse::<u8>()?));
    assert_eq!(numbers.collect().unwrap(), [1, 2]);
}

#[test]
fn try_map_fails_the_job_with_all_causes() {
    let ctx = Context::local();
    let numbers = ctx
        .parallelize(["1", "x"].map(String::from), 2)
        .try_map(|text| text.parse::<u8>().with_context(|| format!("`{text}` was to be a number")));
    let error = numbers.collect().unwrap_err().to_string();
    assert!(error.contains("partition 1"), "{error}");
    assert!(error.contains("`x` was to be a number: invalid digit found in string"), "{error}");
}

#[test]
fn boxed_changes_nothing_but_the_type() {
    let ctx = Context::local();
    let mut numbers: Dataset<u64> = ctx.range(0..10, 3).boxed();
    for _ in 0..4 {
        numbers = numbers.map(|n| n + 1).filter(|n| n % 5 != 0).boxed();
    }
    assert_eq!(numbers.num_partitions(), 3);
    let mut model: Vec<u64> = (0..10).collect();
    for _ in 0..4 {
        model = model.into_iter().map(|n| n + 1).filter(|n| n % 5 != 0).collect();
    }
    assert_eq!(numbers.collect().unwrap(), model);
}

#[test]
fn a_dataset_is_used_as_often_as_one_likes() {
    let numbers = Context::local().range(0..6, 2);
    let same = numbers.clone();
    let doubled = numbers.map(|n| n * 2);
    assert_eq!(doubled.collect().unwrap(), doubled.collect().unwrap());
    assert_eq!((numbers.count().unwrap(), same.sum().unwrap()), (6, 15));
    assert_eq!(same.context().range(0..2, 1).count().unwrap(), 2);
}

proptest! {
    #[test]
    fn a_chain_of_operators_is_a_chain_of_iterators(
        values in prop::collection::vec(any::<i32>(), 0..60),
        partitions in 1usize..7,
    ) {
        let chain = Context::local()
            .parallelize(values.clone(), partitions)
            .map(i64::from)
            .filter(|n| n % 3 != 0)
            .flat_map(|n| [n, -n])
            .key_by(|n| n % 7)
            .map_values(|n| n / 2)
            .flat_map_values(|n| (n > 0).then_some(n));
        let model: Vec<(i64, i64)> = values
            .into_iter()
            .map(i64::from)
            .filter(|n| n % 3 != 0)
            .flat_map(|n| [n, -n])
            .map(|n| (n % 7, n / 2))
            .filter(|(_, n)| *n > 0)
            .collect();
        prop_assert_eq!(chain.collect().unwrap(), model);
    }
}
