//! `cargo xtask VERB`: what there is to do with this repository.

mod demo;
mod fuzz;
mod guests;
mod lint;
mod place;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::place::Place;

const USAGE: &str = "\
usage: cargo xtask VERB [ARGS]

    demo            builds all, counts the words of the Rust source that the build downloaded, and says what the
                    sandbox cost
    test [ARGS]     runs every test; ARGS go to `cargo test`
    lint            formatting, clippy, and cargo-deny where it is installed
    bench [ARGS]    measures against native twins, with `--peer spark` beside Spark too; ARGS go to `ingle-bench`
    fuzz [NAME]     has libFuzzer try a target of tests/fuzz for a minute, `--seconds N` for longer; says which there are
    guests          builds every job in examples/ and tests/guests/ to target/guests/NAME.wasm
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let verb = args.next();
    let rest: Vec<String> = args.collect();
    match run(verb.as_deref(), &rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Option<&str>, rest: &[String]) -> Result<()> {
    let place = Place::new();
    match (verb, rest) {
        (Some("demo"), []) => demo::demo(&place),
        (Some("test"), args) => test(&place, args),
        (Some("lint"), []) => lint::lint(&place),
        (Some("bench"), args) => bench(&place, args),
        (Some("fuzz"), args) => fuzz::fuzz(&place, args),
        (Some("guests"), []) => guests::build_all(&place),
        (None | Some("help" | "--help" | "-h"), _) => {
            print!("{USAGE}");
            Ok(())
        }
        (Some(verb @ ("demo" | "lint" | "guests")), _) => bail!("`{verb}` takes no arguments"),
        (Some(verb), _) => bail!("there is no verb `{verb}`\n\n{USAGE}"),
    }
}

/// Guests and binaries come first: tests of whole processes use them.
fn test(place: &Place, args: &[String]) -> Result<()> {
    guests::build_all(place)?;
    place.build_binaries_and_tests()?;
    let mut cargo = place.cargo();
    cargo.args(["test", "--release", "--workspace"]).args(args).env("INGLE_GUESTS", place.guests());
    place::succeed(&mut cargo)
}

fn bench(place: &Place, args: &[String]) -> Result<()> {
    guests::build_all(place)?;
    place.build_binaries()?;
    place::succeed(place.binary("ingle-bench").args(args))
}
