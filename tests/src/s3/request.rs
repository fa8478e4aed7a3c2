//! Requests, as a store understands them.

use std::collections::BTreeMap;

use bytes::Bytes;
use hyper::http::request::Parts;

use super::store::Refusal;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Get,
    Head,
    Put,
    List,
    /// A list of uploads.
    Uploads,
    /// Of several objects at once.
    Delete,
    /// Of an upload.
    Begin,
    Part,
    Complete,
    Abort,
}

pub struct Request {
    pub operation: Operation,
    pub bucket: String,
    /// Of a list, what keys are to begin with; of a deletion, the first that is to go.
    pub key: String,
    pub query: BTreeMap<String, String>,
    pub body: Bytes,
    parts: Parts,
}

impl Request {
    /// None if it is nothing that a store knows.
    pub fn new(parts: Parts, body: Bytes) -> Option<Self> {
        let pairs = parts.uri.query().unwrap_or_default().split('&').map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " ")))
        });
        let query: BTreeMap<_, _> = pairs.collect();
        let path = parts.uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let has = |name| query.contains_key(name);
        let operation = match (parts.method.as_str(), key.is_empty()) {
            ("GET", true) if has("list-type") => Operation::List,
            ("GET", true) if has("uploads") => Operation::Uploads,
            ("POST", true) if has("delete") => Operation::Delete,
            (_, true) => return None,
            ("GET", _) => Operation::Get,
            ("HEAD", _) => Operation::Head,
            ("PUT", _) if has("uploadId") && has("partNumber") => Operation::Part,
            ("PUT", _) => Operation::Put,
            ("POST", _) if has("uploads") => Operation::Begin,
            ("POST", _) if has("uploadId") => Operation::Complete,
            ("DELETE", _) if has("uploadId") => Operation::Abort,
            _ => return None,
        };
        let (bucket, mut key) = (decoded(bucket), decoded(key));
        if matches!(operation, Operation::List | Operation::Uploads) {
            key = query.get("prefix").cloned().unwrap_or_default();
        }
        let mut request = Self { operation, bucket, key, query, body, parts };
        if operation == Operation::Delete {
            request.key = request.tagged("Key").into_iter().next().unwrap_or_default();
        }
        Some(request)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    pub fn forget_range(&mut self) {
        self.parts.headers.remove("range");
    }

    pub fn asked(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// Whose key it was signed with; none if it wasn't.
    pub fn access_key(&self) -> Option<&str> {
        let signed = self.header("authorization").and_then(|text| text.split_once("Credential="));
        let signed = signed.map(|(_, rest)| rest).or(self.in_url("X-Amz-Credential"))?;
        Some(signed.split_once('/')?.0)
    }

    /// The token of their session.
    pub fn token(&self) -> Option<&str> {
        self.header("x-amz-security-token").or(self.in_url("X-Amz-Security-Token"))
    }

    fn in_url(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    pub fn says(&self, text: &str) -> bool {
        text.is_empty() || String::from_utf8_lossy(&self.body).contains(text)
    }

    /// What is between these tags of the body's XML, in order.
    pub fn tagged(&self, tag: &str) -> Vec<String> {
        let body = String::from_utf8_lossy(&self.body);
        let (start, end) = (format!("<{tag}>"), format!("</{tag}>"));
        let inner = body.split(&start).skip(1).filter_map(|piece| piece.split_once(&end));
        inner.map(|(text, _)| unescaped(text)).collect()
    }

    /// The bytes from and to (not included) that it wants of so many.
    pub fn range(&self, length: usize) -> Result<Option<(usize, usize)>, Refusal> {
        const NO_RANGE: Refusal = (416, "InvalidRange", "The range is not satisfiable");
        let Some(range) = self.header("range") else { return Ok(None) };
        let ends = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
        let (from, to) = ends.ok_or(NO_RANGE)?;
        let (from, to) = match (from.parse::<usize>(), to.parse::<usize>()) {
            (Ok(from), Ok(to)) => (from, length.min(to + 1)),
            (Ok(from), Err(_)) => (from, length),
            (Err(_), Ok(last)) => (length.saturating_sub(last), length),
            _ => return Err(NO_RANGE),
        };
        if from < to { Ok(Some((from, to))) } else { Err(NO_RANGE) }
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let hex = others.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &others[2..];
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

const ESCAPES: [(&str, &str); 5] =
    [("&quot;", "\""), ("&apos;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];

fn unescaped(text: &str) -> String {
    ESCAPES.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

pub fn escaped(text: &str) -> String {
    let last_first = ESCAPES.iter().rev();
    last_first.fold(text.to_owned(), |text, (escaped, plain)| text.replace(plain, escaped))
}
