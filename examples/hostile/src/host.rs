//! What a guest may learn of its host, and bytes that aren't what the contract says.

use std::collections::BTreeSet;

use ingle::prelude::*;
use wasip2::clocks::monotonic_clock;

use crate::Attack;

pub fn attack(name: &str) -> Option<Attack> {
    Some(match name {
        "environment" => Attack::Anywhere(environment),
        "fine-clock" => Attack::Anywhere(clock),
        "lying-list" => Attack::Anywhere(lists),
        "bad-text" => Attack::Anywhere(texts),
        _ => return None,
    })
}

fn environment(_: &str) -> Result<String> {
    let names: BTreeSet<_> = std::env::vars().map(|(name, _)| name).collect();
    ensure!(names.is_empty(), "ESCAPED: it sees {names:?}");
    Ok("sees no variable".into())
}

/// The smallest step that a clock makes.
fn clock(_: &str) -> Result<String> {
    let mut steps = BTreeSet::new();
    let mut last = monotonic_clock::now();
    for _ in 0..1_000_000 {
        let now = monotonic_clock::now();
        ensure!(now >= last, "time runs backwards");
        if now > last {
            steps.insert(now - last);
            last = now;
        }
    }
    let least = steps.first().copied().context("the clock stands still")?;
    Ok(match least {
        0..1_000_000 => "sees less than a millisecond".into(),
        _ => "sees no less than a millisecond".into(),
    })
}

#[link(wasm_import_module = "ingle:job/task@0.1.0")]
unsafe extern "C" {
    #[link_name = "emit"]
    fn emit(start: usize, length: usize);
    #[link_name = "write"]
    fn write(partition: u32, start: usize, length: usize);
    #[link_name = "fail"]
    fn fail(start: usize, length: usize);
}

/// Lists that lie outside of the caller's memory.
fn lists(way: &str) -> Result<String> {
    let end = core::arch::wasm32::memory_size(0) << 16;
    // SAFETY: the host checks where a list lies; this is the proof.
    unsafe {
        match way {
            "behind" => emit(end, 1),
            "across" => emit(end - 8, 1 << 20),
            "around" => emit(16, usize::MAX),
            "top" => emit(usize::MAX, usize::MAX),
            _ => write(0, end - 1, usize::MAX - end + 1),
        }
    }
    Ok("taken".into())
}

/// Text that is none.
fn texts(way: &str) -> Result<String> {
    let bytes: &[u8] = match way {
        "cut" => b"\xf0\x9f\x92",
        "surrogate" => b"\xed\xa0\x80",
        "overlong" => b"\xc0\xaf",
        _ => b"\xff\xfe",
    };
    // SAFETY: the bytes are there; that they are no text is for the host to see.
    unsafe { fail(bytes.as_ptr() as usize, bytes.len()) }
    Ok("taken".into())
}
