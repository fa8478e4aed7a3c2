//! What a hostile task asks of its executor, and what a hostile driver tells it: any call, with any numbers, in any order.

use std::fs;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ingle_blocks::{BlockStore, Grants};
use ingle_cluster::TaskTime;
use ingle_cluster::fuzzing::Message;
use ingle_cluster::fuzzing::{
    ExecutorLink, ExecutorOptions, Guest, Made, Opened, Reports, Slots, guest,
};
use ingle_core::ids::{ExecutorId, JobId, StageId, TaskId};
use ingle_core::memory::MemoryPool;
use ingle_core::scheduler::TaskLaunch;
use ingle_core::size::ByteSize;
use ingle_proto::v1;
use ingle_proto::v1::executor_command::{Command, DropCache, Forget, Launch, WorkerLost};
use ingle_proto::v1::{stage_input, stage_output};
use ingle_sandbox::host::{Stop, TaskHost};
use ingle_sandbox::{Capabilities, LogSink, Stream};

use super::LOADED;
use crate::Input;

const MEMORY: u64 = 1 << 20;
/// So that no input takes long.
const MAX_CALLS: usize = 200;

struct Nobody;

impl Reports for Nobody {
    fn ended(&self, _: ExecutorId, _: Vec<(v1::TaskEnd, Made)>) {}
}

impl LogSink for Nobody {
    fn write(&self, _: Stream, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

pub fn run(data: &[u8]) {
    let Ok(root) = tempfile::tempdir() else { return };
    for (name, contents) in [("a.txt", "one\ntwo\n\nthree"), ("b.gz", "no gzip"), ("c", "")] {
        if fs::write(root.path().join(name), contents).is_err() {
            return;
        }
    }
    let write = root.path().join("out");
    let grants = Grants::new_in(root.path(), &[root.path().to_owned()], &[write]);
    let grants = Arc::new(grants.expect("a folder can be granted"));
    let pool = MemoryPool::new(ByteSize(MEMORY));
    let store = BlockStore::new(pool.clone(), root.path()).expect("a folder can be made");
    let slots = Slots::start(ExecutorOptions {
        id: ExecutorId(0),
        // Nobody but this runs tasks.
        slots: 0,
        job: LOADED.clone(),
        pool: pool.clone(),
        store: store.clone(),
        opened: Arc::new(Opened::new(grants, pool.clone())),
        capabilities: Capabilities::default(),
        log: Arc::new(Nobody),
        reuse: true,
        reports: Weak::<Nobody>::new(),
        here: "here:1".into(),
        workers: None,
        time: TaskTime::default(),
        output: None,
        stuck: None,
    });
    let slots = slots.expect("no thread is started");
    let link = slots.link();
    let mut input = Input::new(data);
    let mut guests: Vec<Guest> = Vec::new();
    for _ in 0..MAX_CALLS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0 | 1 => tell(&mut input, &*link, root.path()),
            2 => {
                let stage = StageId(input.id());
                let task = TaskId { stage, partition: input.id(), attempt: input.id() };
                guests.extend(guest(&slots, TaskLaunch { job: JobId(input.id()), task }));
            }
            3 => {
                if let Some(guest) = guests.pop() {
                    let _ = guest.finish();
                }
            }
            _ => {
                let Some(guest) = guests.last_mut() else { continue };
                // One that broke the contract is ended.
                if let Err(stop) = call(&mut input, guest) {
                    assert!(!stop.to_string().is_empty());
                    drop(guests.pop());
                }
            }
        }
        let used = pool.usage().total();
        assert!(used <= MEMORY, "{used} bytes are charged");
    }
    drop((guests, link, store));
    assert!(slots.stop(Duration::from_secs(60)), "nothing runs");
    assert_eq!(pool.usage().total(), 0, "everything is given back");
}

fn call(input: &mut Input<'_>, guest: &mut Guest) -> Result<(), Stop> {
    let block = |input: &mut Input<'_>| {
        let length = (input.number() as usize % 1_000_003 * 251) % (128 << 10);
        vec![input.byte(); length]
    };
    match input.byte() % 20 {
        0 => drop((guest.context(), guest.payload(), guest.cancelled())),
        1 => drop(guest.open_split(input.id(), input.id())?),
        2 => {
            let first = input.id();
            let partitions = first..first.saturating_add(input.id());
            let part = input.flag().then(|| (input.id(), input.id()));
            drop(guest.open_shuffle(input.id(), partitions, part)?);
        }
        3 => drop(guest.open_cached(input.id(), input.id())?),
        4 | 5 => drop(guest.read(input.id())?),
        6 => guest.close(input.id())?,
        7 => drop(guest.describe(input.id())?),
        8 => {
            guest.line_number(input.id(), input.number())?;
        }
        9 => drop(guest.extent(input.id())?),
        10 => {
            if let Ok(bytes) = guest.read_at(input.id(), input.number(), input.id())? {
                assert!(bytes.len() as u64 <= MEMORY, "what is read is charged");
            }
        }
        11 | 12 => {
            let block = block(input);
            guest.write(input.id(), &block)?;
        }
        13 => {
            let block = block(input);
            guest.emit(&block)?;
        }
        14 => {
            let block = block(input);
            guest.write_cached(input.id(), input.id(), &block)?;
        }
        15 => guest.finish_cached(input.id(), input.id())?,
        16 => drop(guest.create_run()?),
        17 => {
            let block = block(input);
            guest.write_run(input.id(), &block)?;
        }
        18 => match input.flag() {
            true => drop(guest.open_run(input.id())?),
            false => guest.drop_run(input.id())?,
        },
        _ => guest.accumulate(input.id(), input.some_bytes())?,
    }
    Ok(())
}

/// A command, mostly one that means something.
fn tell(input: &mut Input<'_>, link: &dyn ExecutorLink, root: &std::path::Path) {
    let path = |input: &mut Input<'_>| {
        let name = input.pick(&["a.txt", "b.gz", "c", "nowhere", "../x", ""]);
        root.join(name).to_string_lossy().into_owned()
    };
    let command = match input.byte() % 12 {
        0..=2 => Command::Describe(stage(input)),
        3 | 4 => {
            let count = input.below(3);
            let files = (0..count).map(|_| v1::source_description::File {
                path: path(input),
                length: input.number(),
                tag: None,
            });
            let files = files.collect();
            let splits = input.below(4);
            Command::Source(v1::SourceDescription {
                source: input.id(),
                framing: i32::from(input.byte() % 5),
                files,
                split_file: (0..splits).map(|_| input.id()).collect(),
                split_start: (0..splits).map(|_| input.number()).collect(),
                split_end: (0..splits).map(|_| input.number()).collect(),
                published: Vec::new(),
                more: input.flag(),
            })
        }
        5 => Command::Output(v1::OutputDescription {
            output: input.id(),
            path: path(input),
            token: input.pick(&["0123456789abcdef", "../../../../../x", ""]).to_owned(),
            extension: input.text(),
            compression: i32::from(input.byte() % 4),
        }),
        6 => Command::Cache(v1::CacheDescription {
            cache: input.id(),
            level: i32::from(input.byte() % 4),
        }),
        7 => {
            let count = input.below(6);
            let maker = |input: &mut Input<'_>| v1::map_outputs::Maker {
                executor: input.id(),
                worker: input.pick(&["here:1", "there:1"]).to_owned(),
                worker_id: input.id(),
            };
            let outputs = v1::MapOutputs {
                stage: input.id(),
                makers: (0..input.below(4)).map(|_| maker(input)).collect(),
                maker: (0..count).map(|_| input.id()).collect(),
                attempt: (0..count).map(|_| input.id()).collect(),
                task: (0..input.below(2) * count).map(|_| input.id()).collect(),
            };
            Command::MapOutputs(outputs.encode_to_vec().into())
        }
        8 => Command::MapOutputs(input.some_bytes().to_vec().into()),
        9 => match input.byte() % 4 {
            0 => Command::Forget(Forget { stage: input.id() }),
            1 => Command::DropCache(DropCache { cache: input.id() }),
            2 => Command::WorkerLost(WorkerLost { worker: input.id() }),
            _ => Command::Kill(task(input)),
        },
        10 => {
            let launch =
                v1::TaskLaunch { job: input.id(), task: input.flag().then(|| task(input)) };
            Command::Launch(Launch { tasks: vec![launch] })
        }
        _ => match v1::ExecutorCommand::decode(input.some_bytes()) {
            Ok(v1::ExecutorCommand { command: Some(command) }) => command,
            _ => return,
        },
    };
    link.send(v1::ExecutorCommand { command: Some(command) }, None);
}

fn task(input: &mut Input<'_>) -> v1::TaskId {
    v1::TaskId { stage: input.id(), partition: input.id(), attempt: input.id() }
}

fn stage(input: &mut Input<'_>) -> v1::StageDescription {
    let one = |input: &mut Input<'_>| v1::StageInput {
        input: match input.byte() % 4 {
            0 => None,
            1 => Some(stage_input::Input::Source(input.id())),
            2 => Some(stage_input::Input::Cached(input.id())),
            _ => Some(stage_input::Input::Shuffle(v1::ShuffleInput {
                stage: input.id(),
                tasks: input.id(),
                partitions: input.id(),
            })),
        },
    };
    let output = match input.byte() % 4 {
        0 => stage_output::Output::Results(v1::Results {}),
        // A driver of the host's own lets no stage have more than a million.
        1 | 2 => stage_output::Output::Shuffle(input.id() % 5000),
        _ => stage_output::Output::Files(input.id()),
    };
    v1::StageDescription {
        stage: input.id(),
        name: input.text(),
        tasks: input.id(),
        inputs: (0..input.below(4)).map(|_| one(input)).collect(),
        output: (input.byte() != 99).then_some(v1::StageOutput { output: Some(output) }),
        entry: input.number(),
        payload: input.some_bytes().to_vec().into(),
        image: None,
        manifest: None,
    }
}
