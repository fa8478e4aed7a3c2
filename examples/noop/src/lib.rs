//! `noop TASKS [ROUNDS]`: how many tasks that do nothing the engine runs in a second: once, or in so many rounds after one that isn't counted.

use std::time::Instant;

use ingle::prelude::*;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (tasks, rounds) = match args.as_slice() {
        [tasks] => (tasks, None),
        [tasks, rounds] => (tasks, Some(rounds)),
        _ => bail!("usage: noop TASKS [ROUNDS]"),
    };
    let mut tasks: u64 = tasks.parse().context("TASKS must be a whole number")?;
    let rounds: Option<u64> =
        rounds.map(|n| n.parse()).transpose().context("ROUNDS must be a whole number")?;
    if rounds.is_some() {
        ctx.run_tasks(0..tasks, |_| ())?;
    }
    let start = Instant::now();
    for _ in 0..rounds.unwrap_or(1) {
        ctx.run_tasks(0..tasks, |_| ())?;
    }
    tasks *= rounds.unwrap_or(1);
    let seconds = start.elapsed().as_secs_f64();
    println!("{tasks} tasks in {seconds:.3} s: {:.0} tasks/s", tasks as f64 / seconds);
    Ok(())
}
