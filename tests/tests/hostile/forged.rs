//! Numbers that were never given out, bytes that aren't what the contract says, and calls that aren't the caller's to make.

use crate::attack::{By, attacks};

const BROKE: &str = "broke the contract";

attacks! {
    "forged-reader" Task: "reads from readers that it never opened, closes them twice, takes one for another kind",
        "the task's own table of readers",
        ["read" => "reader 12345, which isn't open", "close" => "reader 0, which isn't open",
         "twice" => "which isn't open", "describe" => "which isn't open", "line" => "which isn't open",
         "extent" => "which isn't open", "other" => "of which only blocks are read"];
    "forged-run" Task: "writes to temporary lists that aren't there, or are dropped",
        "the task's own table of runs",
        ["write" => "there is no run 999", "open" => "there is no run 4294967295",
         "drop" => "there is no run 1", "after" => "there is no run 0"];
    "forged-source" Task: "reads sources and splits that its stage doesn't name",
        "the stage's list of inputs",
        ["split" => "which is no input of its stage", "number" => "which is no input of its stage"];
    "forged-cache" Task: "reads and writes cached datasets that were never made",
        "the application's list of them",
        ["open" => "cache 77, which was never made", "finish" => "never made", "write" => "never made"];
    "forged-shuffle" Task: "reads shuffles of other stages",
        "the stage's list of inputs",
        ["range" => "no input of its stage", "none" => "no input of its stage",
         "part" => "no input of its stage", "other" => "no input of its stage"];
    "forged-partition" Driver: "writes and reads partitions beyond the last, ranges that run over, and stages that aren't its own",
        "the number of the stage's partitions",
        ["write" => "partition 4294967295 of 3", "just-one-more" => "partition 3 of 3",
         "read" => "partition 3 of 3", "far" => "no partition at all",
         "range" => "of 3: they count from 0", "none" => "no partition at all",
         "stranger" => "no input of its stage"];
    "forged-handle" Task: "uses WASI handles that were never given out",
        "the instance's own table of handles",
        ["0" => "handles don't travel", "99999" => "handles don't travel", "2147483647" => "handles don't travel"];
    "forged-image" Task: "takes images as a task, and lays its own again",
        "the role that an instance plays",
        ["unannounced" => "only the driver can do", "endless" => "only the driver can do",
         "release" => "only the driver can do", "restore" => "an image is restored once",
         "layout" => "told again: false"];
    "forged-image" Driver: "images that were never announced, of a length that wasn't, beside a page; ids of none",
        "the host's books of announced images, and the place of the memory",
        ["unannounced" => "an image that wasn't announced", "other-length" => "an image that wasn't announced",
         "unaligned" => "must begin on a page", "release" => "never captured, or released"], DriverEnds;
    "forged-image" Driver: "an image of 16 EiB",
        "the executors' memory budget",
        ["endless" => "more than the executors'"];
    "forged-entry" Driver: "a task that is to run an address which is no closure's",
        "WebAssembly: calls go through a table that knows types; the SDK's list of closures before it",
        ["zero" => "no stage with entry 0", "far" => "no stage with entry", "odd" => "no stage with entry",
         "wide" => "no stage with entry 4294967296"];
    "forged-id" Driver: "jobs, stages, outputs, caches, images that were never made",
        "the application's books",
        ["job" => "job 999, which isn't running", "cancel" => "never submitted",
         "stage" => "stage 999999, which was never defined", "output" => "output 999, which isn't open",
         "drop-output" => "output 999, which isn't open", "cache" => "cache 999, which was never made",
         "image" => "image 4000000, which was never captured", "source" => "which was never opened"], DriverEnds;
    "forged-id" Driver: "runs stages, and reads shuffles, that were never defined",
        "the scheduler's books",
        ["run" => "there is no stage 999999", "input" => "no shuffle stage defined before"];
    "other-role" Task: "plays the driver",
        "the role that an instance plays",
        ["run" => "only the driver can do", "define" => "only the driver can do",
         "cancel" => "only the driver can do", "setting" => "only the driver can do"];
    "other-role" Driver: "plays a task",
        "the role that an instance plays",
        ["emit" => "only a task can do", "layout" => "only a task can do", "context" => "only a task can do"], DriverEnds;
    "lying-list" Task: "lists that begin or end outside of its memory, or around its end",
        "the component model's canonical ABI: bounds are checked before a byte is read",
        ["behind" => "out of bounds", "across" => "out of bounds", "around" => "out of bounds",
         "top" => "out of bounds", "end" => "out of bounds"];
    "lying-list" Driver: "the same in the driver",
        "the component model's canonical ABI",
        ["behind" => "out of bounds", "around" => "out of bounds"], DriverEnds;
    "bad-text" Task: "text that is no UTF-8",
        "the component model's canonical ABI",
        ["cut" => "utf-8", "surrogate" => "utf-8", "overlong" => "utf-8", "ff" => "utf-8"];
    "fine-clock" Task: "times its neighbours by a fine clock",
        "`ingle.clock.resolution`, for who wishes it",
        ["it" => "sees no less than a millisecond"], GoesOn, flags "--conf=ingle.clock.resolution=1ms";
    "environment" Task: "looks for variables of who runs it",
        "no variable without `--allow-env`",
        ["it" => "sees no variable"];
    "environment" Driver: "the same in the driver",
        "no variable without `--allow-env`",
        ["it" => "sees no variable"];
}

#[test]
fn what_is_forged_is_refused() {
    crate::hold(ATTACKS);
}

#[test]
fn misuse_is_called_so() {
    let misuse = ["forged-reader", "forged-run", "forged-cache", "other-role"];
    let place = crate::field::place();
    for name in misuse {
        let attack = ATTACKS.iter().find(|attack| attack.name == name).expect("it is above");
        let (way, _) = attack.ways[0];
        // Nothing is granted, which a sibling needs.
        assert!(attack.by == By::Task, "{name}");
        let job = place.rsubmit("hostile").args([name, By::Alone.name(), way]);
        let run = job.conf("ingle.task.maxFailures", "1").run().succeeds();
        assert!(run.stdout.contains(BROKE), "{run}");
    }
}
