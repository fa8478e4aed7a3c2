//! The walls of a process that runs a guest: what it goes on using, and what becomes of those that don't stand.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingle_blocks::Grants;
use ingle_walls::{Down, Needs, Place, Sockets, Wall};

use crate::access::Access;

/// The name that stands for all walls.
pub const ALL: &str = "all";

/// Checks names of walls; the error is for whoever gave them.
pub fn check_names(names: &[String]) -> Result<(), String> {
    let unknown = names.iter().find(|name| *name != ALL && Wall::named(name).is_none());
    match unknown {
        None => Ok(()),
        Some(name) => {
            let known: Vec<_> = Wall::ALL.iter().map(|wall| wall.name()).collect();
            Err(format!("`{name}` is no wall: there are {}, and {ALL}", known.join(", ")))
        }
    }
}

/// One that doesn't stand, of those that must.
pub fn lacking<'a>(down: &'a [Down], required: &[String]) -> Option<&'a Down> {
    let must = |down: &&Down| required.iter().any(|name| name == ALL || name == down.wall.name());
    down.iter().find(must)
}

/// Says which walls of a worker, or of what it started, don't stand. The error: one of them must.
pub fn judge(down: &[Down], required: &[String]) -> Result<(), String> {
    if let Some(down) = lacking(down, required) {
        return Err(format!("{down}; this worker's --require-walls asks for it"));
    }
    down.iter().for_each(|down| tracing::warn!("{down}"));
    Ok(())
}

/// Which walls a process of this program, `ingle`, can't raise for itself on this host.
pub fn probe(program: &Path) -> Vec<Down> {
    ingle_walls::probe(program, &["doctor", "--probe"])
}

/// Files and folders that a process uses on its own account.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Those that it reads.
    pub read: Vec<PathBuf>,
    /// And those that it also writes.
    pub write: Vec<PathBuf>,
    /// From these, and from those below, it removes folders that are empty.
    pub clear: Vec<PathBuf>,
    /// What it makes of the network by itself.
    pub sockets: Sockets,
    /// If it is root's: whether it opens what others own, as far as that was granted.
    pub owns_all: bool,
}

/// TCP's port for names, whose answers may be too long for UDP.
const NAMES: u16 = 53;

/// What of the network the processes of a job make by themselves: nothing, unless the job was granted some. The way to an object store has ports
/// that nobody names: those of proxies, and of whoever gives out keys.
pub fn sockets(access: &Access) -> Sockets {
    let net = &access.capabilities.net;
    if access.grants.reach_stores() {
        return Sockets::Own(None);
    }
    if net.is_empty() {
        return Sockets::Handed;
    }
    Sockets::Own(net.ports().map(|ports| ports.into_iter().chain([NAMES]).collect()))
}

/// The same of a driver that connects with its master by itself, at this port.
pub fn sockets_with(access: &Access, master: Option<u16>) -> Sockets {
    match (sockets(access), master) {
        (sockets, None) => sockets,
        (Sockets::Own(None), _) => Sockets::Own(None),
        (Sockets::Own(Some(ports)), Some(port)) => {
            Sockets::Own(Some(ports.into_iter().chain([port]).collect()))
        }
        (Sockets::Handed, Some(port)) => Sockets::Own(Some(vec![port, NAMES])),
    }
}

/// Waits until this process has one thread: another would stay outside of the walls.
fn alone() -> Result<(), String> {
    for _ in 0..200 {
        let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
        if threads.is_ok_and(|count| count <= 1) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("another thread of this process would stay outside of its walls".into())
}

/// Raises the walls of this process, which has one thread. The error: one doesn't stand that must.
pub fn raise(
    mut down: Vec<Down>,
    own: Own,
    grants: &Grants,
    required: &[String],
) -> Result<(), String> {
    // It looked its driver up before.
    alone().map_err(|why| format!("{why}; its driver's name may not be found"))?;
    down.extend(put_up(own, grants));
    judge(&down, required)
}

/// Raises those walls of this process that it can raise, and gives those that don't stand.
pub fn raise_some(own: Own, grants: &Grants) -> Vec<Down> {
    let alone = alone();
    let by_ports = matches!(own.sockets, Sockets::Own(Some(_)));
    let mut down = put_up(own, grants);
    if let Err(why) = alone {
        // The others are all threads', and so is the network but where it is a matter of ports.
        down.extend(by_ports.then(|| Down::new(Wall::Network, &why)));
        let own = [Wall::Privileges, Wall::Capabilities, Wall::Files, Wall::Signals];
        down.extend(own.map(|wall| Down::new(wall, &why)));
    }
    down
}

fn put_up(own: Own, grants: &Grants) -> Vec<Down> {
    // It can't be opened any more once the walls stand.
    ingle_sandbox::open_pagemap();
    let (read, write) = grants.reach();
    let Own { clear, sockets, owns_all, .. } = own;
    let mut paths = own.read;
    // Where the environment says that certificates are.
    paths.extend(std::env::var_os("SSL_CERT_FILE").map(PathBuf::from));
    if let Some(folders) = std::env::var_os("SSL_CERT_DIR") {
        paths.extend(std::env::split_paths(&folders));
    }
    let opened = |opened: Vec<OwnedFd>| opened.into_iter().map(Place::from);
    let named = |paths: Vec<PathBuf>| paths.into_iter().map(Place::from);
    let read = opened(read).chain(named(paths)).collect();
    let write = opened(write).chain(named(own.write)).collect();
    ingle_walls::raise(&Needs { read, write, clear, sockets, owns_all })
}

#[cfg(test)]
mod tests {
    use ingle_blocks::Offer;
    use ingle_sandbox::NetGrant;

    use super::*;
    use crate::access::{AccessSpec, AllowedNet};

    #[test]
    fn a_process_with_another_thread_is_not_alone() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        // It ends with the sender.
        let other = std::thread::spawn(move || ended.recv());
        assert!(alone().is_err_and(|why| why.contains("another thread")));
        drop(end);
        assert!(other.join().is_ok());
    }

    #[test]
    fn a_job_has_the_sockets_that_it_was_granted() {
        let place = tempfile::tempdir().unwrap();
        let of = |net: &[&str], read: &[&str]| {
            let net = net.iter().map(|text| AllowedNet {
                grant: NetGrant::parse(text).unwrap(),
                addresses: Vec::new(),
            });
            let spec = AccessSpec {
                net: net.collect(),
                allow_read: read.iter().map(PathBuf::from).collect(),
                working_dir: "/".into(),
                ..AccessSpec::default()
            };
            let access = spec.open(place.path(), &Offer::default()).unwrap();
            let with = sockets_with(&access, Some(7077));
            assert_eq!(sockets_with(&access, None), sockets(&access));
            (sockets(&access), with)
        };
        let ports = |ports: &[u16]| Sockets::Own(Some(ports.to_vec()));
        assert_eq!(of(&[], &["/"]), (Sockets::Handed, ports(&[7077, 53])));
        let both = of(&["x:443", "y:80"], &["/"]);
        assert_eq!(both, (ports(&[80, 443, 53]), ports(&[80, 443, 53, 7077])));
        let any = (Sockets::Own(None), Sockets::Own(None));
        assert_eq!(of(&["x:443", "y"], &[]), any);
        assert_eq!(of(&[], &["s3://bucket/x"]), any);
        assert_eq!(of(&["x:443"], &["https://example.com/x"]), any);
    }

    #[test]
    fn only_walls_that_must_stand_are_lacking() {
        let down = [Wall::Files, Wall::Calls].map(|wall| Down { wall, why: "gone".into() });
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(lacking(&down, &names(&["calls"])), Some(&down[1]));
        assert_eq!(lacking(&down, &names(&["all"])), Some(&down[0]));
        assert_eq!(lacking(&down, &names(&["memory"])), None);
        assert!(judge(&down, &names(&["files"])).is_err_and(|why| why.contains("--require-walls")));
        assert!(judge(&down, &[]).is_ok());
        assert!(check_names(&names(&["files", "all"])).is_ok());
        assert!(check_names(&names(&["moat"])).is_err_and(|why| why.contains("descriptors")));
    }
}
