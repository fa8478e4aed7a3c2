//! What peers say before they proved anything, or after, and what it costs who hears it: little, however much it would be as what it means.

use std::time::Duration;

use ingle_proto::prost::Message;
use ingle_proto::v1;
use ingle_proto::v1::executor_report::Report as ExecutorReport;
use ingle_proto::v1::master_client::MasterClient;
use ingle_proto::v1::worker_server::{Worker, WorkerServer};
use ingle_tests::peer::{
    FakeWorker, PROTOCOL, application, attach_application, attach_executor, call, connect, hello,
    in_time, report, say_half,
};
use ingle_tests::{Cluster, Place, peak, text, wait_until};
use tonic::{Code, Request, Response, Status, Streaming};

/// What no daemon needs for anything that is tried here.
const MUCH: u64 = 200 << 20;
/// Of a driver in `rsubmit`, which has a job, beside what it had before.
const MORE: u64 = 150 << 20;

#[track_caller]
fn is_small(cluster: &Cluster<'_>) {
    let peaks = cluster.peaks();
    println!("{peaks:?}");
    assert!(peaks.iter().all(|peak| *peak < MUCH), "{peaks:?}");
}

#[test]
fn hellos_of_nothing_over_and_over_cost_a_master_little() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 0, 1);
    in_time(async {
        // Executors without a name: two bytes each, and 28 times that as what they mean.
        for (executors, code) in [(520_000, Code::InvalidArgument), (20_000_000, Code::OutOfRange)]
        {
            let version = [8, u8::try_from(PROTOCOL).expect("it is small")];
            let hello = [&version[..], &[0x32, 0].repeat(executors)].concat();
            let hello = v1::Chunk { data: hello.into() };
            let channel = connect(cluster.master_address()).await;
            let method = "/ingle.v1.Master/AttachWorker";
            let refused = call(channel, method, Request::new(hello)).await.err();
            assert_eq!(refused.map(|status| status.code()), Some(code), "{executors} executors");
        }
    });
    is_small(&cluster);
}

#[test]
fn messages_that_are_announced_and_never_whole_cost_a_master_little() {
    const ANNOUNCED: u32 = 64 << 20;
    let place = Place::new();
    let cluster = Cluster::new(&place, 0, 1);
    in_time(async {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let channel = connect(cluster.master_address()).await;
            for at in 0..64 {
                let methods = [
                    "/ingle.v1.Master/AttachWorker",
                    "/ingle.v1.Master/AttachApplication",
                    "/ingle.v1.Master/SubmitDriver",
                    "/ingle.v1.Master/Kill",
                ];
                let said = ANNOUNCED as usize - 1;
                calls.spawn(say_half(channel.clone(), methods[at % 4], ANNOUNCED, said));
            }
        }
        while let Some(answer) = calls.join_next().await {
            // Or it hung up before it heard all of that.
            let code = answer.expect("it ran").unwrap_or(Code::OutOfRange);
            assert!([Code::OutOfRange, Code::ResourceExhausted].contains(&code), "{code}");
        }
    });
    is_small(&cluster);
    // It listens to others.
    cluster.ask(&["workers"]).succeeds();
}

#[test]
fn strangers_cost_a_driver_little_whatever_they_say() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 0, 1);
    let job = cluster.rsubmit("noop").arg("1").spawn();
    in_time(async {
        let mut fake =
            FakeWorker::attach(cluster.master_address(), hello()).await.expect("welcome");
        let launch = fake.launch().await;
        let before = peak(job.pid());
        for _ in 0..4 {
            // Pieces of a memory image: a byte each, and four as what it means.
            let pieces = v1::LogLines { text: vec![1; 60 << 20], ..v1::LogLines::default() };
            let method = "/ingle.v1.Driver/FetchPieces";
            let channel = connect(&launch.driver_address).await;
            let refused = call(channel, method, Request::new(pieces)).await.err();
            // Or it hung up before it heard all of that.
            let code = refused.expect("no secret was given").code();
            assert!([Code::Unauthenticated, Code::Unknown, Code::Unavailable].contains(&code));
        }
        let after = peak(job.pid());
        println!("{before}, then {after}");
        assert!(after < before + (32 << 20), "{before}, then {after}");
    });
    job.end();
}

#[test]
fn an_executor_that_reports_nothing_over_and_over_is_given_up() {
    let place = Place::new();
    let expected = text(&place, 4, 2000);
    let mut cluster = Cluster::new(&place, 0, 1);
    let job = cluster.rsubmit("wordcount").flags(["--executor-cores", "1"]);
    let job = job.args(["in", "out"]).spawn();
    in_time(async {
        let two = v1::WorkerHello { cores: 2, ..hello() };
        let mut fake = FakeWorker::attach(cluster.master_address(), two).await.expect("welcome");
        // Changes to accumulators in one report, two bytes each; and reports, one byte each.
        let mut ended = vec![0x1a];
        ingle_proto::prost::encode_length_delimiter(40_000_000, &mut ended).expect("room");
        ended.extend([0x42, 0].repeat(20_000_000));
        let floods = [ended.encode_length_delimited_to_vec(), vec![0; 40_000_000]];
        for flood in floods {
            let launch = fake.launch().await;
            let before = peak(job.pid());
            let executor = attach_executor(&launch, &launch.secret, PROTOCOL).await;
            let (send, mut commands) = executor.expect("welcome");
            send.send(report(ExecutorReport::Ready(v1::Ready {}))).await.expect("it hears");
            let reports = v1::ExecutorReports { reports: flood.into(), used: None };
            send.send(reports).await.expect("it hears");
            while let Ok(Some(_)) = commands.message().await {}
            let after = peak(job.pid());
            println!("{before}, then {after}");
            assert!(after < before + MORE, "{before}, then {after}");
        }
    });
    cluster.start_worker(1);
    job.wait().succeeds();
    assert_eq!(place.table("out"), expected);
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_submission_is_read_by_its_driver_alone() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    let submission = v1::SubmitDriverRequest {
        protocol: PROTOCOL,
        name: "many settings".into(),
        cores: 1,
        memory: 64 << 20,
        component: cluster.component(),
        // Settings without a name: two bytes each, and 24 times that as what they mean.
        submission: [0x1a, 0].repeat(16 << 20),
        ..v1::SubmitDriverRequest::default()
    };
    let driver = in_time(async {
        let channel = connect(cluster.master_address()).await;
        let mut master = MasterClient::new(channel);
        master.submit_driver(submission).await.expect("it may be").into_inner().driver
    });
    wait_until("its end", || {
        let told = cluster.ask(&["explain", &driver]).stdout;
        ["FAILED", "FINISHED"].iter().any(|word| told.contains(word))
    });
    println!("{}", cluster.ask(&["explain", &driver]).stdout);
    // The master stores it.
    let worker = cluster.peaks()[1];
    assert!(worker < MUCH, "{worker}");
}

/// A worker that answers pings, and never a question.
struct Dumb;

type Never<T> = tokio_stream::Pending<Result<T, Status>>;

#[tonic::async_trait]
impl Worker for Dumb {
    type FetchBlocksStream = Never<v1::BlockPart>;
    type ReadLogStream = Never<v1::LogPart>;

    async fn fetch_blocks(
        &self,
        _: Request<v1::FetchBlocksRequest>,
    ) -> Result<Response<Self::FetchBlocksStream>, Status> {
        std::future::pending().await
    }

    async fn report_use(
        &self,
        _: Request<v1::ReportUseRequest>,
    ) -> Result<Response<v1::ReportUseReply>, Status> {
        std::future::pending().await
    }

    async fn read_log(
        &self,
        _: Request<v1::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        std::future::pending().await
    }
}

#[test]
fn a_worker_that_never_answers_keeps_nobody_from_reading_logs() {
    /// As many as are read at the same time.
    const READERS: usize = 64;
    let place = Place::new();
    let cluster = Cluster::new(&place, 0, 1);
    in_time(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let listening = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(WorkerServer::new(Dumb));
        tokio::spawn(server.serve_with_incoming(listening));
        let dumb = v1::WorkerHello { address, log_secret: vec![5; 32], ..hello() };
        let mut fake = FakeWorker::attach(cluster.master_address(), dumb).await.expect("welcome");
        let own = v1::ApplicationHello { num_executors: Some(1), ..application() };
        let own = v1::ApplicationHello { executor_cores: Some(1), dynamic: false, ..own };
        let _own = attach_application(cluster.master_address(), own).await.expect("welcome");
        let id = fake.launch().await.executor.expect("a name").application;
        let mut master = MasterClient::new(connect(cluster.master_address()).await);
        let mut reads = Vec::new();
        for _ in 0..READERS {
            let read = v1::ReadLogRequest { id: id.clone(), follow: true, last: 0 };
            reads.push(master.read_logs(read).await.expect("there is room for it"));
        }
        // They give it up, one and all.
        drop(reads);
        let read = v1::ReadLogRequest { id, follow: true, last: 0 };
        let mut parts: Streaming<v1::LogPart> = loop {
            match master.read_logs(read.clone()).await {
                Ok(parts) => break parts.into_inner(),
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        // Who waits for it is told.
        let told = parts.message().await.expect("sound").expect("a word").data;
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(told.contains("can't be read: it doesn't answer"), "{told}");
    });
}
