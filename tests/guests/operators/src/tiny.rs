//! Partitions that are tiny, and computed by fewer tasks.

use std::collections::BTreeMap;

use ingle::prelude::*;

use crate::shared::tasks;

const KEYS: u64 = 1_000;
const PARTITIONS: usize = 400;

/// Brings so many records together by key, into many partitions, and says how many tasks did. What comes out must be what a plain program
/// finds.
pub fn run(ctx: &Context, records: u64) -> Result<()> {
    let pairs = ctx.range(0..records, 6).map(|n| (n % KEYS, n));
    let names = ctx.range(0..2 * KEYS, 3).map(|key| (key, format!("key {key}")));
    let mut sums: BTreeMap<u64, u64> = BTreeMap::new();
    for n in 0..records {
        *sums.entry(n % KEYS).or_default() += n;
    }

    let reduced = pairs.reduce_by_key_with_partitions(|a, b| a + b, PARTITIONS);
    let grouped = pairs.group_by_key_with_partitions(PARTITIONS);
    let grouped = grouped.map_values(|values| values.into_iter().sum::<u64>());
    let both = pairs.cogroup_with_partitions(&names, PARTITIONS);
    let both = both.filter(|(_, (values, _))| !values.is_empty());
    let both =
        both.map_values(|(values, names)| values.into_iter().sum::<u64>() * names.len() as u64);
    let joined = pairs.join_with_partitions(&names, PARTITIONS).map_values(|(n, _)| n);
    for (what, found) in [
        ("reduce_by_key", reduced.boxed()),
        ("group_by_key", grouped.boxed()),
        ("cogroup", both.boxed()),
        ("join", joined.boxed()),
    ] {
        ensure!(
            found.num_partitions() == PARTITIONS,
            "{what}: {} partitions",
            found.num_partitions()
        );
        // Shuffled again, out of the same tasks.
        let again = found.map(|(key, n)| (key + 1, n)).reduce_by_key(|a, b| a + b).collect()?;
        let again: BTreeMap<u64, u64> =
            again.into_iter().map(|(key, sum)| (key - 1, sum)).collect();
        ensure!(again == sums, "{what}: other sums");
        let total = found.values().sum()?;
        ensure!(total == sums.values().sum::<u64>(), "{what}: {total}");
        let parts = found.glom().count()?;
        ensure!(parts == PARTITIONS as u64, "{what}: {parts} whole partitions");
        // By the key that it lies by: nothing is shuffled.
        let found_7 = found.lookup(&7)?.into_iter().sum::<u64>();
        ensure!(Some(&found_7) == sums.get(&7), "{what}: {found_7} of key 7");
        println!("{} tasks: {what}", tasks(&found)?);
    }
    Ok(())
}
