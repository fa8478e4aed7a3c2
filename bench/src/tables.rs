//! Made-up rows, graphs and points.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::data::{FILES, in_files, kept};
use crate::rng::Xorshift;

/// Numbers beside keys are below it.
const NUMBERS: usize = 1_000;

/// Coordinates of a point.
pub const DIMENSIONS: usize = 10;

/// Groups of points.
pub const CLUSTERS: usize = 10;

/// Lines `KEY<TAB>NUMBER`, whose keys are any below a bound.
pub fn pairs(dir: &Path, rows: u64, keys: u64) -> Result<PathBuf> {
    kept(dir, "pairs", &format!("{rows}-of-{keys}"), |target| {
        in_files(target, |file, rng, writer| {
            for _ in share(rows, file) {
                writeln!(writer, "{}\t{}", rng.below(keys as usize), rng.below(NUMBERS))?;
            }
            Ok(())
        })
    })
}

/// Lines `KEY<TAB>NUMBER` with each key below a bound once, in no order.
pub fn keys(dir: &Path, keys: u64) -> Result<PathBuf> {
    // Has no factor in common with a power of ten: no key comes twice.
    const STEP: u64 = 7_919;
    kept(dir, "keys", &keys.to_string(), |target| {
        in_files(target, |file, rng, writer| {
            for i in share(keys, file) {
                writeln!(writer, "{}\t{}", i * STEP % keys, rng.below(NUMBERS))?;
            }
            Ok(())
        })
    })
}

/// Lines `KEY<TAB>NUMBER`, of which half have the key 0 and the rest any below a bound.
pub fn skewed(dir: &Path, rows: u64, keys: u64) -> Result<PathBuf> {
    kept(dir, "skewed", &format!("{rows}-of-{keys}"), |target| {
        in_files(target, |file, rng, writer| {
            for _ in share(rows, file) {
                let key = if rng.below(2) == 0 { 0 } else { rng.below(keys as usize) };
                writeln!(writer, "{key}\t{}", rng.below(NUMBERS))?;
            }
            Ok(())
        })
    })
}

/// Edges `FROM<TAB>TO` of a graph in which few nodes are linked to by very many.
pub fn graph(dir: &Path, nodes: u64, edges: u64) -> Result<PathBuf> {
    kept(dir, "graph", &format!("{edges}-of-{nodes}"), |target| {
        in_files(target, |file, rng, writer| {
            for _ in share(edges, file) {
                let to = (rng.unit().powi(3) * nodes as f64) as u64;
                writeln!(writer, "{}\t{to}", rng.below(nodes as usize))?;
            }
            Ok(())
        })
    })
}

/// Points in groups, a line each: coordinates with blanks between them. In one file, so that whoever takes the first ones
/// takes the same, however a folder is listed.
pub fn points(dir: &Path, count: u64) -> Result<PathBuf> {
    kept(dir, "points", &count.to_string(), |target| {
        let mut rng = Xorshift::new(0);
        let centers: Vec<[f64; DIMENSIONS]> =
            (0..CLUSTERS).map(|_| [(); DIMENSIONS].map(|()| rng.unit() * 100.0)).collect();
        let mut writer = BufWriter::new(File::create_new(target.join("points.txt"))?);
        for _ in 0..count {
            let center = centers[rng.below(CLUSTERS)];
            line(&mut writer, center.map(|x| x + (rng.unit() + rng.unit() - 1.0) * 20.0))?;
        }
        Ok(writer.flush()?)
    })
}

/// Points with a label of 0 or 1 before them, which a plane tells apart but for some.
pub fn labelled(dir: &Path, count: u64) -> Result<PathBuf> {
    kept(dir, "labelled", &count.to_string(), |target| {
        let mut rng = Xorshift::new(1);
        let plane = [(); DIMENSIONS].map(|()| rng.unit() * 8.0 - 4.0);
        in_files(target, |file, rng, writer| {
            for _ in share(count, file) {
                let point = plane.map(|_| rng.unit() * 2.0 - 1.0);
                let above: f64 = plane.iter().zip(&point).map(|(a, x)| a * x).sum();
                let label = rng.unit() < 1.0 / (1.0 + (-above).exp());
                write!(writer, "{} ", u8::from(label))?;
                line(writer, point)?;
            }
            Ok(())
        })
    })
}

/// The rows of a file, by their numbers in all files.
fn share(rows: u64, file: u64) -> Range<u64> {
    rows * file / FILES as u64..rows * (file + 1) / FILES as u64
}

fn line(writer: &mut impl Write, point: [f64; DIMENSIONS]) -> Result<()> {
    for (i, x) in point.iter().enumerate() {
        write!(writer, "{}{x:.3}", if i == 0 { "" } else { " " })?;
    }
    Ok(writeln!(writer)?)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::fs;

    use super::*;

    fn lines(folder: &Path) -> Vec<String> {
        let files = crate::twin::input::files(folder.to_str().unwrap()).unwrap();
        let text = files.iter().map(|f| fs::read_to_string(f).unwrap()).collect::<String>();
        text.lines().map(str::to_owned).collect()
    }

    fn numbers(folder: &Path) -> Vec<(u64, u64)> {
        let number = |word: &str| word.parse::<u64>().unwrap();
        let fields = |line: &String| line.split_once('\t').map(|(a, b)| (number(a), number(b)));
        lines(folder).iter().map(|line| fields(line).unwrap()).collect()
    }

    #[test]
    fn pairs_have_all_keys_and_a_table_each_of_them_once() {
        let dir = tempfile::tempdir().unwrap();
        let pairs = numbers(&pairs(dir.path(), 10_001, 100).unwrap());
        let keys = numbers(&keys(dir.path(), 100).unwrap());
        let distinct = |of: &[(u64, u64)]| of.iter().map(|(key, _)| *key).collect::<HashSet<_>>();
        assert_eq!((pairs.len(), keys.len()), (10_001, 100));
        assert_eq!(distinct(&pairs), (0..100).collect());
        assert_eq!(distinct(&keys), (0..100).collect());
    }

    #[test]
    fn half_of_the_skewed_rows_have_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let rows = numbers(&skewed(dir.path(), 10_000, 100).unwrap());
        let heavy = rows.iter().filter(|(key, _)| *key == 0).count();
        assert!((4_800..5_300).contains(&heavy), "{heavy}");
    }

    #[test]
    fn few_nodes_of_a_graph_are_linked_to_by_many() {
        let dir = tempfile::tempdir().unwrap();
        let edges = numbers(&graph(dir.path(), 1_000, 10_000).unwrap());
        let mut links = HashMap::<u64, u32>::new();
        edges.iter().for_each(|(_, to)| *links.entry(*to).or_default() += 1);
        assert!(links[&0] > 500 && edges.iter().all(|(a, b)| *a < 1_000 && *b < 1_000));
        assert!(edges.iter().map(|(from, _)| from).collect::<HashSet<_>>().len() > 990);
    }

    #[test]
    fn points_have_their_coordinates_and_both_labels() {
        let dir = tempfile::tempdir().unwrap();
        let points = lines(&points(dir.path(), 1_000).unwrap());
        assert_eq!(points.len(), 1_000);
        assert!(points.iter().all(|line| line.split(' ').count() == DIMENSIONS));
        let labelled = lines(&labelled(dir.path(), 1_000).unwrap());
        assert!(labelled.iter().all(|line| line.split(' ').count() == DIMENSIONS + 1));
        let ones = labelled.iter().filter(|line| line.starts_with("1 ")).count();
        assert!((200..800).contains(&ones), "{ones}");
    }
}
