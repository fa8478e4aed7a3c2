//! Workers that come, go, and come back.

use super::super::*;
use super::env::*;

#[test]
fn a_silent_worker_is_lost_with_all_it_had_and_whoever_used_it_is_told() {
    let mut env = Env::new();
    let (lost, _) = env.worker("a", 1, 8);
    let (app, _) = env.app(spec());
    env.pass(10);
    let (other, _) = env.worker("b", 1, 8);
    let mut told = Vec::new();
    for _ in 0..10 {
        env.pass(1);
        told.extend(env.news().into_iter().cloned());
        env.tell(Event::Heartbeat { worker: other });
    }
    assert!(
        told.iter().any(|n| matches!(n, AppNews::WorkerLost { worker, .. } if *worker == lost))
    );
    assert!(told.iter().any(|n| matches!(n, AppNews::Lost { executor: ExecutorId(0), .. })));
    assert_eq!(env.master.workers().map(|w| w.id).collect::<Vec<_>>(), [other]);
    assert_eq!(env.master.app(app).unwrap().executors.len(), 1, "that on the other worker");
}

#[test]
fn that_a_worker_is_lost_is_no_failure_of_its_applications() {
    let mut env = Env::new();
    env.worker("a", 64, 256);
    let (app, _) = env.app(AppSpec { num_executors: Some(60), ..spec() });
    env.pass(20);
    assert_eq!(env.master.workers().count(), 0);
    assert_eq!(env.master.app(app).unwrap().state, AppState::Waiting);
}

#[test]
fn a_worker_that_comes_back_keeps_what_it_runs_and_loses_what_it_should_not() {
    let mut env = Env::new();
    let (worker, connection) = env.worker("a", 2, 8);
    let (app, _) = env.app(spec());
    env.tell(Event::ConnectionLost { connection });
    env.pass(5);
    let stranger = (AppId::new(9, 9), ExecutorId(0));
    let mut hello = env.hello("a", 2, 8);
    hello.executors = vec![((app, ExecutorId(0)), room(1)), (stranger, room(1))];
    hello.applications = vec![app, stranger.0];
    let (again, _) = env.worker_says(hello);
    assert_eq!(again, worker);
    let orders = env.orders();
    assert!(orders.contains(&&WorkerOrder::KillExecutor(stranger)));
    assert!(orders.contains(&&WorkerOrder::ForgetApp(stranger.0)));
    assert!(!orders.contains(&&WorkerOrder::KillExecutor((app, ExecutorId(0)))));
    let lost =
        env.news().iter().any(|n| matches!(n, AppNews::Lost { executor: ExecutorId(1), .. }));
    assert!(lost, "it didn't list the second one");
}

#[test]
fn a_worker_that_says_what_it_will_be_told_to_start_gets_it_and_its_room_is_counted_once() {
    let mut env = Env::new();
    let (app, _) = env.app(AppSpec { num_executors: Some(1), ..spec() });
    let made_up = (app, ExecutorId(0));
    let mut hello = env.hello("liar", 2, 8);
    hello.executors = vec![(made_up, room(1))];
    let (worker, _) = env.worker_says(hello);
    assert_eq!(env.launched(), [(worker, 1)], "the books agree, too");
    env.tell(Event::ExecutorEnded { worker, executor: made_up, reason: "it ended".into() });
    env.tell(Event::AppEnded { app, failure: None });
    env.killed(worker);
    let status = env.master.worker(worker).unwrap();
    assert_eq!((status.cores_used, status.memory_used), (0, 0));
}

#[test]
fn two_workers_at_one_address_are_not_let_in_and_a_new_process_replaces_a_dead_one() {
    let mut env = Env::new();
    let (first, connection) = env.worker("a", 1, 8);
    let (app, _) = env.app(spec());
    let other = WorkerHello { instance: 2, ..env.hello("a", 1, 8) };
    let second = env.connection();
    env.tell(Event::WorkerHello { connection: second, hello: other.clone() });
    assert!(env.refusal().contains("another worker, worker-1, is registered at a:1"));
    env.tell(Event::ConnectionLost { connection });
    let (new, _) = env.worker_says(other);
    assert_ne!(new, first);
    assert!(env.news().iter().any(|n| matches!(n, AppNews::WorkerLost { .. })));
    let at: BTreeSet<_> = env.master.app(app).unwrap().executors.iter().map(|e| e.1).collect();
    assert!(!at.contains(&first));
}

#[test]
fn a_worker_that_says_that_it_has_everybodys_files_is_noted_nowhere() {
    let mut env = Env::new();
    let (sound, _) = env.worker("a", 4, 8);
    let (app, _) = env.app(AppSpec { num_executors: Some(1), ..spec() });
    let mut last = sound;
    for instance in 0..5 {
        let liar = WorkerHello { instance, applications: vec![app], ..env.hello("liar", 1, 8) };
        let (id, connection) = env.worker_says(liar);
        assert!(env.news().is_empty(), "{:?}", env.news());
        assert_eq!(env.master.app(app).unwrap().workers, [sound]);
        env.tell(Event::ConnectionLost { connection });
        assert_ne!(id, std::mem::replace(&mut last, id));
    }
    let hello = WorkerHello { applications: vec![app], ..env.hello("liar", 1, 8) };
    env.worker_says(WorkerHello { instance: 4, ..hello });
    env.tell(Event::AppEnded { app, failure: None });
    let forget = |order: &&&WorkerOrder| ***order == WorkerOrder::ForgetApp(app);
    assert_eq!(env.orders().iter().filter(forget).count(), 2, "it hears of the end all the same");
}

#[test]
fn a_worker_that_was_lost_and_is_back_has_what_it_had() {
    let mut env = Env::new();
    let (first, connection) = env.worker("a", 4, 8);
    let (app, _) = env.app(AppSpec { num_executors: Some(1), ..spec() });
    env.tell(Event::ConnectionLost { connection });
    env.pass(20);
    assert_eq!(env.master.workers().count(), 0);
    let back = WorkerHello { applications: vec![app], ..env.hello("a", 4, 8) };
    let (second, connection) = env.worker_says(back);
    assert_eq!(env.master.app(app).unwrap().workers, [first, second]);
    env.tell(Event::ConnectionLost { connection });
    env.pass(20);
    // However often that happens, it isn't noted without end.
    for _ in 0..1100 {
        let (_, connection) = env.worker_says(env.hello("a", 4, 8));
        env.tell(Event::ConnectionLost { connection });
        env.pass(16);
    }
    assert_eq!(env.master.app(app).unwrap().workers.len(), 1000);
}

#[test]
fn absurd_offers_are_refused() {
    let mut env = Env::new();
    for (cores, memory) in [(0, GIB), (1, 0), (u32::MAX, GIB), (1, u64::MAX)] {
        let connection = env.connection();
        let hello = WorkerHello { cores, memory, ..env.hello("a", 1, 1) };
        env.tell(Event::WorkerHello { connection, hello });
        assert!(!env.refusal().is_empty());
    }
    assert_eq!(env.master.workers().count(), 0);
}

#[test]
fn a_decommissioned_worker_gets_nothing_new() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 2, 8);
    env.app(AppSpec { num_executors: Some(1), ..spec() });
    env.tell(Event::Decommission { request: RequestId(1), worker });
    assert!(env.news().contains(&&AppNews::WorkerDraining(worker)));
    env.app(spec());
    assert!(env.launched().is_empty());
    env.tell(Event::Decommission { request: RequestId(2), worker: WorkerId(9) });
    assert_eq!(env.refusal(), "there is no worker-9; see `ingle workers`");
}
