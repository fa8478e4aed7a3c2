//! `ingle`: makes job crates and builds them; runs a cluster's daemons; asks what runs there.

use ingle_cluster::Broken;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use ingle_cli::daemons::{self, MasterArgs, UpArgs, WorkerArgs};
use ingle_cli::doctor::{self, DoctorArgs};
use ingle_cli::terminal;
use ingle_cli::verbs::{self, Question, Which};

/// Makes and builds jobs for Ingle, and runs clusters. `rsubmit` runs jobs.
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
    /// Runs a whole cluster on this machine, for development. Prints its master's URL; Ctrl-C ends it.
    Up(UpArgs),
    /// Runs the cluster manager.
    Master(MasterArgs),
    /// Offers this machine to a cluster.
    Worker(Box<WorkerArgs>),
    /// Lists applications, and drivers in cluster mode.
    Apps {
        #[command(flatten)]
        which: Which,
    },
    /// Lists workers.
    Workers {
        #[command(flatten)]
        which: Which,
    },
    /// Says how an application or a driver is, and what it waits for.
    Explain {
        /// As `ingle apps` lists it.
        id: String,
        #[command(flatten)]
        which: Which,
    },
    /// Shows what a driver, its executors and its tasks printed.
    Logs {
        /// As `ingle apps` lists it.
        id: String,
        /// Goes on as long as it runs.
        #[arg(long, short)]
        follow: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Gives a worker no more work: tasks and drivers that run there end as they would, and executors go without new tasks.
    Decommission {
        /// As `ingle workers` lists it: worker-N, or its address.
        worker: String,
        #[command(flatten)]
        which: Which,
    },
    /// Says which walls this host can put around the processes that run jobs, which are missing, and how to get them.
    Doctor(DoctorArgs),
    /// An application's process, for workers.
    #[command(hide = true)]
    Executor,
    /// A driver's process, for workers.
    #[command(hide = true)]
    Driver,
    /// What compiles a job, for workers.
    #[command(hide = true)]
    Compile,
}

fn main() {
    let done = match Options::parse().verb {
        Verb::New { name, path, sdk } => new(&name, path, sdk),
        Verb::Build { dir, out } => build(&dir, out.as_deref()),
        Verb::Up(args) => said(daemons::run_up(&args)),
        Verb::Master(args) => said(daemons::run_master(&args)),
        Verb::Worker(args) => said(daemons::run_worker(&args)),
        Verb::Doctor(args) => said(doctor::run(&args)),
        Verb::Executor => daemons::run_executor().map_err(anyhow::Error::new),
        Verb::Compile => said(daemons::run_compiler()),
        Verb::Driver => daemons::run_driver().map_err(anyhow::Error::new),
        Verb::Apps { which } => said(verbs::ask(&which, &Question::Apps)),
        Verb::Workers { which } => said(verbs::ask(&which, &Question::Workers)),
        Verb::Explain { id, which } => said(verbs::ask(&which, &Question::Explain(&id))),
        Verb::Logs { id, follow, which } => said(verbs::ask(&which, &Question::Logs(&id, follow))),
        Verb::Decommission { worker, which } => {
            said(verbs::ask(&which, &Question::Decommission(&worker)))
        }
    };
    let code = match done {
        Ok(()) => 0,
        Err(error) => {
            terminal::say(format_args!("error: {error:#}"));
            error.downcast_ref::<Broken>().map_or(1, |broken| broken.code().into())
        }
    };
    // Not by returning: what is still running must not keep the process.
    std::process::exit(code)
}

fn said(done: Result<(), String>) -> anyhow::Result<()> {
    done.map_err(anyhow::Error::msg)
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
