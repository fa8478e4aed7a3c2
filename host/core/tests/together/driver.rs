//! A driver's process: its connection with the master and its look at itself, as in `host/cluster/src/standalone.rs`, and its program.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ingle_core::dynamic::DynamicAllocation;
use ingle_core::ids::{ExecutorId, JobId, StageId, WorkerId};
use ingle_core::master::{AppId, AppNews, AppSpec, DriverTry};
use ingle_core::scheduler::Event;
use rand::Rng;

pub use crate::hub::{Hub, Table};
use crate::net::{CLIENT, Conn, Kind, Msg, Pid, Report, Target};
use crate::plan::Step;
use crate::worker::at_address;
use crate::world::{Next, SECOND, World};

/// A master that can't be reached for so long isn't waited for any more.
const FIND_MASTER: Duration = Duration::from_secs(60);
/// How long the master may take to note that the application is over.
const FAREWELL: u64 = 2 * SECOND;
const FIRST_WAIT: u64 = SECOND / 20;
const LONGEST_WAIT: u64 = 2 * SECOND;
/// How often it looks at its application.
const LOOK: u64 = SECOND / 10;

/// Whether a driver that is back says again how many executors it wants, which workers it excludes, and which executors have found it. It
/// must: what it said last may be lost, and a master that starts again knows neither. (The shell said each only once, when this was written.)
const SAYS_AGAIN: bool = true;

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEnd {
    Finished,
    Failed,
    Cancelled,
}

pub struct DriverProcess {
    pub plan: usize,
    pub pid: Pid,
    /// In cluster mode, the machine that it runs on.
    pub worker: Option<usize>,
    pub driver: Option<DriverTry>,
    pub address: String,
    spec: AppSpec,
    pub id: Option<AppId>,
    pub conn: Option<Conn>,
    welcome: bool,
    /// Since when, if it is.
    pub welcome_since: u64,
    outgoing: VecDeque<Report>,
    /// What it was told last that it waits for.
    pub waits: String,
    /// It said that it is over.
    ending: bool,
    /// Nobody waits for the connection any more.
    left: bool,
    since: Duration,
    backoff: u64,
    /// Why it is over by somebody's will.
    pub over: Option<String>,
    pub gone: bool,
    pub hub: Hub,
    dynamic: Option<DynamicAllocation>,
    wanted: Option<u32>,
    excluded: Vec<WorkerId>,
    /// Jobs that were submitted, and how they ended.
    pub jobs: BTreeMap<JobId, Option<JobEnd>>,
    steps_left: usize,
}

impl World {
    pub fn driver_starts(&mut self, plan: usize, on: Option<(usize, DriverTry)>) -> Pid {
        let at = self.drivers.len();
        let of = &self.plan.apps[plan];
        let host = on.map_or(of.host, |(worker, _)| self.workers[worker].host);
        let (steps, policy, dynamic) = (of.steps.clone(), of.policy.clone(), of.dynamic.clone());
        let address = format!("h{host}:{at}");
        let spec = AppSpec {
            driver_address: address.clone(),
            secret: (0..32).map(|i| ((at + 1) >> (i % 4 * 8)) as u8 ^ i as u8).collect(),
            driver: on.map(|(_, (driver, _))| driver),
            ..of.spec.clone()
        };
        let pid = self.start_process(Kind::Driver(at), host);
        self.listening.insert(address.clone(), pid);
        let hub = Hub::new(policy, &self.plan.apps[plan].stages, self.plan.audited);
        self.drivers.push(DriverProcess {
            plan,
            pid,
            worker: on.map(|(worker, _)| worker),
            driver: on.map(|(_, driver)| driver),
            address,
            spec,
            id: None,
            conn: None,
            welcome: false,
            welcome_since: u64::MAX,
            outgoing: VecDeque::new(),
            waits: String::new(),
            ending: false,
            left: false,
            since: Duration::ZERO,
            backoff: FIRST_WAIT,
            over: None,
            gone: false,
            hub,
            dynamic: dynamic.map(DynamicAllocation::new),
            wanted: None,
            excluded: Vec::new(),
            jobs: BTreeMap::new(),
            steps_left: steps.len() + 1,
        });
        self.driver_dials(at);
        self.after(pid, LOOK, Next::Look(pid));
        // The stages are described first.
        self.after(pid, 1000, Next::Step(pid, usize::MAX));
        for (place, (time, _)) in steps.iter().enumerate() {
            self.after(pid, 1000 + time, Next::Step(pid, place));
        }
        pid
    }

    pub fn driver_dials(&mut self, at: usize) {
        let driver = &self.drivers[at];
        if !driver.left {
            self.dial(driver.pid, Target::Master);
        }
    }

    pub fn driver_dialled(&mut self, at: usize, conn: Option<Conn>) {
        match conn {
            Some(conn) if self.drivers[at].left => self.close(conn, CLIENT),
            Some(conn) => {
                let driver = &mut self.drivers[at];
                (driver.conn, driver.welcome) = (Some(conn), false);
                let hello = Msg::AppHello(driver.id, Box::new(driver.spec.clone()));
                self.say(conn, CLIENT, hello);
            }
            None => self.driver_is_away(at),
        }
    }

    /// Without its master the driver tries again, for a while.
    fn driver_is_away(&mut self, at: usize) {
        let now = self.elapsed(self.drivers[at].pid);
        let driver = &mut self.drivers[at];
        if driver.left {
            return;
        }
        if now.saturating_sub(driver.since) > FIND_MASTER {
            self.driver_over(at, "no master".into());
            return;
        }
        let (pid, mut backoff) = (driver.pid, driver.backoff);
        let wait = self.backoff(&mut backoff, LONGEST_WAIT);
        self.drivers[at].backoff = backoff;
        self.after(pid, wait, Next::Retry(pid));
    }

    fn master_closed_driver(&mut self, at: usize) {
        let now = self.elapsed(self.drivers[at].pid);
        let driver = &mut self.drivers[at];
        if driver.welcome {
            (driver.since, driver.backoff) = (now, FIRST_WAIT);
        }
        (driver.conn, driver.welcome, driver.welcome_since) = (None, false, u64::MAX);
        if driver.ending {
            self.driver_leaves(at);
        } else {
            self.driver_is_away(at);
        }
    }

    pub fn driver_closed(&mut self, at: usize, conn: Conn) {
        if self.drivers[at].conn == Some(conn) {
            self.master_closed_driver(at);
        } else {
            self.hub_closed(at, conn);
        }
    }

    /// The connection with the master is needed no more; whoever waits for that goes on.
    fn driver_leaves(&mut self, at: usize) {
        let driver = &mut self.drivers[at];
        driver.left = true;
        let (conn, ending) = (driver.conn.take(), driver.ending);
        if let Some(conn) = conn {
            self.close(conn, CLIENT);
        }
        if ending {
            self.driver_exits(at);
        }
    }

    /// The application is over, and not by its own will.
    fn driver_over(&mut self, at: usize, why: String) {
        if self.drivers[at].over.is_some() || self.drivers[at].ending {
            return;
        }
        self.note(|| format!("driver {at} is over: {why}"));
        self.drivers[at].over = Some(why);
        self.driver_leaves(at);
        let jobs: Vec<_> = self.drivers[at].jobs.keys().copied().collect();
        for job in jobs {
            self.hub_cancels(at, job);
        }
        let (pid, wait) = (self.drivers[at].pid, self.rng.random_range(1000..100_000));
        self.at(self.now + wait, Next::Ends(pid, false, "its application is over"));
    }

    pub fn driver_hears(&mut self, at: usize, conn: Conn, msg: Msg) {
        if self.drivers[at].conn != Some(conn) {
            self.hub_hears(at, conn, msg);
            return;
        }
        match msg {
            Msg::Refused(why) if !self.drivers[at].ending => self.driver_over(at, why),
            Msg::Refused(_) => self.driver_leaves(at),
            Msg::News(news) => self.driver_obeys(at, news),
            _ => unreachable!("that is not for a driver: {msg:?}"),
        }
    }

    fn driver_obeys(&mut self, at: usize, news: AppNews) {
        match news {
            AppNews::Welcome(id) => {
                let driver = &mut self.drivers[at];
                (driver.id, driver.welcome, driver.welcome_since) = (Some(id), true, self.now);
                driver.waits.clear();
                if SAYS_AGAIN {
                    (driver.wanted, driver.excluded) = (None, Vec::new());
                }
                self.flush_reports(at);
            }
            AppNews::Granted { executor, worker, worker_address, cores } => {
                self.hub_granted(at, executor, worker, at_address(&worker_address), cores);
                if SAYS_AGAIN && self.drivers[at].hub.has(executor) {
                    self.driver_has(at, executor);
                }
            }
            AppNews::Has(executors) => self.hub_has_no_others(at, &executors),
            AppNews::Lost { executor, reason } => self.hub_gone(at, executor, &reason),
            AppNews::WorkerLost { worker, reason } => {
                self.counts.workers_lost += 1;
                self.hub_worker_lost(at, worker, reason);
            }
            AppNews::WorkerDraining(worker) => self.hub_drains(at, worker),
            AppNews::Waits(text) => self.drivers[at].waits = text,
            AppNews::Over(_) if self.drivers[at].ending => self.driver_leaves(at),
            AppNews::Over(why) => self.driver_over(at, why),
        }
    }

    pub fn driver_reports(&mut self, at: usize, report: Report) {
        self.drivers[at].outgoing.push_back(report);
        self.flush_reports(at);
    }

    fn flush_reports(&mut self, at: usize) {
        while self.drivers[at].welcome
            && let Some(conn) = self.drivers[at].conn
            && let Some(report) = self.drivers[at].outgoing.pop_front()
        {
            self.drivers[at].ending |= matches!(report, Report::Ended(_));
            self.say(conn, CLIENT, Msg::Report(report));
        }
    }

    /// The driver looks for what time alone changes, and for how many executors it wants.
    pub fn driver_looks(&mut self, at: usize) {
        let (pid, now) = (self.drivers[at].pid, self.elapsed(self.drivers[at].pid));
        self.after(pid, LOOK, Next::Look(pid));
        if self.drivers[at].hub.scheduler.next_tick().is_some_and(|at| at <= now) {
            self.tell_scheduler(at, Event::Tick);
        }
        let driver = &mut self.drivers[at];
        let excluded: Vec<_> = driver.hub.scheduler.excluded_workers().collect();
        if excluded != driver.excluded {
            driver.excluded.clone_from(&excluded);
            self.driver_reports(at, Report::Excludes(excluded));
        }
        for executor in self.drivers[at].hub.scheduler.drained().collect::<Vec<_>>() {
            self.driver_reports(at, Report::Releases(executor));
            self.hub_gone(at, executor, "its worker gets no more work");
        }
        let driver = &mut self.drivers[at];
        let Some(dynamic) = &mut driver.dynamic else { return };
        let cores = driver.spec.executor_cores.unwrap_or(1);
        let (backlog, executors) = driver.hub.load();
        let decision = dynamic.update(now, backlog, cores, executors);
        if driver.wanted != Some(decision.target) {
            driver.wanted = Some(decision.target);
            self.driver_reports(at, Report::Wants(decision.target));
        }
        for executor in decision.release {
            self.driver_reports(at, Report::Releases(executor));
            self.hub_gone(at, executor, "it was idle for long");
        }
    }

    /// An executor is ready.
    pub fn driver_has(&mut self, at: usize, executor: ExecutorId) {
        self.driver_reports(at, Report::Registered(executor));
    }

    pub fn driver_steps(&mut self, at: usize, step: usize) {
        let of = &self.plan.apps[self.drivers[at].plan];
        if self.drivers[at].over.is_some() {
            return;
        }
        self.drivers[at].steps_left -= 1;
        if step == usize::MAX {
            for (id, spec) in (0..).zip(of.stages.clone()) {
                self.tell_scheduler(at, Event::StageDefined { stage: StageId(id), spec });
            }
        } else {
            match of.steps[step].1 {
                Step::Run(job, stage) => self.hub_submits(at, job, stage),
                Step::Cancel(job) => self.hub_cancels(at, job),
                Step::Drop(stage) => self.hub_drops(at, stage),
            }
        }
        self.driver_may_end(at);
    }

    /// Ends the application once its program is through.
    pub fn driver_may_end(&mut self, at: usize) {
        let driver = &self.drivers[at];
        let runs = driver.steps_left > 0 || driver.jobs.values().any(Option::is_none);
        if runs || driver.ending || driver.over.is_some() || driver.gone {
            return;
        }
        let pid = driver.pid;
        let failed = driver.jobs.values().any(|end| *end == Some(JobEnd::Failed));
        // A driver that the master doesn't know has nobody to tell.
        if driver.id.is_none() {
            self.driver_exits(at);
            return;
        }
        self.driver_reports(at, Report::Ended(failed.then(|| "a job failed".into())));
        self.after(pid, FAREWELL, Next::FarewellEnds(pid));
    }

    pub fn driver_exits(&mut self, at: usize) {
        let driver = &self.drivers[at];
        if driver.gone || driver.over.is_some() {
            return;
        }
        let well = !driver.jobs.values().any(|end| *end == Some(JobEnd::Failed));
        let pid = driver.pid;
        self.process_ends(pid, well, "its program ended");
    }

    /// What is left once a driver's process is gone.
    pub fn driver_ended(&mut self, at: usize) {
        if std::mem::replace(&mut self.drivers[at].gone, true) {
            return;
        }
        let driver = &mut self.drivers[at];
        driver.conn = None;
        let (address, is_done) =
            (driver.address.clone(), driver.jobs.values().all(Option::is_some));
        driver.hub.clear();
        self.listening.remove(&address);
        match is_done && self.drivers[at].over.is_none() {
            true => self.counts.apps_done += 1,
            false => self.counts.apps_over += 1,
        }
    }
}
