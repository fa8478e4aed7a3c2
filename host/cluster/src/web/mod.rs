//! The daemons' pages for people, and the same as JSON for programs. They show what is; nothing can be changed by them.
//!
//! What they show was named by users and printed by guests: all of it is escaped by `maud`, no page runs a script, and browsers are told not
//! to take one from anywhere. Whoever can reach a page may flood it: it has a thread of its own, few connections, and short patience.
//!
//! | file | one thing |
//! |---|---|
//! | `port` | `--webui-port` |
//! | `server` | connections, and their bounds |
//! | `guard` | who may ask what, and what browsers are told |
//! | `answer` | a view as HTML and as JSON, and its lists cut into pages |
//! | `html` | what all pages look like |
//! | `logs` | the ends of logs, as text |
//! | `master`, `worker` | what each shows, and where |

mod answer;
pub mod fuzzing;
mod guard;
mod html;
mod logs;
mod master;
mod memory;
mod port;
mod server;
mod worker;

use std::io::ErrorKind;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use master::MasterSite;
pub use port::PagePort;
pub use worker::WorkerSite;

use crate::rpc;

/// A page that is served until this is dropped.
pub struct Page {
    address: String,
    _goes: oneshot::Sender<()>,
}

impl Page {
    /// Its host:port.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Listens on a port, or the next one that is free; says where, or why not. A daemon does its work without a page, too.
pub async fn listen(host: &str, port: PagePort) -> Option<TcpListener> {
    let mut taken = None;
    for port in port.tries() {
        match TcpListener::bind((host, port)).await {
            Ok(listener) => {
                if let Some(taken) = taken {
                    tracing::warn!("the port {taken} for the page is taken: this one is next");
                }
                return Some(listener);
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                taken.get_or_insert(port);
            }
            Err(error) => {
                tracing::warn!("there is no page: listening on {}: {error}", rpc::join(host, port));
                return None;
            }
        }
    }
    if let Some(taken) = taken {
        tracing::warn!(
            "there is no page: the port {taken} is taken, and so are the next ones; choose another with --webui-port"
        );
    }
    None
}

/// Serves pages on a thread of its own, so that whoever floods them can't keep the daemon's threads busy.
pub fn serve(host: &str, listener: TcpListener, router: Router) -> Option<Page> {
    let started = || -> std::io::Result<Page> {
        let address = rpc::join(host, listener.local_addr()?.port());
        let listener = listener.into_std()?;
        let router = guard::guarded(router, host);
        let (goes, gone) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(logs::AT_A_TIME)
            .enable_all()
            .build()?;
        let run = move || {
            runtime.block_on(async {
                let listener = match TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => return tracing::warn!("there is no page: {error}"),
                };
                tokio::select! {
                    () = server::serve(listener, router) => {}
                    _ = gone => {}
                }
            });
        };
        std::thread::Builder::new().name("page".into()).spawn(run)?;
        Ok(Page { address, _goes: goes })
    };
    match started() {
        Ok(page) => {
            tracing::info!("page on http://{}/", page.address);
            Some(page)
        }
        Err(error) => {
            tracing::warn!("there is no page: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_whose_port_is_taken_is_at_one_of_the_next() {
        // The last port of all has no next ones.
        let last = TcpListener::bind(("127.0.0.1", u16::MAX)).await;
        assert!(listen("127.0.0.1", PagePort::From(u16::MAX)).await.is_none());
        drop(last);
        let taken = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let first = port.min(u16::MAX - 15);
        let next = listen("127.0.0.1", PagePort::From(first)).await.expect("not all are taken");
        let next = next.local_addr().unwrap().port();
        assert!(next != port && (first..=first + 15).contains(&next), "{next} after {port}");
        assert!(listen("127.0.0.1", PagePort::Off).await.is_none());
        assert!(
            listen("192.0.2.1", PagePort::From(0)).await.is_none(),
            "no address of this machine"
        );
    }
}
