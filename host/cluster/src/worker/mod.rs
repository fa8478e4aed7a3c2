//! `ingle worker`: one for each machine. It starts the processes that the master grants, keeps what they store, and serves it.
//!
//! | file | one thing |
//! |---|---|
//! | `processes`, `child` | executors and drivers as child processes, and what becomes of one |
//! | `compiler` | components, and their compiled code |
//! | `walls`, `users` | what is around them, and whom they run as |
//! | `handing`, `peers`, `closing` | the connections and files that they are given, and how these are closed |
//! | `folders` | the work folder: what is kept where, and for how long |
//! | `service` | blocks and logs for others |
//! | `rotated`, `logs`, `readers` | what was printed, kept and read as it grows, and by how many |
//! | `disk`, `shares` | what applications store, and what of it each executor may |
//! | `connection` | the master: found, lost, and found again |

pub(crate) mod blocks;
mod child;
mod closing;
mod compiler;
mod connection;
mod disk;
pub mod folders;
mod handing;
pub mod logs;
#[cfg(test)]
mod nests;
mod peers;
pub mod processes;
mod readers;
mod rotated;
mod service;
mod shares;
mod users;
mod walls;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ingle_blocks::{Offer, Paths};
use ingle_core::size::ByteSize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::incoming::incoming;
use crate::rpc::{self, Secret};
use crate::web::{self, Page, PagePort, WorkerSite};
pub use compiler::CompileLimits;
use compiler::Compiler;
use connection::Connection;
use folders::Folders;
use processes::Processes;
use users::UserRange;
pub use users::{ExecutorUids, RSUBMITS_COMPILER};
use walls::Walls;

/// What a worker is told.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// The master's host:port.
    pub master: String,
    /// What others connect to, and what it listens on.
    pub host: String,
    /// 0: any that is free.
    pub port: u16,
    /// Where its page for people is.
    pub page: PagePort,
    /// What it offers.
    pub cores: u32,
    /// What it offers.
    pub memory: ByteSize,
    /// Where everything is kept.
    pub work_dir: PathBuf,
    /// The program that its processes run: `ingle`.
    pub program: PathBuf,
    /// Walls that must stand around its processes, by their names; `all`.
    pub required_walls: Vec<String>,
    /// What a log of one of its processes may be long; none: [`DEFAULT_LOG`].
    pub log_size: Option<ByteSize>,
    /// What compiling a job may take.
    pub compile: CompileLimits,
    /// What an application may store; none: nearly all that is free.
    pub disk: Option<ByteSize>,
    /// What an executor's tasks may write there in a second, for each of its cores; none: [`DEFAULT_DISK_RATE`].
    pub disk_rate: Option<ByteSize>,
    /// What jobs may have of this host's files. The work folder is never among it.
    pub offer: Offer,
    /// Users of its processes.
    pub executor_uids: ExecutorUids,
    /// How long what runs may go on once the worker shall end.
    pub drain: Duration,
}

/// What a log of a process may be long.
pub const DEFAULT_LOG: ByteSize = ByteSize(64 << 20);
/// What an executor's tasks may write in a second for each of its cores: some times what they come to that compute what they write.
pub const DEFAULT_DISK_RATE: ByteSize = ByteSize(256 << 20);
/// A lower one isn't worth it.
pub const LEAST_DISK_RATE: ByteSize = ByteSize(1 << 20);
/// A shorter one isn't worth it.
pub const LEAST_LOG: ByteSize = ByteSize(rotated::LEAST);

/// Wishes of whoever started a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Go on.
    Run,
    /// Take no more work, and end when what there is has ended.
    Drain,
    /// End at once.
    End,
}

/// Runs a worker until it is to end. The error is for whoever started it.
pub async fn run(
    mut options: WorkerOptions,
    mut wish: watch::Receiver<Wish>,
) -> Result<(), String> {
    let listener = bind(&options.host, options.port).await?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    let address = rpc::join(&options.host, port);
    let folders = Arc::new(Folders::open(&options.work_dir)?);
    close(&mut options.offer, &options.work_dir)?;
    let users = options.executor_uids.choose(&options.work_dir, &options.program)?;
    if users.is_ok() {
        folders.let_users_through()?;
    }
    let walls = Arc::new(Walls::find(&options, users.as_ref().err())?);
    let users = users.ok();
    let (components, code) = (folders.components(), folders.code());
    let compiler = Compiler::new(
        &options.program,
        options.compile,
        components,
        &code,
        walls.clone(),
        users.map(UserRange::compilers),
    )?;
    let (events, ended) = mpsc::unbounded_channel();
    let processes = Arc::new(Processes::new(
        &options,
        users,
        walls,
        compiler,
        address.clone(),
        folders.clone(),
        events,
    ));
    let (left, later) = (folders.clone(), processes.clone());
    let (work_dir, usual) = (options.work_dir.clone(), options.disk.is_none());
    // An earlier worker's, in its own time.
    drop(tokio::task::spawn_blocking(move || {
        left.remove_left();
        if usual {
            later.look_at_disk_again(&work_dir);
        }
    }));
    let watch = disk::watch(processes.clone());
    let log_secret = Secret::random()?;
    let service = service::Service::new(folders.clone(), processes.clone(), log_secret.clone());
    let server = rpc::server(rpc::WORDS)
        .add_service(service.server())
        .serve_with_incoming(incoming(listener));
    let server = tokio::spawn(server);
    let site = WorkerSite::new(&options, &address, processes.clone(), folders.clone());
    let page = web::listen(&options.host, options.page).await;
    let page = page.and_then(|listener| web::serve(&options.host, listener, site.router()));
    tracing::info!(
        "worker on {address}: {} cores, {}, work folder {}",
        options.cores,
        options.memory,
        options.work_dir.display()
    );
    let page_address = page.as_ref().map(Page::address).unwrap_or_default();
    processes.set_page(page_address);
    let connection =
        Connection::new(&options, address, page_address, log_secret, processes.clone(), ended);
    let drain = options.drain;
    let until_end = async {
        if wish.wait_for(|wish| *wish != Wish::Run).await.is_err() {
            return;
        }
        processes.drain();
        tracing::info!("draining: no more work is taken");
        tokio::select! {
            _ = wish.wait_for(|wish| *wish == Wish::End) => {}
            () = processes.all_ended() => {}
            () = tokio::time::sleep(drain) => tracing::warn!("what still runs is ended now"),
        }
    };
    tokio::select! {
        () = connection.run() => {}
        () = watch => {}
        () = until_end => {}
        served = server => return Err(format!("serving: {served:?}")),
    }
    processes.kill_all().await;
    // If the runtime ends meanwhile, so does the worker, and the next one removes what is left.
    let _ = tokio::task::spawn_blocking(move || folders.remove_all()).await;
    Ok(())
}

/// Closes what is closed wherever else it is mounted now.
fn close_mounts(offer: &mut Offer) -> Result<(), String> {
    const MOUNTS: &str = "/proc/self/mountinfo";
    let mounts = std::fs::read(MOUNTS).map_err(|e| format!("reading {MOUNTS}: {e}"))?;
    offer.close_mounts(&mounts);
    Ok(())
}

/// Where a path leads to, of what there is of it: the rest may be made later.
fn leads_to(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|there| {
        let rest = path.strip_prefix(there).ok()?;
        Some(std::fs::canonicalize(there).ok()?.join(rest))
    });
    there.unwrap_or_else(|| path.to_owned())
}

/// Looks at what jobs shall have of this host, and closes what they never have.
fn close(offer: &mut Offer, work_dir: &Path) -> Result<(), String> {
    let real =
        |path: &Path| std::fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()));
    for path in offer.closed.iter_mut() {
        *path = leads_to(path);
    }
    offer.closed.push(real(work_dir)?);
    // The kernel's own, of this worker as well.
    offer.closed.extend(["/proc", "/sys", "/dev"].map(PathBuf::from));
    close_mounts(offer)?;
    if let Paths::Only(paths) = &mut offer.paths {
        for path in paths {
            *path = real(path).map_err(|why| format!("--grants: {why}"))?;
        }
    }
    for (name, volume) in &mut offer.volumes {
        let flag = |why: String| format!("--volume {name}: {why}");
        volume.path = real(&volume.path).map_err(flag)?;
        if !volume.path.is_dir() {
            return Err(flag(format!("{} is no folder", volume.path.display())));
        }
        let inside =
            |closed: &&PathBuf| volume.path.starts_with(closed) || closed.starts_with(&volume.path);
        if let Some(closed) = offer.closed.iter().find(inside) {
            return Err(flag(format!(
                "no job may touch {}: name a folder beside it",
                closed.display()
            )));
        }
    }
    Ok(())
}

/// Listens, with words for what goes wrong.
pub async fn bind(host: &str, port: u16) -> Result<TcpListener, String> {
    TcpListener::bind((host, port)).await.map_err(|e| not_listening(host, port, &e))
}

/// As [`bind`], without a runtime or another thread: for those who then give up making sockets.
pub fn listen(host: &str, port: u16) -> Result<std::net::TcpListener, String> {
    let listener = std::net::TcpListener::bind((host, port)).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|e| not_listening(host, port, &e))
}

fn not_listening(host: &str, port: u16, error: &std::io::Error) -> String {
    let hint = match error.kind() {
        std::io::ErrorKind::AddrInUse => "; choose another with --port",
        std::io::ErrorKind::AddrNotAvailable => "; --host names no address of this machine",
        _ => "",
    };
    format!("listening on {}: {error}{hint}", rpc::join(host, port))
}
