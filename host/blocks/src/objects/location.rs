//! Addresses of objects, as users and guests write them.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use object_store::path::Path as Key;

use crate::error::{Error, Result};

/// The longest key that S3 knows has 1024 bytes.
const MAX_KEY: usize = 1024;

/// A store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StoreName {
    /// A bucket.
    S3(String),
    /// `https://HOST:PORT`.
    Http(String),
}

/// The address in a URL, however that writes it; none if it has a name.
pub(crate) fn address(url: &str) -> Option<IpAddr> {
    let url = reqwest::Url::parse(url).ok()?;
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

impl StoreName {
    /// The address that it is at, if it has no name.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::S3(_) => None,
            Self::Http(origin) => address(origin),
        }
    }
}

/// An object, or what the keys of several begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub store: StoreName,
    pub key: Key,
}

/// Whether a text is no path of this machine.
pub(crate) fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
            && scheme != "file"
    })
}

/// A path of this machine, without `file://`.
pub(crate) fn local(text: &str) -> &str {
    match text.strip_prefix("file://") {
        Some(path) if path.starts_with('/') => path,
        _ => text,
    }
}

impl Location {
    /// Reads a URL. A key of S3 is taken as it is, a path of HTTP is decoded.
    pub fn parse(text: &str) -> Result<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let bad = |why: &str| {
            let shown = crate::error::show(text.as_ref());
            Err(Error::Invalid(format!("{shown}: {why}")))
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.len() > MAX_KEY {
            return bad("its path is longer than 1024 bytes");
        }
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let store = match scheme {
            "s3" | "s3a" => {
                if host.is_empty() || !host.chars().all(is_host) {
                    return bad("write s3://BUCKET/KEY");
                }
                StoreName::S3(host.to_owned())
            }
            "http" | "https" => {
                if host.contains('@') {
                    return bad("a name and password can't be in a URL");
                }
                let is_host = |c: char| is_host(c) || ":[]".contains(c);
                if host.is_empty() || !host.chars().all(is_host) {
                    return bad("write https://HOST/PATH");
                }
                if path.contains(['?', '#']) {
                    return bad("a query or a fragment can't be in a URL");
                }
                StoreName::Http(format!("{scheme}://{}", host.to_ascii_lowercase()))
            }
            _ => {
                return bad(
                    "no such store is known; there are s3://, https://, http:// and file://",
                );
            }
        };
        let key = match store {
            StoreName::S3(_) => Key::parse(path),
            StoreName::Http(_) => Key::from_url_path(path),
        };
        match key {
            // What is shown must be read again as the same.
            Ok(key) if scheme.starts_with("http") && key.as_ref().contains(['%', '?', '#']) => {
                bad("an encoded %, ? or # can't be in its path")
            }
            Ok(key) => Ok(Self { store, key }),
            Err(_) => bad("its path has an empty, a dotted or an unprintable part"),
        }
    }

    /// Whether it is found where S3 is said to be.
    pub fn is_of_s3(&self) -> bool {
        matches!(self.store, StoreName::S3(_))
    }

    /// Whether this is `other`, or below it.
    pub fn is_in(&self, other: &Self) -> bool {
        self.store == other.store && self.key.prefix_matches(&other.key)
    }

    /// The same store, another key.
    pub fn at(&self, key: Key) -> Self {
        Self { store: self.store.clone(), key }
    }

    /// For messages, and for lists of files.
    pub fn as_path(&self) -> PathBuf {
        self.to_string().into()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.store {
            StoreName::S3(bucket) => write!(f, "s3://{bucket}/{}", self.key),
            StoreName::Http(origin) => write!(f, "{origin}/{}", self.key),
        }
    }
}
