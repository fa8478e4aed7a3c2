//! Several actions at once.

use std::time::Duration;

use ingle::prelude::*;

/// Two that share a shuffle, one that fails, and one that would never end and is given up: all in flight together.
pub fn run(ctx: &Context, size: u64) -> Result<()> {
    let mapped = ctx.accumulator("mapped", 0u64);
    let counting = mapped.clone();
    let sums = ctx
        .range(0..size, 4)
        .map(move |n| {
            counting.add(1);
            (n % 100, n)
        })
        .reduce_by_key(|a, b| a + b);
    let failing = ctx.range(0..4, 2).try_map(|n| {
        ensure!(n != 3, "no 3 please");
        Ok(n)
    });

    let first = sums.collect_async()?;
    let second = sums.values().aggregate_async(0, |sum, n| sum + n, |a, b| a + b)?;
    let third = failing.collect_async()?;
    let endless =
        ctx.range(0..1, 1).for_each_async(|_| std::thread::sleep(Duration::from_secs(1000)))?;
    let error = match third.wait() {
        Ok(found) => bail!("found {found:?}"),
        Err(error) => error.to_string(),
    };
    ensure!(error.contains("no 3 please"), "{error}");
    let total = second.wait()?;
    endless.cancel();
    let found = first.wait()?;
    println!("{} keys, total {total}, mapped {}", found.len(), mapped.value());
    Ok(())
}
