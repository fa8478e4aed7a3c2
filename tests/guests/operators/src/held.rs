//! What operators send and hold: in tasks whose memory others hold, and where keys are all that matters.

use std::hint::black_box;

use ingle::prelude::*;

/// Few keys, many records, and a closure before the shuffle that holds so much. What comes of a key is the same for all.
pub fn combine(ctx: &Context, ballast: usize) -> Result<()> {
    const RECORDS: u64 = 3_000_000;
    const KEYS: u64 = 100;
    let counts = ctx
        .range(0..RECORDS, 2)
        .map_partitions(move |numbers| {
            let held = vec![1u8; ballast];
            numbers.map(move |n| (n % KEYS, u64::from(black_box(&held)[n as usize % ballast])))
        })
        .reduce_by_key(|a, b| a + b);
    let counts = counts.values().collect()?;
    ensure!(counts == [RECORDS / KEYS; KEYS as usize], "{counts:?}");
    println!("all alike");
    Ok(())
}

/// Takes away few keys, which come very often.
pub fn keys(ctx: &Context) -> Result<()> {
    let left = ctx.range(0..20, 2).map(|n| (n, ()));
    let taken = ctx.range(0..1_000_000, 2).map(|n| (n % 10, n));
    let mut rest = left.subtract_by_key(&taken).keys().collect()?;
    rest.sort_unstable();
    ensure!(rest == (10..20).collect::<Vec<_>>(), "{rest:?}");
    println!("all alike");
    Ok(())
}

/// Groups few keys, each of which has much, in one partition.
pub fn few(ctx: &Context) -> Result<()> {
    const KEYS: u64 = 10;
    const VALUES: u64 = 1_000_000;
    let groups = ctx
        .range(0..KEYS * VALUES, 8)
        .map(|n| (n % KEYS, n / KEYS))
        .group_by_key_with_partitions(1)
        .map_values(|values| (values.len() as u64, values.into_iter().sum::<u64>()));
    let mut groups = groups.collect()?;
    groups.sort_unstable();
    let each = (VALUES, VALUES * (VALUES - 1) / 2);
    ensure!(groups == (0..KEYS).map(|key| (key, each)).collect::<Vec<_>>(), "{groups:?}");
    println!("all alike");
    Ok(())
}
