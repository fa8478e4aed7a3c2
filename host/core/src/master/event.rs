//! What the master is told, and what it asks for.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::explain::{AppStatus, DriverStatus, WorkerStatus};
use super::ids::{AppId, DriverId};
use crate::ids::{ExecutorId, WorkerId};

/// A connection of a worker or an application, as the shell numbers them. Never one number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A request that waits for its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// An executor of an application.
pub type ExecutorName = (AppId, ExecutorId);

/// A driver, and how often it was started again: a later try is another process.
pub type DriverTry = (DriverId, u32);

/// What something takes of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Cores.
    pub cores: u32,
    /// Bytes.
    pub memory: u64,
}

/// What a worker says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerHello {
    /// Where it serves, host:port.
    pub address: String,
    /// Where its page for people is, host:port; empty if it has none.
    pub page: String,
    /// What it offers.
    pub cores: u32,
    /// What it offers, in bytes.
    pub memory: u64,
    /// Chosen at each start of its process.
    pub instance: u64,
    /// What whoever reads its logs proves itself with, chosen as well; empty: nobody does.
    pub log_secret: Vec<u8>,
    /// What runs on it, and what it takes.
    pub executors: Vec<(ExecutorName, Room)>,
    /// What runs on it, and what it takes.
    pub drivers: Vec<(DriverTry, Room)>,
    /// Applications that it has files of.
    pub applications: Vec<AppId>,
}

/// What an application wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSpec {
    /// For people.
    pub name: String,
    /// Where executors find their driver, host:port.
    pub driver_address: String,
    /// What they prove themselves with.
    pub secret: Vec<u8>,
    /// Of each executor. None: one executor a worker, with all its free cores, and more where those were fewer than asked for.
    pub executor_cores: Option<u32>,
    /// Of each executor, in bytes.
    pub executor_memory: u64,
    /// Of all executors together, at most.
    pub total_executor_cores: Option<u32>,
    /// At most so many.
    pub num_executors: Option<u32>,
    /// Few on each of many workers, else the other way round.
    pub spread_out: bool,
    /// It says from time to time how many it wants.
    pub dynamic: bool,
    /// The driver that made it, in cluster mode,
    pub driver: Option<DriverId>,
    /// and what shows that it is that one; not kept.
    pub driver_proof: Vec<u8>,
}

/// A driver that shall run on a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverSpec {
    /// For people.
    pub name: String,
    /// What it takes.
    pub cores: u32,
    /// What it takes, in bytes.
    pub memory: u64,
    /// Starts again when it fails.
    pub supervise: bool,
    /// SHA-256 of its component.
    pub component: Vec<u8>,
    /// For the driver's process.
    pub submission: Vec<u8>,
    /// Chosen for it, and told to its process alone: with it that shows whose driver it is.
    pub proof: Vec<u8>,
    /// It came with secrets, which no record has: a master that was started again can't start it.
    pub has_secrets: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker says hello, for the first time or again.
    WorkerHello {
        /// Its connection.
        connection: ConnectionId,
        /// What it says.
        hello: WorkerHello,
    },
    /// A worker is there.
    Heartbeat {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker takes no more work, and ends when what it has is done; by its own wish.
    WorkerDraining {
        /// The worker.
        worker: WorkerId,
    },
    /// An executor ended.
    ExecutorEnded {
        /// Where it ran.
        worker: WorkerId,
        /// The executor.
        executor: ExecutorName,
        /// For people.
        reason: String,
    },
    /// As [`ExecutorEnded`](Event::ExecutorEnded), since that worker doesn't give its job what it is granted, and wouldn't if it were asked again.
    ExecutorRefused {
        /// Where it was to run.
        worker: WorkerId,
        /// The executor.
        executor: ExecutorName,
        /// For people.
        reason: String,
    },
    /// As [`ExecutorEnded`](Event::ExecutorEnded), since that worker ended it for what it did: it took too much, or was broken out of.
    ExecutorExpelled {
        /// Where it ran.
        worker: WorkerId,
        /// The executor.
        executor: ExecutorName,
        /// For people.
        reason: String,
    },
    /// A driver ended.
    DriverEnded {
        /// Where it ran.
        worker: WorkerId,
        /// The driver.
        driver: DriverTry,
        /// Else it failed.
        finished: bool,
        /// For people.
        reason: String,
    },
    /// As [`ExecutorRefused`](Event::ExecutorRefused).
    DriverRefused {
        /// Where it was to run.
        worker: WorkerId,
        /// The driver.
        driver: DriverTry,
        /// For people.
        reason: String,
    },
    /// As [`ExecutorExpelled`](Event::ExecutorExpelled).
    DriverExpelled {
        /// Where it ran.
        worker: WorkerId,
        /// The driver.
        driver: DriverTry,
        /// For people.
        reason: String,
    },
    /// An application says hello.
    AppHello {
        /// Its connection.
        connection: ConnectionId,
        /// Set by one that comes back.
        id: Option<AppId>,
        /// What it wants.
        spec: AppSpec,
        /// Now, in seconds since 1970: for its name.
        wall: u64,
    },
    /// An executor has found its driver.
    ExecutorRegistered {
        /// The executor.
        executor: ExecutorName,
    },
    /// A dynamic application wants so many executors.
    AppWants {
        /// The application.
        app: AppId,
        /// At most so many.
        executors: u32,
    },
    /// An application needs an executor no more.
    AppReleases {
        /// The executor.
        executor: ExecutorName,
    },
    /// An application wants nothing from these workers.
    AppExcludes {
        /// The application.
        app: AppId,
        /// All of them; replaces what it said before.
        workers: Vec<WorkerId>,
    },
    /// An application is over, as its driver says.
    AppEnded {
        /// The application.
        app: AppId,
        /// None if it finished well.
        failure: Option<String>,
    },
    /// A connection is gone.
    ConnectionLost {
        /// The connection.
        connection: ConnectionId,
    },
    /// Somebody wants a driver to be run.
    SubmitDriver {
        /// Answered by [`Reply::Driver`].
        request: RequestId,
        /// What is wanted.
        spec: DriverSpec,
        /// Now, in seconds since 1970: for its name.
        wall: u64,
    },
    /// Somebody wants an application or a driver to end.
    Kill {
        /// Answered by [`Reply::Done`].
        request: RequestId,
        /// Which.
        target: Target,
    },
    /// Somebody wants a worker to be empty.
    Decommission {
        /// Answered by [`Reply::Done`].
        request: RequestId,
        /// Which.
        worker: WorkerId,
    },
    /// Time passed.
    Tick,
}

/// An application or a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An application.
    App(AppId),
    /// A driver.
    Driver(DriverId),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Store this, in place of what has the same key: before the other actions are carried out.
    Persist(Record),
    /// Remove what is stored under this key.
    Forget(Key),
    /// Tell a worker.
    Worker(ConnectionId, WorkerOrder),
    /// Tell an application.
    App(ConnectionId, AppNews),
    /// Tell whoever is connected that it can't be, and end the connection.
    Refuse(ConnectionId, String),
    /// Answer a request.
    Reply(RequestId, Result<Reply, String>),
    /// For the log.
    Log(String),
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A driver has this name.
    Driver(DriverId),
    /// It is done, or begun, in these words.
    Done(String),
}

/// What a worker is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerOrder {
    /// Its name.
    Welcome(WorkerId),
    /// Start an executor.
    LaunchExecutor {
        /// Its name.
        executor: ExecutorName,
        /// Its task slots.
        cores: u32,
        /// Its budget, in bytes.
        memory: u64,
        /// Where it finds its driver.
        driver_address: String,
        /// What it proves itself with.
        secret: Vec<u8>,
        /// The driver on a worker that its application belongs to.
        driver: Option<DriverId>,
    },
    /// End an executor. Its end is reported, unless it isn't there.
    KillExecutor(ExecutorName),
    /// Start a driver.
    LaunchDriver {
        /// Its name.
        driver: DriverTry,
        /// What it is.
        spec: DriverSpec,
    },
    /// End a driver. Its end is reported, unless it isn't there.
    KillDriver(DriverTry),
    /// Remove the files of an application.
    ForgetApp(AppId),
}

/// What an application is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppNews {
    /// Its name.
    Welcome(AppId),
    /// An executor will come.
    Granted {
        /// Its name.
        executor: ExecutorId,
        /// Where it runs.
        worker: WorkerId,
        /// Where that worker serves blocks, host:port.
        worker_address: String,
        /// Its task slots.
        cores: u32,
    },
    /// All that it was granted and still has, once it is back: of what it knows beside them, it missed the end.
    Has(BTreeSet<ExecutorId>),
    /// An executor is gone, or never came.
    Lost {
        /// The executor.
        executor: ExecutorId,
        /// For people.
        reason: String,
    },
    /// A worker is gone, with all that was stored on it.
    WorkerLost {
        /// The worker.
        worker: WorkerId,
        /// For people.
        reason: String,
    },
    /// A worker takes no more work.
    WorkerDraining(WorkerId),
    /// What it waits for; empty: for nothing.
    Waits(String),
    /// It is over, for this reason.
    Over(String),
}

/// What must survive the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The last numbers that were given.
    Numbers {
        /// Of workers.
        workers: u32,
        /// Of applications and drivers.
        names: u32,
    },
    /// A worker.
    Worker {
        /// Its name.
        id: WorkerId,
        /// Where it serves.
        address: String,
        /// What it offers.
        cores: u32,
        /// What it offers.
        memory: u64,
        /// Of its process.
        instance: u64,
        /// It gets no more work.
        draining: bool,
    },
    /// An application that isn't over.
    App {
        /// Its name.
        id: AppId,
        /// What it wants.
        spec: AppSpec,
        /// The number of its next executor.
        next_executor: u32,
        /// Its executors: name, worker, cores.
        executors: Vec<(ExecutorId, WorkerId, u32)>,
        /// Where it ever had executors.
        #[serde(default)]
        workers: Vec<WorkerId>,
    },
    /// A driver that isn't over.
    Driver {
        /// Its name.
        id: DriverId,
        /// What it is.
        spec: DriverSpec,
        /// Where it runs.
        worker: Option<WorkerId>,
        /// How often it was started again.
        restarts: u32,
    },
    /// An application that is over.
    EndedApp(AppStatus),
    /// A driver that is over.
    EndedDriver(DriverStatus),
}

/// The name of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Of the numbers.
    Numbers,
    /// Of a worker.
    Worker(WorkerId),
    /// Of an application, over or not.
    App(AppId),
    /// Of a driver, over or not.
    Driver(DriverId),
}

impl Record {
    /// Its name.
    pub fn key(&self) -> Key {
        match self {
            Self::Numbers { .. } => Key::Numbers,
            Self::Worker { id, .. } => Key::Worker(*id),
            Self::App { id, .. } => Key::App(*id),
            Self::Driver { id, .. } => Key::Driver(*id),
            Self::EndedApp(status) => Key::App(status.id),
            Self::EndedDriver(status) => Key::Driver(status.id),
        }
    }
}

/// The numbers that the master decides by. Bounds hold against hostile peers.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long a worker may be silent before it is lost.
    pub worker_lease: Duration,
    /// How long an application's connection may be gone before the application is over.
    pub app_lease: Duration,
    /// How often in a row executors of an application may end without having found their driver.
    pub max_executor_failures: u32,
    /// How often in a row executors of an application may end soon, if none works then.
    pub max_ends: u32,
    /// How long an application gets nothing on a worker that refused an executor of it, or expelled one.
    pub refusal: Duration,
    /// An executor that worked for so long didn't end soon: its successor doesn't wait.
    pub steady: Duration,
    /// The first wait before an executor or a driver that failed is started again; it doubles.
    pub backoff: Duration,
    /// The longest of these waits.
    pub max_backoff: Duration,
    /// Workers at the same time.
    pub max_workers: usize,
    /// Applications, and drivers, at the same time.
    pub max_apps: usize,
    /// Executors of an application at the same time.
    pub max_executors: usize,
    /// Cores that a worker can have.
    pub max_cores: u32,
    /// Memory that a worker can have, in bytes.
    pub max_memory: u64,
    /// Bytes of a name, or an address.
    pub max_name: usize,
    /// Applications and drivers that are over and still known.
    pub history: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            worker_lease: Duration::from_secs(15),
            app_lease: Duration::from_secs(10),
            max_executor_failures: 10,
            max_ends: 64,
            refusal: Duration::from_secs(600),
            steady: Duration::from_secs(60),
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(30),
            max_workers: 20_000,
            max_apps: 10_000,
            max_executors: 100_000,
            max_cores: 4096,
            max_memory: 1 << 50,
            max_name: 256,
            history: 200,
        }
    }
}

impl WorkerStatus {
    /// Cores that nobody has.
    pub fn free_cores(&self) -> u32 {
        self.cores.saturating_sub(self.cores_used)
    }
}
