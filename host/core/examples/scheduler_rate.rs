//! What the scheduler itself costs for each task: `cargo run --release -p ingle-core --example scheduler_rate`.
//!
//! Executors that take no time at all run one stage of a million no-op tasks; what is left is the scheduler.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ingle_core::ids::{ExecutorId, JobId, StageId, WorkerId};
use ingle_core::scheduler::{
    Action, Event, Outcome, Policy, Scheduler, StageOutput, StageSpec, TaskEnd,
};

const TASKS: u32 = 1_000_000;

fn main() {
    let micro = Duration::from_micros(2);
    rate("local[2], 2 µs tasks", 1, 2, micro);
    rate("local[2], 1 s tasks, no look-ahead", 1, 2, Duration::from_secs(1));
    rate("10,000 executors of 16 slots, 2 µs tasks", 10_000, 16, micro);
    rate("10,000 executors of 16 slots, 1 s tasks", 10_000, 16, Duration::from_secs(1));
}

fn rate(what: &str, executors: u32, slots: u32, run_time: Duration) {
    let mut scheduler = Scheduler::new(Policy::default());
    let start = Instant::now();
    let mut actions = Vec::new();
    let mut tell =
        |event, actions: &mut Vec<Action>| scheduler.handle(start.elapsed(), event, actions);
    for id in 0..executors {
        tell(
            Event::ExecutorAdded { executor: ExecutorId(id), slots, worker: WorkerId(id) },
            &mut actions,
        );
    }
    let (name, output) = ("no-op".to_owned(), StageOutput::Results);
    let spec = StageSpec { name, tasks: TASKS, parents: Vec::new(), output };
    tell(Event::StageDefined { stage: StageId(0), spec }, &mut actions);
    tell(Event::JobSubmitted { job: JobId(0), stage: StageId(0) }, &mut actions);

    let (mut accepted, mut events) = (0, 0);
    let mut reports = VecDeque::new();
    loop {
        for action in actions.drain(..) {
            match action {
                Action::Launch { executor, tasks } => reports.push_back((executor, tasks)),
                Action::Accept { .. } => accepted += 1,
                _ => {}
            }
        }
        let Some((executor, tasks)) = reports.pop_front() else { break };
        let ended = tasks
            .into_iter()
            .map(|launch| TaskEnd { task: launch.task, run_time, outcome: Outcome::Succeeded })
            .collect();
        events += 1;
        tell(Event::TasksEnded { executor, ended }, &mut actions);
    }
    assert_eq!(accepted, TASKS);
    let each = start.elapsed() / TASKS;
    println!("{what}: {} ns a task, {events} reports", each.as_nanos());
}
