//! Feeds the master's core events, one at a time, and carries out its actions.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ingle_core::master::{
    Action, AppNews, ConnectionId, DriverId, Event, Master, Policy, Record, Reply, RequestId,
    WorkerOrder,
};
use ingle_proto::prost::Message;
use ingle_proto::v1;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc, oneshot};
use tonic::Status;

use super::store::Store;

/// What is said to a peer.
pub enum Said {
    Worker(WorkerOrder),
    /// An order to launch a driver, and its secrets.
    Launch(WorkerOrder, Option<v1::Secrets>),
    App(AppNews),
    /// The last words.
    Refused(String),
}

/// Words that wait for a peer; one that doesn't take them is given up.
const WAITING: usize = 65_536;
/// Secrets of all drivers that aren't over, which are in memory.
const MAX_SECRETS: usize = 64 << 20;

/// The master's core with its store.
pub struct Shell {
    started: Instant,
    state: Mutex<State>,
    connections: AtomicU64,
    requests: AtomicU64,
    changed: Notify,
    /// Where the page is, if there is one.
    page: OnceLock<String>,
}

struct State {
    core: Master,
    store: Store,
    peers: HashMap<ConnectionId, mpsc::Sender<Said>>,
    requests: HashMap<RequestId, oneshot::Sender<Result<Reply, String>>>,
    /// Of drivers that aren't over. Here alone: what is stored may be read, and copied, long after.
    secrets: HashMap<DriverId, v1::Secrets>,
    /// Of drivers that are about to have a name.
    new_secrets: HashMap<RequestId, v1::Secrets>,
}

impl Shell {
    /// Goes on where the store says that the last master stopped.
    pub fn new(policy: Policy, store: Store) -> Result<Self, String> {
        let records = store.load()?;
        let core = Master::recover(policy, Duration::ZERO, records);
        let state = State {
            core,
            store,
            peers: HashMap::new(),
            requests: HashMap::new(),
            secrets: HashMap::new(),
            new_secrets: HashMap::new(),
        };
        Ok(Self {
            started: Instant::now(),
            state: Mutex::new(state),
            connections: AtomicU64::new(1),
            requests: AtomicU64::new(1),
            changed: Notify::new(),
            page: OnceLock::new(),
        })
    }

    /// Seconds since 1970.
    pub fn wall() -> u64 {
        SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()
    }

    /// A peer connects.
    pub fn connect(&self) -> (ConnectionId, mpsc::Receiver<Said>) {
        let connection = ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed));
        let (send, said) = mpsc::channel(WAITING);
        self.state.lock().peers.insert(connection, send);
        (connection, said)
    }

    /// A peer is gone.
    pub fn disconnected(&self, connection: ConnectionId) {
        self.state.lock().peers.remove(&connection);
        self.tell(Event::ConnectionLost { connection });
    }

    /// Something happened.
    pub fn tell(&self, event: Event) {
        self.handle(self.state.lock(), event);
    }

    fn handle(&self, mut state: MutexGuard<'_, State>, event: Event) {
        let is_heartbeat = matches!(event, Event::Heartbeat { .. });
        state.core.set_wall(Self::wall());
        state.handle(self.started.elapsed(), event);
        drop(state);
        if !is_heartbeat {
            self.changed.notify_one();
        }
    }

    /// A peer says something. False if the core doesn't hold its connection any more: then nothing of it counts.
    pub fn hear(&self, connection: ConnectionId, event: Event) -> bool {
        let state = self.state.lock();
        let held = state.core.holds(connection);
        if held {
            self.handle(state, event);
        }
        held
    }

    /// Something is wanted, and waited for.
    pub async fn ask(&self, event: impl FnOnce(RequestId) -> Event) -> Result<Reply, Status> {
        self.ask_with(None, event).await
    }

    /// As [`Shell::ask`], of a driver that has secrets.
    pub async fn ask_with(
        &self,
        secrets: Option<v1::Secrets>,
        event: impl FnOnce(RequestId) -> Event,
    ) -> Result<Reply, Status> {
        let request = RequestId(self.requests.fetch_add(1, Ordering::Relaxed));
        let (send, reply) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if let Some(secrets) = &secrets {
                let held = state.secrets.values().chain(state.new_secrets.values());
                let held: usize = held.map(Message::encoded_len).sum();
                if held + secrets.encoded_len() > MAX_SECRETS {
                    return Err(Status::resource_exhausted(
                        "the secrets of all drivers together take more than 64 MiB: wait until one is over",
                    ));
                }
            }
            state.requests.insert(request, send);
            state.new_secrets.extend(secrets.map(|secrets| (request, secrets)));
        }
        self.tell(event(request));
        match reply.await {
            Ok(reply) => reply.map_err(Status::failed_precondition),
            Err(_) => Err(Status::internal("the master gave no answer")),
        }
    }

    /// The page's address, host:port; empty if there is none.
    pub fn page(&self) -> &str {
        self.page.get().map_or("", String::as_str)
    }

    pub fn set_page(&self, page: &str) {
        // There is one, and it stays.
        let _ = self.page.set(page.to_owned());
    }

    /// How long this master has been here.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Looks at the core.
    pub fn look<R>(&self, look: impl FnOnce(&Master) -> R) -> R {
        look(&self.state.lock().core)
    }

    /// Lets time pass. Goes on for ever.
    pub async fn keep_time(&self) {
        loop {
            let deadline = self.look(Master::next_deadline);
            let wait = deadline.map(|at| at.saturating_sub(self.started.elapsed()));
            let wait = wait
                .unwrap_or(Duration::MAX)
                .clamp(Duration::from_millis(5), Duration::from_secs(3600));
            tokio::select! {
                () = tokio::time::sleep(wait) => self.tell(Event::Tick),
                () = self.changed.notified() => {}
            }
        }
    }
}

impl State {
    fn handle(&mut self, now: Duration, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut actions = Vec::new();
            self.core.handle(now, event, &mut actions);
            let is_durable =
                |action: &Action| matches!(action, Action::Persist(_) | Action::Forget(_));
            if actions.iter().any(is_durable)
                && let Err(why) = self.store.apply(&actions)
            {
                // What runs is better served by a master that forgets than by none.
                tracing::error!("{why}; a restart of the master would not know of it");
            }
            for action in actions {
                if let Some(given_up) = self.act(action) {
                    events.push(Event::ConnectionLost { connection: given_up });
                }
            }
        }
    }

    /// Carries out an action; names a peer that must be given up.
    fn act(&mut self, action: Action) -> Option<ConnectionId> {
        let (connection, said) = match action {
            Action::Worker(
                connection,
                order @ WorkerOrder::LaunchDriver { driver: (driver, _), .. },
            ) => {
                let secrets = self.secrets.get(&driver).cloned();
                (connection, Said::Launch(order, secrets))
            }
            Action::Worker(connection, order) => (connection, Said::Worker(order)),
            Action::App(connection, news) => (connection, Said::App(news)),
            Action::Refuse(connection, why) => (connection, Said::Refused(why)),
            // It is said before the driver is launched.
            Action::Reply(request, reply) => {
                let secrets = self.new_secrets.remove(&request);
                if let (Some(secrets), Ok(Reply::Driver(driver))) = (secrets, &reply) {
                    self.secrets.insert(*driver, secrets);
                }
                if let Some(asked) = self.requests.remove(&request) {
                    // Whoever asked may be gone.
                    let _ = asked.send(reply);
                }
                return None;
            }
            Action::Log(text) => {
                // A reason that somebody gave may have several lines, and must not look like the master's next words.
                tracing::info!("{}", text.replace('\n', " \u{23ce} "));
                return None;
            }
            Action::Persist(Record::EndedDriver(status)) => {
                self.secrets.remove(&status.id);
                return None;
            }
            Action::Persist(_) | Action::Forget(_) => return None,
        };
        let is_last = matches!(said, Said::Refused(_) | Said::App(AppNews::Over(_)));
        let sent = self.peers.get(&connection).map(|peer| peer.try_send(said).is_ok());
        if is_last {
            self.peers.remove(&connection);
            return None;
        }
        match sent {
            Some(false) => {
                self.peers.remove(&connection);
                Some(connection)
            }
            Some(true) | None => None,
        }
    }
}
