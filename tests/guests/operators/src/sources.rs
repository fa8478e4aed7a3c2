//! Sources that aren't lines of text.

use ingle::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Event {
    user: Str,
    score: f64,
}

/// The sum of each user's scores.
pub fn json(ctx: &Context, path: &str) -> Result<()> {
    let scores = ctx.json_lines::<Event>(path)?.map(|event| (event.user, event.score));
    for (user, score) in scores.reduce_by_key(|a, b| a + b).sort_by_key(true).collect()? {
        println!("{user}\t{score}");
    }
    Ok(())
}
