//! `hostile ATTACK WHERE [WHAT ...]`: a job that attacks who runs it. `WHERE` is `task`: one task attacks, while another one minds its own business;
//! `task-alone`, without that one; or `driver`. `WHAT` names ways of the attack, which are tried one after the other. What became of each is
//! printed, then whether tasks still run, and on which executors.
//!
//! The book's table of attacks says which wall stops what; `tests/tests/hostile` runs them all.
#![cfg_attr(not(target_family = "wasm"), allow(dead_code, unused_imports))]

#[cfg(target_family = "wasm")]
mod files;
#[cfg(target_family = "wasm")]
mod floods;
#[cfg(target_family = "wasm")]
mod forge;
#[cfg(target_family = "wasm")]
mod host;
#[cfg(target_family = "wasm")]
mod loops;
#[cfg(target_family = "wasm")]
mod memory;
#[cfg(target_family = "wasm")]
mod plans;
#[cfg(target_family = "wasm")]
mod sibling;
#[cfg(target_family = "wasm")]
mod sockets;

use std::collections::BTreeSet;

use ingle::prelude::*;

/// An attack, by what it needs.
#[derive(Clone, Copy)]
enum Attack {
    /// Done by driver or task alike. It is given its way, and tells how it was held.
    Anywhere(fn(&str) -> Result<String>),
    /// Needs the driver to plan it.
    Planned(fn(&Context, &str) -> Result<String>),
}

/// Tried until one of them knows the name.
#[cfg(target_family = "wasm")]
const FAMILIES: &[fn(&str) -> Option<Attack>] = &[
    files::attack,
    floods::attack,
    forge::attack,
    host::attack,
    loops::attack,
    memory::attack,
    plans::attack,
    sockets::attack,
];
/// There is no sandbox to attack.
#[cfg(not(target_family = "wasm"))]
const FAMILIES: &[fn(&str) -> Option<Attack>] = &[];

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, place, ways @ ..] = args.as_slice() else {
        bail!("usage: hostile ATTACK task|task-alone|driver [WAY ...]");
    };
    let attack = FAMILIES.iter().find_map(|family| family(name));
    let attack = attack.with_context(|| format!("there is no attack `{name}`"))?;
    let (before, mut after) = (executors(ctx)?, BTreeSet::new());
    let once = [String::from("it")];
    for way in if ways.is_empty() { &once } else { ways } {
        let outcome = match (attack, place.as_str()) {
            #[cfg(target_family = "wasm")]
            (Attack::Anywhere(attack), "task") => {
                let sibling = sibling::Sibling::start(ctx)?;
                let outcome = in_a_task(ctx, attack, way.clone());
                sibling.end()?;
                outcome
            }
            (Attack::Anywhere(attack), "task-alone") => in_a_task(ctx, attack, way.clone()),
            (Attack::Anywhere(attack), "driver") => attack(way),
            (Attack::Planned(attack), "driver") => attack(ctx, way),
            _ => bail!("`{name}` can't be done by a {place}"),
        };
        let outcome = outcome.unwrap_or_else(|error| format!("{error:#}"));
        println!("{way}: {}", outcome.replace('\n', " "));
        after.extend(executors(ctx)?);
    }
    println!("others: went on, on executors {before:?} before and {after:?} after");
    Ok(())
}

/// One task of four attacks; one that fails ends the others.
fn in_a_task(ctx: &Context, attack: fn(&str) -> Result<String>, way: String) -> Result<String> {
    let told = ctx.try_run_tasks(0..4, move |task| match task {
        1 => attack(&way),
        _ => Ok(String::new()),
    });
    Ok(told?.concat())
}

/// Which executors do what they are told.
fn executors(ctx: &Context) -> Result<BTreeSet<u32>> {
    let tasks = ctx.run_tasks(0..8, |task| (task * task, TaskContext::get().executor))?;
    let right = tasks.iter().zip(0..).all(|((square, _), task)| *square == task * task);
    ensure!(right, "other tasks compute something else: {tasks:?}");
    Ok(tasks.into_iter().map(|(_, executor)| executor).collect())
}

/// Counts attempts that must all fail; the text for one that didn't is the escape.
#[cfg(target_family = "wasm")]
fn all_refused(attempts: impl IntoIterator<Item = (String, Result<(), String>)>) -> Result<String> {
    let mut refused = Vec::new();
    for (attempt, outcome) in attempts {
        match outcome {
            Ok(()) => bail!("ESCAPED by {attempt}"),
            Err(error) => refused.push(error),
        }
    }
    let kinds: BTreeSet<_> = refused.iter().cloned().collect();
    Ok(format!("all {} refused: {kinds:?}", refused.len()))
}
