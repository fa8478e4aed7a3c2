//! What never ends. Each says `started` first, for who waits to interrupt it.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Duration;

use ingle::prelude::*;

use crate::{Behaviour, arg, number};

pub fn behaviour(name: &str) -> Option<Behaviour> {
    Some(match name {
        "loop-silent" => |ctx, _| in_tasks(ctx, || spin()),
        "loop-print" => |ctx, _| in_tasks(ctx, print_for_ever),
        "loop-sleep" => |ctx, _| in_tasks(ctx, || std::thread::sleep(Duration::from_secs(1000))),
        "loop-driver" => |_, _| {
            eprintln!("started");
            spin()
        },
        "loop-save" => save,
        "loop-save-silent" => save_silent,
        "loop-spill" => spill,
        "shuffle-much" => shuffle_much,
        "save-much" => save_much,
        "print-much" => print_much,
        "fail-beside-loop" => fail_beside,
        "straggle" => straggle,
        "idle-driver" => idle_driver,
        "cancel-silent" => cancel_silent,
        "cancel-reading" => cancel_reading,
        "silent-task" => |ctx, _| {
            ctx.run_tasks(0..2, |task| {
                if task == 1 {
                    spin()
                }
            })?;
            Ok(())
        },
        "sleep" => |ctx, _| {
            ctx.run_tasks(0..2, |_| std::thread::sleep(Duration::from_secs(1)))?;
            println!("slept");
            Ok(())
        },
        "wait" => wait,
        "neighbour" => neighbour,
        _ => return None,
    })
}

fn spin() -> ! {
    let mut n = 0u64;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

/// Cancels an action whose task calls nothing, then needs the slot; says how long that took, in milliseconds.
fn cancel_silent(ctx: &Context, _: &[String]) -> Result<()> {
    // There is an executor then.
    ctx.range(0..1, 1).count()?;
    let silent = ctx.range(0..1, 1).map(|_| {
        eprintln!("started");
        spin()
    });
    let silent = silent.for_each_async(|()| {})?;
    std::thread::sleep(Duration::from_secs(1));
    let since = std::time::Instant::now();
    silent.cancel();
    let counted = ctx.range(0..10, 2).map(|n| n + 1).sum()?;
    println!("counted {counted}");
    eprintln!("free after {} ms", since.elapsed().as_millis());
    Ok(())
}

/// Cancels an action whose task reads, once a file is there, then needs its slot: `cancel-reading PATH FILE`. Says which executors there were.
fn cancel_reading(ctx: &Context, args: &[String]) -> Result<()> {
    let (path, go) = (arg(args, 0)?, arg(args, 1)?);
    let before = executors(ctx)?;
    let reading = ctx.text_file(&path)?.for_each_async(|_| {})?;
    while !std::path::Path::new(&go).exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    reading.cancel();
    eprintln!("cancelled");
    let counted = ctx.range(0..10, 2).map(|n| n + 1).sum()?;
    println!("counted {counted}, on executors {before:?} and {:?}", executors(ctx)?);
    Ok(())
}

fn executors(ctx: &Context) -> Result<BTreeSet<u32>> {
    Ok(ctx.run_tasks(0..2, |_| TaskContext::get().executor)?.into_iter().collect())
}

fn print_for_ever() {
    loop {
        println!("and on");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn in_tasks(ctx: &Context, body: impl Fn() + 'static) -> Result<()> {
    ctx.run_tasks(0..4, move |_| {
        eprintln!("started");
        body();
    })?;
    Ok(())
}

/// Writes an output that never ends, and not so fast that it fills the disk.
fn save(ctx: &Context, args: &[String]) -> Result<()> {
    let endless = ctx.range(0..2, 2).flat_map(|_| {
        eprintln!("started");
        std::iter::repeat_with(|| {
            std::thread::sleep(Duration::from_millis(5));
            "x".repeat(64 << 10)
        })
    });
    endless.save_as_text_file(arg(args, 0)?)
}

/// Holds an output open and never calls the host.
fn save_silent(ctx: &Context, args: &[String]) -> Result<()> {
    let endless = ctx.range(0..2, 2).map(|_| -> u64 {
        eprintln!("started");
        spin()
    });
    endless.save_as_text_file(arg(args, 0)?)
}

/// Has spilled when it starts to wait.
fn spill(ctx: &Context, _: &[String]) -> Result<()> {
    let sorted =
        ctx.range(0..4, 4).flat_map(|n| (0..150_000).map(move |i| (i * 7919 + n, "x".repeat(200))));
    let sorted = sorted.sort_by(|(key, _)| *key, true);
    sorted.for_each(|_| {
        eprintln!("started");
        loop {
            std::thread::sleep(Duration::from_millis(5));
        }
    })
}

/// Records of about a KiB, so many MiB of them in all, from 4 tasks.
fn records(ctx: &Context, mib: u64) -> Dataset<(u64, String)> {
    let of_one = move |task| (0..mib << 8).map(move |i| (i * 7919 + task, "x".repeat(1000)));
    ctx.range(0..4, 4).flat_map(of_one).boxed()
}

/// Shuffles so many MiB, and says how many records.
fn shuffle_much(ctx: &Context, args: &[String]) -> Result<()> {
    let sorted = records(ctx, number(args, 0)?).sort_by(|(key, _)| *key, true);
    println!("{} records", sorted.map(|(_, text)| text.len() as u64 / 1000).sum()?);
    Ok(())
}

/// Writes so many MiB to an output.
fn save_much(ctx: &Context, args: &[String]) -> Result<()> {
    records(ctx, number(args, 0)?).values().save_as_text_file(arg(args, 1)?)
}

/// A task prints so many lines to both streams, and the driver as many.
fn print_much(ctx: &Context, args: &[String]) -> Result<()> {
    let lines = number(args, 0)?;
    let print = move |who: &str| {
        (0..lines).for_each(|n| {
            println!("{who} line {n:07}");
            eprintln!("{who} bad line {n:07}");
        })
    };
    ctx.run_tasks(0..1, move |_| print("task"))?;
    print("driver");
    Ok(())
}

/// One task fails while the other runs for ever.
fn fail_beside(ctx: &Context, args: &[String]) -> Result<()> {
    let records = ctx.range(0..2, 2).map(|n| -> u64 {
        if n == 0 { spin() } else { panic!("the bad partition") }
    });
    records.save_as_text_file(arg(args, 0)?)
}

/// One task's first attempt, that which makes the file, never ends.
fn straggle(ctx: &Context, args: &[String]) -> Result<()> {
    let marker = arg(args, 0)?.to_owned();
    let sum = ctx.range(0..8, 8).map(move |n| {
        if n == 0 && std::fs::File::create_new(&marker).is_ok() {
            std::thread::sleep(Duration::from_secs(1000));
        }
        n
    });
    println!("{}", sum.reduce(|a, b| a + b)?.unwrap_or(0));
    Ok(())
}

/// So many tasks that wait for a file.
fn wait(ctx: &Context, args: &[String]) -> Result<()> {
    let (file, tasks) = (arg(args, 0)?, number(args, 1)?);
    ctx.run_tasks(0..tasks, move |_| {
        eprintln!("started");
        while !std::path::Path::new(&file).exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
    })?;
    println!("done");
    Ok(())
}

/// Tasks, a long time without any, and tasks again.
fn idle_driver(ctx: &Context, _: &[String]) -> Result<()> {
    let work = || ctx.run_tasks(0..8, |_| std::thread::sleep(Duration::from_millis(200)));
    work()?;
    eprintln!("idle");
    std::thread::sleep(Duration::from_secs(4));
    work()?;
    println!("done");
    Ok(())
}

/// Minds its own business until a file is there: shuffles whose answers are known. Says in the file `beat` how often it was right so far, and
/// in the end on which executors.
fn neighbour(ctx: &Context, args: &[String]) -> Result<()> {
    let file = arg(args, 0)?;
    let (mut rounds, mut all) = (0, BTreeSet::new());
    // Once more when it is there.
    let mut over = false;
    while !over {
        over = std::path::Path::new(&file).exists();
        let sums = ctx.range(0..20_000, 4).map(|n| (n % 10, n)).reduce_by_key(|a, b| a + b);
        let mut sums = sums.collect()?;
        sums.sort_unstable();
        let right = (0..10).map(|key| (key, 2000 * key + 10 * 1999 * 1000));
        ensure!(sums.iter().copied().eq(right), "a sum is wrong: {sums:?}");
        all.extend(executors(ctx)?);
        rounds += 1;
        // Whoever reads it finds a whole number.
        std::fs::write("beat.new", rounds.to_string())
            .and_then(|()| std::fs::rename("beat.new", "beat"))?;
        if rounds == 1 {
            eprintln!("started");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("undisturbed, on executors {all:?}");
    Ok(())
}
