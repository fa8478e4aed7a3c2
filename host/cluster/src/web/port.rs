//! Where a daemon's page listens, as people write it.

use std::str::FromStr;

use serde::Deserialize;

/// Ports that are tried, each the next of the one before.
const TRIES: u16 = 16;

/// `--webui-port`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub enum PagePort {
    /// There is no page.
    Off,
    /// This one, or one of the next if it is taken; 0: any that is free.
    From(u16),
}

impl PagePort {
    /// The port that so many come before.
    pub fn plus(self, number: u16) -> Self {
        match self {
            Self::From(port @ 1..) => Self::From(port.saturating_add(number)),
            other => other,
        }
    }

    /// What is tried, in this order.
    pub fn tries(self) -> impl Iterator<Item = u16> {
        let (first, number) = match self {
            Self::Off => (0, 0),
            Self::From(0) => (0, 1),
            Self::From(port) => (port, TRIES),
        };
        (0..number).map_while(move |more| first.checked_add(more))
    }
}

impl FromStr for PagePort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::Off),
            text => text.parse().map(Self::From).map_err(|_| {
                format!(
                    "`{text}` is no port: write a number, 0 for any that is free, or none for no page"
                )
            }),
        }
    }
}

/// As a file has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Word(String),
}

impl TryFrom<Written> for PagePort {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(number) => number.to_string().parse(),
            Written::Word(word) => word.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_number_or_none() {
        assert_eq!("none".parse(), Ok(PagePort::Off));
        assert_eq!("0".parse(), Ok(PagePort::From(0)));
        assert_eq!("8080".parse(), Ok(PagePort::From(8080)));
        for bad in ["", "off", "-1", "65536", "80a"] {
            assert!(bad.parse::<PagePort>().unwrap_err().contains("none for no page"), "{bad}");
        }
    }

    #[test]
    fn a_taken_port_is_followed_by_the_next_ones() {
        let tries = |port: PagePort| port.tries().collect::<Vec<_>>();
        assert!(tries(PagePort::Off).is_empty());
        assert_eq!(tries(PagePort::From(0)), [0]);
        assert_eq!(tries(PagePort::From(8080)), (8080..8096).collect::<Vec<_>>());
        assert_eq!(tries(PagePort::From(65_534)), [65_534, 65_535]);
        assert_eq!(PagePort::From(8080).plus(2), PagePort::From(8082));
        assert_eq!(PagePort::From(0).plus(2), PagePort::From(0));
        assert_eq!(PagePort::Off.plus(2), PagePort::Off);
    }
}
