//! As [`crate::fuzzing`].

use std::sync::Arc;

use ingle_core::memory::Account;
use ingle_core::scheduler::TaskLaunch;
use ingle_proto::v1;

pub use super::guest::Guest;
pub use super::images::{Found, Images};
use super::outputs::Outputs;
use super::queue::Cancelled;
pub use super::{ExecutorOptions, Slots};

/// Answers a task of a stage that was described, as a slot does; none if the stage is unknown, or its output can't be made.
pub fn guest(slots: &Slots, launch: TaskLaunch) -> Option<Guest> {
    let stage = slots.executor.stage(launch.task.stage)?;
    let account = Arc::new(Account::default());
    Guest::new(&slots.executor, &stage, launch, Cancelled::default(), &account).ok()
}

/// What a driver says of outputs, one message after the other; gives how many there are in the end.
pub fn outputs(messages: &[v1::MapOutputs]) -> Option<usize> {
    let mut told: Option<Outputs> = None;
    for message in messages {
        told = Outputs::told(message, told.as_ref(), "here:1", None).or(told);
    }
    told.map(|told| {
        assert_eq!(told.outputs.len(), told.makers.len());
        told.outputs.len()
    })
}
