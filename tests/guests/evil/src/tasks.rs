//! What tasks do: fail in every way, print, count.

use std::hint::black_box;

use ingle::prelude::*;

use crate::{Behaviour, number};

/// The partition that misbehaves, of so many.
const BAD: u64 = 2;
const TASKS: u64 = 4;

pub fn behaviour(name: &str) -> Option<Behaviour> {
    Some(match name {
        "task-panic" => |ctx, _| in_one_task(ctx, || panic!("the task lost its nerve")),
        "task-overflow" => |ctx, _| in_one_task(ctx, || _ = black_box([1, 2, 3])[black_box(7)]),
        "task-trap" => |ctx, _| in_one_task(ctx, || std::process::abort()),
        "task-exit" => |ctx, _| in_one_task(ctx, || std::process::exit(9)),
        "task-recursion" => |ctx, _| in_one_task(ctx, || _ = deeper(0)),
        "task-memory" => |ctx, _| in_one_task(ctx, fill_memory),
        "task-error-run" => error_run,
        "task-error-map" => error_map,
        "task-error-shuffle" => error_shuffle,
        "task-flaky" => flaky,
        "task-print" => print,
        "accumulate" => accumulate,
        "accumulate-shuffle" => accumulate_shuffle,
        "drop-early" => drop_early,
        "nested-action" => nested_action,
        "nested-tasks" => nested_tasks,
        "nested-source" => nested_source,
        _ => return None,
    })
}

fn in_one_task(ctx: &Context, misbehave: impl Fn() + 'static) -> Result<()> {
    ctx.run_tasks(0..TASKS, move |task| {
        if task == BAD {
            misbehave();
        }
    })?;
    println!("nothing happened");
    Ok(())
}

/// A frame that no optimiser makes a loop of.
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    // Always, but the compiler can't know.
    let below = if black_box(true) { deeper(depth + 1) } else { 0 };
    below + frame[black_box(1)]
}

fn fill_memory() {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1u8; 4 << 20]));
    }
}

fn error_run(ctx: &Context, _: &[String]) -> Result<()> {
    ctx.try_run_tasks(0..TASKS, |task| {
        ensure!(task != BAD, "task {task} gave up");
        Ok(task)
    })?;
    Ok(())
}

fn error_map(ctx: &Context, _: &[String]) -> Result<()> {
    let records = ctx.range(0..100, TASKS as usize);
    let checked = records.try_map(|n| {
        let digits = n.to_string();
        let bad: Result<u8> = "x".parse::<u8>().with_context(|| format!("record {digits}"));
        if n == 60 { bad.map(u64::from) } else { Ok(n) }
    });
    println!("{}", checked.count()?);
    Ok(())
}

/// The failure is in the stage before the one that was asked for.
fn error_shuffle(ctx: &Context, _: &[String]) -> Result<()> {
    let pairs = ctx.range(0..100, TASKS as usize).try_map(|n| {
        ensure!(n != 60, "record {n} can't be paired");
        Ok((n % 7, n))
    });
    println!("{:?}", pairs.reduce_by_key(|a, b| a + b).collect()?);
    Ok(())
}

/// Fails on the first attempts, as many as the argument says.
fn flaky(ctx: &Context, args: &[String]) -> Result<()> {
    let failures = number(args, 0)?;
    let attempts = ctx.run_tasks(0..TASKS, move |task| {
        let attempt = u64::from(TaskContext::get().attempt);
        if task == BAD && attempt < failures {
            panic!("attempt {attempt} fails");
        }
        attempt
    })?;
    println!("{attempts:?}");
    Ok(())
}

fn print(ctx: &Context, _: &[String]) -> Result<()> {
    println!("driver to stdout");
    ctx.run_tasks(0..TASKS, |task| {
        println!("task {task} to stdout");
        eprintln!("task {task} to stderr");
        print!("task {task} without line end");
    })?;
    println!("driver again");
    Ok(())
}

/// Every task adds 1; odd ones fail the first time, after they added.
fn accumulate(ctx: &Context, args: &[String]) -> Result<()> {
    let tasks = number(args, 0)?;
    let (count, list) =
        (ctx.accumulator("count", 0u64), ctx.accumulator("list", Vec::<u64>::new()));
    let (in_task, list_in_task) = (count.clone(), list.clone());
    ctx.run_tasks(0..tasks, move |task| {
        in_task.add(1);
        list_in_task.add(vec![task]);
        if task % 2 == 1 && TaskContext::get().attempt == 0 {
            panic!("fails once");
        }
    })?;
    let mut list = list.value();
    list.sort_unstable();
    ensure!(list == (0..tasks).collect::<Vec<_>>(), "the list is {list:?}");
    println!("{}", count.value());
    Ok(())
}

/// Two actions over one shuffle, whose map side must run once.
fn accumulate_shuffle(ctx: &Context, _: &[String]) -> Result<()> {
    let mapped = ctx.accumulator("mapped", 0u64);
    let in_task = mapped.clone();
    let sums = ctx
        .range(0..1000, 5)
        .map(move |n| {
            in_task.add(1);
            (n % 10, n)
        })
        .reduce_by_key_with_partitions(|a, b| a + b, 3);
    let count = sums.count()?;
    let total: u64 = sums.values().collect()?.into_iter().sum();
    println!("{count} keys, total {total}, mapped {}", mapped.value());
    Ok(())
}

/// More tasks than anyone would wait for; the driver wants three.
fn drop_early(ctx: &Context, _: &[String]) -> Result<()> {
    let mut results = ctx.run_tasks_unordered(0..100_000, |task| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        task
    })?;
    for _ in 0..3 {
        let (number, result) = results.next().context("a result")??;
        ensure!(number == result, "task {number} gave {result}");
    }
    drop(results);
    println!("then {}", ctx.range(0..10, 3).count()?);
    Ok(())
}

fn nested_action(ctx: &Context, _: &[String]) -> Result<()> {
    let inner = ctx.range(0..10, 2);
    let counts = ctx.try_run_tasks(0..2, move |_| inner.count())?;
    println!("{counts:?}");
    Ok(())
}

fn nested_tasks(ctx: &Context, _: &[String]) -> Result<()> {
    let again = ctx.clone();
    let sums = ctx.try_run_tasks(0..2, move |_| again.run_tasks(0..3, |task| task))?;
    println!("{sums:?}");
    Ok(())
}

fn nested_source(ctx: &Context, args: &[String]) -> Result<()> {
    let (again, path) = (ctx.clone(), crate::arg(args, 0)?);
    let lines =
        ctx.try_run_tasks(0..2, move |_| Ok(again.text_file(&path)?.num_partitions() as u64))?;
    println!("{lines:?}");
    Ok(())
}
