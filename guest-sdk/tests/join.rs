//! Two datasets brought together by key.

use std::collections::{BTreeMap, BTreeSet};

use ingle::prelude::*;
use proptest::prelude::*;

/// Contexts whose operators spill after so many records (`0` stands for never), and whose tasks share partitions or not. The settings are
/// those of the last one.
fn contexts() -> impl Iterator<Item = Context> {
    ["0", "1", "3", "50"].into_iter().flat_map(|every| {
        ["0", "1b"].into_iter().map(move |skew| {
            Context::local_with([
                ("ingle.local.spill-every", every),
                ("ingle.join.skew.threshold", skew),
            ])
        })
    })
}

type Pairs<V> = Vec<(u8, V)>;

type Outer = Vec<(u8, (Option<i32>, Option<String>))>;

/// A full outer join, of which all others are parts.
fn model_outer(left: &Pairs<i32>, right: &Pairs<String>) -> Outer {
    let mut joined = Vec::new();
    for (key, value) in left {
        let partners: Vec<&String> =
            right.iter().filter(|(other, _)| other == key).map(|(_, with)| with).collect();
        joined.extend(partners.iter().map(|&with| (*key, (Some(*value), Some(with.clone())))));
        if partners.is_empty() {
            joined.push((*key, (Some(*value), None)));
        }
    }
    for (key, with) in right {
        if left.iter().all(|(other, _)| other != key) {
            joined.push((*key, (None, Some(with.clone()))));
        }
    }
    joined.sort();
    joined
}

/// What is left of a full outer join; `part` gives none for what isn't.
fn model_part<T: Ord>(
    outer: &Outer,
    part: impl Fn(Option<i32>, Option<String>) -> Option<T>,
) -> Vec<(u8, T)> {
    let found = outer
        .iter()
        .filter_map(|(key, (left, right))| part(*left, right.clone()).map(|value| (*key, value)));
    sorted(found.collect())
}

fn model_join(left: &Pairs<i32>, right: &Pairs<String>) -> Vec<(u8, (i32, String))> {
    model_part(&model_outer(left, right), Option::zip)
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values
}

fn left() -> impl Strategy<Value = Pairs<i32>> {
    prop::collection::vec((0u8..8, any::<i32>()), 0..25)
}

fn right() -> impl Strategy<Value = Pairs<String>> {
    prop::collection::vec((2u8..10, "[a-c]{0,2}"), 0..25)
}

/// How many partitions: few, or as many as are put together.
fn to() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1usize..6, 1 => 32usize..60]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn join_gives_each_pair_of_values_of_a_key(
        left in left(),
        right in right(),
        parts in (1usize..4, 1usize..4, to()),
    ) {
        let model = model_join(&left, &right);
        for ctx in contexts() {
            let others = ctx.parallelize(right.clone(), parts.1);
            let joined = ctx.parallelize(left.clone(), parts.0).join_with_partitions(&others, parts.2);
            prop_assert_eq!(joined.num_partitions(), parts.2);
            prop_assert_eq!(sorted(joined.collect().unwrap()), model.clone());
        }
    }

    #[test]
    fn join_of_what_lies_in_place_gives_the_same(
        left in left(),
        right in right(),
        to in to(),
    ) {
        let firsts: BTreeMap<u8, i32> = left.iter().rev().copied().collect();
        let model = model_join(&firsts.clone().into_iter().collect(), &right);
        for ctx in contexts() {
            let once = ctx
                .parallelize(left.clone(), 3)
                .group_by_key_with_partitions(to)
                .map_values(|values| values[0])
                .filter(|_| true);
            let others = ctx.parallelize(right.clone(), 2);
            let in_place = once.join_with_partitions(&others, to);
            prop_assert_eq!(sorted(in_place.collect().unwrap()), model.clone());
            let elsewhere = once.boxed().join_with_partitions(&others, to + 1);
            prop_assert_eq!(sorted(elsewhere.collect().unwrap()), model.clone());
            let swapped = others.join_with_partitions(&once, to).map_values(|(w, v)| (v, w));
            prop_assert_eq!(sorted(swapped.collect().unwrap()), model.clone());
        }
    }

    #[test]
    fn cogroup_gives_each_key_with_its_values_on_both_sides(
        left in left(),
        right in right(),
        to in to(),
    ) {
        let keys: BTreeSet<u8> =
            left.iter().map(|pair| pair.0).chain(right.iter().map(|pair| pair.0)).collect();
        let model: Vec<_> = keys
            .into_iter()
            .map(|key| {
                let lefts: Vec<i32> = left.iter().filter(|p| p.0 == key).map(|p| p.1).collect();
                let rights: Vec<String> =
                    right.iter().filter(|p| p.0 == key).map(|p| p.1.clone()).collect();
                (key, (lefts, rights))
            })
            .collect();
        for ctx in contexts() {
            let others = ctx.parallelize(right.clone(), 2);
            let both = ctx.parallelize(left.clone(), 3).cogroup_with_partitions(&others, to);
            // The native runner reads tasks' output in order, so values come in order too.
            prop_assert_eq!(sorted(both.collect().unwrap()), model.clone());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn outer_joins_keep_what_has_no_partner(
        left in left(),
        right in right(),
        parts in (1usize..4, 1usize..4, to()),
    ) {
        let model = model_outer(&left, &right);
        let lefts = model_part(&model, |left, right| left.map(|left| (left, right)));
        let rights = model_part(&model, |left, right| right.map(|right| (left, right)));
        for ctx in contexts() {
            let others = ctx.parallelize(right.clone(), parts.1);
            let these = ctx.parallelize(left.clone(), parts.0);
            let joined = these.full_outer_join_with_partitions(&others, parts.2);
            prop_assert_eq!(joined.num_partitions(), parts.2);
            prop_assert_eq!(sorted(joined.collect().unwrap()), model.clone());
            prop_assert_eq!(sorted(these.full_outer_join(&others).collect().unwrap()), model.clone());

            let joined = these.left_outer_join_with_partitions(&others, parts.2);
            prop_assert_eq!(joined.num_partitions(), parts.2);
            prop_assert_eq!(sorted(joined.collect().unwrap()), lefts.clone());
            prop_assert_eq!(sorted(these.left_outer_join(&others).collect().unwrap()), lefts.clone());

            let joined = these.right_outer_join_with_partitions(&others, parts.2);
            prop_assert_eq!(joined.num_partitions(), parts.2);
            prop_assert_eq!(sorted(joined.collect().unwrap()), rights.clone());
            prop_assert_eq!(sorted(these.right_outer_join(&others).collect().unwrap()), rights.clone());
        }
    }

    #[test]
    fn subtract_by_key_keeps_pairs_whose_keys_the_other_lacks(
        left in left(),
        right in right(),
        parts in (1usize..4, 1usize..4, to()),
    ) {
        let keys: BTreeSet<u8> = right.iter().map(|pair| pair.0).collect();
        let model = sorted(left.iter().copied().filter(|(key, _)| !keys.contains(key)).collect());
        for ctx in contexts() {
            let others = ctx.parallelize(right.clone(), parts.1);
            let these = ctx.parallelize(left.clone(), parts.0);
            let rest = these.subtract_by_key_with_partitions(&others, parts.2);
            prop_assert_eq!(rest.num_partitions(), parts.2);
            prop_assert_eq!(sorted(rest.collect().unwrap()), model.clone());
            // And where the keys that are taken away lie in place.
            let groups = others.group_by_key_with_partitions(parts.2);
            let rest = these.subtract_by_key_with_partitions(&groups, parts.2);
            prop_assert_eq!(sorted(rest.collect().unwrap()), model.clone());
            prop_assert_eq!(sorted(these.subtract_by_key(&others).collect().unwrap()), model.clone());
        }
    }
}

#[test]
fn joins_with_nothing_keep_all_of_the_side_that_they_keep() {
    let ctx = Context::local();
    let pairs = ctx.range(0..5, 2).key_by(|n| *n);
    let nothing = pairs.filter(|_| false);
    assert_eq!(pairs.left_outer_join(&nothing).count().unwrap(), 5);
    assert_eq!(pairs.right_outer_join(&nothing).count().unwrap(), 0);
    assert_eq!(pairs.full_outer_join(&nothing).count().unwrap(), 5);
    assert_eq!(nothing.left_outer_join(&pairs).count().unwrap(), 0);
    assert_eq!(nothing.right_outer_join(&pairs).count().unwrap(), 5);
    assert_eq!(nothing.full_outer_join(&pairs).count().unwrap(), 5);
    assert_eq!(nothing.full_outer_join(&nothing).count().unwrap(), 0);
    assert_eq!(pairs.subtract_by_key(&nothing).count().unwrap(), 5);
    assert_eq!(nothing.subtract_by_key(&pairs).count().unwrap(), 0);
}

#[test]
fn a_join_holds_one_side_and_keeps_the_order_of_the_other() {
    let ctx = Context::local();
    let many = ctx.range(0..1000, 1).map(|n| (n % 7, n));
    let few = ctx.range(0..5, 2).map(|n| (n, n * 10));
    let joined = many.left_outer_join_with_partitions(&few, 1).map(|(_, (n, _))| n);
    assert_eq!(joined.collect().unwrap(), (0..1000).collect::<Vec<u64>>());
}

#[test]
fn keys_and_values_without_content_are_joined() {
    for ctx in contexts() {
        let nothings = ctx.range(0..3, 2).map(|_| ((), ()));
        assert_eq!(nothings.join(&nothings).collect().unwrap(), [((), ((), ())); 9]);
        let empty = nothings.filter(|_| false);
        assert_eq!(
            nothings.full_outer_join(&empty).collect().unwrap(),
            [((), (Some(()), None)); 3]
        );
        assert_eq!(nothings.subtract_by_key(&empty).collect().unwrap(), [((), ()); 3]);
        assert!(nothings.subtract_by_key(&nothings).is_empty().unwrap());
    }
}

#[test]
fn keys_that_come_twice_on_both_sides_give_all_combinations() {
    let ctx = Context::local();
    let left = ctx.parallelize([("a".to_owned(), 1), ("a".to_owned(), 2), ("b".to_owned(), 3)], 2);
    let right =
        ctx.parallelize([("a".to_owned(), 'x'), ("a".to_owned(), 'y'), ("c".to_owned(), 'z')], 2);
    let values = sorted(left.join(&right).values().collect().unwrap());
    assert_eq!(values, [(1, 'x'), (1, 'y'), (2, 'x'), (2, 'y')]);
}

#[test]
fn join_with_nothing_is_empty() {
    let ctx = Context::local();
    let pairs = ctx.range(0..5, 2).key_by(|n| *n);
    let nothing = pairs.filter(|_| false);
    assert!(pairs.join(&nothing).is_empty().unwrap());
    assert!(nothing.join(&pairs).is_empty().unwrap());
}

#[test]
fn a_dataset_joins_itself() {
    let ctx = Context::local();
    let pairs = ctx.range(0..6, 2).map(|n| (n % 3, n));
    let mut model = Vec::new();
    for n in 0..6 {
        model.extend([(n % 3, (n, n % 3)), (n % 3, (n, n % 3 + 3))]);
    }
    assert_eq!(sorted(pairs.join(&pairs).collect().unwrap()), sorted(model.clone()));
    let sums = pairs.reduce_by_key(|a, b| a + b);
    let joined = sums.join(&sums.map_values(|sum| sum * 10));
    assert_eq!(sorted(joined.collect().unwrap()), [(0, (3, 30)), (1, (5, 50)), (2, (7, 70))]);
}

#[test]
fn what_lies_in_place_is_not_shuffled_again() {
    let ctx = Context::local();
    let sums = ctx.range(0..9, 2).map(|n| (n % 3, n)).reduce_by_key(|a, b| a + b);
    let groups = ctx.range(0..9, 2).map(|n| (n % 3, n)).group_by_key().filter(|(key, _)| *key > 0);
    let stages = |explanation: String| explanation.matches("stage").count();
    let in_place = sums.map_values(|sum| sum + 1).join(&groups).explanation();
    // Two stages and the last one, which reads both.
    assert_eq!(stages(in_place.clone()), 5, "{in_place}");
    // `map` may change keys.
    let moved = sums.map(|pair| pair).join(&groups).explanation();
    assert!(stages(moved.clone()) > 5, "{moved}");
}

/// PageRank as it is usually written: a join in a loop, over boxed datasets.
#[test]
fn joins_in_a_loop_agree_with_a_plain_program() {
    let edges = [(1u32, 2u32), (1, 3), (2, 3), (3, 1), (4, 3)];
    let ctx = Context::local();
    let links = ctx.parallelize(edges, 3).distinct().group_by_key();
    let mut ranks = links.map_values(|_| 1.0).boxed();
    for _ in 0..5 {
        let shares = links.join(&ranks).values().flat_map(|(targets, rank)| {
            let share = rank / targets.len() as f64;
            targets.into_iter().map(move |target| (target, share))
        });
        ranks = shares.reduce_by_key(|a, b| a + b).map_values(|sum| 0.15 + 0.85 * sum).boxed();
    }

    let mut model: BTreeMap<u32, f64> = edges.iter().map(|edge| (edge.0, 1.0)).collect();
    for _ in 0..5 {
        let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
        for (from, to) in edges {
            let targets = edges.iter().filter(|edge| edge.0 == from).count() as f64;
            if let Some(rank) = model.get(&from) {
                *sums.entry(to).or_default() += rank / targets;
            }
        }
        model = sums.into_iter().map(|(to, sum)| (to, 0.15 + 0.85 * sum)).collect();
    }
    let found: BTreeMap<u32, f64> = ranks.collect().unwrap().into_iter().collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>());
    assert!(found.iter().all(|(key, rank)| (rank - model[key]).abs() < 1e-12), "{found:?}");
}
