//! Joins numbers by their keys: one side in tables, the other looked up in them as it is read.

use std::ops::Range;

use anyhow::{Context, Result};
use hashbrown::HashMap;

use super::input;
use super::threads::{self, Threads};

type Pair = (u64, u64);

/// The numbers of one side whose keys are of one shard.
struct Shard {
    /// Those of a key lie together.
    numbers: Vec<u64>,
    places: HashMap<u64, Range<u32>>,
}

impl Shard {
    fn of(mut pairs: Vec<Pair>) -> Self {
        pairs.sort_unstable_by_key(|(key, _)| *key);
        let mut places = HashMap::with_capacity(pairs.len());
        let mut at = 0;
        for same in pairs.chunk_by(|a, b| a.0 == b.0) {
            let end = at + same.len() as u32;
            places.extend(same.first().map(|(key, _)| (*key, at..end)));
            at = end;
        }
        Self { numbers: pairs.into_iter().map(|(_, number)| number).collect(), places }
    }

    fn get(&self, key: u64) -> &[u64] {
        let place = self.places.get(&key).map(|place| place.start as usize..place.end as usize);
        place.and_then(|place| self.numbers.get(place)).unwrap_or_default()
    }
}

/// How many pairs the join of two inputs has, and the sum of their products.
pub fn join(left: &str, right: &str, threads: Threads) -> Result<(u64, u64)> {
    let shard_of = |key: u64| key as usize % threads.get();
    let splits = input::splits(&input::files(right)?)?;
    let read = threads::fold(
        threads,
        splits.len(),
        || vec![Vec::new(); threads.get()],
        |shards, i| {
            splits[i].for_each_block(|block| {
                for line in block.lines() {
                    let (key, number) = parse(line)?;
                    shards[shard_of(key)].push((key, number));
                }
                Ok(())
            })
        },
    )?;
    let mut parts: Vec<Vec<Vec<Pair>>> = vec![Vec::new(); threads.get()];
    for mine in read {
        parts.iter_mut().zip(mine).for_each(|(all, part)| all.push(part));
    }
    let shards = threads::map(threads, parts, |_, parts| Ok(Shard::of(parts.concat())))?;

    let splits = input::splits(&input::files(left)?)?;
    let sums = threads::fold(
        threads,
        splits.len(),
        || (0, 0),
        |(pairs, sum): &mut (u64, u64), i| {
            splits[i].for_each_block(|block| {
                for line in block.lines() {
                    let (key, number) = parse(line)?;
                    for other in shards[shard_of(key)].get(key) {
                        *pairs += 1;
                        *sum += number * other;
                    }
                }
                Ok(())
            })
        },
    )?;
    Ok(sums.into_iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)))
}

fn parse(line: &str) -> Result<Pair> {
    let fields = line.split_once('\t').with_context(|| format!("not KEY<TAB>NUMBER: {line}"))?;
    Ok((fields.0.parse()?, fields.1.parse()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_number_meets_every_other_of_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("left"), "1\t2\n1\t3\n2\t5\n4\t7\n").unwrap();
        fs::write(path("right"), "2\t11\n1\t13\n3\t17\n1\t19\n").unwrap();
        let expected = (5, 2 * (13 + 19) + 3 * (13 + 19) + 5 * 11);
        for threads in [1, 2, 3] {
            let threads = Threads::new(threads).unwrap();
            assert_eq!(join(&path("left"), &path("right"), threads).unwrap(), expected);
        }
    }

    #[test]
    fn a_line_that_is_no_pair_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in");
        fs::write(&path, "1 2\n").unwrap();
        let path = path.to_str().unwrap();
        assert!(join(path, path, Threads::MIN).unwrap_err().to_string().contains("1 2"));
    }
}
