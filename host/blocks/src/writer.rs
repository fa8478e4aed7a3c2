//! Who writes an output: a later try of a driver may have what an earlier one left unfinished.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// While an output is written, this is in `OUT/_temporary`; then `_SUCCESS` says the same of its writer.
pub(crate) const MARKER: &str = "open";
/// A marker is no longer than this.
pub(crate) const MAX_MARKER: u64 = 4096;

/// A try of a driver that its cluster starts again when it fails. The default is nobody known, who has nothing to take over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    driver: String,
    attempt: u32,
    /// Tasks of other processes write as well, who may be other users.
    #[serde(skip)]
    pub(crate) has_others: bool,
}

impl Writer {
    /// A driver of a cluster, and how often it was started before.
    pub fn new(driver: &str, attempt: u32) -> Self {
        Self { driver: driver.to_owned(), attempt, has_others: true }
    }

    /// Whether what the other one left is this one's.
    fn follows(&self, other: &Self) -> bool {
        !self.driver.is_empty() && self.driver == other.driver && self.attempt > other.attempt
    }
}

/// The name that an output's attempts go by: what was begun for another one never meets them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Token(String);

/// Who can write an output can write its marker, too.
impl TryFrom<String> for Token {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("no token")
    }
}

impl Token {
    pub(crate) fn random() -> io::Result<Self> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// What a driver said. None if it is no token: it becomes a name in a path.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        is_hex.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an output says of who writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    writer: Writer,
    pub token: Token,
}

impl Marker {
    pub fn new(writer: &Writer) -> io::Result<Self> {
        // That isn't told.
        let writer = Writer { has_others: false, ..writer.clone() };
        Ok(Self { writer, token: Token::random()? })
    }

    /// The same writer's, with the token of nothing.
    pub fn told(&self) -> io::Result<Self> {
        Self::new(&self.writer)
    }

    pub fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    pub fn text(&self) -> io::Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(io::Error::other)
    }

    /// Whether an output with this marker may be replaced by a writer.
    pub fn is_left_for(&self, writer: &Writer) -> bool {
        writer.follows(&self.writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_try_of_the_same_driver_takes_over() {
        let left = Marker::new(&Writer::new("driver-1", 2)).unwrap();
        let left = Marker::read(&left.text().unwrap()).unwrap();
        assert!(left.is_left_for(&Writer::new("driver-1", 3)));
        for other in
            [Writer::new("driver-1", 2), Writer::new("driver-1", 1), Writer::new("driver-2", 3)]
        {
            assert!(!left.is_left_for(&other), "{other:?}");
        }
        let nobodys = Marker::new(&Writer::default()).unwrap();
        assert!(!nobodys.is_left_for(&Writer::new("", 1)));
        assert_eq!(Marker::read(b""), None);
    }

    #[test]
    fn a_token_is_a_plain_name() {
        let token = Token::random().unwrap();
        assert_eq!(Token::parse(&token.to_string()), Some(token));
        for text in ["", "..", "0123456789abcde", "../../../../../x", "0123456789abcdeg"] {
            assert_eq!(Token::parse(text), None, "{text}");
        }
    }
}
