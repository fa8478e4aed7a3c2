//! `cargo xtask demo`: a real job on real data that every builder of this repository has.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::guests;
use crate::place::{Place, succeed};

/// How many words to show.
const TOP: usize = 20;

/// How often each side runs; odd, for a median.
const ROUNDS: usize = 3;

/// Builds, counts, shows, and says what the sandbox cost.
pub fn demo(place: &Place) -> Result<()> {
    place.build_binaries()?;
    guests::build_all(place)?;

    let sources = registry_sources()?;
    let input = sources.join("**/*.rs");
    let scratch = place.scratch("demo");
    let out = scratch.join("words");
    println!(
        "\nCounting the words of all the Rust source that this build downloaded:\n    {}\n",
        input.display()
    );

    let mut rsubmit = sandboxed(place, &sources, &scratch, &input, &out);
    println!("$ {}\n", shown(&rsubmit));
    fresh(&scratch)?;
    succeed(&mut rsubmit)?;

    println!("\nThe {TOP} most frequent words:\n");
    for (n, word) in top(&out)? {
        println!("{n:>12}  {word}");
    }
    println!();
    cost(place, &sources, &scratch, &input)
}

/// Times the job and its native twin in turn, so that a busy machine is unfair to both.
fn cost(place: &Place, sources: &Path, scratch: &Path, input: &Path) -> Result<()> {
    let (mut sandbox, mut native) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        fresh(scratch)?;
        let out = scratch.join(format!("sandbox-{round}"));
        sandbox.push(timed(&mut sandboxed(place, sources, scratch, input, &out))?);
        let out = scratch.join(format!("native-{round}"));
        native.push(timed(place.binary("twin").arg("wordcount").arg(input).arg(out))?);
    }
    let (sandbox, native) = (median(sandbox), median(native));
    println!("What the sandbox cost, whole processes, median of {ROUNDS}:\n");
    println!("    in the sandbox   {:7.2} s", sandbox.as_secs_f64());
    println!("    native twin      {:7.2} s", native.as_secs_f64());
    println!(
        "    ratio            {:7.2}",
        sandbox.as_secs_f64() / native.as_secs_f64().max(f64::MIN_POSITIVE)
    );
    Ok(())
}

fn sandboxed(place: &Place, sources: &Path, scratch: &Path, input: &Path, out: &Path) -> Command {
    let mut rsubmit = place.binary("rsubmit");
    rsubmit
        .arg(flag("--allow-read=", sources))
        .arg(flag("--allow-write=", scratch))
        .arg(place.guests().join("wordcount.wasm"))
        .arg(input)
        .arg(out);
    rsubmit
}

fn flag(name: &str, value: &Path) -> std::ffi::OsString {
    let mut flag = std::ffi::OsString::from(name);
    flag.push(value);
    flag
}

/// Where cargo unpacked what it downloaded.
fn registry_sources() -> Result<PathBuf> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir().context("no CARGO_HOME and no home folder")?.join(".cargo"),
    };
    let sources = home.join("registry/src");
    ensure!(sources.is_dir(), "cargo keeps no sources in {}", sources.display());
    Ok(sources)
}

/// Empties the folder for outputs.
fn fresh(scratch: &Path) -> Result<()> {
    if scratch.exists() {
        std::fs::remove_dir_all(scratch)
            .with_context(|| format!("can't remove {}", scratch.display()))?;
    }
    std::fs::create_dir_all(scratch).with_context(|| format!("can't make {}", scratch.display()))
}

/// The most frequent words of an output folder, first the most frequent.
fn top(out: &Path) -> Result<Vec<(u64, String)>> {
    ensure!(out.join("_SUCCESS").exists(), "{} has no _SUCCESS", out.display());
    let mut best = BinaryHeap::new();
    for entry in std::fs::read_dir(out)? {
        let path = entry?.path();
        let is_part =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("part-"));
        if !is_part {
            continue;
        }
        for line in BufReader::new(File::open(&path)?).lines() {
            best.push(Reverse(counted(&line?, &path)?));
            if best.len() > TOP {
                best.pop();
            }
        }
    }
    Ok(best.into_sorted_vec().into_iter().map(|Reverse(word)| word).collect())
}

/// A line `word<TAB>count`.
fn counted(line: &str, path: &Path) -> Result<(u64, String)> {
    let Some((word, n)) = line.split_once('\t') else {
        bail!("{}: no tab in `{line}`", path.display());
    };
    let n = n.parse().with_context(|| format!("{}: no count in `{line}`", path.display()))?;
    Ok((n, word.to_owned()))
}

/// The wall time of a command, which must succeed; what it says is shown only if it doesn't.
fn timed(command: &mut Command) -> Result<Duration> {
    let shown = shown(command);
    let start = Instant::now();
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("can't run {shown}"))?;
    let took = start.elapsed();
    ensure!(
        output.status.success(),
        "`{shown}` failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(took)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let quoted = |arg: &std::ffi::OsStr| {
        let arg = arg.to_string_lossy().into_owned();
        if arg.contains(['*', ' ', '\'']) {
            format!("'{}'", arg.replace('\'', r"'\''"))
        } else {
            arg
        }
    };
    std::iter::once(name).chain(command.get_args().map(quoted)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/a/b/rsubmit");
        command.args(["--allow-read=/x", "/x/**/*.rs", "it's"]);
        assert_eq!(shown(&command), r"rsubmit --allow-read=/x '/x/**/*.rs' 'it'\''s'");
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median([3, 1, 2].map(Duration::from_secs).to_vec()), Duration::from_secs(2));
        assert_eq!(median(Vec::new()), Duration::ZERO);
    }

    #[test]
    fn a_line_without_a_count_is_an_error() {
        let path = Path::new("part-00000");
        assert_eq!(counted("to\t2", path).unwrap(), (2, "to".to_owned()));
        assert!(counted("to", path).is_err());
        assert!(counted("to\ttwo", path).is_err());
    }
}
