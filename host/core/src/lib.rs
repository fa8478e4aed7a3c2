//! What decides in Ingle, without I/O: ids, sizes, the memory budget, and the scheduler.

pub mod ids;
pub mod memory;
pub mod scheduler;
pub mod size;
