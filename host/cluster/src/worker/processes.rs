//! A worker's child processes: executors and drivers.
//!
//! A child gets its configuration on its standard input, a socket, which then stays open: when the worker is gone, however it went, the input
//! ends, and the child with it. Meanwhile the worker hands it there what it asks for and may have.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ingle_blocks::{Offer, usual_disk};
use ingle_proto::prost::Message;
use ingle_proto::v1;
use ingle_proto::v1::ask::What;
use ingle_proto::v1::driver_client::DriverClient;
use ingle_sandbox::MAX_COMPONENT_BYTES;
use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{Notify, mpsc, oneshot};

use super::WorkerOptions;
use super::child::{self, Spawned};
use super::closing::Apart;
use super::compiler::Compiler;
use super::disk::Owner;
use super::folders::Folders;
use super::handing::{Coming, Hands, Party};
use super::peers::Peers;
use super::rotated::Piped;
use super::users::{self, Users};
use super::walls::Walls;
use crate::access;
use crate::broken::Outcome;
use crate::loading::hash;
use crate::rpc::{self, Secret};

const NO_SECRETS: &str = "its secrets are gone: a master keeps them, and the keys of s3://, in its memory alone, and this one was started again \
                          since; submit the job again";

/// How long it is until what couldn't be removed is tried again, at first and at most.
const AGAIN: Duration = Duration::from_secs(10);
const AT_MOST: Duration = Duration::from_secs(600);

/// What an application may store if nobody says how much: on a disk that is full, a little, for it may not stay so.
fn disk_of(work_dir: &Path) -> u64 {
    usual_disk(work_dir).max(LEAST_DISK)
}

const LEAST_DISK: u64 = 64 << 20;

/// What a process is to its worker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    Executor {
        application: String,
        executor: u32,
    },
    /// How often it was started again before tells its processes apart.
    Driver {
        driver: String,
        attempt: u32,
    },
}

impl Name {
    /// Whose logs its are among, and what they are called.
    fn log(&self) -> (String, String) {
        match self {
            Self::Executor { application, executor } => {
                (application.clone(), format!("executor-{executor}"))
            }
            Self::Driver { driver, .. } => (driver.clone(), "driver".to_owned()),
        }
    }

    /// Of its application, or of the driver.
    fn id(&self) -> &str {
        match self {
            Name::Executor { application, .. } => application,
            Name::Driver { driver, .. } => driver,
        }
    }
}

/// A process came to its end.
#[derive(Clone, Debug)]
pub struct Ended {
    pub name: Name,
    /// It ended by itself, and well.
    pub outcome: Outcome,
    /// For people.
    pub reason: String,
}

struct Running {
    /// Dropped, or sent why: the process is killed.
    kill: oneshot::Sender<String>,
    /// What it was granted.
    room: v1::Room,
    /// Once it is started.
    pid: Option<u32>,
    since: Instant,
    /// What it said last that it takes.
    used: Option<v1::ExecutorUse>,
}

/// A process as people see it.
pub struct Shown {
    pub name: Name,
    /// What it was granted.
    pub room: v1::Room,
    /// None as long as it is only going to be started.
    pub pid: Option<u32>,
    pub since: Instant,
    /// What it said last that it takes, if it is an executor.
    pub used: Option<v1::ExecutorUse>,
}

/// What a process is started with.
struct Config {
    /// What it is told.
    message: Vec<u8>,
    /// The folder of its logs.
    logs: PathBuf,
    /// Whom it works for.
    party: Party,
    /// Which user it is; none: the worker's.
    user: Option<u32>,
}

/// What is known of an application that has processes here.
#[derive(Clone)]
struct Known {
    /// What its executors prove themselves with.
    secret: Secret,
    /// Where its driver is: it has the job.
    driver: String,
}

impl Known {
    /// The job's file.
    async fn fetch(self) -> Result<Vec<u8>, String> {
        let address = self.driver;
        let failed = |why: String| format!("the job didn't come from the driver: {why}");
        let channel = rpc::connect(&address).await.map_err(failed)?;
        let mut driver = DriverClient::with_interceptor(channel, self.secret.sender()?)
            .max_decoding_message_size(rpc::MAX_MESSAGE);
        let chunks = driver.fetch_component(v1::FetchComponentRequest {}).await;
        let chunks = chunks.map_err(|status| failed(rpc::words(&status)))?;
        rpc::collect(chunks.into_inner(), MAX_COMPONENT_BYTES).await.map_err(failed)
    }
}

/// All processes of a worker.
pub struct Processes {
    program: PathBuf,
    host: String,
    master: String,
    address: String,
    folders: Arc<Folders>,
    /// What one of their logs may be long.
    log_size: u64,
    /// What an application may store here.
    disk: AtomicU64,
    walls: Arc<Walls>,
    peers: Arc<Peers>,
    compiler: Compiler,
    /// What jobs may have of this host.
    offer: Offer,
    /// Where this worker's page is, and its master's; empty if there is none.
    pages: Mutex<[String; 2]>,
    users: Option<Users>,
    /// The master's number for this worker; 0 until it gave one.
    worker: Mutex<u32>,
    /// It has a master now.
    connected: AtomicBool,
    running: Mutex<BTreeMap<Name, Running>>,
    /// Applications and drivers whose files are being removed, and how many folders that are. It is asked for under the lock of `running`.
    leaving: Mutex<BTreeMap<String, usize>>,
    /// Of applications that have processes here.
    known: Mutex<BTreeMap<String, Known>>,
    events: mpsc::UnboundedSender<Ended>,
    changed: Notify,
    draining: AtomicBool,
}

impl Processes {
    pub fn new(
        options: &WorkerOptions,
        walls: Arc<Walls>,
        compiler: Compiler,
        address: String,
        folders: Arc<Folders>,
        events: mpsc::UnboundedSender<Ended>,
    ) -> Self {
        Self {
            program: options.program.clone(),
            host: options.host.clone(),
            master: options.master.clone(),
            peers: Arc::new(Peers::new(address.clone(), options.master.clone())),
            address,
            folders,
            disk: AtomicU64::new(options.disk.map_or_else(|| disk_of(&options.work_dir), |d| d.0)),
            log_size: options.log_size.unwrap_or(super::DEFAULT_LOG).0,
            walls,
            compiler,
            offer: options.offer.clone(),
            pages: Mutex::default(),
            users: options.executor_uids.map(Users::new),
            worker: Mutex::new(0),
            connected: AtomicBool::new(false),
            running: Mutex::default(),
            leaving: Mutex::default(),
            known: Mutex::default(),
            events,
            changed: Notify::new(),
            draining: AtomicBool::new(false),
        }
    }

    pub fn set_page(&self, page: &str) {
        page.clone_into(&mut self.pages.lock()[0]);
    }

    pub fn set_worker(&self, worker: u32, master_page: String) {
        *self.worker.lock() = worker;
        self.pages.lock()[1] = master_page;
        self.connected.store(true, Ordering::Relaxed);
    }

    /// The master's number for this worker, if it ever had one.
    pub fn worker(&self) -> Option<u32> {
        Some(*self.worker.lock()).filter(|number| *number > 0)
    }

    pub fn lost_master(&self) {
        self.connected.store(false, Ordering::Relaxed);
    }

    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// What the executors of an application prove themselves with.
    pub fn secret(&self, id: &str) -> Option<Secret> {
        self.known.lock().get(id).map(|known| known.secret.clone())
    }

    /// What compiles jobs, and keeps their files.
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// The compiled job of an application or of a driver, for one of its processes; or the job itself.
    async fn file(&self, id: &str, asked: What) -> Result<File, String> {
        let asked = match asked {
            What::Code(code) => code,
            What::Component(component) => return self.compiler.component(id, hash(&component)?),
            What::Connection(_) => return Err("that is no file".into()),
        };
        let known = self.known.lock().get(id).cloned();
        let fetch = async {
            match known {
                Some(known) => known.fetch().await,
                // The master had it, and it was kept before the driver began.
                None => Err("its job's file isn't here".into()),
            }
        };
        self.compiler.code(id, &asked, fetch).await
    }

    /// An application is over: its files go once nobody writes them.
    pub async fn forget(self: Arc<Self>, application: String) {
        self.known.lock().remove(&application);
        self.compiler.release(&application);
        loop {
            let changed = self.changed.notified();
            if !self.runs_any_of(&application) {
                break;
            }
            changed.await;
        }
        let id = application.clone();
        self.remove(application, move |folders| folders.forget(&id)).await;
    }

    /// Removes files of an application or a driver, as often as it takes; then its user may be another's, if nothing of it runs.
    fn remove<R>(
        self: &Arc<Self>,
        id: String,
        remove: R,
    ) -> impl Future<Output = ()> + Send + use<R>
    where
        R: FnOnce(&Folders) -> Option<PathBuf> + Send + 'static,
    {
        // From now on.
        *self.leaving.lock().entry(id.clone()).or_default() += 1;
        let this = self.clone();
        async move {
            let folders = this.folders.clone();
            let mut removed = tokio::task::spawn_blocking(move || remove(&folders)).await;
            let mut pause = AGAIN;
            while let Ok(Some(left)) = removed {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AT_MOST);
                let folders = this.folders.clone();
                removed = tokio::task::spawn_blocking(move || folders.remove_again(left)).await;
            }
            if removed.is_err() {
                // The runtime ends, and so does the worker.
                return;
            }
            let running = this.running.lock();
            let mut leaving = this.leaving.lock();
            if let Some(folders) = leaving.get_mut(&id) {
                *folders -= 1;
                if *folders == 0 {
                    leaving.remove(&id);
                }
            }
            if !leaving.contains_key(&id) && !any_of(&running, &id) {
                this.free_user(&id);
            }
        }
    }

    /// Applications that have something here.
    pub fn applications(&self) -> Vec<String> {
        self.folders.applications()
    }

    /// What runs, and what it was granted.
    pub fn all(&self) -> Vec<(Name, v1::Room)> {
        self.running.lock().iter().map(|(name, process)| (name.clone(), process.room)).collect()
    }

    /// What an application may store here, in bytes.
    pub fn disk(&self) -> u64 {
        self.disk.load(Ordering::Relaxed)
    }

    /// What an earlier worker left is gone: there may be more room than there was.
    pub fn look_at_disk_again(&self, work_dir: &Path) {
        self.disk.fetch_max(disk_of(work_dir), Ordering::Relaxed);
    }

    /// What is around them.
    pub fn walls(&self) -> &Walls {
        &self.walls
    }

    /// What runs, for people.
    pub fn shown(&self) -> Vec<Shown> {
        let running = self.running.lock();
        let shown = running.iter().map(|(name, process)| {
            let Running { room, pid, since, used, .. } = *process;
            Shown { name: name.clone(), room, pid, since, used }
        });
        shown.collect()
    }

    /// A process says what it takes.
    pub fn set_used(&self, name: &Name, used: v1::ExecutorUse) {
        if let Some(process) = self.running.lock().get_mut(name) {
            process.used = Some(used);
        }
    }

    /// Whether anything of an application or a driver runs here.
    pub fn runs_any_of(&self, id: &str) -> bool {
        any_of(&self.running.lock(), id)
    }

    /// Who stores something here, beside who has ended.
    pub fn owners(&self) -> Vec<Owner> {
        let running = self.running.lock();
        let all = || running.iter().filter_map(|(name, process)| Some((name, process.pid?)));
        let applications = self.folders.applications().into_iter().map(|id| {
            let is_of = |name: &Name| matches!(name, Name::Executor { application, .. } if *application == id);
            let processes = all().filter(|(name, _)| is_of(name));
            let processes = processes.map(|(name, process)| (name.clone(), process)).collect();
            Owner { folder: self.folders.of_application(&id), processes, id }
        });
        let drivers = all().filter_map(|(name, process)| match name {
            Name::Driver { driver, attempt } => Some(Owner {
                id: driver.clone(),
                folder: self.folders.spill(driver, *attempt),
                processes: vec![(name.clone(), process)],
            }),
            Name::Executor { .. } => None,
        });
        applications.chain(drivers).collect()
    }

    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// What a process is told of this host.
    fn rules(&self) -> Result<v1::HostRules, String> {
        let pages = self.pages.lock().clone();
        let cluster = [self.master.clone(), self.address.clone()].into_iter().chain(pages);
        access::rules(&self.offer, cluster.filter(|address| !address.is_empty()).collect())
    }

    /// Starts an executor. How that ended is told as an event, however soon.
    pub fn start_executor(self: &Arc<Self>, launch: v1::LaunchExecutor) {
        let Some(v1::ExecutorName { application, executor }) = launch.executor.clone() else {
            return;
        };
        let name = Name::Executor { application: application.clone(), executor };
        let config = || {
            let secret = Secret::from_bytes(launch.secret.clone()).ok_or("it has no secret")?;
            let driver = launch.driver_address.clone();
            self.known.lock().insert(application.clone(), Known { secret, driver });
            let dir = self.folders.application(&application)?;
            let user = self.user(&application, &dir)?;
            let config = v1::ExecutorConfig {
                application: application.clone(),
                executor,
                slots: launch.cores,
                memory: launch.memory,
                driver_address: launch.driver_address.clone(),
                secret: launch.secret.clone(),
                worker: *self.worker.lock(),
                worker_address: self.address.clone(),
                application_dir: text(&dir)?,
                required_walls: self.walls.required.clone(),
                disk: self.disk(),
                rules: Some(self.rules()?),
            };
            let logs = self.new_logs(&application)?;
            let party = Party {
                address: launch.driver_address.clone(),
                is: "driver",
                // An application that moves is another one.
                stays: true,
            };
            Ok(Config { message: config.encode_length_delimited_to_vec(), logs, party, user })
        };
        let room = v1::Room { cores: launch.cores, memory: launch.memory };
        self.start(name, "executor", room, std::future::ready(()), config);
    }

    /// Starts a driver, once `prepared`.
    pub fn start_driver(
        self: &Arc<Self>,
        launch: v1::LaunchDriver,
        prepared: impl Future<Output = ()> + Send + 'static,
    ) {
        let Some(v1::DriverTry { driver, attempt }) = launch.driver else { return };
        let name = Name::Driver { driver: driver.clone(), attempt };
        let config = || {
            let mut submission = v1::Submission::decode(launch.submission.as_slice())
                .map_err(|e| format!("its submission can't be read: {e}"))?;
            if submission.has_secrets && launch.secrets.is_none() {
                return Err(NO_SECRETS.into());
            }
            submission.access.get_or_insert_default().secrets = launch.secrets;
            let hash = hash(&launch.component)?;
            self.compiler.claim(&driver, hash)?;
            let spill = self.folders.new_spill(&driver, attempt)?;
            let user = self.user(&driver, &spill)?;
            let config = v1::DriverConfig {
                driver: driver.clone(),
                attempt,
                memory: launch.memory,
                cores: launch.cores,
                master: self.master.clone(),
                host: self.host.clone(),
                component: launch.component.clone(),
                spill_dir: text(&spill)?,
                disk: self.disk(),
                submission: Some(submission),
                required_walls: self.walls.required.clone(),
                rules: Some(self.rules()?),
            };
            let logs = self.new_logs(&driver)?;
            let party = Party { address: self.master.clone(), is: "master", stays: false };
            Ok(Config { message: config.encode_length_delimited_to_vec(), logs, party, user })
        };
        let room = v1::Room { cores: launch.cores, memory: launch.memory };
        self.start(name, "driver", room, prepared, config);
    }

    fn new_logs(&self, id: &str) -> Result<PathBuf, String> {
        self.folders.new_logs(id, |id| self.runs_any_of(id))
    }

    /// Starts a process, unless it runs. From when its `config` is made on it is one that does: what that takes for it isn't given to others because an
    /// earlier one ends.
    fn start(
        self: &Arc<Self>,
        name: Name,
        verb: &'static str,
        room: v1::Room,
        prepared: impl Future<Output = ()> + Send + 'static,
        config: impl FnOnce() -> Result<Config, String>,
    ) {
        let (kill, mut killed) = oneshot::channel();
        let mut running = self.running.lock();
        if running.contains_key(&name) {
            return;
        }
        let new = Running { kill, room, pid: None, since: Instant::now(), used: None };
        running.insert(name.clone(), new);
        drop(running);
        let config = config();
        let this = self.clone();
        tokio::spawn(async move {
            // Those that it may have to be connected with. Who can't be asked now is asked when it wants to be.
            let (peers, came) = (this.peers.clone(), Instant::now());
            tokio::spawn(async move { peers.ask(came).await });
            let begun = tokio::select! {
                () = prepared => true,
                _ = &mut killed => false,
            };
            let gently = matches!(name, Name::Driver { .. });
            let config =
                if begun { config } else { Err("it was killed before it began".to_owned()) };
            let started = config.and_then(|config| this.spawn(&name, verb, config));
            let (outcome, reason) = match started {
                Ok(spawned) => {
                    if let Some(process) = this.running.lock().get_mut(&name) {
                        process.pid = spawned.child.id();
                    }
                    let walls = this.walls.clone();
                    let enclose = move |process| walls.enclose(process, room);
                    child::watch(spawned, enclose, &mut killed, gently).await
                }
                Err(why) => (Outcome::Failed, why),
            };
            let removal = match &name {
                Name::Driver { driver, attempt } => {
                    let (id, attempt) = (driver.clone(), *attempt);
                    Some(this.remove(id.clone(), move |folders| folders.forget_spill(&id, attempt)))
                }
                Name::Executor { .. } => None,
            };
            {
                let mut running = this.running.lock();
                running.remove(&name);
                if let Name::Driver { driver, .. } = &name
                    // A later try may have begun.
                    && !any_of(&running, driver)
                {
                    this.compiler.release(driver);
                }
            }
            this.changed.notify_waiters();
            // Without a master there is nobody to tell; it asks what runs when it is back.
            let _ = this.events.send(Ended { name, outcome, reason });
            if let Some(removal) = removal {
                removal.await;
            }
        });
    }

    fn spawn(self: &Arc<Self>, name: &Name, verb: &str, config: Config) -> Result<Spawned, String> {
        let Config { message: config, logs, party, user } = config;
        self.bound_logs();
        let (_, file) = name.log();
        let pipe = |end| Piped::new(&logs.join(format!("{file}.{end}")), self.log_size);
        let ((stdout, out), (stderr, err)) = (pipe("out")?, pipe("err")?);
        let (socket, theirs) = std::os::unix::net::UnixStream::pair()
            .and_then(|(ours, theirs)| {
                ours.set_nonblocking(true)?;
                let ours = Arc::new(Apart::new(UnixStream::from_std(ours)?));
                Ok((ours, OwnedFd::from(theirs)))
            })
            .map_err(|e| format!("making a socket for it: {e}"))?;
        let mut command = Command::new(&self.program);
        command
            .arg(verb)
            .current_dir("/")
            .env_clear()
            .envs(ingle_walls::environment())
            .stdin(theirs)
            .stdout(stdout)
            .stderr(stderr)
            .kill_on_drop(true);
        if let Some(user) = user {
            // And no other groups.
            command.uid(user).gid(user);
        }
        let child = command.spawn();
        let child = child.map_err(|e| match user {
            Some(user) => format!("starting {} as user {user}: {e}", self.program.display()),
            None => format!("starting {}: {e}", self.program.display()),
        })?;
        let (this, id) = (self.clone(), name.id().to_owned());
        let files = move |asked: What| {
            let (this, id) = (this.clone(), id.clone());
            let file: Coming = Box::pin(async move { this.file(&id, asked).await });
            file
        };
        let hands = Hands::new(self.peers.clone(), party, Box::new(files));
        Ok(Spawned { child, socket, config, hands, streams: [out, err] })
    }

    /// Makes room for new logs, in a while.
    fn bound_logs(self: &Arc<Self>) {
        let this = self.clone();
        // If the runtime ends now, so does the worker, and the next one has logs to begin.
        drop(tokio::task::spawn_blocking(move || {
            let runs: Vec<_> = this.running.lock().keys().map(Name::log).collect();
            let is_log = |(of, log): &(String, String), id: &str, name: &str| {
                of == id && (log == name || name.is_empty())
            };
            this.folders.bound_logs(this.log_size, |id, name| {
                runs.iter().any(|running| is_log(running, id, name))
            });
        }));
    }

    /// The user of an application or a driver, whose `dir` becomes theirs. None: the worker's.
    fn user(&self, id: &str, dir: &Path) -> Result<Option<u32>, String> {
        let Some(users) = &self.users else { return Ok(None) };
        let user = users.of(id)?;
        users::give(dir, user)?;
        Ok(Some(user))
    }

    fn free_user(&self, id: &str) {
        if let Some(users) = &self.users {
            users.free(id);
        }
    }

    /// Ends a process. False if there is none of that name.
    pub fn kill(&self, name: &Name) -> bool {
        self.kill_for(name, "it was killed")
    }

    /// Ends a process, which is said to have ended for that. False if there is none of that name.
    pub fn kill_for(&self, name: &Name, why: &str) -> bool {
        let mut running = self.running.lock();
        let Some(process) = running.get_mut(name) else { return false };
        // It stays in the list until it is gone.
        let (gone, _) = oneshot::channel();
        let kill = std::mem::replace(&mut process.kill, gone);
        // It may have ended this very moment.
        let _ = kill.send(why.to_owned());
        true
    }

    /// Waits until nothing runs.
    pub async fn all_ended(&self) {
        loop {
            let changed = self.changed.notified();
            if self.running.lock().is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// Ends everything.
    pub async fn kill_all(&self) {
        for (name, _) in self.all() {
            self.kill(&name);
        }
        self.all_ended().await;
    }
}

fn any_of(running: &BTreeMap<Name, Running>, id: &str) -> bool {
    running.keys().any(|name| name.id() == id)
}

fn text(path: &Path) -> Result<String, String> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("{} isn't UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use ingle_core::size::ByteSize;

    use super::*;
    use crate::web::PagePort;

    /// Of a worker that gives its processes one user.
    fn processes(place: &Path) -> (Arc<Processes>, mpsc::UnboundedReceiver<Ended>) {
        let options = WorkerOptions {
            master: "127.0.0.1:1".into(),
            host: "127.0.0.1".into(),
            port: 0,
            page: PagePort::Off,
            cores: 1,
            memory: ByteSize(1 << 30),
            work_dir: place.to_owned(),
            program: "false".into(),
            required_walls: Vec::new(),
            log_size: None,
            disk: None,
            offer: Offer::default(),
            executor_uids: Some("10-10".parse().unwrap()),
            drain: Duration::ZERO,
        };
        let folders = Arc::new(Folders::open(place).unwrap());
        let walls = Arc::new(Walls::none());
        let (components, code) = (folders.components(), folders.code());
        let program = &options.program;
        let compiler = Compiler::new(program, components, &code, walls.clone()).unwrap();
        let (events, ended) = mpsc::unbounded_channel();
        let address = "127.0.0.1:2".to_owned();
        (Arc::new(Processes::new(&options, walls, compiler, address, folders, events)), ended)
    }

    const ROOM: v1::Room = v1::Room { cores: 1, memory: 1 << 20 };

    fn driver(attempt: u32) -> Name {
        Name::Driver { driver: "driver-1".into(), attempt }
    }

    /// Waits until the user of that driver is free for another one.
    async fn is_freed(processes: &Processes) {
        let users = processes.users.as_ref().unwrap();
        while users.of("driver-2").is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        users.free("driver-2");
    }

    #[tokio::test]
    async fn a_user_is_taken_until_nothing_of_whom_it_was_is_left() {
        let place = tempfile::tempdir().unwrap();
        let (processes, _ended) = processes(place.path());
        let users = processes.users.as_ref().unwrap();
        users.of("driver-1").unwrap();
        // A folder that is none, which can't be removed.
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        let left = file.join("below");
        let first = processes.remove("driver-1".into(), move |folders| folders.remove_again(left));
        let second = processes.remove("driver-1".into(), |_| None);
        second.await;
        assert!(users.of("driver-2").is_err());
        // It tries again, in a while.
        let tried = tokio::time::timeout(Duration::from_millis(300), first).await;
        assert!(tried.is_err() && users.of("driver-2").is_err());
        // Of whom nothing is left, it is.
        *processes.leaving.lock() = BTreeMap::new();
        processes.remove("driver-1".into(), |_| None).await;
        is_freed(&processes).await;
    }

    #[tokio::test]
    async fn a_try_of_a_driver_that_begins_as_another_ends_has_its_user_and_its_job() {
        let place = tempfile::tempdir().unwrap();
        let (processes, mut ended) = processes(place.path());
        let users = processes.users.as_ref().unwrap();
        let job = ingle_sandbox::ComponentHash::of(b"job");
        let prepared = std::future::pending::<()>;
        let take = || {
            users.of("driver-1")?;
            processes.compiler.claim("driver-1", job)
        };
        let config = || {
            // It counts already.
            assert!(processes.runs_any_of("driver-1"));
            take()?;
            Err("it doesn't begin".into())
        };
        processes.start(driver(0), "driver", ROOM, prepared(), config);
        // The first one ends while the second one takes what it needs.
        processes.start(driver(1), "driver", ROOM, prepared(), || {
            assert!(processes.kill(&driver(0)));
            take()?;
            Err("it doesn't begin".into())
        });
        assert_eq!(ended.recv().await.unwrap().name, driver(0));
        while !processes.leaving.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(users.of("driver-2").is_err());
        let other = ingle_sandbox::ComponentHash::of(b"other");
        assert!(processes.compiler.claim("driver-1", other).is_err(), "it has its job");
        processes.kill(&driver(1));
        assert_eq!(ended.recv().await.unwrap().name, driver(1));
        is_freed(&processes).await;
        processes.compiler.claim("driver-1", other).unwrap();
    }
}
