//! One job at the size of a large cluster: 10,000 executors of one slot, a million tasks, a shuffle between two stages, with
//! stragglers, lost executors and workers, and damaged output. Time is simulated; what takes time is the scheduler.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::time::Duration;

use ingle_core::ids::{ExecutorId, JobId, StageId, TaskId, WorkerId};
use ingle_core::scheduler::{
    Action, Event, Outcome, Policy, Scheduler, Speculation, StageOutput, StageSpec, TaskEnd,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const EXECUTORS: u32 = 10_000;
const EXECUTORS_PER_WORKER: u32 = 20;
const TASKS_PER_STAGE: u32 = 500_000;
const MAP: StageId = StageId(0);
const REDUCE: StageId = StageId(1);

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Ends(ExecutorId, TaskId),
    Dies(ExecutorId, TaskId),
    LoseExecutor,
    LoseWorker,
    Tick,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: [u32; 2],
    copies_accepted: u32,
    kills: u32,
    damaged: u32,
    discarded: u32,
    lost: u32,
}

struct Cluster {
    rng: SmallRng,
    scheduler: Scheduler,
    now: Duration,
    agenda: BinaryHeap<Reverse<(Duration, Next)>>,
    tick_at: Option<Duration>,
    executors: BTreeMap<ExecutorId, WorkerId>,
    executors_ever: u32,
    copies: HashSet<TaskId>,
    /// Where the first task of a partition runs.
    running: HashMap<(StageId, u32), ExecutorId>,
    counts: Counts,
    finished: bool,
}

impl Cluster {
    fn after(&mut self, time: Duration, next: Next) {
        self.agenda.push(Reverse((self.now + time, next)));
    }

    fn add_executor(&mut self, worker: WorkerId) {
        let executor = ExecutorId(self.executors_ever);
        self.executors_ever += 1;
        self.executors.insert(executor, worker);
        self.tell(Event::ExecutorAdded { executor, slots: 1, worker });
    }

    fn any_executor(&mut self) -> (ExecutorId, WorkerId) {
        let nth = self.rng.random_range(0..self.executors.len());
        let at = self.executors.iter().nth(nth);
        at.map(|(executor, worker)| (*executor, *worker)).unwrap()
    }

    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.scheduler.handle(self.now, event, &mut actions);
        for action in actions {
            match action {
                Action::Launch { executor, tasks } => {
                    for launch in tasks {
                        let straggles = self.rng.random_bool(0.001);
                        let factor = if straggles { 100 } else { 1 };
                        let millis = self.rng.random_range(900..1_100) * factor;
                        let task = launch.task;
                        let first = self.running.entry((task.stage, task.partition));
                        let first = *first.or_insert(executor);
                        if first != executor && self.executors.contains_key(&first) {
                            self.copies.insert(task);
                        } else {
                            self.running.insert((task.stage, task.partition), executor);
                        }
                        self.after(Duration::from_millis(millis), Next::Ends(executor, task));
                    }
                }
                Action::Kill { executor, task } => {
                    self.counts.kills += 1;
                    self.copies.remove(&task);
                    self.after(Duration::from_millis(1), Next::Dies(executor, task));
                }
                Action::Accept { task, .. } => {
                    self.counts.accepted[task.stage.0 as usize] += 1;
                    self.counts.copies_accepted += u32::from(self.copies.remove(&task));
                    self.running.remove(&(task.stage, task.partition));
                }
                Action::Discard { .. } => self.counts.discarded += 1,
                Action::JobFinished { .. } => self.finished = true,
                Action::JobFailed { failure } => panic!("{failure}"),
                _ => {}
            }
        }
    }

    /// A task ends: some report that an input is damaged.
    fn ends(&mut self, executor: ExecutorId, task: TaskId) {
        if !self.executors.contains_key(&executor) {
            return;
        }
        let mut outcome = Outcome::Succeeded;
        if task.stage == REDUCE && self.rng.random_bool(0.000_02) {
            let outputs = self.scheduler.outputs(MAP).unwrap();
            let at = self.rng.random_range(0..TASKS_PER_STAGE as usize);
            if let Some((partition, attempt, executor)) = outputs.into_iter().nth(at) {
                self.counts.damaged += 1;
                let stage = MAP;
                outcome =
                    Outcome::FetchFailed { stage, partition, attempt, executor, whole: false };
                self.running.remove(&(task.stage, task.partition));
            }
        }
        self.tell(Event::TasksEnded { executor, ended: vec![end(task, outcome)] });
    }

    fn lose_executor(&mut self) {
        let (executor, worker) = self.any_executor();
        self.executors.remove(&executor);
        self.counts.lost += 1;
        let reason = "it crashed".into();
        self.tell(Event::ExecutorLost { executor, reason, outputs_lost: false });
        self.add_executor(worker);
        self.after(Duration::from_millis(500), Next::LoseExecutor);
    }

    fn lose_worker(&mut self) {
        let (_, worker) = self.any_executor();
        let before = self.executors.len();
        self.executors.retain(|_, at| *at != worker);
        let gone = before - self.executors.len();
        self.counts.lost += gone as u32;
        self.tell(Event::WorkerLost { worker, reason: "power cut".into() });
        let another = WorkerId(self.executors_ever);
        (0..gone).for_each(|_| self.add_executor(another));
        self.after(Duration::from_secs(10), Next::LoseWorker);
    }

    fn plan_tick(&mut self) {
        if let Some(at) = self.scheduler.next_tick()
            && self.tick_at.is_none_or(|planned| at < planned)
        {
            self.tick_at = Some(at);
            self.agenda.push(Reverse((at.max(self.now), Next::Tick)));
        }
    }
}

fn end(task: TaskId, outcome: Outcome) -> TaskEnd {
    TaskEnd { task, run_time: Duration::from_secs(1), outcome, stored: Vec::new() }
}

/// Runs the job; gives the simulated time that it took, and what happened.
fn run(speculation: Option<Speculation>) -> (Duration, Counts) {
    let policy = Policy { speculation, ..Policy::default() };
    let mut cluster = Cluster {
        rng: SmallRng::seed_from_u64(7),
        scheduler: Scheduler::new(policy),
        now: Duration::ZERO,
        agenda: BinaryHeap::new(),
        tick_at: None,
        executors: BTreeMap::new(),
        executors_ever: 0,
        copies: HashSet::new(),
        running: HashMap::new(),
        counts: Counts::default(),
        finished: false,
    };
    for executor in 0..EXECUTORS {
        cluster.add_executor(WorkerId(executor / EXECUTORS_PER_WORKER));
    }
    let tasks = TASKS_PER_STAGE;
    let (map, reduce) = (StageOutput::Shuffle, StageOutput::Results);
    let stages = [(MAP, map, vec![]), (REDUCE, reduce, vec![MAP])];
    for (stage, output, parents) in stages {
        let spec =
            StageSpec { name: stage.to_string(), tasks, parents, cached: Vec::new(), output };
        cluster.tell(Event::StageDefined { stage, spec });
    }
    cluster.tell(Event::JobSubmitted { job: JobId(0), stage: REDUCE });
    cluster.after(Duration::from_secs(1), Next::LoseExecutor);
    cluster.after(Duration::from_secs(7), Next::LoseWorker);

    while !cluster.finished {
        let Some(Reverse((now, next))) = cluster.agenda.pop() else { panic!("the job is stuck") };
        cluster.now = now;
        match next {
            Next::Ends(executor, task) => cluster.ends(executor, task),
            Next::Dies(executor, task) => {
                let ended = vec![end(task, Outcome::Killed)];
                cluster.tell(Event::TasksEnded { executor, ended });
            }
            Next::LoseExecutor => cluster.lose_executor(),
            Next::LoseWorker => cluster.lose_worker(),
            Next::Tick => {
                cluster.tick_at = None;
                cluster.tell(Event::Tick);
            }
        }
        cluster.plan_tick();
    }
    cluster.scheduler.check();
    (cluster.now, cluster.counts)
}

#[test]
fn a_million_tasks_on_ten_thousand_executors_with_losses_and_stragglers() {
    let (elapsed, counts) = run(Some(Speculation::default()));
    println!("{elapsed:?} simulated; {counts:?}");
    let Counts { accepted, copies_accepted, kills, damaged, lost, .. } = counts;
    assert_eq!(accepted[1], TASKS_PER_STAGE, "each result once");
    assert!(accepted[0] > TASKS_PER_STAGE, "what was lost is made again");
    assert!(copies_accepted > 100 && kills > 100 && lost > 100 && damaged > 0);

    let (slower, counts) = run(None);
    println!("{slower:?} simulated without copies; {counts:?}");
    assert_eq!((counts.accepted[1], counts.copies_accepted), (TASKS_PER_STAGE, 0));
    assert!(elapsed < slower, "copies make it faster");
}
