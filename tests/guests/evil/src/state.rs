//! What closures carry into tasks, and that no task finds what another left behind.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ingle::prelude::*;

use crate::{Behaviour, number};

pub fn behaviour(name: &str) -> Option<Behaviour> {
    Some(match name {
        "captures" => captures,
        "captures-dataset" => captures_dataset,
        "counters" => counters,
        "zeroes" => zeroes,
        "many-stages" => many_stages,
        "changes-captured" => changes_captured,
        "hash-order" => hash_order,
        _ => return None,
    })
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static LOCAL: Cell<u64> = const { Cell::new(0) };
}

fn captures(ctx: &Context, _: &[String]) -> Result<()> {
    let map: HashMap<String, Vec<u64>> =
        (0..1000).map(|i| (format!("key {i}"), vec![i, i * i])).collect();
    let name = Rc::new("shared by all".to_owned());
    let (list, boxed) = (vec![3u64, 1, 4], Box::new(2.5f64));
    let other = Rc::clone(&name);
    let found = ctx.run_tasks(0..100, move |task| {
        let entry = map.get(&format!("key {task}")).cloned().unwrap_or_default();
        (
            entry,
            other.as_str().to_owned(),
            list.iter().sum::<u64>(),
            *boxed,
            Rc::strong_count(&other),
        )
    })?;
    for (task, (entry, text, sum, float, count)) in (0..).zip(found) {
        ensure!(entry == [task, task * task], "task {task} found {entry:?}");
        ensure!(
            text == *name && sum == 8 && float == 2.5 && count == 2,
            "{text} {sum} {float} {count}"
        );
    }
    println!("captured");
    Ok(())
}

/// Captures in the operators of a dataset, on both sides of a shuffle.
fn captures_dataset(ctx: &Context, _: &[String]) -> Result<()> {
    let names: HashMap<u64, String> = (0..5).map(|i| (i, format!("name {i}"))).collect();
    let scale = Rc::new(Cell::new(1));
    let before = Rc::clone(&scale);
    let sums = ctx
        .range(0..100, 4)
        .map(move |n| (n % 5, n * before.get()))
        .reduce_by_key(|a, b| a + b)
        .map(move |(key, sum)| (names.get(&key).cloned().unwrap_or_default(), sum));
    // Tasks are forks of the driver as it is when the action starts.
    scale.set(10);
    let mut sums = sums.collect()?;
    sums.sort();
    println!("{sums:?}");
    Ok(())
}

/// Each task must find what the driver had, whatever other tasks of its sandbox did: `counters TASKS MIB`.
fn counters(ctx: &Context, args: &[String]) -> Result<()> {
    let (tasks, mib) = (number(args, 0)?, number(args, 1)? as usize);
    COUNTER.store(41, Ordering::Relaxed);
    LOCAL.set(51);
    let (cell, list) = (Rc::new(Cell::new(61u64)), Rc::new(RefCell::new(vec![1u64; 3])));
    let (in_task, list_in_task) = (Rc::clone(&cell), Rc::clone(&list));
    let seen = ctx.run_tasks(0..tasks, move |task| {
        let counter = COUNTER.fetch_add(1, Ordering::Relaxed) + 1;
        LOCAL.set(LOCAL.get() + 1);
        in_task.set(in_task.get() + 1);
        list_in_task.borrow_mut().extend(0..task % 1000);
        // Left behind on purpose.
        std::mem::forget(vec![0xA5u8; mib << 20]);
        let length = list_in_task.borrow().len() as u64 - task % 1000;
        (counter, LOCAL.get(), in_task.get(), length)
    })?;
    for (task, seen) in seen.into_iter().enumerate() {
        ensure!(seen == (42, 52, 62, 3), "task {task} saw {seen:?}");
    }
    ensure!(
        COUNTER.load(Ordering::Relaxed) == 41 && cell.get() == 61 && list.borrow().len() == 3,
        "the driver saw what a task did"
    );
    println!("all alike");
    Ok(())
}

/// Fresh memory must be zero, as allocators rely on: `zeroes TASKS MIB`.
fn zeroes(ctx: &Context, args: &[String]) -> Result<()> {
    let (tasks, mib) = (number(args, 0)?, number(args, 1)? as usize);
    let dirty = ctx.run_tasks(0..tasks, move |_| {
        let mut fresh = vec![0u8; mib << 20];
        let dirty = fresh.iter().filter(|byte| **byte != 0).count() as u64;
        fresh.fill(0xA5);
        std::mem::forget(std::hint::black_box(fresh));
        dirty
    })?;
    ensure!(dirty.iter().all(|bytes| *bytes == 0), "dirty bytes: {dirty:?}");
    println!("all zero");
    Ok(())
}

/// Many stages in a row, each with other captures: an image must not be taken for another.
fn many_stages(ctx: &Context, args: &[String]) -> Result<()> {
    for stage in 0..number(args, 0)? {
        COUNTER.store(stage, Ordering::Relaxed);
        let text = format!("stage {stage}");
        let seen = ctx.run_tasks(0..4, move |_| (text.clone(), COUNTER.load(Ordering::Relaxed)))?;
        let expected = (format!("stage {stage}"), stage);
        ensure!(seen.iter().all(|seen| *seen == expected), "in stage {stage}: {seen:?}");
    }
    println!("all their own");
    Ok(())
}

/// Tasks that change all of a large table that the driver captured, and linger: `changes-captured MIB MILLISECONDS`.
fn changes_captured(ctx: &Context, args: &[String]) -> Result<()> {
    let (mib, wait) = (number(args, 0)? as usize, Duration::from_millis(number(args, 1)?));
    let table = Rc::new(RefCell::new(vec![1u8; mib << 20]));
    let sums = ctx.run_tasks(0..2, move |task| {
        let mut table = table.borrow_mut();
        table.iter_mut().step_by(4096).for_each(|byte| *byte += 1);
        let start = Instant::now();
        while start.elapsed() < wait {}
        task + table.iter().step_by(4096).map(|byte| u64::from(*byte)).sum::<u64>()
    })?;
    let pages = (mib as u64) << 8;
    ensure!(sums == [2 * pages, 2 * pages + 1], "a task saw what another did: {sums:?}");
    println!("each its own");
    Ok(())
}

/// Hash maps of all tasks iterate in one order: what a task makes of one must be the same when it is made again.
fn hash_order(ctx: &Context, _: &[String]) -> Result<()> {
    let orders = ctx.run_tasks(0..8, |_| {
        let set: HashSet<u64> = (0..100).collect();
        set.into_iter().collect::<Vec<_>>()
    })?;
    ensure!(orders.iter().all(|order| *order == orders[0]), "tasks differ: {orders:?}");
    println!("one order");
    Ok(())
}
