//! Several actions at once.

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;

use ingle::prelude::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn actions_give_the_same_whether_they_are_waited_for_or_not(
        values in prop::collection::vec(any::<i16>(), 0..50),
        partitions in 1usize..30,
        n in 0usize..60,
    ) {
        let ctx = Context::local();
        let numbers = ctx.parallelize(values.clone(), partitions);
        let all = numbers.collect_async().unwrap();
        let count = numbers.count_async().unwrap();
        let taken = numbers.take_async(n).unwrap();
        let least = numbers.reduce_async(i16::min).unwrap();
        let sum = numbers.aggregate_async(0, |sum, n| sum + i64::from(n), |a, b| a + b).unwrap();
        // In another order than they were started.
        prop_assert_eq!(sum.wait().unwrap(), values.iter().map(|n| i64::from(*n)).sum::<i64>());
        prop_assert_eq!(taken.wait().unwrap(), values.iter().copied().take(n).collect::<Vec<_>>());
        prop_assert_eq!(least.wait().unwrap(), values.iter().copied().min());
        prop_assert_eq!(count.wait().unwrap(), values.len() as u64);
        prop_assert_eq!(all.wait().unwrap(), values);
    }
}

#[test]
fn what_tasks_added_arrives_when_an_action_is_waited_for() {
    let ctx = Context::local();
    let (sum, parts) = (ctx.accumulator("sum", 0u64), ctx.accumulator("partitions", 0u64));
    let (adding, counting) = (sum.clone(), parts.clone());
    let numbers = ctx.range(0..10, 4);
    let first = numbers.for_each_async(move |n| adding.add(n)).unwrap();
    let second = numbers.for_each_partition_async(move |_| counting.add(1)).unwrap();
    assert_eq!((sum.value(), parts.value()), (0, 0));
    second.wait().unwrap();
    assert_eq!((sum.value(), parts.value()), (0, 4));
    first.wait().unwrap();
    assert_eq!((sum.value(), parts.value()), (45, 4));
}

#[test]
fn a_failure_is_told_to_who_waits_and_to_nobody_else() {
    let ctx = Context::local();
    let bad = ctx.range(0..4, 2).try_map(|n| {
        ensure!(n != 3, "no 3 please");
        Ok(n)
    });
    let (failing, other) =
        (bad.collect_async().unwrap(), ctx.range(0..4, 2).count_async().unwrap());
    let error = failing.wait().unwrap_err().to_string();
    assert!(error.contains("partition 1") && error.contains("no 3 please"), "{error}");
    assert_eq!(other.wait().unwrap(), 4);
}

#[test]
fn two_actions_at_once_share_a_shuffle() {
    let ctx = Context::local();
    let computed = ctx.accumulator("computed", 0u64);
    let counting = computed.clone();
    let sums = ctx
        .range(0..12, 3)
        .map(move |n| {
            counting.add(1);
            (n % 3, n)
        })
        .reduce_by_key(|a, b| a + b);
    let (count, all) = (sums.count_async().unwrap(), sums.values().collect_async().unwrap());
    let mut all = all.wait().unwrap();
    all.sort_unstable();
    assert_eq!((count.wait().unwrap(), all), (3, vec![18, 22, 26]));
    assert_eq!(computed.value(), 12);
}

#[test]
fn take_computes_more_partitions_only_when_it_is_waited_for() {
    let ctx = Context::local();
    let computed = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&computed);
    let numbers = ctx.range(0..20, 10).map_partitions_with_index(move |at, numbers| {
        seen.borrow_mut().push(at);
        numbers
    });
    let taken = numbers.take_async(5).unwrap();
    assert_eq!(*computed.borrow(), [0]);
    assert_eq!(taken.wait().unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(*computed.borrow(), [0, 1, 2, 3, 4]);
    drop(numbers.take_async(0).unwrap());
    assert_eq!(computed.borrow().len(), 5);
}

#[test]
fn several_folders_are_written_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let ctx = Context::local();
    let numbers = ctx.range(0..4, 2);
    let text = numbers.save_as_text_file_async(path("text")).unwrap();
    let json = numbers.map(|n| vec![n]).save_as_json_async(path("json")).unwrap();
    let csv = numbers.map(|n| (n, n)).save_as_csv_async(path("csv")).unwrap();
    assert!(!fs::exists(dir.path().join("text/_SUCCESS")).unwrap(), "not yet");
    for saved in [csv, json, text] {
        saved.wait().unwrap();
    }
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("text/part-00001"), "2\n3\n");
    assert_eq!(read("json/part-00001"), "[2]\n[3]\n");
    assert_eq!(read("csv/part-00001"), "2,2\n3,3\n");
    assert!(fs::exists(dir.path().join("csv/_SUCCESS")).unwrap());
}

#[test]
fn a_save_that_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out").to_str().unwrap().to_owned();
    let numbers = Context::local().range(0..4, 2);
    numbers.save_as_text_file_async(&path).unwrap().cancel();
    assert!(!fs::exists(&path).unwrap());
    drop(numbers.save_as_text_file_async(&path).unwrap());
    assert!(!fs::exists(&path).unwrap());
    numbers.save_as_text_file(&path).unwrap();
    let error = numbers.save_as_text_file_async(&path).unwrap_err().to_string();
    assert!(error.contains("exists"), "{error}");
}

#[test]
fn an_action_that_is_given_up_disturbs_no_other() {
    let ctx = Context::local();
    let numbers = ctx.range(0..100, 5);
    let kept = numbers.collect_async().unwrap();
    for _ in 0..10 {
        numbers.count_async().unwrap().cancel();
    }
    assert_eq!(kept.wait().unwrap(), (0..100).collect::<Vec<_>>());
}
