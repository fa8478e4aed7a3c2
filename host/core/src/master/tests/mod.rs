//! What the master decides, told by peers that say what a test wants.

mod allocation;
mod drivers;
mod env;
mod master;
mod refused;
mod workers;
