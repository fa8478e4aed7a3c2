//! Datasets that are kept.

use ingle::prelude::*;

/// A dataset of 0 to 99 in 4 partitions, and how many records were computed of it so far.
fn counted(ctx: &Context) -> (Dataset<u64>, impl Fn() -> u64 + use<>) {
    let count = ctx.accumulator("count", 0u64);
    let add = count.clone();
    let numbers = ctx.range(0..100, 4).map(move |n| {
        add.add(1);
        n
    });
    (numbers.boxed(), move || count.value())
}

#[test]
fn a_persisted_dataset_is_computed_once_whatever_is_made_of_it() {
    for level in [StorageLevel::MemoryOnly, StorageLevel::MemoryAndDisk, StorageLevel::DiskOnly] {
        let ctx = Context::local();
        let (numbers, computed) = counted(&ctx);
        let kept = numbers.persist(level);
        assert_eq!(computed(), 0, "nothing is computed before an action");
        assert_eq!(kept.collect().unwrap(), (0..100).collect::<Vec<u64>>());
        assert_eq!(computed(), 100);
        let sums = kept.key_by(|n| n % 3).reduce_by_key(|a, b| a + b).sort_by_key(true);
        assert_eq!(sums.collect().unwrap(), [(0, 1683), (1, 1617), (2, 1650)]);
        assert_eq!(kept.union(&kept).count().unwrap(), 200);
        assert_eq!(kept.cartesian(&kept).count().unwrap(), 10_000);
        assert_eq!(kept.coalesce(2).map(|n| n + 1).max().unwrap(), Some(100));
        assert_eq!(computed(), 100);
    }
}

#[test]
fn what_takes_only_the_first_records_keeps_the_whole_partition() {
    let ctx = Context::local();
    let (numbers, computed) = counted(&ctx);
    let kept = numbers.cache();
    assert_eq!(kept.take(3).unwrap(), [0, 1, 2]);
    assert_eq!(computed(), 25, "one partition");
    assert_eq!(kept.take(30).unwrap(), (0..30).collect::<Vec<u64>>());
    assert_eq!(kept.count().unwrap(), 100);
    assert_eq!(computed(), 100);
}

#[test]
fn a_partition_that_a_task_computes_twice_is_kept_once() {
    let ctx = Context::local();
    let (numbers, _) = counted(&ctx);
    let kept = numbers.cache();
    // Each task computes it for both sides.
    let pairs = kept.zip(&kept.map(|n| n * 2));
    assert!(pairs.collect().unwrap().into_iter().all(|(n, double)| double == 2 * n));
    assert_eq!(kept.count().unwrap(), 100);
}

#[test]
fn a_partition_is_kept_only_of_a_task_that_succeeds() {
    let ctx = Context::local();
    let (numbers, computed) = counted(&ctx);
    let kept = numbers.cache();
    let failing = kept.map(|n| {
        assert!(n != 99 || TaskContext::get().attempt > 0, "not yet");
        n
    });
    assert_eq!(failing.count().unwrap(), 100);
    assert_eq!(computed(), 100, "failed tasks' changes don't count");
    assert_eq!(kept.collect().unwrap(), (0..100).collect::<Vec<u64>>());
    assert_eq!(computed(), 100);
}

#[test]
fn an_empty_partition_is_kept_as_well() {
    let ctx = Context::local();
    let looked = ctx.accumulator("looked", 0u64);
    let look = looked.clone();
    let none = ctx.range(0..100, 4).map_partitions(move |records| {
        look.add(1);
        records.filter(|n| *n > 1000)
    });
    let kept = none.cache();
    assert_eq!(kept.count().unwrap(), 0);
    assert!(kept.collect().unwrap().is_empty());
    assert_eq!(looked.value(), 4);
}

#[test]
fn what_is_unpersisted_is_computed_again_and_not_kept() {
    let ctx = Context::local();
    let (numbers, computed) = counted(&ctx);
    let kept = numbers.cache();
    let shuffled = kept.key_by(|n| n % 2).group_by_key();
    assert_eq!(shuffled.count().unwrap(), 2);
    kept.unpersist();
    assert_eq!((kept.storage_level(), computed()), (None, 100));
    assert_eq!(kept.count().unwrap(), 100);
    assert_eq!(kept.count().unwrap(), 100);
    assert_eq!(computed(), 300);
    // Anew it is another.
    let again = kept.cache();
    assert_eq!((again.count().unwrap(), again.count().unwrap(), computed()), (100, 100, 400));
    // One that never was persisted has nothing to free.
    numbers.unpersist();
    again.map(|n| n).unpersist();
    assert_eq!((again.count().unwrap(), computed()), (100, 400));
}

#[test]
fn a_task_frees_nothing() {
    let ctx = Context::local();
    let (numbers, computed) = counted(&ctx);
    let kept = numbers.cache();
    let handle = kept.clone();
    let seen = kept.map_partitions(move |records| {
        handle.unpersist();
        records
    });
    assert_eq!((seen.count().unwrap(), seen.count().unwrap(), computed()), (100, 100, 100));
}

#[test]
fn what_is_placed_stays_placed() {
    let ctx = Context::local();
    let pairs = ctx.range(0..100, 4).key_by(|n| n % 10);
    let placed = pairs.group_by_key_with_partitions(3).cache();
    let joined = placed.join_with_partitions(&placed.map_values(|values| values.len()), 3);
    assert_eq!(joined.count().unwrap(), 10);
    let plan = joined.explanation();
    let stages = plan.lines().filter(|line| line.starts_with("stage")).count();
    assert_eq!(stages, 2, "one shuffle, and who reads it: {plan}");
    assert!(plan.contains("persist -> map_values"), "{plan}");
}

#[test]
fn iterations_over_a_cached_dataset_compute_it_once() {
    let ctx = Context::local();
    let (numbers, computed) = counted(&ctx);
    let points = numbers.map(|n| n as f64).cache();
    let mut center = 0.0;
    for _ in 0..5 {
        let at = center;
        center = points.map(move |x| (x + at) / 2.0).mean().unwrap().unwrap();
    }
    assert!((center - 49.5 * (1.0 - 1.0 / 32.0)).abs() < 1e-9, "{center}");
    assert_eq!(computed(), 100);
}
