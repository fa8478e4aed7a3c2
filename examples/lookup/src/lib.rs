//! `lookup ENTRIES TASKS`: how long a stage takes whose tasks look up a thousand keys each in a map of so many strings, which they captured.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use ingle::prelude::*;

/// Keys that a task looks up.
const KEYS: u64 = 1_000;

/// Spreads the keys over the map.
const STEP: u64 = 7_919;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [entries, tasks] = args.as_slice() else {
        bail!("usage: lookup ENTRIES TASKS");
    };
    let entries: u64 = entries.parse().context("ENTRIES must be a whole number")?;
    let tasks: u64 = tasks.parse().context("TASKS must be a whole number")?;
    ensure!(entries > 0 && tasks > 0, "ENTRIES and TASKS must be at least 1");

    let table: Rc<HashMap<String, u64>> =
        Rc::new((0..entries).map(|i| (format!("key{i}"), i)).collect());
    // A closure that owned it would free it at the stage's end.
    let known = Rc::clone(&table);
    let start = Instant::now();
    let sums = ctx.run_tasks(0..tasks, move |task| {
        let keys = (task * KEYS..(task + 1) * KEYS).map(|i| format!("key{}", i * STEP % entries));
        keys.filter_map(|key| known.get(&key)).sum::<u64>()
    })?;
    let seconds = start.elapsed().as_secs_f64();
    println!("sum {} of {tasks} tasks in {seconds:.4} s", sums.iter().sum::<u64>());
    Ok(())
}
