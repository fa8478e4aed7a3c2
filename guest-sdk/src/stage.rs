//! Stages: what the driver tells the host to run, and how a task finds its way back to it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::codec;
use crate::error::{Result, told};
use crate::host::{self, Input, Output, StageSpec};
use crate::plan::Lineage;
use crate::shuffle::Dependency;
use crate::task::TaskScope;

/// What each task of a stage runs.
pub(crate) type Body = Rc<dyn Fn(&Rc<TaskScope>)>;

thread_local! {
    /// The bodies of the stages that are defined. A stage's entry is its place here; the list is in the image as all else.
    static BODIES: RefCell<Vec<Option<Body>>> = const { RefCell::new(Vec::new()) };
}

/// A body that tasks can find. Dropping it takes it out.
pub(crate) struct Entry(usize);

impl Entry {
    pub(crate) fn register(body: Body) -> Entry {
        BODIES.with_borrow_mut(|bodies| match bodies.iter().position(Option::is_none) {
            Some(free) => {
                bodies[free] = Some(body);
                Entry(free)
            }
            None => {
                bodies.push(Some(body));
                Entry(bodies.len() - 1)
            }
        })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Taken out first: what it captured may hold entries of its own.
        let body = BODIES.with_borrow_mut(|bodies| bodies.get_mut(self.0).and_then(Option::take));
        drop(body);
    }
}

/// Runs the task that the host asks for.
pub(crate) fn run(entry: u64) {
    let body = usize::try_from(entry)
        .ok()
        .and_then(|entry| BODIES.with_borrow(|bodies| bodies.get(entry).cloned().flatten()));
    match body {
        Some(body) => TaskScope::enter(|task| {
            body(task);
            crate::accumulator::flush();
        }),
        None => crate::task::fail(format_args!("the driver has no stage with entry {entry}")),
    }
}

/// A memory image, given up when dropped.
struct Image(Option<u32>);

impl Image {
    fn capture() -> Result<Image> {
        host::capture().map(Image).map_err(told)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Some(image) = self.0 {
            host::release(image);
        }
    }
}

/// A stage to define: the last of a job.
pub(crate) struct Last<'a> {
    pub name: &'a str,
    pub lineage: Lineage,
    pub tasks: usize,
    pub output: Output,
    pub entry: &'a Entry,
}

/// Defines a job's last stage and those before it that the host does not know yet. Gives the last one's number.
pub(crate) fn define(last: Last<'_>) -> Result<u32> {
    let mut missing = Vec::new();
    find_missing(&last.lineage, &mut BTreeSet::new(), &mut missing);
    for (dependency, _) in &missing {
        dependency.register();
    }
    // All closures of this job are in place; one image serves all its new stages.
    let image = Image::capture()?;
    for (dependency, lineage) in missing {
        dependency.define(|entry| {
            spec(dependency.name(), lineage, dependency.tasks(), dependency.output(), entry, &image)
        })?;
    }
    let spec = spec(last.name, last.lineage, last.tasks, last.output, last.entry, &image)?;
    host::define_stage(spec).map_err(told)
}

/// The dependencies without a stage, parents first.
fn find_missing(
    lineage: &Lineage,
    seen: &mut BTreeSet<u32>,
    missing: &mut Vec<(Rc<Dependency>, Lineage)>,
) {
    for dependency in &lineage.shuffles {
        if dependency.stage().is_none() && seen.insert(dependency.number()) {
            let parents = dependency.lineage();
            find_missing(&parents, seen, missing);
            missing.push((Rc::clone(dependency), parents));
        }
    }
}

fn spec(
    name: &str,
    lineage: Lineage,
    tasks: usize,
    output: Output,
    entry: &Entry,
    image: &Image,
) -> Result<StageSpec> {
    let mut inputs: Vec<Input> = lineage.sources.iter().copied().map(Input::Source).collect();
    // The image was taken before these stages had numbers, so tasks are told which stage is behind which dependency.
    let mut numbers = Vec::new();
    for dependency in &lineage.shuffles {
        if let Some(stage) = dependency.stage() {
            inputs.push(Input::Shuffle(stage));
            numbers.push((dependency.number(), stage));
        }
    }
    inputs.extend(lineage.cached.iter().copied().map(Input::Cached));
    let mut payload = Vec::new();
    if !numbers.is_empty() {
        codec::encode(&numbers, &mut payload).map_err(told)?;
    }
    Ok(StageSpec {
        name: name.to_owned(),
        #[cfg(target_family = "wasm")]
        operators: lineage.operators,
        tasks: u32::try_from(tasks)?,
        inputs,
        output,
        entry: entry.0 as u64,
        payload,
        image: image.0,
    })
}
