//! What of WASI a guest gets: by default arguments, two log streams, clocks and random numbers, and nothing else.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};

use crate::clock;
use crate::log::{LogSink, LogStream, Stream};
use crate::net::Network;

/// A folder that a guest may see.
#[derive(Debug)]
pub struct Preopen {
    pub folder: OwnedFd,
    pub guest: String,
    /// Else it can only be read. WASI knows no folder that can only be written.
    pub write: bool,
}

/// The folders that a guest sees. They are open, so that they are the same for all instances, whatever becomes of their paths.
#[derive(Clone, Default)]
pub struct Folders(WasiFilesystemCtx);

impl Folders {
    /// Takes folders over, to be seen in this order.
    pub fn new(preopens: impl IntoIterator<Item = Preopen>) -> std::io::Result<Self> {
        let mut wasi = WasiCtxBuilder::new();
        // A slot is a thread of its own: blocking it is what it is for.
        wasi.allow_blocking_current_thread(true);
        for Preopen { folder, guest, write } in preopens {
            let perms = if write { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            let opened = format!("/proc/self/fd/{}", folder.as_raw_fd());
            wasi.preopened_dir(opened, guest, perms).map_err(std::io::Error::other)?;
        }
        Ok(Self(wasi.build().filesystem().clone()))
    }
}

/// What both roles of a job get, in this order: memory images hold the handles' numbers, so it must be the same in both.
#[derive(Clone, Default)]
pub struct Capabilities {
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub folders: Folders,
    pub net: Arc<Network>,
    /// In which steps its clocks tick; none: as fine as the host's.
    pub clock: Option<Duration>,
}

/// `wasi:random` gives no more bytes than this in one call.
const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// WASI for one instance.
pub fn context(capabilities: &Capabilities, log: &Arc<dyn LogSink>) -> WasiCtx {
    let mut wasi = WasiCtxBuilder::new();
    wasi.allow_blocking_current_thread(true);
    wasi.max_random_size(MAX_RANDOM_BYTES);
    if let Some(step) = capabilities.clock {
        clock::coarsen(&mut wasi, step);
    }
    wasi.stdout(LogStream { sink: log.clone(), stream: Stream::Stdout });
    wasi.stderr(LogStream { sink: log.clone(), stream: Stream::Stderr });
    wasi.args(&capabilities.args).envs(&capabilities.env);
    let (net, to_tell) = (capabilities.net.clone(), log.clone());
    // Names are looked up by `net::link`.
    wasi.allow_tcp(!net.is_empty()).allow_udp(false).allow_ip_name_lookup(false);
    wasi.socket_addr_check(move |address, what| {
        let allowed = match what {
            SocketAddrUse::TcpConnect => {
                let checked = net.check(address);
                checked.inspect_err(|refusal| net.tell(refusal, &*to_tell)).is_ok()
            }
            // What a connection begins with; a port of the guest's choice would be one to listen on.
            SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
            _ => false,
        };
        Box::pin(async move { allowed })
    });
    let mut wasi = wasi.build();
    wasi.filesystem().clone_from(&capabilities.folders.0);
    wasi
}
