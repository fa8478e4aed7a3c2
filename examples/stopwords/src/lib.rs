//! `stopwords IN STOPFILE TOP`: the most frequent words but those of a list, which the tasks' closure captures.

use std::cmp::Reverse;
use std::collections::HashSet;

use ingle::prelude::*;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [input, stop_file, top] = args.as_slice() else {
        bail!("usage: stopwords IN STOPFILE TOP");
    };
    let top: usize = top.parse().context("TOP must be a whole number")?;

    let stop: HashSet<String> = ctx.text_file(stop_file)?.collect()?.into_iter().collect();
    let frequent = ctx
        .text_file(input)?
        .flat_map(|line| line.words())
        .filter(move |word| !stop.contains(word.as_str()))
        .map(|word| (word, 1u64))
        .reduce_by_key(|a, b| a + b)
        .map(|(word, n)| (Reverse(n), word))
        .take_ordered(top)?;
    for (Reverse(n), word) in frequent {
        println!("{word}\t{n}");
    }
    Ok(())
}
