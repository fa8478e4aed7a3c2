//! `evil BEHAVIOUR [ARGS]`: a job that does what jobs shouldn't, and what engines easily get wrong.

mod driver;
mod files;
mod loops;
mod state;
mod tasks;

use ingle::prelude::*;

/// What a behaviour is called with: the arguments after its name.
type Behaviour = fn(&Context, &[String]) -> Result<()>;

/// Tried until one of them knows the name.
const FAMILIES: &[fn(&str) -> Option<Behaviour>] =
    &[driver::behaviour, files::behaviour, loops::behaviour, state::behaviour, tasks::behaviour];

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, args)) = args.split_first() else {
        bail!("usage: evil BEHAVIOUR [ARGS]");
    };
    let found = FAMILIES.iter().find_map(|family| family(name));
    found.with_context(|| format!("evil has no behaviour `{name}`"))?(ctx, args)
}

/// An argument by its place.
fn arg(args: &[String], at: usize) -> Result<String> {
    args.get(at).cloned().with_context(|| format!("argument {at} of the behaviour is missing"))
}

/// A number by its place.
fn number(args: &[String], at: usize) -> Result<u64> {
    arg(args, at)?.parse().context("the behaviour takes numbers")
}
