//! Partitions of different sizes: tasks that share a large one, or compute several that are tiny.

use std::collections::BTreeMap;

use ingle::prelude::*;

/// Almost all pairs have one key.
const PAIRS: u64 = 4_000;

fn context(threshold: &str) -> Context {
    Context::local_with([
        ("ingle.join.skew.threshold", threshold),
        ("ingle.join.broadcast.threshold", "0"),
        ("ingle.default.parallelism", "4"),
    ])
}

fn key(n: u64) -> u64 {
    if n.is_multiple_of(10) { n % 7 } else { 100 }
}

fn skewed(ctx: &Context) -> Dataset<(u64, u64), impl ingle::Plan<Item = (u64, u64)>> {
    ctx.range(0..PAIRS, 8).map(|n| (key(n), n))
}

fn names(ctx: &Context) -> Dataset<(u64, String), impl ingle::Plan<Item = (u64, String)>> {
    ctx.range(0..200, 3).map(|n| (n, format!("name {n}")))
}

/// Of which partitions tasks are told that they compute them, record by record.
fn computed<T: 'static, P: ingle::Plan<Item = T>>(dataset: &Dataset<T, P>) -> BTreeMap<u32, u64> {
    let seen = dataset.context().accumulator("computed", BTreeMap::new());
    let see = seen.clone();
    let partitions = dataset.map(|_| TaskContext::get().partition);
    partitions.for_each(move |partition| see.add(BTreeMap::from([(partition, 1u64)]))).unwrap();
    seen.value()
}

/// How many files a dataset is saved to: one for each task.
fn files<T, P>(dataset: &Dataset<T, P>) -> usize
where
    T: std::fmt::Display + 'static,
    P: ingle::Plan<Item = T>,
{
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    dataset.save_as_text_file(out.to_str().unwrap()).unwrap();
    let names = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("part-")).count()
}

#[test]
fn several_tasks_share_a_partition_that_is_much_larger() {
    for (threshold, shared) in [("1b", true), ("0", false), ("1g", false)] {
        let ctx = context(threshold);
        let joined = skewed(&ctx).join(&names(&ctx)).map(|(_, (n, name))| format!("{n} {name}"));
        assert_eq!(joined.num_partitions(), 4);
        let files = files(&joined);
        assert_eq!(files > 4, shared, "{files} with {threshold}");
        assert!(files <= 4 + 7, "no more than tasks wrote it");
        assert_eq!(joined.count().unwrap(), PAIRS);
    }
}

#[test]
fn what_comes_after_sees_each_record_once_and_the_partition_it_belongs_to() {
    let (ctx, plain) = (context("1b"), context("0"));
    let of = |ctx: &Context| {
        let joined = skewed(ctx).join(&names(ctx));
        let by_partition = computed(&joined);
        let sums = joined
            .map(|(key, (n, name))| (name.len(), key + n))
            .reduce_by_key(|a, b| a + b)
            .collect()
            .unwrap()
            .into_iter()
            .collect::<BTreeMap<_, _>>();
        let total = joined.map(|(_, (n, _))| n).sum().unwrap();
        let most = joined.map(|(_, (n, _))| n).top(3).unwrap();
        let mut all = joined.collect().unwrap();
        all.sort();
        (files(&joined.map(|(key, _)| key)), by_partition, sums, total, most, all)
    };
    let (shared, plain) = (of(&ctx), of(&plain));
    assert!(shared.0 > 4 && plain.0 == 4);
    assert_eq!(
        (&shared.1, &shared.2, shared.3, &shared.4),
        (&plain.1, &plain.2, plain.3, &plain.4)
    );
    assert!(shared.5 == plain.5 && shared.5.len() as u64 == PAIRS);
    assert_eq!(shared.1.values().sum::<u64>(), PAIRS);
}

#[test]
fn operators_on_whole_partitions_see_them_whole() {
    let ctx = context("1b");
    let joined = skewed(&ctx).join(&names(&ctx));
    assert!(files(&joined.map(|(key, _)| key)) > 4);
    assert_eq!(joined.glom().count().unwrap(), 4);
    assert_eq!(joined.map_partitions(|records| [records.count()]).count().unwrap(), 4);
    let partitions = ctx.accumulator("partitions", 0u64);
    let seen = partitions.clone();
    joined.for_each_partition(move |_| seen.add(1)).unwrap();
    assert_eq!(partitions.value(), 4);
    // By the key it was joined by: nothing is shuffled again.
    let counts = joined.map_values(|_| 1u64).reduce_by_key(|a, b| a + b);
    assert_eq!(counts.lookup(&100).unwrap(), [PAIRS - PAIRS / 10]);
    let numbers = joined.zip_with_index().values().collect().unwrap();
    assert_eq!(numbers, (0..PAIRS).collect::<Vec<_>>());
    let kept = joined.cache();
    assert_eq!((kept.count().unwrap(), kept.count().unwrap()), (PAIRS, PAIRS));
}

#[test]
fn either_side_is_shared_where_nothing_is_lost_by_it() {
    let ctx = context("1b");
    let (many, few) = (skewed(&ctx), names(&ctx));
    let shared = |files: usize| files > 4;
    assert!(shared(files(&many.left_outer_join(&few).map(|(key, _)| key))));
    assert!(shared(files(&few.right_outer_join(&many).map(|(key, _)| key))));
    assert!(shared(files(&few.join(&many).map(|(key, _)| key))));
    assert!(shared(files(&many.subtract_by_key(&few).map(|(key, _)| key))));
    // Who has no partner can't be told by a task that saw only some.
    assert!(!shared(files(&many.right_outer_join(&few).map(|(key, _)| key))));
    assert!(!shared(files(&few.left_outer_join(&many).map(|(key, _)| key))));
    assert!(!shared(files(&many.full_outer_join(&few).map(|(key, _)| key))));
    let lost = many.right_outer_join(&few).filter(|(_, (n, _))| n.is_none()).count().unwrap();
    assert_eq!(lost, 200 - 8);
}

#[test]
fn what_follows_a_shared_join_is_shuffled_and_sorted_as_ever() {
    let of = |threshold: &str| {
        let ctx = context(threshold);
        let joined = skewed(&ctx).join(&names(&ctx)).map(|(key, (n, _))| (n, key));
        assert_eq!(files(&joined.keys()) > 4, threshold == "1b");
        let again = joined.join(&joined.map_values(|key| key + 1)).sort_by_key(true);
        let sorted = joined.sort_by_key(false).map(|(n, _)| n).collect().unwrap();
        let spread = joined.repartition(3).glom().map(|part| part.len()).collect().unwrap();
        (again.collect().unwrap(), sorted, spread.into_iter().sum::<usize>())
    };
    let shared = of("1b");
    assert_eq!(shared, of("0"));
    assert_eq!(shared.1, (0..PAIRS).rev().collect::<Vec<_>>());
}

/// Partitions of which 16 tasks or more compute several: the native runner has 4 slots.
const MANY: usize = 64;

fn tiny(size: &str) -> Context {
    Context::local_with([("ingle.shuffle.coalesce.size", size)])
}

#[test]
fn one_task_computes_several_tiny_partitions() {
    for (size, partitions, fewer) in [
        ("4m", MANY, true),
        ("4m", 32, true),
        ("4m", 31, false),
        ("1b", MANY, false),
        ("0", MANY, false),
    ] {
        let ctx = tiny(size);
        let pairs = ctx.range(0..PAIRS, 8).map(|n| (n % 500, n));
        let tasks = |files: usize| {
            assert_eq!((16..partitions).contains(&files), fewer, "{files} with {size}");
            assert!(fewer || files == partitions, "{files} with {size}");
        };
        tasks(files(&pairs.reduce_by_key_with_partitions(|a, b| a + b, partitions).keys()));
        tasks(files(&pairs.group_by_key_with_partitions(partitions).keys()));
        tasks(files(&pairs.keys().distinct_with_partitions(partitions)));
        tasks(files(&pairs.cogroup_with_partitions(&names(&ctx), partitions).keys()));
        tasks(files(&pairs.join_with_partitions(&names(&ctx), partitions).keys()));
        tasks(files(&pairs.full_outer_join_with_partitions(&names(&ctx), partitions).keys()));
        tasks(files(&pairs.subtract_by_key_with_partitions(&names(&ctx), partitions).keys()));
    }
}

#[test]
fn what_needs_a_partition_by_itself_gets_it() {
    let ctx = tiny("4m");
    let sums = ctx.range(0..PAIRS, 8).map(|n| (n % 500, n));
    let sums = sums.reduce_by_key_with_partitions(|a, b| a + b, MANY);
    assert!(files(&sums.keys()) < MANY);
    let firsts = computed(&sums);
    assert!((16..MANY).contains(&firsts.len()), "told of the first of each: {firsts:?}");
    assert_eq!(firsts.values().sum::<u64>(), 500);
    assert_eq!(sums.glom().count().unwrap(), MANY as u64);
    let indexes = sums.map_partitions_with_index(|at, _| [at]).collect().unwrap();
    assert_eq!(indexes, (0..MANY).collect::<Vec<_>>());
    let total: u64 = (0..PAIRS).sum();
    // What lies in place is joined and reduced partition by partition.
    let joined = sums.join(&sums.map_values(|n| n + 1));
    assert_eq!(joined.count().unwrap(), 500);
    assert_eq!(sums.reduce_by_key(|a, b| a + b).values().sum().unwrap(), total);
    assert_eq!(sums.take(500).unwrap().len(), 500);
    let kept = sums.cache();
    assert_eq!((kept.values().sum().unwrap(), kept.values().sum().unwrap()), (total, total));
    // Fewer tasks write what many would, in any order.
    assert_eq!(sums.repartition(3).values().sum().unwrap(), total);
    let keys = sums.sort_by_key(true).keys().collect().unwrap();
    assert_eq!(keys, (0..500).collect::<Vec<_>>());
}

#[test]
fn tiny_partitions_of_nothing_are_one_task() {
    let ctx = tiny("4m");
    let none = ctx.range(0..0, 2).map(|n| (n, n)).reduce_by_key_with_partitions(|a, b| a + b, MANY);
    assert_eq!((none.count().unwrap(), none.num_partitions()), (0, MANY));
    assert_eq!(files(&none.keys()), 1);
}

#[test]
fn partitions_that_are_shared_and_such_as_are_put_together_lie_side_by_side() {
    let of = |threshold: &str, size: &str| {
        let ctx = Context::local_with([
            ("ingle.join.skew.threshold", threshold),
            ("ingle.shuffle.coalesce.size", size),
            ("ingle.join.broadcast.threshold", "0"),
        ]);
        let joined = skewed(&ctx).join_with_partitions(&names(&ctx), MANY);
        let mut all = joined.collect().unwrap();
        all.sort();
        (files(&joined.keys()), all)
    };
    let (both, plain) = (of("1k", "4m"), of("0", "0"));
    assert!(both.1 == plain.1);
    assert_eq!((plain.0, of("1k", "0").0 > MANY, of("0", "4m").0 < MANY), (MANY, true, true));
    assert!(both.0 < of("1k", "0").0 && both.0 > of("0", "4m").0, "{}", both.0);
}

#[test]
fn sizes_that_are_not_told_yet_are_not_taken_for_none() {
    let ctx = tiny("4m");
    let sums = ctx.range(0..PAIRS, 8).map(|n| (n % 500, n));
    let sums = sums.reduce_by_key_with_partitions(|a, b| a + b, MANY);
    // It runs the shuffle, and what that told comes with its own result.
    let parts = sums.glom().count_async().unwrap();
    assert_eq!(files(&sums.keys()), MANY);
    assert_eq!((parts.wait().unwrap(), sums.count().unwrap()), (MANY as u64, 500));
}
