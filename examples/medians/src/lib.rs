//! `medians IN TOP`: the median of each key's numbers, for the keys that have most of them, from lines `KEY<TAB>NUMBER`.

use std::cmp::Reverse;

use ingle::prelude::*;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [input, top] = args.as_slice() else {
        bail!("usage: medians IN TOP");
    };
    let top: usize = top.parse().context("TOP must be a whole number")?;

    let most = ctx
        .text_file(input)?
        .try_map(|line| parse(&line))
        .group_by_key()
        .map(|(key, numbers)| (numbers.len() as u64, Reverse(key), median(numbers)))
        .top(top)?;
    for (count, Reverse(key), median) in most {
        println!("{key}\t{count}\t{median}");
    }
    Ok(())
}

fn parse(line: &str) -> Result<(u64, u64)> {
    let fields = line.split_once('\t');
    let (key, number) =
        fields.with_context(|| format!("a line must be KEY<TAB>NUMBER, not `{line}`"))?;
    Ok((key.parse()?, number.parse()?))
}

/// The number in the middle, of two there the smaller.
fn median(mut numbers: Vec<u64>) -> u64 {
    let middle = numbers.len().saturating_sub(1) / 2;
    *numbers.select_nth_unstable(middle).1
}
