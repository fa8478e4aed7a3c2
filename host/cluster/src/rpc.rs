//! What all connections between Ingle's processes share: the version, the secret, and how a broken one is noticed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use ingle_proto::v1;
use tokio::net::TcpStream;
use tokio_stream::{Stream, StreamExt};
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status};

use crate::lifeline::Worker;

/// The version of the contracts in `proto/`. Processes of different versions refuse each other.
pub const PROTOCOL: u32 = 5;
/// The largest message that is taken from a peer, in bytes.
pub const MAX_MESSAGE: usize = 64 << 20;
/// Bulk data comes in pieces of at most so many bytes,
pub const PIECE: usize = 1 << 20;
/// and the message that brings one has no more than this.
pub const PIECE_MESSAGE: usize = PIECE + (4 << 10);
/// Outputs whose blocks are asked for at once.
pub const MAX_OUTPUTS: usize = 1024;
/// A peer that says nothing for so long is asked whether it is there,
const KEEPALIVE: Duration = Duration::from_secs(5);
/// and given up after so long without an answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);

/// What peers may have on their way to this process, by HTTP/2's windows.
#[derive(Clone, Copy)]
pub struct Room {
    /// In one stream, in bytes.
    stream: u32,
    /// In all streams of a connection.
    connection: u32,
    /// Streams of one connection at a time.
    streams: u32,
}

/// For who hears many bytes: results, blocks.
pub const BULK: Room = Room { stream: 4 << 20, connection: 16 << 20, streams: 256 };
/// For who is asked, by whomever. A worker answers fewer requests of an application at the same time.
pub const WORDS: Room = Room { stream: 256 << 10, connection: 1 << 20, streams: 64 };

const SECRET: &str = "ingle-secret";

/// The bytes that the executors of an application prove themselves with.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// Long enough that nobody guesses it.
const SECRET_BYTES: usize = 32;

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A new one.
    pub fn random() -> Result<Self, String> {
        let mut bytes = vec![0; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(|e| format!("no random numbers: {e}"))?;
        Ok(Self(bytes))
    }

    /// One that a peer sent; none if it is too short to be one.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() == SECRET_BYTES).then_some(Self(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a call carries it. Takes as long for a wrong one as for the right one.
    pub fn is_in<T>(&self, request: &Request<T>) -> bool {
        let given = request.metadata().get(SECRET).map_or(&[][..], |v| v.as_bytes());
        let hex = self.hex();
        given.len() == hex.len()
            && given.iter().zip(hex.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
    }

    /// Puts it on every call.
    pub fn sender(&self) -> Result<SendSecret, String> {
        let value = self.hex().parse::<MetadataValue<Ascii>>().map_err(|e| e.to_string())?;
        Ok(SendSecret(value))
    }
}

/// Puts a secret on every call.
#[derive(Clone)]
pub struct SendSecret(MetadataValue<Ascii>);

impl Interceptor for SendSecret {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(SECRET, self.0.clone());
        Ok(request)
    }
}

/// Somebody's name for something, in an answer: cut, since an answer of any length is none that travels.
pub fn shown(name: &str) -> String {
    const MOST: usize = 100;
    let mut shown: String = name.chars().take(MOST).flat_map(char::escape_debug).collect();
    if name.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

/// What refuses a call without the right secret.
pub fn wrong_secret() -> Status {
    Status::unauthenticated("this application's secret isn't the one that was given")
}

/// Refuses a peer of another version.
pub fn check_protocol(what: &str, theirs: u32) -> Result<(), Status> {
    if theirs == PROTOCOL {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "this {what} speaks version {theirs} of the protocol, and the other side version {PROTOCOL}: use the same \
         version of Ingle on both sides"
    )))
}

pub fn client() -> Option<v1::Client> {
    Some(v1::Client { protocol: PROTOCOL })
}

/// An address to connect to, `host:port`. Nothing is sent before the first call.
pub fn endpoint(address: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| format!("{address} is no HOST:PORT"))?;
    Ok(endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(BULK.stream)
        .initial_connection_window_size(BULK.connection))
}

/// How connections are made.
#[derive(Clone, Default)]
pub enum Way {
    /// By this process.
    #[default]
    Own,
    /// By the worker that started it.
    Worker(Arc<Worker>),
}

impl Way {
    /// Connects once.
    pub async fn connect(&self, address: &str) -> Result<Channel, String> {
        let endpoint = endpoint(address)?;
        let connected = match self {
            Self::Own => endpoint.connect().await,
            Self::Worker(worker) => {
                let through = Through { worker: worker.clone(), address: address.to_owned() };
                endpoint.connect_with_connector(through).await
            }
        };
        connected.map_err(|e| {
            let why = innermost(&e);
            // The worker's words name it.
            if why.starts_with(address) { why } else { format!("{address}: {why}") }
        })
    }

    /// Connects when it is first used, and again when that broke.
    pub fn lazy(&self, address: &str) -> Result<Channel, String> {
        let endpoint = endpoint(address)?;
        Ok(match self {
            Self::Own => endpoint.connect_lazy(),
            Self::Worker(worker) => endpoint.connect_with_connector_lazy(Through {
                worker: worker.clone(),
                address: address.to_owned(),
            }),
        })
    }
}

/// Connects through a process's worker.
struct Through {
    worker: Arc<Worker>,
    address: String,
}

impl Service<Uri> for Through {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (worker, address) = (self.worker.clone(), self.address.clone());
        Box::pin(async move {
            let stream = worker.connect(&address).await;
            stream.map(TokioIo::new).map_err(std::io::Error::other)
        })
    }
}

/// `host:port`, also of an IPv6 address.
pub fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Connects once, by this process.
pub async fn connect(address: &str) -> Result<Channel, String> {
    Way::Own.connect(address).await
}

/// A server that notices when a peer is gone.
pub fn server(room: Room) -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(room.stream)
        .initial_connection_window_size(room.connection)
        .max_concurrent_streams(room.streams)
}

/// The cause behind the causes: "transport error" tells nobody anything.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// A refusal in words: what the peer said, or what the connection did.
pub fn words(status: &Status) -> String {
    use std::error::Error;
    match status.source() {
        Some(source) => innermost(source),
        None if status.message().is_empty() => status.code().description().to_owned(),
        None => status.message().to_owned(),
    }
}

/// What a stream of chunks brings; `failed` adds to the words of why it doesn't.
pub fn pieces(
    chunks: tonic::Streaming<v1::Chunk>,
    failed: impl Fn(String) -> String + Send + 'static,
) -> Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>> {
    let piece = move |chunk: Result<v1::Chunk, Status>| {
        chunk.map(|chunk| chunk.data).map_err(|status| failed(words(&status)))
    };
    Box::pin(chunks.map(piece))
}

/// Bytes as a stream of chunks.
pub fn chunks(bytes: Bytes) -> impl Stream<Item = Result<v1::Chunk, Status>> {
    let count = bytes.len().div_ceil(PIECE);
    tokio_stream::iter((0..count).map(move |i| {
        let end = bytes.len().min((i + 1) * PIECE);
        Ok(v1::Chunk { data: bytes.slice(i * PIECE..end) })
    }))
}

/// How long to wait before another try: doubles, with some chance in it so that not all come at once.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    pub fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(self.most);
        let mut byte = [128];
        // Without chance it is as good, if less fair.
        let _ = getrandom::fill(&mut byte);
        wait.mul_f64(0.75 + f64::from(byte[0]) / 512.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_carries_its_secret() {
        let secret = Secret::random().unwrap();
        let sent = secret.sender().unwrap().call(Request::new(())).unwrap();
        assert!(secret.is_in(&sent));
        assert!(!Secret::random().unwrap().is_in(&sent));
        assert!(!secret.is_in(&Request::new(())));
        assert!(Secret::from_bytes(Vec::new()).is_none(), "an empty secret is none");
    }

    #[test]
    fn other_versions_are_refused_with_both_numbers() {
        let refusal = check_protocol("worker", PROTOCOL + 1).unwrap_err();
        let text = refusal.message();
        let versions = [PROTOCOL, PROTOCOL + 1].map(|version| format!("version {version}"));
        assert!(versions.iter().all(|version| text.contains(version)), "{text}");
    }

    #[test]
    fn waits_grow_up_to_a_bound() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(40));
        let waits: Vec<_> = (0..6).map(|_| backoff.next()).collect();
        assert!(waits[0] < Duration::from_millis(13) && waits[5] >= Duration::from_millis(30));
        assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(50)));
    }
}
