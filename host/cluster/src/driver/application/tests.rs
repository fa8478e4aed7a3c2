//! The application with an executor that only keeps what it is told.

use ingle_blocks::Grants;
use ingle_core::size::ByteSize;

use super::*;

/// An executor that keeps what it is told.
#[derive(Default)]
struct Told(Mutex<Vec<Command>>);

impl ExecutorLink for Told {
    fn send(&self, command: v1::ExecutorCommand, _: Option<ingle_sandbox::Image>) {
        self.0.lock().extend(command.command);
    }
}

impl Told {
    /// The tasks that were launched since the last time.
    fn launched(&self) -> Vec<v1::TaskId> {
        let commands = std::mem::take(&mut *self.0.lock());
        let launches = commands.into_iter().filter_map(|command| match command {
            Command::Launch(launch) => Some(launch.tasks),
            _ => None,
        });
        launches.flatten().filter_map(|launch| launch.task).collect()
    }
}

const EXECUTOR: ExecutorId = ExecutorId(0);

fn application() -> (Application, Arc<Told>) {
    let pool = MemoryPool::new(ByteSize(1 << 20));
    let opened = Opened::new(Arc::new(Grants::new(&[], &[]).unwrap()), pool.clone());
    let policy = Policy { max_attempts: 1, ..Policy::default() };
    let application = Application::new(policy, Arc::new(opened), pool, Box::new(|_| {}));
    let told = Arc::new(Told::default());
    application.add_executor(EXECUTOR, 1, WorkerId(1), "here:1", told.clone());
    (application, told)
}

fn define(application: &Application, output: Output, inputs: &[StageId]) -> StageId {
    let spec = StageSpec {
        name: "stage".into(),
        operators: Vec::new(),
        tasks: 1,
        inputs: inputs.iter().map(|id| ingle_sandbox::host::Input::Shuffle(id.0)).collect(),
        output,
        entry: 0,
        payload: Vec::new(),
        image: None,
    };
    application.define_stage(spec).unwrap().unwrap()
}

/// The one task that was launched ends so.
fn ends(application: &Application, told: &Told, succeeds: bool, made: Made) {
    let task = told.launched().pop();
    assert!(task.is_some(), "nothing was launched");
    let outcome = match succeeds {
        true => v1::task_end::Outcome::Succeeded(v1::Succeeded {}),
        false => v1::task_end::Outcome::Failed(v1::TaskFailed {
            message: "boom".into(),
            retryable: true,
            executor_at_fault: false,
        }),
    };
    let end = v1::TaskEnd { task, outcome: Some(outcome), ..v1::TaskEnd::default() };
    application.ended(EXECUTOR, vec![(end, made)]);
}

fn changed(accumulator: u32) -> Made {
    let updates = Updates { list: vec![(accumulator, vec![1])], charge: None };
    Made { updates, ..Made::default() }
}

fn changes(batch: &[Ready]) -> Vec<u32> {
    let updates = batch.iter().flat_map(|ready| &ready.updates);
    updates.flat_map(|updates| &updates.list).map(|(accumulator, _)| *accumulator).collect()
}

#[test]
fn a_jobs_results_come_once_and_then_its_end() {
    let (application, told) = application();
    let stage = define(&application, Output::Results, &[]);
    let job = application.run(stage).unwrap();
    ends(&application, &told, true, changed(7));
    let batch = application.next(job).unwrap().unwrap();
    assert_eq!((batch.len(), changes(&batch)), (1, vec![7]));
    assert!(application.next(job).unwrap().unwrap().is_empty());
    assert!(application.next(job).is_err(), "it is over, and was told so");
}

#[test]
fn changes_by_a_stage_whose_job_failed_come_with_the_next_job_that_uses_it() {
    let (application, told) = application();
    let map = define(&application, Output::Shuffle(1), &[]);
    let last = define(&application, Output::Results, &[map]);
    let job = application.run(last).unwrap();
    ends(&application, &told, true, changed(7));
    ends(&application, &told, false, changed(8));
    let text = application.next(job).unwrap().err().unwrap();
    assert!(text.contains("boom"), "{text}");

    let job = application.run(last).unwrap();
    ends(&application, &told, true, changed(9));
    let batch = application.next(job).unwrap().unwrap();
    assert_eq!(changes(&batch), [7, 9], "not those of the task that failed");
    assert_eq!(application.metrics(|m| m.counts.failed), 1);
}

#[test]
fn jobs_that_nobody_takes_the_results_of_are_bounded() {
    let (application, _) = application();
    let spec = StageSpec {
        name: "empty".into(),
        operators: Vec::new(),
        tasks: 0,
        inputs: Vec::new(),
        output: Output::Results,
        entry: 0,
        payload: Vec::new(),
        image: None,
    };
    let stage = application.define_stage(spec).unwrap().unwrap();
    let refused = (0..=MAX_QUEUES).find_map(|_| application.run(stage).err());
    assert!(refused.is_some_and(|text| text.contains("nobody took")));
}

#[test]
fn numbers_that_were_never_given_out_trap() {
    let (application, _) = application();
    assert!(application.drop_stage(StageId(0)).is_err());
    assert!(application.cancel_job(JobId(0)).is_err());
    assert!(application.next(JobId(0)).is_err());
    assert!(application.drop_cache(CacheId(0)).is_err());
    assert!(application.run(StageId(0)).is_err());
}

#[test]
fn executors_are_told_once_that_a_cached_dataset_is_dropped() {
    let (application, told) = application();
    let cache = application.opened().new_cache(ingle_blocks::StorageLevel::DiskOnly).unwrap();
    told.0.lock().clear();
    for _ in 0..1000 {
        application.drop_cache(cache).unwrap();
    }
    assert_eq!(told.0.lock().len(), 1);
}

#[test]
fn what_cannot_travel_to_an_executor_is_refused_and_long_texts_are_cut() {
    let (application, _) = application();
    let spec = |bytes: usize| StageSpec {
        name: "heavy".into(),
        operators: vec!["o".repeat(5000), "é".repeat(5000)],
        tasks: 1,
        inputs: Vec::new(),
        output: Output::Results,
        entry: 0,
        payload: vec![0; bytes],
        image: None,
    };
    let refusal = application.define_stage(spec((48 << 20) + 1)).unwrap().unwrap_err();
    assert!(
        refusal
            .starts_with("heavy has 48.0 MiB for its tasks to read, and at most 48.0 MiB travel"),
        "{refusal}"
    );
    let stage = application.define_stage(spec(1000)).unwrap().unwrap();
    let core = application.core.lock();
    let lengths: Vec<_> = core.stages[&stage].operators.iter().map(String::len).collect();
    assert_eq!(lengths, [1024, 1024]);
}

#[test]
fn a_stage_that_shuffles_into_too_many_partitions_is_refused() {
    let (application, _) = application();
    let spec = StageSpec {
        name: "wide".into(),
        operators: Vec::new(),
        tasks: 1,
        inputs: Vec::new(),
        output: Output::Shuffle(u32::MAX),
        entry: 0,
        payload: Vec::new(),
        image: None,
    };
    let refusal = application.define_stage(spec).unwrap().unwrap_err();
    assert!(refusal.contains("wide shuffles into 4294967295 partitions"), "{refusal}");
}

/// What an executor was told since the last time: tasks, and bytes that say where outputs are.
fn news(told: &Told) -> (Vec<v1::TaskId>, usize) {
    let (mut tasks, mut bytes) = (Vec::new(), 0);
    for command in std::mem::take(&mut *told.0.lock()) {
        match command {
            Command::Launch(launch) => tasks.extend(launch.tasks.into_iter().map(|l| l.task)),
            Command::MapOutputs(outputs) => bytes += outputs.len(),
            _ => {}
        }
    }
    (tasks.into_iter().flatten().collect(), bytes)
}

#[test]
fn executors_are_told_which_outputs_changed_and_not_all_again() {
    use v1::task_end::Outcome;
    const EXECUTORS: u32 = 100;
    const MAPS: u32 = 1000;
    let (application, _) = application();
    application.executor_lost(EXECUTOR, "it isn't needed");
    let told: Vec<_> = (1..=EXECUTORS)
        .map(|id| {
            let (told, address) = (Arc::new(Told::default()), format!("10.0.0.{id}:7078"));
            application.add_executor(ExecutorId(id), 1, WorkerId(id), &address, told.clone());
            (ExecutorId(id), told)
        })
        .collect();
    let define = |tasks, output, inputs: &[StageId]| {
        let inputs = inputs.iter().map(|id| ingle_sandbox::host::Input::Shuffle(id.0)).collect();
        let spec = StageSpec {
            name: "stage".into(),
            operators: Vec::new(),
            tasks,
            inputs,
            output,
            entry: 0,
            payload: Vec::new(),
            image: None,
        };
        application.define_stage(spec).unwrap().unwrap()
    };
    let map = define(MAPS, Output::Shuffle(1), &[]);
    let reduce = define(100_000, Output::Results, &[map]);
    application.run(reduce).unwrap();
    let end = |executor, task, outcome| {
        let end = v1::TaskEnd {
            task: Some(task),
            outcome: Some(outcome),
            metrics: Some(v1::TaskMetrics { run_nanos: 1_000_000_000, ..Default::default() }),
            ..v1::TaskEnd::default()
        };
        application.ended(executor, vec![(end, Made::default())]);
    };
    let succeeded = || Outcome::Succeeded(v1::Succeeded {});
    // Until all executors have a task that reads; gives these, and what it took to tell them where.
    let run_maps = || {
        let (mut reading, mut bytes, mut made) = (Vec::new(), 0, Vec::new());
        while reading.len() < EXECUTORS as usize {
            for (executor, told) in &told {
                let (tasks, more) = news(told);
                bytes += more;
                for task in tasks {
                    if task.stage == map.0 {
                        end(*executor, task, succeeded());
                        made.push((*executor, task));
                    } else {
                        reading.push((*executor, task));
                    }
                }
            }
        }
        (reading, bytes, made)
    };
    let (reading, all, made) = run_maps();
    assert_eq!(made.len(), MAPS as usize);
    let (maker, lost) = made[17];
    for (at, (executor, task)) in reading.into_iter().enumerate() {
        let missed = v1::FetchFailed {
            stage: map.0,
            partition: lost.partition,
            executor: maker.0,
            attempt: lost.attempt,
            whole: false,
        };
        let outcome = if at == 0 { Outcome::FetchFailed(missed) } else { succeeded() };
        end(executor, task, outcome);
    }
    let (_, changed, made) = run_maps();
    println!("{EXECUTORS} executors, {MAPS} maps: {all} bytes for all, {changed} for a change");
    assert_eq!(made.len(), 1);
    assert!(all > EXECUTORS as usize * MAPS as usize && changed < all / 50);
}

#[test]
fn output_that_an_executor_left_is_removed_by_another_one_of_its_worker() {
    let (application, first) = application();
    let forgets = |told: &Told| {
        let told = std::mem::take(&mut *told.0.lock());
        let forgets = told.into_iter().filter_map(|command| match command {
            Command::Forget(forget) => Some(forget.stage),
            _ => None,
        });
        forgets.collect::<Vec<_>>()
    };
    let comes = |id, worker| {
        let told = Arc::new(Told::default());
        application.add_executor(ExecutorId(id), 1, WorkerId(worker), "there:1", told.clone());
        told
    };
    let maps: Vec<_> = (0..3)
        .map(|_| {
            let map = define(&application, Output::Shuffle(1), &[]);
            application.run(define(&application, Output::Results, &[map])).unwrap();
            ends(&application, &first, true, Made::default());
            ends(&application, &first, true, Made::default());
            map
        })
        .collect();
    let beside = comes(1, 1);
    let elsewhere = comes(2, 2);
    application.executor_lost(EXECUTOR, "it was idle for long");
    application.drop_stage(maps[0]).unwrap();
    let [there, not_there] = [&beside, &elsewhere].map(|told| forgets(told));
    assert_eq!((there, not_there), (vec![maps[0].0], vec![]));

    // Nobody is there, until somebody is.
    application.executor_lost(ExecutorId(1), "it was idle for long");
    application.drop_stage(maps[1]).unwrap();
    assert_eq!(forgets(&comes(3, 1)), [maps[1].0]);
    assert_eq!(forgets(&comes(4, 1)), [0u32; 0]);
    application.executor_lost(ExecutorId(3), "it was idle for long");
    application.executor_lost(ExecutorId(4), "it was idle for long");
    application.drop_stage(maps[2]).unwrap();
    application.worker_lost(WorkerId(1), "fire");
    assert_eq!(forgets(&comes(5, 1)), [0u32; 0]);
    assert_eq!(forgets(&elsewhere), [0u32; 0]);
}
