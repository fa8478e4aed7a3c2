//! `ingle worker`: one for each machine. It starts the processes that the master grants, keeps what they store, and serves it.
//!
//! | file | one thing |
//! |---|---|
//! | `processes` | executors and drivers as child processes |
//! | `compiler` | components, and their compiled code |
//! | `walls` | what is around them |
//! | `folders` | the work folder: what is kept where, and for how long |
//! | `service` | blocks and logs for others |
//! | `logs` | what was printed, as it grows |
//! | `connection` | the master: found, lost, and found again |

pub(crate) mod blocks;
mod compiler;
mod connection;
pub mod folders;
pub mod logs;
pub mod processes;
mod service;
mod walls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ingle_core::size::ByteSize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::incoming::incoming;
use crate::rpc;
use crate::web::{self, Page, PagePort, WorkerSite};
use compiler::Compiler;
use connection::Connection;
use folders::Folders;
use processes::Processes;
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
    /// How long what runs may go on once the worker shall end.
    pub drain: Duration,
}

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
pub async fn run(options: WorkerOptions, mut wish: watch::Receiver<Wish>) -> Result<(), String> {
    let listener = bind(&options.host, options.port).await?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    let address = rpc::join(&options.host, port);
    let folders = Arc::new(Folders::open(&options.work_dir)?);
    let walls = Arc::new(Walls::find(&options)?);
    let (components, code) = (folders.components(), folders.code());
    let compiler = Compiler::new(&options.program, components, &code, walls.clone())?;
    let (events, ended) = mpsc::unbounded_channel();
    let processes = Arc::new(Processes::new(
        &options,
        walls,
        compiler,
        address.clone(),
        folders.clone(),
        events,
    ));
    let service = service::Service::new(folders.clone(), processes.clone());
    let server =
        rpc::server().add_service(service.server()).serve_with_incoming(incoming(listener));
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
    let connection = Connection::new(&options, address, page_address, processes.clone(), ended);
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
        () = until_end => {}
        served = server => return Err(format!("serving: {served:?}")),
    }
    processes.kill_all().await;
    folders.remove_all();
    Ok(())
}

/// Listens, with words for what goes wrong.
pub async fn bind(host: &str, port: u16) -> Result<TcpListener, String> {
    TcpListener::bind((host, port)).await.map_err(|e| {
        let hint = match e.kind() {
            std::io::ErrorKind::AddrInUse => "; choose another with --port",
            std::io::ErrorKind::AddrNotAvailable => "; --host names no address of this machine",
            _ => "",
        };
        format!("listening on {}: {e}{hint}", rpc::join(host, port))
    })
}
