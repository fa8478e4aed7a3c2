use std::os::unix::fs::symlink;

use super::Home;
use crate::{Error, Framing, Grants, Result, Source};

/// The files of a source, one a split.
fn files(home: &Home, path: &str) -> Result<Vec<String>> {
    let source = Source::open(&home.grants, path, Framing::WholeFiles, 0, 1)?;
    (0..source.splits())
        .map(|split| {
            let reader = source.open_split(&home.grants, split, &home.options())?;
            let path = reader.describe().path.strip_prefix(home.folder.path()).unwrap().to_owned();
            Ok(path.to_string_lossy().into_owned())
        })
        .collect()
}

/// Reads all of a file; its error if it can't be.
fn failure(home: &Home, path: &str) -> String {
    let source = Source::open(&home.grants, path, Framing::Lines, 0, 1).unwrap();
    let mut reader = match source.open_split(&home.grants, 0, &home.options()) {
        Ok(reader) => reader,
        Err(error) => return error.to_string(),
    };
    loop {
        match reader.next_block() {
            Ok(block) => assert!(block.is_some(), "{path} was read without an error"),
            Err(error) => return error.to_string(),
        }
    }
}

fn tree() -> Home {
    let home = Home::new();
    for name in [
        "d/b.txt",
        "d/a.txt",
        "d/.hidden",
        "d/_SUCCESS",
        "d/in/c.txt",
        "d/in/c.csv",
        "d/in/deep/e.txt",
    ] {
        home.write(name, name);
    }
    home
}

#[test]
fn a_folder_stands_for_its_own_visible_files_in_order() {
    let home = tree();
    assert_eq!(files(&home, "d").unwrap(), ["d/a.txt", "d/b.txt"]);
    assert_eq!(files(&home, "d/a.txt").unwrap(), ["d/a.txt"]);
    std::fs::create_dir(home.path("empty")).unwrap();
    assert_eq!(files(&home, "empty").unwrap(), [""; 0]);
}

#[test]
fn globs_match_within_names_and_two_stars_across_folders() {
    let home = tree();
    for (glob, expected) in [
        ("d/*.txt", &["d/a.txt", "d/b.txt"][..]),
        ("d/?.txt", &["d/a.txt", "d/b.txt"]),
        ("d/{a,x}.txt", &["d/a.txt"]),
        ("*/in/*.txt", &["d/in/c.txt"]),
        ("d/**/*.txt", &["d/a.txt", "d/b.txt", "d/in/c.txt", "d/in/deep/e.txt"]),
        ("d/i*", &["d/in/c.csv", "d/in/c.txt"]),
    ] {
        assert_eq!(files(&home, glob).unwrap(), expected, "{glob}");
    }
    let text = files(&home, "d/*.json").unwrap_err().to_string();
    assert!(text.ends_with("d/*.json matches no file"), "{text}");
    assert!(matches!(files(&home, "d/{a"), Err(Error::Invalid(_))));
}

#[test]
fn a_name_that_looks_like_a_glob_is_found_as_it_is() {
    let home = tree();
    home.write("d/[a].txt", "");
    assert_eq!(files(&home, "d/[a].txt").unwrap(), ["d/[a].txt"]);
}

#[test]
fn what_is_not_there_or_no_file_is_said() {
    let home = tree();
    let text = files(&home, "nowhere").unwrap_err().to_string();
    assert_eq!(text, format!("{} doesn't exist", home.path("nowhere").display()));
    let _listener = std::os::unix::net::UnixListener::bind(home.path("socket")).unwrap();
    let text = files(&home, "socket").unwrap_err().to_string();
    assert!(text.ends_with("socket is neither a file nor a folder"), "{text}");
}

#[test]
fn listings_and_globs_stay_inside_the_grant() {
    let home = tree();
    let only = Grants::new_in(home.folder.path(), &["d/in".into()], &[]).unwrap();
    for path in ["d", "d/*.txt", "d/in/../*", "*"] {
        let refused = Source::open(&only, path, Framing::Lines, 0, 1);
        assert!(matches!(refused, Err(Error::NotAllowed { .. })), "{path}");
    }
    symlink("../a.txt", home.path("d/in/link.txt")).unwrap();
    let refused = Source::open(&only, "d/in/*.txt", Framing::Lines, 0, 1);
    assert!(matches!(refused, Err(Error::Escapes { .. })));
}

#[test]
fn damaged_archives_are_named_with_what_is_wrong() {
    let home = Home::new();
    let text = b"some text that repeats itself\n".repeat(5000);
    let mut encoder = flate2::read::GzEncoder::new(&text[..], flate2::Compression::fast());
    let mut gz = Vec::new();
    std::io::Read::read_to_end(&mut encoder, &mut gz).unwrap();
    let zst = zstd::encode_all(&text[..], 1).unwrap();
    for (name, whole) in [("t.gz", gz), ("t.zst", zst)] {
        for cut in [1, whole.len() / 2, whole.len() - 1] {
            home.write(name, &whole[..cut]);
            let said = failure(&home, name);
            assert!(said.contains(name) && said.contains("ends in the middle"), "{cut}: {said}");
        }
        let mut changed = whole.clone();
        let last = changed.len() - 6;
        changed[last] ^= 0xff;
        changed[4 + whole.len() / 2] ^= 0xff;
        home.write(name, changed);
        let said = failure(&home, name);
        assert!(said.contains(name), "{said}");
        home.write(name, "this is plain text, not compressed at all\n");
        let said = failure(&home, name);
        assert!(said.contains("is no sound"), "{said}");
    }
}

#[test]
fn a_zstd_window_beyond_the_bound_is_refused() {
    let home = Home::new();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    std::io::Write::write_all(&mut encoder, &vec![7; 1 << 20]).unwrap();
    home.write("long.zst", encoder.finish().unwrap());
    let said = failure(&home, "long.zst");
    assert!(said.contains("without --long"), "{said}");
}

#[test]
fn a_file_that_changes_or_goes_after_it_was_listed_is_an_error() {
    let home = Home::new();
    home.write("a.txt", "one\ntwo\n");
    let source = Source::open(&home.grants, "a.txt", Framing::Lines, 0, 1).unwrap();
    home.write("a.txt", "one\n");
    let said = source.open_split(&home.grants, 0, &home.options()).err().unwrap().to_string();
    assert!(said.contains("changed while the job ran: it had 8 bytes"), "{said}");
    std::fs::remove_file(home.path("a.txt")).unwrap();
    let said = source.open_split(&home.grants, 0, &home.options()).err().unwrap().to_string();
    assert!(said.ends_with("and is gone"), "{said}");
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let home = Home::new();
    home.write("a.txt", b"line\n".repeat(1 << 20));
    let source = Source::open(&home.grants, "a.txt", Framing::Lines, 0, 1).unwrap();
    let mut reader = source.open_split(&home.grants, 0, &home.options()).unwrap();
    reader.next_block().unwrap();
    home.write("a.txt", b"line\n".repeat(1 << 18));
    let mut outcome = Ok(());
    loop {
        match reader.next_block() {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => {
                outcome = Err(error.to_string());
                break;
            }
        }
    }
    assert!(outcome.unwrap_err().contains("changed while the job ran"));
}
