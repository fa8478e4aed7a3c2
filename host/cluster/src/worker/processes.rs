//! A worker's child processes: executors and drivers.
//!
//! A child gets its configuration on its standard input, a socket, which then stays open: when the worker is gone, however it went, the input
//! ends, and the child with it. Meanwhile the worker hands it there what it asks for and may have.

mod starting;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ingle_blocks::{Offer, usual_disk};
use ingle_proto::v1;
use ingle_proto::v1::ask::What;
use ingle_proto::v1::driver_client::DriverClient;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::WorkerOptions;
use super::child::Kill;
use super::compiler::{Coming, Compiler};
use super::disk::Owner;
use super::folders::Folders;
use super::peers::Peers;
use super::shares::Shares;
use super::users::{UserRange, Users};
use super::walls::Walls;
use crate::broken::Outcome;
use crate::loading::hash;
use crate::rpc::{self, Secret};

/// How long it is until what couldn't be removed is tried again, at first and at most.
const AGAIN: Duration = Duration::from_secs(10);
const AT_MOST: Duration = Duration::from_secs(600);

/// What an application may store if nobody says how much: on a disk that is full, a little, for it may not stay so.
fn disk_of(work_dir: &Path) -> u64 {
    usual_disk(work_dir).max(LEAST_DISK)
}

const LEAST_DISK: u64 = 64 << 20;
/// So small a part of what an application may store isn't given to its executors.
const UNCHARGED: u64 = 32;

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
    kill: oneshot::Sender<Kill>,
    /// What it was granted.
    room: v1::Room,
    /// Once it is started.
    pid: Option<u32>,
    /// Its folder in /proc. Its number may be another's once it has ended; this shows nothing then.
    proc: Option<Arc<OwnedFd>>,
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
    async fn fetch(self) -> Result<Coming, String> {
        let address = self.driver;
        let failed = |why: String| format!("the job didn't come from the driver: {why}");
        let channel = rpc::connect(&address).await.map_err(failed)?;
        let mut driver = DriverClient::with_interceptor(channel, self.secret.sender()?)
            .max_decoding_message_size(rpc::PIECE_MESSAGE);
        let chunks = driver.fetch_component(v1::FetchComponentRequest {}).await;
        let chunks = chunks.map_err(|status| failed(rpc::words(&status)))?;
        Ok(rpc::pieces(chunks.into_inner(), failed))
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
    /// What an executor's tasks may write in a second, for each of its cores.
    disk_rate: u64,
    /// And its executors, each.
    shares: Mutex<Shares>,
    /// What this worker offers.
    offered: v1::Room,
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
        users: Option<UserRange>,
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
            disk_rate: options.disk_rate.unwrap_or(super::DEFAULT_DISK_RATE).0,
            shares: Mutex::default(),
            offered: v1::Room { cores: options.cores, memory: options.memory.0 },
            log_size: options.log_size.unwrap_or(super::DEFAULT_LOG).0,
            walls,
            compiler,
            offer: options.offer.clone(),
            pages: Mutex::default(),
            users: users.map(Users::new),
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
        loop {
            let changed = self.changed.notified();
            if !self.runs_any_of(&application) {
                break;
            }
            changed.await;
        }
        // They may have asked for its code until now.
        self.compiler.release(&application);
        self.shares.lock().forget(&application);
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

    /// What of it its executors share: names, and the ends of files, take something that nobody charges.
    fn shared_disk(&self) -> u64 {
        let all = self.disk();
        all - all / UNCHARGED
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

    /// An executor says what it takes, and has on the disk. Gives what it may have there; 0 if it isn't known.
    pub fn set_used(
        &self,
        application: &str,
        executor: u32,
        used: Option<v1::ExecutorUse>,
        stored: u64,
    ) -> u64 {
        let name = Name::Executor { application: application.to_owned(), executor };
        let more = {
            let mut running = self.running.lock();
            let Some(process) = running.get_mut(&name) else { return 0 };
            process.used = used.or(process.used);
            let room = process.room;
            self.more_of(&running, room)
        };
        let share =
            self.shares.lock().says(application, executor, stored, self.shared_disk(), more);
        share.unwrap_or(0)
    }

    /// How many more of such a process there is room for.
    fn more_of(&self, running: &BTreeMap<Name, Running>, room: v1::Room) -> u64 {
        let v1::Room { mut cores, mut memory } = self.offered;
        for process in running.values() {
            cores = cores.saturating_sub(process.room.cores);
            memory = memory.saturating_sub(process.room.memory);
        }
        let by_memory = memory.checked_div(room.memory).unwrap_or(u64::MAX);
        by_memory.min(cores.checked_div(room.cores).unwrap_or(u32::MAX).into())
    }

    /// What an executor may store that begins.
    fn first_share(&self, application: &str, executor: u32, room: v1::Room) -> u64 {
        let more = self.more_of(&self.running.lock(), room);
        self.shares.lock().begins(application, executor, self.shared_disk(), more)
    }

    /// How applications share the disk.
    pub fn shares(&self) -> &Mutex<Shares> {
        &self.shares
    }

    /// Whether anything of an application or a driver runs here.
    pub fn runs_any_of(&self, id: &str) -> bool {
        any_of(&self.running.lock(), id)
    }

    /// Who stores something here, beside who has ended.
    pub fn owners(&self) -> Vec<Owner> {
        let running = self.running.lock();
        let all = || {
            let started = running.iter().filter(|(_, process)| process.pid.is_some());
            started.map(|(name, process)| (name, process.proc.clone()))
        };
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

    fn free_user(&self, id: &str) {
        if let Some(users) = &self.users {
            users.free(id);
        }
    }

    /// Ends a process. False if there is none of that name.
    pub fn kill(&self, name: &Name) -> bool {
        self.end(name, Kill { why: "it was killed".into(), expelled: false })
    }

    /// Ends a process for what it did. False if there is none of that name.
    pub fn expel(&self, name: &Name, why: &str) -> bool {
        self.end(name, Kill { why: why.to_owned(), expelled: true })
    }

    fn end(&self, name: &Name, why: Kill) -> bool {
        let mut running = self.running.lock();
        let Some(process) = running.get_mut(name) else { return false };
        // It stays in the list until it is gone.
        let (gone, _) = oneshot::channel();
        let kill = std::mem::replace(&mut process.kill, gone);
        // It may have ended this very moment.
        let _ = kill.send(why);
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
