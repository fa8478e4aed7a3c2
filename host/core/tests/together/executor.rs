//! An executor's process: `host/cluster/src/executor`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use ingle_core::ids::{StageId, TaskId, WorkerId};
use ingle_core::master::ExecutorName;
use ingle_core::scheduler::{Outcome, StageOutput, TaskEnd, TaskFailure};
use rand::Rng;

use crate::driver::Table;
use crate::net::{CLIENT, Conn, Kind, Msg, Pid, Target};
use crate::world::{Next, SECOND, World};

const FIRST_WAIT: u64 = SECOND / 50;
const LONGEST_WAIT: u64 = 2 * SECOND;
/// How long a driver is looked for.
const FIND_DRIVER: Duration = Duration::from_secs(20);
/// How long tasks that were told to stop may take to, at the end.
const GRACE: u64 = SECOND / 2;

struct Task {
    /// When it began, as its host's clock goes.
    began: Duration,
    /// Told to stop.
    killed: bool,
    /// The worker that it waits for, or waited for already.
    waited: Option<WorkerId>,
}

pub struct ExecutorProcess {
    pub pid: Pid,
    pub worker: usize,
    pub name: ExecutorName,
    /// Of its application.
    plan: usize,
    slots: u32,
    driver: String,
    conn: Option<Conn>,
    ending: bool,
    backoff: u64,
    queue: VecDeque<TaskId>,
    running: BTreeMap<TaskId, Task>,
    outputs: BTreeMap<StageId, Rc<Table>>,
    /// Stages that it was told to forget.
    forgotten: BTreeSet<StageId>,
    /// Workers that nobody need wait for.
    lost: BTreeSet<WorkerId>,
    /// What really succeeded here.
    pub succeeded: BTreeSet<TaskId>,
}

impl ExecutorProcess {
    pub fn clear(&mut self) {
        self.conn = None;
        self.queue.clear();
        self.running.clear();
        self.outputs.clear();
    }

    /// The workers that tasks wait for.
    pub fn waited_for(&self) -> impl Iterator<Item = WorkerId> {
        self.running.values().filter_map(|task| task.waited)
    }
}

/// What a task misses, and of which worker, and how long it takes to give it up.
type Missing = (u32, Outcome, WorkerId, u64);

impl World {
    pub fn executor_starts(
        &mut self,
        worker: usize,
        name: ExecutorName,
        slots: u32,
        driver: String,
    ) -> Pid {
        let at = self.executors.len();
        let pid = self.start_process(Kind::Executor(at), self.workers[worker].host);
        let of = self.drivers.iter().rfind(|of| of.address == driver);
        let plan = of.expect("the driver was there").plan;
        self.executors.push(ExecutorProcess {
            pid,
            worker,
            name,
            plan,
            slots,
            driver,
            conn: None,
            ending: false,
            backoff: FIRST_WAIT,
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            outputs: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            lost: BTreeSet::new(),
            succeeded: BTreeSet::new(),
        });
        // Some never get so far.
        let wait = self.rng.random_range(1000..50_000);
        if self.now < self.storm && self.rng.random_bool(self.weather.stillborn) {
            self.at(self.now + wait, Next::Ends(pid, false, "it didn't start"));
        } else {
            self.at(self.now + wait, Next::Retry(pid));
        }
        pid
    }

    pub fn executor_dials(&mut self, at: usize) {
        let (pid, driver) = (self.executors[at].pid, self.executors[at].driver.clone());
        self.dial(pid, Target::Driver(driver));
    }

    pub fn executor_dialled(&mut self, at: usize, conn: Option<Conn>) {
        let pid = self.executors[at].pid;
        match conn {
            Some(conn) => {
                let executor = &mut self.executors[at];
                executor.conn = Some(conn);
                let (id, slots) = (executor.name.1, executor.slots);
                self.say(conn, CLIENT, Msg::Register(id, slots));
            }
            None if self.elapsed(pid) > FIND_DRIVER => {
                self.process_ends(pid, false, "the driver can't be reached from this worker");
            }
            None => {
                let mut backoff = self.executors[at].backoff;
                let wait = self.backoff(&mut backoff, LONGEST_WAIT);
                self.executors[at].backoff = backoff;
                self.after(pid, wait, Next::Retry(pid));
            }
        }
    }

    pub fn executor_started(&mut self, at: usize) {
        let Some(conn) = self.executors[at].conn else { return };
        if self.now < self.storm && self.rng.random_bool(self.weather.stillborn) {
            self.say(conn, CLIENT, Msg::Broken);
            let pid = self.executors[at].pid;
            self.at(self.now + 50_000, Next::Ends(pid, false, "it can't load the job"));
        } else {
            self.say(conn, CLIENT, Msg::Ready);
        }
    }

    /// The driver wants it no more, or is gone: either way nobody waits for it.
    pub fn executor_closed(&mut self, at: usize, conn: Conn) {
        let executor = &mut self.executors[at];
        if executor.conn == Some(conn) {
            executor.conn = None;
            executor.ending = true;
            executor.queue.clear();
            let pid = executor.pid;
            let wait = self.rng.random_range(1..GRACE);
            self.at(self.now + wait, Next::Ends(pid, true, "it ended"));
        }
    }

    pub fn executor_hears(&mut self, at: usize, conn: Conn, msg: Msg) {
        if self.executors[at].conn != Some(conn) {
            return;
        }
        match msg {
            Msg::Welcome => {
                let (pid, most) = (self.executors[at].pid, self.weather.load.max(1001));
                let wait = self.rng.random_range(1000..most);
                self.at(self.now + wait, Next::ExecutorStarted(pid));
            }
            Msg::Outputs(stage, table) => drop(self.executors[at].outputs.insert(stage, table)),
            Msg::Launch(tasks) => {
                for launch in &tasks {
                    self.executors[at].forgotten.remove(&launch.task.stage);
                }
                self.executors[at].queue.extend(tasks.into_iter().map(|launch| launch.task));
                self.run_tasks(at);
            }
            Msg::Kill(task) => {
                let executor = &mut self.executors[at];
                let queued = executor.queue.len();
                executor.queue.retain(|queued| *queued != task);
                if executor.queue.len() < queued {
                    self.task_ended(at, task, Duration::ZERO, Outcome::Killed);
                } else if let Some(running) = executor.running.get_mut(&task) {
                    // It ends at its next call.
                    running.killed = true;
                    let pid = executor.pid;
                    let wait = self.rng.random_range(1..20_000);
                    self.at(self.now + wait, Next::TaskEnds(pid, task));
                }
            }
            Msg::WorkerLost(worker) => {
                let executor = &mut self.executors[at];
                executor.lost.insert(worker);
                let waits = |task: &Task| task.waited == Some(worker);
                let waiting = executor.running.iter().filter(|(_, task)| waits(task));
                let (pid, waiting): (_, Vec<_>) =
                    (executor.pid, waiting.map(|(task, _)| *task).collect());
                for task in waiting {
                    self.at(self.now, Next::TaskEnds(pid, task));
                }
            }
            Msg::Forget(stage) => {
                let executor = &mut self.executors[at];
                executor.outputs.remove(&stage);
                executor.forgotten.insert(stage);
                self.remove_output(at, stage);
            }
            _ => unreachable!("that is not for an executor: {msg:?}"),
        }
    }

    /// That of the other executors of its worker, too.
    fn remove_output(&mut self, at: usize, stage: StageId) {
        let executor = &self.executors[at];
        let folder = self.workers[executor.worker].folder.get_mut(&executor.name.0);
        if let Some(files) = folder {
            files.retain(|file| file.0 != stage);
            self.losses += 1;
        }
    }

    fn run_tasks(&mut self, at: usize) {
        while self.executors[at].running.len() < self.executors[at].slots as usize
            && let Some(task) = self.executors[at].queue.pop_front()
        {
            let pid = self.executors[at].pid;
            let began = self.elapsed(pid);
            let task_of = Task { began, killed: false, waited: None };
            self.executors[at].running.insert(task, task_of);
            let times = self.plan.apps[self.executors[at].plan].task_time;
            let slow = self.rng.random_bool(self.weather.slow);
            let time = self.rng.random_range(times.0..times.1) * if slow { 20 } else { 1 };
            self.after(pid, time, Next::TaskEnds(pid, task));
        }
    }

    pub fn task_ends(&mut self, at: usize, task: TaskId) {
        let executor = &self.executors[at];
        let Some(running) = executor.running.get(&task) else { return };
        let (pid, ran) = (executor.pid, self.elapsed(executor.pid) - running.began);
        let (waited, killed) = (running.waited, running.killed);
        if executor.ending {
            return;
        }
        let spec = &self.plan.apps[self.executors[at].plan].stages[task.stage.0 as usize];
        let (parents, output) = (spec.parents.clone(), spec.output);
        let mut outcome = if killed { Outcome::Killed } else { Outcome::Succeeded };
        if !killed {
            let missing = parents.iter().find_map(|parent| self.missing(at, *parent));
            if let Some((_, missed, worker, wait)) = missing {
                if wait > 0 && waited.is_none() {
                    if let Some(running) = self.executors[at].running.get_mut(&task) {
                        running.waited = Some(worker);
                    }
                    self.after(pid, wait, Next::TaskEnds(pid, task));
                    return;
                }
                outcome = missed;
            }
        }
        if matches!(outcome, Outcome::Succeeded) && self.now < self.storm {
            let good = self.rng.random_bool(self.weather.good_end);
            if self.rng.random_bool(self.weather.fails) {
                let full = self.rng.random_bool(0.1);
                let message = "bad luck".into();
                let failure = TaskFailure { message, retryable: good, executor_at_fault: full };
                outcome = Outcome::Failed(failure);
            } else if self.rng.random_bool(self.weather.kills_executor) {
                self.counts.executors_died += 1;
                self.process_ends(pid, false, "a task took it with it");
                return;
            }
        }
        self.executors[at].running.remove(&task);
        if matches!(outcome, Outcome::Succeeded) {
            let executor = &mut self.executors[at];
            if self.plan.audited {
                executor.succeeded.insert(task);
            }
            if output == StageOutput::Shuffle {
                let folder = self.workers[executor.worker].folder.get_mut(&executor.name.0);
                // Without its worker it writes in vain.
                if let Some(folder) = folder {
                    folder.insert((task.stage, task.partition, task.attempt));
                }
                if self.executors[at].forgotten.contains(&task.stage) {
                    self.remove_output(at, task.stage);
                }
            }
        }
        self.task_ended(at, task, ran, outcome);
        self.run_tasks(at);
    }

    fn task_ended(&mut self, at: usize, task: TaskId, run_time: Duration, outcome: Outcome) {
        if let Some(conn) = self.executors[at].conn {
            self.say(
                conn,
                CLIENT,
                Msg::Ended(vec![TaskEnd { task, run_time, outcome, stored: Vec::new() }]),
            );
        }
    }

    /// Looks whether the outputs of a stage are where the executor was told to look: gives the first that isn't.
    fn missing(&self, at: usize, stage: StageId) -> Option<Missing> {
        let executor = &self.executors[at];
        let (app, here) = (executor.name.0, executor.worker);
        let Some(table) = executor.outputs.get(&stage) else {
            panic!("an executor was never told where the output of {stage} is");
        };
        // Nothing went since this was looked at last.
        let is_known = |known: u64| !self.plan.audited && known == self.losses;
        if is_known(table.known.get()) && self.cuts.is_empty() && executor.lost.is_empty() {
            return None;
        }
        let mut first: Option<Missing> = None;
        for place in &table.places {
            let worker = &self.workers[place.worker];
            let reached = self.reaches(self.workers[here].host, worker.host);
            // One that has nothing of the application doesn't know its secret, and refuses.
            let answers = worker.pid.is_some() && worker.folder.contains_key(&app);
            let missing = if executor.lost.contains(&place.id) && place.worker != here {
                Some((place.outputs[0], true, 0))
            } else if !reached || (!answers && place.worker != here) {
                // Refused some times, or waited for as often.
                let wait = if reached { 7 * SECOND / 10 } else { 20 * SECOND };
                Some((place.outputs[0], true, wait))
            } else if is_known(place.known.get()) {
                None
            } else {
                let files = worker.folder.get(&app);
                let there = |partition: &u32| {
                    let (attempt, _) = table.outputs[*partition as usize];
                    files.is_some_and(|files| files.contains(&(stage, *partition, attempt)))
                };
                place.outputs.iter().find(|at| !there(at)).map(|at| (*at, false, 0))
            };
            match missing {
                None => place.known.set(self.losses),
                Some((at, whole, wait)) if first.as_ref().is_none_or(|first| at < first.0) => {
                    first = Some((at, table.missed(stage, at, whole), place.id, wait));
                }
                Some(_) => {}
            }
        }
        if first.is_none() {
            table.known.set(self.losses);
        }
        first
    }
}
