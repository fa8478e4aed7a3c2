//! The shells around the scheduler: drivers and executors, and local mode as both of them in one process.
//!
//! A driver and its executors speak the task protocol of `proto/ingle/v1/task.proto`, whatever lies between them.
//!
//! | room | what |
//! |---|---|
//! | `protocol`, `reported` | the scheduler's words as messages, and back |
//! | `driver` | the application: answers the guest's `main`, asks the scheduler, tells executors |
//! | `executor` | slots that run tasks in the sandbox, and what their guests are answered |
//! | `local` | a driver and one executor in this process |
//! | `standalone` | a driver in this process, on a cluster |
//! | `master`, `worker` | the daemons of a cluster |
//! | `verbs` | what people ask a master |
//! | `web` | the daemons' pages for people |
//! | `incoming`, `preamble` | which connections are let in, and which of them a worker handed over |
//! | `rpc` | what all connections share |
//! | `lifeline`, `handing` | a process and its worker: the socket between them, and what is handed over it |

mod access;
mod broken;
mod driver;
mod executor;
#[doc(hidden)]
pub mod fuzzing;
mod handing;
mod incoming;
mod lifeline;
mod loading;
mod local;
mod master;
mod pace;
mod preamble;
mod protocol;
mod prune;
mod reported;
mod rpc;
mod standalone;
pub mod verbs;
mod walls;
mod web;
mod worker;

pub use access::{Access, AccessSpec, AllowedNet, SecretValue, offer, submission};
pub use broken::Broken;
pub use driver::{LargestTask, Note, PeakMemory};
pub use executor::{TaskTime, run_process as run_executor};
pub use ingle_blocks::{Offer, Paths, S3Options};
pub use ingle_core::dynamic::DynamicPolicy;
pub use ingle_core::master::Policy as MasterPolicy;
pub use ingle_core::scheduler::{Exclusion, MinRegistered, Policy, Speculation};
pub use ingle_proto::v1::{
    CompileConfig, Compression, DriverConfig, ExecutorConfig, Submission, Variable,
};
pub use lifeline::{Lifeline, configuration};
pub use loading::{
    compile as run_compiler, component as load_component, converse as converse_with_compiler,
    hash as component_hash, load as load_job,
};
pub use local::{Local, LocalOptions, Remote, StartError, Totals};
pub use master::{MasterOptions, run as run_master};
pub use rpc::Way;
pub use standalone::{Standalone, StandaloneOptions};
pub use walls::{
    Own, check_names as check_wall_names, lacking as lacking_wall, probe as probe_walls,
    raise as raise_walls, raise_some as raise_some_walls, sockets, sockets_with,
};
pub use web::PagePort;
pub use worker::{
    CompileLimits, ExecutorUids, LEAST_DISK_RATE, LEAST_LOG, RSUBMITS_COMPILER, Wish,
    WorkerOptions, listen, run as run_worker,
};
