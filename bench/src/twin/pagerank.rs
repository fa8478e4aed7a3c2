//! PageRank by Spark's formula, on dense numbers instead of names.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use hashbrown::HashMap;

use super::input;
use super::threads::{self, Threads};

/// Who links to whom, by numbers that stand for names.
struct Links<'a> {
    names: Vec<&'a str>,
    /// Each node that links, with the nodes that it links to.
    out: Vec<(u32, Vec<u32>)>,
}

impl<'a> Links<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let mut names = Vec::new();
        let mut numbers = HashMap::new();
        let mut number = |name| {
            *numbers.entry(name).or_insert_with(|| {
                names.push(name);
                names.len() as u32 - 1
            })
        };
        let mut edges = Vec::new();
        for line in text.lines() {
            let (from, to) =
                line.split_once('\t').with_context(|| format!("not FROM<TAB>TO: {line}"))?;
            edges.push((number(from), number(to)));
        }
        edges.sort_unstable();
        edges.dedup();
        let out = edges.chunk_by(|a, b| a.0 == b.0);
        let out = out
            .filter_map(|links| Some((links.first()?.0, links.iter().map(|(_, to)| *to).collect())))
            .collect();
        Ok(Self { names, out })
    }

    /// What the nodes in `range` give their neighbours. A node without a rank gives nothing.
    fn contributions(&self, range: Range<usize>, ranks: &[Option<f64>]) -> Vec<Option<f64>> {
        let mut given = vec![None; ranks.len()];
        for (from, to) in &self.out[range] {
            let Some(rank) = ranks[*from as usize] else { continue };
            let share = rank / to.len() as f64;
            for to in to {
                *given[*to as usize].get_or_insert(0.0) += share;
            }
        }
        given
    }
}

/// The highest ranks after some iterations, highest first.
///
/// As in Spark's example, ranks start at 1, damping is 0.85, and a node that none links to has no rank
/// after the first step.
pub fn pagerank(
    edges: &Path,
    iterations: u32,
    top: usize,
    threads: Threads,
) -> Result<Vec<(String, f64)>> {
    let text = input::read_all(edges)?;
    let links = Links::parse(&text)?;
    let size = links.out.len().div_ceil(threads.get()).max(1);
    let ranges: Vec<_> =
        (0..links.out.len()).step_by(size).map(|i| i..links.out.len().min(i + size)).collect();

    let mut ranks = vec![Some(1.0); links.names.len()];
    for _ in 0..iterations {
        let given = threads::map(threads, ranges.clone(), |_, range| {
            Ok(links.contributions(range, &ranks))
        })?;
        for (node, rank) in ranks.iter_mut().enumerate() {
            let received = given.iter().filter_map(|given| given[node]).reduce(|a, b| a + b);
            *rank = received.map(|sum| 0.15 + 0.85 * sum);
        }
    }
    let mut ranked: Vec<_> =
        links.names.iter().zip(ranks).filter_map(|(name, rank)| Some((*name, rank?))).collect();
    ranked.sort_unstable_by(|(a, m), (b, n)| n.total_cmp(m).then_with(|| a.cmp(b)));
    ranked.truncate(top);
    Ok(ranked.into_iter().map(|(name, rank)| (name.to_owned(), rank)).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::twin::test_data;

    const TWO: Threads = Threads::new(2).unwrap();

    #[test]
    fn a_small_graph_comes_out_as_by_hand() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edges");
        // The second a-b is one link too many; c has no rank after the first step.
        fs::write(&path, "a\tb\na\tb\nb\ta\nc\ta\nc\tb\n").unwrap();
        let one = pagerank(&path, 1, 9, TWO).unwrap();
        assert_eq!(one, [("a".to_owned(), 0.15 + 0.85 * 1.5), ("b".to_owned(), 0.15 + 0.85 * 1.5)]);
        let two = pagerank(&path, 2, 1, TWO).unwrap();
        assert_eq!(two, [("a".to_owned(), 0.15 + 0.85 * (0.15 + 0.85 * 1.5))]);
    }

    #[test]
    fn debians_dependencies_give_the_known_answers() {
        let Some(data) = test_data() else { return };
        let ranked = pagerank(&data.join("debian-depends.tsv.gz"), 10, 6, TWO).unwrap();
        let ranked: Vec<_> =
            ranked.iter().map(|(name, rank)| format!("{name} {rank:.3}")).collect();
        let known =
            ["libgcc-s1 1345.713", "libc6 1094.316", "gcc-12-base 798.594", "python3 43.092"];
        assert_eq!(ranked[..4], known);
        let rest =
            pagerank(&data.join("debian-depends.tsv.gz"), 10, usize::MAX, Threads::MIN).unwrap();
        for (package, rank) in [("libstdc++6", "24.638"), ("zlib1g", "18.751")] {
            let found = rest.iter().find(|(name, _)| name == package).unwrap();
            assert_eq!(format!("{:.3}", found.1), rank);
        }
    }
}
