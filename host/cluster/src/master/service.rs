//! `proto/ingle/v1/master.proto`, in and out of the core's words.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use ingle_core::master::{
    AppId, AppNews, ConnectionId, DriverId, Event, Reply, Target, WorkerOrder,
};
use ingle_proto::prost::Message;
use ingle_proto::v1;
use ingle_proto::v1::application_report::Report as AppReport;
use ingle_proto::v1::worker_report::Report as WorkerReport;
use ingle_sandbox::ComponentHash;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::components::Components;
use super::shell::{Said, Shell};
use super::transfers::{Outgoing, Transfers};
use super::{convert, limits, logs};
use crate::pace::Pace;
use crate::rpc;

type Streams<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Words that wait for the network.
const AHEAD: usize = 16;
/// What an application may wish at once, and then in a second: more or fewer executors, and where.
const WISHES: f64 = 1024.0;
const WISHES_PER_SECOND: f64 = 512.0;
/// Logs that are read through the master at the same time.
const MAX_LOGS: usize = 64;
/// Secrets of one driver, which stay in memory.
const MAX_SECRETS: usize = 1 << 20;

#[derive(Clone)]
pub struct Service {
    shell: Arc<Shell>,
    transfers: Transfers,
    logs: Arc<Semaphore>,
}

/// An application or a driver by its name.
pub enum Named {
    App(AppId),
    Driver(DriverId),
}

/// What an id names.
pub fn named(id: &str) -> Result<Named, Status> {
    if let Ok(id) = id.parse() {
        return Ok(Named::App(id));
    }
    id.parse().map(Named::Driver).map_err(|()| {
        Status::invalid_argument(format!(
            "`{}` is no id: they look like app-20260131235959-0001 and driver-20260131235959-0001; see `ingle apps`",
            rpc::shown(id)
        ))
    })
}

fn unknown(id: &str) -> Status {
    let id = rpc::shown(id);
    Status::not_found(format!("there is no {id}, or it ended long ago; see `ingle apps`"))
}

fn check_client(client: Option<v1::Client>) -> Result<(), Status> {
    rpc::check_protocol("client", client.unwrap_or_default().protocol)
}

pub(super) fn hash(bytes: &[u8]) -> Result<ComponentHash, Status> {
    let hash = <[u8; 32]>::try_from(bytes);
    hash.map(ComponentHash::from_bytes).map_err(|_| Status::invalid_argument("a hash has 32 bytes"))
}

impl Service {
    pub fn new(shell: Arc<Shell>, components: Components) -> Self {
        let logs = Arc::new(Semaphore::new(MAX_LOGS));
        Self { shell, transfers: Transfers::new(components), logs }
    }

    /// Passes on what the core says to a peer, until either is gone.
    fn pass_on<T: Send + 'static>(
        &self,
        mut said: mpsc::Receiver<Said>,
        convert: fn(Said) -> Result<T, Status>,
    ) -> Streams<T> {
        let (send, messages) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            while let Some(said) = said.recv().await {
                if send.send(convert(said)).await.is_err() {
                    break;
                }
            }
        });
        Box::pin(ReceiverStream::new(messages))
    }
}

/// Tells the core when a connection ends, however that happens.
struct Connected {
    shell: Arc<Shell>,
    connection: ConnectionId,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.shell.disconnected(self.connection);
    }
}

#[tonic::async_trait]
impl v1::master_server::Master for Service {
    type AttachWorkerStream = Streams<v1::WorkerCommand>;
    type AttachApplicationStream = Streams<v1::ApplicationCommand>;
    type FetchComponentStream = Outgoing;
    type ReadLogsStream = Streams<v1::LogPart>;

    async fn attach_worker(
        &self,
        request: Request<Streaming<v1::WorkerReport>>,
    ) -> Result<Response<Self::AttachWorkerStream>, Status> {
        let mut reports = request.into_inner();
        let Some(v1::WorkerReport { report: Some(WorkerReport::Hello(hello)) }) =
            reports.message().await?
        else {
            return Err(Status::invalid_argument("a worker says hello first"));
        };
        rpc::check_protocol("worker", hello.protocol)?;
        let hello = convert::worker_hello(hello)?;
        let (connection, mut said) = self.shell.connect();
        let connected = Connected { shell: self.shell.clone(), connection };
        self.shell.tell(Event::WorkerHello { connection, hello });
        let (worker, first) = match said.recv().await {
            Some(Said::Worker(order @ WorkerOrder::Welcome(worker))) => (worker, order),
            Some(Said::Refused(why)) => return Err(Status::failed_precondition(why)),
            _ => return Err(Status::internal("the master gave no answer")),
        };
        let shell = self.shell.clone();
        tokio::spawn(async move {
            let _connected = connected;
            while let Ok(Some(v1::WorkerReport { report: Some(report) })) = reports.message().await
            {
                match convert::worker_event(worker, report) {
                    Ok(Some(event)) => {
                        if !shell.hear(connection, event) {
                            break;
                        }
                    }
                    Ok(None) => {}
                    Err(status) => {
                        tracing::warn!("{worker} said what makes no sense: {}", status.message());
                        break;
                    }
                }
            }
        });
        let later = self.pass_on(said, |said| match said {
            Said::Worker(order) => Ok(convert::worker_command(order, "", None)),
            Said::Launch(order, secrets) => Ok(convert::worker_command(order, "", secrets)),
            Said::Refused(why) => Err(Status::failed_precondition(why)),
            Said::App(_) => Err(Status::internal("that was for an application")),
        });
        let first = convert::worker_command(first, self.shell.page(), None);
        let first = tokio_stream::once(Ok(first));
        Ok(Response::new(Box::pin(tokio_stream::StreamExt::chain(first, later))))
    }

    async fn attach_application(
        &self,
        request: Request<Streaming<v1::ApplicationReport>>,
    ) -> Result<Response<Self::AttachApplicationStream>, Status> {
        let (_, extensions, mut reports) = request.into_parts();
        let Some(v1::ApplicationReport { report: Some(AppReport::Hello(hello)) }) =
            reports.message().await?
        else {
            return Err(Status::invalid_argument("an application says hello first"));
        };
        rpc::check_protocol("driver", hello.protocol)?;
        if let Some(id) = limits::handed_to(&extensions).filter(|id| *id != hello.driver) {
            return Err(limits::not_yours(id));
        }
        let id = match hello.id.as_str() {
            "" => None,
            id => Some(convert::app_id(id)?),
        };
        let spec = convert::app_spec(&hello)?;
        let (connection, mut said) = self.shell.connect();
        let connected = Connected { shell: self.shell.clone(), connection };
        self.shell.tell(Event::AppHello { connection, id, spec, wall: Shell::wall() });
        let (app, first) = match said.recv().await {
            Some(Said::App(news @ AppNews::Welcome(app))) => (app, news),
            Some(Said::Refused(why)) => return Err(Status::failed_precondition(why)),
            _ => return Err(Status::internal("the master gave no answer")),
        };
        let shell = self.shell.clone();
        tokio::spawn(async move {
            let _connected = connected;
            let mut pace = Pace::new(WISHES, WISHES_PER_SECOND, Instant::now());
            while let Ok(Some(v1::ApplicationReport { report: Some(report) })) =
                reports.message().await
            {
                // For each wish all applications and workers are looked at; an executor registers once.
                if !matches!(report, AppReport::Registered(_)) {
                    tokio::time::sleep(pace.take(Instant::now())).await;
                }
                if let Some(event) = convert::app_event(app, report)
                    && !shell.hear(connection, event)
                {
                    break;
                }
            }
        });
        let later = self.pass_on(said, |said| match said {
            Said::App(news) => Ok(convert::app_command(news)),
            Said::Refused(why) => Err(Status::failed_precondition(why)),
            Said::Worker(_) | Said::Launch(..) => Err(Status::internal("that was for a worker")),
        });
        let first = tokio_stream::once(Ok(convert::app_command(first)));
        Ok(Response::new(Box::pin(tokio_stream::StreamExt::chain(first, later))))
    }

    async fn has_component(
        &self,
        request: Request<v1::ComponentName>,
    ) -> Result<Response<v1::HasComponentReply>, Status> {
        let has = self.transfers.has(hash(&request.get_ref().hash)?);
        Ok(Response::new(v1::HasComponentReply { has }))
    }

    async fn upload_component(
        &self,
        request: Request<Streaming<v1::ComponentChunk>>,
    ) -> Result<Response<v1::UploadComponentReply>, Status> {
        self.transfers.take(request.into_inner()).await?;
        Ok(Response::new(v1::UploadComponentReply {}))
    }

    async fn fetch_component(
        &self,
        request: Request<v1::ComponentName>,
    ) -> Result<Response<Self::FetchComponentStream>, Status> {
        let chunks = self.transfers.send(hash(&request.get_ref().hash)?).await?;
        Ok(Response::new(chunks))
    }

    async fn submit_driver(
        &self,
        request: Request<v1::SubmitDriverRequest>,
    ) -> Result<Response<v1::SubmitDriverReply>, Status> {
        let mut request = request.into_inner();
        rpc::check_protocol("client", request.protocol)?;
        if !self.transfers.has(hash(&request.component)?) {
            return Err(Status::failed_precondition("the job must be uploaded first"));
        }
        let secrets = request.secrets.take();
        if secrets.as_ref().is_some_and(|secrets| secrets.len() > MAX_SECRETS) {
            return Err(Status::failed_precondition("its secrets take more than 1 MiB"));
        }
        let secrets = secrets.map(|secrets| v1::Secrets::decode(secrets.as_slice())).transpose();
        let secrets = secrets.map_err(|_| Status::invalid_argument("its secrets can't be read"))?;
        let proof = rpc::Secret::random().map_err(Status::internal)?;
        let spec = convert::driver_spec(request, &proof, secrets.is_some());
        let wall = Shell::wall();
        let submit = |request| Event::SubmitDriver { request, spec, wall };
        match self.shell.ask_with(secrets, submit).await? {
            Reply::Driver(id) => {
                Ok(Response::new(v1::SubmitDriverReply { driver: id.to_string() }))
            }
            Reply::Done(_) => Err(Status::internal("the master gave no name")),
        }
    }

    async fn kill(
        &self,
        request: Request<v1::IdRequest>,
    ) -> Result<Response<v1::TextReply>, Status> {
        let v1::IdRequest { client, id } = request.into_inner();
        check_client(client)?;
        let target = match named(&id)? {
            Named::App(id) => Target::App(id),
            Named::Driver(id) => Target::Driver(id),
        };
        self.done(|request| Event::Kill { request, target }).await
    }

    async fn status(
        &self,
        request: Request<v1::IdRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        let v1::IdRequest { client, id } = request.into_inner();
        check_client(client)?;
        let found = match named(&id)? {
            Named::App(app) => {
                self.shell.look(|core| core.app(app)).map(|s| convert::app_status(&s))
            }
            Named::Driver(driver) => {
                self.shell.look(|core| core.driver(driver)).map(|s| convert::driver_status(&s))
            }
        };
        found.map(Response::new).ok_or_else(|| unknown(&id))
    }

    async fn explain(
        &self,
        request: Request<v1::IdRequest>,
    ) -> Result<Response<v1::TextReply>, Status> {
        let status = self.status(request).await?.into_inner();
        let text = convert::explained(&status.id, &status.name, &status.state, &status.text);
        Ok(Response::new(v1::TextReply { text }))
    }

    async fn list_applications(
        &self,
        request: Request<v1::Client>,
    ) -> Result<Response<v1::ListApplicationsReply>, Status> {
        check_client(Some(request.into_inner()))?;
        let reply = self.shell.look(|core| v1::ListApplicationsReply {
            applications: core.apps().map(|status| convert::app_row(&status)).collect(),
            drivers: core.drivers().map(|status| convert::driver_status(&status)).collect(),
        });
        Ok(Response::new(reply))
    }

    async fn list_workers(
        &self,
        request: Request<v1::Client>,
    ) -> Result<Response<v1::ListWorkersReply>, Status> {
        check_client(Some(request.into_inner()))?;
        let workers = self.shell.look(|core| core.workers().map(convert::worker_row).collect());
        Ok(Response::new(v1::ListWorkersReply { workers }))
    }

    async fn decommission(
        &self,
        request: Request<v1::IdRequest>,
    ) -> Result<Response<v1::TextReply>, Status> {
        let v1::IdRequest { client, id } = request.into_inner();
        check_client(client)?;
        let worker = self.shell.look(|core| core.find_worker(&id)).ok_or_else(|| {
            let id = rpc::shown(&id);
            Status::not_found(format!("there is no worker {id}; see `ingle workers`"))
        })?;
        self.done(|request| Event::Decommission { request, worker }).await
    }

    async fn read_logs(
        &self,
        request: Request<v1::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogsStream>, Status> {
        let request = request.into_inner();
        let (app, driver) = match named(&request.id)? {
            Named::App(app) => (Some(app), None),
            Named::Driver(driver) => (None, Some(driver)),
        };
        let places = self.shell.look(|core| logs::places(core, app, driver));
        let places = places.ok_or_else(|| unknown(&request.id))?;
        if places.is_empty() {
            let why = format!("nothing of {} has run on a worker yet", request.id);
            return Err(Status::not_found(why));
        }
        let turn = self.logs.clone().try_acquire_owned().map_err(|_| {
            let many =
                format!("{MAX_LOGS} logs are being read through this master, and no more can be");
            Status::resource_exhausted(many)
        })?;
        let turn = Arc::new(turn);
        let turns = Arc::new(Semaphore::new(logs::TURNS));
        let (send, parts) = mpsc::channel(logs::AHEAD);
        let v1::ReadLogRequest { follow, last, .. } = request;
        for place in places {
            let (turn, turns, send) = (turn.clone(), turns.clone(), send.clone());
            tokio::spawn(async move {
                logs::relay(place, follow, last, &turns, &send).await;
                drop(turn);
            });
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }
}

impl Service {
    async fn done(
        &self,
        event: impl FnOnce(ingle_core::master::RequestId) -> Event,
    ) -> Result<Response<v1::TextReply>, Status> {
        match self.shell.ask(event).await? {
            Reply::Done(text) => Ok(Response::new(v1::TextReply { text })),
            Reply::Driver(id) => Ok(Response::new(v1::TextReply { text: id.to_string() })),
        }
    }
}
