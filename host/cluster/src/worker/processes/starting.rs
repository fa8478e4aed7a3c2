//! How a process begins: what it is told, as whom it runs, and what is around it until it ends.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ingle_proto::prost::Message;
use ingle_proto::v1;
use ingle_proto::v1::ask::What;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::oneshot;

use super::{Ended, Known, Name, Processes, Running, any_of};
use crate::access;
use crate::broken::{Broken, Outcome};
use crate::loading::hash;
use crate::rpc::Secret;
use crate::worker::child::{self, Spawned};
use crate::worker::close_mounts;
use crate::worker::closing::Apart;
use crate::worker::disk;
use crate::worker::handing::{Coming, Hands, Party};
use crate::worker::rotated::Piped;
use crate::worker::users;

/// What a process is started with.
pub(super) struct Config {
    /// What it is told.
    message: Vec<u8>,
    /// The folder of its logs.
    logs: PathBuf,
    /// Whom it works for.
    party: Party,
    /// Which user it is; none: the worker's.
    user: Option<u32>,
}

impl Processes {
    /// What a process is told of this host.
    fn rules(&self) -> Result<v1::HostRules, String> {
        let pages = self.pages.lock().clone();
        let cluster = [self.master.clone(), self.address.clone()].into_iter().chain(pages);
        let mut offer = self.offer.clone();
        // Something may have been mounted since.
        close_mounts(&mut offer)?;
        access::rules(&offer, cluster.filter(|address| !address.is_empty()).collect())
    }

    /// Starts an executor. How that ended is told as an event, however soon.
    pub fn start_executor(self: &Arc<Self>, launch: v1::LaunchExecutor) {
        let Some(v1::ExecutorName { application, executor }) = launch.executor.clone() else {
            return;
        };
        let name = Name::Executor { application: application.clone(), executor };
        let room = v1::Room { cores: launch.cores, memory: launch.memory };
        let config = || {
            let secret = Secret::from_bytes(launch.secret.clone());
            let secret = secret.ok_or_else(|| "it has no secret".to_owned())?;
            let driver = launch.driver_address.clone();
            self.known.lock().insert(application.clone(), Known { secret, driver });
            let dir = self.folders.application(&application)?;
            let owner = if launch.driver.is_empty() { &application } else { &launch.driver };
            let user = self.user(&application, owner, &dir)?;
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
                disk: self.first_share(&application, executor, room),
                disk_rate: self.disk_rate.saturating_mul(u64::from(launch.cores)),
                rules: Some(self.rules()?),
            };
            let logs = self.new_logs(&application)?;
            let party = Party {
                id: application.clone(),
                address: launch.driver_address.clone(),
                is: "driver",
                // An application that moves is another one.
                stays: true,
            };
            Ok(Config { message: config.encode_length_delimited_to_vec(), logs, party, user })
        };
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
            let hash = hash(&launch.component)?;
            self.compiler.claim(&driver, hash)?;
            let spill = self.folders.new_spill(&driver, attempt)?;
            let user = self.user(&driver, &driver, &spill)?;
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
                submission: launch.submission,
                proof: launch.proof,
                secrets: launch.secrets,
                required_walls: self.walls.required.clone(),
                rules: Some(self.rules()?),
            };
            let logs = self.new_logs(&driver)?;
            let (id, address) = (driver.clone(), self.master.clone());
            let party = Party { id, address, is: "master", stays: false };
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
    pub(super) fn start(
        self: &Arc<Self>,
        name: Name,
        verb: &'static str,
        room: v1::Room,
        prepared: impl Future<Output = ()> + Send + 'static,
        config: impl FnOnce() -> Result<Config, Broken>,
    ) {
        let (kill, mut killed) = oneshot::channel();
        let mut running = self.running.lock();
        if running.contains_key(&name) {
            return;
        }
        let new = Running { kill, room, pid: None, proc: None, since: Instant::now(), used: None };
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
            let config = match begun {
                true => config,
                false => Err("it was killed before it began".to_owned().into()),
            };
            let started = config.and_then(|config| Ok(this.spawn(&name, verb, config)?));
            let (outcome, reason) = match started {
                Ok(spawned) => {
                    if let Some(process) = this.running.lock().get_mut(&name) {
                        process.pid = spawned.child.id();
                        process.proc = spawned.child.id().and_then(disk::process);
                    }
                    let walls = this.walls.clone();
                    let enclose = move |process| walls.enclose(process, room);
                    child::watch(spawned, enclose, &mut killed, gently).await
                }
                Err(why @ Broken::Refused(_)) => (Outcome::Refused, why.to_string()),
                Err(why) => (Outcome::Failed, why.to_string()),
            };
            let removal = match &name {
                Name::Driver { driver, attempt } => {
                    let (id, attempt) = (driver.clone(), *attempt);
                    Some(this.remove(id.clone(), move |folders| folders.forget_spill(&id, attempt)))
                }
                Name::Executor { .. } => None,
            };
            if let Name::Executor { application, executor } = &name {
                this.shares.lock().ends(application, *executor);
            }
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

    /// The user of an application or a driver that is or belongs to `owner`, whose `dir` becomes theirs. None: the worker's. The error: another
    /// worker may have one.
    fn user(&self, id: &str, owner: &str, dir: &Path) -> Result<Option<u32>, Broken> {
        let Some(users) = &self.users else { return Ok(None) };
        let user = users.of(id, owner).map_err(Broken::Refused)?;
        users::give(dir, user)?;
        Ok(Some(user))
    }
}

fn text(path: &Path) -> Result<String, String> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("{} isn't UTF-8", path.display()))
}
