//! For fuzz targets only: where others' messages and guests' calls come in.

pub use ingle_proto::prost::Message;

pub use crate::driver::{
    Application, Driver, ExecutorLink, Grant, Hub, Made, Opened, Parallelism, Reports,
};
pub use crate::executor::fuzzing::*;
pub use crate::handing::Messages;
pub use crate::master::convert::{
    app_event, app_id, app_spec, driver_id, driver_spec, worker_event, worker_hello,
};
pub use crate::master::service::named;
pub use crate::protocol::{level, parts, shuffle_compression, source, task_end, task_id, usage};
pub use crate::reported::Reported;
pub use crate::rpc::Secret;
pub use crate::web::fuzzing::Pages;
