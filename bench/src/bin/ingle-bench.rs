//! `cargo xtask bench`: measures what is built and holds it to what it is to reach.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use ingle_bench::compare::Places;
use ingle_bench::peer::jobs::JOBS;
use ingle_bench::peer::size::Size;
use ingle_bench::report::{Row, table};
use ingle_bench::rows::{GROUPS, Scale};
use ingle_bench::{machine, peer};

/// Measures jobs against their native twins, as whole processes that run in turn.
///
/// Exits with 1 if something couldn't be measured or a job and its twin disagree.
#[derive(Parser)]
struct Cli {
    /// Less data and fewer runs: a look, not a result.
    #[arg(long)]
    quick: bool,
    /// Also measures beside another engine, which is installed below target/ if it isn't there: needs Python and a JDK.
    #[arg(long)]
    peer: Option<Peer>,
    /// Only these rows, of those against twins and those beside the peer.
    #[arg(long, value_delimiter = ',', value_parser = names())]
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

/// Other engines.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Peer {
    /// Apache Spark 4.1.
    Spark,
}

/// Of all that `--only` can choose.
fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = GROUPS.iter().map(|group| group.name).collect();
    for job in JOBS {
        if !names.contains(&job.name) {
            names.push(job.name);
        }
    }
    names
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    if cli.peer.is_none()
        && let Some(name) = cli.only.iter().find(|name| !GROUPS.iter().any(|g| g.name == **name))
    {
        bail!("`{name}` is measured beside a peer only: add `--peer spark`");
    }
    let places = places(&cli)?;
    places.check()?;
    let scale = if cli.quick {
        Scale { mib: 64, rows: 1_000_000, samples: 20_000_000, short: 3, long: 1 }
    } else {
        Scale { mib: 512, rows: 10_000_000, samples: 200_000_000, short: 5, long: 3 }
    };

    let load = machine::load();
    let mut rows = Vec::new();
    for group in
        GROUPS.iter().filter(|g| cli.only.is_empty() || cli.only.iter().any(|name| name == g.name))
    {
        eprintln!("measuring {}", group.name);
        match (group.measure)(&places, scale) {
            Ok(measured) => {
                eprint!("{}", table(&measured));
                rows.extend(measured);
            }
            Err(error) => rows.push(Row::failed(group.name, &error)),
        }
    }

    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let path = root.join("bench/RESULTS.md");
    let place = format!(
        "on {}, at commit {}: {}; load before: {load}.",
        machine::date(),
        machine::commit(root),
        machine::describe()
    );
    let mut text = format!(
        "# What was reached\n\n\
         By `cargo xtask bench --write`, {place}\n\
         Whole processes, a job and its native twin (`bench/src/twin`, 2 threads) in turn, the same \
         input from the page cache; their results are compared. Peaks are of all runs.\n\n{}",
        table(&rows)
    );
    let mut whole = rows.iter().all(|row| row.met.is_some());
    if let Some(Peer::Spark) = cli.peer {
        let size = if cli.quick { Size::QUICK } else { Size::FULL };
        let context = format!("By `cargo xtask bench --peer spark --write`, {place}");
        let report = peer::measure(&places, &target()?.join("spark"), &size, &cli.only, &context);
        text = format!("{text}\n{}", report.text);
        whole &= report.whole;
    } else if cli.write
        && let Ok(old) = fs::read_to_string(&path)
        && let Some(kept) = peer::kept(&old)
    {
        text = format!("{text}\n{kept}");
    }
    println!("{text}");
    if cli.write {
        fs::write(&path, &text).with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn places(cli: &Cli) -> Result<Places> {
    let (tools, target) = (tools()?, target()?);
    let or = |given: &Option<PathBuf>, default: PathBuf| given.clone().unwrap_or(default);
    let data = or(&cli.data, target.join("bench-data"));
    fs::create_dir_all(&data).with_context(|| format!("can't make {}", data.display()))?;
    // The sandbox is granted this folder: by one name, whatever folder one stands in.
    let data = data.canonicalize()?;
    Ok(Places {
        tools: or(&cli.tools, tools),
        guests: or(&cli.guests, target.join("guests")),
        data,
    })
}

/// The folder that this program is in.
fn tools() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().context("this program is in no folder")?.to_owned())
}

/// The folder that this program was built to.
fn target() -> Result<PathBuf> {
    let tools = tools()?;
    Ok(tools.parent().map_or_else(|| tools.clone(), Path::to_owned))
}
