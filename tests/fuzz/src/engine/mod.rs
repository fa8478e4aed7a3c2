//! Targets of crates that know the engine.

mod code_cache;
mod component;
mod config;
mod driver_calls;
mod images;
mod messages;
mod pages;
mod task_calls;

use std::sync::LazyLock;

use ingle_sandbox::{ComponentHash, Interrupt, Job, LoadError, Sandbox};

use crate::{MIB, Target, target};

pub const TARGETS: &[Target] = &[
    target("code_cache", code_cache::run, 8 * MIB),
    target("component", component::run, 64 * MIB),
    target("config", config::run, 4 * MIB),
    target("driver_calls", driver_calls::run, 32 * MIB),
    target("images", images::run, 16 * MIB),
    target("messages", messages::run, 8 * MIB),
    target("pages", pages::run, 4 * MIB),
    target("task_calls", task_calls::run, 32 * MIB),
];

/// The smallest job: it does nothing.
const JOB: &str = r#"(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "drive") (result i32) i32.const 0)
    (func (export "run") (param i64)))
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $mem))
  (func $drive (result (result (error string)))
    (canon lift (core func $i "drive") (memory $mem)))
  (func $run (param "entry" u64) (canon lift (core func $i "run")))
  (instance $main (export "drive" (func $drive)) (export "run" (func $run)))
  (export "ingle:job/main@0.1.0" (instance $main)))"#;

static SANDBOX: LazyLock<Sandbox> =
    LazyLock::new(|| Sandbox::new(None, Interrupt::Calls).expect("there is an engine"));

static LOADED: LazyLock<Job> = LazyLock::new(|| {
    let job = wat::parse_str(JOB).expect("it is WebAssembly");
    SANDBOX.load::<LoadError>(ComponentHash::of(&job), || Ok(job)).expect("it is a job")
});
