//! Shuffle blocks from other workers: for each reader and worker a stream, which asks for a few blocks at a time and takes them at once. What
//! it asks for is charged before: a reader that reads nothing costs what there was room for, and no worker waits for it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use ingle_blocks::{BLOCK_COST, Error, Fetch, Fetched, Had, MAX_BLOCK, RemoteBlock, RemoteBlocks};
use ingle_core::ids::{StageId, WorkerId};
use ingle_core::memory::{MemoryPool, OutOfMemory, Reservation};
use ingle_proto::v1;
use ingle_proto::v1::worker_client::WorkerClient;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::ahead::{Ahead, Room};
use crate::rpc::{self, Backoff, MAX_OUTPUTS, SendSecret, Way};

type Client = WorkerClient<InterceptedService<Channel, SendSecret>>;

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
    ahead: Ahead,
    peers: Mutex<HashMap<WorkerId, Peer>>,
}

/// Another worker.
#[derive(Default)]
struct Peer {
    client: Option<Client>,
    lost: watch::Sender<bool>,
}

impl Workers {
    pub fn new(
        application: String,
        secret: SendSecret,
        way: Way,
        runtime: Handle,
        pool: MemoryPool,
    ) -> Self {
        let ahead = Ahead::new(pool);
        Self { application, secret, way, runtime, ahead, peers: Mutex::default() }
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
            .max_decoding_message_size(rpc::PIECE_MESSAGE))
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
        // No more than there was room for.
        let (send, blocks) = mpsc::unbounded_channel();
        let (client, lost) = match self.workers.get(worker) {
            Some((id, address)) => self.ways.way(*id, address),
            None => (Err("a worker that nobody named".to_owned()), watch::channel(false).1),
        };
        let (ways, shared) = (self.ways.clone(), Arc::<Shared>::default());
        let (at, had, heard) = (0, Had::default(), Instant::now());
        let stream = Stream {
            ways,
            stage,
            partitions,
            outputs,
            at,
            had,
            heard,
            send,
            shared: shared.clone(),
        };
        self.ways.runtime.spawn(stream.run(client, lost));
        Box::new(Blocks { blocks, shared })
    }
}

/// What both ends of a stream know.
#[derive(Default)]
struct Shared {
    /// Whether the reader waits.
    wanted: AtomicBool,
    /// The bytes of blocks that wait for it.
    queued: AtomicU64,
    changed: Notify,
}

/// A block that waits, with what it takes.
struct Waiting {
    block: Fetched,
    _permit: Option<Arc<OwnedSemaphorePermit>>,
    /// Of what it costs beside its bytes.
    _beside: Reservation,
}

/// The reading end. Dropped, it ends the stream.
struct Blocks {
    blocks: mpsc::UnboundedReceiver<Result<Waiting, Error>>,
    shared: Arc<Shared>,
}

impl RemoteBlocks for Blocks {
    fn next(&mut self) -> Result<Option<Fetched>, Error> {
        let next = match self.blocks.try_recv() {
            Err(TryRecvError::Empty) => {
                self.shared.wanted.store(true, Ordering::Release);
                self.shared.changed.notify_one();
                let next = self.blocks.blocking_recv();
                self.shared.wanted.store(false, Ordering::Release);
                next
            }
            next => next.ok(),
        };
        let Some(Waiting { block, .. }) = next.transpose()? else { return Ok(None) };
        let bytes = block.block.stored.len() as u64 + BLOCK_COST;
        self.shared.queued.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.changed.notify_one();
        Ok(Some(block))
    }
}

/// The writing end.
struct Stream {
    ways: Arc<Workers>,
    stage: StageId,
    partitions: Range<u32>,
    /// Map tasks and their attempts.
    outputs: Vec<(u32, u32)>,
    /// The output that the last block was of, by its place there, and what was handed on of it.
    at: usize,
    had: Had,
    /// When the worker last sent anything.
    heard: Instant,
    send: mpsc::UnboundedSender<Result<Waiting, Error>>,
    shared: Arc<Shared>,
}

/// Why a stream broke off.
enum Broken {
    /// The worker can't be reached, or says that it can't: worth another try.
    Away(String),
    /// This output isn't there.
    Missing(usize),
    /// A block of it isn't what was written: perhaps only on its way.
    Damaged(usize),
    /// There is no memory for what its reader waits for.
    Memory(OutOfMemory),
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
            Broken::Memory(error) => {
                let _ = self.send.send(Err(error.into()));
                return;
            }
            Broken::Unwanted => return,
        };
        let (map, attempt) = self.outputs.get(at).copied().unwrap_or_default();
        let error = Error::MissingOutput { stage: self.stage, map, attempt, whole };
        // Nobody reads any more, perhaps.
        let _ = self.send.send(Err(error));
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

    /// Reads on from where it is.
    async fn read(&mut self, mut client: Client) -> Result<(), Broken> {
        while self.at < self.outputs.len() {
            let room = self.room().await?;
            // Not before there is room: a silence that is the reader's isn't the worker's.
            self.heard = Instant::now();
            let send = self.send.clone();
            tokio::select! {
                asked = self.ask(&mut client, room) => asked?,
                () = send.closed() => return Err(Broken::Unwanted),
            }
        }
        Ok(())
    }

    /// Waits until there is room to read ahead, or the reader waits.
    async fn room(&self) -> Result<Room, Broken> {
        let ahead = &self.ways.ahead;
        loop {
            if self.shared.queued.load(Ordering::Relaxed) <= ahead.batch() / 2
                && let Some(room) = ahead.free()
            {
                return Ok(room);
            }
            if self.shared.wanted.load(Ordering::Acquire) {
                return ahead.needed().await.map_err(Broken::Memory);
            }
            self.changed().await?;
        }
    }

    async fn changed(&self) -> Result<(), Broken> {
        tokio::select! {
            () = self.shared.changed.notified() => Ok(()),
            () = self.send.closed() => Err(Broken::Unwanted),
        }
    }

    /// Asks for as many blocks as there is room for, and hands them on.
    async fn ask(&mut self, client: &mut Client, mut room: Room) -> Result<(), Broken> {
        let away = |status: tonic::Status| Broken::Away(rpc::words(&status));
        let asked = &self.outputs[self.at..];
        let asked = &asked[..asked.len().min(MAX_OUTPUTS)];
        let end = self.at + asked.len();
        let request = v1::FetchBlocksRequest {
            application: self.ways.application.clone(),
            stage: self.stage.0,
            partition: self.partitions.start,
            partitions: self.partitions.end.saturating_sub(self.partitions.start),
            map: asked.iter().map(|(map, _)| *map).collect(),
            attempt: asked.iter().map(|(_, attempt)| *attempt).collect(),
            had: self.had.blocks,
            had_bytes: self.had.bytes,
            bytes: u32::try_from(room.charge.bytes()).unwrap_or(u32::MAX),
        };
        let mut parts = client.fetch_blocks(request).await.map_err(away)?.into_inner();
        let mut begun: Option<(v1::BlockPart, BytesMut)> = None;
        let mut came = 0;
        while let Some(part) = parts.message().await.map_err(away)? {
            self.heard = Instant::now();
            if part.more {
                return match begun {
                    None if came > 0 => Ok(()),
                    _ => Err(Broken::Away("it broke off in the middle of a block".into())),
                };
            }
            let asked = self.outputs[self.at..end].iter();
            let place = asked.map(|(map, _)| map).position(|map| *map == part.map);
            let Some(place) = place.map(|ahead| self.at + ahead) else {
                return Err(Broken::Away("it sent what wasn't asked for".into()));
            };
            if place != self.at {
                (self.at, self.had) = (place, Had::default());
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
                    let length = u64::from(part.stored_length);
                    // One block costs no more than its bytes; many do.
                    let cost = if came > 0 { length + BLOCK_COST } else { length };
                    let lacks = cost.saturating_sub(room.charge.bytes());
                    if lacks > 0 {
                        if came > 0 {
                            return Err(Broken::Away("it sent more than was asked for".into()));
                        }
                        // The reader may never want it, and it isn't little.
                        if !self.shared.wanted.load(Ordering::Acquire) {
                            drop((parts, room));
                            return self.wait_for_reader().await;
                        }
                        room.grow(lacks).await.map_err(Broken::Memory)?;
                    }
                    // No longer than it is, and what is said of that is charged.
                    let mut bytes = BytesMut::with_capacity(length as usize);
                    bytes.extend_from_slice(&part.data);
                    (part, bytes)
                }
            };
            let length = head.stored_length as usize;
            if bytes.len() > length {
                return Err(Broken::Away("it sent more of a block than it has".into()));
            }
            if bytes.len() < length {
                begun = Some((head, bytes));
                continue;
            }
            came += 1;
            self.hand_on(head, bytes, &mut room)?;
        }
        if begun.is_some() {
            return Err(Broken::Away("it ended in the middle of a block".into()));
        }
        (self.at, self.had) = (end, Had::default());
        Ok(())
    }

    /// A block that is too large to be read ahead comes when its reader waits.
    async fn wait_for_reader(&self) -> Result<(), Broken> {
        while !self.shared.wanted.load(Ordering::Acquire) {
            self.changed().await?;
        }
        Ok(())
    }

    fn hand_on(
        &mut self,
        head: v1::BlockPart,
        bytes: BytesMut,
        room: &mut Room,
    ) -> Result<(), Broken> {
        let block = RemoteBlock {
            map: head.map,
            stored: bytes.freeze(),
            raw_len: head.raw_length,
            codec: head.codec,
            crc: head.crc,
        };
        if !block.is_sound() {
            return Err(Broken::Damaged(self.at));
        }
        let length = u64::from(head.stored_length);
        let charge = Some(room.charge.split(length));
        let _beside = room.charge.split(BLOCK_COST);
        self.shared.queued.fetch_add(length + BLOCK_COST, Ordering::Relaxed);
        let _permit = room.permit.clone();
        let block = Waiting { block: Fetched { block, charge }, _permit, _beside };
        self.send.send(Ok(block)).map_err(|_| Broken::Unwanted)?;
        self.had.blocks += 1;
        self.had.bytes += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
