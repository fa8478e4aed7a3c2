//! Actions that write files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ingle::prelude::*;
use serde::Serialize;
use tempfile::TempDir;

#[derive(Clone, Serialize)]
struct City {
    name: String,
    people: u32,
}

fn cities() -> [City; 3] {
    [("Ulm", 1), ("Bad, \"Homburg\"", 2), ("Köln", 3)]
        .map(|(name, people)| City { name: name.to_owned(), people })
}

fn out(name: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name).to_str().unwrap().to_owned();
    (dir, path)
}

/// The names and texts of a folder's files.
fn files(folder: impl AsRef<Path>) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

fn model(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn save_as_text_file_writes_a_file_for_each_partition() {
    let (_dir, path) = out("out");
    Context::local().range(0..5, 3).map(|n| format!("line {n}")).save_as_text_file(&path).unwrap();
    let expected = model(&[
        ("part-00000", "line 0\n"),
        ("part-00001", "line 1\nline 2\n"),
        ("part-00002", "line 3\nline 4\n"),
        ("_SUCCESS", ""),
    ]);
    assert_eq!(files(path), expected);
}

#[test]
fn empty_partitions_have_empty_files() {
    let (_dir, path) = out("out");
    Context::local().range(0..0, 2).save_as_text_file(&path).unwrap();
    assert_eq!(files(path), model(&[("part-00000", ""), ("part-00001", ""), ("_SUCCESS", "")]));
}

#[test]
fn a_dataset_without_partitions_is_saved_as_success_alone() {
    let (dir, path) = out("out");
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let ctx = Context::local();
    ctx.text_file(empty.to_str().unwrap()).unwrap().save_as_text_file(&path).unwrap();
    assert_eq!(files(path), model(&[("_SUCCESS", "")]));
}

#[test]
fn save_as_csv_heads_each_file_with_field_names() {
    let (_dir, path) = out("out");
    Context::local().parallelize(cities(), 2).save_as_csv(&path).unwrap();
    let expected = model(&[
        ("part-00000", "name,people\nUlm,1\n"),
        ("part-00001", "name,people\n\"Bad, \"\"Homburg\"\"\",2\nKöln,3\n"),
        ("_SUCCESS", ""),
    ]);
    assert_eq!(files(path), expected);
}

#[test]
fn save_as_csv_writes_tuples_without_a_header() {
    let (_dir, path) = out("out");
    Context::local().range(0..2, 1).map(|n| (n, "x", 0.5)).save_as_csv(&path).unwrap();
    assert_eq!(files(path)["part-00000"], "0,x,0.5\n1,x,0.5\n");
}

#[test]
fn save_as_json_writes_a_record_a_line() {
    let (_dir, path) = out("out");
    Context::local().parallelize(cities(), 1).save_as_json(&path).unwrap();
    let expected = "{\"name\":\"Ulm\",\"people\":1}\n\
                    {\"name\":\"Bad, \\\"Homburg\\\"\",\"people\":2}\n\
                    {\"name\":\"Köln\",\"people\":3}\n";
    assert_eq!(files(path)["part-00000"], expected);
}

#[test]
fn what_was_saved_is_read_again() {
    let (_dir, path) = out("out");
    let ctx = Context::local();
    let lines = ctx.range(0..50_000, 4).map(|n| format!("line {n} of many"));
    lines.save_as_text_file(&path).unwrap();
    assert_eq!(
        ctx.text_file(&path).unwrap().map(String::from).collect().unwrap(),
        lines.collect().unwrap()
    );
}

#[test]
fn the_result_of_a_shuffle_is_saved_in_its_partitions() {
    let (_dir, path) = out("out");
    let ctx = Context::local();
    let sorted = ctx.range(0..6, 3).sort_by_with_partitions(|n| *n, false, 2);
    sorted.save_as_text_file(&path).unwrap();
    let files = files(path);
    assert_eq!(files.len(), 3);
    assert_eq!(files["part-00000"].clone() + &files["part-00001"], "5\n4\n3\n2\n1\n0\n");
}

#[test]
fn folders_above_are_made() {
    let (_dir, path) = out("a/b/out");
    Context::local().range(0..1, 1).save_as_text_file(&path).unwrap();
    assert_eq!(files(path)["part-00000"], "0\n");
}

#[test]
fn a_folder_that_exists_is_refused_and_left_alone() {
    let (dir, path) = out("out");
    fs::create_dir(&path).unwrap();
    fs::write(dir.path().join("out/mine"), "mine").unwrap();
    let ctx = Context::local();
    let computed = ctx.accumulator("computed", 0u64);
    let counting = computed.clone();
    let numbers = ctx.range(0..3, 2).map(move |n| {
        counting.add(1);
        n
    });
    let saves =
        [numbers.save_as_text_file(&path), numbers.save_as_csv(&path), numbers.save_as_json(&path)];
    for saved in saves {
        let error = saved.unwrap_err().to_string();
        assert!(error.contains("out") && error.contains("exists"), "{error}");
    }
    assert_eq!(computed.value(), 0, "nothing is to run for a folder that can't be had");
    assert_eq!(files(path), model(&[("mine", "mine")]));
}

#[test]
fn nothing_shows_before_all_is_done() {
    let (_dir, path) = out("out");
    let folder = path.clone();
    let ctx = Context::local();
    let watched = ctx.range(0..4, 4).map(move |n| {
        assert_eq!(files(&folder).keys().filter(|name| name.starts_with("part-")).count(), 0);
        n
    });
    watched.save_as_text_file(&path).unwrap();
    assert_eq!(files(path).len(), 5);
}

#[test]
fn a_save_that_fails_leaves_nothing_and_may_be_tried_again() {
    let (_dir, path) = out("out");
    let ctx = Context::local();
    let bad = ctx.range(0..4, 4).try_map(|n| {
        ensure!(n < 3, "no {n} please");
        Ok(n)
    });
    let error = bad.save_as_text_file(&path).unwrap_err().to_string();
    assert!(error.contains("partition 3") && error.contains("no 3 please"), "{error}");
    assert!(!fs::exists(&path).unwrap());
    ctx.range(0..3, 1).save_as_text_file(&path).unwrap();
    assert_eq!(files(path)["part-00000"], "0\n1\n2\n");
}

#[test]
fn a_record_that_csv_can_not_hold_fails_the_job() {
    let (_dir, path) = out("out");
    let nested = Context::local().range(0..2, 1).map(|n| BTreeMap::from([(n, n)]));
    let error = nested.save_as_csv(&path).unwrap_err().to_string();
    assert!(error.contains("save_as_csv") && error.contains("map"), "{error}");
}
