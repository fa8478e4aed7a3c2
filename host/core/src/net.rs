//! Addresses, and which of them a host lets jobs reach at all.

mod ranges;

use std::fmt;
use std::net::IpAddr;

pub use ranges::Cidr;

/// Which addresses jobs may reach from a host, whatever they are granted. From a user's own machine that is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reachable {
    /// Any.
    #[default]
    Any,
    /// These; none, if there are none.
    Only {
        /// All that are of the public internet.
        public: bool,
        /// And these, whatever they are of.
        ranges: Vec<Cidr>,
    },
}

impl Reachable {
    /// None.
    pub const NONE: Self = Self::Only { public: false, ranges: Vec::new() };

    /// `any` or `none` alone, or some of `public`, `ADDRESS` and `ADDRESS/BITS`. The error is for whoever wrote it.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        match texts {
            [one] if one == "any" => return Ok(Self::Any),
            [one] if one == "none" => return Ok(Self::NONE),
            _ => {}
        }
        let (mut public, mut ranges) = (false, Vec::new());
        for text in texts {
            if text == "public" {
                public = true;
                continue;
            }
            match Cidr::parse(text) {
                Ok(Some(range)) => ranges.push(range),
                Ok(None) => {
                    return Err(format!(
                        "{text}: write ADDRESS, ADDRESS/BITS or `public`, or `none` or `any` alone; what has names or ports is \
                         for --allow-net"
                    ));
                }
                Err(why) => return Err(format!("{text}: {why}")),
            }
        }
        Ok(Self::Only { public, ranges })
    }

    /// As [`Reachable::parse`] reads them.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Any => vec!["any".into()],
            Self::Only { public: false, ranges } if ranges.is_empty() => vec!["none".into()],
            Self::Only { public, ranges } => {
                let public = public.then(|| "public".to_owned());
                public.into_iter().chain(ranges.iter().map(ToString::to_string)).collect()
            }
        }
    }

    /// Whether an address is one of them.
    pub fn has(&self, address: IpAddr) -> bool {
        self.has_some_of(&Cidr::of(address))
    }

    /// Whether some address of a range may be. Only a single one is told for sure.
    pub fn has_some_of(&self, range: &Cidr) -> bool {
        match self {
            Self::Any => true,
            Self::Only { public, ranges } => {
                let is_of = |own: &Cidr| own.holds(range) || range.holds(own);
                ranges.iter().any(is_of) || *public && range.special().is_none()
            }
        }
    }

    /// Why something isn't to be had from here, for who wants it.
    pub fn refusal(&self, what: impl fmt::Display) -> String {
        let own = self.texts().join(",");
        format!(
            "{what} isn't allowed on this host, whose worker has --net={own}; have the worker's --net name it"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Reachable, String> {
        Reachable::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    fn has(texts: &[&str], address: &str) -> bool {
        parse(texts).unwrap().has(address.parse().unwrap())
    }

    #[test]
    fn any_or_none_or_these() {
        assert!(has(&["any"], "169.254.169.254") && Reachable::default() == Reachable::Any);
        assert!(!has(&["none"], "1.1.1.1"));
        let own = ["public", "10.1.0.0/16", "fd00::1"];
        for address in ["1.1.1.1", "10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "2606:4700::1"] {
            assert!(has(&own, address), "{address}");
        }
        for address in [
            "10.2.0.1",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "127.0.0.1",
            "0.0.0.0",
            "::",
            "::1",
            "fd00::2",
        ] {
            assert!(!has(&own, address), "{address}");
        }
        assert!(!has(&["10.1.0.0/16"], "1.1.1.1"));
    }

    #[test]
    fn a_range_of_which_some_is_there_is_not_refused_as_a_whole() {
        let some = |own: &[&str], range: &str| {
            parse(own).unwrap().has_some_of(&Cidr::parse(range).unwrap().unwrap())
        };
        assert!(some(&["10.1.0.0/16"], "10.0.0.0/8") && some(&["10.0.0.0/8"], "10.1.0.0/16"));
        assert!(some(&["public"], "0.0.0.0/0"));
        assert!(!some(&["public"], "10.0.0.0/8") && !some(&["10.0.0.0/8"], "11.0.0.0/8"));
        assert!(!some(&["none"], "0.0.0.0/0"));
    }

    #[test]
    fn they_are_written_as_they_are_read() {
        for own in [&["any"][..], &["none"], &["public"], &["public", "10.0.0.0/8", "::1"]] {
            let read = parse(own).unwrap();
            assert_eq!(read.texts(), own);
            assert_eq!(Reachable::parse(&read.texts()), Ok(read));
        }
        for bad in [
            &["none", "10.0.0.1"][..],
            &["any", "public"],
            &["example.org"],
            &["10.0.0.1:80"],
            &["10.0.0.0/33"],
            &[""],
            &["Public"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        let refusal = parse(&["public"]).unwrap().refusal("--allow-net=10.0.0.1");
        assert!(
            refusal.starts_with("--allow-net=10.0.0.1 isn't allowed on this host"),
            "{refusal}"
        );
    }
}
