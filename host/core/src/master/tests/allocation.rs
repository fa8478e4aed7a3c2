//! Who gets executors, and what it waits for.

use super::super::*;
use super::env::*;

#[test]
fn executors_are_spread_out_or_packed() {
    for (spread_out, expected) in [(true, vec![(1, 2), (2, 2)]), (false, vec![(1, 4)])] {
        let mut env = Env::new();
        env.worker("a", 4, 16);
        env.worker("b", 4, 16);
        env.app(AppSpec { spread_out, num_executors: Some(4), ..spec() });
        assert_eq!(count(&env.launched()), BTreeMap::from_iter(expected));
    }
}

#[test]
fn cores_and_numbers_bound_what_is_granted() {
    let mut env = Env::new();
    env.worker("a", 8, 64);
    env.app(AppSpec { executor_cores: Some(2), total_executor_cores: Some(5), ..spec() });
    assert_eq!(env.launched(), [(WorkerId(1), 2), (WorkerId(1), 2)]);
    env.app(AppSpec { num_executors: Some(1), ..spec() });
    assert_eq!(env.launched().len(), 1);
    env.app(AppSpec { executor_memory: 40 * GIB, ..spec() });
    assert_eq!(env.launched().len(), 1, "of memory there is enough for one");
}

#[test]
fn without_executor_cores_each_worker_gives_one_executor_with_all_it_has() {
    let mut env = Env::new();
    env.worker("a", 4, 16);
    env.worker("b", 2, 16);
    env.app(AppSpec { executor_cores: None, ..spec() });
    assert_eq!(env.launched(), [(WorkerId(1), 4), (WorkerId(2), 2)]);
    let mut env = Env::new();
    env.worker("a", 4, 16);
    env.worker("b", 4, 16);
    let spec = AppSpec { executor_cores: None, total_executor_cores: Some(3), ..spec() };
    env.app(spec.clone());
    assert_eq!(env.launched(), [(WorkerId(1), 2), (WorkerId(2), 1)]);
    env.app(AppSpec { spread_out: false, ..spec });
    assert_eq!(env.launched(), [(WorkerId(2), 3)]);
}

#[test]
fn what_a_worker_lacked_when_it_gave_an_executor_is_made_up_for_by_another_one() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 4, 16);
    let (first, _) = env.app(AppSpec { executor_cores: Some(3), ..spec() });
    let whole = AppSpec { executor_cores: None, ..spec() };
    let (second, _) = env.app(AppSpec { total_executor_cores: Some(2), ..whole.clone() });
    assert_eq!(env.launched(), [(worker, 1)]);
    env.tell(Event::AppEnded { app: first, failure: None });
    let waits = env.master.app(second).unwrap().text;
    assert!(waits.starts_with("has 1 executors, and waits for 1 core"), "{waits}");
    env.killed(worker);
    assert_eq!(env.launched(), [(worker, 1)], "the core that the first's end left");
    assert_eq!(env.master.app(second).unwrap().text, "waits for 2 of 2 executors to start");
    // By number.
    let (third, _) = env.app(AppSpec { num_executors: Some(2), ..whole.clone() });
    assert_eq!(env.launched(), [(worker, 2)]);
    env.tell(Event::AppEnded { app: second, failure: None });
    env.killed(worker);
    let third_of = env.master.app(third).unwrap();
    assert_eq!((third_of.executors.len(), third_of.cores), (2, 3), "what one of the second's left");
    env.tell(Event::AppEnded { app: third, failure: None });
    env.killed(worker);
    // By what it says on the way.
    let (taker, _) = env.app(AppSpec { executor_cores: Some(3), ..spec() });
    let (dynamic, _) = env.app(AppSpec { dynamic: true, ..whole.clone() });
    env.tell(Event::AppWants { app: dynamic, executors: 2 });
    assert_eq!(env.launched(), [(worker, 1)]);
    env.tell(Event::AppEnded { app: taker, failure: None });
    env.killed(worker);
    let dynamic_of = env.master.app(dynamic).unwrap();
    assert_eq!((dynamic_of.executors.len(), dynamic_of.cores), (2, 4));
    env.tell(Event::AppEnded { app: dynamic, failure: None });
    env.killed(worker);
    // One that asks for nothing has what there was, and leaves the rest to who comes next.
    let (fourth, _) = env.app(AppSpec { executor_cores: Some(3), ..spec() });
    env.app(whole.clone());
    assert_eq!(env.launched(), [(worker, 1)]);
    env.tell(Event::AppEnded { app: fourth, failure: None });
    env.killed(worker);
    assert!(env.launched().is_empty());
    env.app(whole);
    assert_eq!(env.launched(), [(worker, 3)]);
}

#[test]
fn applications_are_served_first_come_first_served_and_told_what_they_wait_for() {
    let mut env = Env::new();
    env.worker("a", 2, 16);
    let (first, connection) = env.app(spec());
    let (second, _) = env.app(AppSpec { num_executors: Some(1), ..spec() });
    let waits = env.master.app(second).unwrap();
    assert_eq!(waits.state, AppState::Waiting);
    assert_eq!(
        waits.text,
        format!(
            "waits for 1 core and 1.0 GiB free on one worker: worker-1 (a:1) has 0 cores and 14.0 GiB free; before it \
             came {first}"
        )
    );
    assert!(env.news().iter().any(|n| matches!(n, AppNews::Waits(text) if *text == waits.text)));
    env.tell(Event::AppEnded { app: first, failure: None });
    assert!(env.news().iter().any(|n| matches!(n, AppNews::Over(_))));
    assert!(env.launched().is_empty(), "its executors are still there");
    let worker = WorkerId(1);
    let executor = (first, ExecutorId(0));
    env.tell(Event::ExecutorEnded { worker, executor, reason: "it was killed".into() });
    assert_eq!(env.launched(), [(worker, 1)], "what the first had is free");
    env.tell(Event::ConnectionLost { connection });
    assert_eq!(env.master.app(first).unwrap().state, AppState::Finished);
}

#[test]
fn what_can_never_be_is_refused_and_without_workers_one_waits() {
    let mut env = Env::new();
    let (app, _) = env.app(AppSpec { executor_cores: Some(64), ..spec() });
    assert!(env.master.app(app).unwrap().text.starts_with("waits for a worker: there is none"));
    env.worker("a", 4, 8);
    env.worker("b", 2, 99);
    let connection = env.connection();
    let large = AppSpec { executor_cores: Some(8), secret: vec![9; 32], ..spec() };
    env.tell(Event::AppHello { connection, id: None, spec: large, wall: 0 });
    assert_eq!(
        env.refusal(),
        "an executor of 8 cores and 1.0 GiB fits on no worker: the largest, worker-1 (a:1), has 4 cores and 8.0 GiB; give \
         less with --executor-cores and --executor-memory"
    );
    env.tell(Event::SubmitDriver { request: RequestId(1), spec: driver_spec(5, false), wall: 0 });
    assert!(env.refusal().starts_with("a driver of 5 cores and 1.0 GiB fits on no worker"));
}

#[test]
fn an_executor_that_ends_is_replaced_and_one_that_never_works_ends_its_application() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 1, 8);
    let (app, _) = env.app(spec());
    let executor = (app, ExecutorId(0));
    env.tell(Event::ExecutorRegistered { executor });
    env.tell(Event::ExecutorEnded { worker, executor, reason: "power".into() });
    assert_eq!(env.launched().len(), 1, "at once, since it had worked");
    for number in 1..=Policy::default().max_executor_failures {
        let executor = (app, ExecutorId(number));
        env.tell(Event::ExecutorEnded { worker, executor, reason: "boom".into() });
        assert!(env.launched().is_empty(), "not at once");
        env.pass_with(worker, 40);
    }
    let status = env.master.app(app).unwrap();
    assert_eq!(status.state, AppState::Failed);
    assert!(status.text.contains("10 executors in a row") && status.text.ends_with("boom"));
}

#[test]
fn an_application_that_says_again_that_an_executor_works_undoes_no_wait() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 2, 8);
    let two = AppSpec { executor_cores: Some(1), num_executors: Some(2), ..spec() };
    let (app, _) = env.app(two);
    let held = (app, ExecutorId(0));
    env.tell(Event::ExecutorRegistered { executor: held });
    for number in 1..=Policy::default().max_executor_failures {
        env.tell(Event::ExecutorRegistered { executor: held });
        let executor = (app, ExecutorId(number));
        env.tell(Event::ExecutorEnded { worker, executor, reason: "boom".into() });
        env.pass_with(worker, 40);
    }
    assert_eq!(env.master.app(app).unwrap().state, AppState::Failed);
}

#[test]
fn executors_that_work_and_end_soon_again_and_again_are_started_ever_later() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 2, 8);
    let one = AppSpec { executor_cores: Some(1), num_executors: Some(2), ..spec() };
    let (app, _) = env.app(one);
    let name = |number| (app, ExecutorId(number));
    let end = |env: &mut Env, number| {
        let executor = name(number);
        env.tell(Event::ExecutorEnded { worker, executor, reason: "stuck".into() });
    };
    (0..2).for_each(|number| env.tell(Event::ExecutorRegistered { executor: name(number) }));
    env.pass_with(worker, 1);
    // Two that end together are one end, and the first.
    for number in 0..2 {
        end(&mut env, number);
        assert_eq!(env.launched().len(), 1, "at once");
    }
    let mut waits = Vec::new();
    let mut next = 2;
    for _ in 0..12 {
        let ends = next;
        env.tell(Event::ExecutorRegistered { executor: name(ends) });
        end(&mut env, ends);
        next += if next == 2 { 2 } else { 1 };
        let mut waited = 0;
        while env.master.apps[&app].executors.len() < 2 {
            assert!(waited < 40, "it comes in the end");
            env.tell(Event::Heartbeat { worker });
            env.pass(1);
            waited += 1;
        }
        waits.push(waited);
    }
    assert!(waits[0] <= 1 && waits[11] >= 25 && waits.is_sorted(), "{waits:?}");
    assert_ne!(env.master.app(app).unwrap().state, AppState::Failed);
    // One that worked for long is replaced at once.
    env.tell(Event::ExecutorRegistered { executor: name(next) });
    env.pass_with(worker, 61);
    end(&mut env, next);
    assert_eq!(env.launched().len(), 1);
}

#[test]
fn who_gives_executors_up_as_soon_as_they_are_there_waits_for_more() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 2, 8);
    let (app, _) = env.app(AppSpec { dynamic: true, ..spec() });
    env.tell(Event::AppWants { app, executors: 2 });
    assert_eq!(env.launched().len(), 2);
    // What it says again changes nothing.
    env.tell(Event::AppWants { app, executors: 2 });
    env.tell(Event::AppReleases { executor: (app, ExecutorId(9)) });
    assert!(env.actions.is_empty(), "{:?}", env.actions);
    let mut next = 0;
    let mut starts = |env: &mut Env, seconds: u64| {
        let until = env.now + Duration::from_secs(seconds);
        let mut starts = 0;
        while env.now < until {
            while env.master.apps[&app].executors.contains_key(&ExecutorId(next)) {
                env.tell(Event::AppReleases { executor: (app, ExecutorId(next)) });
                env.killed(worker);
                starts += env.launched().len();
                next += 1;
            }
            env.now += Duration::from_millis(1);
            env.tell(Event::Heartbeat { worker });
            if env.master.next_deadline().is_some_and(|at| at <= env.now) {
                env.tell(Event::Tick);
                starts += env.launched().len();
            }
        }
        starts
    };
    let many = starts(&mut env, 60);
    assert!((40..120).contains(&many), "two in 1.6 s: {many}");
    // One that it had for long is followed by another at once.
    env.pass_with(worker, 2);
    let executor = *env.master.apps[&app].executors.keys().next().expect("it has some again");
    env.pass_with(worker, 61);
    env.tell(Event::AppReleases { executor: (app, executor) });
    env.killed(worker);
    assert_eq!(env.launched().len(), 1);
}

#[test]
fn executors_that_end_soon_without_end_are_the_end_of_their_application() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 1, 8);
    let (app, _) = env.app(AppSpec { num_executors: Some(1), ..spec() });
    let most = Policy::default().max_ends;
    for number in 0..most {
        assert_ne!(env.master.app(app).unwrap().state, AppState::Failed, "{number}");
        let executor = (app, ExecutorId(number));
        env.tell(Event::ExecutorRegistered { executor });
        env.tell(Event::ExecutorEnded { worker, executor, reason: "stuck".into() });
        env.pass_with(worker, 31);
    }
    let status = env.master.app(app).unwrap();
    assert_eq!(status.state, AppState::Failed);
    assert!(status.text.starts_with("64 times in a row") && status.text.ends_with(": stuck"));
}

#[test]
fn what_is_told_to_end_takes_room_until_it_has() {
    let mut env = Env::new();
    let (worker, connection) = env.worker("a", 2, 8);
    let both = AppSpec { executor_cores: Some(2), num_executors: Some(1), ..spec() };
    let (first, _) = env.app(both.clone());
    env.app(both);
    env.tell(Event::Kill { request: RequestId(1), target: Target::App(first) });
    assert!(env.launched().is_empty());
    // It is out of reach, and back: what it says counts.
    env.tell(Event::ConnectionLost { connection });
    let mut hello = env.hello("a", 2, 8);
    let executor = (first, ExecutorId(0));
    hello.executors = vec![(executor, room(2))];
    env.worker_says(hello);
    assert!(env.orders().contains(&&WorkerOrder::KillExecutor(executor)));
    assert!(env.launched().is_empty());
    env.tell(Event::ExecutorEnded { worker, executor, reason: "it was killed".into() });
    assert_eq!(env.launched(), [(worker, 2)]);
}

#[test]
fn what_nobody_knows_takes_room_until_it_has_ended() {
    let mut env = Env::new();
    env.app(AppSpec { executor_cores: Some(2), ..spec() });
    let executor = (AppId::new(0, 77), ExecutorId(0));
    let mut hello = env.hello("a", 2, 8);
    // It may say that it takes more than there is.
    hello.executors = vec![(executor, Room { cores: u32::MAX, memory: u64::MAX })];
    let (worker, _) = env.worker_says(hello);
    assert!(env.launched().is_empty());
    env.tell(Event::ExecutorEnded { worker, executor, reason: "it was killed".into() });
    assert_eq!(env.launched(), [(worker, 2)]);
}
