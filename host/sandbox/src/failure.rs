//! How a guest ended, in words for its user.

use std::fmt;

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::host::Stop;
use crate::limits::GuestOutOfMemory;
use crate::linker::MAX_HANDLES;

/// Why a guest didn't return.
#[derive(Clone, Debug)]
pub struct GuestFailure {
    pub kind: FailureKind,
    /// What happened.
    pub message: String,
    /// Where, by function name, innermost first.
    pub backtrace: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// It was asked to stop.
    Cancelled,
    /// It called `exit` with this code.
    Exit(i32),
    /// It needs the output of this stage and partition again.
    FetchFailed { stage: u32, partition: u32, attempt: u32, whole: bool },
    /// The machine couldn't do what it asked: any guest would have failed here.
    Machine,
    /// It gave up, or did what can't be done.
    Failed,
}

/// What to do about a task that is out of memory.
pub const TASK_HINT: &str = "raise --executor-memory, or use more partitions";

/// Frames beyond this say nothing new.
const MAX_FRAMES: usize = 16;
/// A message longer than this is cut: a guest chooses its length.
const MAX_MESSAGE_BYTES: usize = 16 << 10;
/// And a function's name, of which generics make long ones.
const MAX_NAME_BYTES: usize = 1 << 10;

impl fmt::Display for GuestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.backtrace.iter().try_for_each(|frame| write!(f, "\n    at {frame}"))
    }
}

impl GuestFailure {
    /// A failure of the host's own, on the guest's behalf.
    pub fn of_host(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Failed, message: message.into(), backtrace: Vec::new() }
    }

    /// Finds the cause in what the engine gives back.
    pub fn of(error: &wasmtime::Error) -> Self {
        let mut kind = FailureKind::Failed;
        let mut message = if let Some(stop) = error.downcast_ref::<Stop>() {
            match stop {
                Stop::Cancelled => kind = FailureKind::Cancelled,
                Stop::Machine(_) => kind = FailureKind::Machine,
                &Stop::FetchFailed { stage, partition, attempt, whole } => {
                    kind = FailureKind::FetchFailed { stage, partition, attempt, whole };
                }
                _ => {}
            }
            stop.to_string()
        } else if let Some(exit) = error.downcast_ref::<I32Exit>() {
            kind = FailureKind::Exit(exit.0);
            // WASI tells success or failure, and no number.
            let how = if exit.0 == 0 { "success" } else { "failure" };
            format!("ended itself by exit, with {how}")
        } else if let Some(memory) = error.downcast_ref::<GuestOutOfMemory>() {
            format!("{memory}; {TASK_HINT}")
        } else if let Some(trap) = error.downcast_ref::<Trap>() {
            trap_words(*trap)
        } else {
            other_words(&error.root_cause().to_string())
        };
        cut(&mut message, MAX_MESSAGE_BYTES);
        let backtrace = match kind {
            FailureKind::Failed => {
                error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        Self { kind, message, backtrace }
    }
}

/// Cuts a text that a guest chose.
fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push_str(" …");
    }
}

/// What a guest's `main` says of its failure, as long as such words may be.
pub fn said(mut text: String) -> String {
    cut(&mut text, MAX_MESSAGE_BYTES);
    text
}

fn trap_words(trap: Trap) -> String {
    let words = match trap {
        Trap::StackOverflow => "the stack is full: a recursion that goes too deep",
        Trap::MemoryOutOfBounds => {
            "touched memory outside of its own; a recursion that goes too deep does this too"
        }
        Trap::UnreachableCodeReached => "aborted; if it panicked, its words are above",
        Trap::IntegerDivisionByZero => "divided by zero",
        Trap::IntegerOverflow => "an integer division overflowed",
        Trap::IndirectCallToNull | Trap::BadSignature | Trap::TableOutOfBounds => {
            "called what isn't a function of that type"
        }
        other => return format!("trapped: {other}"),
    };
    words.to_owned()
}

fn other_words(cause: &str) -> String {
    // A descriptor that lies in the driver's image names nothing, or something else, among a task's own handles.
    if cause.contains("unknown handle index") || cause.contains("used with the wrong type") {
        return "used a file, socket or other handle that the driver opened: handles don't travel with a closure, so open \
                it inside of the task, or capture its contents"
            .to_owned();
    }
    if cause.contains("resource table has no free keys") {
        return format!(
            "has {MAX_HANDLES} files, streams and other handles open, and can't have more"
        );
    }
    cause.to_owned()
}

fn frames(backtrace: &WasmBacktrace) -> Vec<String> {
    let noise = |name: &str| {
        let mechanics = [
            "std::panicking",
            "core::panicking",
            "__rustc",
            "rust_begin_unwind",
            "std::sys::backtrace",
            // The adapter between WASI's two versions, and libc's half of it.
            "wasi_snapshot_preview1",
            "__wasi_",
            // How the SDK hands a failure to us.
            "ingle::wasm::",
            "ingle::host::component",
            "ingle::task::fail",
        ];
        mechanics.iter().any(|m| name.contains(m)) || name.starts_with("wit-component:")
    };
    let names = backtrace.frames().iter().filter_map(|frame| {
        let name = frame.symbols().first().and_then(|s| s.name()).or(frame.func_name())?;
        let mut name = wasmtime_demangle(name);
        cut(&mut name, MAX_NAME_BYTES);
        (!noise(&name)).then_some(name)
    });
    names.take(MAX_FRAMES).collect()
}

/// A function's name without its mangling and hash.
fn wasmtime_demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_captured_handle_is_explained() {
        let failure = GuestFailure::of(&wasmtime::Error::msg("unknown handle index 7"));
        assert!(failure.message.contains("open it inside of the task"), "{failure}");
    }

    #[test]
    fn a_message_of_any_length_is_cut_at_a_character() {
        let failure = GuestFailure::of(&Stop::Failed("é".repeat(MAX_MESSAGE_BYTES)).into());
        assert!(failure.message.len() <= MAX_MESSAGE_BYTES + 4);
        let of_main = said("é".repeat(MAX_MESSAGE_BYTES));
        assert!(of_main.len() <= MAX_MESSAGE_BYTES + 4 && of_main.ends_with("é …"));
        assert_eq!(said("short".into()), "short");
    }

    #[test]
    fn a_lost_shuffle_output_keeps_its_name() {
        let failure = GuestFailure::of(
            &Stop::FetchFailed { stage: 3, partition: 9, attempt: 1, whole: true }.into(),
        );
        assert_eq!(
            failure.kind,
            FailureKind::FetchFailed { stage: 3, partition: 9, attempt: 1, whole: true }
        );
    }
}
