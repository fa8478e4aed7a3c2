//! `ingle executor`: a process of one application on a worker. It finds its driver, loads the job, and runs what it is told until the
//! driver ends the connection.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ingle_blocks::{BlockStore, ShuffleDir};
use ingle_core::ids::{ExecutorId, StageId};
use ingle_core::memory::MemoryPool;
use ingle_core::size::ByteSize;
use ingle_proto::v1;
use ingle_proto::v1::driver_client::DriverClient;
use ingle_proto::v1::executor_command::Command;
use ingle_proto::v1::executor_report::Report;
use ingle_sandbox::{
    CodeCache, ComponentHash, Image, Job, LoadError, LogSink, MAX_COMPONENT_BYTES, Sandbox,
};
use ingle_walls::Down;
use tokio::runtime::Handle;
use tonic::Streaming;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::fetch::Workers;
use super::images::{self, Found, Images, NoImage};
use super::reports::{RemoteLog, Reporter};
use super::{ExecutorOptions, Slots, usage};
use crate::access::{Access, AccessSpec};
use crate::driver::{ExecutorLink, Opened, Reports};
use crate::protocol;
use crate::rpc::{self, Backoff, Secret, SendSecret};
use crate::walls;

type Client = DriverClient<InterceptedService<Channel, SendSecret>>;

/// How long a driver is looked for that should be there.
const FIND_DRIVER: Duration = Duration::from_secs(20);
/// How long tasks that were told to stop may take to, at the end.
const GRACE: Duration = Duration::from_millis(500);

/// Runs until the driver, or the worker, wants it no more. The error says why it can't.
///
/// The process must have no other thread. `down` are walls that don't stand already; `walled` is called once the others do.
pub fn run(
    config: v1::ExecutorConfig,
    down: Vec<Down>,
    walled: impl FnOnce(),
) -> Result<(), String> {
    let dir = Path::new(&config.application_dir);
    let access = AccessSpec::from_message(learn_access(&config)?);
    let access =
        access.open(dir).map_err(|e| format!("{e} (on the worker {})", config.worker_address))?;
    let folders = [&config.application_dir, &config.component_dir, &config.code_dir];
    let folders = folders.into_iter().map(PathBuf::from);
    walls::raise(down, folders, &access.grants, &config.required_walls)?;
    walled();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| format!("starting: {e}"))?;
    let ended = runtime.block_on(serve(config, access));
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

async fn serve(config: v1::ExecutorConfig, access: Access) -> Result<(), String> {
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
    let mut executor = match start(&config, access, &driver, sender, welcome, &reporter).await {
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
    let stopped = tokio::task::spawn_blocking(move || slots.stop(GRACE)).await.unwrap_or(false);
    if !stopped {
        tracing::warn!("a task runs on without calling its host; it ends with this process");
    }
    store.remove_spilled();
    ended
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
    driver: &Client,
    secret: SendSecret,
    welcome: v1::Welcome,
    reporter: &Arc<Reporter>,
) -> Result<Executor, String> {
    let hash = <[u8; 32]>::try_from(welcome.component.as_slice())
        .map_err(|_| "the driver named no component")?;
    let hash = ComponentHash::from_bytes(hash);
    let job = load(config, driver.clone(), hash).await?;
    let compression = protocol::shuffle_compression(welcome.compression());
    let dir = Path::new(&config.application_dir);
    let pool = MemoryPool::new(ByteSize(config.memory));
    let shuffle = ShuffleDir::create(&dir.join("shuffle")).map_err(|e| e.to_string())?;
    let store = BlockStore::with_shuffle_dir(pool.clone(), dir, shuffle)
        .map_err(|e| e.to_string())?
        .compressed(compression);
    let log: Arc<dyn LogSink> =
        Arc::new(RemoteLog { to: welcome.forward_logs.then(|| reporter.clone()) });
    let reports: Arc<dyn Reports> = reporter.clone();
    let reports: Weak<dyn Reports> = Arc::downgrade(&reports);
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
        ))),
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
    async fn obey(&mut self, mut commands: Streaming<v1::ExecutorCommands>) -> Result<(), String> {
        loop {
            let batch = match commands.message().await {
                Ok(Some(batch)) => batch.commands,
                // The driver has no more work, or is gone: either way nobody waits for us.
                Ok(None) => return Ok(()),
                Err(status) => {
                    tracing::info!("the driver is gone: {}", rpc::words(&status));
                    return Ok(());
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

/// The job, from what this worker has of it, else from the driver.
async fn load(
    config: &v1::ExecutorConfig,
    driver: Client,
    hash: ComponentHash,
) -> Result<Job, String> {
    let components = PathBuf::from(&config.component_dir);
    let code = PathBuf::from(&config.code_dir);
    let runtime = Handle::current();
    let load = move || {
        let fetch = || runtime.block_on(fetch_component(driver));
        load_job(hash, &components, &code, fetch)
    };
    tokio::task::spawn_blocking(load).await.map_err(|e| format!("loading the job: {e}"))?
}

/// A failure of any kind, in words.
struct Words(String);

impl From<LoadError> for Words {
    fn from(error: LoadError) -> Self {
        Self(error.to_string())
    }
}

/// Loads a job by its hash. What lies in `components`, and what `fetch` gives, is believed only if it has that hash. One process of the
/// machine compiles it, the others wait for that.
pub fn load_job(
    hash: ComponentHash,
    components: &Path,
    code: &Path,
    fetch: impl FnOnce() -> Result<Vec<u8>, String>,
) -> Result<Job, String> {
    let cache = CodeCache::open(code).map_err(|e| e.to_string())?;
    let sandbox = Sandbox::new(Some(cache)).map_err(|e| e.to_string())?;
    let mut lock = None;
    let loaded = sandbox.load(hash, || {
        lock = locked(&code.join(format!("{hash}.lock")));
        let path = components.join(hash.to_string());
        let bytes = match read_component(&path, hash) {
            Some(bytes) => bytes,
            None => {
                let bytes = fetch().map_err(Words)?;
                if ComponentHash::of(&bytes) != hash {
                    return Err(Words("the job's file isn't what its hash says".into()));
                }
                keep_component(&path, &bytes);
                bytes
            }
        };
        // Somebody else may have compiled it while we waited.
        if sandbox.is_cached(hash) {
            return Err(Words(String::new()));
        }
        let component = ingle_guests::componentize(&bytes).map_err(|e| Words(e.to_string()))?;
        Ok::<_, Words>(component.into_owned())
    });
    drop(lock);
    match loaded {
        Err(Words(why)) if why.is_empty() => sandbox
            .load(hash, || Err(Words("its compiled code is gone again".into())))
            .map_err(|Words(why)| why),
        loaded => loaded.map_err(|Words(why)| why),
    }
}

/// Waits for a lock that is held while the file is open; none if it can't be had, which costs only time.
fn locked(path: &Path) -> Option<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path).ok()?;
    file.lock().ok()?;
    Some(file)
}

fn read_component(path: &Path, hash: ComponentHash) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAX_COMPONENT_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
    (ComponentHash::of(&bytes) == hash).then_some(bytes)
}

/// Keeps a job's file for other processes. A failure costs them only the way.
pub fn keep_component(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let kept = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&temporary, bytes))
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = kept {
        tracing::warn!("{} can't be kept: {error}", path.display());
        // It may never have been made.
        let _ = fs::remove_file(&temporary);
    }
}

async fn fetch_component(mut driver: Client) -> Result<Vec<u8>, String> {
    let failed = |status| format!("the job didn't come from the driver: {}", rpc::words(&status));
    let chunks = driver.fetch_component(v1::FetchComponentRequest {}).await.map_err(failed)?;
    rpc::collect(chunks.into_inner(), MAX_COMPONENT_BYTES).await
}
