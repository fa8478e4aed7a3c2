//! `sort IN OUT`: lines in the order of their first 10 bytes, over all parts.

use ingle::prelude::*;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [input, output] = args.as_slice() else {
        bail!("usage: sort IN OUT");
    };
    ctx.text_file(input)?.sort_by(|line| key(line), true).save_as_text_file(output)
}

/// The first 10 bytes, or all there are before zeros.
fn key(line: &str) -> [u8; 10] {
    let mut key = [0; 10];
    for (to, from) in key.iter_mut().zip(line.bytes()) {
        *to = from;
    }
    key
}
