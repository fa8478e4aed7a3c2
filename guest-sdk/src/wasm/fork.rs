//! The guest's half of *fork the driver*.
//!
//! The driver hands the host its memory from `__global_base` to the end: statics and heap. The stack lies below and
//! stays out. A task lays that image over its own memory before anything of the job runs in it, so that every address and
//! every static means what it meant in the driver.

use std::hint::black_box;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::wasm::bindings::ingle::job::image;

/// What one memory page of WebAssembly holds.
const PAGE: usize = 64 * 1024;
/// What the host maps in.
const ALIGNMENT: usize = 4096;

/// Set in the driver before its first image: so a task that reads it set has the image already.
static FORKED: AtomicBool = AtomicBool::new(false);
/// Whether this instance is a task. Set after the image is laid: the image says otherwise.
static TASK: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_task() -> bool {
    TASK.load(Relaxed)
}

unsafe extern "C" {
    /// Where the linker puts the first static; the stack lies below.
    static __global_base: u8;
}

fn memory_end() -> usize {
    core::arch::wasm32::memory_size(0) * PAGE
}

/// Makes all handles that WASI makes on first use, in one order. Their numbers lie in the image, so both roles must have made the
/// same before user code runs. (Arguments, environment, clocks and random numbers make none.)
pub(crate) fn warm() {
    print!("");
    eprint!("");
    // Results don't matter here: what isn't granted fails the same way in both roles.
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().write(b"");
    let _ = black_box(std::fs::metadata("/"));
}

/// Takes the handles' numbers that tasks may get, so that no handle of the driver's means one of theirs.
pub(crate) fn reserve_handles() {
    for mark in image::reserve_handles() {
        std::mem::forget(mark);
    }
}

/// Takes a picture of the driver's memory.
pub(crate) fn capture() -> Result<Option<u32>, String> {
    FORKED.store(true, Relaxed);
    // What is buffered now would be printed by every fork.
    crate::wasm::roles::flush();
    let base = &raw const __global_base as usize;
    if base % ALIGNMENT != 0 {
        return Err(format!(
            "the component's statics begin at {base:#x}, not at a page: link it with wasm-ld's default, --stack-first"
        ));
    }
    // A slice is no longer than this; with more, the end of the memory isn't even a 32-bit number.
    if core::arch::wasm32::memory_size(0) > isize::MAX as usize / PAGE {
        return Err("the driver holds more than 2 GiB, which tasks can't be forked from: hold less of it when an \
                    action runs"
            .to_owned());
    }
    image::announce((memory_end() - base) as u64)?;
    // SAFETY: the region is this instance's memory, from a symbol the linker defined to the memory's end. The host only reads it,
    // during this call, while no code of this instance runs.
    let region = unsafe { std::slice::from_raw_parts(base as *const u8, memory_end() - base) };
    image::capture(region).map(Some)
}

/// Gives an image up. Stages that were defined with it keep it.
pub(crate) fn release(image: u32) {
    image::release(image);
}

/// Makes this instance a fork of the driver, if it is not yet.
///
/// Nothing on the heap may be held across this call: its caller holds plain numbers only.
#[inline(never)]
pub(crate) fn become_task() {
    if !FORKED.load(Relaxed) {
        warm();
        if let Some(layout) = image::layout() {
            let (base, length) = (layout.base as usize, layout.length as usize);
            let missing = (base + length).saturating_sub(memory_end()).div_ceil(PAGE);
            if missing > 0 && core::arch::wasm32::memory_grow(0, missing) == usize::MAX {
                crate::host::fail(&format!("no memory for the driver's image of {length} bytes"));
            }
            // SAFETY: the region lies within the memory, which was grown to hold it. The host overwrites it; it holds no frame of
            // the stack, which is below, and no reference into the heap lives across the call.
            unsafe { image::restore(std::slice::from_raw_parts(base as *const u8, length)) };
        }
    }
    TASK.store(true, Relaxed);
}
