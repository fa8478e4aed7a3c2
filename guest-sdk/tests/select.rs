//! Actions that give some of the records.

use std::collections::HashSet;

use ingle::prelude::*;
use proptest::prelude::*;

#[test]
fn take_gives_the_first_records_in_order() {
    let numbers = Context::local().range(0..100, 7);
    assert_eq!(numbers.take(5).unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(numbers.take(40).unwrap(), (0..40).collect::<Vec<_>>());
    assert_eq!(numbers.take(0).unwrap(), [0; 0]);
    assert_eq!(numbers.take(1000).unwrap(), (0..100).collect::<Vec<_>>());
}

#[test]
fn take_goes_on_over_empty_partitions() {
    let late = Context::local().range(0..100, 20).filter(|n| *n >= 93);
    assert_eq!(late.take(2).unwrap(), [93, 94]);
    assert_eq!(late.first().unwrap(), Some(93));
    assert!(!late.is_empty().unwrap());
}

#[test]
fn take_computes_no_more_than_it_needs() {
    let ctx = Context::local();
    let computed = ctx.accumulator("computed", 0u64);
    let counting = computed.clone();
    let numbers = ctx.range(0..1000, 10).map(move |n| {
        counting.add(1);
        n
    });
    assert_eq!(numbers.take(3).unwrap(), [0, 1, 2]);
    assert_eq!(computed.value(), 3);
    assert_eq!(numbers.take(0).unwrap(), [0; 0]);
    assert_eq!(computed.value(), 3);
}

#[test]
fn closures_are_told_their_partition_where_only_some_are_computed() {
    let ctx = Context::local();
    let partitions = ctx.range(0..20, 10).map(|_| TaskContext::get().partition);
    let model: Vec<u32> = (0..10).flat_map(|partition| [partition; 2]).collect();
    assert_eq!(partitions.collect().unwrap(), model);
    assert_eq!(partitions.take(20).unwrap(), model);
}

#[test]
fn first_gives_the_first_record() {
    let ctx = Context::local();
    assert_eq!(ctx.range(3..9, 2).first().unwrap(), Some(3));
    assert_eq!(ctx.range(3..9, 2).filter(|n| *n > 20).first().unwrap(), None);
}

#[test]
fn min_and_max_work_on_floats() {
    let numbers = Context::local().parallelize([2.5, -1.0, 7.25], 2);
    assert_eq!(numbers.min().unwrap(), Some(-1.0));
    assert_eq!(numbers.max().unwrap(), Some(7.25));
}

#[test]
fn top_gives_the_largest_first() {
    let words = Context::local().parallelize(["b", "d", "a", "c", "d"].map(String::from), 3);
    assert_eq!(words.top(3).unwrap(), ["d", "d", "c"]);
    assert_eq!(words.take_ordered(3).unwrap(), ["a", "b", "c"]);
    assert_eq!(words.top(0).unwrap(), [""; 0]);
    assert_eq!(words.take_ordered(0).unwrap(), [""; 0]);
}

#[test]
fn take_sample_without_replacement_gives_no_record_twice() {
    let numbers = Context::local().range(0..500, 4);
    for n in [0, 1, 10, 499] {
        let sample = numbers.take_sample(false, n, 5).unwrap();
        assert_eq!(sample.len(), n);
        assert_eq!(sample.iter().collect::<HashSet<_>>().len(), n);
        assert!(sample.iter().all(|number| *number < 500));
    }
    let mut all = numbers.take_sample(false, 1000, 5).unwrap();
    all.sort_unstable();
    assert_eq!(all, (0..500).collect::<Vec<_>>());
}

#[test]
fn take_sample_with_replacement_gives_so_many_always() {
    let numbers = Context::local().range(0..5, 3);
    let sample = numbers.take_sample(true, 100, 5).unwrap();
    assert_eq!(sample.len(), 100);
    assert_eq!(sample.iter().collect::<HashSet<_>>(), [0, 1, 2, 3, 4].iter().collect());
    assert!(!sample.is_sorted(), "what was drawn is in the order of drawing");
}

#[test]
fn the_same_seed_takes_the_same_sample() {
    let numbers = Context::local().range(0..500, 4);
    for with_replacement in [false, true] {
        let sample = |seed| numbers.take_sample(with_replacement, 20, seed).unwrap();
        assert_eq!(sample(1), sample(1));
        assert_ne!(sample(1), sample(2));
    }
}

#[test]
fn each_record_is_as_likely_as_any_other_in_a_sample() {
    let numbers = Context::local().range(0..10, 3);
    for with_replacement in [false, true] {
        let mut counts = [0u32; 10];
        for seed in 0..1000 {
            for number in numbers.take_sample(with_replacement, 3, seed).unwrap() {
                counts[number as usize] += 1;
            }
        }
        assert!(counts.iter().all(|count| (220..380).contains(count)), "{counts:?}");
    }
}

proptest! {
    #[test]
    fn top_and_take_ordered_are_the_ends_of_the_sorted_records(
        values in prop::collection::vec(any::<i16>(), 0..60),
        partitions in 1usize..7,
        n in 0usize..70,
    ) {
        let dataset = Context::local().parallelize(values.clone(), partitions);
        let mut sorted = values.clone();
        sorted.sort_unstable();
        let n_or_all = n.min(sorted.len());
        prop_assert_eq!(dataset.take_ordered(n).unwrap(), &sorted[..n_or_all]);
        sorted.reverse();
        prop_assert_eq!(dataset.top(n).unwrap(), &sorted[..n_or_all]);
        prop_assert_eq!(dataset.take(n).unwrap(), &values[..n_or_all]);
    }

    #[test]
    fn a_sample_is_a_part_of_the_records(
        len in 0u64..60,
        partitions in 1usize..7,
        n in 0usize..70,
        seed in any::<u64>(),
    ) {
        let dataset = Context::local().range(0..len, partitions);
        let sample = dataset.take_sample(false, n, seed).unwrap();
        prop_assert_eq!(sample.len(), n.min(len as usize));
        prop_assert_eq!(sample.iter().collect::<HashSet<_>>().len(), sample.len());
        let drawn = dataset.take_sample(true, n, seed).unwrap();
        prop_assert_eq!(drawn.len(), if len == 0 { 0 } else { n });
        prop_assert!(sample.iter().chain(&drawn).all(|number| *number < len));
    }
}
