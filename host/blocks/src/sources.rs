//! Sources: files, and how they are cut into splits.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::grants::Grants;
use crate::input::Compression;
use crate::listing;
use crate::objects::Found;
use crate::ranges::RangeReader;
use crate::reader::{ReadOptions, SplitReader};

/// The usual size of a split.
const SPLIT: u64 = 32 << 20;
/// Less than this is no work for a task of its own, unless somebody asks.
const WORTH_A_TASK: u64 = 1 << 20;
/// A rest of a tenth of a split isn't worth one of its own.
const SLOP: u64 = 10;
const MAX_SPLITS: u64 = 1_000_000;

/// How a source's bytes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Splits on line boundaries, blocks of whole lines.
    Lines,
    /// As `Lines`, but each file's first line is told apart.
    LinesWithHeader,
    /// One split a file, its bytes as they are.
    WholeFiles,
    /// Splits by size of files as they are, of which any part may be read.
    Ranges,
}

/// The files of a source, and its splits. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Source {
    framing: Framing,
    files: Arc<[SourceFile]>,
    splits: Arc<[Split]>,
    bytes: u64,
}

/// A source as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceParts {
    /// How it is cut.
    pub framing: Framing,
    /// Files, their lengths, and of objects what tells whether they were changed.
    pub files: Vec<(PathBuf, u64, Option<String>)>,
    /// Splits: the file's place in the list, and the bytes from and to.
    pub splits: Vec<(u32, u64, u64)>,
}

/// A file as it was when it was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceFile {
    pub path: PathBuf,
    pub len: u64,
    /// See [`Found`].
    pub tag: Option<String>,
}

/// A part of a file. Of lines, those that begin in `start..end`, wherever they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub file: u32,
    pub start: u64,
    pub end: u64,
}

impl Source {
    /// Lists the files of `path` and cuts them: into at least `min_splits` if they can be cut so. 0: by size, and so that there is
    /// work for `parallelism` slots if the files aren't tiny.
    /// A folder without files is a source without splits.
    pub fn open(
        grants: &Grants,
        path: &str,
        framing: Framing,
        min_splits: u32,
        parallelism: u32,
    ) -> Result<Self> {
        let listed = listing::list(grants, path)?;
        let files: Arc<[_]> = listed
            .into_iter()
            .map(|(path, Found { len, tag })| SourceFile { path, len, tag })
            .collect();
        let bytes = total(files.iter());
        let min_splits = match min_splits {
            0 => u64::from(parallelism).min(bytes / WORTH_A_TASK),
            asked => u64::from(asked),
        };
        let splits = cut(&files, framing, min_splits)?.into();
        Ok(Self { framing, files, splits, bytes })
    }

    /// A source that a driver elsewhere listed and cut.
    pub fn from_parts(parts: SourceParts) -> Result<Self> {
        let SourceParts { framing, files, splits } = parts;
        let is_sound = |&(file, start, end): &(u32, u64, u64)| {
            files.get(file as usize).is_some_and(|(_, len, _)| start <= end && end <= *len)
        };
        if splits.len() as u64 > MAX_SPLITS + 1 || !splits.iter().all(is_sound) {
            return Err(Error::Invalid("a source has splits that can't be".into()));
        }
        let files: Arc<[_]> =
            files.into_iter().map(|(path, len, tag)| SourceFile { path, len, tag }).collect();
        let bytes = total(files.iter());
        let splits =
            splits.into_iter().map(|(file, start, end)| Split { file, start, end }).collect();
        Ok(Self { framing, files, splits, bytes })
    }

    /// What an executor elsewhere must know of it.
    pub fn to_parts(&self) -> SourceParts {
        SourceParts {
            framing: self.framing,
            files: self
                .files
                .iter()
                .map(|file| (file.path.clone(), file.len, file.tag.clone()))
                .collect(),
            splits: self.splits.iter().map(|s| (s.file, s.start, s.end)).collect(),
        }
    }

    /// How many splits it has.
    pub fn splits(&self) -> u32 {
        // At most `MAX_SPLITS`.
        self.splits.len() as u32
    }

    /// How many files it has.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Bytes on disk, before decompression.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of memory that its lists take, about.
    pub fn listed_bytes(&self) -> u64 {
        let file = |file: &SourceFile| {
            file.path.as_os_str().len() + file.tag.as_ref().map_or(0, String::len)
        };
        let files = self.files.iter().map(file).sum::<usize>() + size_of_val(&*self.files);
        (files + size_of_val(&*self.splits)) as u64
    }

    /// Opens a split.
    pub fn open_split(
        &self,
        grants: &Arc<Grants>,
        split: u32,
        options: &ReadOptions,
    ) -> Result<SplitReader> {
        if self.framing == Framing::Ranges {
            return Err(Error::Invalid("a source of ranges has no blocks".into()));
        }
        let (found, file) = self.split(split)?;
        SplitReader::open(grants, file, found, self.framing, options)
    }

    /// Opens a split of [`Framing::Ranges`].
    pub fn open_ranges(
        &self,
        grants: &Arc<Grants>,
        split: u32,
        options: &ReadOptions,
    ) -> Result<RangeReader> {
        if self.framing != Framing::Ranges {
            return Err(Error::Invalid("a source of blocks has no ranges".into()));
        }
        let (found, file) = self.split(split)?;
        RangeReader::open(grants, file, found, options)
    }

    /// How it is cut.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    fn split(&self, split: u32) -> Result<(Split, &SourceFile)> {
        let found = self.splits.get(split as usize);
        let file = found.and_then(|s| self.files.get(s.file as usize));
        let (Some(found), Some(file)) = (found, file) else {
            let count = self.splits.len();
            return Err(Error::Invalid(format!(
                "split {split} was opened of a source that has {count}"
            )));
        };
        Ok((*found, file))
    }
}

/// Sparse files may claim any length.
fn total<'a>(files: impl Iterator<Item = &'a SourceFile>) -> u64 {
    files.fold(0, |sum, f| sum.saturating_add(f.len))
}

fn cut(files: &[SourceFile], framing: Framing, min_splits: u64) -> Result<Vec<Split>> {
    if min_splits > MAX_SPLITS || files.len() as u64 > MAX_SPLITS {
        return Err(Error::Invalid(format!("a source may have {MAX_SPLITS} splits, not more")));
    }
    let is_whole = |f: &SourceFile| match framing {
        Framing::WholeFiles => true,
        Framing::Lines | Framing::LinesWithHeader => Compression::of(&f.path) != Compression::None,
        // Somebody must find that an empty one is none of its format.
        Framing::Ranges => f.len == 0,
    };
    let whole = files.iter().filter(|f| is_whole(f)).count() as u64;
    let total = total(files.iter().filter(|f| !is_whole(f)));
    // What the whole ones don't give, the others must. Rounded down, so that there are never too few.
    let wanted = min_splits.saturating_sub(whole).max(1);
    // But not so small that there are too many.
    let size = SPLIT.min(total / wanted).max(1).max(total.div_ceil(MAX_SPLITS));
    let splits = cut_by(files, is_whole, size, size / SLOP);
    if splits.len() as u64 >= min_splits {
        Ok(splits)
    } else {
        Ok(cut_by(files, is_whole, size, 0))
    }
}

fn cut_by(
    files: &[SourceFile],
    is_whole: impl Fn(&SourceFile) -> bool,
    size: u64,
    slop: u64,
) -> Vec<Split> {
    let mut splits = Vec::new();
    for (file, listed) in (0u32..).zip(files) {
        if is_whole(listed) {
            splits.push(Split { file, start: 0, end: listed.len });
            continue;
        }
        let mut start = 0;
        while start < listed.len {
            let end = if listed.len - start <= size + slop { listed.len } else { start + size };
            splits.push(Split { file, start, end });
            start = end;
        }
    }
    splits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files(lens: &[(&str, u64)]) -> Vec<SourceFile> {
        lens.iter().map(|&(path, len)| SourceFile { path: path.into(), len, tag: None }).collect()
    }

    #[test]
    fn files_are_cut_by_size_and_a_small_rest_stays_with_the_last() {
        let cut = cut(&files(&[("a", 2 * SPLIT + 5), ("b", 7), ("empty", 0)]), Framing::Lines, 0)
            .unwrap();
        let split = |file, start, end| Split { file, start, end };
        assert_eq!(cut, [split(0, 0, SPLIT), split(0, SPLIT, 2 * SPLIT + 5), split(1, 0, 7)]);
    }

    #[test]
    fn a_source_travels_as_data_and_nonsense_is_refused() {
        let parts = SourceParts {
            framing: Framing::Lines,
            files: vec![("/a".into(), 10, None), ("s3://b/k".into(), 1, Some("tag".into()))],
            splits: vec![(0, 0, 4), (0, 4, 10)],
        };
        let source = Source::from_parts(parts.clone()).unwrap();
        assert_eq!((source.to_parts(), source.bytes(), source.splits()), (parts.clone(), 11, 2));
        for bad in [(2, 0, 1), (0, 5, 4), (0, 0, 11)] {
            assert!(
                Source::from_parts(SourceParts { splits: vec![bad], ..parts.clone() }).is_err()
            );
        }
    }

    #[test]
    fn what_cannot_be_cut_stays_whole() {
        let list = files(&[("a.gz", 5 * SPLIT), ("b.zst", 9), ("c", 0)]);
        assert_eq!(cut(&list, Framing::Lines, 100).unwrap().len(), 2);
        assert_eq!(
            cut(&list, Framing::WholeFiles, 100).unwrap().len(),
            3,
            "an empty file is a file"
        );
    }

    #[test]
    fn absurd_numbers_of_splits_are_refused() {
        assert!(cut(&files(&[("a", u64::MAX / 2)]), Framing::Lines, u64::from(u32::MAX)).is_err());
        let most = cut(&files(&[("a", 1 << 60)]), Framing::Lines, 0).unwrap();
        assert!(most.len() as u64 <= MAX_SPLITS + 1);
    }

    proptest! {
        #[test]
        fn splits_cover_every_file_once_and_are_as_many_as_asked(
            lens in prop::collection::vec(0u64..100_000, 1..6),
            min in 0u32..200,
        ) {
            let files: Vec<_> = lens.iter().map(|&len| SourceFile { path: "x".into(), len, tag: None }).collect();
            let splits = cut(&files, Framing::Lines, u64::from(min)).unwrap();
            for (i, &len) in (0u32..).zip(&lens) {
                let mut at = 0;
                for split in splits.iter().filter(|s| s.file == i) {
                    prop_assert!(split.start == at && split.end > at);
                    at = split.end;
                }
                prop_assert_eq!(at, len);
            }
            let total: u64 = lens.iter().sum();
            prop_assert!(splits.len() as u64 >= u64::from(min).min(total));
        }
    }
}
