//! Shuffle blocks from other workers: a stream for each worker, read ahead as far as a few blocks.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ingle_blocks::{Error, Fetch, MAX_BLOCK, RemoteBlock, RemoteBlocks};
use ingle_core::ids::{StageId, WorkerId};
use ingle_proto::v1;
use ingle_proto::v1::worker_client::WorkerClient;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::rpc::{self, Backoff, SendSecret, Way};

type Client = WorkerClient<InterceptedService<Channel, SendSecret>>;

/// Blocks that wait for their reader, of one stream, and their bytes: one block may be longer.
const AHEAD: usize = 64;
const AHEAD_BYTES: u32 = 1 << 20;
/// How often a worker that can't be reached is tried again, and how long it takes from try to try, at first.
const RETRIES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// One that said nothing for so long isn't tried again, but for once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections to other workers, shared by an executor's slots.
pub struct Workers {
    application: String,
    secret: SendSecret,
    way: Way,
    runtime: Handle,
    peers: Mutex<HashMap<WorkerId, Peer>>,
}

/// Another worker.
#[derive(Default)]
struct Peer {
    client: Option<Client>,
    lost: watch::Sender<bool>,
}

impl Workers {
    pub fn new(application: String, secret: SendSecret, way: Way, runtime: Handle) -> Self {
        Self { application, secret, way, runtime, peers: Mutex::default() }
    }

    /// A worker is lost: what is read from it breaks off now, and what would be isn't begun.
    pub fn lost(&self, worker: WorkerId) {
        let mut peers = self.peers.lock();
        let peer = peers.entry(worker).or_default();
        peer.client = None;
        peer.lost.send_replace(true);
    }

    /// A connection that is made when it is first used, and again when it broke; and the news that its worker is lost.
    fn way(&self, worker: WorkerId, address: &str) -> (Result<Client, String>, Lost) {
        let mut peers = self.peers.lock();
        let peer = peers.entry(worker).or_default();
        let lost = peer.lost.subscribe();
        if let Some(client) = &peer.client {
            return (Ok(client.clone()), lost);
        }
        let client = self.client(address);
        // Nobody uses it if the worker is lost.
        if !*lost.borrow() {
            peer.client = client.as_ref().ok().cloned();
        }
        (client, lost)
    }

    fn client(&self, address: &str) -> Result<Client, String> {
        let channel = {
            let _entered = self.runtime.enter();
            self.way.lazy(address)?
        };
        Ok(WorkerClient::with_interceptor(channel, self.secret.clone())
            .max_decoding_message_size(rpc::MAX_MESSAGE))
    }
}

/// Becomes true when a worker is lost.
type Lost = watch::Receiver<bool>;

/// The workers that one stage's inputs lie on, by their place in a list.
#[derive(Clone)]
pub struct Fetcher {
    pub ways: Arc<Workers>,
    /// And where they serve, host:port.
    pub workers: Arc<[(WorkerId, String)]>,
}

impl Fetch for Fetcher {
    fn fetch(
        &self,
        worker: usize,
        stage: StageId,
        partitions: Range<u32>,
        outputs: Vec<(u32, u32)>,
    ) -> Box<dyn RemoteBlocks> {
        let (send, blocks) = mpsc::channel(AHEAD);
        let (client, lost) = match self.workers.get(worker) {
            Some((id, address)) => self.ways.way(*id, address),
            None => (Err("a worker that nobody named".to_owned()), watch::channel(false).1),
        };
        let request = v1::FetchBlocksRequest {
            application: self.ways.application.clone(),
            stage: stage.0,
            partition: partitions.start,
            partitions: partitions.end.saturating_sub(partitions.start),
            map: outputs.iter().map(|(map, _)| *map).collect(),
            attempt: outputs.iter().map(|(_, attempt)| *attempt).collect(),
        };
        let room = Arc::new(Semaphore::new(AHEAD_BYTES as usize));
        let heard = Instant::now();
        let stream = Stream { stage, request, at: 0, handed: 0, heard, send, room };
        self.ways.runtime.spawn(stream.run(client, lost));
        Box::new(Blocks(blocks))
    }
}

/// A block, and its part of the bytes that may wait.
type Waiting = (RemoteBlock, OwnedSemaphorePermit);

/// The reading end. Dropped, it ends the stream.
struct Blocks(mpsc::Receiver<Result<Waiting, Error>>);

impl RemoteBlocks for Blocks {
    fn next(&mut self) -> Result<Option<RemoteBlock>, Error> {
        Ok(self.0.blocking_recv().transpose()?.map(|(block, _)| block))
    }
}

/// The writing end.
struct Stream {
    stage: StageId,
    request: v1::FetchBlocksRequest,
    /// The output that the last block was of, by its place in the request, and how many blocks of it were handed on.
    at: usize,
    handed: usize,
    /// When the worker last sent anything, or its reader took that.
    heard: Instant,
    send: mpsc::Sender<Result<Waiting, Error>>,
    room: Arc<Semaphore>,
}

/// Why a stream broke off.
enum Broken {
    /// The worker can't be reached, or says that it can't: worth another try.
    Away(String),
    /// This output isn't there.
    Missing(usize),
    /// A block of it isn't what was written: perhaps only on its way.
    Damaged(usize),
    /// Nobody reads.
    Unwanted,
}

impl Stream {
    async fn run(mut self, client: Result<Client, String>, mut lost: Lost) {
        // Whoever has the other end is gone with the executor.
        let is_lost = async { lost.wait_for(|lost| *lost).await.is_ok() };
        let ended = tokio::select! {
            biased;
            true = is_lost => Err(Broken::Away("its worker is lost".to_owned())),
            ended = self.read_with_patience(client) => ended,
        };
        let Err(broken) = ended else { return };
        let (at, whole) = match broken {
            Broken::Away(why) => {
                tracing::warn!("blocks of {} can't be fetched: {why}", self.stage);
                (self.at, true)
            }
            Broken::Missing(at) | Broken::Damaged(at) => (at, false),
            Broken::Unwanted => return,
        };
        let (map, attempt) = (self.request.map.get(at), self.request.attempt.get(at));
        let (map, attempt) = (map.copied().unwrap_or(0), attempt.copied().unwrap_or(0));
        let error = Error::MissingOutput { stage: self.stage, map, attempt, whole };
        // Nobody reads any more, perhaps.
        let _ = self.send.send(Err(error)).await;
    }

    /// Reads all, and tries again for a while when that breaks off.
    async fn read_with_patience(&mut self, client: Result<Client, String>) -> Result<(), Broken> {
        let client = client.map_err(Broken::Away)?;
        let mut backoff = Backoff::new(FIRST_WAIT, FIRST_WAIT * 10);
        let mut tries = 0;
        loop {
            let broken = match self.read(client.clone()).await {
                Err(broken @ (Broken::Away(_) | Broken::Damaged(_))) => broken,
                ended => return ended,
            };
            // A silence is noticed late, and a connection that isn't answered as well: no more than one try after that.
            if tries == RETRIES || (tries > 0 && self.heard.elapsed() > PATIENCE) {
                return Err(broken);
            }
            let why = match broken {
                Broken::Away(why) => why,
                _ => "a block was damaged".to_owned(),
            };
            tracing::info!("blocks of {} could not be fetched: {why}; trying again", self.stage);
            tries += 1;
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Reads on from the output where it broke off, and leaves out what was handed on of it before.
    async fn read(&mut self, mut client: Client) -> Result<(), Broken> {
        let away = |status: tonic::Status| Broken::Away(rpc::words(&status));
        let mut skip = std::mem::take(&mut self.handed);
        let mut request = self.request.clone();
        request.map.drain(..self.at);
        request.attempt.drain(..self.at);
        let mut parts = client.fetch_blocks(request).await.map_err(away)?.into_inner();
        let mut begun: Option<(v1::BlockPart, BytesMut)> = None;
        while let Some(part) = parts.message().await.map_err(away)? {
            self.heard = Instant::now();
            let place = self.request.map.iter().skip(self.at).position(|map| *map == part.map);
            let Some(place) = place.map(|ahead| self.at + ahead) else {
                return Err(Broken::Away("it sent what wasn't asked for".into()));
            };
            if place != self.at {
                (self.at, self.handed, skip) = (place, 0, 0);
            }
            if part.missing {
                return Err(Broken::Missing(place));
            }
            let (head, bytes) = match begun.take() {
                Some((head, mut bytes)) if head.map == part.map => {
                    bytes.extend_from_slice(&part.data);
                    (head, bytes)
                }
                Some(_) => {
                    return Err(Broken::Away("it broke off in the middle of a block".into()));
                }
                None if part.stored_length > MAX_BLOCK || part.raw_length > MAX_BLOCK => {
                    return Err(Broken::Damaged(place));
                }
                None => {
                    let bytes = BytesMut::from(part.data.clone());
                    (part, bytes)
                }
            };
            match bytes.len().cmp(&(head.stored_length as usize)) {
                Ordering::Less => begun = Some((head, bytes)),
                Ordering::Equal if skip > 0 => {
                    skip -= 1;
                    self.handed += 1;
                }
                Ordering::Equal => {
                    let block = RemoteBlock {
                        map: head.map,
                        stored: bytes.freeze(),
                        raw_len: head.raw_length,
                        codec: head.codec,
                        crc: head.crc,
                    };
                    if !block.is_sound() {
                        return Err(Broken::Damaged(place));
                    }
                    let bytes = head.stored_length.min(AHEAD_BYTES);
                    let room = self.room.clone().acquire_many_owned(bytes);
                    let room = tokio::select! {
                        room = room => room.map_err(|_| Broken::Unwanted)?,
                        () = self.send.closed() => return Err(Broken::Unwanted),
                    };
                    self.send.send(Ok((block, room))).await.map_err(|_| Broken::Unwanted)?;
                    self.heard = Instant::now();
                    self.handed += 1;
                }
                Ordering::Greater => {
                    return Err(Broken::Away("it sent more of a block than it has".into()));
                }
            }
        }
        match begun {
            None => Ok(()),
            Some(_) => Err(Broken::Away("it ended in the middle of a block".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use tokio_stream::Stream as Streamed;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::{Request, Response, Status};
    use v1::worker_server::{Worker, WorkerServer};

    use super::*;
    use crate::rpc::Secret;

    type Streams<T> = Pin<Box<dyn Streamed<Item = Result<T, Status>> + Send>>;

    /// A worker that is asked, and never answers.
    struct Silent(mpsc::UnboundedSender<()>);

    #[tonic::async_trait]
    impl Worker for Silent {
        type FetchBlocksStream = Streams<v1::BlockPart>;
        type ReadLogStream = Streams<v1::LogPart>;

        async fn fetch_blocks(
            &self,
            _: Request<v1::FetchBlocksRequest>,
        ) -> Result<Response<Self::FetchBlocksStream>, Status> {
            self.0.send(()).unwrap();
            Ok(Response::new(Box::pin(tokio_stream::pending())))
        }

        async fn read_log(
            &self,
            _: Request<v1::ReadLogRequest>,
        ) -> Result<Response<Self::ReadLogStream>, Status> {
            Err(Status::unimplemented("it has none"))
        }

        async fn report_use(
            &self,
            _: Request<v1::ReportUseRequest>,
        ) -> Result<Response<v1::ReportUseReply>, Status> {
            Err(Status::unimplemented("it isn't interested"))
        }
    }

    #[test]
    fn what_is_read_from_a_worker_breaks_off_when_that_is_lost() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (said, mut asked) = mpsc::unbounded_channel();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = rpc::server().add_service(WorkerServer::new(Silent(said)));
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

        let secret = Secret::random().unwrap().sender().unwrap();
        let ways =
            Arc::new(Workers::new("app".into(), secret, Way::default(), runtime.handle().clone()));
        let workers = [3, 4].map(|id| (WorkerId(id), address.clone()));
        let fetcher = Fetcher { ways: ways.clone(), workers: workers.into() };
        let fetch = |worker| fetcher.fetch(worker, StageId(1), 0..1, vec![(5, 2), (6, 0)]);
        let is_lost = |mut blocks: Box<dyn RemoteBlocks>| {
            let missed = blocks.next().unwrap_err();
            let is = matches!(
                missed,
                Error::MissingOutput { stage: StageId(1), map: 5, attempt: 2, whole: true }
            );
            assert!(is, "{missed}");
        };

        let blocks = fetch(0);
        asked.blocking_recv().unwrap();
        ways.lost(WorkerId(3));
        is_lost(blocks);
        // It isn't asked again, and another one at that address is.
        is_lost(fetch(0));
        let blocks = fetch(1);
        asked.blocking_recv().unwrap();
        assert!(asked.try_recv().is_err(), "who is lost was asked again");
        drop(blocks);
    }
}
