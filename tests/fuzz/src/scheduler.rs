//! Events of a hostile driver and hostile executors, at the scheduler: after each, its books must agree.

use std::time::Duration;

use ingle_core::ids::{CacheId, ExecutorId, JobId, StageId, TaskId, WorkerId};
use ingle_core::scheduler::{
    Action, CachedInput, Event, Exclusion, MinRegistered, Outcome, Policy, Scheduler, Speculation,
    StageOutput, StageSpec, TaskEnd, TaskFailure,
};

use crate::Input;

/// So that no input takes long: the books are looked at as a whole each time.
const MAX_EVENTS: usize = 300;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let policy = policy(&mut input);
    let mut scheduler = Scheduler::new(policy);
    let (mut now, mut tasks, mut actions) = (Duration::ZERO, Tasks::default(), Vec::new());
    let mut next = Next::default();
    for _ in 0..MAX_EVENTS {
        if input.is_empty() {
            break;
        }
        now = match input.byte() % 8 {
            0 => now.saturating_add(Duration::from_nanos(input.number())),
            1 => now.saturating_sub(Duration::from_secs(1)),
            2 => scheduler.next_tick().unwrap_or(now),
            _ => now + Duration::from_millis(1),
        };
        let event = event(&mut input, &mut next, &tasks);
        let about = event.as_job();
        scheduler.handle(now, event, &mut actions);
        scheduler.check();
        for action in actions.drain(..) {
            tasks.note(&action);
            if let Action::JobFailed { failure } = &action {
                assert!(!failure.to_string().is_empty());
            }
        }
        // What shells ask at any time.
        let _ = (scheduler.backlog(), scheduler.next_tick(), scheduler.drained().count());
        let _ = scheduler.excluded_workers().count();
        if let Some(job) = about {
            let _ = (scheduler.progress(job), scheduler.explain(job).map(|e| e.to_string()));
        }
    }
}

trait AsJob {
    fn as_job(&self) -> Option<JobId>;
}

impl AsJob for Event {
    fn as_job(&self) -> Option<JobId> {
        match self {
            Self::JobSubmitted { job, .. } | Self::JobCancelled { job } => Some(*job),
            _ => Some(JobId(0)),
        }
    }
}

fn policy(input: &mut Input<'_>) -> Policy {
    Policy {
        max_attempts: input.id() % 6,
        max_stage_reruns: input.id() % 6,
        max_interruptions: input.id() % 6,
        max_lookahead: input.id() % 70,
        locality_wait: Duration::from_nanos(input.number()),
        speculation: input.flag().then(|| Speculation {
            quantile: f64::from(input.byte()) / 255.0,
            multiplier: f64::from_bits(input.number()).abs(),
            min_run_time: Duration::from_nanos(input.number()),
        }),
        exclusion: input.flag().then(|| Exclusion {
            max_task_failures_per_executor: input.id() % 4,
            max_excluded_executors_per_worker: input.id() % 4,
            timeout: Duration::from_nanos(input.number()),
            abort_after: Duration::from_nanos(input.number()),
        }),
        min_registered: input.flag().then(|| MinRegistered {
            slots: u64::from(input.id() % 8),
            at_most: Duration::from_nanos(input.number()),
        }),
        max_stages: 64,
        max_tasks_per_stage: 200,
        max_inputs: 256,
        max_cached: 256,
        max_name: 16,
        max_jobs: 8,
        ..Policy::default()
    }
}

/// Tasks that run as far as executors were told, to be named by sound reports.
#[derive(Default)]
struct Tasks(Vec<(ExecutorId, TaskId)>);

impl Tasks {
    fn note(&mut self, action: &Action) {
        match action {
            Action::Launch { executor, tasks } => {
                self.0.extend(tasks.iter().map(|launch| (*executor, launch.task)));
            }
            Action::Accept { task, .. } | Action::Discard { task, .. } => {
                self.0.retain(|(_, known)| known != task);
            }
            _ => {}
        }
        let more = self.0.len().saturating_sub(256);
        self.0.drain(..more);
    }
}

#[derive(Default)]
struct Next {
    stage: u32,
    job: u32,
    executor: u32,
}

/// Mostly the next number, as a shell gives it.
fn mostly(input: &mut Input<'_>, next: &mut u32) -> u32 {
    if input.byte().is_multiple_of(16) {
        return input.id();
    }
    *next = next.wrapping_add(1);
    *next - 1
}

fn event(input: &mut Input<'_>, next: &mut Next, tasks: &Tasks) -> Event {
    let worker = |input: &mut Input<'_>| WorkerId(input.id() % 8);
    match input.byte() % 24 {
        0 | 1 => Event::ExecutorAdded {
            executor: ExecutorId(mostly(input, &mut next.executor)),
            slots: input.id() % 100,
            worker: worker(input),
        },
        2 => Event::ExecutorLost {
            executor: ExecutorId(input.id()),
            reason: input.text(),
            outputs_lost: input.flag(),
        },
        3 => match input.byte() % 4 {
            0 => Event::WorkerDraining { worker: worker(input) },
            _ => Event::WorkerLost { worker: worker(input), reason: input.text() },
        },
        4..=7 => {
            let spec = spec(input);
            Event::StageDefined { stage: StageId(mostly(input, &mut next.stage)), spec }
        }
        8 => Event::StageDropped { stage: StageId(input.id()) },
        9..=11 => {
            let job = JobId(mostly(input, &mut next.job));
            Event::JobSubmitted { job, stage: StageId(input.id()) }
        }
        12 => Event::JobCancelled { job: JobId(input.id()) },
        13 => Event::CacheDropped { cache: CacheId(input.id() % 4) },
        14 => Event::Tick,
        15 => {
            let partitions = (0..input.below(4)).map(|_| input.id()).collect();
            Event::OutputLost { stage: StageId(input.id()), partitions }
        }
        _ => {
            let count = 1 + input.below(3);
            let mut executor = ExecutorId(input.id());
            let mut ended = Vec::new();
            for _ in 0..count {
                let mut task = TaskId {
                    stage: StageId(input.id()),
                    partition: input.id(),
                    attempt: input.id(),
                };
                if !input.byte().is_multiple_of(8) && !tasks.0.is_empty() {
                    (executor, task) = tasks.0[usize::from(input.byte()) % tasks.0.len()];
                }
                ended.push(end(input, task));
            }
            Event::TasksEnded { executor, ended }
        }
    }
}

fn spec(input: &mut Input<'_>) -> StageSpec {
    let parents = (0..input.below(4)).map(|_| StageId(input.id())).collect();
    let cached = (0..input.below(3))
        .map(|_| CachedInput { cache: CacheId(input.id() % 4), first: input.id() });
    let cached = cached.collect();
    StageSpec {
        name: input.text(),
        cached,
        tasks: input.id(),
        parents,
        output: input.pick(&[StageOutput::Results, StageOutput::Shuffle]),
    }
}

fn end(input: &mut Input<'_>, task: TaskId) -> TaskEnd {
    let outcome = match input.byte() % 8 {
        0..=3 => Outcome::Succeeded,
        4 => Outcome::Killed,
        5 => Outcome::Failed(TaskFailure {
            message: input.text(),
            retryable: input.flag(),
            executor_at_fault: input.flag(),
        }),
        _ => Outcome::FetchFailed {
            stage: StageId(input.id()),
            partition: input.id(),
            attempt: input.id(),
            executor: ExecutorId(input.id()),
            whole: input.flag(),
        },
    };
    let stored = (0..input.below(3)).map(|_| (CacheId(input.id() % 4), input.id())).collect();
    TaskEnd { task, run_time: Duration::from_nanos(input.number()), outcome, stored }
}
