//! `pagerank EDGES ITERATIONS TOP`: the packages that most others lean on, by Spark's formula, from lines `FROM<TAB>TO`.

use ingle::prelude::*;

#[ingle::main]
fn main(ctx: &Context) -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [edges, iterations, top] = args.as_slice() else {
        bail!("usage: pagerank EDGES ITERATIONS TOP");
    };
    let iterations: usize = iterations.parse().context("ITERATIONS must be a whole number")?;
    let top: usize = top.parse().context("TOP must be a whole number")?;

    let links = ctx
        .text_file(edges)?
        .try_map(|line| {
            let mut fields = line.fields('\t');
            match (fields.next(), fields.next()) {
                (Some(from), Some(to)) => Ok((from, to)),
                _ => bail!("an edge must be FROM<TAB>TO, not `{line}`"),
            }
        })
        .distinct()
        .group_by_key()
        .cache();

    let mut ranks = links.map_values(|_| 1.0).boxed();
    for _ in 0..iterations {
        ranks = links
            .join(&ranks)
            .values()
            .flat_map(|(targets, rank)| {
                let share = rank / targets.len() as f64;
                targets.into_iter().map(move |target| (target, share))
            })
            .reduce_by_key(|a, b| a + b)
            .map_values(|sum| 0.15 + 0.85 * sum)
            .boxed();
    }

    let mut best = ranks.collect()?;
    best.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    for (package, rank) in best.into_iter().take(top) {
        println!("{package}\t{rank:.3}");
    }
    Ok(())
}
