//! Floods of what the host keeps for a task.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::attack::attacks;
use crate::field::{Field, LOG, place};

attacks! {
    "handle-flood" Task: "opens files, streams and timers, and closes none",
        "1024 WASI handles for each instance",
        ["files" => "after some hundreds files: Out of memory", "streams" => "1024 files, streams", "pollables" => "1024 files, streams"];
    "log-flood" Task: "prints a line of 64 MiB, 64 MiB of lines, and what a terminal obeys",
        "lines are cut at 8 KiB, and logs by `--log-size`; terminals are shown signs (`cli/terminal.rs`)",
        ["line" => "printed", "lines" => "printed", "escapes" => "printed"];
    "result-flood" Task: "emits a block of 300 MiB",
        "256 MiB for each call of the host",
        ["block" => "too much data is being copied"], GoesOn, flags "--executor-memory=600m";
    "accumulator-flood" Task: "changes accumulators a million times, and by a megabyte each",
        "1,048,576 changes and 32 MiB for each task",
        ["count" => "more than 1048576 changes", "bytes" => "the most that one task may send"];
    "run-flood" Task: "makes temporary lists, and opens readers, without end",
        "65,536 lists and 131,072 readers for each task",
        ["runs" => "65536 runs, not more", "readers" => "more than 131072 open readers"];
    "run-flood" Task: "writes temporary blocks without end",
        "a disk budget for each executor, and each application on a worker; so much in a second, by `--disk-rate`",
        ["blocks" => "out of disk"], GoesOn, flags "--conf=ingle.executor.disk=64m";
    "result-flood" Task: "emits results without end",
        "the same disk budget, once they don't fit into memory",
        ["many" => "out of disk"], GoesOn, flags "--conf=ingle.executor.disk=64m";
    "random-flood" Task: "wants 2 GiB of random bytes at once",
        "1 MiB for each call of `wasi:random`",
        ["it" => "exceeds limit 1048576"];
    "words-flood" Task: "fails with words of 66 MiB",
        "a message is cut after 16 KiB",
        ["it" => "so it goes so it goes"], GoesOn, flags "--executor-memory=512m";
    "file-flood" Task: "writes files without end, by streams and by itself",
        "bytes that a task writes, by `ingle.task.output.limit`",
        ["streamed" => "ingle.task.output.limit allows 8.0 MiB", "appended" => "ingle.task.output.limit allows 8.0 MiB",
         "at" => "ingle.task.output.limit allows 8.0 MiB"], GoesOn, flags "--conf=ingle.task.output.limit=8m";
    "listing-flood" Task: "begins to list a folder of 20,000 files 900 times",
        "a listing holds one buffer, not the folder's entries",
        ["it" => "listed 20000 files"];
}

#[test]
fn floods_of_a_task_are_bounded() {
    crate::hold(ATTACKS);
}

/// The logs in a folder, one for each stream of a process: how long they are, and their longest line.
fn logs(folder: &Path) -> BTreeMap<String, (usize, usize)> {
    let mut logs = BTreeMap::<String, (usize, usize)>::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        // Behind it is the position of a later file.
        let name = path.file_name().expect("a name").to_string_lossy();
        let log = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('.');
        let bytes = fs::read(&path).expect("a log");
        let line = bytes.split(|byte| *byte == b'\n').map(<[u8]>::len).max().unwrap_or(0);
        let (length, longest) = logs.entry(log.to_owned()).or_default();
        (*length, *longest) = (*length + bytes.len(), line.max(*longest));
    }
    logs
}

/// What is kept of 64 MiB: the beginning and the end, in lines that can be read.
#[test]
fn logs_of_floods_are_bounded() {
    let place = place();
    let field = Field::new(&place);
    let applications = || {
        let folders = fs::read_dir(place.kept("worker-0/logs")).into_iter().flatten().flatten();
        folders.map(|entry| entry.path()).collect::<BTreeSet<_>>()
    };
    for way in ["line", "lines"] {
        let before = applications();
        field.attacker("hostile").args(["log-flood", "task", way]).run().succeeds();
        field.unharmed("log-flood");
        let after = applications();
        let own: Vec<_> = after.difference(&before).collect();
        let [own] = own[..] else { panic!("not one application came: {own:?}") };
        let logs = logs(own);
        let out = logs.iter().find(|(name, _)| name.ends_with(".out")).expect("an executor's");
        assert!(out.1.0 > LOG / 2, "nothing was printed: {logs:?}");
        for (name, (length, longest)) in &logs {
            assert!(*length < LOG + (64 << 10), "{name}: {logs:?}");
            // Its task is named before it.
            assert!(*longest <= (8 << 10) + 64, "{name}: {logs:?}");
        }
        let id = own.file_name().expect("a name").to_string_lossy();
        let read = field.cluster.ask(&["logs", &id]).succeeds();
        let told = [&read.stdout, &read.stderr];
        assert!(told.iter().any(|text| text.contains("bytes before this are left out")), "{way}");
    }
    field.end();
}
