//! Attacks on memory.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ingle::__private::bindings::ingle::job::task;
use ingle::prelude::*;

use crate::Attack;

pub fn attack(name: &str) -> Option<Attack> {
    Some(match name {
        "memory-bomb" => Attack::Anywhere(bomb),
        "stack-bomb" => Attack::Anywhere(|_| Ok(deeper(0).to_string())),
        "captured-memory" => Attack::Planned(captured),
        "dirty-memory" => Attack::Planned(dirty),
        "silent-memory" => Attack::Planned(dirty_and_silent),
        _ => return None,
    })
}

/// Takes memory without end: by the allocator, or page by page from the engine.
fn bomb(way: &str) -> Result<String> {
    if way == "pages" {
        let mut grown = 0u64;
        while core::arch::wasm32::memory_grow(0, 4096) != usize::MAX {
            grown += 4096;
        }
        return Ok(format!("the engine gave {grown} pages"));
    }
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1u8; 4 << 20]));
    }
}

/// A frame that no optimiser makes a loop of.
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    let below = if black_box(true) { deeper(depth + 1) } else { 0 };
    below + frame[black_box(1)]
}

/// Has the host keep more of the driver's memory than the executors have.
fn captured(ctx: &Context, mib: &str) -> Result<String> {
    let held = vec![1u8; mib.parse::<usize>()? << 20];
    let sums = ctx.run_tasks(0..2, move |task| u64::from(held[task as usize]))?;
    Ok(format!("captured, {sums:?}"))
}

/// The same, by tasks that never call their host again.
fn dirty_and_silent(ctx: &Context, mib: &str) -> Result<String> {
    let table = Rc::new(RefCell::new(vec![1u8; mib.parse::<usize>()? << 20]));
    let done = ctx.try_run_tasks(0..2, move |_| -> Result<u64> {
        let mut table = table.borrow_mut();
        loop {
            table
                .iter_mut()
                .step_by(4096)
                .for_each(|byte| *byte = black_box(*byte).wrapping_add(1));
        }
    });
    Ok(format!("kept {:?}", done?))
}

/// Each task makes all of a captured table its own.
fn dirty(ctx: &Context, mib: &str) -> Result<String> {
    let table = Rc::new(RefCell::new(vec![1u8; mib.parse::<usize>()? << 20]));
    let done = ctx.run_tasks(0..4, move |number| {
        let mut table = table.borrow_mut();
        table.iter_mut().step_by(4096).for_each(|byte| *byte += 1);
        // Long enough to be seen; it may be stopped at any of these calls.
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            black_box(task::context().executor);
        }
        number
    });
    // Until the tasks that were stopped gave their memory back.
    std::thread::sleep(Duration::from_secs(1));
    Ok(format!("kept {:?}", done?))
}
