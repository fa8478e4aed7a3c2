//! What decides in Ingle, without I/O: ids, sizes, the memory budget, the scheduler of an application, and the master of a cluster.

pub mod dynamic;
pub mod ids;
pub mod master;
pub mod memory;
pub mod net;
pub mod scheduler;
pub mod size;
