//! Joins of which one partition has almost all.

use std::collections::BTreeMap;

use ingle::prelude::*;

const PARTITIONS: usize = 8;
const HOT: u64 = 1_000;

/// The key of a record: nine in ten have one key.
fn key(n: u64) -> u64 {
    if n.is_multiple_of(10) { n / 10 % 500 } else { HOT }
}

/// Joins so many records with a name for each key, and says how many tasks did. What comes out must be what a plain program finds.
pub fn joins(ctx: &Context, records: u64) -> Result<()> {
    let left = ctx.range(0..records, 6).map(|n| (key(n), n));
    let right = ctx.range(0..2 * HOT, 3).map(|key| (key, format!("key {key}")));
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for n in 0..records {
        *sums.entry(format!("key {}", key(n))).or_default() += n;
    }
    let of = |pairs: Dataset<(u64, (u64, String))>| -> Result<()> {
        let found = pairs.map(|(_, (n, name))| (name, n)).reduce_by_key(|a, b| a + b).collect()?;
        ensure!(found.into_iter().collect::<BTreeMap<_, _>>() == sums, "other sums");
        ensure!(pairs.count()? == records, "{} of {records}", pairs.count()?);
        println!("{} tasks for {PARTITIONS} partitions", tasks(&pairs)?);
        Ok(())
    };
    of(left.join_with_partitions(&right, PARTITIONS).boxed())?;
    let swapped = right.join_with_partitions(&left, PARTITIONS);
    of(swapped.map_values(|(name, n)| (n, name)).boxed())?;
    let lonely = left.subtract_by_key_with_partitions(&right.filter(|(key, _)| *key == HOT), 8);
    ensure!(lonely.count()? == records.div_ceil(10), "{} have no partner", lonely.count()?);
    let outer = right.left_outer_join_with_partitions(&left, PARTITIONS);
    let lonely = outer.filter(|(_, (_, n))| n.is_none()).count()?;
    ensure!(lonely == 2 * HOT - sums.len() as u64, "{lonely} have no partner");
    Ok(())
}

/// How many tasks compute a dataset, once an action has found out.
pub fn tasks<T: 'static>(of: &Dataset<T>) -> Result<u32> {
    let explanation = of.explanation();
    let last = explanation.lines().rev().find(|line| line.starts_with("stage"));
    let tasks = last.and_then(|line| line.split_once("(result): ")?.1.split(' ').next());
    Ok(tasks.context("how many tasks?")?.parse()?)
}
