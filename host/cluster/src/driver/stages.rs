//! What the driver's host knows of a stage beside what the scheduler does.

use std::collections::{BTreeSet, HashMap};

use ingle_core::ids::{CacheId, ImageId, OutputId, SourceId, StageId, WorkerId};
use ingle_core::memory::{MemoryPool, MemoryUse, Reservation};
use ingle_core::scheduler;
use ingle_core::size::ByteSize;
use ingle_proto::v1;
use ingle_sandbox::Image;
use ingle_sandbox::host::{CachedInput, Input, Output, StageSpec, Stop};

use super::opened::Opened;

/// Operators of one stage; a plan view of more helps nobody.
const MAX_OPERATORS: usize = 1024;
/// Inputs of one stage.
const MAX_INPUTS: usize = 65_536;
/// Partitions that a stage's output is shuffled into: each of its tasks' files has 16 bytes for each of them.
const MAX_PARTITIONS: u32 = 1_000_000;
/// Bytes of an operator's text.
const MAX_OPERATOR: usize = 1024;
/// What tasks may read as their stage's payload: it travels in one message.
const MAX_PAYLOAD: usize = 48 << 20;
/// What an input costs the host.
const INPUT: usize = 64;
/// What a stage costs the host beside its texts and payload, about.
const STAGE: u64 = 1024;

/// A stage that was defined.
pub struct Stage {
    pub name: String,
    pub operators: Vec<String>,
    pub tasks: u32,
    pub output: Output,
    /// If it shuffles, the workers where executors have, or had, tasks of it.
    pub workers: BTreeSet<WorkerId>,
    pub image: Option<Image>,
    /// What an executor must know. Complete but for the stage's number.
    pub description: v1::StageDescription,
    _charge: Reservation,
}

/// What an image is made of; none if its file can't be read, and then its tasks fail.
pub fn manifest(image: &Image) -> Option<v1::ImageManifest> {
    match image.pieces() {
        Ok(pieces) => Some(v1::ImageManifest {
            base: image.base(),
            length: image.length(),
            hashes: pieces.as_flattened().to_vec(),
        }),
        Err(error) => {
            tracing::error!("reading an image: {error}");
            None
        }
    }
}

/// Why a stage isn't defined.
pub enum Problem {
    /// The guest named what isn't there: it traps.
    Misuse(Stop),
    /// A text for the user.
    Refused(String),
}

fn misuse(text: String) -> Problem {
    Problem::Misuse(Stop::Misuse(text))
}

/// Checks a definition against what is open; gives it for the scheduler too.
pub fn define(
    spec: StageSpec,
    opened: &Opened,
    stages: &HashMap<StageId, Stage>,
    pool: &MemoryPool,
) -> Result<(Stage, scheduler::StageSpec), Problem> {
    let StageSpec { name, mut operators, tasks, inputs, output, entry, payload, image } = spec;
    operators.truncate(MAX_OPERATORS);
    for operator in &mut operators {
        operator.truncate(operator.floor_char_boundary(MAX_OPERATOR));
        operator.shrink_to_fit();
    }
    let texts: usize = operators.iter().map(|o| o.len() + size_of::<String>()).sum();
    if inputs.len() > MAX_INPUTS {
        return Err(Problem::Refused(format!(
            "{name} has {} inputs, and can't have more than {MAX_INPUTS}",
            inputs.len()
        )));
    }
    if let Output::Shuffle(partitions) = output
        && partitions > MAX_PARTITIONS
    {
        return Err(Problem::Refused(format!(
            "{name} shuffles into {partitions} partitions, and can't into more than {MAX_PARTITIONS}"
        )));
    }
    if payload.len() > MAX_PAYLOAD {
        return Err(Problem::Refused(format!(
            "{name} has {} for its tasks to read, and at most {} travel: capture the rest in its closures, or read it from files",
            ByteSize(payload.len() as u64),
            ByteSize(MAX_PAYLOAD as u64)
        )));
    }
    // The executor has a copy, too.
    let bytes = (name.len() + texts + 2 * (payload.len() + INPUT * inputs.len())) as u64 + STAGE;
    let charge = pool.reserve(MemoryUse::Input, bytes).map_err(|e| {
        Problem::Refused(format!("the description of {name}: {e}; raise --driver-memory"))
    })?;

    let (mut parents, mut cached) = (Vec::new(), Vec::new());
    let mut messages = Vec::new();
    for input in inputs {
        use v1::stage_input::Input as Message;
        let message = match input {
            Input::Source(id) => {
                let source = opened.source(SourceId(id));
                source.ok_or_else(|| {
                    misuse(format!("stage input source {id}, which was never opened"))
                })?;
                Message::Source(id)
            }
            Input::Cached(CachedInput { cache: id, first }) => {
                let cache = CacheId(id);
                opened.cache(cache).ok_or_else(|| {
                    misuse(format!("stage input cache {id}, which was never made"))
                })?;
                cached.extend(first.map(|first| scheduler::CachedInput { cache, first }));
                Message::Cached(id)
            }
            Input::Shuffle(id) => {
                let parent = StageId(id);
                parents.push(parent);
                // One that isn't there or shuffles nothing is refused by the scheduler, which knows better words.
                let (tasks, partitions) = match stages.get(&parent) {
                    Some(Stage { tasks, output: Output::Shuffle(partitions), .. }) => {
                        (*tasks, *partitions)
                    }
                    _ => (0, 0),
                };
                Message::Shuffle(v1::ShuffleInput { stage: id, tasks, partitions })
            }
        };
        messages.push(v1::StageInput { input: Some(message) });
    }

    use v1::stage_output::Output as Message;
    let (message, kind) = match output {
        Output::Results => (Message::Results(v1::Results {}), scheduler::StageOutput::Results),
        Output::Shuffle(partitions) => {
            (Message::Shuffle(partitions), scheduler::StageOutput::Shuffle)
        }
        Output::Files(id) => {
            if !opened.has_output(OutputId(id)) {
                return Err(misuse(format!("stage output {id}, which isn't open")));
            }
            (Message::Files(id), scheduler::StageOutput::Results)
        }
    };
    let held = image.map(|id| {
        let held = opened.image(ImageId(id));
        held.ok_or_else(|| misuse(format!("image {id}, which was never captured, or released")))
    });
    let description = v1::StageDescription {
        stage: 0,
        name: name.clone(),
        tasks,
        inputs: messages,
        output: Some(v1::StageOutput { output: Some(message) }),
        entry,
        payload: payload.into(),
        image,
        manifest: None,
    };
    let for_scheduler =
        scheduler::StageSpec { name: name.clone(), tasks, parents, cached, output: kind };
    let image = held.transpose()?;
    let workers = BTreeSet::new();
    Ok((
        Stage { name, operators, tasks, output, workers, image, description, _charge: charge },
        for_scheduler,
    ))
}
