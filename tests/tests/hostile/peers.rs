//! Peers that know the protocol, and use it for what isn't theirs: with an application of their own, as a worker, as nobody.

use ingle_proto::v1;
use ingle_proto::v1::driver_client::DriverClient;
use ingle_proto::v1::master_client::MasterClient;
use ingle_proto::v1::worker_client::WorkerClient;
use ingle_proto::v1::worker_report::Report;
use ingle_tests::peer::{
    FakeWorker, PROTOCOL, application, attach_application, connect, connect_for, hello, runtime,
    with_secret,
};
use ingle_tests::wait_until;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::field::{Field, place};

/// For the book: what is done, what stops it, what it comes to, the test.
pub const BOOK: &[[&str; 4]] = &[
    [
        "an application fetches another's blocks, or reports for it, with its own secret, none, or a guessed one",
        "each application's secret, compared in constant time",
        "refused",
        "peers::an_application_gets_nothing_of_another",
    ],
    [
        "ids with `..`, slashes, or NUL, of blocks and, to a master, of logs; ranges, stages and lists that run over",
        "ids are checked before they are paths",
        "refused, or nothing is found",
        "peers::ids_are_no_paths",
    ],
    [
        "somebody attaches to a driver as its executor, asks it for its job, its grants, its memory",
        "the application's secret",
        "refused",
        "peers::a_driver_tells_strangers_nothing",
    ],
    [
        "an application says that it is another one that comes back",
        "the application's secret",
        "refused",
        "peers::nobody_becomes_another_application",
    ],
    [
        "a worker says of executors and drivers that aren't its own that they ended",
        "the master knows which worker has what",
        "not believed",
        "peers::a_worker_speaks_for_itself_alone",
    ],
    [
        "a driver on a worker says over its connection with the master that it is a worker, ends others' jobs, submits, reads logs, attaches for another",
        "its worker made that connection, and said first whose it is",
        "refused: it attaches its own application, and nothing else",
        "peers::a_connection_that_was_handed_over_is_for_its_own_application_alone",
    ],
    [
        "somebody who reaches a worker reads its logs, without a secret or with one's own application's",
        "a secret that each worker tells its master",
        "refused: logs are read through the master",
        "peers::logs_are_told_to_the_master_alone",
    ],
];

/// What the attacker proves itself with.
const OWN: [u8; 32] = [1; 32];

#[track_caller]
fn refused<T>(what: &str, answer: Result<T, Status>, codes: &[Code]) {
    let status = answer.err().unwrap_or_else(|| panic!("{what} is answered"));
    assert!(codes.contains(&status.code()), "{what}: {status}");
}

/// What a master answers who attaches a driver's application.
async fn attaches(master: &mut MasterClient<Channel>, driver: &str) -> Result<(), Status> {
    let hello = v1::ApplicationHello { driver: driver.to_owned(), ..application() };
    let report = v1::application_report::Report::Hello(hello);
    let report = v1::ApplicationReport { report: Some(report) };
    master.attach_application(tokio_stream::iter([report])).await.map(drop)
}

/// The neighbour's application, which runs.
fn neighbour(field: &Field<'_>) -> String {
    let apps = field.cluster.ask(&["apps"]).succeeds().stdout;
    let evil = apps.lines().find(|line| line.contains("evil")).expect("it runs");
    evil.split_whitespace().next().expect("its name").to_owned()
}

/// Where it is driven from.
pub fn driver_of(field: &Field<'_>) -> String {
    let pid = field.neighbour_pid();
    let listening = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("a table");
    let own: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("its descriptors")
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    // State 0A is LISTEN; the tenth column is the inode.
    let line = listening.lines().find(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        columns.get(3) == Some(&"0A") && columns.get(9).is_some_and(|i| own.iter().any(|o| o == i))
    });
    let port = line.and_then(|line| line.split_whitespace().nth(1)?.split_once(':')?.1.into());
    let port = u16::from_str_radix(port.expect("it listens"), 16).expect("a port");
    format!("127.0.0.1:{port}")
}

fn blocks(application: &str) -> v1::FetchBlocksRequest {
    v1::FetchBlocksRequest {
        application: application.into(),
        stage: 0,
        partition: 0,
        map: vec![0, 1, 2, 3],
        attempt: vec![0; 4],
        partitions: 4,
        bytes: 1 << 20,
        ..v1::FetchBlocksRequest::default()
    }
}

/// An application of the attacker's own, known to the worker as long as what is given back lives.
async fn own_application(field: &Field<'_>) -> (impl Sized + use<>, String) {
    let hello = v1::ApplicationHello {
        secret: OWN.to_vec(),
        total_executor_cores: Some(1),
        ..application()
    };
    let hello = v1::ApplicationHello { executor_memory: 64 << 20, dynamic: false, ..hello };
    let (send, mut commands) =
        attach_application(field.cluster.master_address(), hello).await.expect("welcome");
    let command = commands.message().await.expect("sound").expect("a welcome");
    let Some(v1::application_command::Command::Welcome(id)) = command.command else {
        panic!("no welcome: {command:?}");
    };
    ((send, commands), id)
}

/// Waits until a worker knows the attacker's own application: once its executor starts.
async fn known(worker: &mut WorkerClient<Channel>, own: &str) {
    for _ in 0..3000 {
        if worker.fetch_blocks(with_secret(blocks(own), &OWN)).await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the worker doesn't know the attacker's own application");
}

#[test]
fn an_application_gets_nothing_of_another() {
    let place = place();
    let field = Field::new(&place);
    let other = neighbour(&field);
    runtime().block_on(async {
        let (_life, own) = own_application(&field).await;
        let mut worker = WorkerClient::new(connect(&field.cluster.worker_address(0)).await);
        known(&mut worker, &own).await;
        let secrets: [&[u8]; 5] = [&OWN, &[], &[0; 32], &[1; 31], &[1; 1000]];
        for secret in secrets {
            let who = format!("secret {secret:?}");
            let strangers = [Code::Unauthenticated];
            let fetched = worker.fetch_blocks(with_secret(blocks(&other), secret)).await;
            refused(&format!("blocks with {who}"), fetched, &strangers);
            let used = v1::ReportUseRequest { application: other.clone(), ..Default::default() };
            let reported = worker.report_use(with_secret(used, secret)).await;
            refused(&format!("a report with {who}"), reported, &strangers);
        }
        refused(
            "blocks without",
            worker.fetch_blocks(blocks(&other)).await,
            &[Code::Unauthenticated],
        );
    });
    field.unharmed("an application that reaches for another's");
    field.end();
}

#[test]
fn ids_are_no_paths() {
    let place = place();
    let field = Field::new(&place);
    let other = neighbour(&field);
    runtime().block_on(async {
        let (_life, own) = own_application(&field).await;
        let mut worker = WorkerClient::new(connect(&field.cluster.worker_address(0)).await);
        let mut master = MasterClient::new(connect(field.cluster.master_address()).await);
        let long = "x".repeat(1 << 20);
        for id in [
            "../apps",
            "..",
            "/etc",
            "a/../../b",
            "\0",
            "",
            &format!("../apps/{other}"),
            &format!("{own}/../{other}"),
            &long,
        ] {
            let shown: String = id.chars().take(40).collect();
            let fetched = worker.fetch_blocks(with_secret(blocks(id), &OWN)).await;
            refused(
                &format!("blocks of {shown:?}"),
                fetched,
                &[Code::Unauthenticated, Code::NotFound, Code::OutOfRange],
            );
            let log = || v1::ReadLogRequest { id: id.into(), follow: false, last: 0 };
            refused(
                &format!("the log of {shown:?}"),
                worker.read_log(log()).await,
                &[Code::Unauthenticated, Code::OutOfRange],
            );
            if let Ok(answer) = master.read_logs(log()).await {
                let mut parts = answer.into_inner();
                let first = parts.message().await;
                assert!(!matches!(first, Ok(Some(_))), "the log of {shown:?} is told");
            }
        }
        // Its own, which are known once its executor starts.
        known(&mut worker, &own).await;
        let missing = [
            v1::FetchBlocksRequest { stage: u32::MAX, ..blocks(&own) },
            v1::FetchBlocksRequest { partition: u32::MAX, partitions: u32::MAX, ..blocks(&own) },
            // The neighbour's, by its own name.
            v1::FetchBlocksRequest { map: vec![0], attempt: vec![0], ..blocks(&own) },
        ];
        for request in missing {
            let answer = worker.fetch_blocks(with_secret(request.clone(), &OWN)).await;
            let mut parts = answer.expect("it may ask").into_inner();
            let mut came = Vec::new();
            while let Some(part) = parts.message().await.expect("sound") {
                came.push((part.missing, part.data.is_empty()));
            }
            assert_eq!(came, [(true, true)], "there is no such block: {request:?}");
        }
        let many = vec![0; 1_000_000];
        let refusals = [
            (
                v1::FetchBlocksRequest { map: many.clone(), attempt: many, ..blocks(&own) },
                Code::OutOfRange,
            ),
            (v1::FetchBlocksRequest { map: vec![0; 3], ..blocks(&own) }, Code::InvalidArgument),
        ];
        for (request, code) in refusals {
            let answer = worker.fetch_blocks(with_secret(request, &OWN)).await;
            refused("a list that runs over", answer, &[code]);
        }
    });
    field.unharmed("ids that are paths");
    field.end();
}

#[test]
fn a_driver_tells_strangers_nothing() {
    let place = place();
    let field = Field::new(&place);
    let address = driver_of(&field);
    runtime().block_on(async {
        let mut driver = DriverClient::new(connect(&address).await);
        let strangers = [Code::Unauthenticated];
        for secret in [&OWN[..], &[], &[0; 32], &[1; 33]] {
            let access = v1::GetAccessRequest { protocol: PROTOCOL, executor: 0 };
            refused("its grants", driver.get_access(with_secret(access, secret)).await, &strangers);
            let job = v1::FetchComponentRequest {};
            refused("its job", driver.fetch_component(with_secret(job, secret)).await, &strangers);
            let pieces = v1::FetchPiecesRequest { image: 0, pieces: vec![0] };
            refused(
                "its memory",
                driver.fetch_pieces(with_secret(pieces, secret)).await,
                &strangers,
            );
            let reports = tokio_stream::iter([v1::ExecutorReports::default()]);
            refused("its tasks", driver.attach(with_secret(reports, secret)).await, &strangers);
        }
        let access = v1::GetAccessRequest { protocol: PROTOCOL, executor: 0 };
        refused("its grants", driver.get_access(Request::new(access)).await, &strangers);
    });
    field.unharmed("strangers at its driver's door");
    field.end();
}

#[test]
fn nobody_becomes_another_application() {
    let place = place();
    let field = Field::new(&place);
    let other = neighbour(&field);
    runtime().block_on(async {
        for secret in [&OWN[..], &[0; 32], &[]] {
            let hello = v1::ApplicationHello {
                id: other.clone(),
                secret: secret.to_vec(),
                ..application()
            };
            let answer = attach_application(field.cluster.master_address(), hello).await;
            if let Ok((_life, mut commands)) = answer {
                let first = commands.message().await;
                let welcome = matches!(
                    &first,
                    Ok(Some(v1::ApplicationCommand {
                        command: Some(v1::application_command::Command::Welcome(_)),
                    }))
                );
                assert!(!welcome, "it became {other}: {first:?}");
            }
        }
    });
    field.unharmed("an application that says it is another");
    field.end();
}

#[test]
fn a_connection_that_was_handed_over_is_for_its_own_application_alone() {
    let place = place();
    let field = Field::new(&place);
    let other = neighbour(&field);
    let driver = "driver-20260131235959-0001";
    let denied = [Code::PermissionDenied];
    runtime().block_on(async {
        for id in [driver, &other] {
            let channel = connect_for(field.cluster.master_address(), id).await;
            let mut master = MasterClient::new(channel);
            let hello = v1::WorkerReport { report: Some(Report::Hello(hello())) };
            let hello = tokio_stream::iter([hello]);
            refused("a worker", master.attach_worker(hello).await, &denied);
            let named = || v1::IdRequest {
                client: Some(v1::Client { protocol: PROTOCOL }),
                id: other.clone(),
            };
            refused("a kill", master.kill(named()).await, &denied);
            refused("a question", master.status(named()).await, &denied);
            refused("an end", master.decommission(named()).await, &denied);
            let log = v1::ReadLogRequest { id: other.clone(), follow: false, last: 0 };
            refused("a log", master.read_logs(log).await, &denied);
            let submitted = v1::SubmitDriverRequest { protocol: PROTOCOL, ..Default::default() };
            refused("a driver", master.submit_driver(submitted).await, &denied);
            let job = tokio_stream::iter([v1::ComponentChunk::default()]);
            refused("a job", master.upload_component(job).await, &denied);
            for driver in ["driver-20260131235959-0002", ""] {
                let answer = attaches(&mut master, driver).await;
                refused("another's application", answer, &denied);
            }
        }
        // What is its own is heard, if only to say that there is no such driver.
        let mut master =
            MasterClient::new(connect_for(field.cluster.master_address(), driver).await);
        let answer = attaches(&mut master, driver).await;
        refused("a driver that isn't there", answer, &[Code::FailedPrecondition]);
    });
    field.unharmed("a driver that asks its master for what isn't its own");
    field.end();
}

#[test]
fn logs_are_told_to_the_master_alone() {
    let place = place();
    let field = Field::new(&place);
    let other = neighbour(&field);
    runtime().block_on(async {
        let (_life, own) = own_application(&field).await;
        let mut worker = WorkerClient::new(connect(&field.cluster.worker_address(0)).await);
        for id in [&other, &own] {
            let log = || v1::ReadLogRequest { id: id.clone(), follow: false, last: 0 };
            let strangers = [Code::Unauthenticated];
            refused("its log", worker.read_log(log()).await, &strangers);
            for secret in [&OWN[..], &[], &[0; 32], &[1; 33]] {
                let answer = worker.read_log(with_secret(log(), secret)).await;
                refused(&format!("its log with {secret:?}"), answer, &strangers);
            }
        }
    });
    let read = field.cluster.ask(&["logs", &other]).succeeds();
    assert!(!read.stderr.contains("can't be read"), "{}", read.stderr);
    field.unharmed("somebody who reads others' logs");
    field.end();
}

#[test]
fn a_worker_speaks_for_itself_alone() {
    let place = place();
    let field = Field::new(&place);
    let cluster = &field.cluster;
    let other = neighbour(&field);
    let job = field.attacker("hostile").flag("--deploy-mode=cluster");
    let job = job.args(["endless", "driver", "silent"]).run().succeeds();
    let driver = job.stdout.trim().to_owned();
    wait_until("the driver to run", || cluster.ask(&["logs", &driver]).stderr.contains("started"));
    let process = cluster.processes_that_are("driver");
    let executor = v1::ExecutorName { application: other.clone(), executor: 0 };
    let driver_try = v1::DriverTry { driver: driver.clone(), attempt: 0 };
    runtime().block_on(async {
        let fake = FakeWorker::attach(cluster.master_address(), hello()).await;
        let fake = fake.expect("it is welcome");
        for refused in [false, true] {
            let reason = "it says so".to_owned();
            let ended = v1::ExecutorEnded {
                executor: Some(executor.clone()),
                reason,
                refused,
                ..Default::default()
            };
            fake.say(Report::ExecutorEnded(ended)).await;
            for finished in [false, true] {
                let ended = v1::DriverEnded {
                    driver: Some(driver_try.clone()),
                    reason: "it says so".to_owned(),
                    finished,
                    refused,
                    ..Default::default()
                };
                fake.say(Report::DriverEnded(ended)).await;
            }
        }
        // What is said later is heard later.
        fake.say(Report::Draining(v1::Draining {})).await;
        wait_until("the master to have heard all that", || {
            cluster.ask(&["workers"]).stdout.contains("DECOMMISSIONING")
        });
        drop(fake);
        // One that comes again with what it never had.
        let room = Some(v1::Room { cores: 1, memory: 64 << 20 });
        let claims = v1::WorkerHello {
            executors: vec![v1::RunningExecutor { executor: Some(executor), room }],
            drivers: vec![v1::RunningDriver { driver: Some(driver_try), room }],
            instance: 8,
            address: "127.0.0.1:2".into(),
            ..hello()
        };
        let fake = FakeWorker::attach(cluster.master_address(), claims).await;
        drop(fake.expect("its hello was heard"));
    });
    assert_eq!(neighbour(&field), other);
    let told = cluster.ask(&["explain", &driver]).succeeds().stdout;
    assert!(told.contains("RUNNING"), "{told}");
    assert_eq!((process.len(), cluster.processes_that_are("driver")), (1, process));
    assert!(!cluster.master_said().contains("makes no sense"), "{}", cluster.master_said());
    field.attacker("hostile").flags(["--kill", &driver]).run().succeeds();
    field.unharmed("a worker that speaks for another");
    field.end();
}
