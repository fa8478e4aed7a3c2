//! Made-up input: the same bytes for the same seed on every machine, made once and kept.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::rng::Xorshift;
use crate::twin::sort::{KEY, RECORD};
use crate::twin::threads::{self, Threads};

/// Changes with what the generators make, so that older files aren't taken for it.
const VERSION: u32 = 1;

/// All data is made from it.
const SEED: u64 = 2026;

/// Files of a data set.
pub(crate) const FILES: usize = 8;

/// Different words in a text; how often each occurs falls with its rank, by Zipf's law.
const VOCABULARY: usize = 200_000;

/// Letters about as often as a European language has them, one of them outside of ASCII.
const LETTERS: &str = "eeeeeeeeaaaaaaiiiiioooooouuutttttttnnnnnnnsssssshhhhh\
    rrrrrrddddlllllccccmmmmwwffggyyppbbvkjxqzé";

/// A folder of text: lines of 40 to 120 characters.
pub fn text(dir: &Path, mib: u64) -> Result<PathBuf> {
    kept(dir, "text", &format!("{mib}m"), |target| {
        let ranks = Ranks::zipf(VOCABULARY);
        let words = words(VOCABULARY, &mut Xorshift::new(SEED));
        in_files(target, |_, rng, writer| {
            let mut left = (mib << 20) / FILES as u64;
            let mut line = String::new();
            while left > 0 {
                line.clear();
                let least = 40 + rng.below(60);
                while line.len() < least {
                    if !line.is_empty() {
                        line.push(' ');
                    }
                    line.push_str(&words[ranks.draw(rng)]);
                }
                // The last line takes what is left, but for its newline.
                line.truncate(line.floor_char_boundary(left as usize - 1));
                line.push('\n');
                writer.write_all(line.as_bytes())?;
                left -= line.len() as u64;
            }
            Ok(())
        })
    })
}

/// A folder of records to sort: lines of 100 bytes with random keys.
pub fn records(dir: &Path, mib: u64) -> Result<PathBuf> {
    kept(dir, "records", &format!("{mib}m"), |target| {
        in_files(target, |_, rng, writer| {
            for number in 0..(mib << 20) / (FILES * RECORD) as u64 {
                let mut key = [0; KEY];
                key.fill_with(|| b'!' + rng.below(94) as u8);
                writer.write_all(&key)?;
                writeln!(writer, " {number:0width$x}", width = RECORD - KEY - 2)?;
            }
            Ok(())
        })
    })
}

/// The folder of real data with known answers, where there is one: that of `INGLE_DATA`, or the one beside this checkout.
pub fn real() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let dir = std::env::var_os("INGLE_DATA").map_or_else(|| beside.into(), PathBuf::from);
    dir.join("flights.csv.gz").exists().then_some(dir)
}

/// A file of the real data, copied to where the jobs may read.
pub fn real_file(dir: &Path, name: &str) -> Result<PathBuf> {
    let from = real().context("there is no real data: set INGLE_DATA to its folder")?;
    let folder = dir.join("real");
    fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    let path = folder.join(name);
    if !path.exists() {
        let mut copy = tempfile::NamedTempFile::new_in(&folder)?;
        let mut original = File::open(from.join(name))
            .with_context(|| format!("can't open {} in {}", name, from.display()))?;
        std::io::copy(&mut original, &mut copy)?;
        copy.persist(&path)?;
    }
    Ok(path)
}

/// Finds a data set, or makes it under another name first: what has its name is whole.
pub(crate) fn kept(
    dir: &Path,
    kind: &str,
    size: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let path = dir.join(format!("{kind}-{size}-{SEED}-v{VERSION}"));
    if !path.exists() {
        eprintln!("making {}", path.display());
        fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display()))?;
        let making = tempfile::Builder::new().prefix(".making-").tempdir_in(dir)?;
        make(making.path())?;
        fs::rename(making.keep(), &path)?;
    }
    Ok(path)
}

/// Writes the files of a folder at the same time, each by its number and with a generator of its own.
pub(crate) fn in_files(
    folder: &Path,
    write: impl Fn(u64, &mut Xorshift, &mut BufWriter<File>) -> Result<()> + Sync,
) -> Result<()> {
    let threads = std::thread::available_parallelism().unwrap_or(Threads::MIN);
    threads::map(threads, (0..FILES as u64).collect(), |_, number| {
        let mut writer = BufWriter::with_capacity(
            1 << 20,
            File::create_new(folder.join(format!("{number}.txt")))?,
        );
        write(number, &mut Xorshift::new(SEED + 1 + number), &mut writer)?;
        Ok(writer.flush()?)
    })?;
    Ok(())
}

/// Different words, in the order of how often they are to occur; the first are short.
fn words(count: usize, rng: &mut Xorshift) -> Vec<String> {
    let letters: Vec<char> = LETTERS.chars().collect();
    let mut seen = HashSet::new();
    let mut words = Vec::with_capacity(count);
    while words.len() < count {
        let length = 2 + words.len().checked_ilog(8).unwrap_or(0) as usize + rng.below(4);
        let word: String = (0..length).map(|_| letters[rng.below(letters.len())]).collect();
        if seen.insert(word.clone()) {
            words.push(word);
        }
    }
    words
}

/// Draws ranks by Zipf's law in constant time: a table of ranks, each as many times as is its share.
struct Ranks(Vec<u32>);

impl Ranks {
    /// Cells of the table for a rank, on average: enough that the last rank has its own.
    const CELLS: usize = 20;

    fn zipf(ranks: usize) -> Self {
        let harmonic: f64 = (1..=ranks).map(|rank| 1.0 / rank as f64).sum();
        let cells = ranks * Self::CELLS;
        let mut table = Vec::with_capacity(cells);
        let mut share = 0.0;
        for rank in 0..ranks {
            share += 1.0 / (rank + 1) as f64 / harmonic;
            table.resize(
                ((share * cells as f64).round() as usize).clamp(table.len(), cells),
                rank as u32,
            );
        }
        Self(table)
    }

    fn draw(&self, rng: &mut Xorshift) -> usize {
        self.0[rng.below(self.0.len())] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twin::input;

    fn content(folder: &Path) -> Vec<String> {
        let files = input::files(folder.to_str().unwrap()).unwrap();
        files.iter().map(|f| fs::read_to_string(f).unwrap()).collect()
    }

    #[test]
    fn text_has_its_size_its_lines_and_its_many_words() {
        let dir = tempfile::tempdir().unwrap();
        let files = content(&text(dir.path(), 8).unwrap());
        assert_eq!(files.len(), FILES);
        for file in &files {
            assert_eq!(file.len(), 1 << 20);
            // The last line is what was left.
            let whole = &file.trim_end()[..file.trim_end().rfind('\n').unwrap()];
            assert!(whole.lines().all(|line| (40..=120).contains(&line.len())));
        }
        let words: HashSet<_> = files.iter().flat_map(|f| f.split_ascii_whitespace()).collect();
        assert!(words.len() > 100_000, "{} words", words.len());
        assert!(files.iter().any(|f| f.contains('é')));
    }

    #[test]
    fn records_are_lines_of_their_size_with_different_keys() {
        let dir = tempfile::tempdir().unwrap();
        let text = content(&records(dir.path(), 1).unwrap()).concat();
        assert_eq!(text.len(), (1 << 20) / (FILES * RECORD) * FILES * RECORD);
        assert!(text.split_inclusive('\n').all(|line| line.len() == RECORD));
        let keys: HashSet<_> = text.lines().map(|line| &line[..KEY]).collect();
        assert_eq!(keys.len(), text.lines().count());
    }

    #[test]
    fn the_same_bytes_are_made_again_and_what_is_there_is_kept() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = records(one.path(), 1).unwrap();
        assert_eq!(content(&first), content(&records(two.path(), 1).unwrap()));
        fs::write(first.join("0.txt"), "kept").unwrap();
        assert_eq!(content(&records(one.path(), 1).unwrap())[0], "kept");
    }

    #[test]
    fn frequencies_fall_with_the_rank_and_no_rank_is_left_out() {
        let ranks = Ranks::zipf(1_000);
        let mut cells = [0; 1_000];
        ranks.0.iter().for_each(|rank| cells[*rank as usize] += 1);
        assert!(
            cells[0] > 15 * cells[19] && cells[0] < 25 * cells[19],
            "{} {}",
            cells[0],
            cells[19]
        );
        assert!(cells.iter().all(|n| *n > 0));
    }
}
