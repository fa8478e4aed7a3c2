//! `forks ENTRIES TASKS [STAGES]`: what it costs to fork tasks from a driver that captured a large table; with several stages, of which
//! it changes a little in between, also what each took.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use ingle::prelude::*;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (entries, tasks, stages) = match args.as_slice() {
        [entries, tasks] => (entries, tasks, "1"),
        [entries, tasks, stages] => (entries, tasks, stages.as_str()),
        _ => bail!("usage: forks ENTRIES TASKS [STAGES]"),
    };
    let entries: u64 = entries.parse().context("ENTRIES must be a whole number")?;
    let tasks: u64 = tasks.parse().context("TASKS must be a whole number")?;
    let stages: u64 = stages.parse().context("STAGES must be a whole number")?;
    ensure!(entries > 0 && tasks > 0, "ENTRIES and TASKS must be at least 1");

    let mut table: Rc<HashMap<String, u64>> =
        Rc::new((0..entries).map(|i| (format!("key{i}"), i)).collect());
    for stage in 0..stages {
        // Only the first entry changes, so that all others must be what they were.
        let changed = Rc::get_mut(&mut table).and_then(|table| table.get_mut("key0"));
        *changed.context("a task's closure is still there")? = stage;
        let (known, start) = (Rc::clone(&table), Instant::now());
        let found =
            ctx.run_tasks(0..tasks, move |i| known.get(&format!("key{}", i % entries)).copied())?;
        let micros = start.elapsed().as_secs_f64() * 1e6;
        for (i, value) in (0..tasks).zip(found) {
            let expected = if i % entries == 0 { stage } else { i % entries };
            ensure!(value == Some(expected), "task {i} found {value:?} in its table");
        }
        println!("{tasks} forks of {entries} entries, mean {:.1} us", micros / tasks as f64);
    }
    Ok(())
}
