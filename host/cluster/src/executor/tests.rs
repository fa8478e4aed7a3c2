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

/// A job whose task asks where its image belongs, grows its memory to hold it, and never lays it: it fills it, and spins.
const NEVER_LAID: &str = r#"(component
  (import "ingle:job/image@0.1.0" (instance $image
    (type $placed (record (field "base" u64) (field "length" u64)))
    (export "placement" (type $placement (eq $placed)))
    (export "layout" (func (result (option $placement))))))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $layout (canon lower (func $image "layout") (memory (core memory $memory "memory"))))
  (core module $m
    (import "own" "memory" (memory 1))
    (import "own" "layout" (func $layout (param i32)))
    (func (export "drive") (result i32) i32.const 0)
    (func (export "run") (param i64) (local $at i32)
      (call $layout (i32.const 8))
      (br_if 0 (i32.eq (memory.grow (i32.const 640)) (i32.const -1)))
      (local.set $at (i32.const 65536))
      (loop $fill
        (i32.store (local.get $at) (i32.const 7))
        (local.set $at (i32.add (local.get $at) (i32.const 4096)))
        (br_if $fill (i32.lt_u (local.get $at) (i32.const 42008576))))
      (loop $on br $on)))
  (core instance $i (instantiate $m (with "own" (instance
    (export "memory" (memory $memory "memory")) (export "layout" (func $layout))))))
  (func $drive (result (result (error string)))
    (canon lift (core func $i "drive") (memory (core memory $memory "memory"))))
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

/// How a task of a job ends that never ends by itself, and who is told that it doesn't stop. It starts from an image of so many bytes, if
/// any, and has 64 MiB.
fn end_of(
    text: &str,
    interrupt: Interrupt,
    time: TaskTime,
    image: usize,
) -> (String, Option<String>) {
    let job = wat::parse_str(text).expect("a component's text");
    let sandbox = Sandbox::new(None, interrupt).expect("an engine");
    let hash = ComponentHash::of(&job);
    let job = sandbox.load::<LoadError>(hash, || Ok(job)).expect("a job");
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
        opened: Arc::new(Opened::new(grants, pool.clone())),
        capabilities: Capabilities::default(),
        log: Arc::new(Nobody),
        reuse: true,
        reports: Arc::downgrade(&reports),
        here: String::new(),
        workers: None,
        time,
        output: None,
        stuck: Some(stuck),
    });
    let slots = slots.expect("threads");
    let send = |command, image| {
        slots.link().send(v1::ExecutorCommand { command: Some(command) }, image);
    };
    let image = (image > 0).then(|| {
        Image::capture(hash, 64 << 10, &vec![1; image], &pool).expect("there is memory for it")
    });
    let results = v1::stage_output::Output::Results(Default::default());
    let output = Some(v1::StageOutput { output: Some(results) });
    let stage = v1::StageDescription { tasks: 1, output, ..Default::default() };
    send(Command::Describe(stage), image);
    let task = Some(v1::TaskId::default());
    let launch = v1::executor_command::Launch { tasks: vec![v1::TaskLaunch { job: 0, task }] };
    send(Command::Launch(launch), None);
    // Less than what a task in its host's code is given.
    let end = ended.recv_timeout(HOST_PATIENCE / 2).expect("it ends, or is given up");
    let can_stop = interrupt == Interrupt::Epoch;
    // One that can't goes on until this process ends; whoever watches has told by then.
    let stopped = slots.stop(Duration::from_secs(if can_stop { 20 } else { 2 }));
    assert_eq!(stopped, can_stop, "it stops if it can");
    let Some(v1::task_end::Outcome::Failed(failed)) = end.outcome else { panic!("{end:?}") };
    (failed.message, stuck_told.try_recv().ok())
}

/// It fails with these words: by itself where it can be stopped, else with its process.
fn is_bounded(text: &str, time: TaskTime, image: usize, words: &str) {
    let (failed, stuck) = end_of(text, Interrupt::Epoch, time, image);
    assert!(failed.contains(words) && stuck.is_none(), "{failed} {stuck:?}");
    let (failed, stuck) = end_of(text, Interrupt::Calls, time, image);
    let told = stuck.as_deref().unwrap_or_default();
    assert!(
        failed.contains(words) && told.contains("asks its host for nothing"),
        "{failed} {told}"
    );
}

#[test]
fn an_endless_start_is_bounded_as_a_task_is() {
    let time = TaskTime { wall: None, processor: Some(Duration::from_millis(50)) };
    is_bounded(ENDLESS_START, time, 0, "cpuTimeout");
}

#[test]
fn a_component_of_several_memories_pays_for_its_images_place_itself() {
    let other = "(core module $other (memory 1)) (core instance (instantiate $other))";
    let text =
        NEVER_LAID.replacen("(core module $m\n", &format!("{other}\n  (core module $m\n"), 1);
    assert!(text.contains(other));
    let (failed, stuck) = end_of(&text, Interrupt::Epoch, TaskTime::default(), 40 << 20);
    // As it grows, not as it fills the place.
    let words = "out of memory: 40.0 MiB more don't fit";
    assert!(failed.contains(words) && stuck.is_none(), "{failed} {stuck:?}");
}

#[test]
fn memory_that_an_image_was_to_be_laid_over_is_charged_to_who_fills_it() {
    is_bounded(NEVER_LAID, TaskTime::default(), 40 << 20, "out of memory: the task changed");
}
