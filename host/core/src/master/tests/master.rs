//! Leases, restarts, and what people are told.

use super::super::*;
use super::env::*;

#[test]
fn a_master_that_slept_gives_nobody_up() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 1, 8);
    let (app, connection) = env.app(spec());
    env.tell(Event::ConnectionLost { connection });
    env.now += Duration::from_secs(3600);
    env.tell(Event::Tick);
    assert_eq!(env.master.workers().count(), 1);
    assert_eq!(env.master.app(app).unwrap().state, AppState::Waiting);
    env.pass_with(worker, 20);
    assert_eq!(env.master.workers().count(), 1);
    assert_eq!(env.master.app(app).unwrap().state, AppState::Killed, "leases go on after it");
}

#[test]
fn names_that_could_steer_a_terminal_are_refused() {
    let mut env = Env::new();
    let connection = env.connection();
    let bad = AppSpec { name: "\u{1b}[2J".into(), ..spec() };
    env.tell(Event::AppHello { connection, id: None, spec: bad, wall: 0 });
    assert!(env.refusal().contains("control characters"));
    let bad = DriverSpec { name: "a\nb".into(), ..driver_spec(1, false) };
    env.tell(Event::SubmitDriver { request: RequestId(1), spec: bad, wall: 0 });
    assert!(env.refusal().contains("control characters"));
    let hello = WorkerHello { address: "a\u{7}:1".into(), ..env.hello("a", 1, 1) };
    env.tell(Event::WorkerHello { connection, hello });
    assert!(env.refusal().contains("HOST:PORT"));
}

#[test]
fn a_connection_counts_until_its_peer_has_another() {
    let mut env = Env::new();
    let (_, old) = env.worker("a", 1, 8);
    assert!(env.master.holds(old));
    let hello = env.hello("a", 1, 8);
    let (_, new) = env.worker_says(hello);
    assert!(!env.master.holds(old) && env.master.holds(new));
}

#[test]
fn leases_end_however_much_happens() {
    let mut env = Env::new();
    let (worker, connection) = env.worker("a", 1, 8);
    env.tell(Event::ConnectionLost { connection });
    for second in 1..20 {
        // The shell asks for the deadline after each event, and sleeps until then if no other comes.
        if let Some(at) = env.master.next_deadline().filter(|at| at.as_secs() < second) {
            env.now = at;
            env.tell(Event::Tick);
        }
        env.now = Duration::from_secs(second);
        env.tell(Event::Decommission { request: RequestId(second), worker: WorkerId(9) });
    }
    assert_eq!(env.master.workers().find(|status| status.id == worker), None);
}

#[test]
fn a_master_that_starts_again_goes_on_where_it_was() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 3, 8);
    let (app, _) = env.app(AppSpec { num_executors: Some(2), ..spec() });
    env.tell(Event::SubmitDriver { request: RequestId(1), spec: driver_spec(1, false), wall: 7 });
    let driver = DriverId::new(7, 2);
    env.restart();
    assert_eq!(env.master.app(app).unwrap().executors.len(), 2);
    assert_eq!(env.master.driver(driver).unwrap().worker, Some(worker));
    env.app(spec());
    assert!(env.launched().is_empty(), "nothing is granted on a worker that isn't back");
    let mut hello = env.hello("a", 3, 8);
    hello.executors = vec![((app, ExecutorId(0)), room(1)), ((app, ExecutorId(1)), room(1))];
    hello.drivers = vec![((driver, 0), room(1))];
    let (again, _) = env.worker_says(hello);
    assert_eq!(again, worker);
    assert!(env.orders().iter().all(|o| matches!(o, WorkerOrder::Welcome(_))), "all is as it was");
    let back = env.connection();
    env.tell(Event::AppHello { connection: back, id: Some(app), spec: spec(), wall: 0 });
    let (_, other) = env.worker("b", 1, 8);
    env.tell(Event::AppEnded { app, failure: None });
    env.restart();
    assert_eq!(env.master.app(app).unwrap().state, AppState::Finished, "history survives, too");
    env.tell(Event::ConnectionLost { connection: other });
}

#[test]
fn where_a_workers_page_is_reaches_people_only_if_it_is_a_place() {
    let mut env = Env::new();
    let (worker, connection) = env.worker("a", 1, 1);
    assert_eq!(env.master.worker(worker).unwrap().page, "a:2");
    for page in ["a:2/evil", "u@a:2", "a:2\n", "a\u{202e}:2", &"a".repeat(1000)] {
        env.tell(Event::ConnectionLost { connection });
        env.worker_says(WorkerHello { page: page.to_owned(), ..env.hello("a", 1, 1) });
        assert_eq!(env.master.worker(worker).unwrap().page, "", "{page}");
    }
}

#[test]
fn what_ended_says_when_also_after_a_restart() {
    let mut env = Env::new();
    let (_, _) = env.worker("a", 2, 8);
    let (app, _) = env.app(spec());
    assert_eq!(env.master.executors(app).count(), 2);
    env.tell(Event::SubmitDriver { request: RequestId(1), spec: driver_spec(1, false), wall: 7 });
    let driver = DriverId::new(7, 2);
    assert_eq!(env.master.app(app).unwrap().ended, None);
    env.master.set_wall(100);
    env.tell(Event::AppEnded { app, failure: None });
    env.master.set_wall(101);
    env.tell(Event::Kill { request: RequestId(2), target: Target::Driver(driver) });
    env.master.set_wall(500);
    env.restart();
    assert_eq!(env.master.app(app).unwrap().ended, Some(100));
    assert_eq!(env.master.driver(driver).unwrap().ended, Some(101));
    assert_eq!((env.master.live_apps().len(), env.master.ended_apps().len()), (0, 1));
    assert_eq!((env.master.live_drivers().len(), env.master.ended_drivers().len()), (0, 1));
}

#[test]
fn what_runs_on_a_worker_is_told_with_what_it_takes() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 3, 8);
    env.tell(Event::SubmitDriver { request: RequestId(1), spec: driver_spec(1, false), wall: 7 });
    let (app, _) = env.app(AppSpec { executor_cores: None, ..spec() });
    let (executors, drivers) = env.master.runs_on(worker);
    let executors: Vec<_> = executors.collect();
    assert_eq!(
        executors,
        [((app, ExecutorId(0)), Room { cores: 2, memory: spec().executor_memory })]
    );
    let room = Room { cores: 1, memory: driver_spec(1, false).memory };
    assert_eq!(drivers.collect::<Vec<_>>(), [((DriverId::new(7, 1), 0), room)]);
    assert_eq!(env.master.runs_on(WorkerId(9)).0.count(), 0);
}
