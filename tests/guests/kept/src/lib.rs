//! `kept`: datasets that are kept, and how much was computed all the same.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use ingle::prelude::*;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["rounds", level, records, partitions, rounds, bytes, go @ ..] => rounds_of(
            ctx,
            match *level {
                "memory" => StorageLevel::MemoryOnly,
                "memory-and-disk" => StorageLevel::MemoryAndDisk,
                "disk" => StorageLevel::DiskOnly,
                other => bail!("there is no level `{other}`"),
            },
            records.parse()?,
            partitions.parse()?,
            rounds.parse()?,
            bytes.parse()?,
            go.first().copied(),
        ),
        ["memory", records, bytes, held, go @ ..] => {
            memory(ctx, records.parse()?, bytes.parse()?, held.parse()?, go.first().copied())
        }
        ["together", partitions] => together(ctx, partitions.parse()?),
        ["checkpoint", dir, records, partitions, go] => {
            checkpoint(ctx, dir, records.parse()?, partitions.parse()?, go)
        }
        _ => bail!(
            "usage: kept rounds LEVEL RECORDS PARTITIONS ROUNDS BYTES [GO], memory RECORDS BYTES MIB [GO], together PARTITIONS, or checkpoint DIR RECORDS PARTITIONS GO"
        ),
    }
}

/// Sums a kept dataset of records of so many bytes so many times; says each time how many records were computed so far, and at first
/// on how many executors. Waits after the first round for a file to appear.
fn rounds_of(
    ctx: &Context,
    level: StorageLevel,
    records: u64,
    partitions: usize,
    rounds: u64,
    bytes: usize,
    go: Option<&str>,
) -> Result<()> {
    let computed = ctx.accumulator("computed", 0u64);
    let executors = ctx.accumulator("executors", BTreeSet::new());
    let (add, ran_on, waits) = (computed.clone(), executors.clone(), go.is_some());
    let numbers = ctx.range(0..records, partitions).map_partitions(move |numbers| {
        ran_on.add(BTreeSet::from([TaskContext::get().executor]));
        if waits {
            // So long that nobody is done before the others are there.
            std::thread::sleep(Duration::from_millis(50));
        }
        numbers
    });
    let kept = numbers.map(move |n| {
        add.add(1);
        (n, vec![n as u8; bytes])
    });
    let kept = kept.persist(level);
    for round in 0..rounds {
        let sum = kept
            .map(move |(n, filling)| {
                assert!(filling.iter().all(|byte| *byte == n as u8), "record {n} is damaged");
                n + round
            })
            .reduce(|a, b| a + b)?;
        let all = records * records.saturating_sub(1) / 2 + round * records;
        ensure!(sum.unwrap_or(0) == all, "the sum is {sum:?}, not {all}");
        println!("round {round}: {} computed", computed.value());
        if let (0, Some(go)) = (round, go) {
            eprintln!("on {} executors", executors.value().len());
            wait_for(go);
        }
    }
    kept.unpersist();
    ensure!(kept.count()? == records);
    println!("unpersisted: {} computed", computed.value());
    Ok(())
}

/// Takes so many MiB in the second of three tasks. Keeps so many records of so many bytes in 4 partitions, waits for a file to appear, and
/// shuffles them all.
fn memory(ctx: &Context, records: u64, bytes: usize, held: usize, go: Option<&str>) -> Result<()> {
    let lengths = ctx.run_tasks(0..3u64, move |n| {
        let taken = if n == 1 { black_box(vec![1u8; held << 20]) } else { Vec::new() };
        taken.len() as u64
    })?;
    ensure!(lengths == [0, (held as u64) << 20, 0]);
    let kept = ctx.range(0..records, 4).map(move |n| (n, vec![n as u8; bytes]));
    let kept = kept.persist(StorageLevel::MemoryAndDisk);
    ensure!(kept.count()? == records);
    if let Some(go) = go {
        wait_for(go);
    }
    ensure!(kept.repartition(3).count()? == records);
    println!("{records} kept and shuffled");
    Ok(())
}

/// Counts a kept dataset twice, all partitions of a record each in one task.
fn together(ctx: &Context, partitions: usize) -> Result<()> {
    let computed = ctx.accumulator("computed", 0u64);
    let add = computed.clone();
    let kept = ctx.range(0..partitions as u64, partitions).map(move |n| {
        add.add(1);
        n
    });
    let kept = kept.cache().coalesce(1);
    for round in 0..2 {
        ensure!(kept.count()? == partitions as u64);
        println!("round {round}: {} computed", computed.value());
    }
    Ok(())
}

/// Sums what was checkpointed, before and after a file appears.
fn checkpoint(ctx: &Context, dir: &str, records: u64, partitions: usize, go: &str) -> Result<()> {
    ctx.set_checkpoint_dir(dir);
    let computed = ctx.accumulator("computed", 0u64);
    let add = computed.clone();
    let numbers = ctx.range(0..records, partitions).map(move |n| {
        add.add(1);
        (n % 1000, n)
    });
    let sums = numbers.reduce_by_key(|a, b| a + b).checkpoint()?;
    println!("checkpoint: {} computed", computed.value());
    let all = records * records.saturating_sub(1) / 2;
    for when in ["before", "after"] {
        let sum = sums.values().fold(0, |a, b| a + b)?;
        ensure!(sum == all, "the sum is {sum}, not {all}");
        println!("{when}: {} computed", computed.value());
        if when == "before" {
            eprintln!("waits");
            wait_for(go);
        }
    }
    Ok(())
}

fn wait_for(file: &str) {
    while !Path::new(file).exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
}
