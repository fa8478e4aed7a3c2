//! What of WASI a guest gets: by default arguments, two log streams, clocks and random numbers, and nothing else.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};

use crate::log::{LogSink, LogStream, Stream};

/// A folder that the guest sees.
#[derive(Clone, Debug)]
pub struct Preopen {
    /// Open, so that it is the same for all instances, whatever becomes of its path.
    pub folder: Arc<OwnedFd>,
    pub guest: String,
    /// Else it can only be read. WASI knows no folder that can only be written.
    pub write: bool,
}

/// A network address that may be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetGrant {
    pub host: String,
    /// Any port if none.
    pub port: Option<u16>,
    /// What the host's name meant when the job was submitted: a name that moves later (DNS rebinding) moves no grant.
    pub addresses: Vec<IpAddr>,
}

impl NetGrant {
    fn allows(&self, address: SocketAddr) -> bool {
        self.port.is_none_or(|port| port == address.port())
            && self.addresses.contains(&address.ip())
    }
}

/// What both roles of a job get, in this order: memory images hold the handles' numbers, so it must be the same in both.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub preopens: Vec<Preopen>,
    pub net: Vec<NetGrant>,
}

/// `wasi:random` gives no more bytes than this in one call.
const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// WASI for one instance.
pub fn context(capabilities: &Capabilities, log: &Arc<dyn LogSink>) -> std::io::Result<WasiCtx> {
    let mut wasi = WasiCtxBuilder::new();
    // A slot is a thread of its own: blocking it is what it is for.
    wasi.allow_blocking_current_thread(true);
    wasi.max_random_size(MAX_RANDOM_BYTES);
    wasi.stdout(LogStream { sink: log.clone(), stream: Stream::Stdout });
    wasi.stderr(LogStream { sink: log.clone(), stream: Stream::Stderr });
    wasi.args(&capabilities.args).envs(&capabilities.env);
    for preopen in &capabilities.preopens {
        let perms = if preopen.write { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        let opened = format!("/proc/self/fd/{}", preopen.folder.as_raw_fd());
        wasi.preopened_dir(opened, &preopen.guest, perms).map_err(std::io::Error::other)?;
    }
    let net = capabilities.net.clone();
    // A name that is looked up reaches whoever answers for it, so nobody needs that for plain addresses.
    let names = net.iter().any(|grant| grant.host.parse::<IpAddr>().is_err());
    wasi.allow_tcp(!net.is_empty()).allow_udp(false).allow_ip_name_lookup(names);
    wasi.socket_addr_check(move |address, what| {
        let allowed = match what {
            SocketAddrUse::TcpConnect => net.iter().any(|grant| grant.allows(address)),
            // What a connection begins with; a port of the guest's choice would be one to listen on.
            SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
            _ => false,
        };
        Box::pin(async move { allowed })
    });
    Ok(wasi.build())
}
