//! What is hostile to the host, as functions of bytes: one a file, each the body of a fuzz target.
//!
//! `cargo xtask fuzz NAME` has libFuzzer call one of them (`cargo-fuzz/`). `tests/corpus/main.rs` runs each over its kept corpus and over
//! mutations of that, with every change. A target panics if the host does, or if the host believes what it must not.

mod input;

#[cfg(feature = "engine")]
mod engine;
mod files;
mod listing;
mod master;
mod module;
mod objects;
mod scheduler;
mod shuffle_file;
mod sizes;
mod store;

pub use input::Input;

/// A target: its name, its body, and how many bytes more than before one input may have the process hold at once.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub bound: usize,
}

const MIB: usize = 1 << 20;

const fn target(name: &'static str, run: fn(&[u8]), bound: usize) -> Target {
    Target { name, run, bound }
}

const TARGETS: &[Target] = &[
    target("files", files::run, 24 * MIB),
    target("listing", listing::run, 8 * MIB),
    target("master", master::run, 16 * MIB),
    target("module", module::run, 64 * MIB),
    target("objects", objects::run, 8 * MIB),
    target("scheduler", scheduler::run, 16 * MIB),
    target("shuffle_file", shuffle_file::run, 24 * MIB),
    target("sizes", sizes::run, MIB),
    target("store", store::run, 16 * MIB),
];

/// All targets that were built.
pub fn all() -> impl Iterator<Item = &'static Target> {
    #[cfg(feature = "engine")]
    let more = engine::TARGETS;
    #[cfg(not(feature = "engine"))]
    let more: &[Target] = &[];
    TARGETS.iter().chain(more)
}

/// The target of this name.
pub fn find(name: &str) -> Option<&'static Target> {
    all().find(|target| target.name == name)
}
