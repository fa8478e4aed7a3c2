//! Joins with a small side, against the same plain programs as those that shuffle.

use ingle::prelude::*;

use crate::models::{self, Found, Sum};
use crate::records::Records;
use crate::{LEFT, RIGHT};

/// Those that are asked for, and those that `join` and its kin choose.
pub fn agree(ctx: &Context, seed: u64, size: u64) -> Result<()> {
    let records = Records::new(seed, size);
    let left = ctx.range(0..records.lefts(), LEFT).map(move |n| records.left(n));
    let right = ctx.range(0..records.rights(), RIGHT).map(move |n| records.right(n));
    let unknown = left.flat_map(Some);
    let chosen = [
        unknown.join(&right).explanation(),
        right.join(&unknown).explanation(),
        unknown.left_outer_join(&right).explanation(),
        unknown.subtract_by_key(&right).explanation(),
    ];
    for explanation in chosen {
        ensure!(explanation.contains("-> broadcast_"), "{explanation}");
    }
    let swapped = right.join(&unknown).map_values(|(right, left)| (left, right));
    let found = [
        ("join", models::sum(&left.broadcast_join(&right))?),
        ("left_outer_join", models::sum(&left.broadcast_left_outer_join(&right))?),
        ("subtract_by_key", models::sum(&left.broadcast_subtract_by_key(&right))?),
        ("join", models::sum(&unknown.join(&right))?),
        ("join", models::sum(&swapped)?),
        ("left_outer_join", models::sum(&unknown.left_outer_join(&right))?),
        ("subtract_by_key", models::sum(&unknown.subtract_by_key(&right))?),
    ];
    compare(records, &found)
}

/// A side that seems to be small, and is a thousand times as large.
pub fn grown(ctx: &Context, seed: u64, size: u64) -> Result<()> {
    let records = Records::new(seed, size);
    let left = ctx.range(0..records.lefts(), LEFT).flat_map(move |n| Some(records.left(n)));
    let right = ctx.range(0..records.rights(), RIGHT).map(move |n| {
        let (key, n) = records.right(n);
        (key, (n, "x".repeat(8000)))
    });
    let joined = left.join(&right).map_values(|(left, (right, _))| (left, right));
    println!("before: {}", joined.explanation().contains("-> broadcast_join"));
    let first = models::sum(&joined)?;
    println!("after: {}", joined.explanation().contains("-> broadcast_join"));
    compare(records, &[("join", first), ("join", models::sum(&joined)?)])
}

fn compare(records: Records, found: &[(&'static str, Sum)]) -> Result<()> {
    let models = models::all(records);
    for &(name, sum) in found {
        let model = models.iter().find(|model| model.name == name);
        let found = Found { name, sum };
        ensure!(model == Some(&found), "the model is {model:?}, found was {found:?}");
        println!("{name}: {} records", sum.count);
    }
    Ok(())
}
