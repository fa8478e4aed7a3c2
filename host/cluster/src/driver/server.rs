//! What a driver offers its executors over the network: `proto/ingle/v1/driver.proto`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ingle_blocks::{BlockStore, ResultBuffer};
use ingle_core::ids::{ExecutorId, ImageId, TaskId, WorkerId};
use ingle_core::master::WORKER_LOST;
use ingle_core::memory::MemoryUse;
use ingle_proto::prost::Message;
use ingle_proto::v1;
use ingle_proto::v1::driver_server::DriverServer;
use ingle_proto::v1::executor_report::Report;
use ingle_sandbox::{Image, LogSink, Network, Stream};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream as Streamed;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};

use super::application::Application;
use super::results::{Made, Updates};
use super::{ExecutorLink, Reports};
use crate::protocol;
use crate::reported::Reported;
use crate::rpc::{self, Secret};

/// How long an executor may be early: before the master has said that it comes.
const EARLY: Duration = Duration::from_secs(5);
/// Commands in one message, and their bytes: a single one may have more.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 4 << 20;
/// What a change to an accumulator costs beside its bytes.
const UPDATE: u64 = 64;
/// Results of one executor that are on their way in parts.
const MAX_PARTIAL: usize = 4096;

type Streams<T> = Pin<Box<dyn Streamed<Item = Result<T, Status>> + Send>>;

/// An executor that the master granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub worker: WorkerId,
    pub worker_address: String,
    pub cores: u32,
}

/// The executors that may come, and those that are there.
#[derive(Default)]
struct Executors {
    granted: BTreeMap<ExecutorId, Grant>,
    /// Dropped to end an executor's connection.
    attached: BTreeMap<ExecutorId, watch::Sender<()>>,
    /// Those that are over. No name comes twice.
    gone: BTreeSet<ExecutorId>,
    /// Those of them whose connections broke, of whom the master may know why.
    broken: BTreeSet<ExecutorId>,
}

/// What all connections share.
pub struct Hub {
    pub application: Arc<Application>,
    pub secret: Secret,
    pub welcome: v1::Welcome,
    /// What the job may touch.
    pub access: v1::Access,
    /// And where the cluster listens.
    pub network: Arc<Network>,
    /// The job's file.
    pub component: Bytes,
    /// Holds results until the driver takes them.
    pub results: BlockStore,
    /// Shows what tasks print, if anything does.
    pub task_log: Option<Arc<dyn LogSink>>,
    /// Hears that an executor is ready.
    pub ready: Box<dyn Fn(ExecutorId) + Send + Sync>,
    executors: Mutex<Executors>,
    /// Changes with each grant.
    grants: watch::Sender<()>,
}

impl Hub {
    pub fn new(
        application: Arc<Application>,
        secret: Secret,
        (welcome, access, network): (v1::Welcome, v1::Access, Arc<Network>),
        component: Bytes,
        results: BlockStore,
        task_log: Option<Arc<dyn LogSink>>,
        ready: Box<dyn Fn(ExecutorId) + Send + Sync>,
    ) -> Self {
        Self {
            application,
            secret,
            welcome,
            access,
            network,
            component,
            results,
            task_log,
            ready,
            executors: Mutex::default(),
            grants: watch::Sender::new(()),
        }
    }

    /// An executor may come. False if it is over already: the master doesn't know yet, or never heard.
    pub fn granted(&self, executor: ExecutorId, grant: Grant) -> bool {
        let mut executors = self.executors.lock();
        if executors.gone.contains(&executor) {
            return false;
        }
        executors.granted.insert(executor, grant);
        drop(executors);
        self.grants.send_replace(());
        true
    }

    /// The master has granted these, and no others: of those, only executors that are there go on, until their connections end.
    pub fn granted_no_others(&self, has: &BTreeSet<ExecutorId>) {
        let executors = self.executors.lock();
        let gone = executors.granted.keys().copied();
        let gone = gone.filter(|id| !has.contains(id) && !executors.attached.contains_key(id));
        let gone: Vec<_> = gone.collect();
        drop(executors);
        for executor in gone {
            self.gone(executor, "it was lost before the driver came back");
        }
    }

    /// The master says that an executor is lost: perhaps why one is gone that went without a word.
    pub fn lost(&self, executor: ExecutorId, reason: &str) {
        let went = self.executors.lock().broken.remove(&executor);
        self.gone(executor, reason);
        // That its worker is lost is said for all of them together.
        if went && !reason.starts_with(WORKER_LOST) {
            self.application.executor_ended(executor, reason);
        }
    }

    /// An executor is gone, or goes.
    pub fn gone(&self, executor: ExecutorId, reason: &str) {
        let mut executors = self.executors.lock();
        executors.gone.insert(executor);
        executors.granted.remove(&executor);
        let attached = executors.attached.remove(&executor);
        drop(executors);
        self.application.executor_lost(executor, reason);
        drop(attached);
    }

    /// Slots of all executors that there are, or will be.
    pub fn slots(&self) -> u32 {
        self.executors.lock().granted.values().map(|grant| grant.cores).sum()
    }

    /// Ends all connections: the executors end with them.
    pub fn close(&self) {
        let mut executors = self.executors.lock();
        executors.granted.clear();
        executors.attached.clear();
    }

    async fn grant(&self, executor: ExecutorId) -> Result<Grant, Status> {
        let mut changes = self.grants.subscribe();
        let look = async {
            loop {
                if let Some(grant) = self.executors.lock().granted.get(&executor) {
                    return grant.clone();
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(EARLY, look).await.map_err(|_| {
            Status::permission_denied(format!("{executor} was never granted to this application"))
        })
    }

    /// Takes an executor's reports until it is gone.
    async fn listen(
        self: Arc<Self>,
        executor: ExecutorId,
        grant: Grant,
        link: Arc<dyn ExecutorLink>,
        mut reports: Streaming<v1::ExecutorReports>,
        mut ended: watch::Receiver<()>,
    ) {
        let mut partial = HashMap::new();
        let (reason, broke) = loop {
            let batch = tokio::select! {
                batch = reports.message() => batch,
                // Only its end is ever heard of.
                _ = ended.changed() => break ("it was given up".to_owned(), false),
            };
            match batch {
                Ok(Some(batch)) => {
                    if let Some(used) = &batch.used {
                        self.application.used(executor, used);
                    }
                    let reports = Reported::new(batch.reports);
                    let taken = self.take(executor, &grant, &link, reports, &mut partial);
                    if let Err(why) = taken {
                        break (why, false);
                    }
                }
                Ok(None) => break ("it closed its connection".to_owned(), true),
                Err(status) => {
                    break (format!("its connection broke: {}", rpc::words(&status)), true);
                }
            }
        };
        if broke {
            self.executors.lock().broken.insert(executor);
        }
        // Before the rest: a task of it may run elsewhere now.
        self.gone(executor, &format!("on {} ({}): {reason}", grant.worker, grant.worker_address));
    }

    /// Carries out what an executor reports. `partial` has its results that came in part. The error is why it is given up.
    pub fn take(
        &self,
        executor: ExecutorId,
        grant: &Grant,
        link: &Arc<dyn ExecutorLink>,
        reports: impl IntoIterator<Item = Result<v1::ExecutorReport, String>>,
        partial: &mut HashMap<TaskId, ResultBuffer>,
    ) -> Result<(), String> {
        let (mut ended, mut leaving) = (Vec::new(), None);
        for report in reports {
            match report?.report {
                Some(Report::Ready(_)) => {
                    self.application.add_executor(
                        executor,
                        grant.cores,
                        grant.worker,
                        &grant.worker_address,
                        link.clone(),
                    );
                    (self.ready)(executor);
                }
                Some(Report::Part(part)) => {
                    let task = protocol::task_id(part.task).map_err(|e| e.to_string())?;
                    if partial.len() >= MAX_PARTIAL && !partial.contains_key(&task) {
                        return Err("it sent more results in parts than it has tasks".into());
                    }
                    let buffer = partial.entry(task).or_insert_with(|| self.results.result());
                    self.emit(buffer, &part.data)?;
                }
                Some(Report::Ended(mut end)) => {
                    let task = protocol::task_id(end.task).map_err(|e| e.to_string())?;
                    let made = self.made(&mut end, partial.remove(&task))?;
                    ended.push((end, made));
                }
                Some(Report::Log(lines)) => {
                    let stream = if lines.stderr { Stream::Stderr } else { Stream::Stdout };
                    self.print(stream, &lines.text);
                }
                Some(Report::DroppedLines(lines)) => {
                    let text =
                        format!("[{executor}: {lines} lines were left out, see `ingle logs`]\n");
                    self.print(Stream::Stderr, text.as_bytes());
                }
                Some(Report::Broken(why)) => {
                    let place = format!("on {} ({})", grant.worker, grant.worker_address);
                    self.application.executor_broken(executor, &format!("{place}: {why}"));
                    return Err(why);
                }
                Some(Report::Leaving(why)) => leaving = Some(why),
                Some(Report::Register(_)) | None => {}
            }
        }
        if !ended.is_empty() {
            self.application.ended(executor, ended);
        }
        leaving.map_or(Ok(()), Err)
    }

    fn print(&self, stream: Stream, text: &[u8]) {
        if let Some(log) = &self.task_log {
            // A terminal that can't be written to is no reason to end a job.
            let _ = log.write(stream, text);
        }
    }

    fn emit(&self, buffer: &mut ResultBuffer, bytes: &[u8]) -> Result<(), String> {
        // It may have to write to disk.
        tokio::task::block_in_place(|| buffer.emit(bytes))
            .map_err(|e| format!("a result can't be kept for the driver: {e}"))
    }

    /// What a task made, from its last report and the parts before that.
    fn made(&self, end: &mut v1::TaskEnd, parts: Option<ResultBuffer>) -> Result<Made, String> {
        let updates = std::mem::take(&mut end.updates);
        let list: Vec<_> = updates.into_iter().map(|u| (u.accumulator, u.value)).collect();
        let bytes = list.iter().map(|(_, value)| value.len() as u64 + UPDATE).sum();
        let charge = match self.results.pool().reserve(MemoryUse::Shuffle, bytes) {
            Ok(charge) => Some(charge),
            Err(error) => {
                let message = format!(
                    "its changes to accumulators don't fit into the driver: {error}; raise --driver-memory"
                );
                let failed = v1::TaskFailed { message, retryable: true, executor_at_fault: false };
                end.outcome = Some(v1::task_end::Outcome::Failed(failed));
                return Ok(Made::default());
            }
        };
        let mut result = None;
        if let Some(rest) = end.result.take() {
            let mut buffer = parts.unwrap_or_else(|| self.results.result());
            self.emit(&mut buffer, &rest)?;
            let finished = tokio::task::block_in_place(|| buffer.finish());
            result =
                Some(finished.map_err(|e| format!("a result can't be kept for the driver: {e}"))?);
        }
        Ok(Made { result, updates: Updates { list, charge }, stored: Vec::new() })
    }
}

/// The way to an executor elsewhere.
struct Remote {
    commands: mpsc::UnboundedSender<v1::ExecutorCommand>,
}

impl ExecutorLink for Remote {
    fn send(&self, mut command: v1::ExecutorCommand, image: Option<Image>) {
        use v1::executor_command::Command;
        if let (Some(Command::Describe(description)), Some(image)) = (&mut command.command, &image)
        {
            description.manifest = super::manifest(image);
        }
        // One that is gone is reported so by its connection.
        let _ = self.commands.send(command);
    }

    fn is_elsewhere(&self) -> bool {
        true
    }
}

/// The service. Whoever asks has proved to be of the application.
#[derive(Clone)]
pub struct Service(pub Arc<Hub>);

impl Service {
    /// Refuses who doesn't prove that before anything of the messages is read.
    pub fn server(
        self,
    ) -> InterceptedService<DriverServer<Self>, impl Interceptor + Clone + Send + Sync + 'static>
    {
        let secret = self.0.secret.clone();
        let check = move |request: Request<()>| match secret.is_in(&request) {
            true => Ok(request),
            false => Err(rpc::wrong_secret()),
        };
        let server = DriverServer::new(self).max_decoding_message_size(rpc::MAX_MESSAGE);
        InterceptedService::new(server, check)
    }
}

#[tonic::async_trait]
impl v1::driver_server::Driver for Service {
    type AttachStream = Streams<v1::ExecutorCommands>;
    type FetchComponentStream = Streams<v1::Chunk>;
    type FetchPiecesStream = Streams<v1::Chunk>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::ExecutorReports>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut reports = request.into_inner();
        let first = reports.message().await?.map(|batch| batch.reports).unwrap_or_default();
        let first = Reported::new(first).next().transpose().map_err(Status::invalid_argument)?;
        let Some(Report::Register(register)) = first.and_then(|report| report.report) else {
            return Err(Status::invalid_argument("an executor registers first"));
        };
        rpc::check_protocol("executor", register.protocol)?;
        let executor = ExecutorId(register.executor);
        let grant = self.0.grant(executor).await?;
        if register.slots != grant.cores {
            return Err(Status::invalid_argument(format!(
                "{executor} was granted {} cores and offers {} slots",
                grant.cores, register.slots
            )));
        }
        let (end, ended) = watch::channel(());
        let (commands, sent) = mpsc::unbounded_channel();
        {
            let mut executors = self.0.executors.lock();
            if executors.attached.contains_key(&executor) {
                return Err(Status::already_exists(format!("{executor} is attached already")));
            }
            executors.attached.insert(executor, end);
        }
        let link: Arc<dyn ExecutorLink> = Arc::new(Remote { commands });
        let listening = self.0.clone().listen(executor, grant, link, reports, ended.clone());
        tokio::spawn(listening);
        Ok(Response::new(batches(self.0.welcome.clone(), sent, ended)))
    }

    async fn get_access(
        &self,
        request: Request<v1::GetAccessRequest>,
    ) -> Result<Response<v1::Access>, Status> {
        let v1::GetAccessRequest { protocol, executor } = request.into_inner();
        rpc::check_protocol("executor", protocol)?;
        self.0.grant(ExecutorId(executor)).await?;
        let mut access = self.0.access.clone();
        access.cluster.extend(self.0.network.protected().iter().map(ToString::to_string));
        Ok(Response::new(access))
    }

    async fn fetch_component(
        &self,
        _: Request<v1::FetchComponentRequest>,
    ) -> Result<Response<Self::FetchComponentStream>, Status> {
        Ok(Response::new(Box::pin(rpc::chunks(self.0.component.clone()))))
    }

    async fn fetch_pieces(
        &self,
        request: Request<v1::FetchPiecesRequest>,
    ) -> Result<Response<Self::FetchPiecesStream>, Status> {
        let v1::FetchPiecesRequest { image, pieces } = request.into_inner();
        let image = self.0.application.image(ImageId(image));
        let image = image.ok_or_else(|| Status::not_found("that image is no longer needed"))?;
        let (send, chunks) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            let mut buffer = Vec::new();
            for piece in pieces {
                let read = image.read_piece(piece as usize, &mut buffer);
                let chunk = match read {
                    Ok(()) => Ok(v1::Chunk { data: Bytes::copy_from_slice(&buffer) }),
                    Err(error) => Err(Status::internal(format!("reading the image: {error}"))),
                };
                // Nobody wants it any more.
                if send.blocking_send(chunk).is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(chunks))))
    }
}

/// Commands in batches, behind the welcome, until the executor is given up.
fn batches(
    welcome: v1::Welcome,
    mut commands: mpsc::UnboundedReceiver<v1::ExecutorCommand>,
    mut ended: watch::Receiver<()>,
) -> Streams<v1::ExecutorCommands> {
    let (send, messages) = mpsc::channel(2);
    tokio::spawn(async move {
        let mut message = v1::ExecutorCommands { welcome: Some(welcome), commands: Vec::new() };
        let (mut came, mut waiting) = (Vec::new(), VecDeque::new());
        loop {
            if send.send(Ok(std::mem::take(&mut message))).await.is_err() {
                break;
            }
            tokio::select! {
                // Only its end is ever heard of.
                _ = ended.changed() => break,
                count = commands.recv_many(&mut came, BATCH), if waiting.is_empty() => {
                    if count == 0 {
                        break;
                    }
                }
                // What waits is next in any case.
                () = std::future::ready(()), if !waiting.is_empty() => {}
            }
            waiting.extend(came.drain(..));
            message.commands = batch(&mut waiting);
        }
    });
    Box::pin(ReceiverStream::new(messages))
}

/// The next commands that go in one message.
fn batch(waiting: &mut VecDeque<v1::ExecutorCommand>) -> Vec<v1::ExecutorCommand> {
    let mut bytes = 0;
    let fits = waiting.iter().take_while(|command| {
        bytes += command.encoded_len();
        bytes <= BATCH_BYTES
    });
    let count = fits.count().clamp(1, BATCH).min(waiting.len());
    waiting.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    use ingle_blocks::Grants;
    use ingle_core::memory::MemoryPool;
    use ingle_core::scheduler::Policy;
    use ingle_core::size::ByteSize;

    use super::super::opened::Opened;
    use super::*;

    fn hub(spill: &tempfile::TempDir) -> Hub {
        let pool = MemoryPool::new(ByteSize(1 << 20));
        let opened = Opened::new(Arc::new(Grants::new(&[], &[]).unwrap()), pool.clone());
        let application =
            Application::new(Policy::default(), Arc::new(opened), pool.clone(), Box::new(|_| {}));
        Hub::new(
            Arc::new(application),
            Secret::random().unwrap(),
            Default::default(),
            Bytes::new(),
            BlockStore::new(pool, spill.path()).unwrap(),
            None,
            Box::new(|_| {}),
        )
    }

    #[test]
    fn executors_whose_end_was_missed_are_not_counted_on() {
        let spill = tempfile::tempdir().unwrap();
        let hub = hub(&spill);
        let grant = Grant { worker: WorkerId(1), worker_address: "here:1".into(), cores: 4 };
        for id in 0..4 {
            assert!(hub.granted(ExecutorId(id), grant.clone()));
        }
        let (end, _ended) = watch::channel(());
        hub.executors.lock().attached.insert(ExecutorId(0), end);
        hub.gone(ExecutorId(1), "it crashed");
        assert_eq!(hub.slots(), 12);
        // Of two the end was missed; one of them is still there, and its connection will tell.
        hub.granted_no_others(&[ExecutorId(2)].into());
        assert_eq!(hub.slots(), 8);
        hub.gone(ExecutorId(0), "its connection broke");
        assert_eq!(hub.slots(), 4);
        assert!(!hub.granted(ExecutorId(1), grant), "it is over, and doesn't come again");
        assert_eq!(hub.slots(), 4);
    }

    #[test]
    fn commands_go_together_as_long_as_a_message_has_room_for_them() {
        let describe = |bytes: usize| {
            let payload = Bytes::from(vec![0; bytes]);
            let stage = v1::StageDescription { payload, ..Default::default() };
            protocol::command(v1::executor_command::Command::Describe(stage))
        };
        let sizes = [10, 3 << 20, 2 << 20, 48 << 20, 48 << 20, 20, 30];
        let mut waiting: VecDeque<_> = sizes.into_iter().map(describe).collect();
        let mut batches = Vec::new();
        while !waiting.is_empty() {
            let batch = batch(&mut waiting);
            assert!(batch.iter().map(Message::encoded_len).sum::<usize>() < rpc::MAX_MESSAGE);
            batches.push(batch.len());
        }
        assert_eq!(batches, [2, 1, 1, 1, 2]);
        let mut many: VecDeque<_> = (0..BATCH + 3).map(|_| describe(1)).collect();
        assert_eq!((batch(&mut many).len(), batch(&mut many).len()), (BATCH, 3));
        assert!(batch(&mut many).is_empty());
    }
}
