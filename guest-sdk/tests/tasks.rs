//! Plain tasks, what a task knows of itself, and accumulators.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ingle::Accumulate;
use ingle::prelude::*;
use serde::{Deserialize, Serialize};

#[test]
fn run_tasks_gives_results_in_order() {
    let ctx = Context::local();
    assert_eq!(ctx.run_tasks(0..5, |i| i * i).unwrap(), [0, 1, 4, 9, 16]);
}

#[test]
fn run_tasks_counts_from_where_its_range_starts() {
    let ctx = Context::local();
    let found = ctx.run_tasks(5..8, |i| (i, TaskContext::get().partition)).unwrap();
    assert_eq!(found, [(5, 0), (6, 1), (7, 2)]);
}

#[test]
fn run_tasks_of_an_empty_range_runs_nothing() {
    let ctx = Context::local();
    let (low, high) = (3, 9);
    for range in [low..low, high..low] {
        let found = ctx.run_tasks(range.clone(), |i| -> u64 { panic!("task {i} was run") });
        assert_eq!(found.unwrap(), [0; 0]);
        assert_eq!(ctx.run_tasks_unordered(range, |_| 1).unwrap().count(), 0);
    }
}

#[test]
fn run_tasks_may_return_nothing_or_much() {
    let ctx = Context::local();
    assert_eq!(ctx.run_tasks(0..3, |_| ()).unwrap(), [(); 3]);
    let large = ctx.run_tasks(0..3, |i| vec![i as u8; 600_000]).unwrap();
    assert!(large.iter().zip(0..).all(|(bytes, i)| *bytes == vec![i; 600_000]));
}

#[test]
fn tasks_capture_what_they_need() {
    let ctx = Context::local();
    let table: HashMap<u64, String> = (0..10).map(|i| (i, format!("<{i}>"))).collect();
    let found = ctx.run_tasks(8..12, move |i| table.get(&i).cloned()).unwrap();
    assert_eq!(found, [Some("<8>".to_owned()), Some("<9>".to_owned()), None, None]);
}

#[test]
fn more_tasks_than_a_job_can_have_are_refused() {
    let error = Context::local().run_tasks(0..1 << 40, |i| i).unwrap_err().to_string();
    assert!(error.contains("too many"), "{error}");
}

#[test]
fn try_run_tasks_gives_what_succeeded() {
    let ctx = Context::local();
    assert_eq!(ctx.try_run_tasks(0..3, |i| Ok(i + 1)).unwrap(), [1, 2, 3]);
}

#[test]
fn try_run_tasks_fails_with_the_text_of_an_error() {
    let failed = Context::local().try_run_tasks(0..3, |i| {
        "x".repeat(i as usize).parse::<u64>().or_else(|error| match i {
            0 => Ok(0),
            _ => Err(error).context("no number"),
        })
    });
    let error = failed.unwrap_err().to_string();
    assert!(error.contains("run_tasks") && error.contains("partition 1"), "{error}");
    assert!(error.contains("no number: invalid digit found in string"), "{error}");
}

#[test]
fn run_tasks_unordered_gives_each_number_with_its_result() {
    let results = Context::local().run_tasks_unordered(3..9, |i| i * 10).unwrap();
    let mut found = results.collect::<Result<Vec<_>>>().unwrap();
    found.sort_unstable();
    assert_eq!(found, (3..9).map(|i| (i, i * 10)).collect::<Vec<_>>());
}

#[test]
fn run_tasks_unordered_may_be_dropped_early() {
    let ctx = Context::local();
    let mut results = ctx.run_tasks_unordered(0..100, |i| i).unwrap();
    assert!(results.next().unwrap().unwrap().0 < 100);
    drop(results);
    drop(ctx.run_tasks_unordered(0..100, |i| i).unwrap());
    assert_eq!(ctx.run_tasks(0..2, |i| i).unwrap(), [0, 1]);
}

#[test]
fn run_tasks_unordered_ends_after_a_failure() {
    let mut results = Context::local()
        .run_tasks_unordered(0..3, |i| {
            assert!(i != 1, "not one");
            i
        })
        .unwrap();
    let error = results.find_map(Result::err).unwrap().to_string();
    assert!(error.contains("not one"), "{error}");
    assert!(results.next().is_none());
}

#[test]
fn a_task_knows_where_it_is() {
    let ctx = Context::local();
    let run = || ctx.run_tasks(0..3, |_| TaskContext::get().partition).unwrap();
    assert_eq!(run(), [0, 1, 2]);
    let where_ = |_: u64| {
        let TaskContext { job, stage_id, attempt, .. } = TaskContext::get();
        (job, stage_id, attempt)
    };
    let first = ctx.run_tasks(0..2, where_).unwrap();
    let second = ctx.run_tasks(0..2, where_).unwrap();
    assert_eq!(first[0], first[1]);
    assert_eq!(first[0].2, 0);
    assert_ne!((first[0].0, first[0].1), (second[0].0, second[0].1));
}

#[test]
fn stages_of_one_job_are_told_apart() {
    let ctx = Context::local();
    let here = || (TaskContext::get().job, TaskContext::get().stage_id);
    let pairs = ctx.range(0..4, 2).map(move |n| (n, here()));
    let both = pairs.reduce_by_key(|a, _| a).map(move |(_, before)| (before, here()));
    for (before, after) in both.collect().unwrap() {
        assert_eq!(before.0, after.0);
        assert_ne!(before.1, after.1);
    }
}

#[test]
fn there_is_no_task_context_in_the_driver() {
    let ctx = Context::local();
    assert_eq!(TaskContext::try_get(), None);
    ctx.range(0..2, 2).for_each(|_| assert!(TaskContext::try_get().is_some())).unwrap();
    assert_eq!(TaskContext::try_get(), None);
    ctx.range(0..2, 2).for_each(|_| panic!("on purpose")).unwrap_err();
    assert_eq!(TaskContext::try_get(), None);
}

#[test]
#[should_panic(expected = "TaskContext::get() was called in the driver")]
fn asking_for_the_task_in_the_driver_panics() {
    TaskContext::get();
}

#[test]
fn accumulators_sum_what_tasks_and_driver_add() {
    let ctx = Context::local();
    let (sum, share, list) = (
        ctx.accumulator("sum", 100u64),
        ctx.accumulator("share", 0.0f64),
        ctx.accumulator("list", Vec::<u64>::new()),
    );
    let (sums, shares, lists) = (sum.clone(), share.clone(), list.clone());
    let numbers = ctx.range(0..10, 4).map(move |n| {
        sums.add(n);
        shares.add(0.5);
        if n % 4 == 0 {
            lists.add(vec![n]);
        }
        n
    });
    assert_eq!(sum.value(), 100);
    numbers.count().unwrap();
    sum.add(1000);
    let mut found = list.value();
    found.sort_unstable();
    assert_eq!((sum.value(), share.value(), found), (1145, 5.0, vec![0, 4, 8]));
}

#[test]
fn accumulators_count_before_and_after_a_shuffle() {
    let ctx = Context::local();
    let (before, after) = (ctx.accumulator("before", 0u32), ctx.accumulator("after", 0i64));
    let (first, second) = (before.clone(), after.clone());
    let sums = ctx
        .range(0..10, 3)
        .map(move |n| {
            first.add(1);
            (n % 2, n)
        })
        .reduce_by_key(|a, b| a + b)
        .map_values(move |sum| {
            second.add(-1);
            sum
        });
    sums.collect().unwrap();
    assert_eq!((before.value(), after.value()), (10, -2));
    // The shuffle's output is used again.
    sums.collect().unwrap();
    assert_eq!((before.value(), after.value()), (10, -4));
}

#[test]
fn accumulators_may_be_collections_and_parts_of_them() {
    let ctx = Context::local();
    let pushed = ctx.accumulator("pushed", Vec::<u64>::new());
    let ordered = ctx.accumulator("ordered", BTreeSet::<u64>::new());
    let hashed = ctx.accumulator("hashed", HashSet::<u64>::new());
    let by_key = ctx.accumulator("by key", BTreeMap::from([(2, (100u64, 0u32))]));
    let counts = ctx.accumulator("counts", HashMap::<String, usize>::new());
    {
        let (pushed, ordered, hashed) = (pushed.clone(), ordered.clone(), hashed.clone());
        let (by_key, counts) = (by_key.clone(), counts.clone());
        let add = move |n: u64| {
            pushed.push(n);
            ordered.add([n % 3].into());
            hashed.add([n % 4].into());
            by_key.add([(n % 2, (n, 1))].into());
            counts.add([((n % 2).to_string(), 1)].into());
        };
        let in_driver = add.clone();
        ctx.range(0..10, 3).for_each(add).unwrap();
        in_driver(12);
    }
    let mut all = pushed.value();
    all.sort_unstable();
    assert_eq!(all, (0..10).chain([12]).collect::<Vec<u64>>());
    assert_eq!(ordered.value(), [0, 1, 2].into());
    assert_eq!(hashed.value(), [0, 1, 2, 3].into());
    assert_eq!(by_key.value(), [(0, (32, 6)), (1, (25, 5)), (2, (100, 0))].into());
    assert_eq!(counts.value(), [("0".to_owned(), 6), ("1".to_owned(), 5)].into());
}

#[test]
fn accumulators_have_names_for_people() {
    let ctx = Context::local();
    let sum = ctx.accumulator("blank lines", 0u64);
    assert_eq!(sum.clone().name(), "blank lines");
    assert!(format!("{sum:?}").contains("blank lines"));
}

#[test]
fn what_is_added_to_an_accumulator_that_nobody_has_any_more_is_no_matter() {
    let ctx = Context::local();
    let (kept, dropped) = (ctx.accumulator("kept", 0u64), ctx.accumulator("dropped", 0u64));
    let count = kept.clone();
    let results = ctx.run_tasks_unordered(0..4, move |i| {
        dropped.add(i);
        count.add(i);
    });
    assert_eq!((results.unwrap().count(), kept.value()), (4, 6));
}

#[test]
fn a_broadcast_value_is_read_in_tasks_and_in_the_driver() {
    let ctx = Context::local();
    let table = ctx.broadcast(vec![10, 20, 30]);
    let (keys, values) = (table.clone(), table.clone());
    let found = ctx
        .range(0..5, 2)
        .filter(move |n| (*n as usize) < keys.len())
        .map(move |n| values[n as usize]);
    assert_eq!(found.collect().unwrap(), [10, 20, 30]);
    assert_eq!((table.value().len(), table[1]), (3, 20));
    assert_eq!(format!("{table:?}"), "Broadcast([10, 20, 30])");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Longest(String);

impl Accumulate for Longest {
    fn accumulate(&mut self, other: Self) {
        if other.0.len() > self.0.len() {
            *self = other;
        }
    }
}

#[test]
fn accumulators_may_be_of_ones_own_type() {
    let ctx = Context::local();
    let longest = ctx.accumulator("longest", Longest(String::new()));
    let adding = longest.clone();
    ctx.range(95..105, 3).for_each(move |n| adding.add(Longest(n.to_string()))).unwrap();
    assert_eq!(longest.value().0.len(), 3);
}

#[test]
fn accumulators_count_what_results_taken_so_far_added() {
    let ctx = Context::local();
    let sum = ctx.accumulator("sum", 0u64);
    let adding = sum.clone();
    let results = ctx.run_tasks_unordered(0..10, move |i| adding.add(i)).unwrap();
    assert_eq!(results.count(), 10);
    assert_eq!(sum.value(), 45);
}
