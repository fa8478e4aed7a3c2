//! `pi SAMPLES PARTITIONS`: estimates π by throwing darts at a square.

use ingle::prelude::*;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [samples, partitions] = args.as_slice() else {
        bail!("usage: pi SAMPLES PARTITIONS");
    };
    let samples: u64 = samples.parse().context("SAMPLES must be a whole number")?;
    let partitions: u64 = partitions.parse().context("PARTITIONS must be a whole number")?;
    ensure!(samples > 0 && partitions > 0, "SAMPLES and PARTITIONS must be at least 1");

    let hits: u64 = ctx
        .run_tasks(0..partitions, move |task| {
            let share = samples / partitions + u64::from(task < samples % partitions);
            let mut random = Random::seeded(task);
            (0..share).map(|_| u64::from(random.dart())).sum::<u64>()
        })?
        .into_iter()
        .sum();
    println!("Pi is roughly {:.6}", 4.0 * hits as f64 / samples as f64);
    Ok(())
}

/// xorshift64*, so that the native twin of this job throws the same darts.
struct Random(u64);

impl Random {
    fn seeded(seed: u64) -> Random {
        // Any odd constant does: the state must differ between tasks and never be 0.
        Random((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether a dart lands within the circle.
    fn dart(&mut self) -> bool {
        let (x, y) = (self.uniform() * 2.0 - 1.0, self.uniform() * 2.0 - 1.0);
        x * x + y * y <= 1.0
    }
}
