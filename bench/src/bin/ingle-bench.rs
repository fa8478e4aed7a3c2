//! `cargo xtask bench`: measures what is built and holds it to what it is to reach.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use ingle_bench::compare::Places;
use ingle_bench::machine;
use ingle_bench::report::{Row, table};
use ingle_bench::rows::{GROUPS, Scale};

/// Measures jobs against their native twins, as whole processes that run in turn.
///
/// Exits with 1 if something couldn't be measured or a job and its twin disagree.
#[derive(Parser)]
struct Cli {
    /// Less data and fewer runs: a look, not a result.
    #[arg(long)]
    quick: bool,
    /// Only these rows: start, forks, noop, wordcount, sort, pi.
    #[arg(long, value_delimiter = ',', value_parser = GROUPS.iter().map(|g| g.name).collect::<Vec<_>>())]
    only: Vec<String>,
    /// Writes bench/RESULTS.md.
    #[arg(long, conflicts_with_all = ["quick", "only"])]
    write: bool,
    /// Where rsubmit and twin are, unless beside this program.
    #[arg(long)]
    tools: Option<PathBuf>,
    /// Where the jobs' components are, unless in target/guests.
    #[arg(long)]
    guests: Option<PathBuf>,
    /// Where made-up data is kept, unless in target/bench-data.
    #[arg(long)]
    data: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let places = places(&cli)?;
    places.check()?;
    let scale = if cli.quick {
        Scale { mib: 64, samples: 20_000_000, short: 3, long: 1 }
    } else {
        Scale { mib: 512, samples: 200_000_000, short: 5, long: 3 }
    };

    let load = machine::load();
    let mut rows = Vec::new();
    for group in
        GROUPS.iter().filter(|g| cli.only.is_empty() || cli.only.iter().any(|name| name == g.name))
    {
        eprintln!("measuring {}", group.name);
        match (group.measure)(&places, scale) {
            Ok(measured) => rows.extend(measured),
            Err(error) => rows.push(Row::failed(group.name, &error)),
        }
    }

    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let text = format!(
        "# What was reached\n\n\
         By `cargo xtask bench --write`, on {}, at commit {}: {}; load before: {load}.\n\
         Whole processes, a job and its native twin (`bench/src/twin`, 2 threads) in turn, the same \
         input from the page cache; their results are compared. Peaks are of all runs.\n\n{}",
        machine::date(),
        machine::commit(root),
        machine::describe(),
        table(&rows)
    );
    println!("{text}");
    if cli.write {
        let path = root.join("bench/RESULTS.md");
        fs::write(&path, &text).with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(if rows.iter().any(|row| row.met.is_none()) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn places(cli: &Cli) -> Result<Places> {
    let program = std::env::current_exe()?;
    let tools = program.parent().context("this program is in no folder")?;
    let target = tools.parent().unwrap_or(tools);
    let or = |given: &Option<PathBuf>, default: PathBuf| given.clone().unwrap_or(default);
    let data = or(&cli.data, target.join("bench-data"));
    fs::create_dir_all(&data).with_context(|| format!("can't make {}", data.display()))?;
    // The sandbox is granted this folder: by one name, whatever folder one stands in.
    let data = data.canonicalize()?;
    Ok(Places {
        tools: or(&cli.tools, tools.to_owned()),
        guests: or(&cli.guests, target.join("guests")),
        data,
    })
}
