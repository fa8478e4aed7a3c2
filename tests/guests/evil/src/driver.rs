//! What a driver does by itself.

use std::hint::black_box;

use ingle::prelude::*;

use crate::{Behaviour, arg};

pub fn behaviour(name: &str) -> Option<Behaviour> {
    Some(match name {
        "driver-panic" => |_, _| panic!("the driver lost its nerve"),
        "driver-error" => |_, _| Err(anyhow!("the cause").context("the driver gave up")),
        "driver-trap" => |_, _| std::process::abort(),
        "driver-exit" => exit,
        "driver-memory" => memory,
        "driver-print" => print,
        "driver-swallows" => swallow,
        "settings" => settings,
        "env" => env,
        _ => return None,
    })
}

fn exit(_: &Context, args: &[String]) -> Result<()> {
    // Not flushed by anyone but the host.
    print!("before the exit");
    std::process::exit(arg(args, 0)?.parse()?)
}

fn memory(_: &Context, _: &[String]) -> Result<()> {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1u8; 4 << 20]));
    }
}

fn print(_: &Context, _: &[String]) -> Result<()> {
    println!("a line to stdout");
    eprintln!("a line to stderr");
    print!("no line end");
    Ok(())
}

/// A job's failure is an `Err` that a driver may handle.
fn swallow(ctx: &Context, _: &[String]) -> Result<()> {
    let failed = ctx.run_tasks(0..2, |_| -> u64 { panic!("in vain") });
    ensure!(failed.is_err(), "a panic was no failure");
    println!("went on to {}", ctx.range(0..10, 3).count()?);
    Ok(())
}

fn settings(ctx: &Context, args: &[String]) -> Result<()> {
    for key in args {
        println!("{key}={:?}", ctx.setting(key));
    }
    println!("parallelism={}", ctx.default_parallelism());
    Ok(())
}

/// The whole environment, as the driver and as a task see it.
fn env(ctx: &Context, _: &[String]) -> Result<()> {
    let all =
        || std::env::vars().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    println!("driver {:?}", all());
    println!("task {:?}", ctx.run_tasks(0..1, move |_| all())?);
    Ok(())
}
