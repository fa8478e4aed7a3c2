//! `wordcount IN OUT`: how often each word occurs, as `word<TAB>count`.

use ingle::prelude::*;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = args.as_slice() else {
        bail!("usage: wordcount IN OUT");
    };
    ctx.text_file(input)?
        .flat_map(|line| line.words())
        .map(|word| (word, 1u64))
        .reduce_by_key(|a, b| a + b)
        .map(|(word, n)| format!("{word}\t{n}"))
        .save_as_text_file(output)
}
