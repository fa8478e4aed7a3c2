//! JSON lines.

use std::fs;

use ingle::prelude::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Event {
    user: Str,
    #[serde(default)]
    tags: Vec<String>,
    score: Option<f64>,
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn path(dir: &TempDir) -> &str {
    dir.path().to_str().unwrap()
}

/// What is wrong with a file.
fn failure(text: &[u8]) -> String {
    let dir = folder(&[("in.json", text)]);
    Context::local().json_lines::<Event>(path(&dir)).unwrap().collect().unwrap_err().to_string()
}

#[test]
fn each_line_is_a_record_by_serde() {
    let dir = folder(&[(
        "in.json",
        b"{\"user\": \"ann\", \"score\": 1.5, \"other\": [1, {\"a\": null}]}\n\
          {\"tags\": [\"x\", \"y\\n\"], \"user\": \"b\\u00f6b\"}\n",
    )]);
    let events = Context::local().json_lines::<Event>(path(&dir)).unwrap().collect().unwrap();
    let event = |user: &str, tags: &[&str], score| Event {
        user: user.into(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        score,
    };
    assert_eq!(events, [event("ann", &[], Some(1.5)), event("böb", &["x", "y\n"], None)]);
}

#[test]
fn blank_lines_and_windows_line_ends_are_no_matter() {
    let dir = folder(&[("a.json", b"\n1\r\n \t\r\n2 \n\n 3"), ("b.json", b""), ("_c", b"no")]);
    let numbers = Context::local().json_lines::<u8>(path(&dir)).unwrap();
    assert_eq!(numbers.collect().unwrap(), [1, 2, 3]);
}

#[test]
fn records_may_be_any_json_values() {
    let dir = folder(&[("in.json", b"[1, \"a\"]\n{\"b\": [true]}\nnull\n")]);
    let values = Context::local().json_lines::<serde_json::Value>(path(&dir)).unwrap();
    assert_eq!(
        values.map(|value| value.to_string()).collect().unwrap(),
        ["[1,\"a\"]", "{\"b\":[true]}", "null"]
    );
}

#[test]
fn a_line_that_is_no_record_is_named_with_its_column() {
    let error = failure(b"{\"user\": \"a\"}\n\n{\"user\": 7}\n");
    assert!(error.contains("in.json, line 3, column 10: invalid type: integer `7`"), "{error}");
    assert!(!error.contains("at line 1"), "{error}");
    let error = failure(b"{\"user\": \"a\"}\n{\"user\": \"b\"");
    assert!(error.contains("in.json, line 2, column 12: EOF while parsing"), "{error}");
    let error = failure(b"{\"user\": \"a\"} {\"user\": \"b\"}\n");
    assert!(error.contains("line 1, column 15: trailing characters"), "{error}");
    let error = failure(b"{\"tags\": []}\n");
    assert!(error.contains("missing field `user`"), "{error}");
    let error = failure(b"{\"user\": \"\xff\"}\n");
    assert!(error.contains("line 1") && error.contains("invalid unicode"), "{error}");
}

#[test]
fn lines_are_counted_from_the_files_start_in_any_partition_and_block() {
    // Half a million lines are several blocks.
    for (lines, partitions) in [(500, 7), (500_000, 1), (500_000, 2)] {
        let mut text = "1\n".repeat(lines);
        text.push_str("one\n");
        let dir = folder(&[("in.json", text.as_bytes())]);
        let numbers = Context::local().json_lines_with_partitions::<u32>(path(&dir), partitions);
        let numbers = numbers.unwrap();
        assert_eq!(numbers.num_partitions(), partitions);
        let error = numbers.count().unwrap_err().to_string();
        let place = format!("in.json, line {}, column 1: ", lines + 1);
        assert!(error.contains(&place), "{error}");
    }
}

#[test]
fn what_is_not_there_is_refused_at_once() {
    let dir = folder(&[]);
    let missing = format!("{}/nothing.json", path(&dir));
    let error = Context::local().json_lines::<u8>(missing).unwrap_err().to_string();
    assert!(error.contains("nothing.json"), "{error}");
}

#[test]
fn many_blocks_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = Context::local();
    let numbers = ctx.range(0..200_000, 3).map(|n| (n, format!("number {n}")));
    let out = format!("{}/out", path(&dir));
    numbers.save_as_json(&out).unwrap();
    let read = ctx.json_lines_with_partitions::<(u64, Str)>(&out, 5).unwrap();
    assert!(
        read.map(|(n, text)| text == format!("number {n}")).reduce(|a, b| a && b).unwrap().unwrap()
    );
    assert_eq!(read.map(|pair| pair.0).sum().unwrap(), (0..200_000u64).sum::<u64>());
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (
        ".{0,6}",
        prop::collection::vec(".{0,3}", 0..3),
        prop::option::of(any::<f64>().prop_filter("JSON has none", |n| n.is_finite())),
    );
    let event = event.prop_map(|(user, tags, score)| Event { user: user.into(), tags, score });
    prop::collection::vec(event, 0..30)
}

proptest! {
    #[test]
    fn what_was_saved_as_json_is_read_again(events in events(), from in 1usize..4, to in 0usize..6) {
        let dir = tempfile::tempdir().unwrap();
        let out = format!("{}/out", path(&dir));
        let ctx = Context::local();
        ctx.parallelize(events.clone(), from).save_as_json(&out).unwrap();
        let read = ctx.json_lines_with_partitions::<Event>(&out, to).unwrap();
        prop_assert_eq!(read.collect().unwrap(), events);
    }
}
