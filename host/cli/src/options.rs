//! The flags of `rsubmit`, each defined once.

use std::path::{Path, PathBuf};

use clap::Parser;

use crate::exit::TABLE;
use crate::settings;

fn long_help() -> String {
    format!("{TABLE}\n\nIngle's settings, for --conf and properties files:{}", settings::list())
}

/// Runs a job: a WebAssembly component, or a wasip1 core module, that was built with Ingle's SDK.
///
/// What the job may touch is nothing, but for what --allow-… flags grant. The driver's stdout goes to stdout, all else
/// to stderr.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "rsubmit",
    version,
    after_help = TABLE,
    after_long_help = long_help(),
    arg_required_else_help = true,
    override_usage = "rsubmit [OPTIONS] JOB.wasm [ARGS]..."
)]
pub struct Options {
    /// Where the job runs: local, local[N] with N task slots, local[*] with one for each core, or ingle://HOST:PORT, a cluster.
    #[arg(long, value_name = "MASTER", env = "INGLE_MASTER", help_heading = "Where and how much")]
    pub master: Option<String>,
    /// On a cluster, where the driver runs: client (here, until this program ends) or cluster (on a worker) [default: client].
    #[arg(long, value_name = "MODE", help_heading = "Where and how much")]
    pub deploy_mode: Option<String>,
    /// What the job is called in messages [default: the file's name].
    #[arg(long, help_heading = "Where and how much")]
    pub name: Option<String>,
    /// Memory of an executor: its tasks' guests, the driver's images, shuffled and cached blocks. A number and b, k, m,
    /// g or t [default: 1g].
    #[arg(long, value_name = "SIZE", help_heading = "Where and how much")]
    pub executor_memory: Option<String>,
    /// Task slots of an executor: how many tasks run at once [default: as --master says].
    #[arg(long, value_name = "N", help_heading = "Where and how much")]
    pub executor_cores: Option<String>,
    /// On a cluster, cores of all executors together, at most [default: all that are free].
    #[arg(long, value_name = "N", help_heading = "Where and how much")]
    pub total_executor_cores: Option<String>,
    /// On a cluster, how many executors, at most [default: as many as there is room for].
    #[arg(long, value_name = "N", help_heading = "Where and how much")]
    pub num_executors: Option<String>,
    /// In cluster mode, cores that the driver takes of its worker [default: 1].
    #[arg(long, value_name = "N", help_heading = "Where and how much")]
    pub driver_cores: Option<String>,
    /// In cluster mode, starts the driver again when it fails.
    #[arg(long, help_heading = "Where and how much")]
    pub supervise: bool,
    /// In cluster mode, waits for the driver's end, and ends as it does.
    #[arg(long, help_heading = "Where and how much")]
    pub wait: bool,
    /// Memory of the driver's guest [default: 1g].
    #[arg(long, value_name = "SIZE", help_heading = "Where and how much")]
    pub driver_memory: Option<String>,

    /// A setting. Those that start with `ingle.` are Ingle's, all others the job's. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Settings")]
    pub conf: Vec<String>,
    /// A file of settings, a line each: KEY VALUE, KEY=VALUE or KEY: VALUE, and # comments. --conf and other flags win.
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    pub properties_file: Option<PathBuf>,
    /// Files that come with the job, to its driver and every executor: it reads them as files/NAME. At most 16 MiB.
    #[arg(long, value_name = "FILE[,FILE]...", value_delimiter = ',', help_heading = "Settings")]
    pub files: Vec<PathBuf>,
    /// An environment variable of the job. May be repeated.
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Settings")]
    pub env: Vec<String>,

    /// Files and folders that the job may read, and of object stores s3://BUCKET/KEY and https://HOST/PATH, with all below. By itself
    /// (std::fs) it reaches folders only. volume:NAME and volume:NAME/PATH are what each host of the cluster has by that name; the job
    /// calls it that, or /volumes/NAME/PATH.
    #[arg(
        long,
        value_name = "PATH[,PATH]...",
        value_delimiter = ',',
        help_heading = "What the job may touch"
    )]
    pub allow_read: Vec<PathBuf>,
    /// Folders that the job may write to, s3://BUCKET/KEY, and volume:NAME; they may not exist yet. To open files in one by itself (std::fs) it needs
    /// --allow-read of it as well.
    #[arg(
        long,
        value_name = "PATH[,PATH]...",
        value_delimiter = ',',
        help_heading = "What the job may touch"
    )]
    pub allow_write: Vec<PathBuf>,
    /// Environment variables of this process that the job may see; * for all.
    #[arg(
        long,
        value_name = "NAME[,NAME]...",
        value_delimiter = ',',
        help_heading = "What the job may touch"
    )]
    pub allow_env: Vec<String>,
    /// What the job is to know and nobody else: NAME, a variable of this process, or NAME=@FILE, a file's text without the last line's end.
    /// The job finds it in its environment; logs, pages and stores of the cluster never have it.
    #[arg(
        long,
        value_name = "NAME[=@FILE][,...]",
        value_delimiter = ',',
        help_heading = "What the job may touch"
    )]
    pub secret: Vec<String>,
    /// A folder of this machine that has a name, for --allow-read=volume:NAME where the driver runs here; :ro if it can only be read.
    #[arg(
        long,
        value_name = "NAME=PATH[:ro][,...]",
        value_delimiter = ',',
        help_heading = "What the job may touch"
    )]
    pub volume: Vec<String>,
    /// Hosts that the job may connect to by TCP, through WASI's sockets: the wasip2 crate has them, and std::net in jobs built
    /// for wasm32-wasip2. A HOST is a name, an address or a range of addresses, as 10.0.0.0/8. Addresses that aren't public are opened only
    /// by themselves, or by a range of their kind; those of the cluster's own daemons only with their port.
    #[arg(
        long,
        value_name = "HOST[:PORT[-PORT]][,...]",
        value_delimiter = ',',
        help_heading = "What the job may touch"
    )]
    pub allow_net: Vec<String>,

    /// Walls of the process that the job, or its driver, runs in, without which it doesn't: names, or all of those that a process raises for
    /// itself. `ingle doctor` says which this host has [default: those that there are].
    #[arg(long, value_name = "WALL[,WALL]...", help_heading = "What the job may touch")]
    pub require_walls: Option<String>,

    /// Tells how a driver or an application on a cluster is, and runs nothing.
    #[arg(
        long,
        value_name = "ID",
        help_heading = "Instead of running a job",
        conflicts_with = "kill"
    )]
    pub status: Option<String>,
    /// Ends a driver or an application on a cluster, and runs nothing.
    #[arg(long, value_name = "ID", help_heading = "Instead of running a job")]
    pub kill: Option<String>,

    /// Says what is done as it is done: settings, stages, tasks that are tried again.
    #[arg(long, short)]
    pub verbose: bool,

    /// The job's file, and all that follows it: the job's own arguments.
    #[arg(value_names = ["JOB.wasm", "ARGS"], required_unless_present_any = ["status", "kill"], num_args = 1.., trailing_var_arg = true)]
    command: Vec<String>,
}

impl Options {
    /// The job's file.
    pub fn job(&self) -> &Path {
        Path::new(self.command.first().map_or("", String::as_str))
    }

    /// The job's arguments.
    pub fn args(&self) -> &[String] {
        self.command.get(1..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn what_follows_the_job_is_the_jobs() {
        let line = ["rsubmit", "--allow-read=a,b", "--name", "x", "job.wasm", "--name", "-v", "in"];
        let options = Options::parse_from(line);
        assert_eq!(options.allow_read, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(options.name.as_deref(), Some("x"));
        assert_eq!(options.job(), Path::new("job.wasm"));
        assert_eq!(options.args(), ["--name", "-v", "in"]);
        assert!(!options.verbose);
    }

    #[test]
    fn an_unknown_flag_is_no_job() {
        assert!(Options::try_parse_from(["rsubmit", "--unknown", "job.wasm"]).is_err());
        assert!(Options::try_parse_from(["rsubmit", "--verbose"]).is_err());
    }
}
