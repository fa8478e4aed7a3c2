//! Peers that speak a cluster's language and are none of ours: for tests of what daemons let pass.

use std::future::{Ready, poll_fn, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::Uri;
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use ingle_proto::prost::Message;
use ingle_proto::v1;
use ingle_proto::v1::application_report::Report as AppReport;
use ingle_proto::v1::driver_client::DriverClient;
use ingle_proto::v1::executor_report::Report as ExecutorReport;
use ingle_proto::v1::master_client::MasterClient;
use ingle_proto::v1::worker_command::Command;
use ingle_proto::v1::worker_report::Report as WorkerReport;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Service;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// The protocol's version.
pub const PROTOCOL: u32 = 5;

/// For asynchronous calls.
pub fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).enable_all().build().expect("a runtime")
}

/// Does something asynchronous, and all that it began, in a time that nothing here takes.
#[track_caller]
pub fn in_time<T>(what: impl Future<Output = T>) -> T {
    let all = async { tokio::time::timeout(Duration::from_secs(120), what).await };
    runtime().block_on(all).expect("waited in vain")
}

/// A connection to a port.
pub async fn connect(address: &str) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("somebody listens")
}

/// A connection as a worker makes it for a process of an application, or for a driver: it says so first.
pub async fn connect_for(address: &str, id: &str) -> Channel {
    let mut preamble = [0; 73];
    preamble[..8].copy_from_slice(b"\0ingle\0\x01");
    preamble[8] = u8::try_from(id.len()).expect("an id");
    preamble[9..][..id.len()].copy_from_slice(id.as_bytes());
    let mut stream = TcpStream::connect(address).await.expect("somebody listens");
    stream.write_all(&preamble).await.expect("it listens");
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect_with_connector(Made(Some(stream))).await.expect("it is let in")
}

/// A connection that there is.
struct Made(Option<TcpStream>);

impl Service<Uri> for Made {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = Ready<std::io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let once = || std::io::Error::other("it broke");
        ready(self.0.take().map(TokioIo::new).ok_or_else(once))
    }
}

/// Calls a method, `/ingle.v1.Master/Kill`, with a message that isn't its own.
pub async fn call(
    channel: Channel,
    method: &'static str,
    message: Request<impl Message + 'static>,
) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("it is there");
    let (method, codec) =
        (PathAndQuery::from_static(method), ProstCodec::<_, v1::Chunk>::default());
    client.server_streaming(message, method, codec).await.map(drop)
}

/// Announces a message of so many bytes to a method, says so many of them, and then nothing. Gives the code that it is answered with.
pub async fn say_half(
    mut channel: Channel,
    method: &'static str,
    announced: u32,
    said: usize,
) -> Result<Code, tonic::transport::Error> {
    let head = [&[0][..], &announced.to_be_bytes()].concat();
    let pieces = (0..said.div_ceil(PIECE)).map(move |at| PIECE.min(said - at * PIECE));
    let pieces = pieces.map(|length| Bytes::from_static(&ZEROS[..length]));
    let frames = std::iter::once(head.into()).chain(pieces).map(|piece| Ok(Frame::data(piece)));
    let frames = tokio_stream::iter(frames).chain(tokio_stream::pending::<Result<_, Status>>());
    let body = tonic::body::Body::new(StreamBody::new(frames));
    let request = hyper::Request::post(method).header("content-type", "application/grpc");
    let request = request.body(body).expect("sound");
    poll_fn(|context| channel.poll_ready(context)).await?;
    let answer = channel.call(request).await?;
    let code = answer.headers().get("grpc-status").map_or(&b"0"[..], |code| code.as_bytes());
    Ok(Code::from_bytes(code))
}

const PIECE: usize = 64 << 10;
static ZEROS: [u8; PIECE] = [0; PIECE];

/// A worker's first words.
pub fn hello() -> v1::WorkerHello {
    v1::WorkerHello {
        protocol: PROTOCOL,
        // Nobody is there.
        address: "127.0.0.1:1".into(),
        cores: 1,
        memory: 8 << 30,
        instance: 7,
        ..v1::WorkerHello::default()
    }
}

/// An application's first words.
pub fn application() -> v1::ApplicationHello {
    v1::ApplicationHello {
        protocol: PROTOCOL,
        name: "strange".into(),
        driver_address: "127.0.0.1:1".into(),
        secret: vec![1; 32],
        executor_memory: 1 << 30,
        dynamic: true,
        ..v1::ApplicationHello::default()
    }
}

/// A worker that is none: it says that it is there, and does nothing that it is told.
pub struct FakeWorker {
    commands: Streaming<v1::WorkerCommand>,
    life: mpsc::Sender<v1::WorkerReport>,
}

impl FakeWorker {
    pub async fn attach(master: &str, hello: v1::WorkerHello) -> Result<Self, Status> {
        let (send, reports) = mpsc::channel(16);
        let tell = |report| v1::WorkerReport { report: Some(report) };
        send.send(tell(WorkerReport::Hello(hello))).await.expect("room");
        let mut master = MasterClient::new(connect(master).await);
        let commands = master.attach_worker(ReceiverStream::new(reports)).await?.into_inner();
        let heart = send.clone();
        tokio::spawn(async move {
            while heart.send(tell(WorkerReport::Heartbeat(v1::Heartbeat {}))).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        Ok(Self { commands, life: send })
    }

    /// Says something of what it runs.
    pub async fn say(&self, report: WorkerReport) {
        let report = v1::WorkerReport { report: Some(report) };
        self.life.send(report).await.expect("somebody listens");
    }

    /// Waits for an executor to start.
    pub async fn launch(&mut self) -> v1::LaunchExecutor {
        loop {
            let command = self.commands.message().await.expect("sound").expect("more");
            if let Some(Command::LaunchExecutor(launch)) = command.command {
                return launch;
            }
        }
    }
}

/// An application that nobody drives.
pub async fn attach_application(
    master: &str,
    hello: v1::ApplicationHello,
) -> Result<(mpsc::Sender<v1::ApplicationReport>, Streaming<v1::ApplicationCommand>), Status> {
    let (send, reports) = mpsc::channel(16);
    let hello = v1::ApplicationReport { report: Some(AppReport::Hello(hello)) };
    send.send(hello).await.expect("room");
    let mut master = MasterClient::new(connect(master).await);
    let commands = master.attach_application(ReceiverStream::new(reports)).await?;
    Ok((send, commands.into_inner()))
}

pub type Executor = (mpsc::Sender<v1::ExecutorReports>, Streaming<v1::ExecutorCommands>);

/// An executor that was granted, as it attaches to its driver.
pub async fn attach_executor(
    launch: &v1::LaunchExecutor,
    secret: &[u8],
    protocol: u32,
) -> Result<Executor, Status> {
    let mut driver = DriverClient::new(connect(&launch.driver_address).await);
    let (send, reports) = mpsc::channel(16);
    let register = v1::RegisterExecutor {
        protocol,
        executor: launch.executor.as_ref().expect("a name").executor,
        slots: launch.cores,
        worker: 1,
        worker_address: "127.0.0.1:1".into(),
    };
    send.send(report(ExecutorReport::Register(register))).await.expect("room");
    Ok((send, driver.attach(with_secret(ReceiverStream::new(reports), secret)).await?.into_inner()))
}

/// One report, as executors send them.
pub fn report(report: ExecutorReport) -> v1::ExecutorReports {
    let report = v1::ExecutorReport { report: Some(report) };
    let reports = report.encode_length_delimited_to_vec().into();
    v1::ExecutorReports { reports, ..v1::ExecutorReports::default() }
}

/// A request that proves itself by a secret.
pub fn with_secret<T>(message: T, secret: &[u8]) -> Request<T> {
    let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut request = Request::new(message);
    request.metadata_mut().insert("ingle-secret", secret.parse().expect("hex"));
    request
}
