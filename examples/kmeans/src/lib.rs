//! `kmeans POINTS K ITERATIONS`: the centers of K clusters, from lines of coordinates with blanks between them.

use ingle::prelude::*;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [points, k, iterations] = args.as_slice() else {
        bail!("usage: kmeans POINTS K ITERATIONS");
    };
    let k: usize = k.parse().context("K must be a whole number")?;
    let iterations: usize = iterations.parse().context("ITERATIONS must be a whole number")?;

    let points = ctx.text_file(points)?.try_map(|line| parse(&line)).cache();
    let mut centers = points.take(k)?;
    for _ in 0..iterations {
        let known = centers.clone();
        let clusters = points
            .map(move |point| (nearest(&known, &point), (point, 1u64)))
            .reduce_by_key(|(mut sum, n), (other, m)| {
                sum.iter_mut().zip(other).for_each(|(x, y)| *x += y);
                (sum, n + m)
            })
            .collect()?;
        for (at, (sum, n)) in clusters {
            centers[at] = sum.into_iter().map(|x| x / n as f64).collect();
        }
    }

    for center in centers {
        let center: Vec<_> = center.iter().map(|x| format!("{x:.4}")).collect();
        println!("{}", center.join(" "));
    }
    Ok(())
}

fn parse(line: &str) -> Result<Vec<f64>> {
    let number = |word: &str| word.parse().with_context(|| format!("`{word}` is no coordinate"));
    line.split_ascii_whitespace().map(number).collect()
}

/// Which center is nearest to a point.
fn nearest(centers: &[Vec<f64>], point: &[f64]) -> usize {
    let distance =
        |center: &[f64]| -> f64 { center.iter().zip(point).map(|(x, y)| (x - y) * (x - y)).sum() };
    let all = centers.iter().map(|center| distance(center)).enumerate();
    all.min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(at, _)| at)
}
