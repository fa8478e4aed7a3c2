//! Tasks that never end.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ingle::prelude::*;
use wasip2::clocks::monotonic_clock::subscribe_duration;

use crate::Attack;

pub fn attack(name: &str) -> Option<Attack> {
    Some(match name {
        "endless-task" => Attack::Planned(cancelled),
        "endless" => Attack::Anywhere(|way| match endless(way) {}),
        _ => return None,
    })
}

enum Never {}

fn endless(way: &str) -> Never {
    let mut cells = vec![1u64; 1 << 16];
    let mut n = 0usize;
    eprintln!("started");
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

/// The driver gives its endless tasks up, and needs their slots.
fn cancelled(ctx: &Context, way: &str) -> Result<String> {
    let way = way.to_owned();
    let silent = ctx.range(0..2, 2).map(move |_| match endless(&way) {});
    let silent = silent.for_each_async(|()| {})?;
    // Until it began.
    std::thread::sleep(Duration::from_millis(300));
    let since = Instant::now();
    silent.cancel();
    let counted = ctx.range(0..10, 2).map(|n| n + 1).sum()?;
    let free = since.elapsed().as_millis();
    Ok(format!("given up, and counted {counted}: {free} ms until it was free"))
}
