//! From a command line to a job's end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingle_cluster::{Compression, Local, LocalOptions, Note, Remote, TaskTime};
use ingle_core::size::ByteSize;
use ingle_sandbox::{CodeCache, Finished, GuestFailure, Interrupt};
use ingle_walls::Inherited;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::access;
use crate::console::{Console, DriverLog, TaskLog};
use crate::exit::{Code, Failure};
use crate::options::Options;
use crate::settings::{self, Settings};
use crate::summary::summary;
use crate::walls::{Ready, Walls, Wanted};
use crate::{cluster, machine, master};

/// How often progress lines are drawn.
const TICK: Duration = Duration::from_millis(100);
/// How long a job that was told to stop may take to.
pub const GRACE: Duration = Duration::from_secs(2);
/// The driver's native stack: its guest's (1 MiB) and what host calls need above it.
pub const DRIVER_STACK: usize = 8 << 20;
pub const DEFAULT_MEMORY: ByteSize = ByteSize(1 << 30);
/// Less than this holds no guest at all.
pub const MIN_MEMORY: ByteSize = ByteSize(16 << 20);

/// What flags and settings come to.
struct Plan {
    name: String,
    slots: u32,
    executor_memory: ByteSize,
    driver_memory: ByteSize,
    max_attempts: u32,
    reuse: bool,
    time: TaskTime,
    disk: Option<ByteSize>,
    output: Option<ByteSize>,
    timeout: Option<Duration>,
    interrupt: Interrupt,
    compression: Compression,
    spill_parent: PathBuf,
    cache: Option<PathBuf>,
    walls: Walls,
    settings: Settings,
}

impl Plan {
    fn of(options: &Options) -> Result<Self, Failure> {
        let mut settings = Settings::gather(options.properties_file.as_deref(), &options.conf)?;
        settings.override_with(settings::MASTER, options.master.as_ref());
        settings.override_with(settings::NAME, options.name.as_ref());
        settings.override_with(settings::EXECUTOR_MEMORY, options.executor_memory.as_ref());
        settings.override_with(settings::EXECUTOR_CORES, options.executor_cores.as_ref());
        settings.override_with(settings::DRIVER_MEMORY, options.driver_memory.as_ref());
        settings.override_with(settings::REQUIRE_WALLS, options.require_walls.as_ref());

        let oversubscribe = settings.switch(settings::OVERSUBSCRIBE, false)?;
        let (master, cores) =
            (settings.get(settings::MASTER), settings.get(settings::EXECUTOR_CORES));
        let slots = master::slots(master, cores, machine::cores(), oversubscribe)?;
        let available = machine::memory().filter(|_| !oversubscribe);
        let executor_memory =
            memory(&settings, settings::EXECUTOR_MEMORY, "--executor-memory", available)?;
        let driver_memory =
            memory(&settings, settings::DRIVER_MEMORY, "--driver-memory", available)?;
        settings.check_for_job()?;
        let stem = options.job().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            name: settings.get(settings::NAME).map_or(stem, str::to_owned),
            slots,
            executor_memory,
            driver_memory,
            max_attempts: settings.count(settings::MAX_FAILURES)?.unwrap_or(4),
            reuse: settings.switch(settings::REUSE, true)?,
            time: settings.task_time()?,
            disk: settings.size(settings::EXECUTOR_DISK)?,
            output: settings.size(settings::TASK_OUTPUT)?,
            timeout: settings.time(settings::DRIVER_TIMEOUT)?,
            interrupt: settings.interrupt()?,
            compression: settings.compression()?,
            spill_parent: settings
                .get(settings::LOCAL_DIR)
                .map_or_else(std::env::temp_dir, PathBuf::from),
            cache: settings.get(settings::CACHE_DIR).map(PathBuf::from).or_else(default_cache),
            walls: settings.walls()?,
            settings,
        })
    }
}

/// A size that was set, or the default as far as the machine has it.
fn memory(
    settings: &Settings,
    key: &'static str,
    flag: &str,
    available: Option<ByteSize>,
) -> Result<ByteSize, Failure> {
    let Some(text) = settings.get(key) else {
        return Ok(available.map_or(DEFAULT_MEMORY, |all| DEFAULT_MEMORY.min(ByteSize(all.0 / 2))));
    };
    let size: ByteSize = text.parse().map_err(|e| Failure::usage(format!("{flag} {text}: {e}")))?;
    if size < MIN_MEMORY {
        return Err(Failure::usage(format!(
            "{flag} {text}: no job runs in less than {MIN_MEMORY}"
        )));
    }
    match available {
        Some(all) if size > all => Err(Failure::usage(format!(
            "{flag} {text} is more than the {all} that this machine has; give less, or add --conf \
             ingle.local.oversubscribe=true"
        ))),
        _ => Ok(size),
    }
}

pub fn default_cache() -> Option<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|dir| Path::new(dir).is_absolute()) {
        Some(dir) => PathBuf::from(dir),
        None => std::env::home_dir().filter(|home| home.is_absolute())?.join(".cache"),
    };
    Some(base.join("ingle/code"))
}

pub fn open_cache(dir: Option<&Path>) -> Option<CodeCache> {
    match CodeCache::open(dir?) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!("jobs are compiled at each start, since no cache can be used: {error}");
            None
        }
    }
}

/// Runs a job to its end. `inherited` is what this process's parent left open.
pub fn submit(options: &Options, inherited: Result<Inherited, String>) -> Result<(), Failure> {
    let started = Instant::now();
    let console = Console::new();
    start_log(options.verbose, &console);
    raise_file_limit();
    if let Some(done) = cluster::verb(options) {
        return done;
    }
    if let Some(cluster) = cluster::wanted(options)? {
        return cluster::run(options, cluster, inherited, &console);
    }
    let plan = Plan::of(options)?;
    let access = access::spec(options, &plan.settings)?;
    if options.verbose {
        describe(&plan, options, &console);
    }
    let wanted = Wanted {
        options,
        name: &plan.name,
        spec: &access,
        cache: plan.cache.as_deref(),
        interrupt: plan.interrupt,
        spill_parent: &plan.spill_parent,
        master: None,
        walls: plan.walls.clone(),
        inherited,
    };
    let (ready, signals) = wanted.ready(&console)?;
    let (name, capacity, timeout) = (plan.name.clone(), plan.executor_memory, plan.timeout);
    let local = start(ready, plan, options.verbose, &console)?;
    let remote = local.remote();
    let ended = run(move || Ok(local.drive(GRACE)), signals, timeout, &remote, &console);
    finish(&name, ended, started, &remote, capacity, &console)
}

/// Says how a job ended.
pub fn finish(
    name: &str,
    ended: Ended,
    started: Instant,
    remote: &Remote,
    capacity: ByteSize,
    console: &Console,
) -> Result<(), Failure> {
    // Whoever still runs leaves nothing behind.
    remote.close();
    console.clear();
    let outcome = outcome(name, ended);
    if let Err(failure) = &outcome
        && !failure.text.is_empty()
    {
        console.say(format_args!("error: {failure}"));
    }
    console.say(summary(name, started.elapsed(), &remote.totals(), capacity));
    // Said already.
    outcome.map_err(|failure| Failure { text: String::new(), ..failure })
}

/// Says what a user wants to hear of what happens.
pub fn tell(note: &Note, verbose: bool, console: &Console) {
    match note {
        _ if verbose => console.say(note),
        // Where it happened is said if it happens once too often.
        Note::TaskRetried { .. } => {
            let text = note.to_string();
            console.say(format_args!("warning: {}", text.lines().next().unwrap_or_default()));
        }
        Note::Cluster(text) => console.say(text),
        _ => {}
    }
}

fn start(ready: Ready, plan: Plan, verbose: bool, console: &Console) -> Result<Local, Failure> {
    let Ready { job, access, spill, .. } = ready;
    let notes = console.clone();
    let options = LocalOptions {
        slots: plan.slots,
        executor_memory: plan.executor_memory,
        driver_memory: plan.driver_memory,
        max_attempts: plan.max_attempts,
        reuse: plan.reuse,
        time: plan.time,
        disk: plan.disk,
        output: plan.output,
        settings: plan.settings.into_map(),
        compression: plan.compression,
        spill,
        grants: access.grants,
        capabilities: access.capabilities,
        driver_log: Arc::new(DriverLog(console.clone())),
        task_log: Arc::new(TaskLog(console.clone())),
        notes: Box::new(move |note| tell(note, verbose, &notes)),
    };
    Local::start(job, options).map_err(|e| Failure::host(e.to_string()))
}

/// How a run came to its end.
pub enum Ended {
    Driver(Result<Finished, GuestFailure>),
    /// The cluster ended it.
    Cluster(String),
    /// The thread of the driver is gone without a word: a bug of ours.
    Lost,
    /// It took longer than this.
    Timeout(Duration),
    Signal(Code),
}

/// What may end a job from outside. Listened for before anything is made that must be removed again.
pub struct Signals {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub fn listen() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        let hangup = signal(SignalKind::hangup())?;
        drop(entered);
        Ok(Self { runtime, interrupt, terminate, hangup })
    }

    /// Waits for something, unless one of them comes before.
    pub fn race<T>(&mut self, other: impl Future<Output = T>) -> Result<T, Code> {
        let Self { runtime, interrupt, terminate, hangup } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => Err(Code::Interrupted),
                _ = terminate.recv() => Err(Code::Terminated),
                _ = hangup.recv() => Err(Code::HungUp),
                done = other => Ok(done),
            }
        })
    }
}

/// How a driver ended, or why the cluster ended it.
pub type Driven = Result<Result<Finished, GuestFailure>, String>;

/// Runs the driver on a thread of its own, and waits here for it, for a signal, or for the end of its time.
pub fn run(
    drive: impl FnOnce() -> Driven + Send + 'static,
    signals: Signals,
    timeout: Option<Duration>,
    remote: &Remote,
    console: &Console,
) -> Ended {
    let (done, ended) = oneshot::channel();
    let driver = move || {
        // Nobody waits any more if a signal came.
        let _ = done.send(drive());
    };
    let thread =
        std::thread::Builder::new().name("driver".into()).stack_size(DRIVER_STACK).spawn(driver);
    if let Err(error) = thread {
        tracing::error!("starting the driver's thread: {error}");
        return Ended::Lost;
    }
    let mut signals = signals;
    let (ended, asked) = {
        let Signals { runtime, interrupt, terminate, hangup } = &mut signals;
        runtime.block_on(wait(ended, [interrupt, terminate, hangup], timeout, remote, console))
    };
    if let Ended::Signal(code) = ended {
        // To remove what is far away may take long: whoever asks a third time doesn't want to wait for it.
        let give_up = move || {
            let Signals { runtime, mut interrupt, mut terminate, .. } = signals;
            for _ in asked..3 {
                runtime.block_on(async {
                    tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
                });
            }
            std::process::exit(u8::from(code).into());
        };
        if let Err(error) = std::thread::Builder::new().name("signals".into()).spawn(give_up) {
            tracing::warn!("signals go unheard: {error}");
        }
    }
    ended
}

/// How it ended, and how often it was asked to.
async fn wait(
    mut ended: oneshot::Receiver<Driven>,
    [interrupt, terminate, hangup]: [&mut Signal; 3],
    timeout: Option<Duration>,
    remote: &Remote,
    console: &Console,
) -> (Ended, u32) {
    let mut tick = tokio::time::interval(TICK);
    let mut overtime = std::pin::pin!(tokio::time::sleep(timeout.unwrap_or_default()));
    let why = loop {
        tokio::select! {
            result = &mut ended => {
                let ended = match result {
                    Ok(Ok(driven)) => Ended::Driver(driven),
                    Ok(Err(why)) => Ended::Cluster(why),
                    Err(_) => Ended::Lost,
                };
                return (ended, 0);
            }
            _ = interrupt.recv() => break Ended::Signal(Code::Interrupted),
            _ = terminate.recv() => break Ended::Signal(Code::Terminated),
            _ = hangup.recv() => break Ended::Signal(Code::HungUp),
            () = &mut overtime, if timeout.is_some() => {
                break Ended::Timeout(timeout.unwrap_or_default());
            }
            _ = tick.tick(), if console.is_live() => console.show(&remote.progress()),
        }
    };
    console.clear();
    console.say("cancelling; once more to give up at once");
    remote.cancel();
    // The driver waits for tasks as long as the grace lasts; it may itself not stop.
    let asked = tokio::select! {
        _ = &mut ended => 1,
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 2,
        _ = tokio::time::sleep(GRACE + GRACE / 4) => 1,
    };
    (why, asked)
}

/// What became of a driver that took longer than it may.
pub fn too_long(timeout: Duration) -> String {
    format!(
        "was ended: it ran longer than {} allows, {:.1} s",
        settings::DRIVER_TIMEOUT,
        timeout.as_secs_f64()
    )
}

fn outcome(name: &str, ended: Ended) -> Result<(), Failure> {
    match ended {
        Ended::Driver(Ok(Finished::Ok)) => Ok(()),
        Ended::Driver(Ok(Finished::Exit(0))) => Ok(()),
        Ended::Driver(Ok(Finished::Exit(_))) => Err(Failure::new(
            Code::Job,
            format!("the driver of {name} ended itself by exit, with a failure"),
        )),
        Ended::Driver(Ok(Finished::Failed(text))) => Err(Failure::new(Code::Job, hinted(text))),
        Ended::Driver(Err(failure)) => {
            Err(Failure::new(Code::Job, format!("the driver of {name}: {failure}")))
        }
        Ended::Cluster(why) => Err(Failure::new(Code::Job, format!("{name} was ended: {why}"))),
        Ended::Lost => {
            Err(Failure::host("the driver's thread ended without a word; this is a bug of Ingle's"))
        }
        Ended::Timeout(timeout) => {
            Err(Failure::new(Code::Job, format!("{name} {}", too_long(timeout))))
        }
        Ended::Signal(code) => Err(signalled(name, code)),
    }
}

/// What became of a job that a signal ended.
pub fn signalled(name: &str, code: Code) -> Failure {
    let how = if code == Code::Interrupted { "interrupted" } else { "terminated" };
    Failure::new(code, format!("{name} was {how}"))
}

/// Adds what to type where the job's own standard library knows only a number.
fn hinted(text: String) -> String {
    // What std::fs says of a path outside of all granted folders.
    let is_refusal = text.contains("(os error 76)") || text.contains("pre-opened file descriptor");
    if !is_refusal {
        return text;
    }
    format!(
        "{text}\nhint: std::fs reaches folders (not single files) that are granted: --allow-read=DIR, and \
         --allow-write=DIR to change what is in it"
    )
}

fn describe(plan: &Plan, options: &Options, console: &Console) {
    console.say(format_args!("{}: {}", plan.name, options.job().display()));
    console.say(format_args!(
        "  {} task slots, executor memory {}, driver memory {}",
        plan.slots, plan.executor_memory, plan.driver_memory
    ));
    console.say(format_args!("  spills to {}", plan.spill_parent.display()));
    match &plan.cache {
        Some(dir) => console.say(format_args!("  compiled jobs in {}", dir.display())),
        None => console.say("  compiled jobs are not kept: there is no home folder"),
    }
    if plan.walls == Walls::Off {
        console.say("  no walls around this process");
    }
    for (key, value) in plan.settings.iter() {
        console.say(format_args!("  {key}={value}"));
    }
    for (flag, paths) in
        [("--allow-read", &options.allow_read), ("--allow-write", &options.allow_write)]
    {
        for path in paths {
            console.say(format_args!("  {flag}={}", path.display()));
        }
    }
    for (flag, names) in [("--allow-env", &options.allow_env), ("--allow-net", &options.allow_net)]
    {
        for name in names {
            console.say(format_args!("  {flag}={name}"));
        }
    }
    for secret in &options.secret {
        // Where its value comes from, never the value.
        console.say(format_args!("  --secret={secret}"));
    }
    for volume in &options.volume {
        console.say(format_args!("  --volume={volume}"));
    }
}

/// `INGLE_LOG` says what is logged, as `RUST_LOG` does elsewhere.
fn start_log(verbose: bool, console: &Console) {
    let default = if verbose { "info" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_env("INGLE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let console = console.clone();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .without_time()
        .with_ansi(console.is_live())
        .with_writer(move || console.clone());
    // A second call in one process, as in tests, changes nothing.
    let _ = log.try_init();
}

/// Images and spill files are open files, and a job may have many.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // As far as the system lets us; a job that needs more is told so when it does.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
