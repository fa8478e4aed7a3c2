//! `logistic POINTS ITERATIONS`: the weights of a logistic regression by gradient descent, from lines `LABEL X X …` with a label of 0 or 1.

use ingle::prelude::*;

/// How far a step goes.
const RATE: f64 = 1.0;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [points, iterations] = args.as_slice() else {
        bail!("usage: logistic POINTS ITERATIONS");
    };
    let iterations: usize = iterations.parse().context("ITERATIONS must be a whole number")?;

    let points = ctx.text_file(points)?.try_map(|line| parse(&line)).cache();
    let Some((_, first)) = points.first()? else {
        bail!("there are no points");
    };
    let none = vec![0.0; first.len()];
    let mut weights = none.clone();
    for _ in 0..iterations {
        let known = weights.clone();
        let (gradient, n) = points.aggregate(
            (none.clone(), 0u64),
            move |(mut sum, n), (label, x)| {
                let error = chance(&known, &x) - label;
                sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += error * x);
                (sum, n + 1)
            },
            |(mut a, n), (b, m)| {
                a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                (a, n + m)
            },
        )?;
        weights.iter_mut().zip(gradient).for_each(|(w, g)| *w -= RATE * g / n as f64);
    }

    for weight in weights {
        println!("{weight:.6}");
    }
    Ok(())
}

fn parse(line: &str) -> Result<(f64, Vec<f64>)> {
    let number = |word: &str| word.parse().with_context(|| format!("`{word}` is no number"));
    let mut words = line.split_ascii_whitespace();
    let label = number(words.next().context("a line has no label")?)?;
    Ok((label, words.map(number).collect::<Result<_>>()?))
}

/// How likely a point's label is 1.
fn chance(weights: &[f64], x: &[f64]) -> f64 {
    let margin: f64 = weights.iter().zip(x).map(|(w, x)| w * x).sum();
    1.0 / (1.0 + (-margin).exp())
}
