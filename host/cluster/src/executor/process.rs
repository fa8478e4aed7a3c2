//! `ingle executor`: a process of one application on a worker. It finds its driver, loads the job, and runs what it is told until the
//! driver ends the connection.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ingle_blocks::{BlockStore, Disk, ShuffleDir, usual_disk};
use ingle_core::ids::{ExecutorId, StageId};
use ingle_core::memory::MemoryPool;
use ingle_core::size::ByteSize;
use ingle_proto::v1;
use ingle_proto::v1::driver_client::DriverClient;
use ingle_proto::v1::executor_command::Command;
use ingle_proto::v1::executor_report::Report;
use ingle_sandbox::{Image, Interrupt, LogSink};
use ingle_walls::Down;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tonic::Streaming;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::fetch::Workers;
use super::images::{self, Found, Images, NoImage};
use super::reports::{RemoteLog, Reporter};
use super::time::PATIENCE;
use super::{ExecutorOptions, Slots, TaskTime, usage};
use crate::access::{self, Access, AccessSpec};
use crate::broken::Broken;
use crate::driver::{ExecutorLink, Opened, Reports};
use crate::lifeline::{Lifeline, Worker};
use crate::loading::{self, hash};
use crate::protocol;
use crate::rpc::{self, Backoff, Secret, SendSecret, Way};
use crate::walls::{self, Own};

type Client = DriverClient<InterceptedService<Channel, SendSecret>>;

/// How long a driver is looked for that should be there.
const FIND_DRIVER: Duration = Duration::from_secs(20);

/// Runs until the driver, or the worker, wants it no more. The error says why it can't.
///
/// The process must have no other thread. `down` are walls that don't stand already. From its worker it has this `lifeline`: the driver is first
/// asked without it; once the walls stand, there is no other way out. No guest runs before the worker has put the process where it belongs.
pub fn run(config: v1::ExecutorConfig, down: Vec<Down>, lifeline: Lifeline) -> Result<(), Broken> {
    let dir = Path::new(&config.application_dir);
    let rules = config.rules.clone().unwrap_or_default();
    let mut access = AccessSpec::from_message(learn_access(&config)?);
    access.cluster.extend(rules.cluster.iter().cloned());
    access.cluster.extend([config.driver_address.clone(), config.worker_address.clone()]);
    let offer = access::offer(Some(rules));
    let access = access
        .open(dir, &offer)
        .map_err(|broken| broken.and(&format!(" (on the worker {})", config.worker_address)))?;
    let own =
        Own { write: vec![dir.to_owned()], sockets: walls::sockets(&access), ..Own::default() };
    walls::raise(down, own, &access.grants, &config.required_walls)?;
    let (worker, admitted) = lifeline.hold();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| format!("starting: {e}"))?;
    let ended = runtime.block_on(serve(config, access, worker, admitted));
    // Slots may be in the middle of a guest.
    runtime.shutdown_background();
    Ok(ended?)
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
        let mut driver = find_driver(&Way::Own, &config.driver_address, secret.sender()?).await?;
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
    worker: Arc<Worker>,
    admitted: oneshot::Receiver<()>,
) -> Result<(), String> {
    let way = Way::Worker(worker.clone());
    let secret =
        Secret::from_bytes(config.secret.to_vec()).ok_or("its configuration has no secret")?;
    let sender = secret.sender()?;
    let driver = find_driver(&way, &config.driver_address, sender.clone()).await?;
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
        match start(&config, access, worker, admitted, &driver, sender, welcome, &reporter).await {
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
        Ended::Unwanted => PATIENCE,
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
async fn find_driver(way: &Way, address: &str, secret: SendSecret) -> Result<Client, String> {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
    let deadline = tokio::time::Instant::now() + FIND_DRIVER;
    loop {
        match way.connect(address).await {
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

/// What may be stored: what the job says, and never more than the worker does.
fn disk(dir: &Path, worker: u64, rate: u64, job: Option<u64>) -> Disk {
    let worker = if worker == 0 { usual_disk(dir) } else { worker };
    Disk::shared(
        dir,
        job.unwrap_or(u64::MAX),
        "raise ingle.executor.disk, or use more executors",
        worker,
        "that is its share of what this worker's --disk allows an application; use executors on more workers",
        (rate > 0).then_some(rate),
    )
}

struct Executor {
    slots: Slots,
    /// Why it can't go on.
    stuck: mpsc::UnboundedReceiver<String>,
    store: BlockStore,
    images: Images,
    driver: Client,
    link: Arc<dyn ExecutorLink>,
}

#[allow(clippy::too_many_arguments)]
async fn start(
    config: &v1::ExecutorConfig,
    access: Access,
    worker: Arc<Worker>,
    admitted: oneshot::Receiver<()>,
    driver: &Client,
    secret: SendSecret,
    welcome: v1::Welcome,
    reporter: &Arc<Reporter>,
) -> Result<Executor, String> {
    let hash = hash(&welcome.component)?;
    let interrupt = if welcome.epoch_interruption { Interrupt::Epoch } else { Interrupt::Calls };
    let job = loading::load(&worker, hash, interrupt).await?;
    let way = Way::Worker(worker);
    let compression = protocol::shuffle_compression(welcome.compression());
    let dir = Path::new(&config.application_dir);
    let pool = MemoryPool::new(ByteSize(config.memory));
    can_write(dir)?;
    let disk = disk(dir, config.disk, config.disk_rate, welcome.executor_disk);
    let shuffle = ShuffleDir::create(&dir.join("shuffle")).map_err(|e| e.to_string())?;
    let store = BlockStore::with_shuffle_dir(pool.clone(), dir, shuffle)
        .map_err(|e| e.to_string())?
        .charging(&disk)
        .compressed(compression);
    let log: Arc<dyn LogSink> =
        Arc::new(RemoteLog { to: welcome.forward_logs.then(|| reporter.clone()) });
    let reports: Arc<dyn Reports> = reporter.clone();
    let reports: Weak<dyn Reports> = Arc::downgrade(&reports);
    admitted.await.map_err(|_| "its worker is gone")?;
    let (tell_stuck, stuck) = mpsc::unbounded_channel();
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
            way.clone(),
            Handle::current(),
            pool.clone(),
        ))),
        time: TaskTime {
            wall: welcome.task_timeout_nanos.map(Duration::from_nanos),
            processor: welcome.task_cpu_timeout_nanos.map(Duration::from_nanos),
        },
        output: welcome.task_output,
        stuck: Some(tell_stuck),
    })
    .map_err(|e| format!("starting the task slots: {e}"))?;
    reporter.watch(store.clone(), pool.clone());
    tokio::spawn(usage::tell(config.clone(), secret, way, store.clone(), disk.clone()));
    let link = slots.link();
    let images = Images::new(images::dir(dir), hash, pool, config.executor).charging(disk);
    Ok(Executor { slots, stuck, store, images, driver: driver.clone(), link })
}

impl Executor {
    /// Does what it is told, in the order in which it is told.
    async fn obey(&mut self, mut commands: Streaming<v1::ExecutorCommands>) -> Ended {
        loop {
            let batch = tokio::select! {
                batch = commands.message() => batch,
                Some(why) = self.stuck.recv() => return Ended::Stuck(why),
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
                self.link.send(command, image);
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
