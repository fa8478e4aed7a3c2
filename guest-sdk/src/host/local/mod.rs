//! The host of a native build: jobs run in this thread and in memory, stage after stage and task after task.
//!
//! It is there to test a job's logic. It meets the same contract as a real host, down to refusing calls from the wrong role.

mod driver;
mod files;
mod glob;
mod outputs;
mod task;

pub(crate) use driver::*;
pub(crate) use task::*;
