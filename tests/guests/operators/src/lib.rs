//! `operators WHAT ARGS`: jobs of one operator each, on records that a seed decides, against a plain program in the driver.

mod broadcast;
mod concurrent;
mod held;
mod models;
mod records;
mod shared;
mod sources;
mod tiny;

use ingle::prelude::*;

use crate::models::{Found, Sum};
use crate::records::Records;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["agree", seed, size] => agree(ctx, seed.parse()?, size.parse()?),
        ["broadcast", seed, size] => broadcast::agree(ctx, seed.parse()?, size.parse()?),
        ["grown", seed, size] => broadcast::grown(ctx, seed.parse()?, size.parse()?),
        ["held", ballast] => held::combine(ctx, ballast.parse()?),
        ["keys"] => held::keys(ctx),
        ["few"] => held::few(ctx),
        ["shared", records] => shared::joins(ctx, records.parse()?),
        ["tiny", records] => tiny::run(ctx, records.parse()?),
        ["concurrent", size] => concurrent::run(ctx, size.parse()?),
        ["json", path] => sources::json(ctx, path),
        _ => bail!(
            "usage: operators agree|broadcast|grown SEED SIZE | held BYTES | keys | few | shared RECORDS | tiny RECORDS | concurrent SIZE | json PATH"
        ),
    }
}

/// How many partitions there are of one dataset and of the other.
const LEFT: usize = 5;
const RIGHT: usize = 3;

/// Runs every operator on two datasets, then computes the same without any; both must come to the same records, whatever their order.
fn agree(ctx: &Context, seed: u64, size: u64) -> Result<()> {
    let records = Records::new(seed, size);
    // The models come last: what they take would be in the tasks' image.
    let mut found: Vec<Found> = Vec::new();
    let mut run = |name, sum: Result<Sum>| -> Result<()> {
        found.push(Found { name, sum: sum.with_context(|| format!("in {name}"))? });
        Ok(())
    };

    let left = ctx.range(0..records.lefts(), LEFT).map(move |n| records.left(n));
    let right = ctx.range(0..records.rights(), RIGHT).map(move |n| records.right(n));
    run("join", models::sum(&left.join(&right)))?;
    run("left_outer_join", models::sum(&left.left_outer_join(&right)))?;
    run("right_outer_join", models::sum(&left.right_outer_join(&right)))?;
    run("full_outer_join", models::sum(&left.full_outer_join_with_partitions(&right, 7)))?;
    run("subtract_by_key", models::sum(&left.subtract_by_key(&right)))?;
    let cogrouped = left.cogroup(&right).map_values(|(mut lefts, mut rights)| {
        lefts.sort_unstable();
        rights.sort_unstable();
        (lefts, rights)
    });
    run("cogroup", models::sum(&cogrouped))?;
    run("subtract", models::sum(&left.keys().subtract(&right.keys())))?;
    run("intersection", models::sum(&left.keys().intersection(&right.keys())))?;
    // A few with a few, or there would be too many.
    let (some, few) =
        (left.values().filter(|n| n % 16 == 0), right.keys().filter(records::is_rare));
    run("cartesian", models::sum(&some.cartesian(&few)))?;

    let placed = left.partition_by_with_partitions(records::len, 6);
    let places = placed.map_partitions_with_index(|at, pairs| {
        pairs.map(move |(key, n)| (at == records::len(&key) % 6, key, n))
    });
    run("partition_by", models::sum(&places))?;
    let joined = placed.reduce_by_key(u64::wrapping_add).full_outer_join(&right);
    run("join of what lies in place", models::sum(&joined))?;
    let sorted = left.repartition_and_sort_within_partitions_with_partitions(records::len, 6);
    let orders = sorted.map_partitions_with_index(|at, pairs| {
        let mut before = None;
        pairs.map(move |(key, n)| {
            let is_in_order = before.as_ref().is_none_or(|before| *before <= key);
            before = Some(key.clone());
            (is_in_order && at == records::len(&key) % 6, key, n)
        })
    });
    run("repartition_and_sort_within_partitions", models::sum(&orders))?;

    let models = models::all(records);
    ensure!(models.len() == found.len(), "{} models of {}", models.len(), found.len());
    for (model, found) in models.into_iter().zip(found) {
        ensure!(model == found, "the model is {model:?}, found was {found:?}");
        println!("{}: {} records", found.name, found.sum.count);
    }
    Ok(())
}
