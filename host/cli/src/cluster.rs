//! `rsubmit` on a cluster: the driver here or on a worker, and questions about what runs there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ingle_blocks::SpillFolder;
use ingle_cluster::verbs::{Asker, StatusReply};
use ingle_cluster::{
    Compression, DynamicPolicy, Policy, Standalone, StandaloneOptions, Submission, TaskTime,
    Variable, Way,
};
use ingle_core::size::ByteSize;
use ingle_sandbox::Interrupt;
use ingle_walls::Inherited;

use crate::access;
use crate::console::{Console, DriverLog, TaskLog};
use crate::exit::{Code, Failure};
use crate::options::Options;
use crate::policy::{dynamic, policy};
use crate::settings::{self, Settings};
use crate::submit;
use crate::terminal;
use crate::walls::{Ready, Wanted};
use crate::{job_file, master};

/// How often a driver that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What a job on a cluster asks for.
pub struct Asked {
    pub name: String,
    pub executor_cores: Option<u32>,
    pub executor_memory: ByteSize,
    pub total_executor_cores: Option<u32>,
    pub num_executors: Option<u32>,
    pub driver_cores: u32,
    pub driver_memory: ByteSize,
    pub driver_host: String,
    pub driver_port: u16,
    pub spread_out: bool,
    pub compression: Compression,
    pub policy: Policy,
    pub dynamic: Option<DynamicPolicy>,
    pub reuse: bool,
    pub time: TaskTime,
    pub disk: Option<ByteSize>,
    pub output: Option<ByteSize>,
    pub timeout: Option<Duration>,
    pub interrupt: Interrupt,
}

impl Asked {
    /// Of settings that hold the flags, too. `stem` names a job that has no name.
    pub fn of(settings: &Settings, stem: &str) -> Result<Self, Failure> {
        let memory = |key, flag: &str| match settings.get(key) {
            None => Ok(submit::DEFAULT_MEMORY),
            Some(text) => {
                let size: ByteSize =
                    text.parse().map_err(|e| Failure::usage(format!("{flag} {text}: {e}")))?;
                if size < submit::MIN_MEMORY {
                    let least = submit::MIN_MEMORY;
                    return Err(Failure::usage(format!(
                        "{flag} {text}: no job runs in less than {least}"
                    )));
                }
                Ok(size)
            }
        };
        let port = match settings.get(settings::DRIVER_PORT) {
            None => 0,
            Some(text) => text.parse().map_err(|_| {
                Failure::usage(format!("{} is `{text}`; it is a port", settings::DRIVER_PORT))
            })?,
        };
        settings.check_for_job()?;
        Ok(Self {
            name: settings.get(settings::NAME).unwrap_or(stem).to_owned(),
            executor_cores: settings.count(settings::EXECUTOR_CORES)?,
            executor_memory: memory(settings::EXECUTOR_MEMORY, "--executor-memory")?,
            total_executor_cores: settings.count(settings::TOTAL_CORES)?,
            num_executors: settings.count(settings::INSTANCES)?,
            driver_cores: settings.count(settings::DRIVER_CORES)?.unwrap_or(1),
            driver_memory: memory(settings::DRIVER_MEMORY, "--driver-memory")?,
            driver_host: settings.get(settings::DRIVER_HOST).unwrap_or("127.0.0.1").to_owned(),
            driver_port: port,
            spread_out: settings.switch(settings::SPREAD_OUT, true)?,
            compression: settings.compression()?,
            policy: policy(settings)?,
            dynamic: dynamic(settings)?,
            reuse: settings.switch(settings::REUSE, true)?,
            time: settings.task_time()?,
            disk: settings.size(settings::EXECUTOR_DISK)?,
            output: settings.size(settings::TASK_OUTPUT)?,
            timeout: settings.time(settings::DRIVER_TIMEOUT)?,
            interrupt: settings.interrupt()?,
        })
    }
}

fn gather(options: &Options) -> Result<Settings, Failure> {
    let mut settings = Settings::gather(options.properties_file.as_deref(), &options.conf)?;
    for (key, flag) in [
        (settings::MASTER, &options.master),
        (settings::NAME, &options.name),
        (settings::EXECUTOR_MEMORY, &options.executor_memory),
        (settings::EXECUTOR_CORES, &options.executor_cores),
        (settings::DRIVER_MEMORY, &options.driver_memory),
        (settings::DRIVER_CORES, &options.driver_cores),
        (settings::TOTAL_CORES, &options.total_executor_cores),
        (settings::INSTANCES, &options.num_executors),
        (settings::DEPLOY_MODE, &options.deploy_mode),
        (settings::REQUIRE_WALLS, &options.require_walls),
    ] {
        settings.override_with(key, flag.as_ref());
    }
    Ok(settings)
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::host(format!("starting: {e}")))
}

/// `--status` and `--kill`; none if neither is wanted.
pub fn verb(options: &Options) -> Option<Result<(), Failure>> {
    if options.status.is_none() && options.kill.is_none() {
        return None;
    }
    Some((|| {
        let settings = gather(options)?;
        let address =
            settings.get(settings::MASTER).and_then(master::cluster).ok_or_else(|| {
                Failure::usage(
                    "which cluster? give --master ingle://HOST:PORT, or set INGLE_MASTER",
                )
            })??;
        let host = |why| Failure::new(Code::Job, why);
        runtime()?.block_on(async {
            let mut asker = Asker::connect(&address).await.map_err(Failure::host)?;
            if let Some(id) = &options.status {
                let status = asker.status(id).await.map_err(host)?;
                terminal::print(&format!("{}\n", status_text(&status)));
            } else if let Some(id) = &options.kill {
                terminal::print(&format!("{}\n", asker.kill(id).await.map_err(host)?));
            }
            Ok(())
        })
    })())
}

/// A line for the state, and one for each thing to know beside it.
pub fn status_text(status: &StatusReply) -> String {
    let mut text = format!("{} ({}) is {}", status.id, status.name, status.state);
    if !status.text.is_empty() {
        text += &format!(": {}", status.text);
    }
    if !status.other.is_empty() {
        let what = if status.id.starts_with("app-") { "driver" } else { "application" };
        text += &format!("\n  {what} {}", status.other);
    }
    if !status.worker.is_empty() {
        text += &format!("\n  on {}", status.worker);
    }
    if !status.executors.is_empty() {
        let names: Vec<_> = status.executors.iter().map(ToString::to_string).collect();
        text += &format!("\n  executors {}", names.join(", "));
    }
    text
}

/// A cluster on which a job shall run: where its master is, and what else is asked.
pub struct Wished {
    settings: Settings,
    address: String,
}

/// The cluster that a command line asks for; none if the job shall run on this machine.
pub fn wanted(options: &Options) -> Result<Option<Wished>, Failure> {
    let settings = gather(options)?;
    let address = settings.get(settings::MASTER).and_then(master::cluster).transpose()?;
    Ok(address.map(|address| Wished { settings, address }))
}

/// Runs a job on a cluster.
pub fn run(
    options: &Options,
    Wished { settings, address }: Wished,
    inherited: Result<Inherited, String>,
    console: &Console,
) -> Result<(), Failure> {
    let mode = settings.get(settings::DEPLOY_MODE).unwrap_or("client").to_owned();
    match mode.as_str() {
        "client" => client(options, settings, address, inherited, console),
        "cluster" => on_worker(options, settings, &address, console),
        other => Err(Failure::usage(format!("--deploy-mode {other}: it is client or cluster"))),
    }
}

fn stem(options: &Options) -> String {
    options.job().file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn client(
    options: &Options,
    settings: Settings,
    address: String,
    inherited: Result<Inherited, String>,
    console: &Console,
) -> Result<(), Failure> {
    let started = Instant::now();
    let asked = Asked::of(&settings, &stem(options))?;
    let access = access::spec(options, &settings)?;
    let spill_parent =
        settings.get(settings::LOCAL_DIR).map_or_else(std::env::temp_dir, std::path::PathBuf::from);
    let cache = settings
        .get(settings::CACHE_DIR)
        .map(std::path::PathBuf::from)
        .or_else(submit::default_cache);
    let wanted = Wanted {
        options,
        name: &asked.name,
        spec: &access,
        cache: cache.as_deref(),
        // The driver ends with this process, wherever it is.
        interrupt: Interrupt::Calls,
        spill_parent: &spill_parent,
        master: address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()),
        walls: settings.walls()?,
        inherited,
    };
    // Once the walls stand, a port that only root may have is out of reach.
    let listener = ingle_cluster::listen(&asked.driver_host, asked.driver_port);
    let listener = listener.map_err(Failure::host)?;
    let (ready, signals) = wanted.ready(console)?;
    let Ready { job, bytes, access: opened, spill } = ready;
    let (name, capacity, timeout) = (asked.name.clone(), asked.executor_memory, asked.timeout);
    let (notes, verbose) = (console.clone(), options.verbose);
    let standalone = StandaloneOptions {
        master: address,
        driver: String::new(),
        driver_proof: Vec::new(),
        attempt: 0,
        listener: Some(listener),
        task_log: Some(Arc::new(TaskLog(console.clone()))),
        notes: Arc::new(move |note| submit::tell(note, verbose, &notes)),
        ..standalone(
            asked,
            settings,
            access,
            bytes.into(),
            spill,
            Arc::new(DriverLog(console.clone())),
        )
    };
    let standalone =
        Standalone::start(job, opened, standalone).map_err(|e| Failure::host(e.to_string()))?;
    let remote = standalone.remote();
    let ended = submit::run(move || standalone.drive(), signals, timeout, &remote, console);
    submit::finish(&name, ended, started, &remote, capacity, console)
}

/// All but who hears of tasks and of the cluster.
pub fn standalone(
    asked: Asked,
    settings: Settings,
    access: ingle_cluster::AccessSpec,
    component: Bytes,
    spill: Arc<SpillFolder>,
    driver_log: Arc<dyn ingle_sandbox::LogSink>,
) -> StandaloneOptions {
    StandaloneOptions {
        master: String::new(),
        name: asked.name,
        executor_cores: asked.executor_cores,
        executor_memory: asked.executor_memory,
        total_executor_cores: asked.total_executor_cores,
        num_executors: asked.num_executors,
        spread_out: asked.spread_out,
        driver_memory: asked.driver_memory,
        driver_host: asked.driver_host,
        driver_port: asked.driver_port,
        listener: None,
        way: Way::default(),
        policy: asked.policy,
        dynamic: asked.dynamic,
        reuse: asked.reuse,
        time: asked.time,
        disk: asked.disk,
        output: asked.output,
        interrupt: asked.interrupt,
        compression: asked.compression,
        settings: settings.into_map(),
        spill,
        results_disk: None,
        access,
        component,
        driver: String::new(),
        driver_proof: Vec::new(),
        attempt: 0,
        driver_log,
        task_log: None,
        notes: Arc::new(|_| {}),
    }
}

/// Cluster mode: hands the job over, and says its name.
fn on_worker(
    options: &Options,
    settings: Settings,
    address: &str,
    console: &Console,
) -> Result<(), Failure> {
    let asked = Asked::of(&settings, &stem(options))?;
    if settings.get(settings::REQUIRE_WALLS).is_some() {
        return Err(Failure::usage(
            "--require-walls: in cluster mode the driver runs on a worker, and `ingle worker` has that flag",
        ));
    }
    let access = access::spec(options, &settings)?;
    let job: Bytes = job_file::read(options.job())?.into();
    ingle_sandbox::kind(&job).map_err(|error| {
        Failure::new(Code::NotAJob, format!("{}: {error}", options.job().display()))
    })?;
    let secrets = access.secrets_message();
    let submission = Submission {
        name: asked.name.clone(),
        access: Some(access.to_message().map_err(Failure::usage)?),
        settings: settings
            .iter()
            .map(|(name, value)| Variable { name: name.to_owned(), value: value.to_owned() })
            .collect(),
        has_secrets: secrets.is_some(),
    };
    // Its guest, and as much again for images and results on their way.
    let memory = 2 * asked.driver_memory.0;
    runtime()?.block_on(async {
        let mut asker = Asker::connect(address).await.map_err(Failure::host)?;
        let id = asker
            .submit(&job, asked.driver_cores, memory, options.supervise, &submission, secrets)
            .await
            .map_err(|why| Failure::new(Code::Job, why))?;
        // The name alone is the answer, for scripts.
        terminal::print(&format!("{id}\n"));
        if !options.wait {
            console.say(format_args!(
                "{} is submitted; to see what it prints: ingle logs {id} --follow",
                asked.name
            ));
            return Ok(());
        }
        let mut said = String::new();
        loop {
            let status = asker.status(&id).await.map_err(|why| Failure::new(Code::Job, why))?;
            let text = status_text(&status);
            if text != said {
                console.say(&text);
                said = text;
            }
            if status.over {
                return match status.state.as_str() {
                    "FINISHED" => Ok(()),
                    // Said already.
                    _ => Err(Failure::new(Code::Job, "")),
                };
            }
            tokio::time::sleep(LOOK).await;
        }
    })
}
