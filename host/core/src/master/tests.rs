//! A master whose peers say what a test wants.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::ids::WorkerId;

const GIB: u64 = 1 << 30;

struct Env {
    master: Master,
    now: Duration,
    next: u64,
    apps: u8,
    stored: BTreeMap<Key, Record>,
    /// What was said last.
    actions: Vec<Action>,
}

impl Env {
    fn new() -> Self {
        let master = Master::new(Policy::default());
        let (now, stored, actions) = (Duration::ZERO, BTreeMap::new(), Vec::new());
        Self { master, now, next: 0, apps: 0, stored, actions }
    }

    fn tell(&mut self, event: Event) {
        self.actions.clear();
        self.master.handle(self.now, event, &mut self.actions);
        self.master.check();
        let durable = |a: &Action| matches!(a, Action::Persist(_) | Action::Forget(_));
        let first = self.actions.iter().position(|a| !durable(a)).unwrap_or(self.actions.len());
        assert!(!self.actions[first..].iter().any(durable), "what is stored comes first");
        for action in &self.actions {
            match action {
                Action::Persist(record) => drop(self.stored.insert(record.key(), record.clone())),
                Action::Forget(key) => drop(self.stored.remove(key)),
                _ => {}
            }
        }
    }

    /// Time passes, and the master looks at the clock as often as it wants to.
    fn pass(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while self.now < until {
            let next = self.master.next_deadline().unwrap_or(until);
            self.now = next.clamp(self.now + Duration::from_millis(1), until);
            self.tell(Event::Tick);
        }
    }

    /// As [`Env::pass`], with a worker that goes on being there.
    fn pass_with(&mut self, worker: WorkerId, seconds: u64) {
        for _ in 0..seconds {
            self.pass(1);
            self.tell(Event::Heartbeat { worker });
        }
    }

    /// The end of all that the worker was told to end.
    fn killed(&mut self, worker: WorkerId) {
        let orders: Vec<_> = self.orders().into_iter().cloned().collect();
        for order in orders {
            let reason = "it was killed".to_owned();
            match order {
                WorkerOrder::KillExecutor(executor) => {
                    self.tell(Event::ExecutorEnded { worker, executor, reason });
                }
                WorkerOrder::KillDriver(driver) => {
                    self.tell(Event::DriverEnded { worker, driver, finished: false, reason });
                }
                _ => {}
            }
        }
    }

    fn connection(&mut self) -> ConnectionId {
        self.next += 1;
        ConnectionId(self.next)
    }

    fn hello(&self, name: &str, cores: u32, gib: u64) -> WorkerHello {
        WorkerHello {
            address: format!("{name}:1"),
            page: format!("{name}:2"),
            cores,
            memory: gib * GIB,
            instance: 1,
            executors: Vec::new(),
            drivers: Vec::new(),
            applications: Vec::new(),
        }
    }

    fn worker(&mut self, name: &str, cores: u32, gib: u64) -> (WorkerId, ConnectionId) {
        let hello = self.hello(name, cores, gib);
        self.worker_says(hello)
    }

    fn worker_says(&mut self, hello: WorkerHello) -> (WorkerId, ConnectionId) {
        let connection = self.connection();
        self.tell(Event::WorkerHello { connection, hello });
        let welcome = self.actions.iter().find_map(|action| match action {
            Action::Worker(to, WorkerOrder::Welcome(id)) if *to == connection => Some(*id),
            _ => None,
        });
        (welcome.expect("a welcome"), connection)
    }

    /// A new one: only the first has the secret of [`spec`].
    fn app(&mut self, mut spec: AppSpec) -> (AppId, ConnectionId) {
        let connection = self.connection();
        self.apps += 1;
        spec.secret = vec![self.apps; 32];
        self.tell(Event::AppHello { connection, id: None, spec, wall: 0 });
        let welcome = self.actions.iter().find_map(|action| match action {
            Action::App(to, AppNews::Welcome(id)) if *to == connection => Some(*id),
            _ => None,
        });
        (welcome.expect("a welcome"), connection)
    }

    /// Executors that workers were told to start: worker and cores.
    fn launched(&self) -> Vec<(WorkerId, u32)> {
        let granted = self.actions.iter().filter_map(|action| match action {
            Action::App(_, AppNews::Granted { worker, cores, .. }) => Some((*worker, *cores)),
            _ => None,
        });
        granted.collect()
    }

    fn refusal(&self) -> &str {
        let refusal = self.actions.iter().find_map(|action| match action {
            Action::Refuse(_, why) | Action::Reply(_, Err(why)) => Some(why.as_str()),
            _ => None,
        });
        refusal.expect("a refusal")
    }

    fn news(&self) -> Vec<&AppNews> {
        let news = self.actions.iter().filter_map(|action| match action {
            Action::App(_, news) => Some(news),
            _ => None,
        });
        news.collect()
    }

    fn orders(&self) -> Vec<&WorkerOrder> {
        let orders = self.actions.iter().filter_map(|action| match action {
            Action::Worker(_, order) => Some(order),
            _ => None,
        });
        orders.collect()
    }

    /// Another master with what was stored.
    fn restart(&mut self) {
        let records = self.stored.values().cloned().collect();
        self.master = Master::recover(Policy::default(), self.now, records);
        self.master.check();
    }
}

fn spec() -> AppSpec {
    AppSpec {
        name: "job".into(),
        driver_address: "d:1".into(),
        secret: vec![1; 32],
        executor_cores: Some(1),
        executor_memory: GIB,
        total_executor_cores: None,
        num_executors: None,
        spread_out: true,
        dynamic: false,
        driver: None,
    }
}

fn driver_spec(cores: u32, supervise: bool) -> DriverSpec {
    DriverSpec {
        name: "job".into(),
        cores,
        memory: GIB,
        supervise,
        component: vec![0; 32],
        submission: Vec::new(),
    }
}

fn room(cores: u32) -> Room {
    Room { cores, memory: GIB }
}

fn count(launched: &[(WorkerId, u32)]) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for (worker, _) in launched {
        *counts.entry(worker.0).or_default() += 1;
    }
    counts
}

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
