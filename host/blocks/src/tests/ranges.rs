use std::os::unix::fs::symlink;
use std::sync::atomic::Ordering;

use super::Home;
use crate::{Error, Framing, Grants, MAX_RANGE, RangeReader, Result, Source};

fn open(home: &Home, path: &str, min_splits: u32) -> Source {
    Source::open(&home.grants, path, Framing::Ranges, min_splits, 1).unwrap()
}

fn only(home: &Home, path: &str) -> Result<RangeReader> {
    open(home, path, 0).open_ranges(&home.grants, 0, &home.options())
}

#[test]
fn any_part_of_a_file_is_read_and_counted_as_it_is() {
    let home = Home::new();
    let bytes: Vec<u8> = (0..100_000u32).map(|n| (n / 7) as u8).collect();
    // What is read by ranges isn't decompressed.
    home.write("d/a.gz", &bytes);
    let options = home.options();
    let mut reader = open(&home, "d", 0).open_ranges(&home.grants, 0, &options).unwrap();
    assert_eq!(reader.extent(), (0, 100_000, 100_000));
    for (at, len) in [(0, 10), (99_990, 10), (5, 70_000), (3, 0)] {
        assert_eq!(reader.read_at(at as u64, len).unwrap(), &bytes[at..at + len]);
    }
    assert_eq!(options.bytes_read.load(Ordering::Relaxed), 70_020);
    assert_eq!(reader.read_at(99_999, 50).unwrap(), &bytes[99_999..]);
    for beyond in [100_000, 1 << 40, u64::MAX] {
        assert_eq!(reader.read_at(beyond, MAX_RANGE).unwrap(), b"");
    }
    // What it holds is charged, and no more than the longest part.
    assert!((70_000..=100_000).contains(&home.pool.usage().total()));
    drop(reader);
    assert_eq!(home.pool.usage().total(), 0);
}

#[test]
fn a_part_that_is_too_long_is_refused_before_anything_is_held() {
    let home = Home::new();
    home.write("a", "x");
    let mut reader = only(&home, "a").unwrap();
    assert!(matches!(reader.read_at(0, MAX_RANGE + 1), Err(Error::Invalid(_))));
    assert_eq!(home.pool.usage().total(), 0);
}

#[test]
fn files_are_cut_at_any_byte_and_an_empty_one_is_opened_too() {
    let home = Home::new();
    home.write("d/a.gz", "x".repeat(1000));
    home.write("d/b", "");
    let source = open(&home, "d", 4);
    let extent = |split| {
        let reader = source.open_ranges(&home.grants, split, &home.options()).unwrap();
        let name = reader.path().file_name().unwrap().to_str().unwrap().to_owned();
        (name, reader.extent())
    };
    let extents: Vec<_> = (0..source.splits()).map(extent).collect();
    assert!(extents.len() >= 4);
    let mut at = 0;
    for (name, (start, end, len)) in &extents[..extents.len() - 1] {
        assert_eq!((name.as_str(), *start, *len), ("a.gz", at, 1000));
        at = *end;
    }
    assert_eq!(at, 1000);
    assert_eq!(extents[extents.len() - 1], ("b".to_owned(), (0, 0, 0)));
    assert!(source.open_split(&home.grants, 0, &home.options()).is_err());
    let lines = Source::open(&home.grants, "d/a.gz", Framing::Lines, 0, 1).unwrap();
    assert!(lines.open_ranges(&home.grants, 0, &home.options()).is_err());
}

#[test]
fn a_file_that_changed_or_is_not_granted_is_not_read() {
    let home = Home::new();
    home.write("a", "before");
    let mut reader = only(&home, "a").unwrap();
    let source = open(&home, "a", 0);
    home.write("a", "bef");
    let text = reader.read_at(2, 4).unwrap_err().to_string();
    assert!(text.contains("changed while the job ran"), "{text}");
    assert!(source.open_ranges(&home.grants, 0, &home.options()).is_err());

    home.write("granted/a", "x");
    home.write("secret", "s");
    let source = open(&home, "granted/a", 0);
    let none = Grants::new_in(home.folder.path(), &[], &[]).unwrap().into();
    assert!(matches!(source.open_ranges(&none, 0, &home.options()), Err(Error::NotAllowed { .. })));
    let some = Grants::new_in(home.folder.path(), &["granted".into()], &[]).unwrap().into();
    std::fs::remove_file(home.path("granted/a")).unwrap();
    symlink("../secret", home.path("granted/a")).unwrap();
    let escaped = source.open_ranges(&some, 0, &home.options());
    assert!(matches!(escaped, Err(Error::Escapes { .. })));
}
