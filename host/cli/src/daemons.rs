//! `ingle master`, `worker`, `up`, and the processes that workers start.

mod worker;

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use clap::Args;
use ingle_blocks::SpillFolder;
use ingle_cluster::{
    AccessSpec, Broken, CompileConfig, CompileLimits, DriverConfig, ExecutorConfig, ExecutorUids,
    Lifeline, MasterOptions, MasterPolicy, Note, Offer, Own, PagePort, Standalone, StartError, Way,
    Wish, WorkerOptions,
};
use ingle_core::size::ByteSize;
use ingle_sandbox::{Finished, Interrupt, LogSink, Stream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub use worker::{WorkerArgs, run_worker};

use crate::cluster::{self, Asked};
use crate::config::Config;
use crate::settings::Settings;
use crate::summary::summary;
use crate::{machine, master, submit};

const LOOPBACK: &str = "127.0.0.1";
/// As Spark has it.
const MASTER_PAGE: PagePort = PagePort::From(8080);

/// `ingle master`
#[derive(Args, Clone, Debug)]
pub struct MasterArgs {
    /// The address that it listens on, and by which others find it [default: 127.0.0.1].
    #[arg(long, env = "INGLE_MASTER_HOST")]
    host: Option<String>,
    /// Its port; 0: any that is free [default: 7077].
    #[arg(long, env = "INGLE_MASTER_PORT")]
    port: Option<u16>,
    /// The port of its page for people, or one of the next if it is taken; 0: any that is free; none: no page [default: 8080].
    #[arg(long, value_name = "PORT", env = "INGLE_MASTER_WEBUI_PORT")]
    webui_port: Option<PagePort>,
    /// Where its state and uploaded jobs are kept [default: ~/.local/state/ingle/master].
    #[arg(long, value_name = "DIR", env = "INGLE_MASTER_DIR")]
    dir: Option<PathBuf>,
    /// How long a worker may be silent before it is lost, in seconds [default: 15].
    #[arg(long, value_name = "SECONDS", env = "INGLE_WORKER_LEASE")]
    worker_lease: Option<u64>,
    /// How long an application's driver may be away before it is over, in seconds [default: 10].
    #[arg(long, value_name = "SECONDS", env = "INGLE_APP_LEASE")]
    app_lease: Option<u64>,
    /// A TOML file; its table [master] has the flags' names [default: /etc/ingle/ingle.toml, if there is one].
    #[arg(long, value_name = "FILE", env = "INGLE_CONFIG")]
    config: Option<PathBuf>,
}

/// `ingle up`
#[derive(Args, Clone, Debug)]
pub struct UpArgs {
    /// How many workers.
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: u32,
    /// The master's port; 0: any that is free.
    #[arg(long, default_value_t = 7077)]
    port: u16,
    /// The port of the master's page; the workers' pages have the next ones. 0: any that are free; none: no pages.
    #[arg(long, value_name = "PORT", default_value = "8080")]
    webui_port: PagePort,
    /// Cores of each worker [default: this machine's, shared out].
    #[arg(long)]
    cores: Option<u32>,
    /// Memory of each worker [default: this machine's but for 1 GiB, shared out].
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Where everything is kept [default: a folder that goes at the end].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

type Done = Result<(), String>;

/// Says what daemons do, on stderr.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("INGLE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        // It would say on stderr that stderr can't be written to, and panic for that.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // A second call in one process changes nothing.
    let _ = log.try_init();
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| format!("starting: {e}"))
}

/// What signals wish: the first one drains, the second one ends.
fn wishes() -> Result<watch::Receiver<Wish>, String> {
    let listen = |kind| signal(kind).map_err(|e| format!("waiting for signals: {e}"));
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (wish, wished) = watch::channel(Wish::Run);
    tokio::spawn(async move {
        for next in [Wish::Drain, Wish::End] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            wish.send_replace(next);
        }
        // Still here: the last wish holds.
        std::future::pending::<()>().await;
    });
    Ok(wished)
}

fn warn_if_open(host: &str) {
    let is_loopback =
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !is_loopback {
        tracing::warn!(
            "listening on {host}: whoever reaches it can run jobs here, there is no identity and no encryption yet"
        );
    }
}

fn state_dir(name: &str) -> Result<PathBuf, String> {
    let base = match std::env::var_os("XDG_STATE_HOME").filter(|dir| Path::new(dir).is_absolute()) {
        Some(dir) => PathBuf::from(dir),
        None => std::env::home_dir()
            .filter(|home| home.is_absolute())
            .ok_or("there is no home folder: say where files go, with --dir or --work-dir")?
            .join(".local/state"),
    };
    Ok(base.join("ingle").join(name))
}

/// Where root's workers keep everything.
pub(crate) const ROOTS: &str = "/var/lib/ingle";

/// What this user's daemons and `rsubmit` keep where nobody says where, now or later: a master's secrets, others' files, compiled jobs and their key.
fn usual_folders() -> Vec<PathBuf> {
    let above = |dir: PathBuf| dir.parent().map(Path::to_owned);
    let state = state_dir("master").ok().and_then(above);
    let state = state.into_iter().chain([ROOTS.into()]);
    state.chain(submit::default_cache().and_then(above)).collect()
}

/// Memory that a worker offers if nobody says.
fn usual_memory() -> ByteSize {
    let all = machine::memory().map_or(1 << 30, |all| all.0);
    ByteSize(all.saturating_sub(1 << 30).max(all / 2))
}

/// Runs a master until it is told to end.
pub fn run_master(args: &MasterArgs) -> Done {
    start_log();
    submit::raise_file_limit();
    let file = Config::read(args.config.as_deref())?.master;
    let mut policy = MasterPolicy::default();
    if let Some(seconds) = args.worker_lease.or(file.worker_lease) {
        policy.worker_lease = Duration::from_secs(seconds.max(1));
    }
    if let Some(seconds) = args.app_lease.or(file.app_lease) {
        policy.app_lease = Duration::from_secs(seconds.max(1));
    }
    let host = args.host.clone().or(file.host).unwrap_or_else(|| LOOPBACK.into());
    warn_if_open(&host);
    let dir = match args.dir.clone().or(file.dir) {
        Some(dir) => dir,
        None => state_dir("master")?,
    };
    let port = args.port.or(file.port).unwrap_or(master::PORT);
    let page = args.webui_port.or(file.webui_port).unwrap_or(MASTER_PAGE);
    let options = MasterOptions { host, port, page, dir, policy };
    runtime()?.block_on(async { ingle_cluster::run_master(options, wishes()?, |_, _| {}).await })
}

fn program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|e| format!("finding this program: {e}"))
}

/// Runs a whole cluster on this machine, for development, until it is told to end.
pub fn run_up(args: &UpArgs) -> Done {
    start_log();
    submit::raise_file_limit();
    if args.workers == 0 || args.workers > 256 {
        return Err("--workers: from 1 to 256".into());
    }
    let temporary;
    let dir = match &args.dir {
        Some(dir) => std::path::absolute(dir).map_err(|e| format!("--dir: {e}"))?,
        None => {
            temporary = tempfile::Builder::new()
                .prefix("ingle-up-")
                .tempdir()
                .map_err(|e| format!("making a folder for temporary files: {e}"))?;
            temporary.path().to_owned()
        }
    };
    let cores = args.cores.unwrap_or_else(|| (machine::cores() / args.workers).max(1));
    let memory = match &args.memory {
        Some(text) => text.parse().map_err(|e| format!("--memory {text}: {e}"))?,
        None => ByteSize(usual_memory().0 / u64::from(args.workers)),
    };
    let program = program()?;
    runtime()?.block_on(async {
        let wish = wishes()?;
        let options = MasterOptions {
            host: LOOPBACK.into(),
            port: args.port,
            page: args.webui_port,
            dir: dir.join("master"),
            policy: MasterPolicy::default(),
        };
        let (ready, address) = tokio::sync::oneshot::channel();
        let ready = |address: &str, page: Option<&str>| {
            // Whoever waits for it is this very function.
            let _ = ready.send((address.to_owned(), page.map(str::to_owned)));
        };
        let (master_wish, master_wished) = watch::channel(Wish::Run);
        let mut running = tokio::task::JoinSet::new();
        let master = tokio::spawn(ingle_cluster::run_master(options, master_wished, ready));
        let Ok((address, page)) = address.await else {
            return master.await.map_err(|e| e.to_string())?;
        };
        for number in 1..=args.workers {
            let options = WorkerOptions {
                master: address.clone(),
                host: LOOPBACK.into(),
                port: 0,
                page: args.webui_port.plus(number as u16),
                cores,
                memory,
                work_dir: dir.join(format!("worker-{number}")),
                program: program.clone(),
                required_walls: Vec::new(),
                log_size: None,
                compile: CompileLimits::default(),
                disk: None,
                disk_rate: None,
                // The master's state lies there as well.
                offer: Offer {
                    closed: usual_folders().into_iter().chain([dir.clone()]).collect(),
                    ..Offer::default()
                },
                executor_uids: ExecutorUids::None,
                drain: Duration::ZERO,
            };
            running.spawn(ingle_cluster::run_worker(options, wish.clone()));
        }
        println!("ingle://{address}");
        if let Some(page) = page {
            println!("http://{page}/");
        }
        while let Some(ended) = running.join_next().await {
            ended.map_err(|e| e.to_string())??;
        }
        master_wish.send_replace(Wish::End);
        // The folder goes after it.
        master.await.map_err(|e| e.to_string())?
    })
}

/// SIGTERM ends a driver, which then removes what it hasn't published.
fn end_when_told(remote: ingle_cluster::Remote) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("starting: {e}"))?;
    let wait = move || {
        runtime.block_on(async {
            if let Ok(mut terminate) = signal(SignalKind::terminate()) {
                terminate.recv().await;
                remote.cancel();
            }
        });
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(wait)
        .map(drop)
        .map_err(|e| format!("starting: {e}"))
}

/// What each process of a worker does first, before it opens anything. Gives walls that don't stand.
fn begin() -> Vec<ingle_walls::Down> {
    let down = Vec::from_iter(ingle_walls::close_inherited());
    ingle_walls::end_with_parent();
    down
}

/// A process that a worker starts for an application.
pub fn run_executor() -> Result<(), Broken> {
    let down = begin();
    start_log();
    submit::raise_file_limit();
    let (lifeline, config) = Lifeline::of_this_process::<ExecutorConfig>()?;
    ingle_cluster::run_executor(config, down, lifeline)
}

/// The process that compiles a job for a worker.
pub fn run_compiler() -> Done {
    let down = begin();
    start_log();
    let mut input = std::io::stdin().lock();
    let config: CompileConfig = ingle_cluster::configuration(&mut input)?;
    ingle_cluster::run_compiler(&config, down, input)
}

/// What a driver on a worker prints, to the files that its worker keeps.
struct Streams;

impl LogSink for Streams {
    fn write(&self, stream: Stream, bytes: &[u8]) -> std::io::Result<()> {
        match stream {
            Stream::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }
            Stream::Stderr => std::io::stderr().lock().write_all(bytes),
        }
    }
}

/// A driver that a worker starts, in cluster mode.
pub fn run_driver() -> Result<(), Broken> {
    let down = begin();
    start_log();
    submit::raise_file_limit();
    let (lifeline, mut config) = Lifeline::of_this_process::<DriverConfig>()?;
    let submission = std::mem::take(&mut config.submission);
    let submission = ingle_cluster::submission(&submission, config.secrets.take())?;
    let settings = submission.settings.into_iter().map(|v| (v.name, v.value)).collect();
    let settings = Settings::from_map(settings);
    let asked = Asked::of(&settings, &submission.name).map_err(|failure| failure.text)?;
    let (started, capacity, timeout) = (Instant::now(), asked.executor_memory, asked.timeout);
    let rules = config.rules.unwrap_or_default();
    let mut access = AccessSpec::from_message(submission.access.unwrap_or_default());
    access.cluster.extend(rules.cluster.iter().cloned());
    let offer = ingle_cluster::offer(Some(rules));
    let opened = access.open(Path::new(&config.spill_dir), &offer)?;
    let own = Own {
        write: vec![config.spill_dir.clone().into()],
        sockets: ingle_cluster::sockets(&opened),
        ..Own::default()
    };
    let spill = SpillFolder::new(Path::new(&config.spill_dir))
        .map_err(|e| StartError::from(e).to_string())?;
    // Once the walls stand, it can make none.
    let listener = ingle_cluster::listen(&config.host, asked.driver_port)?;
    ingle_cluster::raise_walls(down, own, &opened.grants, &config.required_walls)?;
    let (worker, admitted) = lifeline.hold();
    let hash = ingle_cluster::component_hash(&config.component)?;
    let (job, component) = runtime()?.block_on(async {
        let job = ingle_cluster::load_job(&worker, hash, Interrupt::Calls).await?;
        Ok::<_, String>((job, ingle_cluster::load_component(&worker, hash).await?))
    })?;
    let standalone = ingle_cluster::StandaloneOptions {
        master: config.master,
        driver: config.driver,
        driver_proof: config.proof,
        attempt: config.attempt,
        driver_host: config.host,
        listener: Some(listener),
        results_disk: Some(config.disk),
        way: Way::Worker(worker),
        notes: Arc::new(|note| match note {
            Note::StageStarted { .. } | Note::StageFinished { .. } => tracing::debug!("{note}"),
            _ => tracing::info!("{note}"),
        }),
        ..cluster::standalone(asked, settings, access, component.into(), spill, Arc::new(Streams))
    };
    let standalone = Standalone::start(job, opened, standalone).map_err(|e| e.to_string())?;
    let remote = standalone.remote();
    end_when_told(remote.clone())?;
    let (done, ended) = std::sync::mpsc::channel();
    let drive = move || {
        // If it never is, the worker is gone, and this process with it.
        let _ = admitted.blocking_recv();
        // Nobody waits any more if it took too long.
        let _ = done.send(standalone.drive());
    };
    std::thread::Builder::new()
        .name("driver".into())
        .stack_size(submit::DRIVER_STACK)
        .spawn(drive)
        .map_err(|e| format!("starting the driver's thread: {e}"))?;
    let waited = match timeout {
        Some(timeout) => ended.recv_timeout(timeout),
        None => ended.recv().map_err(RecvTimeoutError::from),
    };
    let ended = match (waited, timeout) {
        (Err(RecvTimeoutError::Timeout), Some(timeout)) => {
            remote.cancel();
            // Its end, if it comes, says goodbye to the master.
            let _ = ended.recv_timeout(submit::GRACE);
            Err(format!("the driver {}", submit::too_long(timeout)))
        }
        (Ok(ended), _) => ended,
        (Err(_), _) => {
            return Err(Broken::Failed(
                "the driver's thread ended without a word; this is a bug of Ingle's".into(),
            ));
        }
    };
    let told = summary(&submission.name, started.elapsed(), &remote.totals(), capacity);
    told.lines().for_each(|line| tracing::info!("{line}"));
    match ended? {
        Ok(Finished::Ok | Finished::Exit(0)) => Ok(()),
        Ok(Finished::Exit(_)) => {
            Err(Broken::Failed("the driver ended itself by exit, with a failure".into()))
        }
        Ok(Finished::Failed(text)) => Err(Broken::Failed(text)),
        Err(failure) => Err(Broken::Failed(failure.to_string())),
    }
}
