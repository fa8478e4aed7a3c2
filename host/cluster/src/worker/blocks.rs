//! Shuffle blocks for executors elsewhere. Who asks and doesn't read keeps no thread of the worker, and nobody of another application waiting.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use ingle_blocks::{Error, Had, Head, Served, Serving, ShuffleDir};
use ingle_core::ids::StageId;
use ingle_proto::v1;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use crate::rpc::{MAX_OUTPUTS, PIECE};

/// Answers of one application that are on their way at the same time; others wait for their turn. Each has a few MiB at most.
const TURNS: usize = 16;
/// What the requests of one application take that wait for theirs, in outputs that they name. Executors of one that means well wait with a few each.
const WAITING: usize = 8 << 20;
/// What a request takes that names none.
const LEAST: usize = 64;
/// Threads that read at the same time, for all applications: far fewer than there are for all that a worker does.
const READS: usize = 64;
/// Parts that wait for who reads them.
const AHEAD: usize = 2;
/// Parts that are read at a time.
const PARTS: usize = 256;
/// The most that is answered at a time, but for one long block.
const MAX_ANSWER: u32 = 4 << 20;

pub struct Blocks {
    reads: Semaphore,
    turns: Mutex<HashMap<PathBuf, Weak<Turns>>>,
}

/// Of one application.
struct Turns {
    now: Arc<Semaphore>,
    /// Room for those that wait.
    waiting: Semaphore,
}

impl Default for Blocks {
    fn default() -> Self {
        Self { reads: Semaphore::new(READS), turns: Mutex::default() }
    }
}

type Part = Result<v1::BlockPart, Status>;

impl Blocks {
    /// Answers one request, when its application's turn comes. `dir` is that application's folder.
    pub async fn serve(
        self: &Arc<Self>,
        dir: PathBuf,
        request: v1::FetchBlocksRequest,
    ) -> Result<impl Stream<Item = Part> + Send + use<>, Status> {
        let v1::FetchBlocksRequest { stage, partition, partitions, map, attempt, .. } = request;
        let v1::FetchBlocksRequest { had, had_bytes, bytes, .. } = request;
        if map.len() != attempt.len() || map.len() > MAX_OUTPUTS {
            return Err(Status::invalid_argument(format!(
                "{} outputs and {} attempts: as many are needed, and at most {MAX_OUTPUTS}",
                map.len(),
                attempt.len()
            )));
        }
        let turns = self.turns(&dir);
        let turn = {
            let takes = u32::try_from(map.len() + LEAST).unwrap_or(u32::MAX);
            let _waits = turns.waiting.try_acquire_many(takes).map_err(|_| {
                Status::resource_exhausted("too many requests of this application wait here")
            })?;
            turns.now.clone().acquire_owned().await
        };
        let turn = turn.map_err(|_| Status::unavailable("this worker ends"))?;
        let serving = ShuffleDir::open_existing(&dir).serve(
            StageId(stage),
            partition..partition.saturating_add(partitions),
            map.into_iter().zip(attempt).collect(),
            Had { blocks: had, bytes: had_bytes },
            u64::from(bytes.min(MAX_ANSWER)),
        );
        let (send, parts) = mpsc::channel(AHEAD);
        tokio::spawn(self.clone().send(serving, send));
        // The turn is over when the last part is taken, or nobody takes any more.
        Ok(ReceiverStream::new(parts).map(move |part| {
            let _turn = (&turn, &turns);
            part
        }))
    }

    fn turns(&self, dir: &PathBuf) -> Arc<Turns> {
        let mut turns = self.turns.lock();
        if let Some(turns) = turns.get(dir).and_then(Weak::upgrade) {
            return turns;
        }
        turns.retain(|_, turns| turns.strong_count() > 0);
        let (now, waiting) = (Arc::new(Semaphore::new(TURNS)), Semaphore::new(WAITING));
        let new = Arc::new(Turns { now, waiting });
        turns.insert(dir.clone(), Arc::downgrade(&new));
        new
    }

    /// Reads a little on a thread for that, then waits without one until it is taken.
    async fn send(self: Arc<Self>, mut serving: Serving, send: mpsc::Sender<Part>) {
        loop {
            let (parts, is_end);
            {
                let Ok(_read) = self.reads.acquire().await else { return };
                let read = tokio::task::spawn_blocking(move || {
                    let (parts, is_end) = read(&mut serving);
                    (serving, parts, is_end)
                });
                let Ok(read) = read.await else { return };
                (serving, parts, is_end) = read;
            }
            for part in parts {
                // Nobody reads any more.
                if send.send(part).await.is_err() {
                    return;
                }
            }
            if is_end {
                return;
            }
        }
    }
}

/// The next parts, of about a piece together, and whether they are the last.
fn read(serving: &mut Serving) -> (Vec<Part>, bool) {
    let (mut parts, mut bytes) = (Vec::new(), 0);
    while bytes < PIECE && parts.len() < PARTS {
        let (part, is_end) = match serving.next(PIECE) {
            Ok(None) => return (parts, true),
            Ok(Some(Served::More)) => {
                (Ok(v1::BlockPart { more: true, ..v1::BlockPart::default() }), true)
            }
            Ok(Some(Served::Piece(head, data))) => {
                let Head { map, stored_len, raw_len, codec, crc } = head;
                bytes += data.len();
                let part = v1::BlockPart {
                    map,
                    data,
                    stored_length: stored_len,
                    raw_length: raw_len,
                    crc,
                    codec,
                    ..v1::BlockPart::default()
                };
                (Ok(part), false)
            }
            Err(Error::MissingOutput { map, .. }) => {
                (Ok(v1::BlockPart { map, missing: true, ..v1::BlockPart::default() }), true)
            }
            Err(error) => (Err(Status::internal(error.to_string())), true),
        };
        parts.push(part);
        if is_end {
            return (parts, true);
        }
    }
    (parts, false)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ingle_blocks::BlockStore;
    use ingle_core::memory::MemoryPool;
    use ingle_core::size::ByteSize;

    use super::*;

    /// An application's folder with one output: blocks of 1 MiB.
    fn application(blocks: u8) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let dir = ShuffleDir::create(&folder.path().join("shuffle")).unwrap();
        let pool = MemoryPool::new(ByteSize(64 << 20));
        let store = BlockStore::with_shuffle_dir(pool, folder.path(), dir).unwrap();
        let mut output = store.task_output(StageId(1), 0, 0, 1);
        (0..blocks).for_each(|block| output.write(0, &vec![block; PIECE]).unwrap());
        output.commit().unwrap();
        folder
    }

    fn request(had: u32, bytes: u32) -> v1::FetchBlocksRequest {
        v1::FetchBlocksRequest {
            stage: 1,
            partitions: 1,
            map: vec![0],
            attempt: vec![0],
            had,
            had_bytes: u64::from(had) * PIECE as u64,
            bytes,
            ..v1::FetchBlocksRequest::default()
        }
    }

    fn folder(application: &Path) -> PathBuf {
        application.join("shuffle")
    }

    /// With one thread for all that blocks: whoever keeps it keeps all others waiting.
    fn with_one_thread<F: Future>(what: F) -> F::Output {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).max_blocking_threads(1).build().unwrap();
        runtime.block_on(what)
    }

    #[test]
    fn who_asks_and_reads_nothing_keeps_no_thread_and_others_get_theirs() {
        let (greedy, other) = (application(12), application(3));
        let blocks = Arc::new(Blocks::default());
        with_one_thread(async {
            let mut unread = Vec::new();
            for _ in 0..TURNS {
                unread.push(blocks.serve(folder(greedy.path()), request(0, u32::MAX)).await);
            }
            // Each of them has read what it may.
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            // That application waits for its turn, and no other.
            let mut more = Box::pin(blocks.serve(folder(greedy.path()), request(0, 1)));
            let turn = said_now(&mut more).await;
            assert!(turn.is_none(), "an application has no more than its turns");
            let read = blocks.serve(folder(other.path()), request(1, u32::MAX)).await.ok().unwrap();
            let read: Vec<_> = read.collect().await;
            assert_eq!(read.len(), 2, "{read:?}");
            assert!(read.iter().flatten().all(|part| part.data.len() == PIECE && !part.more));
            // Who gives up gives its turn to the next.
            unread.pop();
            let parts: Vec<_> = more.await.ok().unwrap().collect().await;
            let more: Vec<_> = parts.iter().flatten().map(|part| part.more).collect();
            assert_eq!(more, [false, true]);
        });
    }

    #[test]
    fn no_more_of_an_application_waits_than_there_is_room_for() {
        let (greedy, other) = (application(12), application(3));
        let blocks = Arc::new(Blocks::default());
        let large = || v1::FetchBlocksRequest {
            map: vec![0; MAX_OUTPUTS],
            attempt: vec![0; MAX_OUTPUTS],
            ..request(0, 1)
        };
        with_one_thread(async {
            let mut unread = Vec::new();
            for _ in 0..TURNS {
                unread.push(blocks.serve(folder(greedy.path()), request(0, u32::MAX)).await);
            }
            let mut waiting = Vec::new();
            let refused = loop {
                let mut one = Box::pin(blocks.serve(folder(greedy.path()), large()));
                match said_now(&mut one).await {
                    None => waiting.push(one),
                    Some(said) => break said.err().unwrap(),
                }
            };
            assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
            assert_eq!(waiting.len(), WAITING / (MAX_OUTPUTS + LEAST));
            assert!(blocks.serve(folder(other.path()), request(1, 1)).await.is_ok());
            waiting.pop();
            let mut next = Box::pin(blocks.serve(folder(greedy.path()), large()));
            assert!(said_now(&mut next).await.is_none(), "who gives up makes room");
        });
    }

    /// What a future has to say now.
    async fn said_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            let polled = std::pin::Pin::new(&mut *future).poll(context);
            std::task::Poll::Ready(match polled {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }

    #[test]
    fn an_answer_is_bounded_whatever_is_asked_for() {
        let application = application(12);
        let blocks = Arc::new(Blocks::default());
        with_one_thread(async {
            let asked = request(0, u32::MAX);
            let parts = blocks.serve(folder(application.path()), asked).await.ok().unwrap();
            let parts: Vec<_> = parts.collect().await;
            let bytes: usize = parts.iter().flatten().map(|part| part.data.len()).sum();
            // The last block that would fit is larger than what the others cost besides.
            assert_eq!(bytes, MAX_ANSWER as usize - PIECE);
            let many = vec![0; MAX_OUTPUTS + 1];
            let asked =
                v1::FetchBlocksRequest { map: many.clone(), attempt: many, ..request(0, 1) };
            let refused = blocks.serve(folder(application.path()), asked).await.err().unwrap();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        });
    }
}
