//! `ingle worker`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ingle_cluster::{
    CompileLimits, ExecutorUids, LEAST_DISK_RATE, LEAST_LOG, PagePort, WorkerOptions,
};
use ingle_core::size::ByteSize;

use super::{
    Done, LOOPBACK, ROOTS, program, runtime, start_log, state_dir, usual_folders, usual_memory,
    warn_if_open, wishes,
};
use crate::config::{self, Config};
use crate::{access, machine, master, submit};

const PORT: u16 = 7078;
/// As Spark has it.
const PAGE: PagePort = PagePort::From(8081);

/// `ingle worker`
#[derive(Args, Clone, Debug)]
pub struct WorkerArgs {
    /// The master: ingle://HOST:PORT.
    #[arg(value_name = "MASTER", env = "INGLE_MASTER")]
    master: Option<String>,
    /// The address that it listens on, and by which others find it [default: 127.0.0.1].
    #[arg(long, env = "INGLE_WORKER_HOST")]
    host: Option<String>,
    /// Its port; 0: any that is free [default: 7078].
    #[arg(long, env = "INGLE_WORKER_PORT")]
    port: Option<u16>,
    /// The port of its page for people, or one of the next if it is taken; 0: any that is free; none: no page [default: 8081].
    #[arg(long, value_name = "PORT", env = "INGLE_WORKER_WEBUI_PORT")]
    webui_port: Option<PagePort>,
    /// Cores that it offers [default: all of this machine].
    #[arg(long, env = "INGLE_WORKER_CORES")]
    cores: Option<u32>,
    /// Memory that it offers: a number and b, k, m, g or t [default: this machine's but for 1 GiB, or half of a small one].
    #[arg(long, value_name = "SIZE", env = "INGLE_WORKER_MEMORY")]
    memory: Option<String>,
    /// Where executors keep their files, logs and compiled jobs [default: ~/.local/state/ingle/worker-PORT; root's: /var/lib/ingle/worker-PORT].
    #[arg(long, value_name = "DIR", env = "INGLE_WORKER_DIR")]
    work_dir: Option<PathBuf>,
    /// Walls without which it starts no process for an application, as `ingle doctor` names them, or `all`; comma-separated.
    #[arg(long, value_name = "WALLS", env = "INGLE_WORKER_REQUIRE_WALLS", value_delimiter = ',')]
    require_walls: Vec<String>,
    /// What an application may store here of what is shuffled, spilled and cached: a number and b, k, m, g or t [default: 90 % of what is free when it starts].
    #[arg(long, value_name = "SIZE", env = "INGLE_WORKER_DISK")]
    disk: Option<String>,
    /// What the tasks of an executor may write there in a second, for each of its cores, lest they flood it: a number and b, k, m, g or t [default: 256m].
    #[arg(long, value_name = "SIZE", env = "INGLE_WORKER_DISK_RATE")]
    disk_rate: Option<String>,
    /// What each log of an executor or a driver may be long, the middle of a longer one being left out: a number and b, k, m, g or t [default: 64m].
    #[arg(long, value_name = "SIZE", env = "INGLE_WORKER_LOG_SIZE")]
    log_size: Option<String>,
    /// How long compiling a job may take, in seconds [default: 120].
    #[arg(long, value_name = "SECONDS", env = "INGLE_WORKER_COMPILE_TIME")]
    compile_time: Option<u64>,
    /// What memory compiling a job may take, beside 512 MiB, or an eighth, for its process: a number and b, k, m, g or t [default: 3g].
    #[arg(long, value_name = "SIZE", env = "INGLE_WORKER_COMPILE_MEMORY")]
    compile_memory: Option<String>,
    /// Which paths of this host jobs may be granted, with all below: comma-separated, or `none`, or `any`. Never what is around or in the
    /// work folder, /proc, /sys and /dev [default: any].
    #[arg(long, value_name = "PATHS", env = "INGLE_WORKER_GRANTS", value_delimiter = ',')]
    grants: Vec<String>,
    /// Whom jobs may reach from this host, and read from, of what they are granted: comma-separated addresses and ranges, `public` for all
    /// that are public, or `none`, or `any`. But for `any`, web servers and stores are read without a proxy [default: any].
    #[arg(long, value_name = "ADDRESSES", env = "INGLE_WORKER_NET", value_delimiter = ',')]
    net: Vec<String>,
    /// A folder of this host that jobs may be granted by its name, as volume:NAME; :ro if it can only be read. May be repeated, or
    /// comma-separated.
    #[arg(long, value_name = "NAME=PATH[:ro]", env = "INGLE_WORKER_VOLUME", value_delimiter = ',')]
    volume: Vec<String>,
    /// Users that nobody is, as 2010000000-2010099999, of whom each application has one for its processes, with the group of that number, and what compiles
    /// jobs two: for a worker that root starts. It is the same one on all workers of a master that have the same users. They reach what jobs are
    /// granted as that user; `none`: as the worker's [default: 2010000000-2139999999 if root starts it, and those can reach the work folder].
    #[arg(long, value_name = "FIRST-LAST", env = "INGLE_WORKER_EXECUTOR_UIDS")]
    executor_uids: Option<ExecutorUids>,
    /// How long what runs may go on after SIGTERM, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
    /// A TOML file; its table [worker] has the flags' names [default: /etc/ingle/ingle.toml, if there is one].
    #[arg(long, value_name = "FILE", env = "INGLE_CONFIG")]
    config: Option<PathBuf>,
}

/// Where a worker keeps everything if nobody says. Other users get to the folder if it is root's.
fn worker_dir(port: u16) -> Result<PathBuf, String> {
    let name = format!("worker-{port}");
    if !rustix::process::geteuid().is_root() || std::env::var_os("XDG_STATE_HOME").is_some() {
        return state_dir(&name);
    }
    let all = Path::new(ROOTS);
    let made = DirBuilder::new().recursive(true).mode(0o711).create(all);
    made.map_err(|e| format!("making {}: {e}; choose another with --work-dir", all.display()))?;
    Ok(all.join(name))
}

/// Runs a worker until it is told to end.
pub fn run_worker(args: &WorkerArgs) -> Done {
    start_log();
    submit::raise_file_limit();
    let file = Config::read(args.config.as_deref())?.worker;
    let options = options(args, file)?;
    runtime()?.block_on(async { ingle_cluster::run_worker(options, wishes()?).await })
}

/// What the command line says, and else the configuration.
fn options(args: &WorkerArgs, file: config::Worker) -> Result<WorkerOptions, String> {
    let named = args.master.clone().or(file.master);
    let named = named.ok_or("which master? give ingle://HOST:PORT, or set INGLE_MASTER")?;
    let master = master::cluster(&named)
        .ok_or_else(|| format!("{named} is no master: write ingle://HOST:PORT"))?
        .map_err(|failure| failure.text)?;
    let host = args.host.clone().or(file.host).unwrap_or_else(|| LOOPBACK.into());
    warn_if_open(&host);
    let port = args.port.or(file.port).unwrap_or(PORT);
    let cores = args.cores.or(file.cores).unwrap_or_else(machine::cores);
    if cores == 0 {
        return Err("--cores 0: a worker offers at least 1 core".into());
    }
    let memory = match args.memory.clone().or(file.memory) {
        Some(text) => text.parse().map_err(|e| format!("--memory {text}: {e}"))?,
        None => usual_memory(),
    };
    let (has_cores, has_memory) = (machine::cores(), machine::memory());
    if cores > has_cores || has_memory.is_some_and(|all| memory > all) {
        tracing::warn!(
            "{cores} cores and {memory} are offered, and this machine has {has_cores} and {}",
            has_memory.map_or_else(|| "?".into(), |all| all.to_string())
        );
    }
    let work_dir = match args.work_dir.clone().or(file.work_dir) {
        Some(dir) => dir,
        None => worker_dir(port)?,
    };
    let work_dir = std::path::absolute(&work_dir)
        .map_err(|e| format!("--work-dir {}: {e}", work_dir.display()))?;
    let or_file = |flag: &[String], file: Option<Vec<String>>| match flag.is_empty() {
        true => file.unwrap_or_default(),
        false => flag.to_vec(),
    };
    let required_walls = or_file(&args.require_walls, file.require_walls);
    ingle_cluster::check_wall_names(&required_walls)
        .map_err(|why| format!("--require-walls: {why}"))?;
    let disk = args
        .disk
        .clone()
        .or(file.disk)
        .map(|text| text.parse::<ByteSize>().map_err(|e| format!("--disk {text}: {e}")));
    let disk = disk.transpose()?;
    let at_least = |flag: &str, text: Option<String>, least: ByteSize| {
        let size = text.map(|text| match text.parse::<ByteSize>() {
            Ok(size) if size < least => Err(format!("{flag} {text}: it is at least {least}")),
            size => size.map_err(|e| format!("{flag} {text}: {e}")),
        });
        size.transpose()
    };
    let log_size = at_least("--log-size", args.log_size.clone().or(file.log_size), LEAST_LOG)?;
    let rate = args.disk_rate.clone().or(file.disk_rate);
    let disk_rate = at_least("--disk-rate", rate, LEAST_DISK_RATE)?;
    let mut compile = CompileLimits::default();
    if let Some(seconds) = args.compile_time.or(file.compile_time) {
        if seconds == 0 {
            return Err("--compile-time 0: it is at least 1 second".into());
        }
        compile.time = Duration::from_secs(seconds);
    }
    if let Some(text) = args.compile_memory.clone().or(file.compile_memory) {
        compile.memory = text.parse().map_err(|e| format!("--compile-memory {text}: {e}"))?;
    }
    // None of either is said, not left out.
    for (key, list) in [("grants", &file.grants), ("net", &file.net)] {
        if list.as_ref().is_some_and(Vec::is_empty) {
            return Err(format!("{key} = []: write [\"none\"] or [\"any\"]"));
        }
    }
    let mut offer = access::worker_offer(
        &or_file(&args.grants, file.grants),
        &or_file(&args.net, file.net),
        &or_file(&args.volume, file.volume),
    )?;
    offer.closed.extend(usual_folders());
    let executor_uids = match (args.executor_uids, file.executor_uids) {
        (Some(users), _) => users,
        (None, Some(text)) => text.parse().map_err(|why| format!("executor-uids: {why}"))?,
        (None, None) => ExecutorUids::Usual,
    };
    Ok(WorkerOptions {
        offer,
        required_walls,
        log_size,
        compile,
        disk,
        disk_rate,
        executor_uids,
        master,
        host,
        port,
        page: args.webui_port.or(file.webui_port).unwrap_or(PAGE),
        cores,
        memory,
        work_dir,
        program: program()?,
        drain: Duration::from_secs(args.drain),
    })
}
