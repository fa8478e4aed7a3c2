//! A driver's executors and its scheduler: `host/cluster/src/driver/{server,application}.rs`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ingle_core::ids::{ExecutorId, JobId, StageId, TaskId, WorkerId};
use ingle_core::scheduler::{
    Action, Event, FailureCause, Outcome, Policy, Scheduler, StageOutput, StageSpec, TaskEnd,
};

use crate::audit::{Audit, Missed};
use crate::driver::JobEnd;
use crate::misfortune::CALM;
use crate::net::{CLIENT, Conn, Kind, Msg, Report, SERVER};
use crate::world::{Next, SECOND, World};

/// How long an executor may be early: before the master has said that it comes.
const EARLY: u64 = 5 * SECOND;

#[derive(Clone, Copy)]
struct Grant {
    worker: WorkerId,
    /// Where it serves.
    place: usize,
    cores: u32,
}

/// What an executor was told.
struct Told {
    conn: Conn,
    worker: WorkerId,
    described: BTreeSet<StageId>,
    /// Tasks that it was told to stop.
    killed: BTreeSet<TaskId>,
    outputs: BTreeMap<StageId, u64>,
}

/// Where a stage's outputs are.
#[derive(Debug)]
pub struct Table {
    /// By partition, the attempt and who made it.
    pub outputs: Vec<(u32, ExecutorId)>,
    pub places: Vec<Place>,
    /// All were there when so many losses had been.
    pub known: Cell<u64>,
}

/// The outputs on one worker.
#[derive(Debug)]
pub struct Place {
    pub worker: usize,
    pub id: WorkerId,
    pub outputs: Vec<u32>,
    pub known: Cell<u64>,
}

impl Table {
    /// What a task says of one that it missed.
    pub fn missed(&self, stage: StageId, partition: u32, whole: bool) -> Outcome {
        let (attempt, executor) = self.outputs[partition as usize];
        Outcome::FetchFailed { stage, partition, attempt, executor, whole }
    }
}

pub struct Hub {
    pub scheduler: Scheduler,
    granted: BTreeMap<ExecutorId, Grant>,
    attached: BTreeMap<ExecutorId, Conn>,
    gone: BTreeSet<ExecutorId>,
    /// Those that wait for their grant, and their slots.
    early: BTreeMap<Conn, (ExecutorId, u32)>,
    listened: BTreeMap<Conn, (ExecutorId, Grant)>,
    executors: BTreeMap<ExecutorId, Told>,
    makers: BTreeMap<ExecutorId, (usize, WorkerId)>,
    tables: BTreeMap<StageId, (u64, Rc<Table>)>,
    /// The workers where executors have, or had, tasks of a stage that shuffles.
    written: BTreeMap<StageId, BTreeSet<WorkerId>>,
    /// Stages that are to be forgotten, of which there may be output on a worker without executors.
    left: BTreeMap<WorkerId, BTreeSet<StageId>>,
    /// Stages whose output is to go, and since when.
    pub dropped: BTreeMap<StageId, u64>,
    /// Shuffle tasks whose changes to accumulators were counted.
    counted: BTreeSet<(StageId, u32)>,
    /// Workers that were lost, and since when that is known.
    pub lost: BTreeMap<WorkerId, u64>,
    /// Which results each job has.
    results: BTreeMap<JobId, Vec<bool>>,
    audit: Option<Audit>,
    events: u64,
}

impl Hub {
    pub fn new(policy: Policy, stages: &[StageSpec], audited: bool) -> Self {
        Self {
            audit: audited.then(|| Audit::new(stages.to_vec(), policy.clone())),
            scheduler: Scheduler::new(policy),
            granted: BTreeMap::new(),
            attached: BTreeMap::new(),
            gone: BTreeSet::new(),
            early: BTreeMap::new(),
            listened: BTreeMap::new(),
            executors: BTreeMap::new(),
            makers: BTreeMap::new(),
            tables: BTreeMap::new(),
            written: BTreeMap::new(),
            left: BTreeMap::new(),
            dropped: BTreeMap::new(),
            counted: BTreeSet::new(),
            lost: BTreeMap::new(),
            results: BTreeMap::new(),
            events: 0,
        }
    }

    /// Tasks that run or could, and the executors that take tasks, each with whether it is idle.
    pub fn load(&self) -> (u64, Vec<(ExecutorId, bool)>) {
        let takes = self.executors.keys().filter(|id| !self.scheduler.is_draining(**id));
        let idle = |id: &ExecutorId| (*id, self.scheduler.is_idle(*id));
        (self.scheduler.backlog(), takes.map(idle).collect())
    }

    /// The executors that come and aren't there yet.
    pub fn awaited(&self) -> impl Iterator<Item = ExecutorId> {
        self.granted.keys().copied().filter(|id| !self.attached.contains_key(id))
    }

    /// Whether they are all ready.
    pub fn has_all(&self, executors: &BTreeSet<ExecutorId>) -> bool {
        executors.iter().all(|id| self.has(*id))
    }

    /// Whether an executor is ready.
    pub fn has(&self, executor: ExecutorId) -> bool {
        self.executors.contains_key(&executor)
    }

    /// The executors that come, or are there.
    pub fn granted(&self) -> BTreeSet<ExecutorId> {
        self.granted.keys().copied().collect()
    }

    /// The executors that are there, and their connections.
    pub fn executors(&self) -> impl Iterator<Item = (ExecutorId, Conn)> {
        self.executors.iter().map(|(id, told)| (*id, told.conn))
    }

    /// The workers that outputs are on which the scheduler believes in.
    pub fn output_workers(&self) -> BTreeSet<WorkerId> {
        let outputs = self.tables.keys().filter_map(|stage| self.scheduler.outputs(*stage));
        outputs.flatten().filter_map(|(.., maker)| self.makers.get(&maker)).map(|at| at.1).collect()
    }

    /// Its process is gone.
    pub fn clear(&mut self) {
        self.granted.clear();
        self.attached.clear();
        self.early.clear();
        self.listened.clear();
        self.executors.clear();
        self.tables.clear();
        self.results.clear();
        self.counted.clear();
    }
}

impl World {
    pub fn hub_granted(
        &mut self,
        at: usize,
        executor: ExecutorId,
        worker: WorkerId,
        place: usize,
        cores: u32,
    ) {
        let hub = &mut self.drivers[at].hub;
        if hub.gone.contains(&executor) {
            // The master hasn't heard of that yet, or never will.
            self.driver_reports(at, Report::Releases(executor));
            return;
        }
        hub.granted.insert(executor, Grant { worker, place, cores });
        let early = hub.early.iter().find(|(_, (id, _))| *id == executor);
        if let Some((conn, (_, slots))) = early.map(|(conn, early)| (*conn, *early)) {
            hub.early.remove(&conn);
            self.attach(at, conn, executor, slots);
        }
    }

    /// An executor is gone, or goes.
    pub fn hub_gone(&mut self, at: usize, executor: ExecutorId, reason: &str) {
        let hub = &mut self.drivers[at].hub;
        hub.gone.insert(executor);
        hub.granted.remove(&executor);
        hub.executors.remove(&executor);
        let attached = hub.attached.remove(&executor);
        let reason = reason.to_owned();
        self.tell_scheduler(at, Event::ExecutorLost { executor, reason, outputs_lost: false });
        if let Some(conn) = attached {
            self.drivers[at].hub.listened.remove(&conn);
            self.close(conn, SERVER);
        }
    }

    /// Whatever isn't among these and isn't attached will never be.
    pub fn hub_has_no_others(&mut self, at: usize, executors: &BTreeSet<ExecutorId>) {
        let hub = &self.drivers[at].hub;
        let gone = hub.granted.keys().copied();
        let gone = gone.filter(|id| !executors.contains(id) && !hub.attached.contains_key(id));
        for executor in gone.collect::<Vec<_>>() {
            self.hub_gone(at, executor, "it was lost before the driver came back");
        }
    }

    pub fn hub_worker_lost(&mut self, at: usize, worker: WorkerId, reason: String) {
        let hub = &mut self.drivers[at].hub;
        hub.lost.entry(worker).or_insert(self.now);
        hub.left.remove(&worker);
        for workers in hub.written.values_mut() {
            workers.remove(&worker);
        }
        let conns: Vec<_> = hub.executors.values().map(|told| told.conn).collect();
        for conn in conns {
            self.say(conn, SERVER, Msg::WorkerLost(worker));
        }
        self.tell_scheduler(at, Event::WorkerLost { worker, reason });
    }

    pub fn hub_drains(&mut self, at: usize, worker: WorkerId) {
        self.tell_scheduler(at, Event::WorkerDraining { worker });
    }

    pub fn hub_closed(&mut self, at: usize, conn: Conn) {
        self.drivers[at].hub.early.remove(&conn);
        if let Some((executor, _)) = self.drivers[at].hub.listened.remove(&conn) {
            self.hub_gone(at, executor, "it closed its connection");
        }
    }

    fn attach(&mut self, at: usize, conn: Conn, executor: ExecutorId, slots: u32) {
        let grant = self.drivers[at].hub.granted[&executor];
        let hub = &mut self.drivers[at].hub;
        if slots != grant.cores || hub.attached.contains_key(&executor) {
            self.close(conn, SERVER);
            return;
        }
        hub.attached.insert(executor, conn);
        hub.listened.insert(conn, (executor, grant));
        // It would look for its inputs in another application's folder, and others for its output elsewhere.
        let Kind::Executor(place) = self.processes[self.at_end(conn, CLIENT)].kind else {
            unreachable!("only executors register")
        };
        let process = &self.executors[place];
        let granted = (self.drivers[at].id, executor, grant.place);
        let is = (Some(process.name.0), process.name.1, process.worker);
        assert_eq!(is, granted, "an executor of another application is taken for one's own");
        self.say(conn, SERVER, Msg::Welcome);
    }

    pub fn not_granted(&mut self, at: usize, conn: Conn) {
        if self.drivers[at].hub.early.remove(&conn).is_some() {
            self.close(conn, SERVER);
        }
    }

    pub fn hub_hears(&mut self, at: usize, conn: Conn, msg: Msg) {
        if let Msg::Register(executor, slots) = msg {
            if self.drivers[at].hub.granted.contains_key(&executor) {
                self.attach(at, conn, executor, slots);
            } else {
                self.drivers[at].hub.early.insert(conn, (executor, slots));
                let pid = self.drivers[at].pid;
                self.after(pid, EARLY, Next::NotGranted(pid, conn));
            }
            return;
        }
        let Some((executor, grant)) = self.drivers[at].hub.listened.get(&conn).copied() else {
            return;
        };
        match msg {
            Msg::Ready => {
                let (slots, worker) = (grant.cores, grant.worker);
                let (described, outputs) = (BTreeSet::new(), BTreeMap::new());
                let hub = &mut self.drivers[at].hub;
                hub.executors.insert(
                    executor,
                    Told { conn, worker, described, killed: BTreeSet::new(), outputs },
                );
                hub.makers.insert(executor, (grant.place, grant.worker));
                for stage in hub.left.remove(&worker).unwrap_or_default() {
                    self.say(conn, SERVER, Msg::Forget(stage));
                }
                self.tell_scheduler(at, Event::ExecutorAdded { executor, slots, worker });
                self.driver_has(at, executor);
                let all = self.drivers.iter().map(|driver| driver.hub.executors.len()).sum();
                self.counts.executors = self.counts.executors.max(all);
            }
            Msg::Broken => {
                self.drivers[at].hub.listened.remove(&conn);
                self.hub_gone(at, executor, "it can't load the job");
            }
            Msg::Ended(ended) => {
                self.counts.tasks += ended.len() as u64;
                // What is given up may go before all who read it have heard that they are to stop.
                let killed = self.drivers[at].hub.executors.get(&executor).map(|told| &told.killed);
                let wanted = |end: &&TaskEnd| killed.is_none_or(|k| !k.contains(&end.task));
                let missed = |end: &&TaskEnd| matches!(end.outcome, Outcome::FetchFailed { .. });
                self.counts.misses += ended.iter().filter(missed).filter(wanted).count() as u32;
                self.tell_scheduler(at, Event::TasksEnded { executor, ended });
            }
            _ => unreachable!("that is not for a driver: {msg:?}"),
        }
    }

    pub fn hub_submits(&mut self, at: usize, job: JobId, stage: StageId) {
        let driver = &mut self.drivers[at];
        if driver.hub.scheduler.check_job(job, stage).is_err() {
            return;
        }
        driver.jobs.insert(job, None);
        let tasks = self.plan.apps[driver.plan].stages[stage.0 as usize].tasks;
        driver.hub.results.insert(job, vec![false; tasks as usize]);
        if let Some(audit) = &mut driver.hub.audit {
            audit.submitted(job, stage);
        }
        self.tell_scheduler(at, Event::JobSubmitted { job, stage });
    }

    pub fn hub_cancels(&mut self, at: usize, job: JobId) {
        if let Some(audit) = &mut self.drivers[at].hub.audit {
            audit.cancelled(job);
        }
        self.tell_scheduler(at, Event::JobCancelled { job });
    }

    pub fn hub_drops(&mut self, at: usize, stage: StageId) {
        if let Some(audit) = &mut self.drivers[at].hub.audit {
            audit.dropped(stage);
        }
        self.tell_scheduler(at, Event::StageDropped { stage });
    }

    /// Feeds a driver's scheduler an event, checks what comes of it, and does what it says.
    pub fn tell_scheduler(&mut self, at: usize, event: Event) {
        let now = self.elapsed(self.drivers[at].pid);
        self.note(|| format!("driver {at}: {event:?}"));
        let missed = missed(&event);
        let hub = &mut self.drivers[at].hub;
        hub.before(&event, &missed);
        let mut actions = Vec::new();
        hub.scheduler.handle(now, event, &mut actions);
        self.counts.to_schedulers += 1;
        hub.events += 1;
        if hub.audit.is_some() || hub.events.is_multiple_of(100_000) {
            hub.scheduler.check();
        }
        self.digest(&actions);
        for action in actions {
            self.note(|| format!("driver {at}:   {action:?}"));
            if let Some(audit) = &mut self.drivers[at].hub.audit {
                audit.action(&action);
            }
            self.scheduler_acts(at, action);
        }
        let hub = &mut self.drivers[at].hub;
        if let Some(audit) = &mut hub.audit {
            // Output may have been accepted and missed in one report.
            missed.iter().for_each(|missed| audit.missed(missed));
            if hub.events.is_multiple_of(4) {
                audit.check_outputs(&hub.scheduler);
            }
        }
        self.driver_may_end(at);
    }

    fn scheduler_acts(&mut self, at: usize, action: Action) {
        match action {
            Action::Launch { executor, tasks } => {
                let stages: BTreeSet<_> = tasks.iter().map(|launch| launch.task.stage).collect();
                for stage in stages {
                    self.describe(at, executor, stage);
                }
                let told = self.drivers[at].hub.executors.get(&executor);
                let conn = told.expect("a launch goes to an executor that is there").conn;
                self.say(conn, SERVER, Msg::Launch(tasks));
            }
            Action::Kill { executor, task } => {
                if let Some(told) = self.drivers[at].hub.executors.get_mut(&executor) {
                    told.killed.insert(task);
                    let conn = told.conn;
                    self.say(conn, SERVER, Msg::Kill(task));
                }
            }
            Action::Accept { job, task, executor } => self.accept(at, job, task, executor),
            Action::DropOutput { stage } | Action::StageForgotten { stage } => {
                self.forget_at_executors(at, stage);
                self.drivers[at].hub.dropped.insert(stage, self.now);
            }
            Action::JobFinished { job, .. } => {
                let results = self.drivers[at].hub.results.remove(&job);
                let results = results.unwrap_or_else(|| panic!("{job} finished twice"));
                assert!(results.iter().all(|there| *there), "{job} lacks results");
                self.counts.jobs_finished += 1;
                self.job_ended(at, job, JobEnd::Finished);
            }
            Action::JobFailed { failure } => {
                self.drivers[at].hub.results.remove(&failure.job);
                // A few files may be gone that nobody looked for until now.
                let fair = matches!(failure.cause, FailureCause::Cancelled)
                    || matches!(failure.cause, FailureCause::InputLost { .. });
                assert!(fair || self.now < self.storm + CALM, "when all is calm, {failure}");
                if failure.cause == FailureCause::Cancelled {
                    self.counts.jobs_cancelled += 1;
                    self.job_ended(at, failure.job, JobEnd::Cancelled);
                } else {
                    self.counts.jobs_failed += 1;
                    self.job_ended(at, failure.job, JobEnd::Failed);
                }
            }
            Action::Refused(refusal) => panic!("{refusal}"),
            _ => {}
        }
    }

    fn forget_at_executors(&mut self, at: usize, stage: StageId) {
        let hub = &mut self.drivers[at].hub;
        let mut left = hub.written.remove(&stage).unwrap_or_default();
        let mut conns = Vec::new();
        for told in hub.executors.values_mut() {
            if told.outputs.remove(&stage).is_some() | told.described.remove(&stage) {
                conns.push(told.conn);
                left.remove(&told.worker);
            }
        }
        let others = hub.executors.values().filter(|told| left.remove(&told.worker));
        conns.extend(others.map(|told| told.conn));
        for worker in left {
            hub.left.entry(worker).or_default().insert(stage);
        }
        for conn in conns {
            self.say(conn, SERVER, Msg::Forget(stage));
        }
    }

    fn job_ended(&mut self, at: usize, job: JobId, end: JobEnd) {
        let before = self.drivers[at].jobs.insert(job, Some(end));
        assert_eq!(before, Some(None), "{job} ended twice");
    }

    /// Takes what a task made: from an executor that is there, which really made it, and never twice.
    fn accept(&mut self, at: usize, job: JobId, task: TaskId, executor: ExecutorId) {
        let hub = &mut self.drivers[at].hub;
        let told = hub.executors.get(&executor);
        let told =
            told.unwrap_or_else(|| panic!("{task} is accepted of {executor}, which is gone"));
        let (conn, stages) = (told.conn, &self.plan.apps[self.drivers[at].plan].stages);
        let hub = &mut self.drivers[at].hub;
        match stages[task.stage.0 as usize].output {
            StageOutput::Shuffle => drop(hub.counted.insert((task.stage, task.partition))),
            StageOutput::Results => {
                let results = hub.results.get_mut(&job);
                let results = results.unwrap_or_else(|| panic!("{task} is a result of no {job}"));
                let there = std::mem::replace(&mut results[task.partition as usize], true);
                assert!(!there, "{task} is counted twice");
            }
        }
        let Kind::Executor(place) = self.processes[self.at_end(conn, CLIENT)].kind else { return };
        let made = !self.plan.audited || self.executors[place].succeeded.contains(&task);
        assert!(made, "{task} never succeeded on {executor}");
    }

    /// Makes sure that an executor knows where the inputs of a stage are now.
    fn describe(&mut self, at: usize, executor: ExecutorId, stage: StageId) {
        let driver = &mut self.drivers[at];
        let spec = &self.plan.apps[driver.plan].stages[stage.0 as usize];
        let hub = &mut driver.hub;
        let Some(told) = hub.executors.get_mut(&executor) else { return };
        let conn = told.conn;
        let mut news = Vec::new();
        for &parent in &spec.parents {
            let version = hub.scheduler.outputs_version(parent);
            if told.outputs.insert(parent, version) == Some(version) {
                continue;
            }
            let known = hub.tables.get(&parent).filter(|(of, _)| *of == version);
            let table = match known {
                Some((_, table)) => table.clone(),
                None => {
                    let tasks = self.plan.apps[driver.plan].stages[parent.0 as usize].tasks;
                    let table = Rc::new(table(&hub.scheduler, parent, tasks, &hub.makers));
                    hub.tables.insert(parent, (version, table.clone()));
                    table
                }
            };
            news.push((parent, table));
        }
        hub.dropped.remove(&stage);
        if told.described.insert(stage)
            && spec.output == StageOutput::Shuffle
            && hub.written.entry(stage).or_default().insert(told.worker)
            && let Some(left) = hub.left.get_mut(&told.worker)
        {
            left.remove(&stage);
        }
        for (parent, table) in news {
            self.say(conn, SERVER, Msg::Outputs(parent, table));
        }
    }
}

fn table(
    scheduler: &Scheduler,
    stage: StageId,
    tasks: u32,
    makers: &BTreeMap<ExecutorId, (usize, WorkerId)>,
) -> Table {
    let mut table = Table { outputs: Vec::new(), places: Vec::new(), known: Cell::new(0) };
    let mut places: BTreeMap<(usize, WorkerId), Vec<u32>> = BTreeMap::new();
    for (partition, attempt, executor) in scheduler.outputs(stage).expect("an input") {
        assert_eq!(partition as usize, table.outputs.len(), "the outputs are in order");
        table.outputs.push((attempt, executor));
        places.entry(makers[&executor]).or_default().push(partition);
    }
    assert_eq!(table.outputs.len(), tasks as usize, "a task runs without all of {stage}");
    let place = |((worker, id), outputs)| Place { worker, id, outputs, known: Cell::new(0) };
    table.places = places.into_iter().map(place).collect();
    table
}

/// The outputs that an event says are missing.
fn missed(event: &Event) -> Vec<Missed> {
    let Event::TasksEnded { ended, .. } = event else { return Vec::new() };
    let missed = ended.iter().filter_map(|end| match end.outcome {
        Outcome::FetchFailed { stage, partition, attempt, executor, whole } => {
            Some(Missed { stage, partition, at: (executor, attempt), whole })
        }
        _ => None,
    });
    missed.collect()
}

impl Hub {
    /// Books what the scheduler is about to be told.
    fn before(&mut self, event: &Event, missed: &[Missed]) {
        let Some(audit) = &mut self.audit else { return };
        match event {
            Event::ExecutorAdded { executor, slots, worker } => {
                audit.executor_added(*executor, *slots, *worker);
            }
            Event::ExecutorLost { executor, .. } => audit.executor_gone(*executor),
            Event::WorkerDraining { worker } => audit.worker_drains(*worker),
            Event::WorkerLost { worker, .. } => {
                let makers = &self.makers;
                let there = |id: &ExecutorId| makers.get(id).is_some_and(|at| at.1 == *worker);
                audit.lost(|_, _, at| there(&at.0));
                for id in makers.keys().filter(|id| there(id)) {
                    audit.executor_gone(*id);
                }
                audit.worker_gone(*worker);
            }
            Event::TasksEnded { executor, ended } => {
                ended.iter().for_each(|end| audit.ended(*executor, end.task));
                let successes = ended.iter().filter(|e| matches!(e.outcome, Outcome::Succeeded));
                successes.for_each(|end| audit.succeeded(end.task));
            }
            _ => {}
        }
        missed.iter().for_each(|missed| audit.missed(missed));
    }
}
