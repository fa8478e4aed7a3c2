//! A task of the attacker's own application that has nothing to do with it, and must not notice.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ingle::JobHandle;
use ingle::prelude::*;

/// How often it was right so far, and the end of its work.
const BUSY: &str = "data/busy";
const OVER: &str = "data/over";
/// So often others look.
const LOOK: Duration = Duration::from_millis(5);
/// An attack that takes so long leaves a moment for anybody's work.
const LONG: Duration = Duration::from_secs(5);

/// It has one of two slots, the attack the other.
pub struct Sibling {
    job: JobHandle<Vec<u64>>,
    began: Instant,
    rounds: u64,
}

impl Sibling {
    /// Starts it, and waits until it is busy.
    pub fn start(ctx: &Context) -> Result<Self> {
        for left in [BUSY, OVER] {
            let _ = fs::remove_file(left);
        }
        let job = ctx.range(0..1, 1).try_map(|_| busy()).collect_async()?;
        let rounds = beyond(0);
        Ok(Self { job, began: Instant::now(), rounds })
    }

    /// The attack is over: it must have been right all the time, and be at it still.
    pub fn end(self) -> Result<()> {
        let Self { job, began, rounds } = self;
        ensure!(began.elapsed() < LONG || read() > rounds, "the sibling stood still meanwhile");
        beyond(read());
        fs::write(OVER, "")?;
        let told = job.wait().context("the attacker's sibling")?;
        ensure!(told.iter().sum::<u64>() > rounds, "the sibling did nothing: {told:?}");
        [BUSY, OVER].into_iter().try_for_each(fs::remove_file)?;
        Ok(())
    }
}

fn read() -> u64 {
    fs::read_to_string(BUSY).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Waits until it was right more often than that.
fn beyond(rounds: u64) -> u64 {
    loop {
        let now = read();
        if now > rounds {
            return now;
        }
        sleep(LOOK);
    }
}

/// Sums up a table of its own, again and again, until it is told that this is enough.
fn busy() -> Result<u64> {
    let mut table: Vec<u64> = (0..512 << 10).collect();
    for round in 1.. {
        table.iter_mut().for_each(|cell| *cell += 1);
        let cells = table.len() as u64;
        let right = cells * (cells - 1) / 2 + round * cells;
        ensure!(table.iter().sum::<u64>() == right, "a sum is wrong in round {round}");
        // Whoever reads it finds a whole number.
        fs::write("data/busy.new", round.to_string())?;
        fs::rename("data/busy.new", BUSY)?;
        if Path::new(OVER).exists() {
            return Ok(round);
        }
        sleep(LOOK);
    }
    bail!("it was busy for ever")
}
