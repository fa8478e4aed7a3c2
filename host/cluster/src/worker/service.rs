//! What a worker serves: shuffle blocks to executors, logs to the master.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use ingle_proto::v1;
use ingle_proto::v1::worker_server::WorkerServer;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::blocks::Blocks;
use super::folders::Folders;
use super::logs::Tail;
use super::processes::Processes;
use super::readers::Readers;
use crate::rpc::{self, Secret};

/// The longest request, also of somebody without a secret.
const MAX_REQUEST: usize = 64 << 10;
/// Streams of logs that are read at the same time.
const MAX_LOGS: usize = 64;

type Streams<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
pub struct Service {
    folders: Arc<Folders>,
    processes: Arc<Processes>,
    readers: Readers,
    blocks: Arc<Blocks>,
    /// What the master proves itself with, which alone reads logs.
    log_secret: Secret,
}

impl Service {
    pub fn new(folders: Arc<Folders>, processes: Arc<Processes>, log_secret: Secret) -> Self {
        let readers = Readers::new(MAX_LOGS);
        Self { folders, processes, readers, blocks: Arc::default(), log_secret }
    }

    pub fn server(self) -> WorkerServer<Self> {
        WorkerServer::new(self).max_decoding_message_size(MAX_REQUEST)
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
        let parts = self.blocks.serve(dir, request.into_inner()).await?;
        Ok(Response::new(Box::pin(parts)))
    }

    async fn report_use(
        &self,
        request: Request<v1::ReportUseRequest>,
    ) -> Result<Response<v1::ReportUseReply>, Status> {
        self.check(&request, &request.get_ref().application)?;
        let v1::ReportUseRequest { application, executor, used, stored } = request.into_inner();
        let disk = self.processes.set_used(&application, executor, used, stored);
        Ok(Response::new(v1::ReportUseReply { disk }))
    }

    async fn read_log(
        &self,
        request: Request<v1::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        if !self.log_secret.is_in(&request) {
            let why = "logs are read by the master: ask that, with `ingle logs`";
            return Err(Status::unauthenticated(why));
        }
        let v1::ReadLogRequest { id, follow, last } = request.into_inner();
        let Some(dir) = self.folders.logs(&id) else {
            return Err(Status::not_found(format!(
                "this worker has no logs of {}",
                rpc::shown(&id)
            )));
        };
        let (reader, parts) = self.readers.enter(Instant::now()).ok_or_else(|| {
            Status::resource_exhausted(format!(
                "{MAX_LOGS} logs are being read here, and no more can be"
            ))
        })?;
        let processes = self.processes.clone();
        tokio::spawn(async move {
            let writing = move || follow && processes.runs_any_of(&id);
            Tail::new(dir, None, last).run(writing, reader).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }
}
