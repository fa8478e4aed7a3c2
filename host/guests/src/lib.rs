//! From a job's source to a component that `rsubmit` runs.
//!
//! [`create`] writes a new job crate, [`build`] makes a component of any job crate with a toolchain that
//! [`Toolchain::detect`] found, and [`componentize`] turns a core module (what `wasm32-wasip1` gives) into a component.
//! Nothing here needs the engine that runs components, so `ingle build` and `cargo xtask` start fast.

mod build;
mod cargo;
mod component;
mod create;
mod debian;
mod environment;
mod toolchain;

pub use build::{BuildError, Built, build, build_all};
pub use component::{ComponentError, componentize};
pub use create::{CreateError, create, default_sdk};
pub use environment::clean_command;
pub use toolchain::{Missing, Toolchain, Way, can_install};
