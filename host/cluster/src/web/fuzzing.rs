//! As [`crate::fuzzing`].

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use ingle_core::master::{AppId, DriverId, Event, Policy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use super::{MasterSite, guard, server};
use crate::master::fuzzing::shell;

/// A master's pages, and who asks for them.
pub struct Pages {
    runtime: Runtime,
    router: Router,
    apps: Vec<AppId>,
    drivers: Vec<DriverId>,
}

impl Pages {
    /// Of a master that some things happened to, with its state in a folder.
    pub fn new(dir: &Path, happened: Vec<Event>) -> Result<Self, String> {
        let shell = Arc::new(shell(dir, Policy::default())?);
        happened.into_iter().for_each(|event| shell.tell(event));
        let (apps, drivers) = shell.look(|core| {
            (core.apps().map(|a| a.id).collect(), core.drivers().map(|d| d.id).collect())
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| e.to_string())?;
        let router = guard::guarded(MasterSite::new(shell, "m:1").router(), "m");
        Ok(Self { runtime, router, apps, drivers })
    }

    pub fn apps(&self) -> &[AppId] {
        &self.apps
    }

    pub fn drivers(&self) -> &[DriverId] {
        &self.drivers
    }

    /// What is answered to whoever sends these bytes.
    pub fn ask(&self, request: &[u8]) -> Vec<u8> {
        self.runtime.block_on(async {
            let (mut here, there) = tokio::io::duplex(64 << 10);
            let serve = server::connection(there, self.router.clone());
            let ask = async {
                // It may hang up before it read all.
                let _ = here.write_all(request).await;
                let _ = here.shutdown().await;
                let mut answer = Vec::new();
                let _ = here.read_to_end(&mut answer).await;
                answer
            };
            tokio::join!(serve, ask).1
        })
    }
}
