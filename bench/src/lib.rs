//! What Ingle's speed is measured against and how: native twins of the example jobs, made-up data of
//! a known shape, and a harness that runs both sides as whole processes, in turn, and compares medians.

pub mod cluster;
pub mod compare;
pub mod data;
pub mod machine;
pub mod measure;
pub mod peer;
pub mod report;
pub mod rng;
pub mod rows;
pub mod tables;
pub mod twin;
pub mod verify;
pub mod walls;
