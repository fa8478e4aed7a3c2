//! The contracts between Ingle's processes, generated from `proto/ingle/`.

pub use prost;

/// Version 1.
pub mod v1 {
    #![allow(missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/ingle.v1.rs"));
}
