//! The client of an object store, which goes nowhere else: whoever has a granted address must not send the host to one that isn't. And none of its
//! answers is longer than it may be, whatever it says of its length.

use std::fmt;
use std::pin::Pin;

use http_body_util::{BodyExt, Limited};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use reqwest::Method;
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
        Ok(HttpClient::new(Bounded(client(self.plain).map_err(failed)?)))
    }
}

/// A list of a store, which has 1000 names of up to 1 KiB, or of a web server, which has all of a folder's.
const MOST_LISTED: usize = 64 << 20;
/// Any other answer that is read as a whole: why not, or what was done.
const MOST_SAID: usize = 1 << 20;

/// A client whose answers aren't longer than they may be. What an object holds is taken as it comes; all else is read as a whole, into as much memory
/// as the server says that it needs.
#[derive(Debug)]
struct Bounded(Client);

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
            let answer = self.0.call(request).await?;
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
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
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
            let client = Connector { plain: true }.connect(&ClientOptions::default()).unwrap();
            let mut request = HttpRequest::new(HttpRequestBody::empty());
            *request.uri_mut() = format!("http://{address}{target}").parse().unwrap();
            let answer = client.execute(request).await.map_err(|e| e.to_string())?;
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
