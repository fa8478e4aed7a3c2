//! The scheduler's behaviour, one rule a test. What no one thought of is for the simulation.

mod cached;
mod env;
mod exclusion;
mod failures;
mod outputs;
mod registered;
mod speculation;
mod stages;
mod workers;
