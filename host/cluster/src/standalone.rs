//! An application on a standalone cluster: its driver here, its executors wherever the master grants them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ingle_blocks::{BlockStore, Disk, SpillFolder, Writer, usual_disk};
use ingle_core::dynamic::{DynamicAllocation, DynamicPolicy};
use ingle_core::ids::{ExecutorId, WorkerId};
use ingle_core::memory::MemoryPool;
use ingle_core::scheduler::Policy;
use ingle_core::size::ByteSize;
use ingle_proto::v1;
use ingle_proto::v1::application_command::{Command, Granted, Has, Lost, WorkerGone};
use ingle_proto::v1::application_report::Report;
use ingle_proto::v1::master_client::MasterClient;
use ingle_sandbox::{Finished, GuestFailure, Interrupt, Job, LogSink, Network};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::access::{Access, AccessSpec, addresses};
use crate::driver::{Application, Driver, Grant, Hub, Note, Opened, Parallelism, Service};
use crate::executor::TaskTime;
use crate::incoming::incoming;
use crate::local::{Remote, StartError, UntilCancelled};
use crate::rpc::{self, Backoff, Secret, Way};
use crate::worker::bind;

/// A master that can't be reached for so long isn't waited for any more.
const FIND_MASTER: Duration = Duration::from_secs(60);
/// How long the master may take to note that the application is over.
const FAREWELL: Duration = Duration::from_secs(2);
/// What is waited for is said if it isn't over in a moment.
const PATIENCE: Duration = Duration::from_secs(1);
/// Grants come in one go: after so long without one it is known how many tasks run at once.
const SETTLED: Duration = Duration::from_millis(5);
/// Reports that wait for a master that is away.
const REPORTS: usize = 4096;

/// What an application on a cluster is given.
pub struct StandaloneOptions {
    /// The master's host:port.
    pub master: String,
    /// For people.
    pub name: String,
    /// Of each executor. None: one executor a worker, with all its free cores, and more where those were fewer than asked for.
    pub executor_cores: Option<u32>,
    /// Of each executor.
    pub executor_memory: ByteSize,
    /// Of all executors together, at most.
    pub total_executor_cores: Option<u32>,
    /// At most so many.
    pub num_executors: Option<u32>,
    /// Few on each of many workers, else the other way round.
    pub spread_out: bool,
    /// The driver's budget for its guest; images and results on their way have as much again.
    pub driver_memory: ByteSize,
    /// Where executors find the driver, and it listens.
    pub driver_host: String,
    /// 0: any that is free.
    pub driver_port: u16,
    /// What it listens with there, if that was made before.
    pub listener: Option<std::net::TcpListener>,
    /// How it connects with the master.
    pub way: Way,
    /// What the scheduler decides by.
    pub policy: Policy,
    /// Executors come and go as tasks do, within these bounds; else there are as many as can be.
    pub dynamic: Option<DynamicPolicy>,
    /// Whether a task's instance is kept for the next task of its stage.
    pub reuse: bool,
    /// How long a try of a task may take.
    pub time: TaskTime,
    /// What an executor may store.
    pub disk: Option<ByteSize>,
    /// What a task may write to an output.
    pub output: Option<ByteSize>,
    /// Where tasks that are killed stop.
    pub interrupt: Interrupt,
    /// How shuffle output is compressed.
    pub compression: v1::Compression,
    /// What the driver reads by `ctx.setting`.
    pub settings: BTreeMap<String, String>,
    /// For results that don't fit into memory.
    pub spill: Arc<SpillFolder>,
    /// What these may take of the disk; none: nearly all that is free.
    pub results_disk: Option<u64>,
    /// What the job may touch, for its executors.
    pub access: AccessSpec,
    /// The job's file.
    pub component: Bytes,
    /// In cluster mode, the driver's name,
    pub driver: String,
    /// What that driver's process was told, by which it shows that it is that.
    pub driver_proof: Vec<u8>,
    /// and how often it was started before.
    pub attempt: u32,
    /// Takes what the driver prints.
    pub driver_log: Arc<dyn LogSink>,
    /// Takes what tasks print; none: it stays with their workers.
    pub task_log: Option<Arc<dyn LogSink>>,
    /// Hears what happens, on any thread.
    pub notes: Arc<dyn Fn(&Note) + Send + Sync>,
}

/// What the driver's results may take in a folder.
fn results_disk(dir: &Path, worker: Option<u64>) -> Disk {
    match worker {
        Some(bytes) => Disk::new(
            dir,
            bytes,
            "that is what this worker's --disk allows a driver's results; take fewer at a time, or give it more --driver-memory",
        ),
        None => Disk::new(
            dir,
            usual_disk(dir),
            "that is nearly all that was free for the driver's results; choose another folder with ingle.local.dir",
        ),
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// An application on a cluster, ready to run its driver.
pub struct Standalone {
    job: Job,
    access: Access,
    driver_log: Arc<dyn LogSink>,
    driver: Driver,
    driver_pool: MemoryPool,
    hub: Arc<Hub>,
    remote: Remote,
    link: Arc<Link>,
    runtime: Runtime,
}

/// What the connection with the master and the driver share.
struct Link {
    reports: mpsc::Sender<Report>,
    /// Why the application is over, if it isn't by its own end.
    over: Mutex<Option<String>>,
    /// The master knows that it is over.
    farewell: watch::Sender<bool>,
    /// How often the master has welcomed it: again after each broken connection, and each start of the master.
    welcomes: AtomicU32,
}

impl Standalone {
    /// Listens for executors, and asks the master for them, from now on. `access` is what the job may touch, opened here.
    pub fn start(job: Job, access: Access, options: StandaloneOptions) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("cluster")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let listener = runtime.block_on(async {
            match options.listener {
                Some(listener) => TcpListener::from_std(listener).map_err(StartError::Threads),
                None => bind(&options.driver_host, options.driver_port)
                    .await
                    .map_err(StartError::Cluster),
            }
        })?;
        let port = listener.local_addr().map_err(StartError::Threads)?.port();
        let address = rpc::join(&options.driver_host, port);
        let network = access.capabilities.net.clone();
        network.protect([&address, &options.master].into_iter().flat_map(|at| addresses(at)));

        let driver_pool = MemoryPool::new(options.driver_memory);
        let host_pool = MemoryPool::new(options.driver_memory);
        let spill = options.spill;
        let disk = results_disk(spill.path(), options.results_disk);
        let results = BlockStore::in_folder(host_pool.clone(), spill)?.charging(&disk);
        let opened = Opened::new(access.grants.clone(), driver_pool.clone());
        let opened = Arc::new(opened.written_by(Writer::new(&options.driver, options.attempt)));
        let notes = options.notes.clone();
        let application = Arc::new(Application::new(
            options.policy,
            opened,
            driver_pool.clone(),
            Box::new(move |note| notes(note)),
        ));
        let secret = Secret::random().map_err(StartError::Cluster)?;
        let welcome = v1::Welcome {
            component: job.hash().as_bytes().to_vec(),
            reuse: options.reuse,
            task_timeout_nanos: options.time.wall.map(nanos),
            task_cpu_timeout_nanos: options.time.processor.map(nanos),
            executor_disk: options.disk.map(|disk| disk.0),
            task_output: options.output.map(|output| output.0),
            epoch_interruption: options.interrupt == Interrupt::Epoch,
            compression: options.compression.into(),
            forward_logs: options.task_log.is_some(),
        };
        let (reports, outgoing) = mpsc::channel(REPORTS);
        let link = Arc::new(Link {
            reports: reports.clone(),
            over: Mutex::default(),
            farewell: watch::Sender::new(false),
            welcomes: AtomicU32::new(0),
        });
        // A driver that waits for executors which wait for its tasks would wait for ever.
        let first = options.dynamic.as_ref().map_or(0, |policy| {
            options.executor_cores.unwrap_or(1).saturating_mul(policy.initial.max(1))
        });
        let parallelism = Arc::new(Parallelism::of(first));
        let looks = reports.clone();
        let ready = move |executor: ExecutorId| {
            // A master that is away for so long gives the executor up itself.
            let _ = reports.try_send(Report::Registered(executor.0));
        };
        let mut message = options.access.to_message().map_err(StartError::Cluster)?;
        message.secrets = options.access.secrets_message();
        let hub = Arc::new(Hub::new(
            application.clone(),
            secret.clone(),
            (welcome, message, network.clone()),
            options.component,
            results.clone(),
            options.task_log,
            Box::new(ready),
        ));
        let server = rpc::server(rpc::BULK)
            .add_service(Service(hub.clone()).server())
            .serve_with_incoming(incoming(listener));
        runtime.spawn(server);
        let hello = v1::ApplicationHello {
            protocol: rpc::PROTOCOL,
            id: String::new(),
            name: options.name,
            driver_address: address,
            secret: secret.as_bytes().to_vec(),
            executor_cores: options.executor_cores,
            executor_memory: options.executor_memory.0,
            total_executor_cores: options.total_executor_cores,
            num_executors: options.num_executors,
            spread_out: options.spread_out,
            dynamic: options.dynamic.is_some(),
            driver: options.driver,
            driver_proof: options.driver_proof,
        };
        let connection = Connection {
            master: options.master,
            way: options.way,
            hello,
            hub: hub.clone(),
            network,
            link: link.clone(),
            parallelism: parallelism.clone(),
            notes: options.notes,
            waits: watch::Sender::new(String::new()),
            outgoing,
        };
        runtime.spawn(connection.run());
        let looker = Looker {
            hub: hub.clone(),
            link: link.clone(),
            reports: looks,
            dynamic: options.dynamic.map(DynamicAllocation::new),
            cores: options.executor_cores.unwrap_or(1),
        };
        runtime.spawn(looker.run());
        let driver = Driver {
            application: application.clone(),
            settings: options.settings,
            executor_pool: host_pool,
            parallelism,
            lent: Vec::new(),
        };
        let remote = Remote::of_cluster(application, results);
        let driver_log = options.driver_log;
        Ok(Self { job, access, driver_log, driver, driver_pool, hub, remote, link, runtime })
    }

    /// A handle for other threads.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Runs the driver to its end, on this thread, which needs 4 MiB of stack; then gives the cluster back. The outer error says why the
    /// cluster ended the application.
    pub fn drive(self) -> Result<Result<Finished, GuestFailure>, String> {
        let Self { job, access, driver_log, driver, driver_pool, hub, remote, link, runtime } =
            self;
        let log: Arc<dyn LogSink> =
            Arc::new(UntilCancelled { log: driver_log, application: remote.application().clone() });
        let ended = job.drive(Box::new(driver), &driver_pool, &access.capabilities, &log);
        remote.cancel();
        let over = link.over.lock().clone();
        if over.is_none() && link.welcomes.load(Ordering::Relaxed) > 0 {
            let failure = match &ended {
                Ok(Finished::Ok | Finished::Exit(0)) => String::new(),
                Ok(Finished::Failed(text)) => text.clone(),
                Ok(Finished::Exit(_)) => "the driver ended itself by exit, with a failure".into(),
                Err(failure) => failure.to_string(),
            };
            let mut farewell = link.farewell.subscribe();
            runtime.block_on(async {
                let say = async {
                    let failure = failure.chars().take(4096).collect();
                    let ended = Report::Ended(v1::application_report::Ended { failure });
                    if link.reports.send(ended).await.is_ok() {
                        let _ = farewell.wait_for(|said| *said).await;
                    }
                };
                // The master finds out by itself, if later.
                let _ = tokio::time::timeout(FAREWELL, say).await;
            });
        }
        hub.close();
        remote.close();
        runtime.shutdown_timeout(Duration::from_millis(20));
        match over {
            Some(why) => Err(why),
            None => Ok(ended),
        }
    }
}

/// The application's connection with its master.
struct Connection {
    master: String,
    way: Way,
    hello: v1::ApplicationHello,
    hub: Arc<Hub>,
    /// What the driver's guest may reach.
    network: Arc<Network>,
    link: Arc<Link>,
    parallelism: Arc<Parallelism>,
    notes: Arc<dyn Fn(&Note) + Send + Sync>,
    /// What is waited for.
    waits: watch::Sender<String>,
    outgoing: mpsc::Receiver<Report>,
}

/// How a connection ended.
enum Broken {
    /// Worth another try.
    Away(String),
    /// Nothing more is to be had from this master.
    Over(String),
    /// The application said that it is over.
    Done,
}

impl Connection {
    async fn run(mut self) {
        tokio::spawn(say_waits(self.waits.subscribe(), self.notes.clone()));
        let patience = || Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let (mut backoff, mut since) = (patience(), Instant::now());
        let mut said = false;
        loop {
            let welcomes = self.link.welcomes.load(Ordering::Relaxed);
            let broken = match self.way.connect(&self.master).await {
                Ok(channel) => self.attached(MasterClient::new(channel), &mut said).await,
                Err(why) => Broken::Away(why),
            };
            // Somebody who only listens there is no master.
            if self.link.welcomes.load(Ordering::Relaxed) != welcomes {
                (backoff, since) = (patience(), Instant::now());
            }
            let why = match broken {
                Broken::Done => break,
                Broken::Over(why) => {
                    self.over(why);
                    break;
                }
                Broken::Away(why) => why,
            };
            if since.elapsed() > FIND_MASTER {
                let seconds = FIND_MASTER.as_secs();
                self.over(format!(
                    "no master at ingle://{} for {seconds} s: {why}; start one with `ingle master`, or give the right \
                     --master",
                    self.master
                ));
                break;
            }
            if !std::mem::replace(&mut said, true) {
                let text = format!("no master at ingle://{}: {why}; trying again", self.master);
                (self.notes)(&Note::Cluster(text));
            }
            tokio::time::sleep(backoff.next()).await;
        }
        self.link.farewell.send_replace(true);
    }

    fn over(&self, why: String) {
        *self.link.over.lock() = Some(why);
        self.hub.application.cancel();
    }

    async fn attached(
        &mut self,
        mut master: MasterClient<tonic::transport::Channel>,
        said: &mut bool,
    ) -> Broken {
        let (send, reports) = mpsc::channel(REPORTS);
        let tell = async |report| {
            let report = v1::ApplicationReport { report: Some(report) };
            send.send(report).await.map_err(|_| Broken::Away("it closed the connection".into()))
        };
        if let Err(broken) = tell(Report::Hello(self.hello.clone())).await {
            return broken;
        }
        let broken = |status: tonic::Status| match status.code() {
            // It understood, and doesn't want.
            Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented => {
                Broken::Over(rpc::words(&status))
            }
            _ => Broken::Away(rpc::words(&status)),
        };
        let mut commands = match master.attach_application(ReceiverStream::new(reports)).await {
            Ok(commands) => commands.into_inner(),
            Err(status) => return broken(status),
        };
        let mut ending = false;
        let settle = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(settle);
        let mut settled = true;
        loop {
            tokio::select! {
                () = &mut settle, if !settled => {
                    settled = true;
                    self.count();
                }
                command = commands.message() => match command {
                    Ok(Some(v1::ApplicationCommand { command: Some(Command::Over(why)) })) => {
                        return if ending { Broken::Done } else { Broken::Over(why) };
                    }
                    Ok(Some(v1::ApplicationCommand { command: Some(command) })) => {
                        *said = false;
                        if let Command::Granted(_) = command {
                            settled = false;
                            settle.as_mut().reset(tokio::time::Instant::now() + SETTLED);
                        }
                        self.obey(command);
                    }
                    Ok(Some(_)) => {}
                    Ok(None) if ending => return Broken::Done,
                    Ok(None) => return Broken::Away("it closed the connection".into()),
                    Err(_) if ending => return Broken::Done,
                    Err(status) => return broken(status),
                },
                report = self.outgoing.recv() => {
                    let Some(report) = report else { return Broken::Done };
                    ending |= matches!(report, Report::Ended(_));
                    if let Err(broken) = tell(report).await {
                        return if ending { Broken::Done } else { broken };
                    }
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Welcome(id) => {
                (self.notes)(&Note::Cluster(format!("{id} on ingle://{}", self.master)));
                self.hello.id = id;
                // It is told again.
                self.waits.send_replace(String::new());
                self.link.welcomes.fetch_add(1, Ordering::Relaxed);
            }
            Command::Granted(Granted { executor, worker, worker_address, cores }) => {
                self.protect(worker_address.clone());
                let executor = ExecutorId(executor);
                let grant = Grant { worker: WorkerId(worker), worker_address, cores };
                if !self.hub.granted(executor, grant) {
                    // Said before, perhaps on a connection that broke.
                    let _ = self.link.reports.try_send(Report::Releases(executor.0));
                } else if self.hub.application.has_executor(executor) {
                    let _ = self.link.reports.try_send(Report::Registered(executor.0));
                }
            }
            Command::Has(Has { executors }) => {
                self.hub.granted_no_others(&executors.into_iter().map(ExecutorId).collect());
                self.count();
            }
            Command::Lost(Lost { executor, reason }) => {
                self.hub.lost(ExecutorId(executor), &reason);
                self.count();
            }
            Command::WorkerLost(WorkerGone { worker, reason }) => {
                self.hub.application.worker_lost(WorkerId(worker), &reason);
            }
            Command::WorkerDraining(worker) => {
                self.hub.application.drain_worker(WorkerId(worker));
            }
            Command::Waits(text) => {
                self.waits.send_replace(text);
            }
            Command::Over(_) => {}
        }
    }

    /// A worker is there: no job connects to it by a grant of something else.
    fn protect(&self, worker_address: String) {
        let network = self.network.clone();
        // It may have a name.
        tokio::task::spawn_blocking(move || network.protect(addresses(&worker_address)));
    }

    /// Lets the driver know how many tasks run at once.
    fn count(&self) {
        let slots = self.hub.slots();
        if slots > 0 {
            self.parallelism.set(slots);
        }
    }
}

/// Looks at the application from time to time: for what time alone changes, and for how many executors it wants.
struct Looker {
    hub: Arc<Hub>,
    link: Arc<Link>,
    reports: mpsc::Sender<Report>,
    dynamic: Option<DynamicAllocation>,
    /// Of each executor.
    cores: u32,
}

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

impl Looker {
    async fn run(mut self) {
        let started = Instant::now();
        let mut ticks = tokio::time::interval(LOOK);
        let (mut wanted, mut excluded) = (None, Some(Vec::new()));
        let mut welcomes = 0;
        loop {
            ticks.tick().await;
            self.hub.application.tick();
            let now_welcomes = self.link.welcomes.load(Ordering::Relaxed);
            if welcomes > 0 && now_welcomes != welcomes {
                // What was said last may be lost, or was said to a master that has forgotten it.
                (wanted, excluded) = (None, None);
            }
            welcomes = now_welcomes;
            let now_excluded = self.hub.application.excluded_workers();
            if excluded.as_ref() != Some(&now_excluded) {
                let workers = now_excluded.iter().map(|worker| worker.0).collect();
                let exclude = v1::application_report::Exclude { workers };
                if self.reports.try_send(Report::Exclude(exclude)).is_ok() {
                    excluded = Some(now_excluded);
                }
            }
            for executor in self.hub.application.drained() {
                self.release(executor, "its worker gets no more work");
            }
            let Some(dynamic) = &mut self.dynamic else { continue };
            let (backlog, executors) = self.hub.application.load();
            let decision = dynamic.update(started.elapsed(), backlog, self.cores, executors);
            if wanted != Some(decision.target)
                && self.reports.try_send(Report::Wants(decision.target)).is_ok()
            {
                wanted = Some(decision.target);
            }
            for executor in decision.release {
                self.release(executor, "it was idle for long");
            }
        }
    }

    /// Gives an executor back to the master, so that another may come.
    fn release(&self, executor: ExecutorId, why: &str) {
        if self.reports.try_send(Report::Releases(executor.0)).is_ok() {
            self.hub.gone(executor, why);
        }
    }
}

/// Says what is waited for, if it is for long.
async fn say_waits(mut waits: watch::Receiver<String>, notes: Arc<dyn Fn(&Note) + Send + Sync>) {
    while waits.changed().await.is_ok() {
        let text = waits.borrow_and_update().clone();
        if text.is_empty() {
            continue;
        }
        let changed = tokio::time::timeout(PATIENCE, waits.changed()).await;
        match changed {
            Err(_) => notes(&Note::Cluster(text)),
            Ok(Ok(())) => waits.mark_changed(),
            Ok(Err(_)) => return,
        }
    }
}
