//! Slots and modules that no compiler of Rust makes.

use std::sync::mpsc;

use ingle_blocks::Grants;
use ingle_sandbox::{ComponentHash, Interrupt, LoadError, Sandbox, Stream};

use super::*;

/// A job whose instances never come to be.
const ENDLESS_START: &str = r#"(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "drive") (result i32) i32.const 0)
    (func (export "run") (param i64))
    (func $f (loop $on br $on))
    (start $f))
  (core instance $i (instantiate $m))
  (func $drive (result (result (error string)))
    (canon lift (core func $i "drive") (memory (core memory $i "memory"))))
  (func $run (param "entry" u64) (canon lift (core func $i "run")))
  (instance $main (export "drive" (func $drive)) (export "run" (func $run)))
  (export "ingle:job/main@0.1.0" (instance $main)))"#;

struct Nobody;

impl LogSink for Nobody {
    fn write(&self, _: Stream, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

/// Hands on how tasks ended.
struct Ends(mpsc::Sender<v1::TaskEnd>);

impl Reports for Ends {
    fn ended(&self, _: ExecutorId, ended: Vec<(v1::TaskEnd, crate::driver::Made)>) {
        ended.into_iter().for_each(|(end, _)| self.0.send(end).expect("somebody listens"));
    }
}

/// How a task of that job ends that may take 50 ms of a processor, and who is told that it doesn't stop.
fn overtime(interrupt: Interrupt) -> (v1::TaskEnd, Option<String>) {
    let job = wat::parse_str(ENDLESS_START).expect("a component's text");
    let sandbox = Sandbox::new(None, interrupt).expect("an engine");
    let job = sandbox.load::<LoadError>(ComponentHash::of(&job), || Ok(job)).expect("a job");
    let dir = tempfile::tempdir().expect("a folder");
    let pool = MemoryPool::new(ingle_core::size::ByteSize(64 << 20));
    let grants = Arc::new(Grants::new_in(dir.path(), &[], &[]).expect("nothing is granted"));
    let (ends, ended) = mpsc::channel();
    let reports: Arc<dyn Reports> = Arc::new(Ends(ends));
    let (stuck, mut stuck_told) = tokio::sync::mpsc::unbounded_channel();
    let slots = Slots::start(ExecutorOptions {
        id: ExecutorId(0),
        slots: 1,
        job,
        pool: pool.clone(),
        store: BlockStore::new(pool.clone(), dir.path()).expect("a folder"),
        opened: Arc::new(Opened::new(grants, pool)),
        capabilities: Capabilities::default(),
        log: Arc::new(Nobody),
        reuse: true,
        reports: Arc::downgrade(&reports),
        here: String::new(),
        workers: None,
        time: TaskTime { wall: None, processor: Some(Duration::from_millis(50)) },
        output: None,
        stuck: Some(stuck),
    });
    let slots = slots.expect("threads");
    let tell = |command| slots.link().send(v1::ExecutorCommand { command: Some(command) }, None);
    tell(Command::Describe(v1::StageDescription { tasks: 1, ..Default::default() }));
    let task = Some(v1::TaskId::default());
    let launch = v1::executor_command::Launch { tasks: vec![v1::TaskLaunch { job: 0, task }] };
    tell(Command::Launch(launch));
    // Less than what a task in its host's code is given.
    let end = ended.recv_timeout(HOST_PATIENCE / 2).expect("it ends, or is given up");
    let can_stop = interrupt == Interrupt::Epoch;
    // One that can't goes on until this process ends; whoever watches has told by then.
    let stopped = slots.stop(Duration::from_secs(if can_stop { 20 } else { 2 }));
    assert_eq!(stopped, can_stop, "it stops if it can");
    (end, stuck_told.try_recv().ok())
}

#[test]
fn an_endless_start_is_bounded_as_a_task_is() {
    let over = |end: &v1::TaskEnd| match &end.outcome {
        Some(v1::task_end::Outcome::Failed(failed)) => failed.message.contains("cpuTimeout"),
        _ => false,
    };
    let (end, stuck) = overtime(Interrupt::Epoch);
    assert!(over(&end) && stuck.is_none(), "{end:?} {stuck:?}");
    let (end, stuck) = overtime(Interrupt::Calls);
    let told = stuck.as_deref().unwrap_or_default();
    assert!(over(&end) && told.contains("asks its host for nothing"), "{end:?} {stuck:?}");
}
