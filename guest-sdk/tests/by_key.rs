//! Operators that bring a key's values together, in memory and where they spill.

use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};

use ingle::prelude::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// The numbers of records after which operators spill; `0` stands for never.
const SPILLS: [&str; 4] = ["0", "1", "3", "50"];

/// Runs a test in memory, and with spilling after so many records.
fn in_all_forms(mut test: impl FnMut(&Context)) {
    for every in SPILLS {
        test(&Context::local_with([("ingle.local.spill-every", every)]));
    }
}

fn pairs() -> impl Strategy<Value = Vec<(String, i64)>> {
    // Keys that lie in a table's entry, and keys that don't.
    prop::collection::vec(("[ab]{0,2}|x{9,16}", -1000i64..1000), 0..60)
}

/// Each key's values in order of their coming.
fn grouped<K: Ord + Clone, V: Clone>(pairs: &[(K, V)]) -> BTreeMap<K, Vec<V>> {
    let mut groups: BTreeMap<K, Vec<V>> = BTreeMap::new();
    for (key, value) in pairs {
        groups.entry(key.clone()).or_default().push(value.clone());
    }
    groups
}

/// What came of each key; none may come twice.
fn by_key<K: Ord, V>(found: Vec<(K, V)>) -> BTreeMap<K, V> {
    let len = found.len();
    let map: BTreeMap<K, V> = found.into_iter().collect();
    assert_eq!(map.len(), len, "a key came twice");
    map
}

/// How many partitions: few, or as many as are put together.
fn to() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1usize..6, 1 => 32usize..60]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reduce_by_key_reduces_each_keys_values(pairs in pairs(), from in 1usize..5, to in to()) {
        let model: BTreeMap<String, i64> =
            grouped(&pairs).into_iter().map(|(key, values)| (key, values.iter().sum())).collect();
        in_all_forms(|ctx| {
            let sums = ctx
                .parallelize(pairs.clone(), from)
                .reduce_by_key_with_partitions(|a, b| a + b, to);
            assert_eq!(sums.num_partitions(), to);
            assert_eq!(by_key(sums.collect().unwrap()), model);
        });
    }

    #[test]
    fn aggregate_by_key_brings_values_into_another_type(pairs in pairs(), from in 1usize..5) {
        let model: BTreeMap<String, (i64, i64)> = grouped(&pairs)
            .into_iter()
            .map(|(key, values)| (key, (values.iter().sum(), values.len() as i64)))
            .collect();
        in_all_forms(|ctx| {
            let sums = ctx.parallelize(pairs.clone(), from).aggregate_by_key(
                (0, 0),
                |(sum, count), value| (sum + value, count + 1),
                |one, other| (one.0 + other.0, one.1 + other.1),
            );
            assert_eq!(by_key(sums.collect().unwrap()), model);
        });
    }

    #[test]
    fn combine_by_key_makes_the_first_of_a_keys_first_value(pairs in pairs(), to in to()) {
        let model: BTreeMap<String, Vec<i64>> = grouped(&pairs)
            .into_iter()
            .map(|(key, mut values)| {
                values.sort_unstable();
                (key, values)
            })
            .collect();
        in_all_forms(|ctx| {
            let all = ctx.parallelize(pairs.clone(), 3).combine_by_key_with_partitions(
                |value| vec![value],
                |mut known, value| {
                    known.push(value);
                    known
                },
                |mut one, mut other| {
                    one.append(&mut other);
                    one
                },
                to,
            );
            let sorted = all.map_values(|mut values: Vec<i64>| {
                values.sort_unstable();
                values
            });
            assert_eq!(by_key(sorted.collect().unwrap()), model);
        });
    }

    #[test]
    fn group_by_key_gives_all_values(pairs in pairs(), from in 1usize..5, to in to()) {
        let model = grouped(&pairs);
        in_all_forms(|ctx| {
            let groups =
                ctx.parallelize(pairs.clone(), from).group_by_key_with_partitions(to);
            // The native runner reads tasks' output in order, so values come in order too.
            assert_eq!(by_key(groups.collect().unwrap()), model);
        });
    }

    #[test]
    fn fold_by_key_folds(pairs in pairs(), from in 1usize..5) {
        let model: BTreeMap<String, i64> = grouped(&pairs)
            .into_iter()
            .map(|(key, values)| (key, values.into_iter().fold(0, i64::max)))
            .collect();
        in_all_forms(|ctx| {
            let folded = ctx.parallelize(pairs.clone(), from).fold_by_key(0, i64::max);
            assert_eq!(by_key(folded.collect().unwrap()), model);
        });
    }

    #[test]
    fn group_by_groups_by_what_its_closure_gives(
        values in prop::collection::vec(any::<u16>(), 0..60),
        to in to(),
    ) {
        let keyed: Vec<(u16, u16)> = values.iter().map(|value| (value % 7, *value)).collect();
        let model = grouped(&keyed);
        in_all_forms(|ctx| {
            let groups =
                ctx.parallelize(values.clone(), 3).group_by_with_partitions(|n| n % 7, to);
            assert_eq!(by_key(groups.collect().unwrap()), model);
        });
    }

    #[test]
    fn distinct_gives_each_record_once(
        values in prop::collection::vec((any::<bool>(), "[ab]{0,2}"), 0..60),
        to in to(),
    ) {
        let model: HashSet<(bool, String)> = values.iter().cloned().collect();
        in_all_forms(|ctx| {
            let found = ctx
                .parallelize(values.clone(), 3)
                .distinct_with_partitions(to)
                .collect()
                .unwrap();
            assert_eq!(found.len(), model.len());
            assert_eq!(found.into_iter().collect::<HashSet<_>>(), model);
        });
    }
}

#[test]
fn wide_operators_make_as_many_partitions_as_the_default() {
    let ctx = Context::local_with([("ingle.default.parallelism", "7")]);
    assert_eq!(ctx.default_parallelism(), 7);
    let pairs = ctx.range(0..10, 2).key_by(|n| n % 3);
    assert_eq!(pairs.reduce_by_key(|a, _| a).num_partitions(), 7);
    assert_eq!(pairs.fold_by_key(0, |a, _| a).num_partitions(), 7);
    assert_eq!(pairs.aggregate_by_key(0, |a, _| a, |a, _| a).num_partitions(), 7);
    assert_eq!(pairs.combine_by_key(|a| a, |a, _| a, |a, _| a).num_partitions(), 7);
    assert_eq!(pairs.group_by_key().num_partitions(), 7);
    assert_eq!(pairs.group_by(|pair| pair.0).num_partitions(), 7);
    assert_eq!(pairs.distinct().num_partitions(), 7);
    assert_eq!(pairs.join(&pairs).num_partitions(), 7);
    assert_eq!(pairs.left_outer_join(&pairs).num_partitions(), 7);
    assert_eq!(pairs.right_outer_join(&pairs).num_partitions(), 7);
    assert_eq!(pairs.full_outer_join(&pairs).num_partitions(), 7);
    assert_eq!(pairs.subtract_by_key(&pairs).num_partitions(), 7);
    assert_eq!(pairs.subtract(&pairs).num_partitions(), 7);
    assert_eq!(pairs.intersection(&pairs).num_partitions(), 7);
    assert_eq!(pairs.partition_by(by_hash).num_partitions(), 7);
    assert_eq!(pairs.repartition_and_sort_within_partitions(by_hash).num_partitions(), 7);
    assert_eq!(pairs.cogroup(&pairs).num_partitions(), 7);
    assert_eq!(pairs.sort_by_key(true).num_partitions(), 7);
    assert_eq!(pairs.sort_by(|pair| pair.1, true).num_partitions(), 7);
}

#[test]
fn forms_with_partitions_make_so_many_and_at_least_one() {
    let pairs = Context::local().range(0..10, 2).key_by(|n| n % 3);
    assert_eq!(pairs.fold_by_key_with_partitions(0, |a, _| a, 5).num_partitions(), 5);
    let aggregated = pairs.aggregate_by_key_with_partitions(0, |a, _| a, |a, _| a, 5);
    assert_eq!(aggregated.num_partitions(), 5);
    assert_eq!(pairs.reduce_by_key_with_partitions(|a, b| a + b, 0).glom().count().unwrap(), 1);
    assert_eq!(pairs.distinct_with_partitions(0).glom().count().unwrap(), 1);
}

/// A key whose hashes are all the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Colliding(String);

impl Hash for Colliding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        0u8.hash(state);
    }
}

#[test]
fn keys_of_one_hash_are_told_apart() {
    let keys = ["", "a", "b", "c", "a key that is longer", "a key that is longest"];
    let pairs: Vec<(Colliding, u64)> =
        (0..60u64).map(|n| (Colliding(keys[n as usize % keys.len()].to_owned()), n)).collect();
    let model = grouped(&pairs);
    in_all_forms(|ctx| {
        let pairs = ctx.parallelize(pairs.clone(), 3);
        assert_eq!(by_key(pairs.group_by_key().collect().unwrap()), model);
        let sums = by_key(pairs.reduce_by_key(|a, b| a + b).collect().unwrap());
        assert!(sums.iter().all(|(key, sum)| *sum == model[key].iter().sum::<u64>()));
    });
}

/// A key that does not care for case: equal ones are encoded in different ways.
#[derive(Clone, Debug, Eq, Serialize, Deserialize)]
struct AnyCase(String);

impl PartialEq for AnyCase {
    fn eq(&self, other: &AnyCase) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Hash for AnyCase {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_ascii_lowercase().hash(state);
    }
}

#[test]
fn keys_are_equal_by_their_own_eq() {
    let words = ["to", "TO", "be", "Be", "bE", "a long word to look up", "A LONG WORD to look up"];
    in_all_forms(|ctx| {
        let words = ctx.parallelize(words.map(|word| (AnyCase(word.to_owned()), 1u64)), 3);
        let counts = words.reduce_by_key(|a, b| a + b).collect().unwrap();
        let counts =
            counts.into_iter().map(|(AnyCase(word), n)| (word.to_lowercase(), n)).collect();
        let model = [("to", 2), ("be", 3), ("a long word to look up", 2)];
        assert_eq!(by_key(counts), model.map(|(word, n)| (word.to_owned(), n)).into());
    });
}

#[test]
fn keys_and_values_without_content_are_records_too() {
    in_all_forms(|ctx| {
        let nothing = ctx.range(0..5, 2).map(|_| ((), ()));
        assert_eq!(nothing.reduce_by_key(|(), ()| ()).collect().unwrap(), [((), ())]);
        assert_eq!(nothing.group_by_key().collect().unwrap(), [((), vec![(); 5])]);
        assert_eq!(nothing.keys().collect().unwrap(), [(); 5]);
    });
}

#[test]
fn values_larger_than_a_block_come_through() {
    in_all_forms(|ctx| {
        let large = ctx.range(0..8, 2).map(|n| (n % 3, vec![n as u8; 300_000]));
        let groups = by_key(large.group_by_key().collect().unwrap());
        let firsts = |key| groups[&key].iter().map(|value| value[299_999]).collect::<Vec<_>>();
        assert_eq!((firsts(0), firsts(1), firsts(2)), (vec![0, 3, 6], vec![1, 4, 7], vec![2, 5]));
    });
}

#[test]
fn more_keys_than_one_batch_come_through() {
    in_all_forms(|ctx| {
        let pairs = ctx.range(0..20_000, 3).map(|n| (Str::from(format!("key {:x}", n % 5000)), n));
        let sums = by_key(pairs.reduce_by_key(|a, b| a + b).collect().unwrap());
        assert_eq!(sums.len(), 5000);
        assert!((0..5000).all(|n| sums[format!("key {n:x}").as_str()] == 4 * n + 30_000));
    });
}
