//! Pairs put where their keys say, and what is spared by that.

use std::collections::BTreeMap;

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

/// How many shuffles a plan has.
fn shuffles<T: 'static, P: Plan<Item = T>>(dataset: &Dataset<T, P>) -> usize {
    let explanation = dataset.explanation();
    explanation.lines().filter(|line| line.starts_with("stage ")).count() - 1
}

fn by_tens(key: &u64) -> usize {
    *key as usize / 10
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn partition_by_puts_pairs_where_the_function_says(
        pairs in prop::collection::vec((any::<u8>(), any::<u16>()), 0..60),
        from in 1usize..5,
        to in 1usize..6,
    ) {
        let mut model = vec![Vec::new(); to];
        for pair in &pairs {
            model[pair.0 as usize * 7 % to].push(*pair);
        }
        let ctx = Context::local();
        let placed = ctx
            .parallelize(pairs, from)
            .partition_by_with_partitions(|key| *key as usize * 7, to);
        prop_assert_eq!(placed.num_partitions(), to);
        // The native runner reads tasks' output in order.
        prop_assert_eq!(placed.glom().collect().unwrap(), model);
    }

    #[test]
    fn repartition_and_sort_within_partitions_places_and_sorts(
        pairs in prop::collection::vec((0u8..20, any::<u16>()), 0..60),
        from in 1usize..5,
        to in 1usize..6,
    ) {
        let mut model = vec![Vec::new(); to];
        for pair in &pairs {
            model[pair.0 as usize * 7 % to].push(*pair);
        }
        // Pairs of one key stay as they came.
        model.iter_mut().for_each(|part| part.sort_by_key(|pair| pair.0));
        in_all_forms(|ctx| {
            let sorted = ctx
                .parallelize(pairs.clone(), from)
                .repartition_and_sort_within_partitions_with_partitions(|key| *key as usize * 7, to);
            assert_eq!(sorted.num_partitions(), to);
            assert_eq!(sorted.glom().collect().unwrap(), model);
        });
    }

    #[test]
    fn operators_on_what_lies_in_place_give_what_they_give_elsewhere(
        left in prop::collection::vec((0u64..40, any::<i32>()), 0..40),
        right in prop::collection::vec((0u64..50, any::<i32>()), 0..40),
        to in 4usize..7,
    ) {
        in_all_forms(|ctx| {
            let (left, right) = (ctx.parallelize(left.clone(), 3), ctx.parallelize(right.clone(), 2));
            let placed = left.partition_by_with_partitions(by_tens, to);
            let others = right.partition_by_with_partitions(by_tens, to);
            for others in [others.boxed(), right.boxed()] {
                let joined = placed.full_outer_join(&others);
                assert_eq!(joined.num_partitions(), to);
                let model = left.full_outer_join_with_partitions(&right, 2).collect().unwrap();
                assert_eq!(sorted(joined.collect().unwrap()), sorted(model));
                let swapped = others.subtract_by_key(&placed).collect().unwrap();
                let model = right.subtract_by_key_with_partitions(&left, 3).collect().unwrap();
                assert_eq!(sorted(swapped), sorted(model));
            }
            let sums: BTreeMap<u64, i32> =
                placed.reduce_by_key(i32::wrapping_add).collect().unwrap().into_iter().collect();
            let model = left.reduce_by_key(i32::wrapping_add).collect().unwrap();
            assert_eq!(sums, model.into_iter().collect());
            let counts = placed.aggregate_by_key(0, |n, _| n + 1, |a, b| a + b);
            assert_eq!(counts.collect().unwrap().len(), sums.len());
            let groups = placed.group_by_key().flat_map_values(|values| values);
            assert_eq!(sorted(groups.collect().unwrap()), sorted(left.collect().unwrap()));
        });
    }
}

#[test]
fn what_lies_in_place_is_not_shuffled_again() {
    let ctx = Context::local_with([("ingle.default.parallelism", "4")]);
    let pairs = ctx.range(0..100, 3).map(|n| (n, n));
    let placed = pairs.partition_by_with_partitions(by_tens, 5);
    assert_eq!(shuffles(&placed), 1);
    assert_eq!(shuffles(&placed.partition_by_with_partitions(by_tens, 5)), 1);
    assert_eq!(shuffles(&placed.partition_by_with_partitions(by_tens, 6)), 2);
    assert_eq!(shuffles(&placed.partition_by_with_partitions(|n| *n as usize / 10, 5)), 2);
    let kept = placed.filter(|pair| pair.0 > 3).map_values(|n| n + 1).sample(false, 0.9, 1);
    assert_eq!(shuffles(&kept.reduce_by_key(|a, b| a + b)), 1);
    assert_eq!(shuffles(&kept.group_by_key().join(&placed)), 1);
    assert_eq!(
        shuffles(&placed.repartition_and_sort_within_partitions_with_partitions(by_tens, 5)),
        1
    );
    // Of keys that may have changed nothing is known.
    assert_eq!(shuffles(&placed.map(|pair| pair).reduce_by_key(|a, b| a + b)), 2);
    // Whoever says how many wants them by hash.
    assert_eq!(shuffles(&placed.reduce_by_key_with_partitions(|a, b| a + b, 5)), 2);
    let alike = pairs.map(|pair| pair).partition_by_with_partitions(by_tens, 5);
    assert_eq!(shuffles(&placed.join(&alike)), 2);
    assert_eq!(shuffles(&placed.join(&pairs.map(|pair| pair))), 2);
}

#[test]
fn by_hash_is_where_operators_by_key_put_things() {
    let ctx = Context::local_with([("ingle.default.parallelism", "4")]);
    let pairs = ctx.range(0..100, 3).map(|n| (n % 30, n));
    let placed = pairs.partition_by(by_hash);
    assert_eq!(shuffles(&placed.reduce_by_key(|a, b| a + b)), 1);
    assert_eq!(shuffles(&placed.reduce_by_key_with_partitions(|a, b| a + b, 4)), 1);
    assert_eq!(shuffles(&placed.join(&placed.group_by_key())), 1);
    let sums = pairs.reduce_by_key(|a, b| a + b);
    assert_eq!(shuffles(&sums.partition_by(by_hash)), 1);
    assert_eq!(
        sorted(placed.keys().glom().collect().unwrap()),
        sorted(
            pairs
                .join_with_partitions(&sums.keys().map(|key| (key, ())), 4)
                .keys()
                .glom()
                .collect()
                .unwrap()
        )
    );
}

#[test]
fn a_small_partitioning_is_not_taken_over() {
    let ctx = Context::local_with([("ingle.default.parallelism", "4")]);
    let small = ctx.range(0..10, 2).map(|n| (n, n)).reduce_by_key_with_partitions(|a, b| a + b, 1);
    let large = ctx.range(0..100, 8).map(|n| (n % 10, n));
    assert_eq!(large.join(&small).num_partitions(), 4);
    assert_eq!(small.reduce_by_key(|a, b| a + b).num_partitions(), 4);
    let larger = large.partition_by_with_partitions(by_tens, 9);
    assert_eq!(larger.join(&small).num_partitions(), 9);
    assert_eq!(small.cogroup(&larger).num_partitions(), 9);
    assert_eq!(larger.cogroup_with_partitions(&small, 2).num_partitions(), 2);
}

#[test]
fn lookup_computes_only_where_the_key_lies() {
    let ctx = Context::local();
    let computed = ctx.accumulator("computed", 0u64);
    let counting = computed.clone();
    let placed = ctx.range(0..50, 2).map(|n| (n, n * n)).partition_by_with_partitions(by_tens, 5);
    let counted = placed.map_values(move |square| {
        counting.add(1);
        square
    });
    assert_eq!(counted.lookup(&23).unwrap(), [529]);
    assert!(counted.lookup(&77).unwrap().is_empty());
    // One partition for each; all values of the filter's input are computed.
    assert_eq!(computed.value(), 20);
}

#[test]
fn a_function_that_captures_may_tell_partitions_too() {
    let ctx = Context::local();
    let bounds = [10, 20, 30];
    let placed = ctx
        .range(0..40, 3)
        .map(|n| (n, ()))
        .partition_by_with_partitions(move |key| bounds.partition_point(|bound| bound <= key), 4);
    let parts = placed.keys().map_partitions(|keys| [keys.count()]).collect().unwrap();
    assert_eq!(parts, [10; 4]);
    assert_eq!(shuffles(&placed.join(&placed.map_values(|()| 1))), 1);
}

#[test]
fn partitions_are_one_at_least() {
    let pairs = Context::local().range(0..10, 2).map(|n| (n, n));
    assert_eq!(pairs.partition_by_with_partitions(by_tens, 0).num_partitions(), 1);
    let sorted = pairs.repartition_and_sort_within_partitions_with_partitions(by_hash, 0);
    assert_eq!(sorted.keys().glom().collect().unwrap(), [(0..10).collect::<Vec<u64>>()]);
}
