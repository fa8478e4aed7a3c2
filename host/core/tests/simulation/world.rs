//! Executors, a network between them and the scheduler, and a clock.

mod misfortune;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ingle_core::ids::{CacheId, ExecutorId, JobId, StageId, TaskId, WorkerId};
use ingle_core::scheduler::{
    Action, Event, Outcome, Refusal, Scheduler, StageSpec, TaskEnd, TaskFailure,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::audit::{Audit, End, Location, Missed};
use crate::plan::{self, Weather};

/// How long misfortune lasts; later, everything has to come to its end.
const STORM_MICROS: u64 = 200_000;
const MOST_EVENTS: usize = 200_000;

struct QueuedTask {
    task: TaskId,
    inputs: Vec<(StageId, u32, Location)>,
}

#[derive(Default)]
struct Executor {
    slots: usize,
    queue: VecDeque<QueuedTask>,
    running: BTreeMap<TaskId, Outcome>,
    outbox: Vec<TaskEnd>,
    /// Most tasks fail here.
    bad: bool,
}

/// Something that will happen.
enum Next {
    Tell(Event),
    Ends(ExecutorId, TaskId),
    KillArrives(ExecutorId, TaskId),
    Report(ExecutorId),
    Lose(ExecutorId),
    LoseWorker(WorkerId),
    Drain(ExecutorId),
    /// One that drains goes, if it is idle.
    Retire(ExecutorId),
    Tick,
    Rot,
}

pub struct World {
    rng: SmallRng,
    weather: Weather,
    print: bool,
    scheduler: Scheduler,
    audit: Audit,
    now: Duration,
    agenda: BTreeMap<(Duration, u64), Next>,
    entries: u64,
    executors: BTreeMap<ExecutorId, Executor>,
    executors_ever: u32,
    workers_ever: u32,
    /// Where executors are or were.
    homes: BTreeMap<ExecutorId, WorkerId>,
    bad: BTreeSet<ExecutorId>,
    /// When the next tick comes.
    tick_at: Option<Duration>,
    /// Outputs that are gone, whether anyone knows or not.
    rotten: BTreeSet<(StageId, u32, u32)>,
}

impl World {
    pub fn new(seed: u64, weather: Weather, print: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let policy = plan::policy(&mut rng);
        let stages = plan::stages(&mut rng);
        let mut world = Self {
            rng,
            weather,
            print,
            scheduler: Scheduler::new(policy.clone()),
            audit: Audit::new(stages.clone(), policy),
            now: Duration::ZERO,
            agenda: BTreeMap::new(),
            entries: 0,
            executors: BTreeMap::new(),
            executors_ever: 0,
            workers_ever: 3,
            homes: BTreeMap::new(),
            bad: BTreeSet::new(),
            tick_at: None,
            rotten: BTreeSet::new(),
        };
        world.plan_driver(&stages);
        world.plan_executors();
        world
    }

    fn plan_driver(&mut self, stages: &[StageSpec]) {
        for (id, spec) in (0..).zip(stages) {
            self.at(0, Next::Tell(Event::StageDefined { stage: StageId(id), spec: spec.clone() }));
        }
        let mut time = 0;
        for job in 0..self.rng.random_range(1..6) {
            time += self.rng.random_range(0..20_000);
            let any = self.rng.random_range(0..stages.len());
            let last = job == 0 || self.rng.random_bool(0.5);
            let stage = StageId(if last { stages.len() - 1 } else { any } as u32);
            self.at(time, Next::Tell(Event::JobSubmitted { job: JobId(job), stage }));
            if self.rng.random_bool(self.weather.cancelled) {
                let later = time + self.rng.random_range(0..30_000);
                self.at(later, Next::Tell(Event::JobCancelled { job: JobId(job) }));
            }
        }
        for stage in 0..stages.len() as u32 {
            if self.rng.random_bool(self.weather.cancelled) {
                let time = self.rng.random_range(0..STORM_MICROS);
                self.at(time, Next::Tell(Event::StageDropped { stage: StageId(stage) }));
            }
        }
    }

    fn plan_executors(&mut self) {
        for _ in 0..self.rng.random_range(1..6) {
            let time = self.rng.random_range(0..5_000);
            self.plan_executor(time);
        }
        for time in (0..STORM_MICROS).step_by(5_000) {
            if self.rng.random_bool(self.weather.rots) {
                self.at(time, Next::Rot);
            }
            if self.rng.random_bool(self.weather.worker_lost / 10.0) {
                let worker = WorkerId(self.rng.random_range(1..=self.workers_ever));
                self.at(time, Next::LoseWorker(worker));
            }
            if self.rng.random_bool(self.weather.nonsense) {
                let event = self.nonsense();
                self.at(time, Next::Tell(event));
            }
        }
        // Whatever happens, someone is there in the end, where nobody else ever is.
        let executor = self.new_executor();
        let worker = WorkerId(1000);
        self.at(STORM_MICROS, Next::Tell(Event::ExecutorAdded { executor, slots: 2, worker }));
    }

    fn new_executor(&mut self) -> ExecutorId {
        self.executors_ever += 1;
        ExecutorId(self.executors_ever)
    }

    fn new_worker(&mut self) -> WorkerId {
        self.workers_ever += 1;
        WorkerId(self.workers_ever)
    }

    fn plan_executor(&mut self, time: u64) {
        let executor = self.new_executor();
        let slots = self.rng.random_range(1..5);
        let worker = match self.rng.random_bool(0.2) {
            true => self.new_worker(),
            false => WorkerId(self.rng.random_range(1..=self.workers_ever)),
        };
        if self.rng.random_bool(self.weather.bad_executor) {
            self.bad.insert(executor);
        }
        self.at(time, Next::Tell(Event::ExecutorAdded { executor, slots, worker }));
        if time < STORM_MICROS && self.rng.random_bool(self.weather.lost) {
            let lost = time + self.rng.random_range(0..50_000);
            self.at(lost, Next::Lose(executor));
            let again = lost + self.rng.random_range(0..20_000);
            self.plan_executor(again);
        }
        if time < STORM_MICROS && self.rng.random_bool(self.weather.drained) {
            let drained = time + self.rng.random_range(0..50_000);
            self.at(drained, Next::Drain(executor));
            self.plan_executor(drained);
        }
    }

    fn at(&mut self, micros: u64, next: Next) {
        self.entries += 1;
        self.agenda.insert((Duration::from_micros(micros), self.entries), next);
    }

    fn after(&mut self, micros: u64, next: Next) {
        let time = self.now.as_micros() as u64 + micros;
        self.at(time, next);
    }

    /// Lets everything happen.
    pub fn run(mut self) -> End {
        let mut steps = 0;
        while let Some(((now, _), next)) = self.agenda.pop_first() {
            steps += 1;
            assert!(steps < MOST_EVENTS, "no end in sight");
            self.now = now;
            match next {
                Next::Tell(event) => self.tell(event),
                Next::Ends(executor, task) => self.ends(executor, task),
                Next::KillArrives(executor, task) => self.kill(executor, task),
                Next::Report(executor) => self.report(executor),
                Next::Lose(executor) => self.lose(executor),
                Next::LoseWorker(worker) => self.lose_worker(worker),
                Next::Drain(executor) => self.drain(executor),
                Next::Retire(executor) => self.retire(executor),
                Next::Rot => self.rot(),
                Next::Tick => self.tick(),
            }
        }
        assert_eq!(self.audit.live_jobs(), [], "jobs without end");
        for (id, executor) in &self.executors {
            assert!(executor.queue.is_empty() && executor.running.is_empty(), "{id} is busy");
        }
        self.audit.end
    }

    /// Tells the scheduler, checks it, and does what it says.
    fn tell(&mut self, event: Event) {
        if self.print {
            println!("{:?} {event:?}", self.now);
        }
        match &event {
            Event::ExecutorAdded { executor, slots, worker } => {
                self.audit.executor_added(*executor, *slots, *worker);
                self.homes.insert(*executor, *worker);
                let (slots, bad) = (*slots as usize, self.bad.contains(executor));
                self.executors.insert(*executor, Executor { slots, bad, ..Executor::default() });
            }
            Event::WorkerLost { worker, .. } => {
                let homes = &self.homes;
                self.audit.lost(|_, _, at| homes.get(&at.0) == Some(worker));
                self.audit.worker_gone(*worker);
            }
            Event::WorkerDraining { worker } => self.audit.worker_drains(*worker),
            Event::ExecutorLost { executor, outputs_lost: true, .. } => {
                self.audit.lost(|_, _, at| at.0 == *executor);
            }
            Event::JobSubmitted { job, stage } => self.submit(*job, *stage),
            Event::JobCancelled { job } => self.audit.cancelled(*job),
            Event::StageDropped { stage } => self.audit.dropped(*stage),
            Event::TasksEnded { executor, ended } => {
                ended.iter().for_each(|end| self.audit.ended(*executor, end.task));
                let successes = ended.iter().filter(|e| matches!(e.outcome, Outcome::Succeeded));
                successes.for_each(|end| self.audit.succeeded(end.task));
            }
            Event::OutputLost { stage, partitions } => {
                self.audit.lost(|of, partition, _| of == *stage && partitions.contains(&partition));
            }
            _ => {}
        }
        let missed = missed(&event);
        missed.iter().for_each(|missed| self.audit.missed(missed));
        let mut actions = Vec::new();
        self.scheduler.handle(self.now, event, &mut actions);
        self.scheduler.check();
        for action in actions {
            let line = format!("{:?}   {action:?}", self.now);
            if self.print {
                println!("{line}");
            }
            self.audit.end.log.push(line);
            self.audit.action(&action);
            self.carry_out(action);
        }
        // Output may have been accepted and missed in one report.
        missed.iter().for_each(|missed| self.audit.missed(missed));
        if self.entries.is_multiple_of(4) {
            self.audit.check_outputs(&self.scheduler);
        }
        self.plan_tick();
    }

    /// Ticks when the scheduler wants it.
    fn plan_tick(&mut self) {
        if let Some(at) = self.scheduler.next_tick()
            && self.tick_at.is_none_or(|planned| at < planned)
        {
            self.tick_at = Some(at.max(self.now));
            self.at(at.as_nanos().div_ceil(1_000) as u64, Next::Tick);
        }
    }

    fn tick(&mut self) {
        self.tick_at = None;
        self.tell(Event::Tick);
        let next = self.scheduler.next_tick();
        assert!(
            next.is_none_or(|at| at > self.now),
            "a tick at {:?} doesn't help: {next:?}",
            self.now
        );
    }

    fn submit(&mut self, job: JobId, stage: StageId) {
        match self.scheduler.check_job(job, stage) {
            Ok(()) => self.audit.submitted(job, stage),
            Err(
                Refusal::NoSuchStage { .. }
                | Refusal::NoResults { .. }
                | Refusal::JobIdTaken { .. },
            ) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Launch { executor, tasks } => {
                for launch in tasks {
                    let task = launch.task;
                    let inputs = self.audit.inputs(&self.scheduler, task.stage);
                    let at = self
                        .executors
                        .get_mut(&executor)
                        .expect("a launch goes to a live executor");
                    at.queue.push_back(QueuedTask { task, inputs });
                }
                self.start(executor);
            }
            Action::Kill { executor, task } => {
                let delay = self.rng.random_range(0..2_000);
                self.after(delay, Next::KillArrives(executor, task));
            }
            _ => {}
        }
    }

    fn start(&mut self, id: ExecutorId) {
        while let Some(executor) = self.executors.get_mut(&id)
            && executor.running.len() < executor.slots
            && let Some(queued) = executor.queue.pop_front()
        {
            let bad = executor.bad;
            let (outcome, micros) = self.fate(&queued, bad);
            let storm = self.now.as_micros() < u128::from(STORM_MICROS);
            if storm && self.rng.random_bool(self.weather.kills_executor) {
                self.after(micros / 2, Next::Lose(id));
                let again = self.now.as_micros() as u64 + micros;
                self.plan_executor(again);
            }
            if let Some(executor) = self.executors.get_mut(&id) {
                executor.running.insert(queued.task, outcome);
            }
            self.after(micros, Next::Ends(id, queued.task));
        }
    }

    fn fate(&mut self, queued: &QueuedTask, bad: bool) -> (Outcome, u64) {
        let slow = self.rng.random_bool(self.weather.slow);
        let micros = self.rng.random_range(1..300) * if slow { 100 } else { 1 };
        let is_gone = |&(stage, partition, (_, attempt)): &(StageId, u32, Location)| {
            self.rotten.contains(&(stage, partition, attempt))
        };
        if let Some((stage, partition, (executor, attempt))) =
            queued.inputs.iter().find(|i| is_gone(i)).copied()
        {
            let whole = self.rng.random_bool(0.5);
            let missed = Outcome::FetchFailed { stage, partition, attempt, executor, whole };
            return (missed, micros);
        }
        if self.rng.random_bool(self.weather.disk_full) {
            let message = "the disk is full".into();
            let failure = TaskFailure { message, retryable: true, executor_at_fault: true };
            return (Outcome::Failed(failure), micros);
        }
        let for_good = self.rng.random_bool(self.weather.fails_for_good);
        let fails = if bad { 0.8 } else { self.weather.fails };
        if for_good || self.rng.random_bool(fails) {
            let failure = TaskFailure {
                message: "bad luck".into(),
                retryable: !for_good,
                executor_at_fault: false,
            };
            return (Outcome::Failed(failure), micros);
        }
        (Outcome::Succeeded, micros)
    }

    fn ends(&mut self, id: ExecutorId, task: TaskId) {
        let Some(executor) = self.executors.get_mut(&id) else { return };
        if let Some(outcome) = executor.running.remove(&task) {
            self.ended(id, task, outcome);
        }
    }

    fn kill(&mut self, id: ExecutorId, task: TaskId) {
        let Some(executor) = self.executors.get_mut(&id) else { return };
        let queued = executor.queue.len();
        executor.queue.retain(|q| q.task != task);
        // A task that runs may ignore it for a while.
        let ignores = self.rng.random_bool(0.3);
        if executor.queue.len() < queued || (!ignores && executor.running.remove(&task).is_some()) {
            self.ended(id, task, Outcome::Killed);
        }
    }

    fn ended(&mut self, id: ExecutorId, task: TaskId, outcome: Outcome) {
        let run_time = Duration::from_micros(self.rng.random_range(0..300));
        let stored = (0..self.rng.random_range(0..3))
            .map(|_| (CacheId(self.rng.random_range(0..plan::CACHES)), task.partition))
            .collect();
        if let Some(executor) = self.executors.get_mut(&id) {
            executor.outbox.push(TaskEnd { task, run_time, outcome, stored });
        }
        let delay = self.rng.random_range(0..500);
        self.after(delay, Next::Report(id));
        self.start(id);
    }

    fn report(&mut self, id: ExecutorId) {
        let Some(executor) = self.executors.get_mut(&id) else { return };
        let ended = std::mem::take(&mut executor.outbox);
        if self.rng.random_bool(self.weather.doubled) {
            let delay = self.rng.random_range(0..20_000);
            let event = Event::TasksEnded { executor: id, ended: ended.clone() };
            self.after(delay, Next::Tell(event));
        }
        self.tell(Event::TasksEnded { executor: id, ended });
    }
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
