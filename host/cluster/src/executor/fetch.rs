//! Shuffle blocks from other workers: a stream for each worker, read ahead as far as a few blocks.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ingle_blocks::{Error, Fetch, MAX_BLOCK, RemoteBlock, RemoteBlocks};
use ingle_core::ids::StageId;
use ingle_proto::v1;
use ingle_proto::v1::worker_client::WorkerClient;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::rpc::{self, Backoff, SendSecret};

type Client = WorkerClient<InterceptedService<Channel, SendSecret>>;

/// Blocks that wait for their reader, of one stream, and their bytes: one block may be longer.
const AHEAD: usize = 64;
const AHEAD_BYTES: u32 = 1 << 20;
/// How often a worker that can't be reached is tried again, and how long it takes from try to try, at first.
const RETRIES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Connections to other workers, shared by an executor's slots.
pub struct Workers {
    application: String,
    secret: SendSecret,
    runtime: Handle,
    clients: Mutex<HashMap<String, Client>>,
}

impl Workers {
    pub fn new(application: String, secret: SendSecret, runtime: Handle) -> Self {
        Self { application, secret, runtime, clients: Mutex::default() }
    }

    /// A connection that is made when it is first used, and again when it broke.
    fn client(&self, address: &str) -> Result<Client, String> {
        let mut clients = self.clients.lock();
        if let Some(client) = clients.get(address) {
            return Ok(client.clone());
        }
        let channel = {
            let _entered = self.runtime.enter();
            rpc::endpoint(address)?.connect_lazy()
        };
        let client = WorkerClient::with_interceptor(channel, self.secret.clone())
            .max_decoding_message_size(rpc::MAX_MESSAGE);
        clients.insert(address.to_owned(), client.clone());
        Ok(client)
    }
}

/// The workers that one stage's inputs lie on, by their place in a list.
pub struct Fetcher {
    pub workers: Arc<Workers>,
    pub addresses: Arc<[String]>,
}

impl Fetch for Fetcher {
    fn fetch(
        &self,
        worker: usize,
        stage: StageId,
        partition: u32,
        outputs: Vec<(u32, u32)>,
    ) -> Box<dyn RemoteBlocks> {
        let (send, blocks) = mpsc::channel(AHEAD);
        let client = match self.addresses.get(worker) {
            Some(address) => self.workers.client(address),
            None => Err("a worker that nobody named".to_owned()),
        };
        let request = v1::FetchBlocksRequest {
            application: self.workers.application.clone(),
            stage: stage.0,
            partition,
            map: outputs.iter().map(|(map, _)| *map).collect(),
            attempt: outputs.iter().map(|(_, attempt)| *attempt).collect(),
        };
        let room = Arc::new(Semaphore::new(AHEAD_BYTES as usize));
        let stream = Stream { stage, request, at: 0, handed: 0, send, room };
        self.workers.runtime.spawn(stream.run(client));
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
    async fn run(mut self, client: Result<Client, String>) {
        let mut backoff = Backoff::new(FIRST_WAIT, FIRST_WAIT * 10);
        let mut tries = 0;
        let broken = loop {
            let client = match &client {
                Ok(client) => client.clone(),
                Err(why) => break Broken::Away(why.clone()),
            };
            match self.read(client).await {
                Ok(()) => return,
                Err(broken @ (Broken::Away(_) | Broken::Damaged(_))) if tries < RETRIES => {
                    let why = match broken {
                        Broken::Away(why) => why,
                        _ => "a block was damaged".to_owned(),
                    };
                    tracing::info!(
                        "blocks of {} could not be fetched: {why}; trying again",
                        self.stage
                    );
                    tries += 1;
                    tokio::time::sleep(backoff.next()).await;
                }
                Err(broken) => break broken,
            }
        };
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
