//! Floods of what the host keeps for a task.

use crate::attack::attacks;

attacks! {
    "handle-flood" Task: "opens files, streams and timers, and closes none",
        "1024 WASI handles for each instance",
        ["files" => "after some hundreds files", "streams" => "1024 files, streams", "pollables" => "1024 files, streams"];
    "log-flood" Task: "prints a line of 64 MiB, 64 MiB of lines, and what a terminal obeys",
        "lines are cut, and logs have a length (`tests/logs.rs`); terminals are shown signs (`cli/terminal.rs`)",
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
        "a disk budget for each executor, and each application on a worker",
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
