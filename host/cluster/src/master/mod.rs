//! `ingle master`: connections, a store and a clock around the decisions of `ingle_core::master`.
//!
//! | file | one thing |
//! |---|---|
//! | `shell` | feeds the core events, one at a time, and carries out its actions |
//! | `service` | `proto/ingle/v1/master.proto`, in and out of the core's words |
//! | `limits` | how much its callers may say, and how slowly |
//! | `logs` | what was printed, from where it is |
//! | `convert` | messages as the core's words, and back |
//! | `store` | what survives the master |
//! | `components` | jobs that were uploaded for drivers in cluster mode |
//! | `transfers` | these on their way in and out, few at a time |

mod components;
pub mod convert;
pub mod fuzzing;
mod limits;
pub mod logs;
pub mod service;
pub mod shell;
mod store;
mod transfers;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::incoming::incoming;
use crate::rpc;
use crate::web::{self, MasterSite, Page, PagePort};
use crate::worker::{Wish, bind};
use components::Components;
use limits::Limited;
use service::Service;
use shell::Shell;
use store::Store;

/// What a master is told.
#[derive(Clone, Debug)]
pub struct MasterOptions {
    /// What others connect to, and what it listens on.
    pub host: String,
    /// 0: any that is free.
    pub port: u16,
    /// Where its page for people is.
    pub page: PagePort,
    /// Where its state and uploaded jobs are kept.
    pub dir: PathBuf,
    /// How long workers and applications may be out of reach.
    pub policy: ingle_core::master::Policy,
}

/// Runs a master until it is to end. `ready` hears of the address that it listens on, and of that of its page if it has one.
pub async fn run(
    options: MasterOptions,
    mut wish: watch::Receiver<Wish>,
    ready: impl FnOnce(&str, Option<&str>),
) -> Result<(), String> {
    let listener = bind(&options.host, options.port).await?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    let address = rpc::join(&options.host, port);
    let store = Store::open(&options.dir)?;
    let components = Components::open(&options.dir)?;
    let shell = Arc::new(Shell::new(options.policy, store)?);
    let service = Limited::new(Service::new(shell.clone(), components));
    let server = rpc::server(rpc::WORDS).add_service(service);
    let server = server.serve_with_incoming(incoming(listener));
    let site = MasterSite::new(shell.clone(), &address);
    let page = web::listen(&options.host, options.page).await;
    let page = page.and_then(|listener| web::serve(&options.host, listener, site.router()));
    tracing::info!("master on ingle://{address}, state in {}", options.dir.display());
    let page = page.as_ref().map(Page::address);
    shell.set_page(page.unwrap_or_default());
    ready(&address, page);
    tokio::select! {
        served = server => Err(format!("serving: {served:?}")),
        () = shell.keep_time() => Ok(()),
        // What runs goes on without it, and finds the next one.
        _ = wish.wait_for(|wish| *wish != Wish::Run) => Ok(()),
    }
}
