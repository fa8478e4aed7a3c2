//! Laziness, what is computed again, and `explain`.

use std::fs;

use ingle::Accumulator;
use ingle::prelude::*;

/// Numbers that count how often they are computed.
fn counted(ctx: &Context) -> (Dataset<u64>, Accumulator<u64>) {
    let computed = ctx.accumulator("computed", 0);
    let counting = computed.clone();
    let numbers = ctx.range(0..12, 3).map(move |n| {
        counting.add(1);
        n
    });
    (numbers.boxed(), computed)
}

#[test]
fn nothing_runs_before_an_action() {
    let ctx = Context::local();
    let (numbers, computed) = counted(&ctx);
    let pairs = numbers.key_by(|n| n % 3);
    let all = pairs
        .reduce_by_key(|a, b| a + b)
        .join(&pairs.group_by_key())
        .sort_by_key(false)
        .zip_with_index()
        .map(|(pair, _)| pair.0)
        .union(&numbers.repartition(2).distinct())
        .sample(false, 0.5, 1);
    let zipped = all.zip(&all).coalesce(2);
    assert!(!zipped.explanation().is_empty());
    assert_eq!(zipped.num_partitions(), 2);
    assert_eq!(computed.value(), 0);
    zipped.count().unwrap();
    assert!(computed.value() > 0);
}

#[test]
fn narrow_operators_are_computed_again_by_each_action() {
    let (numbers, computed) = counted(&Context::local());
    numbers.count().unwrap();
    numbers.collect().unwrap();
    assert_eq!(computed.value(), 24);
}

#[test]
fn a_shuffles_output_is_used_again() {
    let (numbers, computed) = counted(&Context::local());
    let sums = numbers.key_by(|n| n % 3).reduce_by_key(|a, b| a + b);
    sums.count().unwrap();
    sums.map(|pair| pair.1).sum().unwrap();
    sums.sort_by_key(true).collect().unwrap();
    sums.join(&sums).count().unwrap();
    assert_eq!(computed.value(), 12);
}

#[test]
fn the_same_operator_applied_anew_is_another_shuffle() {
    let (numbers, computed) = counted(&Context::local());
    let pairs = numbers.key_by(|n| n % 3);
    for _ in 0..2 {
        assert_eq!(pairs.reduce_by_key(|a, b| a + b).count().unwrap(), 3);
    }
    assert_eq!(computed.value(), 24);
}

#[test]
fn a_stage_is_one_pass_record_by_record() {
    let ctx = Context::local();
    let order = ctx.accumulator("order", Vec::<(u64, u64)>::new());
    let (first, second) = (order.clone(), order.clone());
    let numbers = ctx.range(0..2, 1).map(move |n| {
        first.add(vec![(1, n)]);
        n
    });
    numbers.for_each(move |n| second.add(vec![(2, n)])).unwrap();
    assert_eq!(order.value(), [(1, 0), (2, 0), (1, 1), (2, 1)]);
}

#[test]
fn explain_tells_sources_and_operators_of_one_stage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.txt").to_str().unwrap().to_owned();
    fs::write(&path, "a\nb\n").unwrap();
    let text = Context::local().text_file_with_partitions(&path, 2).unwrap();
    let explanation = text.map(|line| line.len()).filter(|n| *n > 0).explanation();
    assert_eq!(
        explanation,
        format!("stage 0 (result): 2 tasks\n    text_file {path} -> map -> filter\n")
    );
}

#[test]
fn explain_tells_stages_in_the_order_in_which_they_run() {
    let ctx = Context::local();
    let counts = ctx
        .range(0..10, 3)
        .map(|n| (n % 2, n))
        .reduce_by_key_with_partitions(|a, b| a + b, 4)
        .map_values(|sum| sum + 1)
        .sort_by_key_with_partitions(true, 2)
        .keys();
    let expected = "\
stage 0 (reduce_by_key): 3 tasks
    range -> map -> reduce_by_key
stage 1 (sort_by_key): 4 tasks, reads stage 0
    map_values -> sort_by_key
stage 2 (result): 2 tasks, reads stage 1
    keys
";
    assert_eq!(counts.explanation(), expected);
    counts.explain();
}

#[test]
fn explain_tells_a_shared_stage_once() {
    let ctx = Context::local();
    let sums = ctx.range(0..10, 3).key_by(|n| n % 2).reduce_by_key(|a, b| a + b);
    let both = sums.map_values(|n| n + 1).join(&sums);
    let expected = "\
stage 0 (reduce_by_key): 3 tasks
    range -> key_by -> reduce_by_key
stage 1 (result): 4 tasks, reads stage 0
    map_values -> join
";
    assert_eq!(both.explanation(), expected);
}

#[test]
fn datasets_and_contexts_print_what_they_are() {
    let ctx = Context::local();
    assert!(format!("{ctx:?}").contains("Context"));
    assert!(format!("{:?}", ctx.range(0..2, 1)).contains("u64"));
    assert!(format!("{:?}", ctx.accumulator("n", 7u64)).contains('7'));
}
