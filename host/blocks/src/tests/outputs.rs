use std::os::unix::fs::symlink;
use std::sync::Arc;

use super::Home;
use ingle_core::memory::MemoryPool;
use ingle_core::size::ByteSize;

use crate::{Error, FileCompression, Grants, Output, OutputTarget, Parts, Result, Writer};

const STAGE: u32 = 7;

fn pool() -> MemoryPool {
    MemoryPool::new(ByteSize(1 << 20))
}

fn open(grants: &Arc<Grants>, path: &str) -> Result<Output> {
    Output::open(grants, path, &Parts::default(), &Writer::default())
}

/// As if in another process.
fn elsewhere(home: &Home, output: &Output, path: &str) -> OutputTarget {
    OutputTarget::open(&home.grants, path, &Parts::default(), output.token()).unwrap()
}

fn finish(target: &OutputTarget, partition: u32, attempt: u32, text: &str) {
    let mut file = target.attempt(STAGE, partition, attempt, &pool()).unwrap();
    file.write(text.as_bytes()).unwrap();
    file.finish().unwrap();
}

/// A task that is accepted.
fn write(output: &Output, partition: u32, attempt: u32, text: &str) {
    finish(&output.target(), partition, attempt, text);
    output.accept(STAGE, partition, attempt);
}

/// Where the attempts of `out` are.
fn attempts(output: &Output) -> String {
    format!("out/_temporary/{}", output.token())
}

fn contents(home: &Home, name: &str) -> String {
    std::fs::read_to_string(home.path(name)).unwrap()
}

#[test]
fn only_who_is_told_where_attempts_are_finds_them() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let (parts, writer) = (Parts::default(), Writer::new("driver-1", 0));
    let output = Output::open(&home.grants, "out", &parts, &writer).unwrap();
    let mode =
        |name: &str| std::fs::metadata(home.path(name)).unwrap().permissions().mode() & 0o7777;
    // Others make files in the one, if they get through the other, which tells them nothing.
    assert_eq!((mode(&attempts(&output)), mode("out/_temporary")), (0o1777, 0o711));
    assert_eq!(mode("out/_temporary/open"), 0o600);
    finish(&elsewhere(&home, &output, "out"), 0, 0, "zero");
    output.accept(STAGE, 0, 0);
    let token = output.token().to_string();
    output.commit().unwrap();
    assert_eq!(home.names("out"), ["_SUCCESS", "part-00000"]);
    let told = contents(&home, "out/_SUCCESS");
    assert!(told.contains("driver-1") && !told.contains(&token), "{told}");
}

#[test]
fn parts_show_only_when_the_job_commits_and_success_comes_with_them() {
    let home = Home::new();
    let output = open(&home.grants, "above/out").unwrap();
    write(&output, 1, 0, "one");
    write(&output, 0, 3, "zero");
    assert_eq!(home.names("above/out"), ["_temporary"]);
    output.commit().unwrap();
    assert_eq!(home.names("above/out"), ["_SUCCESS", "part-00000", "part-00001"]);
    assert_eq!(
        (contents(&home, "above/out/part-00000"), contents(&home, "above/out/part-00001")),
        ("zero".into(), "one".into())
    );
}

#[test]
fn an_existing_path_is_refused_and_left_as_it_is() {
    let home = Home::new();
    home.write("out/precious", "x");
    home.write("file", "x");
    symlink("nowhere", home.path("dangling")).unwrap();
    for path in ["out", "file", "dangling", "."] {
        let text = open(&home.grants, path).err().unwrap().to_string();
        assert!(text.ends_with("exists already: choose another, or remove it"), "{path}: {text}");
    }
    assert_eq!(home.names("."), ["dangling", "file", "out"]);
    assert_eq!(home.names("out"), ["precious"]);
}

#[test]
fn an_output_that_is_not_committed_leaves_nothing() {
    let home = Home::new();
    home.write("above/kept", "x");
    let output = open(&home.grants, "above/new/deep/out").unwrap();
    write(&output, 0, 0, "done");
    let target = output.target();
    let elsewhere = elsewhere(&home, &output, "above/new/deep/out");
    let mut running = target.attempt(STAGE, 1, 0, &pool()).unwrap();
    running.write(b"half").unwrap();
    drop(output);
    assert_eq!(home.names("above"), ["kept"]);
    running.write(b"more").unwrap();
    running.finish().unwrap();
    for late in [target, elsewhere] {
        let text = late.attempt(STAGE, 1, 1, &pool()).err().unwrap().to_string();
        assert!(text.ends_with("is no longer written to: its job is over"), "{text}");
    }
    assert_eq!(home.names("above"), ["kept"]);
}

#[test]
fn of_attempts_at_once_the_accepted_one_counts_whole() {
    let home = Home::new();
    let output = open(&home.grants, "out").unwrap();
    // Some in this process, some as if in another.
    let targets = [output.target(), elsewhere(&home, &output, "out")];
    std::thread::scope(|scope| {
        for attempt in 0..8 {
            let target = &targets[attempt as usize % 2];
            scope.spawn(move || finish(target, 0, attempt, &attempt.to_string().repeat(100_000)));
        }
    });
    assert_eq!(home.names(&attempts(&output)).len(), 8);
    output.accept(STAGE, 0, 5);
    output.accept(STAGE, 0, 6);
    output.commit().unwrap();
    assert_eq!(home.names("out"), ["_SUCCESS", "part-00000"]);
    assert_eq!(contents(&home, "out/part-00000"), "5".repeat(100_000));
}

#[test]
fn an_accepted_file_that_is_gone_fails_the_commit() {
    let home = Home::new();
    let output = open(&home.grants, "out").unwrap();
    write(&output, 0, 0, "x");
    let attempt = format!("{}/attempt-7-00000-0", attempts(&output));
    std::fs::remove_file(home.path(&attempt)).unwrap();
    assert!(output.commit().is_err());
    assert_eq!(home.names("."), [""; 0], "and leaves nothing");
}

#[test]
fn an_aborted_attempt_leaves_nothing_and_may_be_followed_by_another() {
    let home = Home::new();
    let output = open(&home.grants, "out").unwrap();
    output.target().attempt(STAGE, 0, 0, &pool()).unwrap().write(b"half").unwrap();
    assert_eq!(home.names(&attempts(&output)), [""; 0]);
    write(&output, 0, 1, "whole");
    output.commit().unwrap();
    assert_eq!(contents(&home, "out/part-00000"), "whole");
}

#[test]
fn the_job_may_read_what_it_published_and_nothing_else_of_a_write_grant() {
    let home = Home::new();
    home.write("w/other", "x");
    let grants = Arc::new(Grants::new_in(home.folder.path(), &[], &["w".into()]).unwrap());
    let output = open(&grants, "w/out").unwrap();
    assert!(grants.resolve_read("w/out").is_err());
    output.commit().unwrap();
    assert!(grants.resolve_read("w/out/part-00000").is_ok());
    assert!(grants.resolve_read("w/other").is_err());
}

#[test]
fn folders_are_made_only_below_the_grant_and_never_through_a_link() {
    let home = Home::new();
    std::fs::create_dir(home.path("elsewhere")).unwrap();
    let grants = Arc::new(Grants::new_in(home.folder.path(), &[], &["new/out".into()]).unwrap());
    assert!(matches!(open(&grants, "new/other"), Err(Error::NotAllowed { .. })));
    // Somebody puts a link where nothing was when it was granted.
    symlink("elsewhere", home.path("new")).unwrap();
    assert!(open(&grants, "new/out").is_err());
    assert_eq!(home.names("elsewhere"), [""; 0]);

    std::fs::remove_file(home.path("new")).unwrap();
    open(&grants, "new/out").unwrap().commit().unwrap();
    assert_eq!(home.names("new/out"), ["_SUCCESS"]);
}

/// A process that was killed drops nothing.
fn kill(output: Output) {
    std::mem::forget(output);
}

#[test]
fn a_later_try_of_a_driver_begins_anew_what_an_earlier_one_left() {
    let home = Home::new();
    let first =
        Output::open(&home.grants, "above/out", &Parts::default(), &Writer::new("d", 0)).unwrap();
    write(&first, 0, 0, "of the first try");
    let late = elsewhere(&home, &first, "above/out");
    for other in [Writer::default(), Writer::new("d", 0), Writer::new("e", 1)] {
        let text = Output::open(&home.grants, "above/out", &Parts::default(), &other)
            .err()
            .unwrap()
            .to_string();
        assert!(text.contains("exists already, unfinished"), "{text}");
    }
    let second =
        Output::open(&home.grants, "above/out", &Parts::default(), &Writer::new("d", 1)).unwrap();
    assert!(late.attempt(STAGE, 0, 0, &pool()).is_err(), "its executors may still run");
    write(&second, 0, 0, "of the second");
    // The first wasn't killed after all, but only out of reach.
    assert!(first.commit().is_err());
    second.commit().unwrap();
    assert_eq!(home.names("above/out"), ["_SUCCESS", "part-00000"]);
    assert_eq!(contents(&home, "above/out/part-00000"), "of the second");
    assert_eq!(home.names("above"), ["out"]);
    // Killed after its commit, before anybody knew of it.
    kill(Output::open(&home.grants, "above/out", &Parts::default(), &Writer::new("d", 2)).unwrap());
    let third =
        Output::open(&home.grants, "above/out", &Parts::default(), &Writer::new("d", 3)).unwrap();
    assert_eq!(home.names("above/out"), ["_temporary"]);
    drop(third);
    assert_eq!(home.names("above"), [""; 0]);
}

#[test]
fn what_somebody_put_into_an_unfinished_output_is_nobodys_to_remove() {
    let home = Home::new();
    kill(Output::open(&home.grants, "out", &Parts::default(), &Writer::new("d", 0)).unwrap());
    home.write("out/precious", "x");
    assert!(Output::open(&home.grants, "out", &Parts::default(), &Writer::new("d", 1)).is_err());
    assert_eq!(contents(&home, "out/precious"), "x");
}

#[test]
fn files_are_compressed_and_named_by_what_the_output_says() {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;

    let home = Home::new();
    let text: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
    let write = |compression, extension| {
        let parts = Parts::new(extension, compression).unwrap();
        let output = Output::open(&home.grants, "out", &parts, &Writer::default()).unwrap();
        let pool = MemoryPool::new(ByteSize(8 << 20));
        // As a task elsewhere does.
        let target = OutputTarget::open(&home.grants, "out", &parts, output.token()).unwrap();
        let mut file = target.attempt(STAGE, 0, 0, &pool).unwrap();
        assert!(pool.usage().total() > 0, "what compresses is charged");
        text.as_bytes().chunks(100_000).for_each(|some| file.write(some).unwrap());
        file.finish().unwrap();
        assert_eq!(pool.usage().total(), 0);
        // And one that has nothing to say.
        let empty = output.target().attempt(STAGE, 1, 0, &pool).unwrap();
        empty.finish().unwrap();
        for partition in [0, 1] {
            output.accept(STAGE, partition, 0);
        }
        output.commit().unwrap();
        let names = home.names("out");
        let files = names[1..].iter().map(|name| {
            let bytes = std::fs::read(home.path("out").join(name)).unwrap();
            (name.clone(), bytes)
        });
        let files: Vec<_> = files.collect();
        std::fs::remove_dir_all(home.path("out")).unwrap();
        files
    };
    let gzip = |bytes: &[u8]| {
        let mut text = String::new();
        MultiGzDecoder::new(bytes).read_to_string(&mut text).unwrap();
        text
    };
    let zstd = |bytes: &[u8]| String::from_utf8(zstd::decode_all(bytes).unwrap()).unwrap();
    for (compression, extension, names, decode) in [
        (
            FileCompression::Gzip,
            "",
            ["part-00000.gz", "part-00001.gz"],
            &gzip as &dyn Fn(&[u8]) -> String,
        ),
        (FileCompression::Zstd, ".csv", ["part-00000.csv.zst", "part-00001.csv.zst"], &zstd),
    ] {
        let files = write(compression, extension);
        assert_eq!(files.iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
        assert!(files[0].1.len() < text.len() / 2);
        assert_eq!((decode(&files[0].1), decode(&files[1].1)), (text.clone(), String::new()));
    }
}
