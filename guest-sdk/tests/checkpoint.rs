//! Datasets that are stored and read again.

use std::fs;
use std::path::{Path, PathBuf};

use ingle::prelude::*;

fn context(dir: &Path) -> Context {
    let ctx = Context::local();
    ctx.set_checkpoint_dir(dir.to_str().unwrap());
    ctx
}

/// The files of all checkpoints.
fn files(dir: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(dir).unwrap().map(|folder| folder.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.file_name().unwrap().to_str().unwrap().starts_with("part-"));
    files.sort();
    files
}

#[test]
fn a_checkpoint_holds_all_records_in_their_partitions_and_order() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = context(dir.path());
    // Some partitions are empty, some records larger than a block, some take no bytes.
    let records = ctx.range(0..7, 7).filter(|n| n % 3 != 0).map(|n| {
        let filling = vec![n as u8; if n == 4 { 700_000 } else { 10 * n as usize }];
        (n, filling, ())
    });
    let stored = records.checkpoint().unwrap();
    assert_eq!(stored.num_partitions(), 7);
    assert!(stored.glom().collect().unwrap() == records.glom().collect().unwrap());
    let units = ctx.range(0..1000, 3).map(|_| ()).checkpoint().unwrap();
    assert_eq!(units.count().unwrap(), 1000);
    let none = ctx.parallelize(Vec::<u64>::new(), 1).checkpoint().unwrap();
    assert_eq!(none.count().unwrap(), 0);
}

#[test]
fn nothing_is_computed_again_after_a_checkpoint_and_what_was_before_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = context(dir.path());
    let count = ctx.accumulator("count", 0u64);
    let add = count.clone();
    let numbers = ctx.range(0..100, 4).map(move |n| {
        add.add(1);
        n
    });
    let grouped = numbers.key_by(|n| n % 10).group_by_key_with_partitions(3);
    let stored = grouped.checkpoint().unwrap();
    assert_eq!(count.value(), 100);
    drop(grouped);
    assert_eq!((stored.count().unwrap(), count.value()), (10, 100));
    let sums = stored.map_values(|values| values.into_iter().sum::<u64>());
    let joined = stored.join_with_partitions(&sums, 3);
    assert_eq!(joined.count().unwrap(), 10);
    let plan = joined.explanation();
    assert!(!plan.contains("group_by_key") && !plan.contains("range"), "{plan}");
    assert_eq!(
        plan.lines().filter(|line| line.starts_with("stage")).count(),
        1,
        "in place: {plan}"
    );
}

#[test]
fn each_run_and_each_checkpoint_has_a_folder_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let ctx = context(dir.path());
        ctx.range(0..3, 1).checkpoint().unwrap();
        ctx.range(0..3, 1).checkpoint().unwrap();
    }
    assert_eq!(files(dir.path()).len(), 4);
}

#[test]
fn where_nobody_said_where_to_it_says_what_to_call() {
    let error = Context::local().range(0..3, 1).checkpoint().unwrap_err();
    assert!(error.to_string().contains("ctx.set_checkpoint_dir(FOLDER)"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let ctx = context(dir.path());
    let many = ctx.parallelize(0..100_001u32, 100_001).checkpoint().unwrap_err();
    assert!(many.to_string().contains("100001 partitions are more than 100000"), "{many}");
    fs::write(dir.path().join("file"), "").unwrap();
    let ctx = context(&dir.path().join("file"));
    assert!(ctx.range(0..3, 1).checkpoint().is_err());
}
