//! Operators that arrange partitions and records: zip, union, coalesce, glom, sample, repartition.

use std::collections::BTreeSet;

use ingle::prelude::*;
use proptest::prelude::*;

#[test]
fn glom_makes_one_record_of_each_partition() {
    let ctx = Context::local();
    assert_eq!(ctx.range(0..5, 2).glom().collect().unwrap(), [vec![0, 1], vec![2, 3, 4]]);
}

#[test]
fn union_puts_the_others_records_and_partitions_last() {
    let ctx = Context::local();
    let both = ctx.range(0..3, 2).union(&ctx.range(1..4, 3).map(|n| n));
    assert_eq!(both.num_partitions(), 5);
    assert_eq!(both.collect().unwrap(), [0, 1, 2, 1, 2, 3]);
}

#[test]
fn union_with_itself_holds_all_twice() {
    let numbers = Context::local().range(0..3, 2);
    assert_eq!(numbers.union(&numbers).collect().unwrap(), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn union_of_aggregated_datasets_is_shuffled_again_where_it_must() {
    let ctx = Context::local();
    let counts = ctx.range(0..20, 3).key_by(|n| n % 5).reduce_by_key(|a, b| a + b);
    let mut sums = counts.union(&counts).reduce_by_key(|a, b| a + b).collect().unwrap();
    sums.sort_unstable();
    assert_eq!(sums, [(0, 60), (1, 68), (2, 76), (3, 84), (4, 92)]);
}

#[test]
fn coalesce_puts_neighbours_together() {
    let ctx = Context::local();
    let fewer = ctx.range(0..10, 5).coalesce(2);
    assert_eq!(fewer.glom().collect().unwrap(), [vec![0, 1, 2, 3], vec![4, 5, 6, 7, 8, 9]]);
}

#[test]
fn coalesce_makes_no_more_partitions_than_there_were_and_at_least_one() {
    let numbers = Context::local().range(0..10, 3);
    assert_eq!(numbers.coalesce(8).num_partitions(), 3);
    assert_eq!(numbers.coalesce(0).glom().collect().unwrap().len(), 1);
}

#[test]
fn coalesce_of_a_shuffled_dataset_keeps_all() {
    let ctx = Context::local();
    let sums =
        ctx.range(0..100, 4).key_by(|n| n % 10).reduce_by_key_with_partitions(|a, b| a + b, 7);
    let mut found = sums.coalesce(2).collect().unwrap();
    found.sort_unstable();
    assert_eq!(found, (0..10).map(|key| (key, 450 + 10 * key)).collect::<Vec<_>>());
}

#[test]
fn zip_pairs_first_with_first() {
    let ctx = Context::local();
    let pairs =
        ctx.range(0..5, 2).zip(&ctx.parallelize(["a", "b", "c", "d", "e"].map(Str::from), 2));
    let model: Vec<(u64, Str)> = (0..).zip(["a", "b", "c", "d", "e"].map(Str::from)).collect();
    assert_eq!(pairs.collect().unwrap(), model);
}

#[test]
fn zip_refuses_datasets_of_other_partitions() {
    let ctx = Context::local();
    let error = ctx.range(0..6, 2).zip(&ctx.range(0..6, 3)).collect().unwrap_err().to_string();
    assert!(error.contains("zip") && error.contains("2 partitions, the other 3"), "{error}");
}

#[test]
fn zip_refuses_partitions_of_other_sizes() {
    let ctx = Context::local();
    for (first, second, fewer) in [(6, 5, "second"), (5, 6, "first")] {
        let zipped = ctx.range(0..first, 2).zip(&ctx.range(0..second, 2));
        let error = zipped.collect().unwrap_err().to_string();
        assert!(error.contains("zip: partition"), "{error}");
        assert!(error.contains("as many records in both"), "{error}");
        assert!(error.contains(&format!("the {fewer} one has fewer")), "{error}");
    }
}

#[test]
fn zip_with_index_numbers_records_in_the_order_of_collect() {
    let ctx = Context::local();
    let kept = ctx.range(0..20, 4).filter(|n| n % 3 == 0).zip_with_index();
    let model: Vec<(u64, u64)> = (0..20).filter(|n| n % 3 == 0).zip(0..).collect();
    assert_eq!(kept.collect().unwrap(), model);
    assert_eq!(ctx.range(0..3, 1).zip_with_index().collect().unwrap(), [(0, 0), (1, 1), (2, 2)]);
    assert!(ctx.range(0..0, 3).zip_with_index().is_empty().unwrap());
}

#[test]
fn zip_with_index_goes_on_after_a_shuffle_and_before_one() {
    let ctx = Context::local();
    let sorted = ctx.range(0..30, 4).sort_by(|n| *n, false).zip_with_index();
    let again = sorted.map(|(n, index)| (index, n)).sort_by_key(false).zip_with_index();
    let model: Vec<((u64, u64), u64)> = (0..30).map(|n| ((29 - n, n), n)).collect();
    assert_eq!(again.collect().unwrap(), model);
}

#[test]
fn the_same_seed_gives_the_same_sample() {
    let numbers = Context::local().range(0..1000, 4);
    for with_replacement in [false, true] {
        let sample = |seed| numbers.sample(with_replacement, 0.3, seed).collect().unwrap();
        assert_eq!(sample(7), sample(7));
        assert_ne!(sample(7), sample(8));
    }
}

#[test]
fn a_sample_holds_about_its_fraction() {
    let numbers = Context::local().range(0..20_000, 4);
    for (with_replacement, fraction) in
        [(false, 0.1), (false, 0.9), (true, 0.1), (true, 2.5), (true, 40.0)]
    {
        let share =
            numbers.sample(with_replacement, fraction, 3).count().unwrap() as f64 / 20_000.0;
        assert!((share / fraction - 1.0).abs() < 0.1, "{share} instead of {fraction}");
    }
}

#[test]
fn partitions_are_sampled_differently() {
    let numbers = Context::local().range(0..2000, 2).map(|n| n % 1000).sample(false, 0.5, 1);
    let parts = numbers.glom().collect().unwrap();
    assert_ne!(parts[0], parts[1]);
}

#[test]
fn without_replacement_no_record_comes_twice_and_order_stays() {
    let sample = Context::local().range(0..1000, 3).sample(false, 0.5, 1).collect().unwrap();
    assert!(sample.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn a_sample_of_nothing_and_of_all() {
    let numbers = Context::local().range(0..100, 3);
    assert_eq!(numbers.sample(false, 0.0, 1).count().unwrap(), 0);
    assert_eq!(numbers.sample(true, 0.0, 1).count().unwrap(), 0);
    assert_eq!(numbers.sample(false, 1.0, 1).collect().unwrap(), numbers.collect().unwrap());
}

#[test]
fn with_replacement_records_come_several_times() {
    let sample = Context::local().range(0..100, 3).sample(true, 3.0, 1).collect().unwrap();
    let distinct: BTreeSet<u64> = sample.iter().copied().collect();
    assert!(distinct.len() < sample.len() && distinct.len() > 80, "{sample:?}");
}

#[test]
fn repartition_spreads_records_evenly() {
    let ctx = Context::local();
    let spread = ctx.range(0..1003, 3).filter(|n| *n < 334).repartition(5);
    let sizes: Vec<usize> = spread.glom().collect().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 334);
    assert!(sizes.iter().all(|size| (66..=68).contains(size)), "{sizes:?}");
}

#[test]
fn few_records_of_many_partitions_do_not_all_go_to_the_first() {
    let spread = Context::local().range(0..8, 8).repartition(4);
    assert_eq!(spread.map_partitions(|part| [part.count()]).collect().unwrap(), [2; 4]);
}

#[test]
fn repartition_sends_each_record_to_the_same_partition_whatever_order_it_comes_in() {
    // An output that is lost is computed again, and then the task may have more memory, or less.
    let parts = |spill_every| {
        let ctx = Context::local_with([("ingle.local.spill-every", spill_every)]);
        let counts = ctx.range(0..200, 3).map(|n| (n % 40, 1)).reduce_by_key(|a, b| a + b);
        let mut parts = counts.keys().repartition(4).glom().collect().unwrap();
        parts.iter_mut().for_each(|part| part.sort());
        parts
    };
    let usual = parts("0");
    assert!(usual.iter().all(|part| part.len() > 3), "about evenly: {usual:?}");
    assert_eq!(usual, parts("7"));
}

#[test]
fn repartition_to_none_makes_one() {
    assert_eq!(Context::local().range(0..8, 3).repartition(0).num_partitions(), 1);
}

proptest! {
    #[test]
    fn repartition_keeps_all_records(
        values in prop::collection::vec(any::<(Option<i8>, String)>(), 0..40),
        from in 1usize..5,
        to in 1usize..9,
    ) {
        let spread = Context::local().parallelize(values.clone(), from).repartition(to);
        prop_assert_eq!(spread.num_partitions(), to);
        let (mut found, mut model) = (spread.collect().unwrap(), values);
        found.sort_unstable();
        model.sort_unstable();
        prop_assert_eq!(found, model);
    }

    #[test]
    fn coalesce_keeps_records_in_order(len in 0u64..60, from in 1usize..9, to in 0usize..12) {
        let fewer = Context::local().range(0..len, from).coalesce(to);
        prop_assert_eq!(fewer.num_partitions(), to.clamp(1, from));
        prop_assert_eq!(fewer.collect().unwrap(), (0..len).collect::<Vec<_>>());
    }
}
