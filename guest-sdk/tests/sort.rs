//! Sorting over all partitions, in memory and where it spills.

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

/// How many records each partition holds.
fn sizes<T: 'static, P: Plan<Item = T>>(dataset: &Dataset<T, P>) -> Vec<usize> {
    dataset.map_partitions(|part| [part.count()]).collect().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sort_by_key_sorts_over_all_partitions(
        // Few keys: many come several times.
        pairs in prop::collection::vec((-5i8..5, any::<u16>()), 0..80),
        from in 1usize..5,
        to in 1usize..9,
        ascending in any::<bool>(),
    ) {
        let mut model = pairs.clone();
        // Pairs of one key stay as they came: the native runner reads tasks' output in order.
        model.sort_by(|one, other| {
            let order = one.0.cmp(&other.0);
            if ascending { order } else { order.reverse() }
        });
        in_all_forms(|ctx| {
            let dataset = ctx.parallelize(pairs.clone(), from);
            let sorted = dataset.sort_by_key_with_partitions(ascending, to);
            assert_eq!(sorted.num_partitions(), to);
            assert_eq!(sorted.collect().unwrap(), model);
            assert_eq!(dataset.sort_by_key(ascending).collect().unwrap(), model);
            // Large records are sorted by other code than small ones.
            let large = dataset.map_values(|value| (value, [u64::from(value); 8]));
            let sorted = large.sort_by_key_with_partitions(ascending, to);
            assert_eq!(sorted.map_values(|(value, _)| value).collect().unwrap(), model);
        });
    }

    #[test]
    fn sort_by_sorts_by_what_its_closure_gives(
        words in prop::collection::vec("[a-c]{0,5}", 0..80),
        to in 1usize..9,
        ascending in any::<bool>(),
    ) {
        let mut model = words.clone();
        model.sort_by_key(|word| (word.len(), word.clone()));
        if !ascending {
            model.reverse();
        }
        in_all_forms(|ctx| {
            let dataset = ctx.parallelize(words.clone(), 3);
            let key = |word: &String| (word.len(), word.clone());
            let sorted = dataset.sort_by_with_partitions(key, ascending, to);
            assert_eq!(sorted.num_partitions(), to);
            assert_eq!(sorted.collect().unwrap(), model);
            assert_eq!(dataset.sort_by(key, ascending).collect().unwrap(), model);
        });
    }
}

#[test]
fn nothing_is_sorted_into_empty_partitions() {
    in_all_forms(|ctx| {
        let empty = ctx.parallelize(Vec::<(u32, u32)>::new(), 3);
        for ascending in [true, false] {
            let sorted = empty.sort_by_key_with_partitions(ascending, 4);
            assert_eq!(sizes(&sorted), [0; 4]);
        }
    });
}

#[test]
fn one_key_alone_lies_in_one_partition() {
    in_all_forms(|ctx| {
        let same = ctx.range(0..100, 4).map(|n| ('x', n));
        for ascending in [true, false] {
            let sorted = same.sort_by_key_with_partitions(ascending, 5);
            let mut sizes = sizes(&sorted);
            sizes.sort_unstable();
            assert_eq!(sizes, [0, 0, 0, 0, 100]);
        }
    });
}

#[test]
fn more_partitions_than_keys_leave_some_empty() {
    in_all_forms(|ctx| {
        let pairs = ctx.range(0..90, 4).map(|n| (n % 3, n));
        for ascending in [true, false] {
            let sorted = pairs.sort_by_key_with_partitions(ascending, 10);
            let mut model: Vec<u64> = (0..90).map(|n| n / 30).collect();
            if !ascending {
                model.reverse();
            }
            assert_eq!(sorted.keys().collect().unwrap(), model);
        }
    });
}

#[test]
fn no_key_lies_in_two_partitions() {
    let pairs = Context::local().range(0..1000, 4).map(|n| (n * 7 % 40, n));
    let parts = pairs.sort_by_key_with_partitions(true, 6).keys().glom().collect().unwrap();
    for pair in parts.windows(2) {
        assert!(pair[0].last() < pair[1].first(), "{parts:?}");
    }
}

#[test]
fn ranges_are_of_about_the_same_size() {
    let ctx = Context::local();
    // Scattered, and not evenly: their squares.
    let values = ctx.range(0..50_000, 5).map(|n| (n * 7919 % 50_000).pow(2));
    let sorted = values.sort_by_with_partitions(|n| *n, true, 8);
    let sizes = sizes(&sorted);
    assert_eq!(sizes.iter().sum::<usize>(), 50_000);
    assert!(sizes.iter().all(|size| (3_000..10_000).contains(size)), "{sizes:?}");
    assert!(sorted.collect().unwrap().is_sorted());
}

#[test]
fn partitions_of_other_sizes_are_weighed_when_keys_are_sampled() {
    let ctx = Context::local();
    let values = ctx.range(0..100, 1).union(&ctx.range(100..40_000, 1));
    let sizes = sizes(&values.sort_by_with_partitions(|n| *n, true, 4));
    assert!(sizes.iter().all(|size| (6_000..15_000).contains(size)), "{sizes:?}");
}

#[test]
fn records_larger_than_a_block_are_sorted() {
    in_all_forms(|ctx| {
        let large = ctx.range(0..6, 2).map(|n| (n * 5 % 6, vec![n as u8; 300_000]));
        let sorted = large.sort_by_key_with_partitions(true, 2).collect().unwrap();
        assert!(sorted.iter().map(|pair| pair.0).eq(0..6));
        assert!(sorted.iter().all(|(key, value)| *value == vec![(key * 5 % 6) as u8; 300_000]));
    });
}

#[test]
fn sorting_is_lazy_and_samples_once() {
    let ctx = Context::local();
    let computed = ctx.accumulator("computed", 0u64);
    let counting = computed.clone();
    let values = ctx.range(0..10, 2).map(move |n| {
        counting.add(1);
        n
    });
    let sorted = values.sort_by(|n| *n, false);
    assert_eq!(computed.value(), 0);
    sorted.collect().unwrap();
    // Once for the sample, once for the shuffle.
    assert_eq!(computed.value(), 20);
    sorted.collect().unwrap();
    assert_eq!(computed.value(), 20);
}

#[test]
fn large_partitions_are_sorted_range_by_range() {
    // 16 MiB: each of two partitions is about four ranges.
    let payload = "x".repeat(400);
    let mut random = 1u64;
    let records: Vec<(u64, String)> = (0..40_000)
        .map(|_| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
            (random >> 40, payload.clone())
        })
        .collect();
    let mut model: Vec<u64> = records.iter().map(|(key, _)| *key).collect();
    model.sort_unstable();
    let ctx = Context::local();
    let dataset = ctx.parallelize(records, 8);
    for ascending in [true, false] {
        let sorted = dataset.sort_by_key_with_partitions(ascending, 2);
        assert_eq!(sorted.num_partitions(), 2);
        assert!(sorted.keys().collect().unwrap() == model, "ascending: {ascending}");
        let sizes = sizes(&sorted);
        assert!(sizes.iter().all(|size| size.abs_diff(20_000) < 4_000), "{sizes:?}");
        model.reverse();
    }
    // Of fewer keys than ranges, each partition gets its part.
    let few = dataset.map(|(key, payload)| (key % 4, payload));
    let sorted = few.sort_by_key_with_partitions(false, 4);
    let keys = sorted.map_partitions(|part| {
        let mut keys: Vec<u64> = part.map(|(key, _)| key).collect();
        keys.dedup();
        keys
    });
    assert_eq!(keys.glom().collect().unwrap(), [[3], [2], [1], [0]]);
}

#[test]
fn heavy_keys_beside_light_ones_lie_in_partitions_of_about_the_same_size() {
    // 40 MB, so that each of four partitions is about five ranges: keys 0 to 3 have a fifth of it each, the rest have the last one.
    let payload = "x".repeat(2_000);
    let records: Vec<(u64, String)> =
        (0..20_000).map(|n| (if n % 5 < 4 { n % 5 } else { n }, payload.clone())).collect();
    let dataset = Context::local().parallelize(records, 8);
    for ascending in [true, false] {
        let sizes = sizes(&dataset.sort_by_key_with_partitions(ascending, 4));
        assert_eq!(sizes.iter().sum::<usize>(), 20_000);
        assert!(sizes.iter().all(|size| *size < 9_000), "ascending: {ascending}: {sizes:?}");
    }
}
