//! Names: whose addresses a job may look up, and what is known of them; and `wasi:sockets/ip-name-lookup`, which asks for them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use ingle_core::net::Reachable;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
use wasmtime_wasi::p2::{self, Pollable};
use wasmtime_wasi::runtime::with_ambient_tokio_runtime;
use wasmtime_wasi::sockets::WasiSocketsView;

use super::{NetGrant, Refusal, allows, name};
use crate::linker::State;
use crate::log::{LogSink, Stream};

/// A name is looked up again no sooner: whoever asks meanwhile is told what is known.
const AGAIN: Duration = Duration::from_secs(30);
/// Addresses of one name that are known at most, the latest.
const MAX_ADDRESSES: usize = 64;
/// Refusals that one process says, each once.
const MAX_TOLD: usize = 32;

/// What a job may reach, in one process.
#[derive(Default)]
pub struct Network {
    grants: Vec<NetGrant>,
    names: Mutex<BTreeMap<String, Known>>,
    /// What the machine's owner lets jobs reach.
    reachable: Reachable,
    /// Where the cluster listens.
    own: RwLock<Vec<SocketAddr>>,
    told: Mutex<BTreeSet<Refusal>>,
}

#[derive(Default)]
struct Known {
    addresses: Vec<IpAddr>,
    /// When it was last asked for, by this process.
    asked: Option<Instant>,
}

/// What is to be said to a job that asks for a name.
#[derive(Debug, PartialEq, Eq)]
enum Answered {
    /// At once.
    With(Vec<IpAddr>),
    /// When it was looked up: the name.
    Later(String),
    Refused(Refusal),
    /// It is no name.
    Invalid,
}

/// More ports than this are any.
const MANY_PORTS: usize = 256;

impl Network {
    /// The ports that grants open, if they are few; none if there is a grant of any.
    pub fn ports(&self) -> Option<BTreeSet<u16>> {
        let mut ports = BTreeSet::new();
        for grant in &self.grants {
            let (first, last) = grant.ports?;
            if usize::from(last - first) >= MANY_PORTS {
                return None;
            }
            ports.extend(first..=last);
        }
        (ports.len() <= MANY_PORTS).then_some(ports)
    }

    /// `known` are addresses of granted names, as whoever granted them found them.
    pub fn new(
        grants: Vec<NetGrant>,
        known: impl IntoIterator<Item = (String, Vec<IpAddr>)>,
    ) -> Self {
        let names = grants.iter().filter_map(NetGrant::host_name);
        let names = names.map(|name| (name.to_owned(), Known::default())).collect();
        let this = Self { names: Mutex::new(names), grants, ..Self::default() };
        known.into_iter().for_each(|(name, addresses)| this.learn(&name, addresses));
        this
    }

    /// On a machine whose owner doesn't let jobs reach everything.
    pub fn within(self, reachable: Reachable) -> Self {
        Self { reachable, ..self }
    }

    /// Nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// The cluster listens there: only a grant of that very address and port opens it.
    pub fn protect(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let mut own = self.own.write();
        for address in addresses {
            if !own.contains(&address) {
                own.push(address);
            }
        }
    }

    /// Where the cluster listens, as far as it is known.
    pub fn protected(&self) -> Vec<SocketAddr> {
        self.own.read().clone()
    }

    /// Whether the job may connect there.
    pub(crate) fn check(&self, to: SocketAddr) -> Result<(), Refusal> {
        let known = |name: &str| {
            self.names.lock().get(name).map(|known| known.addresses.clone()).unwrap_or_default()
        };
        allows(&self.grants, to, &known, &self.own.read())?;
        match self.reachable.has(to.ip()) {
            true => Ok(()),
            false => {
                let what = format!("connecting to {to}");
                Err(Refusal::Withheld(self.reachable.refusal(what)))
            }
        }
    }

    /// Tells the job's log what would allow what was refused.
    pub(crate) fn tell(&self, refusal: &Refusal, log: &dyn LogSink) {
        let mut told = self.told.lock();
        if told.len() < MAX_TOLD && told.insert(refusal.clone()) {
            // The refusal stands, whether or not anybody reads why.
            let _ = log.write(Stream::Stderr, format!("ingle: {refusal}\n").as_bytes());
        }
    }

    /// An address was found for a name.
    fn learn(&self, name: &str, found: Vec<IpAddr>) {
        let mut names = self.names.lock();
        let Some(known) = names.get_mut(name) else { return };
        known.addresses.retain(|address| !found.contains(address));
        known.addresses.extend(found.into_iter().take(MAX_ADDRESSES));
        let old = known.addresses.len().saturating_sub(MAX_ADDRESSES);
        known.addresses.drain(..old);
    }

    /// A job asks for a name. If it is to be looked up, nobody else does for a while.
    fn ask(&self, asked: &str, now: Instant) -> Answered {
        let literal = asked.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = literal.unwrap_or(asked).parse() {
            return Answered::With(vec![address]);
        }
        let Ok(name) = name(asked) else { return Answered::Invalid };
        let mut names = self.names.lock();
        let Some(known) = names.get_mut(&name) else {
            return Answered::Refused(Refusal::Name(name));
        };
        if known.asked.is_some_and(|asked| now.saturating_duration_since(asked) < AGAIN) {
            return Answered::With(known.addresses.clone());
        }
        known.asked = Some(now);
        Answered::Later(name)
    }

    /// Looks a name up, and says what is known of it then. It waits.
    fn look_up(
        &self,
        name: &str,
        resolve: impl FnOnce(&str) -> std::io::Result<Vec<IpAddr>>,
    ) -> Vec<IpAddr> {
        match resolve(name) {
            Ok(found) => self.learn(name, found),
            Err(error) => tracing::debug!("looking up {name}: {error}"),
        }
        self.names.lock().get(name).map(|known| known.addresses.clone()).unwrap_or_default()
    }
}

/// The addresses that the system has for a name.
fn resolve(name: &str) -> std::io::Result<Vec<IpAddr>> {
    let found = (name, 0).to_socket_addrs()?;
    Ok(found.map(|address| address.ip().to_canonical()).take(MAX_ADDRESSES).collect())
}

/// `resolve-address-stream`.
struct Answer {
    coming: Option<oneshot::Receiver<Vec<IpAddr>>>,
    found: std::vec::IntoIter<IpAddr>,
    none: bool,
}

impl Answer {
    fn now(found: Vec<IpAddr>) -> Self {
        Self { coming: None, none: found.is_empty(), found: found.into_iter() }
    }

    fn next(&mut self) -> Result<Option<IpAddr>, ErrorCode> {
        if let Some(coming) = &mut self.coming {
            match coming.try_recv() {
                Ok(found) => *self = Self::now(found),
                Err(TryRecvError::Empty) => return Err(ErrorCode::WouldBlock),
                Err(TryRecvError::Closed) => *self = Self::now(Vec::new()),
            }
        }
        if self.none { Err(ErrorCode::NameUnresolvable) } else { Ok(self.found.next()) }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Answer {
    async fn ready(&mut self) {
        if let Some(coming) = &mut self.coming {
            let found = coming.await.unwrap_or_default();
            *self = Self::now(found);
        }
    }
}

/// Of the version that the engine has; the lookups of the engine itself are switched off.
const INTERFACE: &str = "wasi:sockets/ip-name-lookup@0.2.12";

type Cx<'a> = StoreContextMut<'a, State>;

/// Looks up only what is granted, in the place of the engine's own lookups.
pub fn link(linker: &mut Linker<State>) -> Result<()> {
    linker.allow_shadowing(true);
    let mut l = linker.instance(INTERFACE)?;
    l.resource("resolve-address-stream", ResourceType::host::<Answer>(), |mut cx, rep| {
        cx.data_mut().table.delete(Resource::<Answer>::new_own(rep))?;
        Ok(())
    })?;
    l.func_wrap(
        "resolve-addresses",
        |mut cx: Cx<'_>, (_, name): (Resource<p2::Network>, String)| {
            let state = cx.data_mut();
            let network = state.network.clone();
            let answer = match network.ask(&name, Instant::now()) {
                Answered::With(found) => Answer::now(found),
                Answered::Later(name) => {
                    let (send, coming) = oneshot::channel();
                    let look_up = move || {
                        // Whoever asked may be gone.
                        let _ = send.send(network.look_up(&name, resolve));
                    };
                    with_ambient_tokio_runtime(|| tokio::task::spawn_blocking(look_up));
                    Answer { coming: Some(coming), ..Answer::now(Vec::new()) }
                }
                Answered::Refused(refusal) => {
                    network.tell(&refusal, &*state.log);
                    return Ok((Err(ErrorCode::PermanentResolverFailure),));
                }
                Answered::Invalid => return Ok((Err(ErrorCode::InvalidArgument),)),
            };
            Ok((Ok(state.table.push(answer)?),))
        },
    )?;
    l.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut cx: Cx<'_>, (this,): (Resource<Answer>,)| {
            let next = cx.data_mut().table.get_mut(&this)?.next();
            Ok((next.map(|address| address.map(IpAddress::from)),))
        },
    )?;
    l.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut cx: Cx<'_>, (this,): (Resource<Answer>,)| {
            Ok((p2::subscribe(&mut cx.data_mut().table, this)?,))
        },
    )?;
    // One that isn't made has no address to say what would allow it.
    let mut l = linker.instance("wasi:sockets/tcp-create-socket@0.2.12")?;
    l.func_wrap("create-tcp-socket", |mut cx: Cx<'_>, (family,): (IpAddressFamily,)| {
        let state = cx.data_mut();
        if state.network.is_empty() {
            state.network.tell(&Refusal::Nothing, &*state.log);
            return Ok((Err(ErrorCode::AccessDenied),));
        }
        match state.sockets().create_tcp_socket(family) {
            Ok(socket) => Ok((Ok(socket),)),
            Err(error) => Ok((Err(error.downcast()?),)),
        }
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(grants: &[&str], known: &[(&str, &str)]) -> Network {
        let grants = grants.iter().map(|text| NetGrant::parse(text).unwrap()).collect();
        let known = known.iter().map(|(name, ip)| ((*name).to_owned(), vec![ip.parse().unwrap()]));
        Network::new(grants, known)
    }

    fn later(name: &str) -> Answered {
        Answered::Later(name.to_owned())
    }

    #[test]
    fn ports_are_told_if_they_are_few() {
        let ports = |grants: &[&str]| network(grants, &[]).ports().map(|ports| ports.len());
        assert_eq!(ports(&["a.example:443", "9.9.9.9:80-82", "b.example:443"]), Some(4));
        assert_eq!(
            (ports(&["a.example:443", "9.9.9.9"]), ports(&["a.example:1-257"])),
            (None, None)
        );
        assert_eq!(ports(&["a.example:1-256"]), Some(256));
        assert_eq!((ports(&["a.example:1-256", "b.example:257"]), ports(&[])), (None, Some(0)));
    }

    #[test]
    fn only_granted_names_are_looked_up_and_each_seldom() {
        let network = network(&["a.example:443", "9.9.9.9"], &[("a.example", "1.1.1.1")]);
        let now = Instant::now();
        assert_eq!(network.ask("A.Example.", now), later("a.example"));
        let known = Answered::With(vec!["1.1.1.1".parse().unwrap()]);
        assert_eq!(network.ask("a.example", now + AGAIN - Duration::from_millis(1)), known);
        assert_eq!(network.ask("a.example", now + AGAIN), later("a.example"));
        for name in ["example", "b.a.example", "secret-bytes.evil.example"] {
            assert!(
                matches!(network.ask(name, now), Answered::Refused(Refusal::Name(_))),
                "{name}"
            );
        }
        for name in ["", "a b", "127.1", "0x7f000001", "*", "a.example\0"] {
            assert_eq!(network.ask(name, now), Answered::Invalid, "{name:?}");
        }
        // That is none, and asks nobody.
        assert_eq!(network.ask("[::1]", now), Answered::With(vec!["::1".parse().unwrap()]));
    }

    #[test]
    fn a_name_that_moves_opens_public_addresses_only() {
        let network =
            network(&["a.example:443"], &[("a.example", "1.1.1.1"), ("other", "8.8.8.8")]);
        let may = |to: &str| network.check(to.parse().unwrap());
        assert_eq!(may("1.1.1.1:443"), Ok(()));
        assert!(matches!(may("8.8.8.8:443"), Err(Refusal::NotGranted(_))), "of no granted name");
        let moved = |_: &str| {
            Ok(["2.2.2.2", "127.0.0.1", "10.0.0.1"].map(|ip| ip.parse().unwrap()).to_vec())
        };
        assert_eq!(network.look_up("a.example", moved).len(), 4);
        assert_eq!((may("1.1.1.1:443"), may("2.2.2.2:443")), (Ok(()), Ok(())));
        for to in ["127.0.0.1:443", "10.0.0.1:443"] {
            assert!(matches!(may(to), Err(Refusal::Special(..))), "{to}");
        }
        // What can't be looked up now has the addresses that it had.
        let fails = |_: &str| Err(std::io::Error::other("no"));
        assert_eq!(network.look_up("a.example", fails).len(), 4);
        assert!(network.look_up("b.example", |_| Ok(vec!["3.3.3.3".parse().unwrap()])).is_empty());
    }

    #[test]
    fn what_is_known_of_a_name_has_a_bound() {
        let network = network(&["a.example"], &[]);
        for n in 0..=MAX_ADDRESSES as u8 {
            network.look_up("a.example", |_| Ok(vec![IpAddr::from([1, 1, 1, n])]));
        }
        assert!(network.check("1.1.1.0:1".parse().unwrap()).is_err(), "the oldest one");
        assert!(network.check("1.1.1.1:1".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_refusal_is_said_once_and_only_so_many() {
        struct Log(Mutex<String>);
        impl LogSink for Log {
            fn write(&self, _: Stream, bytes: &[u8]) -> std::io::Result<()> {
                self.0.lock().push_str(&String::from_utf8_lossy(bytes));
                Ok(())
            }
        }
        let (network, log) = (network(&[], &[]), Log(Mutex::default()));
        for port in (1..=1000).chain([1]) {
            let refusal = network.check(SocketAddr::from(([1, 1, 1, 1], port))).unwrap_err();
            network.tell(&refusal, &log);
        }
        let said = log.0.into_inner();
        assert_eq!(said.lines().count(), MAX_TOLD);
        let first = "ingle: connecting to 1.1.1.1:1 isn't allowed: add --allow-net=1.1.1.1:1";
        assert_eq!(said.lines().next(), Some(first));
    }
}
