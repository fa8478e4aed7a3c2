//! `ingle executor`: a process of one application on a worker. It finds its driver, loads the job, and runs what it is told until the
//! driver ends the connection.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ingle_blocks::{BlockStore, ShuffleDir};
use ingle_core::ids::{ExecutorId, StageId, TaskId};
use ingle_core::memory::MemoryPool;
use ingle_core::size::ByteSize;
use ingle_proto::v1;
use ingle_proto::v1::driver_client::DriverClient;
use ingle_proto::v1::executor_command::Command;
use ingle_proto::v1::executor_report::Report;
use ingle_sandbox::{Image, Interrupt, LogSink};
use ingle_walls::Down;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Streaming;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::fetch::Workers;
use super::images::{self, Found, Images, NoImage};
use super::reports::{RemoteLog, Reporter};
use super::{ExecutorOptions, Slots, usage};
use crate::access::{Access, AccessSpec};
use crate::driver::{ExecutorLink, Opened, Reports};
use crate::loading::{Loader, hash};
use crate::protocol;
use crate::rpc::{self, Backoff, Secret, SendSecret};
use crate::walls::{self, Own};

type Client = DriverClient<InterceptedService<Channel, SendSecret>>;

/// How long a driver is looked for that should be there.
const FIND_DRIVER: Duration = Duration::from_secs(20);
/// How long tasks that were told to stop may take to.
const GRACE: Duration = Duration::from_millis(500);

/// Runs until the driver, or the worker, wants it no more. The error says why it can't.
///
/// The process must have no other thread. `down` are walls that don't stand already; `walled` is called once the others do; what it
/// gives says when the worker has put the process where it belongs: no guest runs before.
pub fn run(
    config: v1::ExecutorConfig,
    down: Vec<Down>,
    walled: impl FnOnce() -> oneshot::Receiver<()>,
) -> Result<(), String> {
    let dir = Path::new(&config.application_dir);
    let access = AccessSpec::from_message(learn_access(&config)?);
    let access =
        access.open(dir).map_err(|e| format!("{e} (on the worker {})", config.worker_address))?;
    let own = Own { read: vec![PathBuf::from(&config.code_dir)], write: vec![dir.to_owned()] };
    walls::raise(down, own, &access.grants, &config.required_walls)?;
    let admitted = walled();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| format!("starting: {e}"))?;
    let ended = runtime.block_on(serve(config, access, admitted));
    // Slots may be in the middle of a guest.
    runtime.shutdown_background();
    ended
}

/// Asks the driver what the job may touch, in a runtime that ends with its threads: they are outside of the walls.
fn learn_access(config: &v1::ExecutorConfig) -> Result<v1::Access, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("starting: {e}"))?;
    let access = runtime.block_on(async {
        let secret =
            Secret::from_bytes(config.secret.to_vec()).ok_or("its configuration has no secret")?;
        let mut driver = find_driver(&config.driver_address, secret.sender()?).await?;
        let asked = v1::GetAccessRequest { protocol: rpc::PROTOCOL, executor: config.executor };
        let access = driver.get_access(asked).await.map_err(|status| {
            format!("the driver at {}: {}", config.driver_address, rpc::words(&status))
        })?;
        Ok(access.into_inner())
    });
    runtime.shutdown_timeout(FIND_DRIVER);
    access
}

async fn serve(
    config: v1::ExecutorConfig,
    access: Access,
    admitted: oneshot::Receiver<()>,
) -> Result<(), String> {
    let secret =
        Secret::from_bytes(config.secret.to_vec()).ok_or("its configuration has no secret")?;
    let sender = secret.sender()?;
    let driver = find_driver(&config.driver_address, sender.clone()).await?;
    let (reporter, outgoing) = Reporter::new();
    reporter.tell(Report::Register(v1::RegisterExecutor {
        protocol: rpc::PROTOCOL,
        executor: config.executor,
        slots: config.slots,
        worker: config.worker,
        worker_address: config.worker_address.clone(),
    }));
    let mut commands = driver
        .clone()
        .attach(outgoing)
        .await
        .map_err(|status| {
            format!("the driver at {}: {}", config.driver_address, rpc::words(&status))
        })?
        .into_inner();
    let welcome = match commands.message().await {
        Ok(Some(v1::ExecutorCommands { welcome: Some(welcome), .. })) => welcome,
        Ok(_) => return Err("the driver said nothing".into()),
        Err(status) => return Err(format!("the driver: {}", rpc::words(&status))),
    };
    let mut executor =
        match start(&config, access, admitted, &driver, sender, welcome, &reporter).await {
            Ok(executor) => executor,
            Err(why) => {
                reporter.tell(Report::Broken(why.clone()));
                reporter.flush().await;
                return Err(why);
            }
        };
    reporter.tell(Report::Ready(v1::Ready {}));
    let ended = executor.obey(commands).await;
    let Executor { slots, store, .. } = executor;
    let grace = match &ended {
        Ended::Unwanted => GRACE,
        Ended::Stuck(why) => {
            tracing::warn!("{why}");
            reporter.tell(Report::Leaving(why.clone()));
            reporter.flush().await;
            // They had theirs.
            Duration::ZERO
        }
    };
    let stopped = tokio::task::spawn_blocking(move || slots.stop(grace)).await.unwrap_or(false);
    if !stopped {
        tracing::warn!("a task runs on without calling its host; it ends with this process");
    }
    store.remove_spilled();
    match ended {
        Ended::Unwanted => Ok(()),
        Ended::Stuck(why) => Err(why),
    }
}

/// Why an executor ends.
enum Ended {
    /// The driver has no more work, or is gone: either way nobody waits for us.
    Unwanted,
    /// A task doesn't stop.
    Stuck(String),
}

/// The driver waits for its executors: it is there, or will never be.
async fn find_driver(address: &str, secret: SendSecret) -> Result<Client, String> {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
    let deadline = tokio::time::Instant::now() + FIND_DRIVER;
    loop {
        match rpc::connect(address).await {
            Ok(channel) => {
                return Ok(DriverClient::with_interceptor(channel, secret)
                    .max_decoding_message_size(rpc::MAX_MESSAGE));
            }
            Err(why) if tokio::time::Instant::now() > deadline => {
                return Err(format!(
                    "the driver can't be reached from this worker: {why}; if it runs where workers can't connect to \
                     by its default address, set ingle.driver.host"
                ));
            }
            Err(_) => tokio::time::sleep(backoff.next()).await,
        }
    }
}

/// Whether tasks may store something: an executor on a full disk is no use, and is tried again elsewhere or later.
fn can_write(dir: &Path) -> Result<(), String> {
    let probe = dir.join(format!("probe-{}", std::process::id()));
    let written = std::fs::write(&probe, [0; 4096]);
    // It may never have been made.
    let _ = std::fs::remove_file(&probe);
    written.map_err(|e| format!("writing {}: {e}", dir.display()))
}

struct Executor {
    slots: Slots,
    store: BlockStore,
    images: Images,
    driver: Client,
    link: Arc<dyn ExecutorLink>,
}

async fn start(
    config: &v1::ExecutorConfig,
    access: Access,
    admitted: oneshot::Receiver<()>,
    driver: &Client,
    secret: SendSecret,
    welcome: v1::Welcome,
    reporter: &Arc<Reporter>,
) -> Result<Executor, String> {
    let hash = hash(&welcome.component)?;
    let interrupt = if welcome.epoch_interruption { Interrupt::Epoch } else { Interrupt::Calls };
    let loader = Loader {
        worker: config.worker_address.clone(),
        secret: secret.clone(),
        id: config.application.clone(),
        code: PathBuf::from(&config.code_dir),
    };
    let job = loader.load(hash, interrupt).await?;
    let compression = protocol::shuffle_compression(welcome.compression());
    let dir = Path::new(&config.application_dir);
    let pool = MemoryPool::new(ByteSize(config.memory));
    can_write(dir)?;
    let shuffle = ShuffleDir::create(&dir.join("shuffle")).map_err(|e| e.to_string())?;
    let store = BlockStore::with_shuffle_dir(pool.clone(), dir, shuffle)
        .map_err(|e| e.to_string())?
        .compressed(compression);
    let log: Arc<dyn LogSink> =
        Arc::new(RemoteLog { to: welcome.forward_logs.then(|| reporter.clone()) });
    let reports: Arc<dyn Reports> = reporter.clone();
    let reports: Weak<dyn Reports> = Arc::downgrade(&reports);
    admitted.await.map_err(|_| "its worker is gone")?;
    let slots = Slots::start(ExecutorOptions {
        id: ExecutorId(config.executor),
        slots: config.slots,
        job,
        pool: pool.clone(),
        store: store.clone(),
        opened: Arc::new(Opened::new(access.grants, pool.clone())),
        capabilities: access.capabilities,
        log,
        reuse: welcome.reuse,
        reports,
        here: config.worker_address.clone(),
        workers: Some(Arc::new(Workers::new(
            config.application.clone(),
            secret.clone(),
            Handle::current(),
            pool.clone(),
        ))),
        patience: None,
    })
    .map_err(|e| format!("starting the task slots: {e}"))?;
    reporter.watch(store.clone(), pool.clone());
    tokio::spawn(usage::tell(config.clone(), secret, store.clone()));
    let link = slots.link();
    let images = Images::new(images::dir(dir), hash, pool, config.executor);
    Ok(Executor { slots, store, images, driver: driver.clone(), link })
}

impl Executor {
    /// Does what it is told, in the order in which it is told.
    async fn obey(&mut self, mut commands: Streaming<v1::ExecutorCommands>) -> Ended {
        // Killed tasks, and when each should have stopped.
        let mut killed: VecDeque<(Instant, TaskId)> = VecDeque::new();
        loop {
            let due = killed.front().map(|(due, _)| *due);
            let batch = tokio::select! {
                batch = commands.message() => batch,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    match killed.pop_front() {
                        Some((_, task)) if self.slots.runs(task) => return Ended::stuck(task),
                        _ => continue,
                    }
                }
            };
            let batch = match batch {
                Ok(Some(batch)) => batch.commands,
                Ok(None) => return Ended::Unwanted,
                Err(status) => {
                    tracing::info!("the driver is gone: {}", rpc::words(&status));
                    return Ended::Unwanted;
                }
            };
            for command in batch {
                let mut image = None;
                if let Some(Command::Describe(description)) = &command.command
                    && let (Some(number), Some(manifest)) =
                        (description.image, description.manifest.clone())
                {
                    match self.image(number, manifest).await {
                        Ok(found) => image = Some(found),
                        Err(none) => {
                            tracing::warn!("{}: {}", StageId(description.stage), none.why);
                            self.slots.broken(StageId(description.stage), none);
                            continue;
                        }
                    }
                }
                let kill = match &command.command {
                    Some(Command::Kill(task)) => protocol::task_id(Some(*task)).ok(),
                    _ => None,
                };
                self.link.send(command, image);
                if let Some(task) = kill.filter(|task| self.slots.runs(*task)) {
                    killed.push_back((Instant::now() + GRACE, task));
                }
            }
        }
    }

    async fn image(&mut self, number: u32, manifest: v1::ImageManifest) -> Result<Image, NoImage> {
        let mut partial = match self.images.find(manifest)? {
            Found::Whole(image) => return Ok(image),
            Found::Partial(partial) => partial,
        };
        let request = v1::FetchPiecesRequest { image: number, pieces: partial.missing.clone() };
        if !partial.missing.is_empty() {
            let failed =
                |status| format!("the driver's memory didn't come: {}", rpc::words(&status));
            let mut chunks = self.driver.fetch_pieces(request).await.map_err(failed)?.into_inner();
            while let Some(chunk) = chunks.message().await.map_err(failed)? {
                partial.take(&chunk.data)?;
            }
        }
        Ok(self.images.complete(*partial)?)
    }
}

impl Ended {
    fn stuck(task: TaskId) -> Self {
        Self::Stuck(format!(
            "{task} was killed and asks its host for nothing, so that only its process can be ended; another executor takes its place. With --conf \
             ingle.task.interrupt=epoch tasks stop anywhere, and run slower"
        ))
    }
}
