//! What the driver asks of the native runner.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::host::local::files::{self, SplitData};
use crate::host::local::outputs::Output as Folder;
use crate::host::local::task::{Cached, Failure, TaskState, with_task};
use crate::host::{
    Framing, Input, Output, OutputSpec, Placement, Source, StageSpec, StorageLevel, TaskResult,
};

/// Blocks that are read one after the other.
pub(crate) type Blocks = Vec<Rc<Vec<u8>>>;
/// Those of a partition, each with the task that wrote it.
type Written = Vec<(u32, Rc<Vec<u8>>)>;

#[derive(Default)]
pub(crate) struct Local {
    settings: HashMap<String, String>,
    sources: Vec<Vec<Rc<SplitData>>>,
    /// Those that are neither committed nor given up.
    outputs: HashMap<u32, Folder>,
    opened: u32,
    stages: Vec<StageSpec>,
    /// By stage, then by partition.
    shuffles: HashMap<u32, Vec<Written>>,
    /// Stored partitions of each cached dataset; none once it was dropped.
    caches: Vec<Option<HashMap<u32, Blocks>>>,
    /// The results of jobs that nobody has taken yet, or their failure.
    jobs: HashMap<u32, Result<Vec<TaskResult>, String>>,
    started: u32,
}

thread_local! {
    static LOCAL: RefCell<Local> = RefCell::new(Local::default());
}

fn with<R>(f: impl FnOnce(&mut Local) -> R) -> R {
    LOCAL.with_borrow_mut(f)
}

/// Takes settings; what jobs left behind stays, as other contexts of this thread may still use it.
pub(crate) fn reset<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let settings = settings.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    with(|local| local.settings = settings.collect());
}

pub(crate) fn open_source(path: &str, framing: Framing, min_splits: u32) -> Result<Source, String> {
    let splits: Vec<Rc<SplitData>> =
        files::open(path, framing, min_splits as usize)?.into_iter().map(Rc::new).collect();
    let count = splits.len() as u32;
    let bytes = splits.iter().flat_map(|split| &split.blocks).map(|block| block.len() as u64).sum();
    with(|local| {
        local.sources.push(splits);
        Ok(Source { id: local.sources.len() as u32 - 1, splits: count, bytes })
    })
}

pub(crate) fn split(source: u32, split: u32) -> Option<Rc<SplitData>> {
    with(|local| local.sources.get(source as usize)?.get(split as usize).cloned())
}

/// What some of a stage's tasks wrote to a partition.
pub(crate) fn shuffled(stage: u32, partition: u32, tasks: Range<u32>) -> Option<Blocks> {
    with(|local| {
        let written = local.shuffles.get(&stage)?.get(partition as usize)?;
        let read = written.iter().filter(|(task, _)| tasks.contains(task));
        Some(read.map(|(_, block)| Rc::clone(block)).collect())
    })
}

pub(crate) fn cached(cache: u32, partition: u32) -> Option<Blocks> {
    with(|local| local.caches.get(cache as usize)?.as_ref()?.get(&partition).cloned())
}

pub(crate) fn new_cache(_level: StorageLevel) -> u32 {
    with(|local| {
        local.caches.push(Some(HashMap::new()));
        local.caches.len() as u32 - 1
    })
}

pub(crate) fn drop_cache(cache: u32) {
    // A thread that ends has dropped it all.
    let _ = LOCAL.try_with(|local| {
        local.borrow_mut().caches.get_mut(cache as usize).map(Option::take);
    });
}

pub(crate) fn open_output(spec: OutputSpec<'_>) -> Result<u32, String> {
    let output = Folder::open(spec)?;
    with(|local| {
        local.opened += 1;
        local.outputs.insert(local.opened, output);
        Ok(local.opened)
    })
}

pub(crate) fn commit_output(output: u32) -> Result<(), String> {
    with(|local| local.outputs.remove(&output)).ok_or("no such output")?.commit()
}

pub(crate) fn drop_output(output: u32) {
    let dropped = with(|local| local.outputs.remove(&output));
    drop(dropped);
}

pub(crate) fn capture() -> Result<Option<u32>, String> {
    // Tasks run in the driver's own memory.
    Ok(None)
}

pub(crate) fn release(_image: u32) {}

pub(crate) fn define_stage(spec: StageSpec) -> Result<u32, String> {
    if let Some(image) = spec.image {
        return Err(format!("there is no image {image}: the native runner takes none"));
    }
    with(|local| {
        local.stages.push(spec);
        Ok(local.stages.len() as u32 - 1)
    })
}

pub(crate) fn drop_stage(stage: u32) {
    // A thread that ends has dropped it all.
    let _ = LOCAL.try_with(|local| local.borrow_mut().shuffles.remove(&stage));
}

pub(crate) fn run(stage: u32) -> Result<u32, String> {
    let job = with(|local| {
        local.started += 1;
        local.started
    });
    let outcome = run_stage(job, stage, &mut HashSet::new());
    with(|local| {
        if let (Err(_), Some(Output::Files(output))) =
            (&outcome, local.stages.get(stage as usize).map(|spec| spec.output))
        {
            local.outputs.remove(&output);
        }
        local.jobs.insert(job, outcome);
    });
    Ok(job)
}

pub(crate) fn next(job: u32) -> Result<Vec<TaskResult>, String> {
    with(|local| local.jobs.remove(&job)).unwrap_or(Ok(Vec::new()))
}

pub(crate) fn cancel(job: u32) {
    with(|local| local.jobs.remove(&job));
}

pub(crate) fn setting(key: &str) -> Option<String> {
    with(|local| local.settings.get(key).cloned())
}

pub(crate) fn default_parallelism() -> u32 {
    4
}

/// Runs a stage after those of its ancestors whose output isn't there.
fn run_stage(job: u32, stage: u32, visited: &mut HashSet<u32>) -> Result<Vec<TaskResult>, String> {
    let spec = with(|local| local.stages.get(stage as usize).cloned()).ok_or("no such stage")?;
    let mut updates = Vec::new();
    for input in &spec.inputs {
        if let Input::Shuffle(parent) = *input
            && visited.insert(parent)
            && !with(|local| local.shuffles.contains_key(&parent))
        {
            let results = run_stage(job, parent, visited)?;
            updates.extend(results.into_iter().flat_map(|result| result.updates));
        }
    }
    let mut written: Vec<Written> = Vec::new();
    if let Output::Shuffle(partitions) = spec.output {
        written.resize(partitions as usize, Vec::new());
    }
    let mut results = Vec::new();
    for partition in 0..spec.tasks {
        let done = try_task(&spec, job, stage, partition)?;
        for ((cache, partition), Cached { blocks, whole }) in done.cached {
            with(|local| match local.caches.get_mut(cache as usize) {
                Some(Some(stored)) if whole => {
                    stored.insert(partition, blocks.into_iter().map(Rc::new).collect());
                }
                _ => {}
            });
        }
        for (to, block) in done.written {
            written
                .get_mut(to as usize)
                .ok_or("a task wrote to a partition that isn't there")?
                .push((partition, Rc::new(block)));
        }
        let mut value = done.emitted;
        if let Output::Files(output) = spec.output {
            let bytes = std::mem::take(&mut value);
            with(|local| {
                let folder = local.outputs.get_mut(&output)?;
                folder.add(partition, bytes);
                Some(())
            })
            .ok_or("no such output")?;
        }
        updates.extend(done.updates);
        results.push(TaskResult { partition, value, updates: std::mem::take(&mut updates) });
    }
    if let Output::Shuffle(_) = spec.output {
        with(|local| local.shuffles.insert(stage, written));
    }
    Ok(results)
}

/// How often a task is tried before its job fails.
fn max_failures() -> Result<u32, String> {
    let Some(text) = setting(MAX_FAILURES) else { return Ok(4) };
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{MAX_FAILURES} is `{text}`; give a whole number of at least 1"))
}

const MAX_FAILURES: &str = "ingle.task.maxFailures";

/// Runs a task, again if it fails.
fn try_task(spec: &StageSpec, job: u32, stage: u32, partition: u32) -> Result<TaskState, String> {
    let (most, executor) = (max_failures()?, 0);
    let mut attempt = 0;
    loop {
        let placement = Placement { job, stage, partition, attempt, executor, memory: u64::MAX };
        let text = match run_task(spec, placement) {
            Ok(done) => return Ok(done),
            Err(text) => text,
        };
        if attempt + 1 == most {
            let name = &spec.name;
            let times =
                if most > 1 { format!(" failed {most} times, last in") } else { ",".to_owned() };
            return Err(format!(
                "job {job} failed: stage {stage} ({name}), partition {partition}{times} attempt {attempt} on \
                 executor {executor}: {text}"
            ));
        }
        attempt += 1;
    }
}

/// One attempt at a task; gives what it did, or the text that it failed with.
fn run_task(spec: &StageSpec, placement: Placement) -> Result<TaskState, String> {
    let state = TaskState::new(placement, spec.payload.clone());
    let (state, outcome) =
        with_task(state, || catch_unwind(AssertUnwindSafe(|| crate::stage::run(spec.entry))));
    let Err(panic) = outcome else { return Ok(state) };
    crate::task::TaskScope::leave();
    crate::accumulator::forget();
    Err(match panic.downcast::<Failure>() {
        Ok(failure) => failure.0,
        Err(panic) => {
            let told = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
                (Some(text), _) => format!("panicked: {text}"),
                (_, Some(text)) => format!("panicked: {text}"),
                _ => "panicked".to_owned(),
            };
            crate::task::panicked(told)
        }
    })
}
