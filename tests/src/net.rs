//! A network of its own: hosts that are network namespaces, each with a cable to one bridge. Cables can be cut.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static NETS: AtomicU32 = AtomicU32::new(0);

/// Gone with all its hosts when it is dropped.
pub struct Net {
    name: String,
    hosts: usize,
}

/// A place on it.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: String,
    pub address: String,
}

impl Host {
    /// A command that runs there. It is the same process: `ip` becomes what it is to run.
    pub(crate) fn wrap(&self, command: &Command) -> Command {
        let mut wrapped = Command::new("ip");
        wrapped.args(["netns", "exec", &self.namespace]).arg(command.get_program());
        wrapped.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            wrapped.current_dir(dir);
        }
        wrapped
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let shown = || format!("ip {}", args.join(" "));
    let output = Command::new("ip").args(args.iter().map(OsStr::new)).output();
    let output = output.map_err(|e| format!("{}: {e}", shown()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", shown(), String::from_utf8_lossy(&output.stderr).trim()))
}

impl Net {
    /// So many hosts. The error says why this machine has none.
    pub fn new(hosts: usize) -> Result<Self, String> {
        let number = NETS.fetch_add(1, Ordering::Relaxed);
        let net = Self { name: format!("ingle-{}-{number}", std::process::id()), hosts };
        let hub = net.hub();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "add", "bridge0", "type", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "bridge0", "up"])?;
        for number in 0..hosts {
            let (Host { namespace, address }, port) = (net.host(number), Self::port(number));
            ip(&["netns", "add", &namespace])?;
            ip(&[
                "-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
                &namespace,
            ])?;
            ip(&["-n", &hub, "link", "set", &port, "master", "bridge0", "up"])?;
            ip(&["-n", &namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        }
        Ok(net)
    }

    pub fn hosts(&self) -> usize {
        self.hosts
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    fn port(host: usize) -> String {
        format!("port{host}")
    }

    pub fn host(&self, number: usize) -> Host {
        let namespace = format!("{}-{number}", self.name);
        Host { namespace, address: format!("10.77.0.{}", number + 1) }
    }

    /// Nothing comes to a host, nor from it.
    pub fn cut(&self, host: usize) {
        ip(&["-n", &self.hub(), "link", "set", &Self::port(host), "down"]).expect("a cable");
    }

    pub fn heal(&self, host: usize) {
        ip(&["-n", &self.hub(), "link", "set", &Self::port(host), "up"]).expect("a cable");
    }

    /// What one host sends to another gets lost, without a word; not what comes back.
    pub fn lose(&self, from: usize, to: usize) {
        let (from, to) = (self.host(from), self.host(to));
        // Nobody has that hardware address.
        ip(&[
            "-n",
            &from.namespace,
            "neigh",
            "replace",
            &to.address,
            "lladdr",
            "02:00:00:00:00:99",
            "nud",
            "permanent",
            "dev",
            "eth0",
        ])
        .expect("a neighbour");
    }

    pub fn find(&self, from: usize, to: usize) {
        let (from, to) = (self.host(from), self.host(to));
        ip(&["-n", &from.namespace, "neigh", "del", &to.address, "dev", "eth0"])
            .expect("a neighbour");
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let hosts = (0..self.hosts).map(|number| self.host(number).namespace);
        for namespace in hosts.chain([self.hub()]) {
            // Perhaps it was never made.
            let _ = ip(&["netns", "del", &namespace]);
        }
    }
}
