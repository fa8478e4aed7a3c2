//! Whom a worker connects its processes with: the other workers, as the master knows them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingle_proto::v1::master_client::MasterClient;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tonic::transport::Channel;

use crate::{preamble, rpc};

/// Where a name leads to.
pub type Addresses = Vec<SocketAddr>;

/// What the master said of its workers holds so long.
const FRESH: Duration = Duration::from_secs(30);
/// It isn't asked more often than that,
const PAUSE: Duration = Duration::from_millis(500);
/// and may take so long.
const ANSWER: Duration = Duration::from_secs(2);
/// Less than those who wait for it do.
const CONNECT: Duration = Duration::from_secs(4);
/// Its answer has all workers: as many as it may have, by names as long as they may be.
const MAX_LIST: usize = 8 << 20;
/// Names that are looked up at the same time. The system may take long for one, and has a thread for each.
const LOOKUPS: usize = 64;

/// The workers of this worker's cluster.
pub struct Peers {
    own: String,
    master: String,
    known: Mutex<Known>,
    client: Mutex<Option<MasterClient<Channel>>>,
    /// Where the answer comes that is waited for.
    asking: Mutex<Option<watch::Receiver<Option<Asked>>>>,
    lookups: Arc<Semaphore>,
}

/// Whether the master said anything, or why not.
type Asked = Result<(), String>;

/// What the master said.
#[derive(Default)]
struct Known {
    addresses: HashSet<String>,
    asked: Option<Instant>,
    answered: Option<Instant>,
}

impl Known {
    /// Whether a worker is there. None: the master must be asked.
    fn is_worker(&self, address: &str, now: Instant) -> Option<bool> {
        let age = now.saturating_duration_since(self.answered?);
        (age < FRESH && self.addresses.contains(address)).then_some(true)
    }

    /// How long it is before the master may be asked.
    fn pause(&self, now: Instant) -> Duration {
        let next = self.asked.map_or(now, |asked| asked + PAUSE);
        next.saturating_duration_since(now)
    }
}

impl Peers {
    pub fn new(own: String, master: String) -> Self {
        Self {
            own,
            master,
            known: Mutex::default(),
            client: Mutex::default(),
            asking: Mutex::default(),
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }

    /// Whether a worker of the cluster serves there. The error: the master isn't there to say so. As long as it isn't, those that it named
    /// before are.
    pub async fn is_worker(self: &Arc<Self>, address: &str) -> Result<bool, String> {
        if address == self.own {
            return Ok(true);
        }
        let came = Instant::now();
        if let Some(is) = self.known.lock().is_worker(address, came) {
            return Ok(is);
        }
        let asked = self.ask(came).await;
        let is = self.known.lock().addresses.contains(address);
        match asked {
            Err(why) if !is => Err(format!(
                "the master, which knows whether a worker is there, can't be asked: {why}"
            )),
            _ => Ok(is),
        }
    }

    /// Asks the master which workers there are, unless somebody else has since `came`. All who ask at a time wait for one answer.
    pub async fn ask(self: &Arc<Self>, came: Instant) -> Asked {
        let mut answer = {
            let mut asking = self.asking.lock();
            if self.known.lock().answered.is_some_and(|answered| answered >= came) {
                return Ok(());
            }
            let is_awaited = |answer: &&watch::Receiver<Option<Asked>>| answer.borrow().is_none();
            match asking.as_ref().filter(is_awaited) {
                Some(answer) => answer.clone(),
                None => {
                    let (tell, answer) = watch::channel(None);
                    *asking = Some(answer.clone());
                    let this = self.clone();
                    // It goes on if who asked first has ended.
                    tokio::spawn(async move {
                        let asked = this.ask_now().await;
                        tell.send_replace(Some(asked));
                    });
                    answer
                }
            }
        };
        match answer.wait_for(Option::is_some).await {
            Ok(asked) => asked.clone().unwrap_or(Ok(())),
            Err(_) => Err("the worker ends".into()),
        }
    }

    async fn ask_now(&self) -> Asked {
        let pause = self.known.lock().pause(Instant::now());
        tokio::time::sleep(pause).await;
        self.known.lock().asked = Some(Instant::now());
        let asked = async {
            let known = self.client.lock().clone();
            let mut client = match known {
                Some(client) => client,
                None => MasterClient::new(rpc::endpoint(&self.master)?.connect_lazy())
                    .max_decoding_message_size(MAX_LIST),
            };
            *self.client.lock() = Some(client.clone());
            let workers = client.list_workers(rpc::client().unwrap_or_default()).await;
            workers.map_err(|status| rpc::words(&status))
        };
        let workers = tokio::time::timeout(ANSWER, asked).await;
        let workers = workers.map_err(|_| "it doesn't answer")??.into_inner().workers;
        let mut known = self.known.lock();
        known.addresses = workers.into_iter().map(|worker| worker.address).collect();
        known.answered = Some(Instant::now());
        Ok(())
    }

    /// Where a name leads to; nobody else who holds `turn` asks the system meanwhile.
    pub async fn look_up(
        &self,
        address: &str,
        turn: &Arc<tokio::sync::Mutex<()>>,
    ) -> Result<Addresses, String> {
        if let Ok(address) = address.parse() {
            return Ok(vec![address]);
        }
        let (address, turn, lookups) = (address.to_owned(), turn.clone(), self.lookups.clone());
        let found = async {
            let turn = turn.lock_owned().await;
            let one = lookups.acquire_owned().await;
            // It goes on if nobody waits any more, for nothing ends it: so does its turn.
            let found = tokio::spawn(async move {
                let _held = (turn, one);
                tokio::net::lookup_host(address).await.map(Iterator::collect)
            });
            found.await
        };
        let found = tokio::time::timeout(CONNECT, found).await;
        let found = found.map_err(|_| "nobody says in time where that is")?;
        found.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    /// Connects, says first that it is for a process of `id`, and says here with which of these.
    pub async fn connect(
        &self,
        addresses: &[SocketAddr],
        id: &str,
    ) -> Result<(std::net::TcpStream, SocketAddr), String> {
        let preamble = preamble::of(id)?;
        let connect = async {
            let mut stream = TcpStream::connect(addresses).await?;
            stream.write_all(&preamble).await?;
            Ok(stream)
        };
        let connected = tokio::time::timeout(CONNECT, connect).await;
        let stream: std::io::Result<TcpStream> =
            connected.map_err(|_| "connecting takes too long")?;
        let connected = stream.and_then(|stream| {
            let at = stream.peer_addr()?;
            // Slower without it, but as good.
            let _ = stream.set_nodelay(true);
            Ok((stream.into_std()?, at))
        });
        connected.map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_master_is_asked_of_whom_it_did_not_name_lately_and_not_too_often() {
        let start = Instant::now();
        let mut known = Known::default();
        assert_eq!(known.is_worker("a:1", start), None);
        assert_eq!(known.pause(start), Duration::ZERO);
        known.asked = Some(start);
        known.answered = Some(start);
        known.addresses.insert("a:1".into());
        assert_eq!(known.is_worker("a:1", start + FRESH / 2), Some(true));
        assert_eq!(known.is_worker("a:1", start + FRESH), None, "it may be gone");
        assert_eq!(known.is_worker("b:1", start), None, "it may have come");
        assert_eq!(known.pause(start), PAUSE);
        assert_eq!(known.pause(start + PAUSE), Duration::ZERO);
    }

    #[tokio::test]
    async fn who_asks_while_the_master_is_away_waits_for_one_answer_with_all_others() {
        let peers = Arc::new(Peers::new("x:1".into(), "127.0.0.1:1".into()));
        let ask = || Box::pin(peers.ask(Instant::now()));
        let mut others: Vec<_> = (0..8).map(|_| ask()).collect();
        let (first, came) = (ask(), Instant::now());
        let mut now = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(others.iter_mut().all(|other| other.as_mut().poll(&mut now).is_pending()));
        let why = first.await.unwrap_err();
        for mut other in others {
            assert_eq!(other.as_mut().poll(&mut now), std::task::Poll::Ready(Err(why.clone())));
        }
        // Who comes later has it asked again.
        peers.ask(Instant::now()).await.unwrap_err();
        assert!(peers.known.lock().asked.is_some_and(|asked| asked >= came + PAUSE));
    }

    #[tokio::test]
    async fn names_are_looked_up_one_at_a_time() {
        let peers = Peers::new("x:1".into(), "x:1".into());
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        let held = turn.clone().lock_owned().await;
        let numbers = peers.look_up("127.0.0.1:9", &turn).await.unwrap();
        assert_eq!(numbers, ["127.0.0.1:9".parse().unwrap()], "nobody need be asked");
        tokio::select! {
            biased;
            found = peers.look_up("localhost:9", &turn) => panic!("{found:?}"),
            () = tokio::task::yield_now() => {}
        }
        drop(held);
        assert!(!peers.look_up("localhost:9", &turn).await.unwrap().is_empty());
    }
}
