//! Addresses that aren't of the public internet: nobody reaches them who wasn't granted just them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses; one address is a range of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    first: IpAddr,
    bits: u8,
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address as a number, as wide as an IPv6 address.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

impl Cidr {
    /// The range around an address that has its first bits; none if it hasn't so many. Of an IPv4 address in an IPv6 one, that of the former.
    pub fn new(address: IpAddr, bits: u8) -> Option<Self> {
        if bits > width(address) {
            return None;
        }
        let (address, bits) = match address.to_canonical() {
            canonical if canonical.is_ipv4() && address.is_ipv6() && bits >= 96 => {
                (canonical, bits - 96)
            }
            _ => (address, bits),
        };
        let first = number(address) & mask(bits);
        let first = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits((first >> 96) as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(first)),
        };
        Some(Self { first, bits })
    }

    /// The address or range that a text is; none if it isn't one.
    pub fn parse(text: &str) -> Result<Option<Self>, &'static str> {
        let (host, bits) = match text.split_once('/') {
            Some((host, bits)) => (host, Some(bits)),
            None => (text, None),
        };
        let Ok(found) = host.parse::<IpAddr>() else {
            return if bits.is_some() { Err("before `/` there is no address") } else { Ok(None) };
        };
        let Some(bits) = bits else { return Ok(Some(Self::of(found))) };
        // A range of addresses that hold IPv4 addresses, and of others: nobody means that.
        let range = bits.parse().ok().and_then(|bits| Self::new(found, bits));
        range.map(Some).ok_or("after `/` there must be how many bits, up to 32, or 128 of IPv6")
    }

    /// One address.
    pub fn of(address: IpAddr) -> Self {
        let first = address.to_canonical();
        Self { first, bits: width(first) }
    }

    /// Whether it is one address.
    pub fn is_one(&self) -> bool {
        self.bits == width(self.first)
    }

    /// Whether all of another range is in this one.
    pub fn holds(&self, other: &Cidr) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4()
            && self.bits <= other.bits
            && number(other.first) & mask(self.bits) == number(self.first)
    }

    /// What kind of special range all of it is in; none if it is in no single one.
    pub fn special(&self) -> Option<&'static str> {
        let found = SPECIAL.iter().find(|(range, _)| range.holds(self)).map(|(_, name)| *name);
        found.or_else(|| self.embedded()?.special())
    }

    /// The IPv4 addresses that are reached by these IPv6 ones, where the network translates or tunnels.
    fn embedded(&self) -> Option<Cidr> {
        let IpAddr::V6(first) = self.first else { return None };
        // What lies in front of the IPv4 address, of so many bits.
        let ahead = FORMS.iter().find(|(range, _)| range.holds(self)).map(|(_, ahead)| *ahead);
        let ahead = ahead.or_else(|| {
            // ISATAP, whatever its network: it ends in 0:5efe and the address, or 200:5efe.
            let [.., form, efe, _, _] = first.segments();
            (efe == 0x5efe && form & !0x200 == 0 && self.bits >= 96).then_some(96)
        })?;
        let v4 = Ipv4Addr::from_bits((first.to_bits() << ahead >> 96) as u32);
        Cidr::new(v4.into(), self.bits.saturating_sub(ahead).min(32))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_one() {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}/{}", self.first, self.bits),
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Cidr {
    Cidr { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
}

const fn v6(first: [u16; 4], last: u16, bits: u8) -> Cidr {
    let [a, b, c, d] = first;
    Cidr { first: IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, last)), bits }
}

/// IPv6 ranges that have an IPv4 address in them, and how many bits are ahead of it.
const FORMS: [(Cidr, u8); 4] = [
    // Compatible, long out of use; `::ffff:` is taken for IPv4 by `to_canonical`.
    (v6([0, 0, 0, 0], 0, 96), 96),
    // NAT64.
    (v6([0x64, 0xff9b, 0, 0], 0, 96), 96),
    // 6to4.
    (v6([0x2002, 0, 0, 0], 0, 16), 16),
    // Translated (SIIT).
    (Cidr { first: IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0)), bits: 96 }, 96),
];

const PRIVATE: &str = "a private address";
const LOOPBACK: &str = "an address of the machine itself";
const LINK: &str = "a link-local address, as those of cloud metadata are";
const NOWHERE: &str = "no address of a host";
const RESERVED: &str = "a reserved address";

const SPECIAL: [(Cidr, &str); 24] = [
    (v4(0, 0, 0, 0, 8), NOWHERE),
    (v4(10, 0, 0, 0, 8), PRIVATE),
    // Carriers' own; some clouds' metadata, too.
    (v4(100, 64, 0, 0, 10), PRIVATE),
    (v4(127, 0, 0, 0, 8), LOOPBACK),
    (v4(169, 254, 0, 0, 16), LINK),
    (v4(172, 16, 0, 0, 12), PRIVATE),
    (v4(192, 0, 0, 0, 24), RESERVED),
    (v4(192, 88, 99, 0, 24), RESERVED),
    (v4(192, 168, 0, 0, 16), PRIVATE),
    (v4(198, 18, 0, 0, 15), RESERVED),
    // A cloud's way to its own virtual machines.
    (v4(168, 63, 129, 16, 32), "an address of cloud metadata"),
    (v4(224, 0, 0, 0, 4), "a multicast address"),
    (v4(240, 0, 0, 0, 4), RESERVED),
    (v6([0, 0, 0, 0], 0, 128), NOWHERE),
    (v6([0, 0, 0, 0], 1, 128), LOOPBACK),
    // NAT64 of an operator's own.
    (v6([0x64, 0xff9b, 1, 0], 0, 48), PRIVATE),
    (v6([0x100, 0, 0, 0], 0, 64), NOWHERE),
    // Teredo, and other protocols' own.
    (v6([0x2001, 0, 0, 0], 0, 23), RESERVED),
    (v6([0x2001, 0xdb8, 0, 0], 0, 32), NOWHERE),
    (v6([0x3fff, 0, 0, 0], 0, 20), NOWHERE),
    (v6([0xfc00, 0, 0, 0], 0, 7), PRIVATE),
    (v6([0xfe80, 0, 0, 0], 0, 10), LINK),
    (v6([0xfec0, 0, 0, 0], 0, 10), PRIVATE),
    (v6([0xff00, 0, 0, 0], 0, 8), "a multicast address"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Cidr {
        Cidr::of(text.parse().unwrap())
    }

    fn range(text: &str) -> Cidr {
        let (address, bits) = text.split_once('/').unwrap();
        Cidr::new(address.parse().unwrap(), bits.parse().unwrap()).unwrap()
    }

    #[test]
    fn what_is_no_public_address_is_special_however_it_is_written() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.192",
            "168.63.129.16",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "64:ff9b:1::8.8.8.8",
            // Of IPv4 addresses, in their ways.
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "::10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2002:c0a8:101:5::7",
            "2001::1",
            "::ffff:0:10.0.0.1",
            "2620::5efe:10.0.0.1",
            "2620::200:5efe:192.168.0.1",
        ] {
            assert!(of(address).special().is_some(), "{address}");
        }
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.0.0.1",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.0.1",
            "168.63.129.17",
            "223.255.255.255",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
            "fbff::1",
            "2001:4860:4860::8888",
            "2620::5efe:1.1.1.1",
            "2620::300:5efe:10.0.0.1",
        ] {
            assert_eq!(of(address).special(), None, "{address}");
        }
    }

    #[test]
    fn a_range_is_special_if_all_of_it_is() {
        for text in [
            "10.0.0.0/8",
            "10.9.0.0/16",
            "192.168.0.0/16",
            "fd00::/8",
            "64:ff9b::a00:0/104",
            "2002:a00::/24",
            "::ffff:10.0.0.0/104",
        ] {
            assert!(range(text).special().is_some(), "{text}");
        }
        for text in [
            "0.0.0.0/0",
            "8.0.0.0/6",
            "10.0.0.0/7",
            "172.0.0.0/8",
            "::/0",
            "f000::/4",
            "64:ff9b::/96",
            "2002::/16",
            "::/96",
        ] {
            assert_eq!(range(text).special(), None, "{text}");
        }
    }

    #[test]
    fn ranges_hold_what_has_their_first_bits() {
        assert!(range("10.1.2.3/8").holds(&of("10.200.0.1")), "the rest of the address is nothing");
        assert!(!range("10.0.0.0/8").holds(&of("11.0.0.0")));
        assert!(range("10.0.0.0/8").holds(&of("::ffff:10.0.0.1")), "it is the same address");
        assert!(
            range("0.0.0.0/0").holds(&of("255.1.1.1")) && !range("0.0.0.0/0").holds(&of("2000::1"))
        );
        assert!(range("::/0").holds(&of("2000::1")) && !range("::/0").holds(&of("1.1.1.1")));
        assert!(of("1.1.1.1").is_one() && !range("1.1.1.0/24").is_one());
        assert_eq!(range("10.1.2.3/16").to_string(), "10.1.0.0/16");
        assert_eq!(Cidr::new("1.1.1.1".parse().unwrap(), 33), None);
        assert_eq!(Cidr::new("::1".parse().unwrap(), 129), None);
    }
}
