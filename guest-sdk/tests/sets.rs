//! Datasets as sets: what one lacks, what both have, each with each.

use std::collections::{BTreeSet, HashSet};

use ingle::prelude::*;
use proptest::prelude::*;

/// The numbers of records after which operators spill; `0` stands for never.
const SPILLS: [&str; 4] = ["0", "1", "3", "50"];

/// Runs a test in memory, and with spilling after so many records.
fn in_all_forms(mut test: impl FnMut(&Context)) {
    for every in SPILLS {
        test(&Context::local_with([("ingle.local.spill-every", every)]));
    }
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values
}

fn words() -> impl Strategy<Value = Vec<String>> {
    // Few different ones: many come several times. Some don't lie in a table's entry.
    prop::collection::vec("[ab]{0,2}|x{12,14}", 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn subtract_keeps_each_record_that_the_other_lacks_as_often_as_it_occurs(
        left in words(),
        right in words(),
        parts in (1usize..5, 1usize..4, 1usize..6),
    ) {
        let lacked: HashSet<&String> = right.iter().collect();
        let model = sorted(left.iter().filter(|word| !lacked.contains(word)).cloned().collect());
        in_all_forms(|ctx| {
            let (these, others) =
                (ctx.parallelize(left.clone(), parts.0), ctx.parallelize(right.clone(), parts.1));
            let rest = these.subtract_with_partitions(&others, parts.2);
            assert_eq!(rest.num_partitions(), parts.2);
            assert_eq!(sorted(rest.collect().unwrap()), model);
            assert_eq!(sorted(these.subtract(&others).collect().unwrap()), model);
        });
    }

    #[test]
    fn intersection_gives_what_both_have_once(
        left in words(),
        right in words(),
        parts in (1usize..5, 1usize..4, 1usize..6),
    ) {
        let (lefts, rights): (BTreeSet<_>, BTreeSet<_>) =
            (left.iter().cloned().collect(), right.iter().cloned().collect());
        let model: Vec<String> = lefts.intersection(&rights).cloned().collect();
        in_all_forms(|ctx| {
            let (these, others) =
                (ctx.parallelize(left.clone(), parts.0), ctx.parallelize(right.clone(), parts.1));
            let both = these.intersection_with_partitions(&others, parts.2);
            assert_eq!(both.num_partitions(), parts.2);
            assert_eq!(sorted(both.collect().unwrap()), model);
            assert_eq!(sorted(these.intersection(&others).collect().unwrap()), model);
        });
    }

    #[test]
    fn cartesian_gives_each_with_each(
        left in prop::collection::vec(any::<u8>(), 0..20),
        right in prop::collection::vec("[a-z]{0,3}", 0..20),
        parts in (1usize..5, 1usize..5, 1usize..40),
    ) {
        let each = |lefts: &[u8], rights: &[String]| -> Vec<(u8, String)> {
            let pairs = lefts.iter().map(|left| rights.iter().map(|right| (*left, right.clone())));
            pairs.flatten().collect()
        };
        let model = sorted(each(&left, &right));
        in_all_forms(|ctx| {
            let (these, others) =
                (ctx.parallelize(left.clone(), parts.0), ctx.parallelize(right.clone(), parts.1));
            let pairs = these.cartesian(&others);
            assert_eq!(pairs.num_partitions(), parts.0 * parts.1);
            assert_eq!(sorted(pairs.collect().unwrap()), model);
            let pairs = these.cartesian_with_partitions(&others, parts.2);
            assert_eq!(pairs.num_partitions(), parts.2);
            assert_eq!(sorted(pairs.collect().unwrap()), model);
        });
        let ctx = Context::local();
        let pairs = ctx.parallelize(left.clone(), 1).cartesian(&ctx.parallelize(right.clone(), 1));
        prop_assert_eq!(pairs.collect().unwrap(), each(&left, &right), "in order where nothing is spilled");
    }
}

#[test]
fn a_cartesian_product_with_what_has_no_partitions_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = Context::local();
    let nothing = ctx.text_file(dir.path().to_str().unwrap()).unwrap();
    let numbers = ctx.range(0..3, 2);
    assert_eq!(numbers.cartesian(&nothing).count().unwrap(), 0);
    assert_eq!(nothing.map(|_| 1).cartesian(&numbers).count().unwrap(), 0);
    assert_eq!(numbers.cartesian_with_partitions(&nothing, 4).count().unwrap(), 0);
}

#[test]
fn a_cartesian_product_computes_partitions_once_for_each_of_the_others() {
    in_all_forms(|ctx| {
        let counted = |name, records: u64, partitions| {
            let computed = ctx.accumulator(name, 0u64);
            let counting = computed.clone();
            let numbers = ctx.range(0..records, partitions).map(move |n| {
                counting.add(1);
                n
            });
            (numbers, computed)
        };
        let (left, lefts) = counted("left", 10, 2);
        let (right, rights) = counted("right", 12, 3);
        assert_eq!(left.cartesian(&right).count().unwrap(), 120);
        assert_eq!((lefts.value(), rights.value()), (10 * 3, 12 * 2));
    });
}

#[test]
fn a_dataset_meets_itself() {
    let ctx = Context::local();
    let numbers = ctx.range(0..4, 2);
    assert_eq!(numbers.cartesian(&numbers).count().unwrap(), 16);
    assert_eq!(sorted(numbers.intersection(&numbers).collect().unwrap()), [0, 1, 2, 3]);
    assert!(numbers.subtract(&numbers).is_empty().unwrap());
}

#[test]
fn records_larger_than_a_block_are_paired() {
    in_all_forms(|ctx| {
        let large = ctx.range(0..3, 1).map(|n| vec![n as u8; 300_000]);
        let pairs = ctx.range(0..2, 1).cartesian(&large);
        let sums = pairs.map(|(n, bytes)| n + u64::from(bytes[299_999])).collect().unwrap();
        assert_eq!(sorted(sums), [0, 1, 1, 2, 2, 3]);
    });
}
