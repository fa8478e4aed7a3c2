//! What the scheduler itself costs: `cargo run --release -p ingle-core --example scheduler_rate`.
//!
//! Executors that take no time at all run one stage of a million no-op tasks; what is left is the scheduler. Then a table of
//! what a decision takes by the number of executors: the end of a task, a tick that looks at all that runs, the loss of an
//! executor that made a hundred outputs, and of a worker with ten such executors.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ingle_core::ids::{ExecutorId, JobId, StageId, WorkerId};
use ingle_core::scheduler::{
    Action, Event, Outcome, Policy, Scheduler, Speculation, StageOutput, StageSpec, TaskEnd,
    TaskLaunch,
};

const TASKS: u32 = 1_000_000;
const OUTPUTS_PER_EXECUTOR: u32 = 100;
const EXECUTORS_PER_WORKER: u32 = 10;

type Reports = VecDeque<(ExecutorId, Vec<TaskLaunch>)>;

fn main() {
    let micro = Duration::from_micros(2);
    rate("local[2], 2 µs tasks", 1, 2, micro);
    rate("local[2], 1 s tasks, no look-ahead", 1, 2, Duration::from_secs(1));
    rate("10,000 executors of 16 slots, 2 µs tasks", 10_000, 16, micro);
    rate("10,000 executors of 16 slots, 1 s tasks", 10_000, 16, Duration::from_secs(1));

    println!();
    println!("| executors | end of a task | tick | executor lost | worker lost |");
    println!("|--:|--:|--:|--:|--:|");
    for executors in [10, 100, 1_000, 10_000] {
        decisions(executors);
    }
}

/// A scheduler with executors of so many slots.
fn scheduler(executors: u32, slots: u32, policy: Policy) -> Scheduler {
    let mut scheduler = Scheduler::new(policy);
    for id in 0..executors {
        let (executor, worker) = (ExecutorId(id), WorkerId(id / EXECUTORS_PER_WORKER));
        let event = Event::ExecutorAdded { executor, slots, worker };
        scheduler.handle(Duration::ZERO, event, &mut Vec::new());
    }
    scheduler
}

/// Defines a stage, which makes shuffle output if another is to read it, and wants its results if not.
fn stage(
    scheduler: &mut Scheduler,
    id: u32,
    tasks: u32,
    parents: Vec<StageId>,
    shuffle: bool,
    actions: &mut Vec<Action>,
) {
    let output = if shuffle { StageOutput::Shuffle } else { StageOutput::Results };
    let spec = StageSpec { name: "no-op".to_owned(), tasks, parents, cached: Vec::new(), output };
    scheduler.handle(Duration::ZERO, Event::StageDefined { stage: StageId(id), spec }, actions);
    if !shuffle {
        let event = Event::JobSubmitted { job: JobId(0), stage: StageId(id) };
        scheduler.handle(Duration::ZERO, event, actions);
    }
}

fn sort(actions: &mut Vec<Action>, reports: &mut Reports) -> u32 {
    let mut accepted = 0;
    for action in actions.drain(..) {
        match action {
            Action::Launch { executor, tasks } => reports.push_back((executor, tasks)),
            Action::Accept { .. } => accepted += 1,
            _ => {}
        }
    }
    accepted
}

fn success(executor: ExecutorId, tasks: Vec<TaskLaunch>, run_time: Duration) -> Event {
    let end = |launch: TaskLaunch| TaskEnd {
        task: launch.task,
        run_time,
        outcome: Outcome::Succeeded,
        stored: Vec::new(),
    };
    Event::TasksEnded { executor, ended: tasks.into_iter().map(end).collect() }
}

fn rate(what: &str, executors: u32, slots: u32, run_time: Duration) {
    let start = Instant::now();
    let mut scheduler = scheduler(executors, slots, Policy::default());
    let (mut actions, mut reports) = (Vec::new(), Reports::new());
    stage(&mut scheduler, 0, TASKS, Vec::new(), false, &mut actions);
    let (mut accepted, mut events) = (0, 0);
    loop {
        accepted += sort(&mut actions, &mut reports);
        let Some((executor, tasks)) = reports.pop_front() else { break };
        events += 1;
        scheduler.handle(start.elapsed(), success(executor, tasks, run_time), &mut actions);
    }
    assert_eq!(accepted, TASKS);
    let each = start.elapsed() / TASKS;
    println!("{what}: {} ns a task, {events} reports", each.as_nanos());
}

/// What decisions cost with executors of one slot that report each task by itself.
fn decisions(executors: u32) {
    let policy = Policy { speculation: Some(Speculation::default()), ..Policy::default() };
    let mut scheduler = scheduler(executors, 1, policy);
    let (mut actions, mut reports) = (Vec::new(), Reports::new());
    let tasks = executors * OUTPUTS_PER_EXECUTOR;
    stage(&mut scheduler, 0, tasks, Vec::new(), true, &mut actions);
    stage(&mut scheduler, 1, tasks, vec![StageId(0)], false, &mut actions);

    // All of the map stage, and the reduce stage up to where its last tasks run, one on each executor.
    let (mut accepted, mut ends) = (0, 0);
    let second = Duration::from_secs(1);
    let start = Instant::now();
    accepted += sort(&mut actions, &mut reports);
    while accepted < 2 * tasks - executors
        && let Some((executor, launched)) = reports.pop_front()
    {
        ends += 1;
        scheduler.handle(Duration::ZERO, success(executor, launched, second), &mut actions);
        accepted += sort(&mut actions, &mut reports);
    }
    assert_eq!(accepted, 2 * tasks - executors);
    let end = start.elapsed() / ends;

    let mut time = |now, events: Vec<Event>| {
        let (start, count) = (Instant::now(), events.len() as u32);
        events.into_iter().for_each(|event| scheduler.handle(now, event, &mut actions));
        start.elapsed() / count
    };
    let tick = time(second, vec![Event::Tick]);
    let reason = String::new;
    let lost = |executor| Event::ExecutorLost { executor, reason: reason(), outputs_lost: true };
    let executor = time(second, (1..5).map(|id| lost(ExecutorId(id))).collect());
    let worker = time(
        second,
        vec![Event::WorkerLost {
            worker: WorkerId((executors - 1) / EXECUTORS_PER_WORKER),
            reason: reason(),
        }],
    );
    let [end, tick, executor, worker] = [end, tick, executor, worker].map(|t| t.as_nanos());
    println!("| {executors} | {end} ns | {tick} ns | {executor} ns | {worker} ns |");
}
