//! The client of an object store, which goes nowhere else: whoever has a granted address must not send the host to one that isn't.

use std::fmt;

use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Url};

use super::{CONNECT, SILENCE};

/// A server that sends back and forth isn't followed for ever.
const MAX_REDIRECTS: usize = 10;

/// Makes such clients.
#[derive(Debug)]
pub struct Connector {
    /// Without TLS as well.
    pub plain: bool,
}

/// A server sends to another one.
#[derive(Debug)]
struct Elsewhere(String);

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "it sends to another host, {0}, which isn't followed: add --allow-read={0} and read that itself",
            self.0
        )
    }
}

impl std::error::Error for Elsewhere {}

/// Whether a server may send from one URL to another: within itself, or to TLS on the same host.
fn stays(from: &Url, to: &Url) -> bool {
    let same =
        from.scheme() == to.scheme() && from.port_or_known_default() == to.port_or_known_default();
    let ports = (from.port_or_known_default(), to.port_or_known_default());
    let safer = (from.scheme(), to.scheme()) == ("http", "https") && ports == (Some(80), Some(443));
    from.host() == to.host() && (same || safer)
}

fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let to = attempt.url().clone();
    match attempt.previous().last() {
        Some(from) if stays(from, &to) && attempt.previous().len() <= MAX_REDIRECTS => {
            attempt.follow()
        }
        Some(from) if stays(from, &to) => attempt.stop(),
        // Without what may be signed.
        _ => {
            let host = to.host_str().unwrap_or_default();
            let port = to.port().map(|port| format!(":{port}")).unwrap_or_default();
            attempt.error(Elsewhere(format!("{}://{host}{port}", to.scheme())))
        }
    }
}

/// A client that stays on the host that it is told to ask.
pub fn client(plain: bool) -> reqwest::Result<Client> {
    Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .https_only(!plain)
        .http1_only()
        .redirect(Policy::custom(follow))
        .build()
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |error: reqwest::Error| object_store::Error::Generic {
            store: "HTTP",
            source: error.into(),
        };
        Ok(HttpClient::new(client(self.plain).map_err(failed)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_sends_to_itself_or_nowhere() {
        let stays = |from: &str, to: &str| stays(&from.parse().unwrap(), &to.parse().unwrap());
        assert!(stays("http://a/x", "http://a/y") && stays("http://a:80/x", "http://A/y"));
        assert!(stays("http://a/x", "https://a/x"));
        for (from, to) in [
            ("https://a/x", "http://a/x"),
            ("https://a/x", "https://b/x"),
            ("https://a/x", "https://a:8443/x"),
            ("http://a/x", "https://a:8443/x"),
            ("http://a:8080/x", "https://a/x"),
            ("http://a/x", "http://169.254.169.254/latest/meta-data"),
            ("http://a/x", "http://a.b/x"),
            ("http://a/x", "http://a@b/x"),
        ] {
            assert!(!stays(from, to), "{from} {to}");
        }
    }
}
