//! Peers that are none of ours, or none that mean well: other versions, garbage, floods, claims, and those that never read. They are refused
//! in words or outlived; jobs go on.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ingle_proto::v1;
use ingle_proto::v1::application_report::Report as AppReport;
use ingle_proto::v1::executor_report::Report as ExecutorReport;
use ingle_proto::v1::master_client::MasterClient;
use ingle_tests::peer::{
    Executor, FakeWorker, PROTOCOL, application, attach_application, attach_executor, connect,
    hello, report, runtime,
};
use ingle_tests::{Chance, Cluster, Place, Running, text, wait_until};
use rustix::process::Signal;
use tonic::{Code, Status};

/// What no daemon needs, whatever its peers do.
const MUCH: u64 = 400 << 20;

#[track_caller]
fn refused<T>(what: &str, answer: Result<T, Status>) {
    let status = answer.err().unwrap_or_else(|| panic!("{what} is welcome"));
    let text = status.message();
    assert_eq!(status.code(), Code::FailedPrecondition, "{what}: {text}");
    let versions = [PROTOCOL, PROTOCOL + 1].map(|version| format!("version {version}"));
    assert!(versions.iter().all(|version| text.contains(version)), "{what}: {text}");
}

#[test]
fn peers_of_another_version_are_refused_in_words() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 0, 1);
    let master = cluster.master_address();
    let job = cluster.rsubmit("noop").arg("1").spawn();
    runtime().block_on(async {
        let protocol = PROTOCOL + 1;
        refused(
            "a worker",
            FakeWorker::attach(master, v1::WorkerHello { protocol, ..hello() }).await,
        );
        let app = v1::ApplicationHello { protocol, ..application() };
        refused("a driver", attach_application(master, app).await);
        let mut client = MasterClient::new(connect(master).await);
        refused("a list", client.list_applications(v1::Client { protocol }).await);
        refused("a list", client.list_workers(v1::Client { protocol }).await);
        let id = || v1::IdRequest { client: Some(v1::Client { protocol }), id: "x".into() };
        refused("a question", client.status(id()).await);
        refused("a question", client.explain(id()).await);
        refused("a kill", client.kill(id()).await);
        refused("a wish", client.decommission(id()).await);
        let submission = v1::SubmitDriverRequest { protocol, ..Default::default() };
        refused("a submission", client.submit_driver(submission).await);

        let mut worker = FakeWorker::attach(master, hello()).await.expect("it is welcome");
        let launch = worker.launch().await;
        refused("an executor", attach_executor(&launch, &launch.secret, protocol).await);
        let stranger = attach_executor(&launch, &[1; 32], PROTOCOL).await;
        assert_eq!(stranger.err().map(|status| status.code()), Some(Code::Unauthenticated));
    });
    job.signal(Signal::INT);
    job.wait().ends_with(130);
    assert_eq!(cluster.panics(), [""; 0]);
}

/// What may come to a port from whoever finds it.
fn garbage() -> Vec<Vec<u8>> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut chance = Chance::seeded(3);
    let mut noise =
        |length: usize| -> Vec<u8> { (0..length).map(|_| chance.below(256) as u8).collect() };
    let framed = |frame: &[u8]| [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], frame].concat();
    vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        // As TLS begins.
        vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
        noise(1),
        noise(100_000),
        PREFACE[..10].to_vec(),
        [PREFACE, &noise(100_000)].concat(),
        // A frame that is longer than any may be, and one of headers that mean nothing.
        framed(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
        framed(&[&[0, 1, 0, 1, 4, 0, 0, 0, 1][..], &noise(256)].concat()),
        // Streams that are opened and reset, over and over.
        framed(
            &(0..5_000u32)
                .flat_map(|n| {
                    let id = (2 * n + 1).to_be_bytes();
                    let headers = [&[0, 0, 1, 1, 4][..], &id, &[0x82]].concat();
                    [headers, [&[0, 0, 4, 3, 0][..], &id, &[0, 0, 0, 8]].concat()].concat()
                })
                .collect::<Vec<_>>(),
        ),
    ]
}

/// Says it, and stays for a while.
fn say(address: &str, words: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    // It may hang up as soon as it likes, and most will.
    let _ = stream.write_all(words);
    stream
}

#[test]
fn garbage_at_any_port_harms_nobody() {
    let place = Place::new();
    let expected = text(&place, 4, 2000);
    let mut cluster = Cluster::new(&place, 1, 1);
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    // One job that runs on, and one whose driver waits for room and listens all the time.
    let busy =
        cluster.rsubmit("noop").flags(["--total-executor-cores", "1"]).arg("4000000").spawn();
    wait_until("an executor", || !cluster.children(0).is_empty());
    let port = free.port().to_string();
    let job = cluster.rsubmit("wordcount").conf("ingle.driver.port", &port);
    let job = job.args(["in", "out"]).spawn();
    job.wait_for("app-");
    let addresses =
        [cluster.master_address().to_owned(), cluster.worker_address(0), free.to_string()];
    let mut held = Vec::new();
    for address in &addresses {
        for words in garbage() {
            held.push(say(address, &words));
            // Some go at once, and some read what they are told.
            let mut gone = say(address, &words);
            let _ = gone.shutdown(std::net::Shutdown::Write);
            gone.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
            let _ = gone.read(&mut [0; 1024]);
        }
    }
    cluster.start_worker(1);
    job.wait().succeeds();
    assert_eq!(place.table("out"), expected);
    busy.signal(Signal::INT);
    busy.wait().ends_with(130).says_not(&["panicked"]);
    drop(held);
    cluster.rsubmit("noop").arg("10").run().succeeds();
    assert!(cluster.workers.iter().all(Running::runs));
    assert!(cluster.peaks().iter().all(|bytes| *bytes < MUCH), "{:?}", cluster.peaks());
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn thousands_of_idle_connections_leave_jobs_alone() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const EACH: usize = 2000;
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < 2 * EACH as u64 + 1000) {
        println!("SKIPPED: a process may have no more than {:?} open files here", limit.maximum);
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .expect("as many as may be");
    let place = Place::new();
    let expected = text(&place, 4, 2000);
    let cluster = Cluster::new(&place, 1, 1);
    let addresses = [cluster.master_address().to_owned(), cluster.worker_address(0)];
    let flood: Vec<TcpStream> =
        addresses.iter().flat_map(|address| (0..EACH).map(|_| say(address, b""))).collect();
    cluster.rsubmit("wordcount").args(["in", "out"]).run().succeeds();
    assert_eq!(place.table("out"), expected);
    assert!(cluster.peaks().iter().all(|bytes| *bytes < MUCH), "{:?}", cluster.peaks());
    println!("{:?}", cluster.peaks());
    drop(flood);
    cluster.rsubmit("wordcount").args(["in", "later"]).run().succeeds();
    assert_eq!(place.table("later"), expected);
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn workers_that_claim_the_absurd_are_refused_or_outlived() {
    let place = Place::new();
    let expected = text(&place, 4, 2000);
    let cluster = Cluster::new(&place, 1, 1);
    let master = cluster.master_address();
    let claims = [
        v1::WorkerHello { cores: u32::MAX, ..hello() },
        v1::WorkerHello { cores: 0, ..hello() },
        v1::WorkerHello { memory: u64::MAX, ..hello() },
        v1::WorkerHello { memory: 0, ..hello() },
        v1::WorkerHello { address: String::new(), ..hello() },
        v1::WorkerHello { address: "\u{1b}[2J".into(), ..hello() },
        v1::WorkerHello { address: "a".repeat(1 << 19), ..hello() },
        // Another one's.
        v1::WorkerHello { address: cluster.worker_address(0), ..hello() },
    ];
    let runtime = runtime();
    runtime.block_on(async {
        for claim in claims {
            let shown = format!("{claim:?}").chars().take(200).collect::<String>();
            let status = FakeWorker::attach(master, claim).await.err();
            let status = status.unwrap_or_else(|| panic!("{shown} is welcome"));
            println!("{shown}: {}", status.message());
            assert_eq!(status.code(), Code::FailedPrecondition, "{shown}: {status}");
        }
    });
    // As much as may be believed, of which it never starts anything.
    let most = v1::WorkerHello { cores: 4096, memory: 1 << 40, ..hello() };
    let fake = runtime.block_on(FakeWorker::attach(master, most)).expect("it is welcome");
    let run = cluster.rsubmit("wordcount").args(["in", "out"]).run().succeeds();
    println!("{run}");
    assert_eq!(place.table("out"), expected);
    drop(fake);
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn a_worker_that_is_refused_asks_ever_more_seldom() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 0, 1);
    let way = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ingle://{}", way.local_addr().expect("its address"));
    let work = place.path("refused");
    let args = ["worker", &url, "--port", "0", "--memory", "4g", "--cores", "100000", "--work-dir"];
    let args = args.into_iter().map(Into::into).chain([work.into()]);
    let worker = Running::ingle(&place, None, args);
    let mut asked = Vec::new();
    while asked.len() < 6 {
        let (worker, _) = way.accept().expect("a connection");
        asked.push(Instant::now());
        let master = TcpStream::connect(cluster.master_address()).expect("the master");
        let ends = [(&worker, &master), (&master, &worker)];
        for (from, to) in ends.map(|(a, b)| (a.try_clone(), b.try_clone())) {
            let (mut from, mut to) = (from.expect("a copy"), to.expect("a copy"));
            std::thread::spawn(move || {
                // Either may end it.
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    }
    // 100, 200, 400, 800 and 1600 ms, or a quarter less.
    let took = asked[5] - asked[0];
    assert!(took > Duration::from_millis(2300), "asked six times within {took:?}");
    worker.wait_for("100000 cores and 4.0 GiB are more than a worker can have");
    worker.end();
}

#[test]
fn an_application_that_floods_its_master_and_never_reads_costs_nobody_anything() {
    let place = Place::new();
    let expected = text(&place, 4, 2000);
    let cluster = Cluster::new(&place, 1, 1);
    let runtime = runtime();
    let _unread = runtime.block_on(async {
        let (send, commands) =
            attach_application(cluster.master_address(), application()).await.expect("welcome");
        for n in 0..400_000u32 {
            let wants = AppReport::Wants(n % 2 * (n + 2));
            let send = send.send(v1::ApplicationReport { report: Some(wants) });
            let sent = tokio::time::timeout(Duration::from_secs(1), send).await;
            // It says more than it may, and what is on its way to the master has a bound.
            if !matches!(sent, Ok(Ok(()))) {
                println!("after {n}: {sent:?}");
                break;
            }
        }
        commands
    });
    println!("{:?}", cluster.peaks());
    assert!(cluster.peaks()[0] < MUCH, "{:?}", cluster.peaks());
    cluster.rsubmit("wordcount").args(["in", "out"]).run().succeeds();
    assert_eq!(place.table("out"), expected);
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn an_executor_that_never_reads_nor_ends_its_tasks_costs_only_time() {
    let place = Place::new();
    let expected = text(&place, 4, 2000);
    let mut cluster = Cluster::new(&place, 0, 1);
    let job = cluster.rsubmit("wordcount").args(["in", "out"]).spawn();
    let runtime = runtime();
    let (executor, fake) = runtime.block_on(async {
        let mut fake =
            FakeWorker::attach(cluster.master_address(), hello()).await.expect("welcome");
        let launch = fake.launch().await;
        let executor = attach_executor(&launch, &launch.secret, PROTOCOL).await.expect("welcome");
        executor.0.send(report(ExecutorReport::Ready(v1::Ready {}))).await.expect("it hears");
        (executor, fake)
    });
    cluster.start_worker(1);
    wait_until("an executor beside it", || !cluster.children(0).is_empty());
    std::thread::sleep(Duration::from_millis(500));
    assert!(job.runs(), "the stranger has tasks that it doesn't do");
    drop((executor, fake));
    job.wait().succeeds();
    assert_eq!(place.table("out"), expected);
    assert_eq!(cluster.panics(), [""; 0]);
}

#[test]
fn whoever_reads_from_a_worker_that_is_lost_is_told_so() {
    let place = Place::new();
    let expected = text(&place, 4, 2000);
    let mut cluster = Cluster::new(&place, 0, 1);
    // Takes connections, and never says anything.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("its address").to_string();
    let job = cluster.rsubmit("wordcount").args(["in", "out"]).spawn();
    let runtime = runtime();
    let fake = runtime.block_on(async {
        let hello = v1::WorkerHello { address, cores: 2, ..hello() };
        let mut fake = FakeWorker::attach(cluster.master_address(), hello).await.expect("welcome");
        let launch = fake.launch().await;
        let executor = attach_executor(&launch, &launch.secret, PROTOCOL).await.expect("welcome");
        executor.0.send(report(ExecutorReport::Ready(v1::Ready {}))).await.expect("it hears");
        claim_to_shuffle(executor).await;
        fake
    });
    cluster.start_worker(1);
    // What was claimed to be there is looked for.
    let _looking = silent.accept().expect("a connection");
    // And its heart.
    drop((fake, runtime));
    job.wait().succeeds().says(&["worker-1 is lost"]);
    assert_eq!(place.table("out"), expected);
    let apps = cluster.ask(&["apps"]).succeeds().stdout;
    let id = apps.split_whitespace().find(|word| word.starts_with("app-")).expect("its name");
    cluster.ask(&["logs", id]).succeeds().says(&["can't be fetched: its worker is lost"]);
    assert_eq!(cluster.panics(), [""; 0]);
}

/// Says of each task that shuffles that it is done, though none is, and goes when there is one of another kind.
async fn claim_to_shuffle((reports, mut commands): Executor) {
    use v1::executor_command::Command;
    let mut shuffles = std::collections::BTreeSet::new();
    loop {
        let batch = commands.message().await.expect("sound").expect("more");
        for command in batch.commands.into_iter().filter_map(|command| command.command) {
            match command {
                Command::Describe(stage) => {
                    let output = stage.output.and_then(|output| output.output);
                    if let Some(v1::stage_output::Output::Shuffle(_)) = output {
                        shuffles.insert(stage.stage);
                    }
                }
                Command::Launch(launch) => {
                    for task in launch.tasks.into_iter().map(|launch| launch.task.expect("a name"))
                    {
                        if !shuffles.contains(&task.stage) {
                            return;
                        }
                        let outcome = v1::task_end::Outcome::Succeeded(v1::Succeeded {});
                        let ended = v1::TaskEnd {
                            task: Some(task),
                            outcome: Some(outcome),
                            ..v1::TaskEnd::default()
                        };
                        reports.send(report(ExecutorReport::Ended(ended))).await.expect("it hears");
                    }
                }
                _ => {}
            }
        }
    }
}

#[test]
fn streams_that_nobody_reads_do_not_fill_the_master() {
    let place = Place::new();
    let cluster = Cluster::new(&place, 1, 2);
    let hash = cluster.component();
    let runtime = runtime();
    let unread = runtime.block_on(async {
        let master = MasterClient::new(connect(cluster.master_address()).await);
        let mut streams = tokio::task::JoinSet::new();
        for _ in 0..2000 {
            let (mut master, hash) = (master.clone(), hash.clone());
            streams.spawn(async move { master.fetch_component(v1::ComponentName { hash }).await });
        }
        // Others wait for their turn.
        let mut unread = Vec::new();
        for _ in 0..20 {
            unread.push(
                streams.join_next().await.expect("one more").expect("it ran").expect("a stream"),
            );
        }
        (unread, streams)
    });
    assert!(cluster.peaks()[0] < MUCH, "{:?}", cluster.peaks());
    drop((unread, runtime));
    // It is there for others again.
    std::fs::remove_dir_all(place.kept("worker-0/components")).expect("what the worker keeps");
    cluster
        .rsubmit("pi")
        .flags(["--deploy-mode", "cluster", "--wait"])
        .args(["1000", "2"])
        .run()
        .succeeds();
}
