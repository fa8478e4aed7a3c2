//! Drivers, and the applications that they come back to.

use super::super::*;
use super::env::*;

#[test]
fn the_end_of_a_drivers_old_try_is_not_that_of_the_new_one() {
    let mut env = Env::new();
    env.worker("a", 2, 8);
    env.tell(Event::SubmitDriver { request: RequestId(1), spec: driver_spec(1, true), wall: 0 });
    let id = DriverId::new(0, 1);
    env.pass(60);
    assert_eq!(env.master.workers().count(), 0, "it is lost");
    // The same process is back, and still runs the first try.
    let mut hello = env.hello("a", 2, 8);
    hello.drivers = vec![((id, 0), room(1))];
    let (worker, _) = env.worker_says(hello);
    assert!(env.orders().contains(&&WorkerOrder::KillDriver((id, 0))));
    assert_eq!(env.master.driver(id).unwrap().state, AppState::Running, "the second try");
    env.killed(worker);
    assert_eq!(env.master.driver(id).unwrap().state, AppState::Running);
}

#[test]
fn an_application_names_a_driver_that_runs_and_has_none() {
    let mut env = Env::new();
    env.worker("a", 8, 32);
    env.tell(Event::SubmitDriver { request: RequestId(1), spec: driver_spec(1, false), wall: 0 });
    let id = DriverId::new(0, 1);
    let of = |driver| AppSpec { driver: Some(driver), num_executors: Some(1), ..spec() };
    let (own, _) = env.app(of(id));
    for (driver, words) in [(id, "has an application"), (DriverId::new(1, 9), "runs on no worker")]
    {
        let connection = env.connection();
        let spec = AppSpec { secret: vec![9; 32], ..of(driver) };
        env.tell(Event::AppHello { connection, id: None, spec, wall: 0 });
        assert!(env.refusal().contains(words), "{}", env.refusal());
    }
    assert_eq!(env.master.driver(id).unwrap().app, Some(own));
}

#[test]
fn nobody_is_a_driver_who_does_not_know_what_it_was_told_and_it_has_one_application() {
    let mut env = Env::new();
    env.worker("a", 8, 32);
    env.tell(Event::SubmitDriver { request: RequestId(1), spec: driver_spec(1, true), wall: 0 });
    let id = DriverId::new(0, 1);
    let says = |env: &mut Env, proof: &[u8]| {
        let (connection, driver_proof) = (env.connection(), proof.to_vec());
        let spec = AppSpec { driver: Some(id), driver_proof, secret: vec![9; 32], ..spec() };
        env.tell(Event::AppHello { connection, id: None, spec, wall: 0 });
    };
    for wrong in [&[][..], &[5; 15], &[5; 17], &[6; 16]] {
        says(&mut env, wrong);
        assert_eq!(env.refusal(), format!("whoever asks isn't {id}"));
    }
    let (app, _) = env.app(AppSpec { driver: Some(id), ..spec() });
    let kept = env
        .stored
        .values()
        .any(|record| matches!(record, Record::App { spec, .. } if spec.driver_proof.is_empty()));
    assert!(kept, "what proves it isn't kept with the application");
    env.tell(Event::AppEnded { app, failure: None });
    says(&mut env, &[5; 16]);
    assert_eq!(env.refusal(), format!("{id} had its application"));
    // Another try of it has another one.
    let worker = WorkerId(1);
    let reason = "boom".to_owned();
    env.tell(Event::DriverEnded { worker, driver: (id, 0), finished: false, reason });
    env.pass_with(worker, 5);
    says(&mut env, &[5; 16]);
    assert!(matches!(env.news()[0], AppNews::Welcome(_)), "{:?}", env.news());
}

#[test]
fn who_comes_back_says_nothing_that_he_could_not_have_said_at_first() {
    let mut env = Env::new();
    env.worker("a", 1, 8);
    let (app, _) = env.app(spec());
    for address in ["a\u{1b}[2J:1".to_owned(), "a".repeat(300)] {
        let connection = env.connection();
        let spec = AppSpec { driver_address: address, ..spec() };
        env.tell(Event::AppHello { connection, id: Some(app), spec, wall: 0 });
        assert!(env.refusal().starts_with("a name"), "{}", env.refusal());
    }
}

#[test]
fn drivers_are_placed_killed_and_started_again_if_they_are_supervised() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 1, 8);
    env.tell(Event::SubmitDriver { request: RequestId(1), spec: driver_spec(1, true), wall: 0 });
    let id = DriverId::new(0, 1);
    assert!(env.actions.contains(&Action::Reply(RequestId(1), Ok(Reply::Driver(id)))));
    assert!(
        matches!(env.orders()[0], WorkerOrder::LaunchDriver { driver, .. } if *driver == (id, 0))
    );
    let (app, _) = env.app(AppSpec { driver: Some(id), num_executors: Some(1), ..spec() });
    env.tell(Event::DriverEnded {
        worker,
        driver: (id, 0),
        finished: false,
        reason: "boom\u{1b}[2J".into(),
    });
    assert_eq!(env.master.app(app).unwrap().state, AppState::Failed);
    assert!(
        env.master.driver(id).unwrap().text.ends_with("started again in a moment: boom\u{fffd}[2J")
    );
    env.pass(3);
    assert_eq!(env.master.driver(id).unwrap().state, AppState::Running);
    env.tell(Event::SubmitDriver { request: RequestId(2), spec: driver_spec(1, false), wall: 0 });
    let second = DriverId::new(0, 3);
    assert_eq!(env.master.driver(second).unwrap().state, AppState::Waiting);
    env.tell(Event::Kill { request: RequestId(3), target: Target::Driver(id) });
    assert!(env.orders().contains(&&WorkerOrder::KillDriver((id, 1))));
    assert_eq!(env.master.driver(second).unwrap().state, AppState::Waiting, "it is still there");
    env.killed(worker);
    assert_eq!(env.master.driver(second).unwrap().state, AppState::Running);
    env.tell(Event::DriverEnded {
        worker,
        driver: (second, 0),
        finished: true,
        reason: String::new(),
    });
    assert_eq!(env.master.driver(second).unwrap().state, AppState::Finished);
    env.tell(Event::Kill { request: RequestId(4), target: Target::Driver(second) });
    assert!(env.refusal().contains("is over already: it is FINISHED"));
}

#[test]
fn a_driver_whose_secrets_are_gone_runs_on_and_is_not_started_again() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 2, 8);
    for (request, cores, has_secrets) in [(1, 1, true), (2, 1, false), (3, 2, true)] {
        let spec = DriverSpec { has_secrets, ..driver_spec(cores, true) };
        env.tell(Event::SubmitDriver { request: RequestId(request), spec, wall: 0 });
    }
    let [runs, plain, waits] = [1, 2, 3].map(|number| DriverId::new(0, number));
    let state = |env: &Env, driver| env.master.driver(driver).unwrap().state;
    let fails = |env: &mut Env, driver, attempt| {
        let reason = "boom".to_owned();
        env.tell(Event::DriverEnded { worker, driver: (driver, attempt), finished: false, reason });
        env.pass_with(worker, 3);
    };
    fails(&mut env, runs, 0);
    assert_eq!(state(&env, runs), AppState::Running, "this master has its secrets");
    env.restart();
    let mut hello = env.hello("a", 2, 8);
    hello.drivers = vec![((runs, 1), room(1)), ((plain, 0), room(1))];
    env.worker_says(hello);
    assert_eq!(state(&env, waits), AppState::Failed);
    assert_eq!(env.master.driver(waits).unwrap().text, SECRETS_GONE);
    assert_eq!(state(&env, runs), AppState::Running);
    fails(&mut env, plain, 0);
    fails(&mut env, runs, 1);
    let told = env.master.driver(runs).unwrap();
    assert_eq!((told.state, told.restarts), (AppState::Failed, 1));
    assert!(told.text.starts_with("boom; ") && told.text.ends_with(SECRETS_GONE), "{}", told.text);
    assert_eq!(state(&env, plain), AppState::Running);
}

#[test]
fn an_application_whose_driver_is_gone_is_killed_after_its_lease() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 1, 8);
    let (app, connection) = env.app(spec());
    env.tell(Event::ConnectionLost { connection });
    assert!(env.master.app(app).unwrap().text.contains("waits for its driver"));
    env.pass(5);
    env.tell(Event::Heartbeat { worker });
    let back = env.connection();
    env.tell(Event::AppHello { connection: back, id: Some(app), spec: spec(), wall: 0 });
    assert!(
        env.news().iter().any(|n| matches!(n, AppNews::Granted { executor: ExecutorId(0), .. }))
    );
    let thief = env.connection();
    let stolen = AppSpec { secret: vec![2; 32], ..spec() };
    env.tell(Event::AppHello { connection: thief, id: Some(app), spec: stolen, wall: 0 });
    assert!(env.refusal().contains("is another application"));
    env.tell(Event::ConnectionLost { connection: back });
    env.pass(10);
    assert_eq!(env.master.app(app).unwrap().state, AppState::Killed);
    let orders = env.orders();
    assert!(orders.contains(&&WorkerOrder::KillExecutor((app, ExecutorId(0)))));
    assert!(orders.contains(&&WorkerOrder::ForgetApp(app)));
}

#[test]
fn a_driver_that_was_away_hears_what_became_of_workers_meanwhile() {
    let mut env = Env::new();
    let (lost, _) = env.worker("a", 1, 8);
    let (draining, _) = env.worker("b", 1, 8);
    let (app, _) = env.app(spec());
    // What it made stays on the worker, also when the master starts again.
    env.tell(Event::AppReleases { executor: (app, ExecutorId(0)) });
    env.restart();
    env.worker("b", 1, 8);
    let back = |env: &mut Env| {
        let connection = env.connection();
        env.tell(Event::AppHello { connection, id: Some(app), spec: spec(), wall: 0 });
        connection
    };
    let connection = back(&mut env);
    env.tell(Event::ConnectionLost { connection });
    env.tell(Event::Decommission { request: RequestId(1), worker: draining });
    for _ in 0..8 {
        env.pass_with(draining, 2);
        let connection = back(&mut env);
        env.tell(Event::ConnectionLost { connection });
    }
    back(&mut env);
    let news = env.news();
    assert!(news.contains(&&AppNews::WorkerDraining(draining)));
    assert!(
        news.iter().any(|n| matches!(n, AppNews::WorkerLost { worker, .. } if *worker == lost))
    );
}

#[test]
fn a_driver_that_never_heard_its_welcome_is_no_second_application() {
    let mut env = Env::new();
    env.worker("a", 2, 8);
    let (app, _) = env.app(AppSpec { num_executors: Some(1), ..spec() });
    let connection = env.connection();
    let again = AppSpec { num_executors: Some(1), ..spec() };
    env.tell(Event::AppHello { connection, id: None, spec: again, wall: 5 });
    assert_eq!(env.news()[0], &AppNews::Welcome(app));
    assert_eq!(env.launched().len(), 1, "it hears of what it was granted");
    assert!(env.orders().is_empty() && env.master.apps().count() == 1);
}

#[test]
fn an_application_that_is_back_hears_what_it_still_has_and_what_it_waits_for() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 2, 8);
    let bounded = || AppSpec { num_executors: Some(3), secret: vec![1; 32], ..spec() };
    let (app, connection) = env.app(bounded());
    assert_eq!(env.launched().len(), 2);
    let waits = |env: &Env| {
        let waits = |news: &&AppNews| matches!(news, AppNews::Waits(_));
        env.news().into_iter().rfind(waits).cloned()
    };
    let text = waits(&env);
    assert!(text.is_some());
    env.tell(Event::ConnectionLost { connection });
    env.tell(Event::ExecutorEnded {
        worker,
        executor: (app, ExecutorId(0)),
        reason: "it crashed".into(),
    });
    env.tell(Event::ExecutorRegistered { executor: (app, ExecutorId(1)) });
    env.pass_with(worker, 2);
    env.tell(Event::Decommission { request: RequestId(1), worker });
    for _ in 0..2 {
        let connection = env.connection();
        let id = Some(app);
        env.tell(Event::AppHello { connection, id, spec: bounded(), wall: 0 });
        assert!(env.news().contains(&&AppNews::Has([ExecutorId(1)].into())));
        assert!(waits(&env).is_some(), "though it was told before");
        env.tell(Event::ConnectionLost { connection });
    }
}

#[test]
fn submissions_are_bounded_together() {
    let mut env = Env::new();
    env.worker("a", 1, 8);
    let submit = |env: &mut Env, bytes: usize| {
        let spec = DriverSpec { submission: vec![0; bytes], ..driver_spec(1, false) };
        env.tell(Event::SubmitDriver { request: RequestId(1), spec, wall: 0 });
    };
    for number in 0..32 {
        let spec = DriverSpec { submission: vec![0; 32 << 20], ..driver_spec(1, false) };
        env.master.drivers.insert(DriverId::new(9, number), Driver::new(spec));
    }
    submit(&mut env, 1);
    let refusal = env.refusal();
    assert!(
        refusal.starts_with("the drivers that there are have 1.0 GiB of arguments"),
        "{refusal}"
    );
    // One that waits for a worker.
    env.master.drivers.remove(&DriverId::new(9, 31));
    submit(&mut env, 1);
    let taken = |action: &Action| matches!(action, Action::Reply(_, Ok(Reply::Driver(_))));
    assert!(env.actions.iter().any(taken));
}
