//! A job's sandbox: wasmtime narrowed to what Ingle uses, so that no other crate names it.
//!
//! [`Sandbox::load`] makes a [`Job`] of a component; [`Job::drive`] runs its driver, [`Job::task_instance`] makes instances
//! that run tasks, each forked from the driver's [`Image`].

mod cache;
mod clock;
mod component;
mod dirtied;
mod failure;
mod files;
pub mod host;
mod image;
mod job;
mod layers;
mod limits;
mod linker;
mod log;
mod memory;
mod net;
mod pagemap;
mod ranges;
mod wasi;
mod written;

pub use cache::{CacheError, CodeCache, split as split_made};
pub use component::{ComponentError, ComponentHash, FileKind, MAX_COMPONENT_BYTES, kind};
pub use failure::{FailureKind, GuestFailure};
pub use image::{Image, PIECE, PieceHash, ZERO_PIECE};
pub use job::{Finished, GuestMemory, Interrupt, Job, LoadError, Sandbox, TaskInstance};
pub use layers::Layer;
pub use log::{LogSink, Stream};
pub use net::{NetGrant, NetHost, Network};
pub use pagemap::open_pagemap;
pub use wasi::{Capabilities, Folders, Preopen};
