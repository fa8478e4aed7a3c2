//! What a process is without: others' descriptors, dumps, privileges, capabilities, most of its environment.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use rustix::fs::{Dir, Mode, OFlags};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal,
};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// The first descriptor after the standard streams.
const FIRST: libc::c_uint = 3;

/// Closes all descriptors but the standard streams.
#[allow(unsafe_code)]
pub(crate) fn close_inherited() -> Result<(), String> {
    // SAFETY: closing a descriptor that something in this process owns would let that use another's later. This is called first of all, when
    // the process has opened nothing: what is open came from its parent, and nothing here knows of it.
    let closed = unsafe { libc::close_range(FIRST, libc::c_uint::MAX, 0) };
    if closed == 0 { Ok(()) } else { Err(io::Error::last_os_error().to_string()) }
}

/// What a parent left open, of a process that may be told to read some of it: `/dev/fd/N` on its command line.
#[derive(Debug)]
pub struct Inherited(Vec<RawFd>);

impl Inherited {
    /// Notes it. To be called at the very start of a process: what is opened later isn't its parent's.
    pub fn note() -> Result<Self, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open("/proc/self/fd", flags, Mode::empty());
        let mut dir = folder.and_then(Dir::new).map_err(|e| e.to_string())?;
        let mut all = Vec::new();
        while let Some(entry) = dir.read() {
            let entry = entry.map_err(|e| e.to_string())?;
            let number = entry.file_name().to_str().ok().and_then(|name| name.parse().ok());
            all.extend(number.filter(|fd: &RawFd| *fd >= FIRST as RawFd));
        }
        // Its own isn't, either.
        let own = dir.fd().map_err(|e| e.to_string())?.as_raw_fd();
        all.retain(|fd| *fd != own);
        Ok(Self(all))
    }

    /// Closes it.
    #[allow(unsafe_code)]
    pub fn close(self) {
        for descriptor in self.0 {
            // SAFETY: closing a descriptor that something in this process owns would let that use another's later. These were open before
            // this process had opened anything, so that nothing in it owns them, and a number isn't given again while it is open.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// Has the kernel kill this process when what started it ends, however that goes: it needn't notice, nor be willing. It goes by the thread that started
/// it, which must be there as long as its process is. Changing users before is fine, changing them later undoes it, as would a call that the walls keep it from.
pub(crate) fn end_with_parent() {
    // If it can't be said, it ends when it next reads from its parent, or writes to it.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
}

/// What a process may have open: sources, outputs, spilled data, connections.
const DESCRIPTORS: u64 = 65_536;

/// Bounds what the system keeps for the process, and the cgroups don't: descriptors; memory that can't be swapped, queues of messages and pending
/// signals, which it has no use for.
pub(crate) fn limit() -> Result<(), String> {
    let most = getrlimit(Resource::Nofile).maximum.map_or(DESCRIPTORS, |has| has.min(DESCRIPTORS));
    let bounds = [
        (Resource::Nofile, most),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
        (Resource::Sigpending, 64),
    ];
    for (resource, most) in bounds {
        let had = getrlimit(resource).maximum;
        let most = Some(had.map_or(most, |had| had.min(most)));
        let bound = Rlimit { current: most, maximum: most };
        rustix::process::setrlimit(resource, bound).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// No core file, and no looking into the process.
pub(crate) fn no_dumps() -> Result<(), String> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).map_err(|e| e.to_string())?;
    // What lies under /proc/self belongs to root from now on: it must be open already, or the process be root's.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| e.to_string())
}

pub(crate) fn no_new_privileges() -> Result<(), String> {
    rustix::thread::set_no_new_privs(true).map_err(|e| e.to_string())
}

/// Gives up all capabilities, also those that a program started later could get; but for the one to open what is others', if it has that and
/// goes on needing it.
pub(crate) fn no_capabilities(owns_all: bool) -> Result<(), String> {
    let kept = if owns_all { CapabilitySet::DAC_OVERRIDE } else { CapabilitySet::empty() };
    let had = rustix::thread::capabilities(None).map_err(|e| e.to_string())?;
    let kept = kept & had.effective;
    let inheritable = CapabilitySet::empty();
    let left = CapabilitySets { effective: kept, permitted: kept, inheritable };
    rustix::thread::set_capabilities(None, left).map_err(|e| e.to_string())?;
    let status = fs::read_to_string("/proc/thread-self/status").map_err(|e| e.to_string())?;
    let left = status.lines().find_map(|line| line.strip_prefix("CapEff:")).map(str::trim);
    match left {
        Some(left) if u64::from_str_radix(left, 16) == Ok(kept.bits()) => Ok(()),
        left => Err(format!("capabilities {} are left", left.unwrap_or("unknown"))),
    }
}

/// What of this process's environment one that it starts for a guest gets: how to reach the network, and what to log. All else may be a secret.
pub fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    const KEPT: [&str; 13] = [
        "INGLE_LOG",
        "RUST_LOG",
        "RUST_BACKTRACE",
        "TZ",
        "LANG",
        "LC_ALL",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "SSL_CERT_FILE",
    ];
    std::env::vars_os().filter(|(name, _)| KEPT.iter().any(|kept| name == kept))
}
