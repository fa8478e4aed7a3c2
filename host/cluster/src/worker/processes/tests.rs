use ingle_core::size::ByteSize;

use super::*;
use crate::web::PagePort;
use crate::worker::{CompileLimits, ExecutorUids};

/// Of a worker that gives its processes one user.
fn processes(place: &Path) -> (Arc<Processes>, mpsc::UnboundedReceiver<Ended>) {
    let options = WorkerOptions {
        master: "127.0.0.1:1".into(),
        host: "127.0.0.1".into(),
        port: 0,
        page: PagePort::Off,
        cores: 1,
        memory: ByteSize(1 << 30),
        work_dir: place.to_owned(),
        program: "false".into(),
        required_walls: Vec::new(),
        log_size: None,
        compile: CompileLimits::default(),
        disk: None,
        disk_rate: None,
        offer: Offer::default(),
        executor_uids: ExecutorUids::None,
        drain: Duration::ZERO,
    };
    let folders = Arc::new(Folders::open(place).unwrap());
    let walls = Arc::new(Walls::none());
    let (components, code) = (folders.components(), folders.code());
    let program = &options.program;
    let compiler =
        Compiler::new(program, options.compile, components, &code, walls.clone(), None).unwrap();
    let (events, ended) = mpsc::unbounded_channel();
    let address = "127.0.0.1:2".to_owned();
    let users = Some("10-12".parse().unwrap());
    let processes = Processes::new(&options, users, walls, compiler, address, folders, events);
    (Arc::new(processes), ended)
}

const ROOM: v1::Room = v1::Room { cores: 1, memory: 1 << 20 };

fn driver(attempt: u32) -> Name {
    Name::Driver { driver: "driver-1".into(), attempt }
}

/// Waits until the user of that driver is free for another one.
async fn is_freed(processes: &Processes) {
    let users = processes.users.as_ref().unwrap();
    while users.of("driver-2", "driver-2").is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    users.free("driver-2");
}

#[tokio::test]
async fn a_user_is_taken_until_nothing_of_whom_it_was_is_left() {
    let place = tempfile::tempdir().unwrap();
    let (processes, _ended) = processes(place.path());
    let users = processes.users.as_ref().unwrap();
    users.of("driver-1", "driver-1").unwrap();
    // A folder that is none, which can't be removed.
    let file = place.path().join("file");
    std::fs::write(&file, "").unwrap();
    let left = file.join("below");
    let first = processes.remove("driver-1".into(), move |folders| folders.remove_again(left));
    let second = processes.remove("driver-1".into(), |_| None);
    second.await;
    assert!(users.of("driver-2", "driver-2").is_err());
    // It tries again, in a while.
    let tried = tokio::time::timeout(Duration::from_millis(300), first).await;
    assert!(tried.is_err() && users.of("driver-2", "driver-2").is_err());
    // Of whom nothing is left, it is.
    *processes.leaving.lock() = BTreeMap::new();
    processes.remove("driver-1".into(), |_| None).await;
    is_freed(&processes).await;
}

#[tokio::test]
async fn a_try_of_a_driver_that_begins_as_another_ends_has_its_user_and_its_job() {
    let place = tempfile::tempdir().unwrap();
    let (processes, mut ended) = processes(place.path());
    let users = processes.users.as_ref().unwrap();
    let job = ingle_sandbox::ComponentHash::of(b"job");
    let prepared = std::future::pending::<()>;
    let take = || {
        users.of("driver-1", "driver-1")?;
        processes.compiler.claim("driver-1", job)
    };
    let config = || {
        // It counts already.
        assert!(processes.runs_any_of("driver-1"));
        take()?;
        Err("it doesn't begin".to_owned().into())
    };
    processes.start(driver(0), "driver", ROOM, prepared(), config);
    // The first one ends while the second one takes what it needs.
    processes.start(driver(1), "driver", ROOM, prepared(), || {
        assert!(processes.kill(&driver(0)));
        take()?;
        Err("it doesn't begin".to_owned().into())
    });
    assert_eq!(ended.recv().await.unwrap().name, driver(0));
    while !processes.leaving.lock().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(users.of("driver-2", "driver-2").is_err());
    let other = ingle_sandbox::ComponentHash::of(b"other");
    assert!(processes.compiler.claim("driver-1", other).is_err(), "it has its job");
    processes.kill(&driver(1));
    assert_eq!(ended.recv().await.unwrap().name, driver(1));
    is_freed(&processes).await;
    processes.compiler.claim("driver-1", other).unwrap();
}
