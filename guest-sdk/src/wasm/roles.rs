//! What a component does when its host calls it.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::Write;
use std::panic;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::host;
use crate::wasm::fork;

/// What a driver may return.
pub trait Outcome {
    /// As a result.
    fn into_result(self) -> Result<()>;
}

impl Outcome for () {
    fn into_result(self) -> Result<()> {
        Ok(())
    }
}

impl<E: Into<Error>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<()> {
        self.map_err(Into::into)
    }
}

/// Runs the driver.
pub fn drive(main: impl FnOnce(&Context) -> Result<()>) -> Result<(), String> {
    fork::warm();
    fork::reserve_handles();
    // The keys of hash maps are drawn with the first one. Drawn now, they lie in every image, and all tries of a task iterate in
    // the same order.
    black_box(HashMap::<u8, u8>::new());
    install_panic_hook();
    let outcome = Context::new().and_then(|ctx| main(&ctx));
    flush();
    outcome.map_err(|error| format!("{error:#}"))
}

/// Runs a task. It takes a plain number, as nothing on the heap outlives the fork.
pub fn run(entry: u64) {
    fork::become_task();
    crate::stage::run(entry);
    flush();
}

/// Writes what was printed but not ended by a line break.
pub(crate) fn flush() {
    // A job whose output nobody takes is no less done.
    let _ = std::io::stdout().flush();
}

/// A task's panic is told to the host, which adds the backtrace; a driver's goes to stderr.
fn install_panic_hook() {
    panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("a value that is no text");
        let told = match info.location() {
            Some(at) => format!("panicked at {}:{}: {text}", at.file(), at.line()),
            None => format!("panicked: {text}"),
        };
        if fork::is_task() {
            host::fail(&crate::task::panicked(told));
        }
        // What it printed before comes first.
        flush();
        eprintln!("the driver {told}");
    }));
}
