//! Does nothing: what a job costs before it does anything.

use ingle::prelude::*;

#[ingle::main]
fn main(_ctx: &Context) -> Result<()> {
    Ok(())
}
