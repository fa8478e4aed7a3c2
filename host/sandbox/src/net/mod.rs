//! Whom a job may connect to: grants as they are written, and what they come to for an address.
//!
//! A grant of a name is one of public addresses only, whatever the name means, now or later: nobody who answers for a name opens a way into
//! the cluster's own network by it. What isn't public is opened by its address, or by a range that is wholly of its kind.

mod names;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ingle_core::net::Cidr;
pub use names::{Network, link};

/// Where a job may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetGrant {
    /// Which hosts.
    pub host: NetHost,
    /// Which of their ports, first and last; any if none.
    pub ports: Option<(u16, u16)>,
}

/// Hosts of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetHost {
    /// One that is found by its name.
    Name(String),
    /// Addresses.
    Addresses(Cidr),
}

/// The longest name that DNS has.
const MAX_NAME: usize = 253;

impl NetGrant {
    /// `HOST`, `ADDRESS` or `ADDRESS/BITS`, and `:PORT` or `:FIRST-LAST` if not all ports are meant. An IPv6 address that has a port is in
    /// brackets, its bits as well.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (host, ports) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or("there is no `]`")?;
            // The bits may stand behind it as well.
            let (bits, ports) = match rest.split_once(':') {
                Some((bits, ports)) => (bits, Some(ports)),
                None => (rest, None),
            };
            if !bits.is_empty() && !bits.starts_with('/') {
                return Err("after `]` there must be `:PORT`");
            }
            (format!("{host}{bits}"), ports)
        } else if Cidr::parse(text).is_ok_and(|found| found.is_some()) {
            (text.to_owned(), None)
        } else {
            match text.split_once(':') {
                Some((host, ports)) => (host.to_owned(), Some(ports)),
                None => (text.to_owned(), None),
            }
        };
        let host = match Cidr::parse(&host)? {
            Some(range) => NetHost::Addresses(range),
            None => NetHost::Name(name(&host)?),
        };
        Ok(Self { host, ports: ports.map(port_range).transpose()? })
    }

    /// The name of its host, if it has one.
    pub fn host_name(&self) -> Option<&str> {
        match &self.host {
            NetHost::Name(name) => Some(name),
            NetHost::Addresses(_) => None,
        }
    }

    /// Whether it has an address by itself, not by its name.
    pub fn covers(&self, address: IpAddr) -> bool {
        matches!(&self.host, NetHost::Addresses(range) if range.holds(&Cidr::of(address)))
    }

    fn has_port(&self, port: u16) -> bool {
        self.ports.is_none_or(|(first, last)| (first..=last).contains(&port))
    }

    /// Whether it names one address and one port.
    fn is_literal(&self) -> bool {
        let one_port = self.ports.is_some_and(|(first, last)| first == last);
        one_port && matches!(&self.host, NetHost::Addresses(range) if range.is_one())
    }
}

impl fmt::Display for NetGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match &self.host {
            NetHost::Name(name) => name.clone(),
            NetHost::Addresses(range) => range.to_string(),
        };
        match self.ports {
            None => f.write_str(&host),
            Some(_) if host.contains(':') => write!(f, "[{host}]"),
            Some(_) => f.write_str(&host),
        }?;
        match self.ports {
            None => Ok(()),
            Some((first, last)) if first == last => write!(f, ":{first}"),
            Some((first, last)) => write!(f, ":{first}-{last}"),
        }
    }
}

fn port_range(text: &str) -> Result<(u16, u16), &'static str> {
    const WHAT: &str = "the port isn't a number from 1 to 65535, or two of them, FIRST-LAST";
    let port = |text: &str| text.parse().ok().filter(|port| *port != 0).ok_or(WHAT);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first <= last { Ok((first, last)) } else { Err(WHAT) }
}

/// A host's name as it is compared: without the dot at the end, in lower case.
fn name(text: &str) -> Result<String, &'static str> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err("there is no host");
    }
    if text.contains('*') {
        return Err("there is no `*`: 0.0.0.0/0 and ::/0 are all public addresses");
    }
    if text.len() > MAX_NAME
        || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    {
        return Err("a host's name has up to 253 of a-z, 0-9, `-`, `_` and `.` (others as xn--)");
    }
    // What systems take for an address in another notation, `127.1`, `0x7f000001`, `010.0.0.1`.
    let last = text.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let hex = last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if hex || last.bytes().all(|b| b.is_ascii_digit()) {
        return Err("an address has four decimal numbers without zeros ahead");
    }
    Ok(text.to_ascii_lowercase())
}

/// What a job may not connect to, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Nothing at all is granted.
    Nothing,
    /// Nothing grants it.
    NotGranted(SocketAddr),
    /// It isn't public, which what grants it doesn't open.
    Special(SocketAddr, &'static str),
    /// The cluster itself listens there.
    Own(SocketAddr),
    /// A name that isn't granted.
    Name(String),
    /// The machine's owner doesn't let jobs go there: why.
    Withheld(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("connecting isn't allowed: add --allow-net=HOST:PORT"),
            Self::NotGranted(to) => {
                write!(f, "connecting to {to} isn't allowed: add --allow-net={to}")
            }
            Self::Special(to, what) => write!(
                f,
                "connecting to {to} isn't allowed: it is {what}, which no name and no wider range opens; add \
                 --allow-net={to}"
            ),
            Self::Own(to) => write!(
                f,
                "connecting to {to} isn't allowed: the cluster itself listens there, or may; add --allow-net={to} if \
                 that is what you want"
            ),
            Self::Name(name) => {
                write!(f, "looking up {name:?} isn't allowed: add --allow-net={name}")
            }
            Self::Withheld(why) => f.write_str(why),
        }
    }
}

/// Whether a job may connect to an address. `known` says which addresses a granted name has; `own` is where the cluster listens.
pub fn allows(
    grants: &[NetGrant],
    to: SocketAddr,
    known: &dyn Fn(&str) -> Vec<IpAddr>,
    own: &[SocketAddr],
) -> Result<(), Refusal> {
    let ip = to.ip().to_canonical();
    // As it is to be granted, and compared.
    let to = SocketAddr::new(ip, to.port());
    let this = Cidr::of(ip);
    let special = this.special();
    let covers = |grant: &&NetGrant| {
        to.port() != 0
            && grant.has_port(to.port())
            && match &grant.host {
                NetHost::Addresses(range) => range.holds(&this),
                NetHost::Name(name) => known(name).iter().any(|ip| Cidr::of(*ip) == this),
            }
    };
    let covering: Vec<_> = grants.iter().filter(covers).collect();
    if covering.is_empty() {
        return Err(Refusal::NotGranted(to));
    }
    if covering.iter().any(|grant| grant.is_literal()) {
        return Ok(());
    }
    let opens = |grant: &&NetGrant| match &grant.host {
        NetHost::Addresses(range) => range.is_one() || range.special().is_some(),
        NetHost::Name(_) => false,
    };
    if let Some(what) = special
        && !covering.iter().any(opens)
    {
        return Err(Refusal::Special(to, what));
    }
    // Daemons of other machines aren't all known here, but listen where those listen that are.
    let is_own = |own: &SocketAddr| {
        own.port() == to.port() && (special.is_some() || own.ip().to_canonical() == ip)
    };
    if own.iter().any(is_own) { Err(Refusal::Own(to)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(texts: &[&str]) -> Vec<NetGrant> {
        texts.iter().map(|text| NetGrant::parse(text).unwrap()).collect()
    }

    /// Of names: `good` is public, `rebound` was and now is everything that it shouldn't be.
    fn known(name: &str) -> Vec<IpAddr> {
        let of = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
        match name {
            "good" => of(&["1.1.1.1", "2606:4700::1111"]),
            "rebound" => of(&[
                "1.1.1.1",
                "127.0.0.1",
                "10.0.0.1",
                "169.254.169.254",
                "::1",
                "::ffff:10.0.0.2",
            ]),
            _ => Vec::new(),
        }
    }

    fn check(granted: &[&str], to: &str) -> Result<(), Refusal> {
        let own = ["10.0.0.1:7077", "127.0.0.1:7078", "5.5.5.5:7079"].map(|a| a.parse().unwrap());
        allows(&grants(granted), to.parse().unwrap(), &known, &own)
    }

    #[test]
    fn grants_are_read_as_they_are_written() {
        for (text, shown) in [
            ("Example.ORG.", "example.org"),
            ("example.org:443", "example.org:443"),
            ("h:8000-8010", "h:8000-8010"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.0.0.0/8:5432", "10.0.0.0/8:5432"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[::1]:80", "[::1]:80"),
            ("fd00::/8", "fd00::/8"),
            ("[fd00::/8]:80", "[fd00::/8]:80"),
            ("[fd00::]/8:80", "[fd00::/8]:80"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
        ] {
            let grant = NetGrant::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(grant.to_string(), shown, "{text}");
            assert_eq!(NetGrant::parse(shown), Ok(grant), "{shown}");
        }
    }

    #[test]
    fn what_is_no_grant_is_refused() {
        let long = "x".repeat(254);
        for text in [
            "",
            ".",
            ":80",
            "h:0",
            "h:x",
            "h:70000",
            "h:9-8",
            "h:0-8",
            "h:1-",
            "[::1",
            "[::1]80",
            "[h]:80x",
            "*",
            "*:80",
            "*.example.org",
            "h/8",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0.0/x",
            "10.0.0.0/",
            "a b",
            "bücher.example",
            "h\n",
            &long,
            // Systems take these for addresses.
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "010.0.0.1",
            "0x7f.1",
            "1.2.3.4.5",
            "127.0.0.1.",
        ] {
            assert!(NetGrant::parse(text).is_err(), "{text}: {:?}", NetGrant::parse(text));
        }
    }

    #[test]
    fn what_is_granted_is_allowed_and_nothing_else() {
        assert_eq!(check(&["good:443"], "1.1.1.1:443"), Ok(()));
        assert_eq!(check(&["good"], "[2606:4700::1111]:1"), Ok(()));
        assert_eq!(check(&["good:400-500"], "1.1.1.1:500"), Ok(()));
        assert_eq!(check(&["0.0.0.0/0"], "8.8.8.8:53"), Ok(()));
        let not = |granted: &[&str], to: &str| {
            assert!(matches!(check(granted, to), Err(Refusal::NotGranted(_))), "{granted:?} {to}");
        };
        not(&[], "1.1.1.1:443");
        not(&["good:443"], "1.1.1.1:80");
        not(&["good:400-500"], "1.1.1.1:501");
        not(&["good"], "1.1.1.2:443");
        not(&["other"], "1.1.1.1:443");
        not(&["0.0.0.0/0"], "[2606:4700::1111]:443");
        not(&["0.0.0.0/0", "1.1.1.1"], "1.1.1.1:0");
    }

    #[test]
    fn a_name_or_a_wide_range_opens_no_private_address() {
        for address in [
            "127.0.0.1:80",
            "10.0.0.1:80",
            "169.254.169.254:80",
            "[::1]:80",
            "10.0.0.2:80",
            "[::ffff:10.0.0.2]:80",
            "[::ffff:127.0.0.1]:80",
        ] {
            let refused = check(&["rebound", "rebound:80", "0.0.0.0/0", "::/0"], address);
            assert!(matches!(refused, Err(Refusal::Special(..))), "{address}: {refused:?}");
        }
        for address in
            ["[64:ff9b::a00:1]:80", "[2002:7f00:1::]:80", "[::127.0.0.1]:80", "[fe80::1]:80"]
        {
            let refused = check(&["::/0"], address);
            assert!(matches!(refused, Err(Refusal::Special(..))), "{address}: {refused:?}");
        }
        assert_eq!(check(&["rebound"], "1.1.1.1:80"), Ok(()), "what is public of it");
    }

    #[test]
    fn an_address_or_a_range_of_its_kind_opens_it() {
        assert_eq!(check(&["10.0.0.2"], "10.0.0.2:80"), Ok(()));
        assert_eq!(check(&["10.0.0.2:80"], "10.0.0.2:80"), Ok(()));
        assert_eq!(check(&["10.0.0.0/8"], "10.9.9.9:80"), Ok(()));
        assert_eq!(check(&["10.0.0.0/8"], "[::ffff:10.9.9.9]:80"), Ok(()));
        assert_eq!(check(&["fd00::/8"], "[fd12::1]:80"), Ok(()));
        assert_eq!(check(&["169.254.169.254:80"], "169.254.169.254:80"), Ok(()));
        // A name beside it helps nobody to another address.
        assert!(check(&["rebound", "10.0.0.2"], "10.0.0.1:80").is_err());
        let text = check(&["rebound"], "10.0.0.1:80").unwrap_err().to_string();
        assert!(
            text.contains("private") && text.ends_with("add --allow-net=10.0.0.1:80"),
            "{text}"
        );
    }

    #[test]
    fn the_clusters_own_ports_are_opened_by_name_alone() {
        let own = |granted: &[&str], to: &str| {
            assert!(matches!(check(granted, to), Err(Refusal::Own(_))), "{granted:?} {to}");
        };
        own(&["10.0.0.0/8"], "10.0.0.1:7077");
        own(&["10.0.0.1"], "10.0.0.1:7077");
        own(&["10.0.0.1:7000-7100"], "10.0.0.1:7077");
        own(&["10.0.0.0/8"], "[::ffff:10.0.0.1]:7077");
        // A worker elsewhere, of which this process doesn't know.
        own(&["10.0.0.0/8:7078"], "10.0.0.9:7078");
        own(&["0.0.0.0/0"], "5.5.5.5:7079");
        own(&["0.0.0.0/0"], "[::ffff:5.5.5.5]:7079");
        assert_eq!(
            check(&["0.0.0.0/0"], "6.6.6.6:7079"),
            Ok(()),
            "a public host is its own master"
        );
        assert_eq!(check(&["10.0.0.0/8"], "10.0.0.1:7076"), Ok(()));
        assert_eq!(check(&["10.0.0.1:7077"], "10.0.0.1:7077"), Ok(()));
        let text = check(&["10.0.0.1"], "10.0.0.1:7077").unwrap_err().to_string();
        assert!(
            text.contains("cluster itself") && text.contains("--allow-net=10.0.0.1:7077"),
            "{text}"
        );
    }
}
