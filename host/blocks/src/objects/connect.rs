//! The client of an object store, which goes nowhere else: whoever has a granted address must not send the host to one that isn't. And none of its
//! answers is longer than it may be, whatever it says of its length.

use std::fmt;
use std::pin::Pin;

use http_body_util::{BodyExt, Limited};
use ingle_core::net::Reachable;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use reqwest::Method;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Url};

use super::location::address;
use super::{CONNECT, SILENCE, withheld};

/// A server that sends back and forth isn't followed for ever.
const MAX_REDIRECTS: usize = 10;

/// Makes such clients.
#[derive(Clone, Debug)]
pub struct Connector {
    /// Without TLS as well.
    pub plain: bool,
    /// Where it may be.
    pub reachable: Reachable,
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

/// This machine's owner lets no job read there: why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Withheld(String);

/// Finds of a name's addresses those that may be reached.
struct Resolver(Reachable);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reachable = self.0.clone();
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let some = found.iter().copied().filter(|at| reachable.has(at.ip()));
            let some: Vec<_> = some.collect();
            if let (true, Some(at)) = (some.is_empty(), found.first()) {
                let what = format!("reading from {}, which is {},", name.as_str(), at.ip());
                return Err(Withheld(reachable.refusal(what)).into());
            }
            Ok(Box::new(some.into_iter()) as Addrs)
        })
    }
}

impl Connector {
    /// Whether a URL may be asked for: one of an address, which nobody looks up.
    pub fn permit(&self, url: &str) -> Result<(), Withheld> {
        match address(url) {
            Some(address) if !self.reachable.has(address) => {
                Err(Withheld(self.reachable.refusal(format!("reading from {address}"))))
            }
            _ => Ok(()),
        }
    }

    /// A client that stays on the host that it is told to ask.
    pub fn client(&self) -> reqwest::Result<Client> {
        let mut client = Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .https_only(!self.plain)
            .http1_only()
            .redirect(Policy::custom(follow));
        if self.reachable != Reachable::Any {
            // A proxy would find addresses by itself.
            client = client.no_proxy().dns_resolver(Resolver(self.reachable.clone()));
        }
        client.build()
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |error: reqwest::Error| object_store::Error::Generic {
            store: "HTTP",
            source: error.into(),
        };
        Ok(HttpClient::new(Bounded {
            client: self.client().map_err(failed)?,
            connector: self.clone(),
        }))
    }
}

/// A list of a store, which has 1000 names of up to 1 KiB, or of a web server, which has all of a folder's.
const MOST_LISTED: usize = 64 << 20;
/// Any other answer that is read as a whole: why not, or what was done.
const MOST_SAID: usize = 1 << 20;

/// A client whose answers aren't longer than they may be. What an object holds is taken as it comes; all else is read as a whole, into as much memory
/// as the server says that it needs.
#[derive(Debug)]
struct Bounded {
    client: Client,
    connector: Connector,
}

impl HttpService for Bounded {
    // As `async_trait` would have it.
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let query = request.uri().query().unwrap_or_default();
            let of_object = *request.method() == Method::GET && !query.contains("list-type=");
            self.connector
                .permit(&request.uri().to_string())
                .map_err(|why| HttpError::new(HttpErrorKind::Unknown, why))?;
            // What was refused once would be again.
            let answer =
                self.client.call(request).await.map_err(|error| match withheld(&error) {
                    Some(why) => HttpError::new(HttpErrorKind::Unknown, why.clone()),
                    None => error,
                })?;
            let most = match answer.status().is_success() {
                true if of_object => return Ok(answer),
                true => MOST_LISTED,
                false => MOST_SAID,
            };
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, most).map_err(move |error| {
                error.downcast::<HttpError>().map_or_else(
                    |_| HttpError::new(HttpErrorKind::Decode, TooLong(most)),
                    |error| *error,
                )
            });
            Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
        })
    }
}

/// An answer is longer than so many bytes.
#[derive(Debug, thiserror::Error)]
#[error("its answer has more than {0} bytes")]
struct TooLong(usize);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use object_store::client::HttpRequestBody;

    use super::*;

    /// What becomes of an answer that begins so, and has so many bytes.
    fn answered(head: &'static str, bytes: usize, target: &str) -> Result<usize, String> {
        answered_within(Reachable::Any, "127.0.0.1", head, bytes, target)
    }

    /// The same, from this host's name, if that may be reached.
    fn answered_within(
        reachable: Reachable,
        host: &str,
        head: &'static str,
        bytes: usize,
        target: &str,
    ) -> Result<usize, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                peer.read_exact(&mut byte).unwrap();
                asked.extend(byte);
            }
            peer.write_all(head.as_bytes()).unwrap();
            // It may not be read to its end.
            let _ = (0..bytes / 4096).try_for_each(|_| peer.write_all(&[b'x'; 4096]));
        });
        // Somebody else may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let connector = Connector { plain: true, reachable };
            let client = connector.connect(&ClientOptions::default()).unwrap();
            let mut request = HttpRequest::new(HttpRequestBody::empty());
            *request.uri_mut() = format!("http://{host}:{port}{target}").parse().unwrap();
            let answer = client.execute(request).await.map_err(|e| format!("{e:?}"))?;
            let read = answer.into_body().bytes().await;
            read.map(|bytes| bytes.len()).map_err(|e| format!("{e:?}"))
        })
    }

    #[test]
    fn what_an_answer_says_of_its_length_takes_no_memory() {
        let huge = "HTTP/1.1 404 Not Found\r\nContent-Length: 4611686018427387904\r\n\r\n";
        let why = answered(huge, 2 << 20, "/a").unwrap_err();
        assert!(why.contains("TooLong"), "{why}");
        let list = "HTTP/1.1 200 OK\r\nContent-Length: 4611686018427387904\r\n\r\n";
        let why = answered(list, 65 << 20, "/bucket?list-type=2&prefix=a").unwrap_err();
        assert!(why.contains("TooLong"), "{why}");
        let some = "HTTP/1.1 404 Not Found\r\nContent-Length: 8192\r\n\r\n";
        assert_eq!(answered(some, 8192, "/a"), Ok(8192));
        let some = "HTTP/1.1 200 OK\r\nContent-Length: 4194304\r\n\r\n";
        assert_eq!(answered(some, 4 << 20, "/a"), Ok(4 << 20), "what an object holds");
    }

    #[test]
    fn what_its_machine_withholds_is_not_read_whatever_its_name() {
        let sound = "HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n";
        let within = |own: &[&str], host: &str| {
            let own: Vec<_> = own.iter().map(|text| (*text).to_owned()).collect();
            answered_within(Reachable::parse(&own).unwrap(), host, sound, 4096, "/a")
        };
        for host in ["127.0.0.1", "localhost", "a@127.0.0.1", "[::ffff:127.0.0.1]"] {
            let why = within(&["public"], host).unwrap_err();
            assert!(why.contains("Withheld") && why.contains("--net=public"), "{host}: {why}");
            assert!(within(&["none"], host).is_err(), "{host}");
        }
        for host in ["127.0.0.1", "localhost"] {
            assert_eq!(within(&["127.0.0.0/8"], host), Ok(4096), "{host}");
            assert_eq!(within(&["any"], host), Ok(4096), "{host}");
        }
    }

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
