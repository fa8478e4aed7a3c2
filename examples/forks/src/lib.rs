//! `forks ENTRIES TASKS`: what it costs to fork tasks from a driver that captured a large table.

use std::collections::HashMap;
use std::time::Instant;

use ingle::prelude::*;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [entries, tasks] = args.as_slice() else {
        bail!("usage: forks ENTRIES TASKS");
    };
    let entries: u64 = entries.parse().context("ENTRIES must be a whole number")?;
    let tasks: u64 = tasks.parse().context("TASKS must be a whole number")?;
    ensure!(entries > 0 && tasks > 0, "ENTRIES and TASKS must be at least 1");

    let table: HashMap<String, u64> = (0..entries).map(|i| (format!("key{i}"), i)).collect();
    let start = Instant::now();
    let found =
        ctx.run_tasks(0..tasks, move |i| table.get(&format!("key{}", i % entries)).copied())?;
    let micros = start.elapsed().as_secs_f64() * 1e6;
    for (i, value) in (0..tasks).zip(found) {
        ensure!(value == Some(i % entries), "task {i} found {value:?} in its table");
    }
    println!("{tasks} forks of {entries} entries, mean {:.1} us", micros / tasks as f64);
    Ok(())
}
