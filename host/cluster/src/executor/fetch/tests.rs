use std::path::PathBuf;
use std::pin::Pin;

use tokio_stream::Stream as Streamed;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use v1::worker_server::{Worker, WorkerServer};

use ingle_blocks::{BlockStore, ShuffleDir};
use ingle_core::memory::MemoryUse;
use ingle_core::size::ByteSize;

use super::*;
use crate::rpc::{PIECE, Secret};
use crate::worker::blocks::Blocks as Serving;

type Streams<T> = Pin<Box<dyn Streamed<Item = Result<T, Status>> + Send>>;

/// A worker that is asked, and answers what lies in a folder, or nothing ever.
struct Asked(mpsc::UnboundedSender<()>, Option<PathBuf>, Arc<Serving>);

#[tonic::async_trait]
impl Worker for Asked {
    type FetchBlocksStream = Streams<v1::BlockPart>;
    type ReadLogStream = Streams<v1::LogPart>;

    async fn fetch_blocks(
        &self,
        request: Request<v1::FetchBlocksRequest>,
    ) -> Result<Response<Self::FetchBlocksStream>, Status> {
        self.0.send(()).unwrap();
        if let Some(dir) = &self.1 {
            let parts = self.2.serve(dir.clone(), request.into_inner()).await?;
            return Ok(Response::new(Box::pin(parts)));
        }
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

struct World {
    runtime: tokio::runtime::Runtime,
    asked: mpsc::UnboundedReceiver<()>,
    pool: MemoryPool,
    fetcher: Fetcher,
}

/// An executor, and two workers that are one.
fn world(dir: Option<PathBuf>) -> World {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (said, asked) = mpsc::unbounded_channel();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let worker = WorkerServer::new(Asked(said, dir, Arc::default()));
    let server = rpc::server(rpc::WORDS).add_service(worker);
    runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let secret = Secret::random().unwrap().sender().unwrap();
    let (handle, pool) = (runtime.handle().clone(), MemoryPool::new(ByteSize(64 << 20)));
    let ways = Arc::new(Workers::new("app".into(), secret, Way::default(), handle, pool.clone()));
    let workers = [3, 4].map(|id| (WorkerId(id), address.clone()));
    World { runtime, asked, pool, fetcher: Fetcher { ways, workers: workers.into() } }
}

/// A worker's folder with two outputs: of blocks of so many bytes, each of other ones.
fn shuffled(lengths: &[usize]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dir = ShuffleDir::create(&folder.path().join("shuffle")).unwrap();
    let pool = MemoryPool::new(ByteSize(64 << 20));
    let store = BlockStore::with_shuffle_dir(pool, folder.path(), dir).unwrap();
    for map in 0..2 {
        let mut output = store.task_output(StageId(1), map, 0, 1);
        for (at, length) in lengths.iter().enumerate() {
            output.write(0, &vec![at as u8; *length]).unwrap();
        }
        output.commit().unwrap();
    }
    folder
}

#[test]
fn readers_that_read_nothing_cost_what_there_is_room_for_and_keep_nobody_waiting() {
    let folder = shuffled(&[PIECE; 12]);
    let World { runtime: _runtime, mut asked, pool, fetcher } =
        world(Some(folder.path().join("shuffle")));
    let fetch = || fetcher.fetch(0, StageId(1), 0..1, vec![(0, 0), (1, 0)]);
    // An eighth of the pool is read ahead, a piece for each of eight.
    let mut unread: Vec<_> = (0..8).map(|_| fetch()).collect();
    (0..8).for_each(|_| asked.blocking_recv().unwrap());
    unread.extend((0..200).map(|_| fetch()));
    let mut reader = fetch();
    for at in 0..24 {
        let next = reader.next().unwrap().unwrap();
        assert_eq!((next.block.map, next.block.stored[0]), (at / 12, at as u8 % 12));
        let charged = pool.usage().of(MemoryUse::Input);
        // Three pieces are on their way to the one that reads, and a few bytes of each request.
        assert!(charged <= (8 + 4) << 20, "{charged} bytes are held");
    }
    assert!(reader.next().unwrap().is_none());
    let mut requests = 0;
    while asked.try_recv().is_ok() {
        requests += 1;
    }
    assert!(requests < 100, "who doesn't read asks no more: {requests}");
    // Once one ends, there is room for others.
    drop(unread);
    drop(reader);
    let mut reader = fetch();
    while reader.next().unwrap().is_some() {}
    drop(reader);
}

#[test]
fn blocks_of_any_size_come_once_each_in_their_order() {
    let lengths = [10, 3 << 20, 5, 70_000, 20, 2 << 20, 30, 1];
    let folder = shuffled(&lengths);
    let World { runtime: _runtime, asked: _asked, pool, fetcher } =
        world(Some(folder.path().join("shuffle")));
    for others in [0, (64 << 20) - (4 << 20)] {
        let _others = pool.reserve(MemoryUse::Guest, others).unwrap();
        let mut reader = fetcher.fetch(0, StageId(1), 0..1, vec![(0, 0), (1, 0)]);
        for map in 0..2 {
            for (at, length) in lengths.iter().enumerate() {
                let Fetched { block, charge } = reader.next().unwrap().unwrap();
                assert_eq!((block.map, block.stored.len()), (map, *length));
                assert_eq!(block.stored[0], at as u8);
                assert_eq!(charge.map(|charge| charge.bytes()), Some(*length as u64));
            }
        }
        assert!(reader.next().unwrap().is_none());
    }
    // What doesn't fit is refused when it is wanted, with what there is.
    let _others = pool.reserve(MemoryUse::Guest, (64 << 20) - (1 << 20)).unwrap();
    let mut reader = fetcher.fetch(0, StageId(1), 0..1, vec![(0, 0)]);
    assert_eq!(reader.next().unwrap().unwrap().block.stored.len(), 10);
    let refused = reader.next().err().unwrap();
    assert!(matches!(refused, Error::Memory(_)), "{refused}");
}

#[test]
fn what_is_read_from_a_worker_breaks_off_when_that_is_lost() {
    let World { runtime: _runtime, mut asked, pool: _, fetcher } = world(None);
    let ways = fetcher.ways.clone();
    let fetch = |worker| fetcher.fetch(worker, StageId(1), 0..1, vec![(5, 2), (6, 0)]);
    let is_lost = |mut blocks: Box<dyn RemoteBlocks>| {
        let missed = blocks.next().err().unwrap();
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
