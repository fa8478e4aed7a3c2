//! `join LEFT RIGHT`: joins lines `KEY<TAB>NUMBER` by their keys, and tells how many pairs that gives and the sum of their products.

use ingle::prelude::*;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [left, right] = args.as_slice() else {
        bail!("usage: join LEFT RIGHT");
    };
    let left = ctx.text_file(left)?.try_map(|line| parse(&line));
    let right = ctx.text_file(right)?.try_map(|line| parse(&line));
    let (pairs, sum) = left.join(&right).values().aggregate(
        (0u64, 0u64),
        |(pairs, sum), (a, b)| (pairs + 1, sum + a * b),
        |a, b| (a.0 + b.0, a.1 + b.1),
    )?;
    println!("{pairs}\t{sum}");
    Ok(())
}

fn parse(line: &str) -> Result<(u64, u64)> {
    let fields = line.split_once('\t');
    let (key, number) =
        fields.with_context(|| format!("a line must be KEY<TAB>NUMBER, not `{line}`"))?;
    Ok((key.parse()?, number.parse()?))
}
