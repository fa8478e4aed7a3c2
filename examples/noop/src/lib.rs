//! `noop TASKS`: how many tasks that do nothing the engine runs in a second.

use std::time::Instant;

use ingle::prelude::*;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [tasks] = args.as_slice() else {
        bail!("usage: noop TASKS");
    };
    let tasks: u64 = tasks.parse().context("TASKS must be a whole number")?;
    let start = Instant::now();
    ctx.run_tasks(0..tasks, |_| ())?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{tasks} tasks in {seconds:.3} s: {:.0} tasks/s", tasks as f64 / seconds);
    Ok(())
}
