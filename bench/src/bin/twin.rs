//! `twin`: the example jobs as native programs.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use ingle_bench::twin::threads::Threads;
use ingle_bench::twin::{flights, join, pagerank, pi, sort, words};

/// The example jobs as native programs, to compare with.
#[derive(Parser)]
struct Cli {
    /// How many threads work.
    #[arg(long, global = true, default_value = "2")]
    threads: Threads,
    #[command(subcommand)]
    job: Job,
}

/// IN is a file, a folder or a glob.
#[derive(Subcommand)]
enum Job {
    /// Does nothing.
    Empty,
    /// Counts words: part files of word<TAB>count.
    Wordcount { r#in: String, out: PathBuf },
    /// Sorts lines of 100 bytes by their first 10.
    Sort { r#in: String, out: PathBuf },
    /// Estimates π.
    Pi {
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        samples: u64,
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        partitions: u64,
    },
    /// Delays by carrier.
    Flights { dir: PathBuf },
    /// The highest ranks of a graph of FROM<TAB>TO lines.
    Pagerank { edges: PathBuf, iterations: u32, top: usize },
    /// Joins lines of KEY<TAB>NUMBER: how many pairs, and the sum of their products.
    Join { left: String, right: String },
    /// The most frequent words but those of a list.
    Stopwords { r#in: String, stop: String, top: usize },
}

fn main() -> Result<()> {
    let Cli { threads, job } = Cli::parse();
    let mut out = io::stdout().lock();
    match job {
        Job::Empty => {}
        Job::Wordcount { r#in, out } => words::wordcount(&r#in, &out, threads)?,
        Job::Sort { r#in, out } => sort::sort(&r#in, &out, threads)?,
        Job::Pi { samples, partitions } => {
            writeln!(out, "Pi is roughly {:.6}", pi::pi(samples, partitions, threads)?)?;
        }
        Job::Flights { dir } => {
            for (code, c) in flights::flights(&dir, threads)? {
                writeln!(out, "{code}\t{}\t{}\t{:.4}\t{}", c.flights, c.arrived, c.mean(), c.name)?;
            }
        }
        Job::Pagerank { edges, iterations, top } => {
            for (name, rank) in pagerank::pagerank(&edges, iterations, top, threads)? {
                writeln!(out, "{name}\t{rank:.3}")?;
            }
        }
        Job::Join { left, right } => {
            let (pairs, sum) = join::join(&left, &right, threads)?;
            writeln!(out, "{pairs}\t{sum}")?;
        }
        Job::Stopwords { r#in, stop, top } => {
            for (word, n) in words::stopwords(&r#in, &stop, top, threads)? {
                writeln!(out, "{word}\t{n}")?;
            }
        }
    }
    Ok(())
}
