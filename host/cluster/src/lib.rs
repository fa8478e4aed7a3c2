//! The shells around the scheduler: drivers and executors, and local mode as both of them in one process.
//!
//! A driver and its executors speak the task protocol of `proto/ingle/v1/task.proto`, whatever lies between them.
//!
//! | room | what |
//! |---|---|
//! | `protocol` | the scheduler's words as messages, and back |
//! | `driver` | the application: answers the guest's `main`, asks the scheduler, tells executors |
//! | `executor` | slots that run tasks in the sandbox, and what their guests are answered |
//! | `local` | a driver and one executor in this process |

mod driver;
mod executor;
mod local;
mod protocol;

pub use driver::Note;
pub use local::{Local, LocalOptions, Remote, StartError, Totals};
