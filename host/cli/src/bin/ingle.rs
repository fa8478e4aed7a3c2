//! `ingle`: makes job crates and builds them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Makes and builds jobs for Ingle. `rsubmit` runs them.
#[derive(Parser)]
#[command(name = "ingle", version, arg_required_else_help = true)]
struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Writes a new job crate.
    New {
        /// The job's name: a to z, 0 to 9, `-` and `_`.
        name: String,
        /// The crate's folder, which must not exist yet [default: NAME].
        #[arg(long, value_name = "DIR")]
        path: Option<PathBuf>,
        /// The folder of the `ingle` crate [default: the one that this program was built with].
        #[arg(long, value_name = "DIR")]
        sdk: Option<PathBuf>,
    },
    /// Makes a WebAssembly component of a job crate, with whatever Rust toolchain of this machine can.
    Build {
        /// The job's folder.
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Where to put the component [default: target/guests/NAME.wasm].
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let done = match Options::parse().verb {
        Verb::New { name, path, sdk } => new(&name, path, sdk),
        Verb::Build { dir, out } => build(&dir, out.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn new(name: &str, path: Option<PathBuf>, sdk: Option<PathBuf>) -> anyhow::Result<()> {
    let dir = path.unwrap_or_else(|| PathBuf::from(name));
    ingle_guests::create(name, &dir, &sdk.unwrap_or_else(ingle_guests::default_sdk))?;
    let dir = dir.display();
    println!(
        "Wrote the job `{name}` to {dir}. Next:\n\n    \
         cd {dir}\n    \
         cargo test\n    \
         ingle build -o {name}.wasm\n    \
         rsubmit --allow-read=IN --allow-write=. {name}.wasm IN OUT"
    );
    Ok(())
}

fn build(dir: &Path, out: Option<&Path>) -> anyhow::Result<()> {
    let built = ingle_guests::build(dir, out, &mut |line| eprintln!("{line}"))?;
    eprintln!("{} KiB", built.size.div_ceil(1024));
    // The path alone is the answer, for scripts.
    println!("{}", built.path.display());
    Ok(())
}
