//! Tasks that never end.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use ingle::prelude::*;
use wasip2::clocks::monotonic_clock::subscribe_duration;

use crate::Attack;

pub fn attack(name: &str) -> Option<Attack> {
    Some(match name {
        "endless-task" => Attack::Planned(cancelled),
        "endless" => Attack::Anywhere(|way| match endless(way, || {}) {}),
        _ => return None,
    })
}

enum Never {}

/// From `began` on it asks for nothing that tells it to stop.
fn endless(way: &str, began: impl FnOnce()) -> Never {
    let mut cells = vec![1u64; 1 << 16];
    let mut n = 0usize;
    eprintln!("started");
    began();
    loop {
        match way {
            "memory" => {
                n = n.wrapping_add(1);
                let at = n % cells.len();
                cells[at] = black_box(cells[at].wrapping_mul(3));
            }
            "print" => println!("and on"),
            "sleep" => std::thread::sleep(Duration::from_secs(1000)),
            "poll" => subscribe_duration(u64::MAX).block(),
            _ => n = black_box(n.wrapping_add(1)),
        }
    }
}

/// The driver gives its two endless tasks up, and needs their slots.
fn cancelled(ctx: &Context, way: &str) -> Result<String> {
    let began = [0, 1].map(|n| format!("data/began-{n}"));
    for left in &began {
        let _ = fs::remove_file(left);
    }
    let (way, marks) = (way.to_owned(), began.clone());
    let silent = ctx.range(0..2, 2).map(move |n| {
        let began = || fs::write(&marks[n as usize], "").expect("it is granted");
        match endless(&way, began) {}
    });
    let silent = silent.for_each_async(|()| {})?;
    let asked = Instant::now();
    while !began.iter().all(|mark| Path::new(mark).exists()) {
        if asked.elapsed() > Duration::from_secs(60) {
            bail!(
                "its tasks didn't begin: they need two cores, and a folder `data` that all may write to"
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let since = Instant::now();
    silent.cancel();
    let counted = ctx.range(0..10, 2).map(|n| n + 1).sum()?;
    let free = since.elapsed().as_millis();
    began.iter().try_for_each(fs::remove_file)?;
    Ok(format!("given up, and counted {counted}: {free} ms until it was free"))
}
