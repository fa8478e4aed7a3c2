//! What becomes of tasks that fail, and of calls from where they don't belong.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use ingle::prelude::*;
use serde::{Deserialize, Serialize};

#[test]
fn a_panic_names_job_stage_partition_attempt_executor_and_its_text() {
    let ctx = Context::local();
    let bad = ctx.range(0..6, 3).map(|n| {
        assert!(n < 4, "{n} is too large");
        n
    });
    let error = bad.collect().unwrap_err().to_string();
    for part in
        ["job ", "stage ", "(collect)", "partition 2", "executor 0", "panicked: 4 is too large"]
    {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    assert!(error.contains("failed 4 times, last in attempt 3"), "{error}");
}

#[test]
fn a_failure_before_a_shuffle_names_the_shuffles_stage() {
    let ctx = Context::local();
    let bad = ctx.range(0..6, 3).map(|n| (n % 2, 10 / (n / 100))).reduce_by_key(|a, b| a + b);
    let error = bad.count().unwrap_err().to_string();
    assert!(error.contains("(reduce_by_key), partition 0"), "{error}");
    assert!(error.contains("divide by zero"), "{error}");
}

#[test]
fn a_failed_task_is_tried_again() {
    let ctx = Context::local();
    let numbers = ctx.range(0..6, 3).map(|n| {
        let TaskContext { partition, attempt, .. } = TaskContext::get();
        assert!(partition != 1 || attempt == 3, "not yet");
        (n, attempt)
    });
    assert_eq!(numbers.collect().unwrap(), [(0, 0), (1, 0), (2, 3), (3, 3), (4, 0), (5, 0)]);
}

#[test]
fn how_often_a_task_is_tried_can_be_set() {
    let ctx = Context::local_with([("ingle.task.maxFailures", "1")]);
    let tries = Rc::new(RefCell::new(0));
    let counting = Rc::clone(&tries);
    let failed = ctx.try_run_tasks(0..1, move |_| -> Result<()> {
        *counting.borrow_mut() += 1;
        bail!("never")
    });
    let error = failed.unwrap_err().to_string();
    assert!(error.contains("partition 0, attempt 0 on executor 0: never"), "{error}");
    assert_eq!(*tries.borrow(), 1);
    let ctx = Context::local_with([("ingle.task.maxFailures", "none")]);
    let error = ctx.range(0..3, 1).count().unwrap_err().to_string();
    assert!(error.contains("ingle.task.maxFailures is `none`"), "{error}");
}

#[test]
fn accumulators_count_only_what_attempts_added_that_succeeded() {
    let ctx = Context::local();
    let sum = ctx.accumulator("sum", 0u64);
    let adding = sum.clone();
    let numbers = ctx.range(0..6, 3).map(move |n| {
        adding.add(n);
        assert!(n != 3 || TaskContext::get().attempt == 2, "not yet");
        n
    });
    assert_eq!(numbers.count().unwrap(), 6);
    assert_eq!(sum.value(), 15);
}

#[test]
fn output_of_attempts_that_failed_is_not_seen() {
    let ctx = Context::local_with([("ingle.local.spill-every", "2")]);
    let pairs = ctx.range(0..20, 2).map(|n| {
        assert!(n != 19 || TaskContext::get().attempt == 1, "not yet");
        (n % 3, 1u64)
    });
    let mut counts = pairs.reduce_by_key(|a, b| a + b).collect().unwrap();
    counts.sort_unstable();
    assert_eq!(counts, [(0, 7), (1, 7), (2, 6)]);
}

#[test]
fn a_context_goes_on_after_a_failure() {
    let ctx = Context::local();
    let numbers = ctx.range(0..6, 3);
    let sums = numbers.map(|n| (n % 2, n)).reduce_by_key(|a, b| a + b);
    sums.map(|_| panic!("on purpose")).map(|_: u64| 1).count().unwrap_err();
    assert_eq!(sums.count().unwrap(), 2);
    assert_eq!(numbers.count().unwrap(), 6);
}

/// Runs what belongs to the driver in a task, and gives the message.
fn refusal<R>(ctx: &Context, call: impl Fn() -> Result<R> + 'static) -> String {
    let failed = ctx.try_run_tasks(0..1, move |_| call().map(|_| ()));
    failed.unwrap_err().to_string()
}

#[test]
fn actions_sources_and_jobs_in_a_task_are_refused_by_name() {
    let ctx = Context::local();
    let numbers = ctx.range(0..10, 2);
    let pairs = numbers.key_by(|n| *n);
    let inner = ctx.clone();
    let checks: Vec<(&str, String)> = vec![
        (
            "collect",
            refusal(&ctx, {
                let n = numbers.clone();
                move || n.collect()
            }),
        ),
        (
            "count",
            refusal(&ctx, {
                let n = numbers.clone();
                move || n.count()
            }),
        ),
        (
            "take",
            refusal(&ctx, {
                let n = numbers.clone();
                move || n.take(2)
            }),
        ),
        (
            "reduce",
            refusal(&ctx, {
                let n = numbers.clone();
                move || n.reduce(|a, _| a)
            }),
        ),
        (
            "collect",
            refusal(&ctx, {
                let p = pairs.sort_by_key(true);
                move || p.collect()
            }),
        ),
        (
            "lookup",
            refusal(&ctx, {
                let p = pairs.group_by_key();
                move || p.lookup(&1)
            }),
        ),
        ("save_as_text_file", refusal(&ctx, move || numbers.save_as_text_file("out"))),
        (
            "run_tasks",
            refusal(&ctx, {
                let ctx = inner.clone();
                move || ctx.run_tasks(0..2, |i| i)
            }),
        ),
        ("text_file", refusal(&ctx, move || inner.text_file("in.txt").map(|_| ()))),
    ];
    for (name, error) in checks {
        assert!(error.contains(&format!("`{name}` was called in a task")), "{name}: {error}");
        assert!(error.contains("belong to the driver"), "{name}: {error}");
    }
}

#[derive(Serialize, Deserialize)]
struct Outer {
    id: u32,
    #[serde(flatten)]
    inner: BTreeMap<String, u32>,
}

#[test]
fn a_record_that_can_not_travel_is_named() {
    let ctx = Context::local();
    let records = ctx.range(0..2, 1).map(|_| Outer { id: 1, inner: BTreeMap::new() });
    let error = records.collect().map(drop).unwrap_err().to_string();
    assert!(error.contains("can't encode a failures::Outer"), "{error}");
    assert!(error.contains("flatten"), "{error}");
}

#[test]
#[should_panic(expected = "ingle.default.parallelism is `many`")]
fn a_default_parallelism_that_is_no_number_is_refused() {
    Context::local_with([("ingle.default.parallelism", "many")]);
}

#[test]
#[should_panic(expected = "give a whole number of at least 1")]
fn a_default_parallelism_of_none_is_refused() {
    Context::local_with([("ingle.default.parallelism", "0")]);
}

#[test]
fn settings_are_the_drivers() {
    let ctx = Context::local_with([("my.setting", "yes")]);
    assert_eq!(ctx.setting("my.setting").as_deref(), Some("yes"));
    assert_eq!(ctx.setting("other"), None);
    let inner = ctx.clone();
    assert_eq!(ctx.run_tasks(0..1, move |_| inner.setting("my.setting")).unwrap(), [None]);
}
