//! Word count, whole and of the words that no stop list names.

use std::hash::BuildHasher;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use hashbrown::{DefaultHashBuilder, HashMap, HashSet};

use super::input;
use super::output::Output;
use super::threads::{self, Threads};

type Counts = HashMap<Box<str>, u64>;

/// Writes `word<TAB>count` for every word of the input to a new folder.
pub fn wordcount(spec: &str, out: &Path, threads: Threads) -> Result<()> {
    let out = Output::create(out)?;
    let shards = count(spec, threads, |_| true)?;
    threads::map(threads, shards, |number, shard| {
        out.part(number, |writer| {
            shard.iter().try_for_each(|(word, n)| writeln!(writer, "{word}\t{n}"))?;
            Ok(())
        })
    })?;
    out.commit()
}

/// The most frequent words of the input that aren't in the stop list: most frequent first, then by the alphabet.
pub fn stopwords(
    spec: &str,
    stop: &str,
    top: usize,
    threads: Threads,
) -> Result<Vec<(Box<str>, u64)>> {
    let mut stops: HashSet<Box<str>> = HashSet::new();
    for split in input::splits(&input::files(stop)?)? {
        split.for_each_block(|block| {
            stops.extend(block.lines().map(Box::from));
            Ok(())
        })?;
    }
    let shards = count(spec, threads, |word| !stops.contains(word))?;
    let mut words: Vec<_> = shards.into_iter().flatten().collect();
    words.sort_unstable_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
    words.truncate(top);
    Ok(words)
}

/// Counts the words that are to be kept. No word is in two of the tables.
fn count(spec: &str, threads: Threads, keep: impl Fn(&str) -> bool + Sync) -> Result<Vec<Counts>> {
    let splits = input::splits(&input::files(spec)?)?;
    let hasher = DefaultHashBuilder::default();
    let counted = threads::fold(
        threads,
        splits.len(),
        || Counts::with_hasher(hasher.clone()),
        |counts, i| {
            splits[i].for_each_block(|block| {
                for word in block.split_ascii_whitespace().filter(|word| keep(word)) {
                    *counts.entry_ref(word).or_insert(0) += 1;
                }
                Ok(())
            })
        },
    )?;

    // Merge by shards of the words' hashes, so that all threads can. These bits of a hash aren't the
    // ones that place a word in its table.
    let shard_of = |word: &str| (hasher.hash_one(word) >> 40) as u16 as usize % threads.get();
    let sharded = threads::map(threads, counted, |_, counts| {
        let mut shards: Vec<Vec<(Box<str>, u64)>> = vec![Vec::new(); threads.get()];
        counts.into_iter().for_each(|(word, n)| shards[shard_of(&word)].push((word, n)));
        Ok(shards)
    })?;
    threads::map(threads, transpose(sharded), |_, parts| {
        let mut merged = Counts::with_hasher(hasher.clone());
        for (word, n) in parts.into_iter().flatten() {
            *merged.entry(word).or_insert(0) += n;
        }
        Ok(merged)
    })
}

/// Rows to columns.
fn transpose<T>(rows: Vec<Vec<T>>) -> Vec<Vec<T>> {
    let mut columns: Vec<Vec<T>> = Vec::new();
    for row in rows {
        columns.resize_with(columns.len().max(row.len()), Vec::new);
        columns.iter_mut().zip(row).for_each(|(column, cell)| column.push(cell));
    }
    columns
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    const TWO: Threads = Threads::new(2).unwrap();

    #[test]
    fn counts_add_up_over_files_threads_and_parts() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in");
        fs::create_dir(&input).unwrap();
        fs::write(input.join("a"), "to be or\tnot  to be\r\n\n").unwrap();
        fs::write(input.join("b"), "that is\nthe question: être").unwrap();
        let out = dir.path().join("out");
        wordcount(input.to_str().unwrap(), &out, TWO).unwrap();

        let mut counts = BTreeMap::new();
        for part in input::files(out.to_str().unwrap()).unwrap() {
            for line in fs::read_to_string(part).unwrap().lines() {
                let (word, n) = line.split_once('\t').unwrap();
                assert_eq!(
                    counts.insert(word.to_owned(), n.parse::<u64>().unwrap()),
                    None,
                    "{word} twice"
                );
            }
        }
        let expected = [
            ("be", 2),
            ("is", 1),
            ("not", 1),
            ("or", 1),
            ("question:", 1),
            ("that", 1),
            ("the", 1),
            ("to", 2),
            ("être", 1),
        ];
        assert_eq!(counts, expected.map(|(w, n)| (w.to_owned(), n)).into());
        assert!(out.join("_SUCCESS").exists());
    }

    #[test]
    fn an_output_that_exists_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in");
        fs::write(&input, "a").unwrap();
        assert!(wordcount(input.to_str().unwrap(), dir.path(), TWO).is_err());
    }

    #[test]
    fn stop_words_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let (text, stop) = (dir.path().join("text"), dir.path().join("stop"));
        fs::write(&text, "the cat and the dog and the cat and a bird").unwrap();
        fs::write(&stop, "the\nand\na\n").unwrap();
        let top = stopwords(text.to_str().unwrap(), stop.to_str().unwrap(), 2, TWO).unwrap();
        assert_eq!(top, [("cat".into(), 2), ("bird".into(), 1)]);
    }
}
