//! What a worker hands to a process that it started, at the process's wish: connections with those whom it needs, and the compiled code of its job.
//! It opens neither itself.
//!
//! A process is believed nothing. It gets so much at the same time, and so fast; then the worker doesn't listen for a while. It hands over nothing: one that does
//! is ended.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ingle_proto::prost::Message;
use ingle_proto::v1;
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

use super::closing::Apart;
use super::peers::{Addresses, Peers};
use crate::handing::{self, MAX_WORDS, Messages};
use crate::lifeline::AT_ONCE;
use crate::pace::Pace;

/// How fast a process may ask: so often at once, and so often in a second from then on.
const BURST: f64 = 64.0;
const PER_SECOND: f64 = 32.0;

/// The worker's end of a process's standard input.
pub type Socket = Arc<Apart<UnixStream>>;

/// Gives a process that was just started its configuration; one that doesn't read it has ended, and says why.
pub async fn configure(socket: &Socket, config: &[u8]) {
    let _ = write(socket, config, None).await;
}

/// Writes all of it, and hands over a descriptor with its first byte.
async fn write(
    socket: &Socket,
    mut bytes: &[u8],
    mut with: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let first = || handing::send(&***socket, bytes, with);
        let sent = socket.async_io(Interest::WRITABLE, first).await?;
        with = None;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Waits for bytes; 0: there are no more. The error: it handed something over with them, or broke.
async fn read(socket: &Socket, bytes: &mut [u8]) -> io::Result<usize> {
    let mut handed = Vec::new();
    let receive = || handing::receive(&***socket, bytes, &mut handed);
    let count = socket.async_io(Interest::READABLE, receive).await;
    if handed.is_empty() {
        return count;
    }
    drop(Apart::new(handed));
    Err(io::Error::new(io::ErrorKind::InvalidData, "it handed over what nobody asked for"))
}

/// Whom a process works for, beside workers.
pub struct Party {
    /// The process's own application, or its driver's id: whom it reaches is told so, for a process that was broken out of says anything.
    pub id: String,
    /// host:port of its driver, or of the master of a driver.
    pub address: String,
    /// What that is.
    pub is: &'static str,
    /// It stays where it was when it was first connected to, whatever its name means later.
    pub stays: bool,
}

/// A file that is being opened, perhaps made.
pub type Coming = Pin<Box<dyn Future<Output = Result<File, String>> + Send>>;
/// Opens what a process of one job wants.
pub type Files = Box<dyn Fn(v1::ask::What) -> Coming + Send + Sync>;
/// A driver needs its job's code, and the job for its executors.
const FILES: usize = 2;

/// What may be handed to one process.
pub struct Hands {
    peers: Arc<Peers>,
    party: Party,
    files: Files,
    /// How many of them it asked for.
    had: AtomicUsize,
    /// Where the party was found.
    found: Mutex<Option<Addresses>>,
    /// One name is looked up at a time.
    looks_up: Arc<tokio::sync::Mutex<()>>,
}

impl Hands {
    pub fn new(peers: Arc<Peers>, party: Party, files: Files) -> Self {
        let (found, looks_up) = (Mutex::default(), Arc::default());
        Self { peers, party, files, had: AtomicUsize::new(0), found, looks_up }
    }

    async fn hand(&self, what: Option<v1::ask::What>) -> Result<OwnedFd, String> {
        match what {
            Some(v1::ask::What::Connection(address)) => {
                let connected = self.connect(&address).await;
                Ok(connected.map_err(|why| format!("{address}: {why}"))?.into())
            }
            Some(_) if self.had.fetch_add(1, Ordering::Relaxed) >= FILES => {
                Err("this process has asked for its job before".into())
            }
            Some(file) => Ok((self.files)(file).await?.into()),
            None => Err("that is nothing that a worker has".into()),
        }
    }

    async fn connect(&self, address: &str) -> Result<std::net::TcpStream, String> {
        if address != self.party.address {
            if !self.peers.is_worker(address).await? {
                let is = self.party.is;
                return Err(format!(
                    "this process may connect to its {is} at {} and to workers that the master knows, and to nobody else",
                    self.party.address
                ));
            }
            let addresses = self.peers.look_up(address, &self.looks_up).await?;
            return Ok(self.peers.connect(&addresses, &self.party.id).await?.0);
        }
        let found = self.found.lock().clone();
        let addresses = match found {
            Some(found) => found,
            None => self.peers.look_up(address, &self.looks_up).await?,
        };
        let (stream, at) = self.peers.connect(&addresses, &self.party.id).await?;
        if self.party.stays {
            *self.found.lock() = Some(vec![at]);
        }
        Ok(stream)
    }
}

/// Something that is handed over, and its place among those at the same time, which is free once the worker has closed it.
type Handed = Apart<(OwnedFd, OwnedSemaphorePermit)>;

/// Hands a process what it asks for, as long as it runs, and tells it when it is `admitted`. Ends if it asks what it can't, with why.
pub async fn serve(socket: Socket, hands: Hands, admitted: oneshot::Receiver<()>) -> String {
    let hands = Arc::new(hands);
    let one_by_one = Arc::new(tokio::sync::Mutex::new(()));
    let mut answers = JoinSet::new();
    let (told, turn) = (socket.clone(), one_by_one.clone());
    answers.spawn(async move {
        if admitted.await.is_ok() {
            tell(&told, &turn, 0, Err(String::new())).await;
        }
    });
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut pace = Pace::new(BURST, PER_SECOND, Instant::now());
    let (mut messages, mut bytes) = (Messages::default(), [0; 4096]);
    loop {
        match read(&socket, &mut bytes).await {
            Ok(count @ 1..) => messages.add(&bytes[..count]),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return error.to_string(),
            // It has ended, or is about to.
            Ok(0) | Err(_) => std::future::pending().await,
        }
        loop {
            let ask = match messages.take::<v1::Ask>() {
                Ok(Some(ask)) => ask,
                Ok(None) => break,
                Err(why) => return why,
            };
            tokio::time::sleep(pace.take(Instant::now())).await;
            let Ok(one) = room.clone().acquire_owned().await else {
                // Its worker ends, which is none of its doing.
                std::future::pending().await
            };
            let (hands, socket, turn) = (hands.clone(), socket.clone(), one_by_one.clone());
            while answers.try_join_next().is_some() {}
            answers.spawn(async move {
                let (handed, refused) = match hands.hand(ask.what).await {
                    Ok(handed) => (Ok(Handed::new((handed, one))), None),
                    Err(why) => (Err(why), Some(one)),
                };
                tell(&socket, &turn, ask.number, handed).await;
                drop(refused);
            });
        }
    }
}

/// Says a process's answer, as soon as the process reads.
async fn tell(
    socket: &Socket,
    turn: &tokio::sync::Mutex<()>,
    number: u32,
    handed: Result<Handed, String>,
) {
    let refusal = match &handed {
        Ok(_) => String::new(),
        Err(why) => why.chars().take(MAX_WORDS / 4).collect(),
    };
    let message = v1::Handed { number, refusal }.encode_length_delimited_to_vec();
    let with = handed.as_ref().ok().map(|handed| handed.0.as_fd());
    {
        let _turn = turn.lock().await;
        // One that doesn't read has ended.
        if let Err(error) = write(socket, &message, with).await {
            tracing::debug!("a process isn't told: {error}");
        }
    }
    if let Ok(handed) = &handed {
        // It is the process's now, which may have closed it already: then what isn't sent goes with it. No socket, no lingering.
        let _ = rustix::net::sockopt::set_socket_linger(&handed.0, None);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::Duration;

    use ingle_sandbox::{ComponentHash, Interrupt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::lifeline::Lifeline;
    use crate::preamble;

    async fn listen() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    fn worker_end(socket: std::os::unix::net::UnixStream) -> Socket {
        socket.set_nonblocking(true).unwrap();
        Arc::new(Apart::new(UnixStream::from_std(socket).unwrap()))
    }

    /// A connection whose closing takes an hour, for nobody reads at its other end; until that is dropped.
    fn lingering() -> (std::net::TcpStream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        while (&stream).write(&[0; 64 << 10]).is_ok() {}
        let hour = Some(Duration::from_secs(3600));
        rustix::net::sockopt::set_socket_linger(&stream, hour).unwrap();
        (stream, listener.accept().unwrap().0)
    }

    /// The runtime has one thread. Where that closes what the process hands over, this test takes an hour.
    #[tokio::test]
    async fn a_process_that_hands_something_over_is_ended_and_nobody_waits_for_that() {
        let peers = Peers::new("127.0.0.1:1".into(), "127.0.0.1:1".into());
        let (socket, process) = std::os::unix::net::UnixStream::pair().unwrap();
        let served = serve(worker_end(socket), hands(peers, "127.0.0.1:1"), admitted());
        let mut ends = Vec::new();
        for _ in 0..2 {
            // The first one is read; the second stays in the socket, with which it is closed.
            let (stream, end) = lingering();
            handing::send(&process, &[1], Some(stream.as_fd())).unwrap();
            ends.push(end);
        }
        let why = served.await;
        assert!(why.contains("handed over"), "{why}");
        drop(ends);
    }

    /// Hands of a process whose driver is there, and whose code says nothing.
    fn hands(peers: Peers, address: &str) -> Hands {
        let (id, address) = ("app-1".to_owned(), address.to_owned());
        let party = Party { id, address, is: "driver", stays: true };
        let file =
            |_| -> Coming { Box::pin(async { tempfile::tempfile().map_err(|e| e.to_string()) }) };
        Hands::new(Arc::new(peers), party, Box::new(file))
    }

    /// One that has been admitted.
    fn admitted() -> oneshot::Receiver<()> {
        let (admit, admitted) = oneshot::channel();
        admit.send(()).unwrap();
        admitted
    }

    #[tokio::test]
    async fn a_process_is_connected_with_its_driver_and_workers_and_nobody_else() {
        let ((driver, at), (own, own_at), (_other, other_at)) =
            (listen().await, listen().await, listen().await);
        // Nobody is a master there.
        let peers = Peers::new(own_at.clone(), "127.0.0.1:1".into());
        let (socket, process) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = worker_end(socket);
        let served = tokio::spawn(serve(socket, hands(peers, &at), admitted()));
        let (worker, admitted) = Lifeline::of_socket(process).hold_until(|_| {});
        admitted.await.unwrap();
        for (listener, at) in [(driver, &at), (own, &own_at)] {
            let mut connected = worker.connect(at).await.unwrap();
            let (mut accepted, _) = listener.accept().await.unwrap();
            // Not by the process.
            let mut preamble = [0; preamble::LENGTH];
            accepted.read_exact(&mut preamble).await.unwrap();
            assert_eq!(preamble::read(&preamble), Some("app-1"));
            accepted.write_all(b"x").await.unwrap();
            assert_eq!(connected.read_u8().await.unwrap(), b'x');
        }
        let refused = worker.connect(&other_at).await.unwrap_err();
        assert!(refused.contains("can't be asked"), "{refused}");
        let code = || worker.code(ComponentHash::of(b"job"), String::new(), Interrupt::Calls);
        code().await.unwrap();
        worker.component(ComponentHash::of(b"job")).await.unwrap();
        assert!(code().await.unwrap_err().contains("before"), "no more than it needs");
        assert!(!served.is_finished());
    }

    #[tokio::test]
    async fn a_driver_whose_name_moves_stays_where_it_was() {
        let ((first, at), (second, moved)) = (listen().await, listen().await);
        let peers = Peers::new("127.0.0.1:1".into(), "127.0.0.1:1".into());
        let name = format!("localhost:{}", first.local_addr().unwrap().port());
        let hands = hands(peers, &name);
        hands.connect(&name).await.unwrap();
        assert_eq!(*hands.found.lock(), Some(vec![at.parse().unwrap()]));
        // What it means from now on; it isn't looked up.
        *hands.found.lock() = Some(vec![moved.parse().unwrap()]);
        drop(first);
        hands.connect(&name).await.unwrap();
        second.accept().await.unwrap();
    }

    #[tokio::test]
    async fn what_makes_no_sense_ends_it() {
        let peers = Peers::new("127.0.0.1:1".into(), "127.0.0.1:1".into());
        let (socket, mut process) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = worker_end(socket);
        let served = tokio::spawn(serve(socket, hands(peers, "127.0.0.1:1"), admitted()));
        process.write_all(&[0xff; 20]).unwrap();
        assert!(!served.await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_nobody_has_is_refused_and_others_are_answered() {
        let peers = Peers::new("127.0.0.1:1".into(), "127.0.0.1:1".into());
        let (socket, process) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = worker_end(socket);
        let served = tokio::spawn(serve(socket, hands(peers, "127.0.0.1:1"), admitted()));
        let ask = v1::Ask { number: 7, what: None }.encode_length_delimited_to_vec();
        for _ in 0..8 {
            handing::send(&process, &ask, None).unwrap();
        }
        process.set_nonblocking(false).unwrap();
        let (mut messages, mut answered) = (Messages::default(), 0);
        let answers = tokio::task::spawn_blocking(move || {
            let (mut process, mut bytes) = (process, [0; 4096]);
            while answered < 9 {
                let count = process.read(&mut bytes).unwrap();
                messages.add(&bytes[..count]);
                while let Some(handed) = messages.take::<v1::Handed>().unwrap() {
                    assert!(handed.number == 0 || handed.refusal.contains("nothing"));
                    answered += 1;
                }
            }
        });
        answers.await.unwrap();
        served.abort();
    }

    #[test]
    fn a_process_that_asks_too_often_waits() {
        let start = Instant::now();
        let mut pace = Pace::new(BURST, PER_SECOND, start);
        assert!((0..64).all(|_| pace.take(start).is_zero()));
        let waits: Vec<_> = (0..32).map(|_| pace.take(start)).collect();
        assert!(waits.is_sorted() && !waits[0].is_zero());
        assert_eq!(waits[31], Duration::from_secs(1));
        assert!(pace.take(start + Duration::from_secs(3600)).is_zero());
        assert!((0..63).all(|_| pace.take(start + Duration::from_secs(3600)).is_zero()));
        assert!(!pace.take(start + Duration::from_secs(3600)).is_zero(), "no more than a burst");
    }
}
