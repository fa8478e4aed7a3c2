//! What callers may make a master hold before it knows anything of them: by method, how long a message may be, and how long the first words may take.
//! And what a process asks that a worker connected with its master: a driver attaches its application, and nobody else asks anything.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ingle_proto::v1::master_server::{MasterServer, SERVICE_NAME};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{self, BoxFuture, StdError, http};
use tonic::server::NamedService;

use super::service::Service;
use crate::incoming::HandedTo;
use crate::rpc::{self, PIECE_MESSAGE};

/// The hello of a worker that has all that a worker can have.
const WORKER: usize = 1 << 20;
const APPLICATION: usize = 256 << 10;
/// A submission, its secrets, and their frame.
const SUBMISSION: usize = 34 << 20;
const OTHERS: usize = 64 << 10;

/// How long a caller may take until it is answered.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many times that for a submission, whose 32 MiB may come by a slow line.
const LONGER: u32 = 4;
/// Submissions on their way in at the same time, and how long the next one waits.
const AT_ONCE: usize = 4;

/// The longest message of a method's caller.
fn limit(method: &str) -> usize {
    match method {
        "AttachWorker" => WORKER,
        "AttachApplication" => APPLICATION,
        "UploadComponent" => PIECE_MESSAGE,
        SUBMIT => SUBMISSION,
        _ => OTHERS,
    }
}

const SUBMIT: &str = "SubmitDriver";

/// A master's service within these.
#[derive(Clone)]
pub struct Limited {
    service: Arc<Service>,
    submissions: Arc<Semaphore>,
    patience: Duration,
}

impl Limited {
    pub fn new(service: Service) -> Self {
        let submissions = Arc::new(Semaphore::new(AT_ONCE));
        Self { service: Arc::new(service), submissions, patience: PATIENCE }
    }

    /// How long a method's caller may take until it is answered; none: its own words say so, one by one.
    fn patience(&self, method: &str) -> Option<Duration> {
        match method {
            "UploadComponent" => None,
            // It may wait for its turn, as long as others do for their answer.
            SUBMIT | "FetchComponent" => Some(self.patience * LONGER),
            _ => Some(self.patience),
        }
    }
}

impl NamedService for Limited {
    const NAME: &'static str = SERVICE_NAME;
}

impl<B> codegen::Service<http::Request<B>> for Limited
where
    B: codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let mut server =
            MasterServer::from_arc(self.service.clone()).max_decoding_message_size(limit(&method));
        let (submissions, turn) = (self.submissions.clone(), self.patience);
        let patience = self.patience(&method);
        if let Some(id) = handed_to(request.extensions())
            && method != "AttachApplication"
        {
            let refused = not_yours(id).into_http();
            return Box::pin(std::future::ready(Ok(refused)));
        }
        Box::pin(async move {
            // Nothing of its message is read before.
            let _turn = match method == SUBMIT {
                true => match timeout(turn, submissions.acquire_owned()).await {
                    Ok(Ok(turn)) => Some(turn),
                    _ => return Ok(too_many().into_http()),
                },
                false => None,
            };
            let answer = codegen::Service::call(&mut server, request);
            match patience {
                Some(patience) => match timeout(patience, answer).await {
                    Ok(answer) => answer,
                    Err(_) => Ok(too_late(patience).into_http()),
                },
                None => answer.await,
            }
        })
    }
}

/// Whose process a worker made a request's connection for; none if its peer made it.
pub fn handed_to(extensions: &http::Extensions) -> Option<&str> {
    extensions.get::<HandedTo>().and_then(HandedTo::id)
}

/// For who asks what isn't its own, by a connection that a worker made.
pub fn not_yours(id: &str) -> Status {
    Status::permission_denied(format!(
        "this connection was handed to a process of {}, which may attach its application by it, and do nothing else",
        rpc::shown(id)
    ))
}

fn too_many() -> Status {
    Status::resource_exhausted(format!(
        "{AT_ONCE} drivers are being submitted at the moment, and no more can be: try again later"
    ))
}

fn too_late(patience: Duration) -> Status {
    let seconds = patience.as_secs();
    Status::deadline_exceeded(format!("what was asked didn't come whole within {seconds} s"))
}

#[cfg(test)]
mod tests {
    use ingle_proto::prost::Message;
    use ingle_proto::v1;
    use tonic::Code;

    use super::*;
    use crate::master::components::Components;
    use crate::master::shell::Shell;
    use crate::master::store::Store;
    use crate::rpc::PIECE;

    /// A master's service that has little patience.
    fn limited(dir: &tempfile::TempDir, patience: Duration) -> Limited {
        let store = Store::open(dir.path()).unwrap();
        let shell = Shell::new(ingle_core::master::Policy::default(), store).unwrap();
        let components = Components::open(dir.path()).unwrap();
        Limited { patience, ..Limited::new(Service::new(Arc::new(shell), components)) }
    }

    /// A call whose message never comes.
    fn endless(method: &str) -> http::Request<axum::body::Body> {
        let nothing = tokio_stream::pending::<Result<bytes::Bytes, Infallible>>();
        let request = http::Request::post(format!("/{SERVICE_NAME}/{method}"));
        let request = request.header("content-type", "application/grpc");
        request.body(axum::body::Body::from_stream(nothing)).unwrap()
    }

    fn code(answer: Result<http::Response<Body>, Infallible>) -> Code {
        let Ok(answer) = answer;
        Code::from_bytes(answer.headers()["grpc-status"].as_bytes())
    }

    #[tokio::test]
    async fn who_never_says_what_it_wants_is_answered_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut limited = limited(&dir, Duration::from_millis(20));
        for method in ["AttachWorker", "AttachApplication", "Kill", "SubmitDriver"] {
            let answer = codegen::Service::call(&mut limited, endless(method)).await;
            assert_eq!(code(answer), Code::DeadlineExceeded, "{method}");
        }
    }

    #[tokio::test]
    async fn few_submissions_come_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut limited = limited(&dir, Duration::from_millis(100));
        let calls = (0..=AT_ONCE).map(|_| codegen::Service::call(&mut limited, endless(SUBMIT)));
        let mut calls: tokio::task::JoinSet<_> = calls.collect();
        let mut codes = Vec::new();
        while let Some(answer) = calls.join_next().await {
            codes.push(code(answer.unwrap()));
        }
        // One had no turn as long as it waited.
        let expected = [[Code::ResourceExhausted].as_slice(), &[Code::DeadlineExceeded; 4]];
        assert_eq!(codes, expected.concat());
    }

    #[tokio::test]
    async fn a_connection_that_was_handed_over_attaches_an_application_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut limited = limited(&dir, Duration::from_millis(20));
        let proto = include_str!("../../../../proto/ingle/v1/master.proto");
        for method in methods(proto) {
            let mut request = endless(method);
            request.extensions_mut().insert(HandedTo::of("driver-1"));
            let code = code(codegen::Service::call(&mut limited, request).await);
            let expected = match method {
                "AttachApplication" => Code::DeadlineExceeded,
                _ => Code::PermissionDenied,
            };
            assert_eq!(code, expected, "{method}");
        }
    }

    fn methods(proto: &str) -> impl Iterator<Item = &str> {
        let methods = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
        methods.filter_map(|line| Some(line.split_once('(')?.0))
    }

    #[test]
    fn each_method_has_the_limit_that_it_needs_and_no_more() {
        let proto = include_str!("../../../../proto/ingle/v1/master.proto");
        let limits: Vec<_> = methods(proto).map(|method| (method, limit(method))).collect();
        // A new one is to be thought of.
        let expected = [
            ("AttachWorker", 1 << 20),
            ("AttachApplication", 256 << 10),
            ("HasComponent", 64 << 10),
            ("UploadComponent", (1 << 20) + 4096),
            ("FetchComponent", 64 << 10),
            ("SubmitDriver", 34 << 20),
            ("Kill", 64 << 10),
            ("Status", 64 << 10),
            ("Explain", 64 << 10),
            ("ListApplications", 64 << 10),
            ("ListWorkers", 64 << 10),
            ("Decommission", 64 << 10),
            ("ReadLogs", 64 << 10),
        ];
        assert_eq!(limits, expected);
    }

    #[test]
    fn what_is_said_rightly_has_room() {
        let app = "app-20260131235959-0001".to_owned();
        let executor = |executor| v1::RunningExecutor {
            executor: Some(v1::ExecutorName { application: app.clone(), executor }),
            room: Some(v1::Room { cores: 1, memory: 1 << 34 }),
        };
        let hello = v1::WorkerHello {
            executors: (0..4096).map(executor).collect(),
            applications: vec![app.clone(); 10_000],
            ..v1::WorkerHello::default()
        };
        assert!(hello.encoded_len() < WORKER / 2, "{}", hello.encoded_len());
        let exclude = v1::application_report::Exclude { workers: (0..20_000).collect() };
        assert!(exclude.encoded_len() < APPLICATION / 2, "{}", exclude.encoded_len());
        let chunk = v1::ComponentChunk { hash: vec![1; 32].into(), data: vec![0; PIECE].into() };
        assert!(chunk.encoded_len() <= limit("UploadComponent"));
        let submission = v1::SubmitDriverRequest {
            submission: vec![0; 32 << 20],
            secrets: Some(vec![0; 1 << 20]),
            name: "x".repeat(256),
            ..v1::SubmitDriverRequest::default()
        };
        assert!(submission.encoded_len() < SUBMISSION);
    }
}
