//! What a worker serves: shuffle blocks to executors, logs to the master.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use ingle_blocks::ShuffleDir;
use ingle_core::ids::StageId;
use ingle_proto::v1;
use ingle_proto::v1::worker_server::WorkerServer;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::folders::Folders;
use super::logs::Tail;
use super::processes::{Name, Processes};
use crate::rpc::{self, PIECE};

/// Pieces that wait for a reader who is slow.
const AHEAD: usize = 4;
/// Streams of logs that are read at the same time, each by a thread.
const MAX_LOGS: usize = 64;

type Streams<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
pub struct Service {
    folders: Arc<Folders>,
    processes: Arc<Processes>,
    logs: Arc<tokio::sync::Semaphore>,
}

impl Service {
    pub fn new(folders: Arc<Folders>, processes: Arc<Processes>) -> Self {
        Self { folders, processes, logs: Arc::new(tokio::sync::Semaphore::new(MAX_LOGS)) }
    }

    pub fn server(self) -> WorkerServer<Self> {
        WorkerServer::new(self).max_decoding_message_size(rpc::MAX_MESSAGE)
    }
}

impl Service {
    fn check<T>(&self, request: &Request<T>, application: &str) -> Result<(), Status> {
        let known = self.processes.secret(application);
        if known.is_some_and(|secret| secret.is_in(request)) {
            Ok(())
        } else {
            Err(rpc::wrong_secret())
        }
    }
}

#[tonic::async_trait]
impl v1::worker_server::Worker for Service {
    type FetchBlocksStream = Streams<v1::BlockPart>;
    type ReadLogStream = Streams<v1::LogPart>;

    async fn fetch_blocks(
        &self,
        request: Request<v1::FetchBlocksRequest>,
    ) -> Result<Response<Self::FetchBlocksStream>, Status> {
        let application = request.get_ref().application.clone();
        self.check(&request, &application)?;
        let Some(dir) = self.folders.shuffle(&application) else {
            return Err(Status::not_found("this worker has nothing of that application"));
        };
        let request = request.into_inner();
        if request.map.len() != request.attempt.len() {
            return Err(Status::invalid_argument("as many attempts as maps are needed"));
        }
        let (send, parts) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || serve(dir, request, &send));
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }

    async fn report_use(
        &self,
        request: Request<v1::ReportUseRequest>,
    ) -> Result<Response<v1::ReportUseReply>, Status> {
        self.check(&request, &request.get_ref().application)?;
        let v1::ReportUseRequest { application, executor, used } = request.into_inner();
        if let Some(used) = used {
            self.processes.set_used(&Name::Executor { application, executor }, used);
        }
        Ok(Response::new(v1::ReportUseReply {}))
    }

    async fn read_log(
        &self,
        request: Request<v1::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        let v1::ReadLogRequest { id, follow, last } = request.into_inner();
        let permit = self.logs.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "{MAX_LOGS} logs are being read here, and no more can be"
            ))
        })?;
        let Some(dir) = self.folders.logs(&id) else {
            return Err(Status::not_found(format!(
                "this worker has no logs of {}",
                rpc::shown(&id)
            )));
        };
        let processes = self.processes.clone();
        let (send, parts) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            Tail::new(dir, None, last, send).run(|| follow && processes.runs_any_of(&id));
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }
}

/// Sends the blocks of some partitions, piece by piece, as fast as they are taken.
fn serve(
    dir: PathBuf,
    request: v1::FetchBlocksRequest,
    send: &mpsc::Sender<Result<v1::BlockPart, Status>>,
) {
    let v1::FetchBlocksRequest { stage, partition, partitions, map, attempt, .. } = request;
    let partitions = partition..partition.saturating_add(partitions);
    let outputs: Vec<_> = map.into_iter().zip(attempt).collect();
    let blocks = ShuffleDir::open_existing(&dir);
    for block in blocks.serve(StageId(stage), partitions, &outputs) {
        let block = match block {
            Ok(block) => block,
            Err(ingle_blocks::Error::MissingOutput { map, .. }) => {
                let missing = v1::BlockPart { map, missing: true, ..v1::BlockPart::default() };
                let _ = send.blocking_send(Ok(missing));
                return;
            }
            Err(error) => {
                let _ = send.blocking_send(Err(Status::internal(error.to_string())));
                return;
            }
        };
        let stored: Bytes = block.stored;
        for start in (0..stored.len().max(1)).step_by(PIECE) {
            let part = v1::BlockPart {
                map: block.map,
                data: stored.slice(start..stored.len().min(start + PIECE)),
                stored_length: stored.len() as u32,
                raw_length: block.raw_len,
                crc: block.crc,
                codec: block.codec,
                missing: false,
            };
            // Nobody reads any more.
            if send.blocking_send(Ok(part)).is_err() {
                return;
            }
        }
    }
}
