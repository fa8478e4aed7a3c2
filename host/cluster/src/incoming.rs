//! Connections of peers: so many at a time, none that never says what it wants, and each with whom a worker handed it to, if one did. Whose
//! processes have as many as there is room left get no more: however many one of them takes and holds, there is room for others.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

use crate::preamble;

/// Each is a file descriptor, and takes memory.
const MOST: u64 = 32_768;
/// What every peer says first (RFC 9113, section 3.4), and how long it may take for it. Later, silence is noticed by pings.
const PREFACE: usize = 24;
const PATIENCE: Duration = Duration::from_secs(10);

/// A listener's connections. Those beyond the bound are closed at once: half of the descriptors are for other things.
pub fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Peer>> {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(MOST);
    let most = usize::try_from((descriptors / 2).clamp(1, MOST)).unwrap_or(1);
    bounded(listener, most, PATIENCE)
}

fn bounded(
    listener: TcpListener,
    most: usize,
    patience: Duration,
) -> impl Stream<Item = io::Result<Peer>> {
    let room = Arc::new(Room { all: Arc::new(Semaphore::new(most)), of: Mutex::default() });
    let mut was_full = false;
    TcpListenerStream::new(listener).filter_map(move |accepted| {
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => return Some(Err(error)),
        };
        let place = room.all.clone().try_acquire_owned().ok();
        // A flood is told of once.
        if place.is_none() && !was_full {
            tracing::warn!("{most} connections are open, and no more can be: others are closed");
        }
        was_full = place.is_none();
        // Slower without it, but as good.
        let _ = stream.set_nodelay(true);
        let first = Some(Box::pin(sleep(patience)));
        let (preamble, handed_to) = (Some(Vec::new()), HandedTo::default());
        let (missing, room, share) = (PREFACE, room.clone(), None);
        Some(Ok(Peer { stream, preamble, handed_to, missing, first, room, share, _place: place? }))
    })
}

/// Room for connections.
struct Room {
    all: Arc<Semaphore>,
    /// How many have it that were handed to processes of an application or a driver, by its name.
    of: Mutex<HashMap<String, usize>>,
}

impl Room {
    /// A share in it for one more connection of an application or a driver, which has its place already. None: it has as many as there are places
    /// left. (Dynamic thresholds, as of Choudhury and Hahne, 1998: one alone may have half of all, two a third each.)
    fn share(self: &Arc<Self>, id: &str) -> Option<Share> {
        let mut of = self.of.lock();
        let count = of.get(id).copied().unwrap_or(0);
        if count > self.all.available_permits() {
            return None;
        }
        of.insert(id.to_owned(), count + 1);
        Some(Share { room: self.clone(), id: id.to_owned() })
    }
}

struct Share {
    room: Arc<Room>,
    id: String,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut of = self.room.of.lock();
        if let Some(count) = of.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                of.remove(&self.id);
            }
        }
    }
}

/// Whose process a worker handed a connection to, if it is one that was handed over: an application's, or a driver's. Known with the first request.
#[derive(Clone, Debug, Default)]
pub struct HandedTo(Arc<OnceLock<String>>);

impl HandedTo {
    #[cfg(test)]
    pub fn of(id: &str) -> Self {
        Self(Arc::new(OnceLock::from(id.to_owned())))
    }

    /// The id of the application or the driver.
    pub fn id(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// One connection.
pub struct Peer {
    stream: TcpStream,
    /// What came of a preamble; none if it has come, or if the peer begins without.
    preamble: Option<Vec<u8>>,
    handed_to: HandedTo,
    /// Bytes of the preface that didn't come yet,
    missing: usize,
    /// and when it is too late for them.
    first: Option<Pin<Box<Sleep>>>,
    room: Arc<Room>,
    /// If it was handed over.
    share: Option<Share>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Peer {
    type ConnectInfo = HandedTo;

    fn connect_info(&self) -> HandedTo {
        self.handed_to.clone()
    }
}

impl Peer {
    /// Reads a preamble, if there is one, and nothing behind it.
    fn poll_preamble(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(came) = &mut self.preamble {
            let mut bytes = [0; preamble::LENGTH];
            let mut buffer = ReadBuf::new(bytes.get_mut(came.len()..).unwrap_or_default());
            if came.is_empty() {
                let first = ready!(self.stream.poll_peek(context, &mut buffer))?;
                if first == 0 || buffer.filled().first() != Some(&preamble::FIRST) {
                    self.preamble = None;
                    continue;
                }
                buffer.clear();
            }
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            came.extend_from_slice(buffer.filled());
            if let Ok(whole) = <&[u8; preamble::LENGTH]>::try_from(came.as_slice()) {
                let id = preamble::read(whole).ok_or(io::ErrorKind::InvalidData)?;
                let share = self.room.share(id);
                self.share = Some(share.ok_or(io::ErrorKind::QuotaExceeded)?);
                // It is said once.
                let _ = self.handed_to.0.set(id.to_owned());
                self.preamble = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match self.poll_preamble(context) {
            Poll::Ready(Ok(())) => Pin::new(&mut self.stream).poll_read(context, buffer),
            broken => broken,
        };
        if let Poll::Ready(read) = read {
            self.missing = self.missing.saturating_sub(buffer.filled().len() - before);
            if self.missing == 0 {
                self.first = None;
            }
            return Poll::Ready(read);
        }
        let Some(first) = &mut self.first else { return Poll::Pending };
        ready!(first.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    async fn pair(most: usize) -> (impl Stream<Item = io::Result<Peer>>, std::net::SocketAddr) {
        pair_of(most, SHORT).await
    }

    async fn pair_of(
        most: usize,
        patience: Duration,
    ) -> (impl Stream<Item = io::Result<Peer>>, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (bounded(listener, most, patience), address)
    }

    #[tokio::test]
    async fn no_more_are_let_in_than_there_is_room_for() {
        let (peers, address) = pair(1).await;
        let mut peers = Box::pin(peers);
        let _first = TcpStream::connect(address).await.unwrap();
        let peer = peers.next().await.unwrap().unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        let next = tokio::spawn(async move { peers.next().await.unwrap().map(|_| ()) });
        let closed = second.read(&mut [0]).await;
        assert!(!matches!(closed, Ok(1..)), "there is no room for it");
        drop(peer);
        let _third = TcpStream::connect(address).await.unwrap();
        next.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_was_handed_over_says_to_whom_and_then_what_that_one_says() {
        let (peers, address) = pair_of(8, PATIENCE).await;
        tokio::pin!(peers);
        let words = [&preamble::of("driver-1").unwrap()[..], b"PRI * and more"].concat();
        // In whatever pieces it comes.
        for piece in [1, 7, preamble::LENGTH, words.len()] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut peer = peers.next().await.unwrap().unwrap();
            let handed = peer.connect_info();
            assert_eq!(handed.id(), None);
            let words = words.clone();
            let says = tokio::spawn(async move {
                for piece in words.chunks(piece) {
                    stream.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                stream
            });
            let mut said = [0; 14];
            peer.read_exact(&mut said).await.unwrap();
            assert_eq!((&said[..], handed.id()), (&b"PRI * and more"[..], Some("driver-1")));
            drop(says.await.unwrap());
            assert_eq!(peer.read(&mut said).await.unwrap(), 0);
        }
        let mut wrong = preamble::of("driver-1").unwrap();
        wrong[3] = b'x';
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut peer = peers.next().await.unwrap().unwrap();
        stream.write_all(&wrong).await.unwrap();
        let error = peer.read(&mut [0; 14]).await.unwrap_err();
        assert_eq!((error.kind(), peer.connect_info().id()), (io::ErrorKind::InvalidData, None));
        // Half of one, and then nothing.
        let (peers, address) = pair(1).await;
        tokio::pin!(peers);
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut peer = peers.next().await.unwrap().unwrap();
        stream.write_all(&preamble::of("driver-1").unwrap()[..30]).await.unwrap();
        let error = peer.read(&mut [0; 14]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_takes_all_that_he_can_leaves_room_for_others() {
        let (peers, address) = pair_of(12, PATIENCE).await;
        tokio::pin!(peers);
        let mut held = Vec::new();
        let mut take = async |id: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut peer = peers.next().await.unwrap().unwrap();
            stream.write_all(&preamble::of(id).unwrap()).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            let taken = peer.read_exact(&mut [0]).await.map(drop).map_err(|e| e.kind());
            if taken.is_ok() {
                held.push((stream, peer));
            }
            taken
        };
        for _ in 0..6 {
            take("app-1").await.unwrap();
        }
        assert_eq!(take("app-1").await, Err(io::ErrorKind::QuotaExceeded));
        for _ in 0..3 {
            take("app-2").await.unwrap();
        }
        assert_eq!(take("app-2").await, Err(io::ErrorKind::QuotaExceeded));
        take("app-3").await.unwrap();
        held.truncate(1);
        assert_eq!(held[0].1.room.of.lock().len(), 1, "what is closed is nobody's");
    }

    #[tokio::test]
    async fn who_says_too_little_for_too_long_is_given_up_and_who_said_hello_is_not() {
        let (peers, address) = pair(2).await;
        tokio::pin!(peers);
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut peer = peers.next().await.unwrap().unwrap();
        silent.write_all(b"PRI * HTTP").await.unwrap();
        let mut buffer = [0; PREFACE];
        let error = peer.read_exact(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut polite = TcpStream::connect(address).await.unwrap();
        let mut peer = peers.next().await.unwrap().unwrap();
        polite.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        peer.read_exact(&mut buffer).await.unwrap();
        let more = tokio::time::timeout(4 * SHORT, peer.read(&mut buffer)).await;
        assert!(more.is_err(), "it may be silent now");
    }
}
