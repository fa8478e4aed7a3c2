//! A process's end of the socket that its worker started it with: its configuration comes there, word that it may begin, connections and files
//! that the process can't open itself; and the end, when the worker is gone.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use ingle_proto::prost::{Message, decode_length_delimiter};
use ingle_proto::v1;
use ingle_sandbox::{ComponentHash, Interrupt};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use crate::handing::{self, Messages};

/// A configuration larger than this comes from no worker.
const MAX_CONFIG: u64 = 64 << 20;
/// What is asked for at the same time. The worker looks at no more either (`worker/handing.rs`).
pub const AT_ONCE: usize = 8;

const FOR_WORKERS: &str =
    "this is for workers, which say on its standard input what to run; people use `rsubmit`";

/// What a worker says first to a process that it started.
pub fn configuration<M: Message + Default>(mut input: impl Read) -> Result<M, String> {
    let mut head = Vec::new();
    let mut byte = [0];
    // A varint: the last byte of it is below 128.
    while head.len() < 10 {
        input.read_exact(&mut byte).map_err(|_| FOR_WORKERS)?;
        head.push(byte[0]);
        if byte[0] < 128 {
            break;
        }
    }
    let length = decode_length_delimiter(head.as_slice()).map_err(|_| FOR_WORKERS)?;
    if length as u64 > MAX_CONFIG {
        return Err(FOR_WORKERS.into());
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes).map_err(|_| FOR_WORKERS)?;
    M::decode(bytes.as_slice()).map_err(|_| FOR_WORKERS.into())
}

/// The socket, before anything else is read from it than the configuration.
pub struct Lifeline(UnixStream);

impl Lifeline {
    /// That which is this process's standard input.
    pub fn of_this_process<M: Message + Default>() -> Result<(Self, M), String> {
        let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(|_| FOR_WORKERS)?;
        let socket = UnixStream::from(socket);
        let configuration = configuration(&socket)?;
        Ok((Self(socket), configuration))
    }

    #[cfg(test)]
    pub fn of_socket(socket: UnixStream) -> Self {
        Self(socket)
    }

    /// Ends the process when the worker is gone, however it went, from now on. Gives a way to ask the worker, and what says when it has put
    /// the process where it belongs.
    pub fn hold(self) -> (Arc<Worker>, oneshot::Receiver<()>) {
        self.hold_until(|why| {
            // Its logs may be on a full disk.
            let _ = writeln!(std::io::stderr(), "the worker is gone{why}");
            std::process::exit(1);
        })
    }

    /// As [`Lifeline::hold`]; `gone` is told why when the worker is.
    pub fn hold_until(
        self,
        gone: impl FnOnce(String) + Send + 'static,
    ) -> (Arc<Worker>, oneshot::Receiver<()>) {
        let (admit, admitted) = oneshot::channel();
        let worker = Arc::new(Worker {
            socket: self.0,
            asked: Mutex::default(),
            room: Semaphore::new(AT_ONCE),
        });
        let listens = worker.clone();
        let watch = move || gone(listens.listen(admit));
        if let Err(error) = std::thread::Builder::new().name("lifeline".into()).spawn(watch) {
            tracing::warn!("the end of the worker won't be noticed: {error}");
        }
        (worker, admitted)
    }
}

/// This process's worker, which hands over what the process may not open itself.
pub struct Worker {
    socket: UnixStream,
    asked: Mutex<Asked>,
    room: Semaphore,
}

#[derive(Default)]
struct Asked {
    last: u32,
    waiting: HashMap<u32, oneshot::Sender<Result<OwnedFd, String>>>,
}

impl Worker {
    /// A connection with `host:port`, if that is the driver, the master of a driver, or a worker.
    pub async fn connect(&self, address: &str) -> Result<TcpStream, String> {
        let handed = self.ask(v1::ask::What::Connection(address.to_owned())).await?;
        // The worker made it so that it doesn't block.
        let stream = std::net::TcpStream::from(handed);
        TcpStream::from_std(stream).map_err(|e| e.to_string())
    }

    /// The compiled code of this process's job, once that is made: what the sandbox takes.
    pub async fn code(
        &self,
        hash: ComponentHash,
        fits: String,
        interrupt: Interrupt,
    ) -> Result<File, String> {
        let component = hash.as_bytes().to_vec();
        let epoch_interruption = interrupt == Interrupt::Epoch;
        let code = v1::Code { component, fits, epoch_interruption };
        Ok(self.ask(v1::ask::What::Code(code)).await?.into())
    }

    /// This process's job, to be handed on.
    pub async fn component(&self, hash: ComponentHash) -> Result<File, String> {
        Ok(self.ask(v1::ask::What::Component(hash.as_bytes().to_vec())).await?.into())
    }

    async fn ask(&self, what: v1::ask::What) -> Result<OwnedFd, String> {
        const GONE: &str = "the worker is gone";
        let _one = self.room.acquire().await.map_err(|_| GONE)?;
        let (answer, answered) = oneshot::channel();
        {
            // Held while it is sent, for messages are sent one by one; that doesn't block.
            let mut asked = self.asked.lock();
            // Not 0.
            let number = asked.last % u32::MAX + 1;
            asked.last = number;
            let ask = v1::Ask { number, what: Some(what) }.encode_length_delimited_to_vec();
            match rustix::net::send(&self.socket, &ask, FLAGS) {
                Ok(sent) if sent == ask.len() => {}
                Ok(_) => return Err("the worker doesn't listen".into()),
                Err(error) => return Err(format!("asking the worker: {error}")),
            }
            asked.waiting.insert(number, answer);
        }
        answered.await.map_err(|_| GONE)?
    }

    /// Hands on what the worker says, until it is gone. Gives what is to be said of that.
    fn listen(&self, admit: oneshot::Sender<()>) -> String {
        let (mut messages, mut handed) = (Messages::default(), VecDeque::new());
        let (mut bytes, mut admit) = ([0; 4096], Some(admit));
        loop {
            match handing::receive(&self.socket, &mut bytes, &mut handed) {
                Ok(0) => return String::new(),
                Ok(count) => messages.add(&bytes[..count]),
                Err(error) => return format!(": {error}"),
            }
            loop {
                let message = match messages.take::<v1::Handed>() {
                    Ok(Some(message)) => message,
                    Ok(None) => break,
                    Err(why) => return format!(": {why}"),
                };
                if message.number == 0 {
                    // Whoever waited may have ended.
                    let _ = admit.take().map(|admit| admit.send(()));
                    continue;
                }
                let answer = match message.refusal.is_empty() {
                    true => handed.pop_front().ok_or_else(|| "the worker gave nothing".into()),
                    false => Err(message.refusal),
                };
                let waits = self.asked.lock().waiting.remove(&message.number);
                // Whoever waited may have ended: then it is closed.
                let _ = waits.map(|waits| waits.send(answer));
            }
        }
    }
}

/// It doesn't wait for a worker that doesn't listen.
const FLAGS: rustix::net::SendFlags =
    rustix::net::SendFlags::DONTWAIT.union(rustix::net::SendFlags::NOSIGNAL);

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// What a worker reads, one message.
    fn asked(socket: &mut UnixStream) -> v1::Ask {
        let mut messages = Messages::default();
        loop {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            messages.add(&byte);
            if let Some(ask) = messages.take().unwrap() {
                return ask;
            }
        }
    }

    fn answer(socket: &UnixStream, number: u32, refusal: &str, with: Option<&UnixStream>) {
        let answer = v1::Handed { number, refusal: refusal.into() };
        let bytes = answer.encode_length_delimited_to_vec();
        handing::send(socket, &bytes, with.map(AsFd::as_fd)).unwrap();
    }

    #[tokio::test]
    async fn answers_reach_whoever_asked() {
        let (mut socket, process) = UnixStream::pair().unwrap();
        let (gone, is_gone) = oneshot::channel();
        let told = move |why| {
            let _ = gone.send(why);
        };
        let (worker, admitted) = Lifeline(process).hold_until(told);
        let ask = |address: &str| {
            let (worker, what) = (worker.clone(), v1::ask::What::Connection(address.to_owned()));
            tokio::spawn(async move { worker.ask(what).await })
        };
        let (one, two) = (ask("one:1"), ask("two:2"));
        let answered = tokio::task::spawn_blocking(move || {
            let mut both = [asked(&mut socket), asked(&mut socket)];
            both.sort_by_key(|ask| ask.what == Some(v1::ask::What::Connection("one:1".into())));
            let (given, other) = UnixStream::pair().unwrap();
            answer(&socket, 0, "", None);
            answer(&socket, both[0].number, "not that one", None);
            answer(&socket, both[1].number, "", Some(&given));
            other
        });
        let mut other = answered.await.unwrap();
        admitted.await.unwrap();
        assert_eq!(two.await.unwrap().unwrap_err(), "not that one");
        let mut given = UnixStream::from(one.await.unwrap().unwrap());
        other.write_all(b"x").unwrap();
        given.read_exact(&mut [0]).unwrap();
        // The test's end of the socket went with the thread.
        assert_eq!(is_gone.await.unwrap(), "");
    }

    #[test]
    fn what_no_worker_says_is_no_configuration() {
        let config = v1::CompileConfig { component: b"x".to_vec(), ..Default::default() };
        let sound = config.encode_length_delimited_to_vec();
        assert_eq!(configuration::<v1::CompileConfig>(&sound[..]), Ok(config));
        for wrong in [&b""[..], b"hello\n", &[0xff; 12], &sound[..sound.len() - 1]] {
            let read = configuration::<v1::CompileConfig>(wrong);
            assert!(read.is_err_and(|why| why.contains("rsubmit")), "{wrong:?}");
        }
    }
}
