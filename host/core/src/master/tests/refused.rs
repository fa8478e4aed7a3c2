//! Workers that don't give what a job is granted, or expel it.

use super::super::*;
use super::env::*;

fn refuse(env: &mut Env, worker: WorkerId, app: AppId, number: u32) {
    let (executor, reason) = ((app, ExecutorId(number)), "no volume v".to_owned());
    env.tell(Event::ExecutorRefused { worker, executor, reason });
}

#[test]
fn a_worker_that_refuses_is_not_asked_again_soon_and_others_are_at_once() {
    let mut env = Env::new();
    let (without, _) = env.worker("a", 4, 8);
    let (app, _) = env.app(AppSpec { num_executors: Some(1), ..spec() });
    let (with, _) = env.worker("b", 1, 8);
    refuse(&mut env, without, app, 0);
    assert_eq!(env.launched(), [(with, 1)]);
    // As long as that is so, the emptier one gets none.
    let (executor, reason) = ((app, ExecutorId(1)), "it was killed".to_owned());
    env.tell(Event::ExecutorRegistered { executor });
    env.tell(Event::ExecutorEnded { worker: with, executor, reason });
    assert_eq!(env.launched(), [(with, 1)]);
    // What works was refused nothing.
    env.tell(Event::ExecutorRegistered { executor: (app, ExecutorId(2)) });
    refuse(&mut env, with, app, 2);
    assert_eq!(env.master.app(app).unwrap().state, AppState::Waiting);
    env.app(AppSpec { num_executors: Some(1), ..spec() });
    assert_eq!(env.launched(), [(without, 1)], "another application's refusals are its own");
}

#[test]
fn a_worker_that_refused_is_asked_again_later() {
    let mut env = Env::new();
    let (without, _) = env.worker("a", 1, 8);
    // One that is busy doesn't refuse.
    let (busy, _) = env.worker("b", 1, 8);
    env.app(AppSpec { num_executors: Some(1), ..spec() });
    let (app, _) = env.app(AppSpec { num_executors: Some(1), ..spec() });
    let (taken, free) =
        if env.launched() == [(busy, 1)] { (without, busy) } else { (busy, without) };
    refuse(&mut env, free, app, 0);
    assert!(env.launched().is_empty());
    let text = env.master.app(app).unwrap().text;
    assert!(
        text.ends_with("; 1 of the workers didn't give it what it is granted: no volume v"),
        "{text}"
    );
    let waits = Policy::default().refusal.as_secs();
    for second in 1..=waits {
        env.pass(1);
        let launched = env.launched();
        assert_eq!(launched, if second == waits { vec![(free, 1)] } else { Vec::new() });
        [free, taken].into_iter().for_each(|worker| env.tell(Event::Heartbeat { worker }));
    }
}

#[test]
fn a_job_that_every_worker_refuses_is_over_at_once() {
    let mut env = Env::new();
    let (one, _) = env.worker("a", 1, 8);
    let (app, _) = env.app(AppSpec { executor_memory: 2 * GIB, ..spec() });
    // Too small for it, so no way out.
    env.worker("b", 1, 1);
    refuse(&mut env, one, app, 0);
    let status = env.master.app(app).unwrap();
    assert_eq!(status.state, AppState::Failed);
    assert_eq!(
        status.text,
        "no worker gives its executors what it is granted; worker-1: no volume v"
    );
}

#[test]
fn what_works_goes_on_though_nobody_gives_it_more() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 2, 8);
    let (app, _) = env.app(AppSpec { num_executors: Some(2), ..spec() });
    env.tell(Event::ExecutorRegistered { executor: (app, ExecutorId(0)) });
    refuse(&mut env, worker, app, 1);
    assert_eq!(env.master.app(app).unwrap().state, AppState::Running);
}

#[test]
fn a_move_is_no_failure() {
    let mut env = Env::new();
    let (first, _) = env.worker("a", 4, 8);
    let (second, _) = env.worker("b", 2, 8);
    env.tell(Event::SubmitDriver { request: RequestId(1), spec: driver_spec(1, true), wall: 0 });
    let driver = DriverId::new(0, 1);
    env.tell(Event::DriverRefused {
        worker: first,
        driver: (driver, 0),
        reason: "no volume v".into(),
    });
    let failed = (driver, 1);
    env.tell(Event::DriverEnded {
        worker: second,
        driver: failed,
        finished: false,
        reason: "boom".into(),
    });
    assert_ne!(env.master.driver(driver).unwrap().state, AppState::Running);
    // As long as after a first failure.
    env.pass_with(second, 1);
    assert_eq!(env.master.driver(driver).unwrap().state, AppState::Running);
}

#[test]
fn a_driver_that_is_refused_is_tried_elsewhere_and_over_once_nobody_is_left() {
    let mut env = Env::new();
    let (first, _) = env.worker("a", 4, 8);
    let (second, _) = env.worker("b", 2, 8);
    env.tell(Event::SubmitDriver { request: RequestId(1), spec: driver_spec(1, false), wall: 0 });
    let driver = DriverId::new(0, 1);
    let refused = |worker, attempt| Event::DriverRefused {
        worker,
        driver: (driver, attempt),
        reason: "no volume v".into(),
    };
    assert_eq!(env.master.driver(driver).unwrap().worker, Some(first));
    env.tell(refused(first, 0));
    assert_eq!(env.master.driver(driver).unwrap().worker, Some(second));
    // Of the try before: too late to matter.
    env.tell(refused(first, 0));
    assert_eq!(env.master.driver(driver).unwrap().worker, Some(second));
    env.tell(refused(second, 1));
    let status = env.master.driver(driver).unwrap();
    assert_eq!((status.state, &*status.text), (AppState::Failed, "no volume v"));
}

fn expel(env: &mut Env, worker: WorkerId, app: AppId, number: u32) {
    let executor = (app, ExecutorId(number));
    let reason = format!("{app} has 9 GiB on this worker's disk");
    env.tell(Event::ExecutorExpelled { worker, executor, reason });
}

#[test]
fn what_one_worker_expels_goes_on_elsewhere_and_not_there_for_a_while() {
    let mut env = Env::new();
    let (first, _) = env.worker("a", 4, 8);
    let (app, _) = env.app(AppSpec { num_executors: Some(1), ..spec() });
    let (second, _) = env.worker("b", 1, 8);
    // However well it worked.
    env.tell(Event::ExecutorRegistered { executor: (app, ExecutorId(0)) });
    expel(&mut env, first, app, 0);
    assert_eq!(env.launched(), [(second, 1)]);
    env.tell(Event::ExecutorRegistered { executor: (app, ExecutorId(1)) });
    let want = Event::AppReleases { executor: (app, ExecutorId(1)) };
    // It takes the only core there, so that it isn't given it again.
    env.tell(want);
    assert!(env.launched().is_empty());
    let waits = Policy::default().refusal.as_secs();
    let text = env.master.app(app).unwrap().text;
    assert!(
        text.contains("; 1 of the workers ended what ran there for what that did: ")
            && text.ends_with("has 9 GiB on this worker's disk"),
        "{text}"
    );
    for second_passed in 1..=waits {
        env.pass(1);
        let launched = env.launched();
        assert_eq!(launched, if second_passed == waits { vec![(first, 1)] } else { Vec::new() });
        [first, second].into_iter().for_each(|worker| env.tell(Event::Heartbeat { worker }));
    }
}

#[test]
fn what_the_only_worker_expels_is_over_with_its_words() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 2, 8);
    let two = AppSpec { executor_cores: Some(1), num_executors: Some(2), ..spec() };
    let (app, _) = env.app(two);
    (0..2).for_each(|n| env.tell(Event::ExecutorRegistered { executor: (app, ExecutorId(n)) }));
    expel(&mut env, worker, app, 0);
    assert!(env.launched().is_empty());
    // As long as something works it goes on.
    assert_eq!(env.master.app(app).unwrap().state, AppState::Running);
    expel(&mut env, worker, app, 1);
    let status = env.master.app(app).unwrap();
    assert_eq!(status.state, AppState::Failed);
    assert_eq!(
        status.text,
        format!(
            "no worker is left that didn't end its executors for what they did; worker-1: {app} has 9 GiB on this worker's disk"
        )
    );
}

#[test]
fn a_driver_that_is_expelled_is_not_started_again() {
    let mut env = Env::new();
    let (worker, _) = env.worker("a", 4, 8);
    env.tell(Event::SubmitDriver { request: RequestId(1), spec: driver_spec(1, true), wall: 0 });
    let id = DriverId::new(0, 1);
    let (app, _) = env.app(AppSpec { driver: Some(id), num_executors: Some(1), ..spec() });
    let expelled = |attempt| Event::DriverExpelled {
        worker,
        driver: (id, attempt),
        reason: "it handed something over".into(),
    };
    env.tell(expelled(1));
    assert_eq!(env.master.driver(id).unwrap().state, AppState::Running, "that is another try");
    env.tell(expelled(0));
    let status = env.master.driver(id).unwrap();
    assert_eq!((status.state, &*status.text), (AppState::Failed, "it handed something over"));
    assert_eq!(env.master.app(app).unwrap().state, AppState::Failed);
}
