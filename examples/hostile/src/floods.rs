//! Too much of what a host gives to each: handles, streams, printed bytes, results, blocks.

use std::fs::File;
use std::mem::forget;

use ingle::__private::bindings::ingle::job::task;
use ingle::prelude::*;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
use wasip2::random::random::get_random_bytes;

use crate::Attack;
use crate::files::granted;

pub fn attack(name: &str) -> Option<Attack> {
    Some(match name {
        "handle-flood" => Attack::Anywhere(handles),
        "log-flood" => Attack::Anywhere(log),
        "result-flood" => Attack::Anywhere(results),
        "accumulator-flood" => Attack::Anywhere(accumulators),
        "run-flood" => Attack::Anywhere(runs),
        "random-flood" => Attack::Anywhere(random),
        "words-flood" => Attack::Anywhere(words),
        "file-flood" => Attack::Anywhere(files),
        "listing-flood" => Attack::Anywhere(listings),
        _ => return None,
    })
}

/// More than anybody gets.
const MANY: u32 = 200_000;

fn handles(way: &str) -> Result<String> {
    for n in 0..MANY {
        match way {
            "files" => {
                let file = File::open("data/in.txt");
                forget(file.with_context(|| {
                    let few = if (100..1024).contains(&n) { "some hundreds" } else { "as many" };
                    format!("after {few} files")
                })?);
            }
            "streams" => forget(wasip2::cli::stdout::get_stdout()),
            "pollables" => forget(subscribe_duration(u64::from(n))),
            _ => bail!("handles of which kind?"),
        }
    }
    Ok("got them all".into())
}

fn log(way: &str) -> Result<String> {
    match way {
        // One line of 64 MiB.
        "line" => (0..1024).for_each(|_| print!("{}", "x".repeat(64 << 10))),
        // Of 64 MiB.
        "lines" => (0..1 << 20).for_each(|_| println!("{}", "x".repeat(63))),
        // What a terminal would obey.
        "escapes" => println!("\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m"),
        _ => bail!("what to print?"),
    }
    Ok("printed".into())
}

fn results(way: &str) -> Result<String> {
    let block = vec![7u8; if way == "block" { 300 << 20 } else { 4 << 20 }];
    for _ in 0..1024 {
        task::emit(&block);
    }
    Ok("emitted".into())
}

fn accumulators(way: &str) -> Result<String> {
    let update = vec![7u8; if way == "bytes" { 1 << 20 } else { 0 }];
    for n in 0..2_000_000 {
        task::accumulate(n, &update);
    }
    Ok("accumulated".into())
}

fn runs(way: &str) -> Result<String> {
    let run = task::create_run();
    eprintln!("started");
    for _ in 0..MANY {
        match way {
            "runs" => _ = task::create_run(),
            "readers" => _ = task::open_run(run),
            _ => task::write_run(run, &[0; 64 << 10]),
        }
    }
    Ok("written".into())
}

fn random(_: &str) -> Result<String> {
    Ok(format!("got {} bytes", get_random_bytes(1 << 31).len()))
}

/// A failure as long as a book.
fn words(_: &str) -> Result<String> {
    task::fail(&"so it goes ".repeat(6 << 20));
    Ok("said".into())
}

/// A thousand blocks of 64 KiB into a granted folder.
fn files(way: &str) -> Result<String> {
    let (create, write) = (OpenFlags::CREATE | OpenFlags::TRUNCATE, DescriptorFlags::WRITE);
    let open = granted("data")?.open_at(PathFlags::empty(), "flood", create, write);
    let file = open.map_err(|code| Error::msg(code.name()))?;
    let stream = match way {
        "appended" => file.append_via_stream(),
        _ => file.write_via_stream(0),
    };
    let stream = stream.map_err(|code| Error::msg(code.name()))?;
    let block = vec![7; 64 << 10];
    for n in 0..1000 {
        match way {
            "at" => _ = file.write(&block, n << 16).map_err(|code| Error::msg(code.name()))?,
            _ => block.chunks(4096).try_for_each(|part| stream.blocking_write_and_flush(part))?,
        }
    }
    Ok("wrote them all".into())
}

/// Begins to list a folder of 20,000 files 900 times.
fn listings(_: &str) -> Result<String> {
    std::fs::create_dir("data/many")?;
    (0..20_000).try_for_each(|n| File::create(format!("data/many/{n:020}")).map(drop))?;
    let (flags, read) = (OpenFlags::DIRECTORY, DescriptorFlags::READ);
    let open = granted("data")?.open_at(PathFlags::empty(), "many", flags, read);
    let folder = open.map_err(|code| Error::msg(code.name()))?;
    let listings = (0..900).map(|_| folder.read_directory()).collect::<Result<Vec<_>, _>>();
    let listings = listings.map_err(|code| Error::msg(code.name()))?;
    let mut names = std::collections::BTreeSet::new();
    while let Some(entry) =
        listings[0].read_directory_entry().map_err(|code| Error::msg(code.name()))?
    {
        names.insert(entry.name);
    }
    std::fs::remove_dir_all("data/many")?;
    // Begun before they went: one that holds all that there was would still give them.
    let mut left = 0;
    while listings[1].read_directory_entry().map_err(|code| Error::msg(code.name()))?.is_some() {
        left += 1;
    }
    ensure!(left < names.len(), "a listing holds all of its entries");
    Ok(format!("listed {} files", names.len()))
}
