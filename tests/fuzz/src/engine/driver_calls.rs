//! What a hostile driver asks of its host, and what hostile executors report to it: any call, with any numbers, in any order.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use ingle_blocks::{BlockStore, Grants};
use ingle_cluster::Policy;
use ingle_cluster::fuzzing::Message;
use ingle_cluster::fuzzing::{
    Application, Driver, ExecutorLink, Grant, Hub, Opened, Parallelism, Reported, Secret,
};
use ingle_core::ids::{ExecutorId, JobId, TaskId, WorkerId};
use ingle_core::memory::MemoryPool;
use ingle_core::size::ByteSize;
use ingle_proto::v1;
use ingle_proto::v1::executor_report::Report;
use ingle_proto::v1::task_end::Outcome;
use ingle_sandbox::host::{
    CachedInput, Compression, DriverHost, Framing, Input as StageInput, Output, OutputSpec,
    SourceSpec, StageSpec, Stop, StorageLevel,
};
use ingle_sandbox::{ComponentHash, Image};
use parking_lot::Mutex;

use crate::Input;

const MEMORY: u64 = 1 << 20;
/// So that no input takes long.
const MAX_CALLS: usize = 200;

/// An executor elsewhere, that does nothing by itself.
#[derive(Default)]
struct Elsewhere(Mutex<Vec<v1::TaskId>>);

impl ExecutorLink for Elsewhere {
    fn send(&self, command: v1::ExecutorCommand, _: Option<Image>) {
        if let Some(v1::executor_command::Command::Launch(launch)) = command.command {
            let mut known = self.0.lock();
            known.extend(launch.tasks.iter().filter_map(|launch| launch.task));
            let more = known.len().saturating_sub(256);
            known.drain(..more);
        }
    }

    fn is_elsewhere(&self) -> bool {
        true
    }
}

struct World {
    driver: Driver,
    application: Arc<Application>,
    hub: Hub,
    elsewhere: Arc<Elsewhere>,
    partial: HashMap<TaskId, ingle_blocks::ResultBuffer>,
}

pub fn run(data: &[u8]) {
    let Ok(root) = tempfile::tempdir() else { return };
    if fs::write(root.path().join("a.txt"), "one\ntwo\n").is_err() {
        return;
    }
    let (read, write) = (root.path().join("a.txt"), root.path().join("out"));
    let grants = Grants::new_in(root.path(), &[read], &[write]).expect("they can be granted");
    let pools = [(); 2].map(|()| MemoryPool::new(ByteSize(MEMORY)));
    let [driver_pool, pool] = pools.clone();
    let opened = Arc::new(Opened::new(Arc::new(grants), driver_pool.clone()));
    let policy = Policy { max_tasks_per_stage: 200, max_stages: 64, ..Policy::default() };
    let told = Box::new(|note: &ingle_cluster::Note| assert!(!note.to_string().is_empty()));
    let application = Arc::new(Application::new(policy, opened, driver_pool, told));
    let spill = BlockStore::new(pool.clone(), root.path()).expect("a folder can be made");
    let hub = Hub::new(
        application.clone(),
        Secret::random().expect("there are random numbers"),
        Default::default(),
        Bytes::new(),
        spill,
        None,
        Box::new(|_| {}),
    );
    let driver = Driver {
        application: application.clone(),
        settings: Default::default(),
        executor_pool: pool,
        parallelism: Arc::new(Parallelism::of(4)),
        lent: Vec::new(),
    };
    let (elsewhere, partial) = Default::default();
    let mut world = World { driver, application, hub, elsewhere, partial };
    let mut input = Input::new(data);
    for _ in 0..MAX_CALLS {
        if input.is_empty() {
            break;
        }
        if input.byte().is_multiple_of(3) {
            world.reported(&mut input);
        } else if let Err(stop) = world.call(&mut input) {
            assert!(!stop.to_string().is_empty());
        }
        // What shells and people ask at any time.
        let application = &world.application;
        let _ = (application.progress(), application.load(), application.drained());
        assert!(pools.iter().all(|pool| pool.usage().total() <= MEMORY));
    }
    world.application.cancel();
    world.application.opened().close();
    drop(world);
    let left = pools.map(|pool| pool.usage().total());
    assert_eq!(left, [0, 0], "everything is given back");
}

impl World {
    fn call(&mut self, input: &mut Input<'_>) -> Result<(), Stop> {
        let driver = &mut self.driver;
        match input.byte() % 20 {
            0 => {
                let framings = [
                    Framing::Lines,
                    Framing::LinesWithHeader,
                    Framing::WholeFiles,
                    Framing::Ranges,
                ];
                let path = input.pick(&["a.txt", "", "../..", "s3://b/k", "*", "out"]).to_owned();
                let (framing, min_splits) = (input.pick(&framings), input.id());
                drop(driver.open_source(SourceSpec { path, framing, min_splits })?);
            }
            1 => {
                let codecs = [Compression::None, Compression::Gzip, Compression::Zstd];
                let path = input.pick(&["out", "out/a", "out/b/c", "../x", "a.txt"]).to_owned();
                let (extension, compression) = (input.text(), input.pick(&codecs));
                drop(driver.open_output(OutputSpec { path, extension, compression })?);
            }
            2 => drop(driver.commit_output(input.id())?),
            3 => driver.drop_output(input.id())?,
            4 => {
                let levels =
                    [StorageLevel::MemoryOnly, StorageLevel::MemoryAndDisk, StorageLevel::DiskOnly];
                driver.new_cache(input.pick(&levels))?;
            }
            5 => driver.drop_cache(input.id())?,
            6..=9 => drop(driver.define_stage(spec(input))?),
            10 => driver.drop_stage(input.id())?,
            11..=13 => drop(driver.run(input.id())?),
            14 | 15 => {
                let job = input.id();
                // What would wait for executors waits for ever.
                if !self.application.waits(JobId(job)) {
                    drop(driver.next(job)?);
                }
            }
            16 => driver.cancel(input.id())?,
            17 => drop((driver.setting(&input.text())?, driver.default_parallelism()?)),
            18 => {
                let bytes = vec![input.byte(); 4096 * input.below(80)];
                let pool = driver.image_pool();
                if let Ok(image) = Image::capture(ComponentHash::of(b""), 0, &bytes, &pool) {
                    driver.keep_image(image)?;
                }
            }
            _ => driver.release_image(input.id())?,
        }
        Ok(())
    }

    fn reported(&mut self, input: &mut Input<'_>) {
        let executor = ExecutorId(input.id() % 4);
        let worker = WorkerId(input.id() % 3);
        let grant = Grant { worker, worker_address: "w:1".into(), cores: input.id() % 16 };
        match input.byte() % 12 {
            0 => {
                self.hub.granted(executor, grant);
            }
            1 => match input.byte() % 4 {
                0 => self.hub.gone(executor, "it crashed"),
                1 => self.application.worker_lost(worker, "it burnt"),
                2 => self.application.drain_worker(worker),
                _ => self.application.tick(),
            },
            _ => {
                let reports: Vec<_> = match input.byte() % 8 {
                    0 => match v1::ExecutorReports::decode(input.some_bytes()) {
                        Ok(batch) => {
                            if let Some(used) = &batch.used {
                                self.application.used(executor, used);
                            }
                            Reported::new(batch.reports).collect()
                        }
                        Err(_) => return,
                    },
                    1 => vec![Ok(v1::ExecutorReport { report: Some(Report::Ready(v1::Ready {})) })],
                    _ => (0..1 + input.below(3)).map(|_| Ok(self.report(input))).collect(),
                };
                let link: Arc<dyn ExecutorLink> = self.elsewhere.clone();
                if self.hub.take(executor, &grant, &link, reports, &mut self.partial).is_err() {
                    self.hub.gone(executor, "it said what makes no sense");
                }
            }
        }
    }

    fn task(&self, input: &mut Input<'_>) -> Option<v1::TaskId> {
        let known = self.elsewhere.0.lock();
        match input.byte() % 8 {
            0 => None,
            1 => Some(v1::TaskId { stage: input.id(), partition: input.id(), attempt: input.id() }),
            _ => known.get(input.below(known.len().max(1))).copied(),
        }
    }

    fn report(&self, input: &mut Input<'_>) -> v1::ExecutorReport {
        let report = match input.byte() % 8 {
            0 => Report::Part(v1::ResultPart {
                task: self.task(input),
                data: vec![input.byte(); input.number() as usize % (64 << 10)].into(),
            }),
            1 => Report::Log(v1::LogLines {
                stderr: input.flag(),
                text: input.some_bytes().to_vec(),
            }),
            2 => Report::DroppedLines(input.number()),
            _ => Report::Ended(self.end(input)),
        };
        v1::ExecutorReport { report: Some(report) }
    }

    fn end(&self, input: &mut Input<'_>) -> v1::TaskEnd {
        let outcome = match input.byte() % 8 {
            0 => None,
            1 => Some(Outcome::Killed(v1::Killed {})),
            2 => Some(Outcome::Failed(v1::TaskFailed {
                message: input.text(),
                retryable: input.flag(),
                executor_at_fault: input.flag(),
            })),
            3 => Some(Outcome::FetchFailed(v1::FetchFailed {
                stage: input.id(),
                partition: input.id(),
                executor: input.id(),
                attempt: input.id(),
                whole: input.flag(),
            })),
            _ => Some(Outcome::Succeeded(v1::Succeeded {})),
        };
        let update = |input: &mut Input<'_>| v1::AccumulatorUpdate {
            accumulator: input.id(),
            value: input.some_bytes().to_vec(),
        };
        v1::TaskEnd {
            task: self.task(input),
            metrics: input.flag().then(|| v1::TaskMetrics {
                run_nanos: input.number(),
                bytes_read: input.number(),
                bytes_shuffled: input.number(),
                bytes_spilled: input.number(),
                peak_guest: input.number(),
                peak_own_pages: input.number(),
                ..v1::TaskMetrics::default()
            }),
            outcome,
            result: input.flag().then(|| vec![1; input.number() as usize % (64 << 10)]),
            updates: (0..input.below(3)).map(|_| update(input)).collect(),
            stored: (0..input.below(3))
                .map(|_| v1::CachedPartition { cache: input.id(), partition: input.id() })
                .collect(),
        }
    }
}

fn spec(input: &mut Input<'_>) -> StageSpec {
    let one = |input: &mut Input<'_>| match input.byte() % 3 {
        0 => StageInput::Source(input.id()),
        1 => StageInput::Shuffle(input.id()),
        _ => {
            let cache = input.id();
            StageInput::Cached(CachedInput { cache, first: input.flag().then(|| input.id()) })
        }
    };
    StageSpec {
        name: input.text(),
        operators: (0..input.below(3)).map(|_| input.text()).collect(),
        tasks: input.id(),
        inputs: (0..input.below(3)).map(|_| one(input)).collect(),
        output: match input.byte() % 4 {
            0 => Output::Files(input.id()),
            1 => Output::Shuffle(input.id()),
            _ => Output::Results,
        },
        entry: input.number(),
        payload: input.some_bytes().to_vec(),
        image: input.byte().is_multiple_of(4).then(|| input.id()),
    }
}
