//! Components that no compiler of Rust makes: bombs for the compiler, and what is to break the host when it is loaded.

use std::path::Path;

use ingle_tests::{Cluster, Place, Rsubmit, Run, missing_walls};
use rustix::process::{Pid, Signal};

use crate::field::{Field, place};

pub const NOT_A_JOB: i32 = 3;

/// For the book: what is done, what stops it, what it comes to, the test.
pub const BOOK: &[[&str; 4]] = &[
    [
        "a function of 400,000 instructions, 30,000 nested blocks, a jump to 2000 places, 50,000 functions, a million locals",
        "compiled by a process of its own, with time and memory of its own; the validator's bounds",
        "it takes its time, and nobody else's",
        "modules::compile_bombs_cost_nobody_else_anything",
    ],
    [
        "a function of 2,800,000 instructions, on a worker that gives little for compiling",
        "`ingle worker --compile-memory`: what compiles has a group of its own",
        "it ends, with its job: “compiling the job takes more than”; others are compiled",
        "modules::compiling_takes_no_more_memory_than_its_worker_gives",
    ],
    [
        "memories of 64 bits, shared or several memories, structures, too many imports or locals",
        "features that are switched off; the validator's bounds",
        "no job: exit code 3",
        "modules::components_beyond_the_bounds_are_refused",
    ],
    [
        "a memory of 4 GiB, a table of 400 million, one that grows without end, 100 instances, nine memories",
        "the memory budget; bounds of instances, memories and tables",
        "the driver that did it ends, with words",
        "modules::instances_beyond_their_bounds_end_the_driver_that_made_them",
    ],
    [
        "start functions that trap or recurse; segments and addresses beyond memory; calls of nothing",
        "WebAssembly",
        "the driver that did it ends, with words",
        "modules::instances_beyond_their_bounds_end_the_driver_that_made_them",
    ],
    [
        "a start function that never ends",
        "a kill ends the process",
        "its process ends",
        "modules::an_endless_start_is_killed",
    ],
    [
        "a place for what the host answers that is beyond memory, not aligned, or takes for ever to be found",
        "the component model's canonical ABI",
        "the driver that did it ends, with words",
        "modules::who_lies_about_room_for_answers_ends",
    ],
];

/// A job whose core module has these items; its driver does this, then succeeds.
fn job(items: &str, drive: &str) -> String {
    with_instances(items, drive, "")
}

/// A job beside a module that nobody makes an instance of.
fn alone(items: &str) -> String {
    with_instances("", "", &format!("(core module {items})"))
}

/// As [`job`], with more in the component.
fn with_instances(items: &str, drive: &str, more: &str) -> String {
    format!(
        r#"(component
            (core module $code
                {items}
                (memory (export "memory") 1)
                (func (export "drive") (result i32) {drive} i32.const 0)
                (func (export "run") (param i64)))
            (core instance $code (instantiate $code))
            {more}
            (func $drive (result (result (error string)))
                (canon lift (core func $code "drive") (memory (core memory $code "memory"))))
            (func $run (param "entry" u64) (canon lift (core func $code "run")))
            (instance $main (export "drive" (func $drive)) (export "run" (func $run)))
            (export "ingle:job/main@0.1.0" (instance $main)))"#
    )
}

fn write(place: &Place, text: &str) -> std::path::PathBuf {
    place.write("granted/job.wasm", wat::parse_str(text).expect("a component's text"))
}

/// What becomes of it, by a driver here and by one on a worker; nobody else notices.
fn submitted(field: &Field<'_>, file: &Path, name: &str) -> (Run, String) {
    // What is asked for its arguments has some.
    let here = field.attacker_file(file).arg("word").run();
    field.unharmed(name);
    let run = field.attacker_file(file).flag("--deploy-mode=cluster").arg("word").run();
    let driver = run.stdout.trim().to_owned();
    // One that is no job isn't even taken.
    let told = if driver.is_empty() { run.stderr } else { field.cluster.ended(&driver) };
    field.unharmed(name);
    // Nothing of ours was broken.
    for text in [&here.stderr, &told] {
        assert!(!text.contains("signal"), "{name}: {text}");
    }
    (here, told)
}

/// It ends its own driver, with these words.
#[track_caller]
pub fn become_of(field: &Field<'_>, file: &Path, name: &str, words: &str) {
    let (here, told) = submitted(field, file, name);
    assert_eq!(here.status.code(), Some(1), "{name}\n{here}");
    assert!(here.stderr.contains(words), "{name}: no `{words}`\n{here}");
    assert!(told.contains("FAILED") && told.contains(words), "{name}: no `{words}`\n{told}");
}

/// A function of so many times four instructions.
fn straight(times: u64) -> String {
    let some = |n| format!("local.get 0 i64.const {} i64.xor i64.mul ", n * 7919);
    let all: String = (0..times).map(some).collect();
    format!("(func (param i64) (result i64) local.get 0 {all})")
}

/// Much for a compiler to do, or to hold.
#[test]
fn compile_bombs_cost_nobody_else_anything() {
    let nested = 30_000;
    let tables: String = (0..2000).map(|n| format!("{n} ")).collect();
    let imports: String = (0..100_000).map(|n| format!("(import \"a\" \"b{n}\" (func))")).collect();
    let bombs = [
        ("a huge function", job(&straight(100_000), "")),
        (
            "deep nesting",
            job(&format!("(func {} {})", "block ".repeat(nested), "end ".repeat(nested)), ""),
        ),
        (
            "a wide jump",
            job(
                &format!(
                    "(func (param i32) {} local.get 0 br_table {tables} {})",
                    "block ".repeat(2000),
                    "end ".repeat(2000)
                ),
                "",
            ),
        ),
        ("many functions", job(&"(func)".repeat(50_000), "")),
        ("many imports", alone(&imports)),
        ("many locals", job(&format!("(func (local {}))", "i64 ".repeat(50_000)).repeat(20), "")),
    ];
    let place = place();
    let field = Field::new(&place);
    for (name, text) in bombs {
        let started = std::time::Instant::now();
        let (here, told) = submitted(&field, &write(&place, &text), name);
        println!("{name}: {:?}, {told}\n{here}", started.elapsed());
        assert_eq!(here.status.code(), Some(0), "{name}\n{here}");
        assert!(told.contains("FINISHED"), "{name}: {told}");
    }
    std::fs::remove_file(place.path("granted/job.wasm")).expect("it was written");
    field.end();
}

#[test]
fn compiling_takes_no_more_memory_than_its_worker_gives() {
    let place = place();
    let mut cluster = Cluster::new(&place, 0, 1);
    cluster.start_worker_with(2, &["--compile-memory=1m"]);
    if missing_walls(&place).contains("memory") {
        eprintln!("SKIPPED: this host can't bound memory: `ingle doctor` says why");
        return;
    }
    let bomb = write(&place, &job(&straight(700_000), ""));
    let on_worker = |run: Rsubmit| run.flags(["--deploy-mode=cluster", "--master", &cluster.url]);
    let run = on_worker(place.rsubmit_file(bomb)).run().succeeds();
    let told = cluster.ended(run.stdout.trim());
    assert!(told.contains("FAILED"), "{told}");
    assert!(told.contains("compiling the job takes more than 513.0 MiB"), "{told}");
    assert!(told.contains("--compile-memory"), "{told}");
    let run = on_worker(place.rsubmit("noop")).arg("2").run().succeeds();
    let told = cluster.ended(run.stdout.trim());
    assert!(told.contains("FINISHED"), "{told}");
    cluster.wait_until_clean();
}

/// Sound WebAssembly of features that are switched off, and what is beyond the validator's bounds.
#[test]
fn components_beyond_the_bounds_are_refused() {
    let place = place();
    let doubling: String =
        (0..40).map(|n| format!("(type $t{} (tuple $t{n} $t{n}))", n + 1)).collect();
    let refused = [
        ("a memory of 64 bits", alone("(memory i64 1)"), "memory64 must be enabled"),
        ("threads", alone("(memory 1 1 shared)"), "threads must be enabled"),
        ("two memories", alone("(memory 1) (memory 1)"), "multiple memories"),
        ("structures", alone("(type (struct (field i32)))"), "gc"),
        (
            "more locals than may be",
            alone(&format!("(func (local {}))", "i64 ".repeat(50_001))),
            "too many locals",
        ),
        (
            "more imports than may be",
            alone(&"(import \"a\" \"b\" (func))".repeat(1_000_001)),
            "imports count",
        ),
        (
            "types that double",
            with_instances("", "", &format!("(type $t0 (tuple u8 u8)){doubling}")),
            "effective type size exceeds the limit",
        ),
    ];
    for (name, text, words) in refused {
        let Ok(bytes) = wat::parse_str(&text) else {
            panic!("{name}: no text of a component");
        };
        let file = place.write("granted/job.wasm", bytes);
        let run = place.rsubmit_file(file).run();
        assert_eq!(run.status.code(), Some(NOT_A_JOB), "{name}\n{run}");
        assert!(!run.stderr.contains("panicked"), "{name}\n{run}");
        assert!(run.stderr.contains(words), "{name}: no `{words}`\n{run}");
    }
}

/// Refused or ended when they are instantiated, by their size.
#[test]
fn instances_beyond_their_bounds_end_the_driver_that_made_them() {
    let place = place();
    let field = Field::new(&place);
    let instances = |n: usize| {
        let one = "(core instance (instantiate $more))";
        format!("(core module $more (memory 1) (table 1 funcref)){}", one.repeat(n))
    };
    let bombs = [
        ("a memory of 4 GiB", job("(memory $big 65536)", ""), "out of memory"),
        ("a table of 400 million", job("(table 400000000 funcref)", ""), "out of memory"),
        (
            "a table that grows",
            job(
                "(table $t 1 funcref)",
                "(loop $on (br_if $on (i32.ne (i32.const -1)
                    (table.grow $t (ref.null func) (i32.const 100000)))))",
            ),
            "out of memory",
        ),
        ("too many instances", with_instances("", "", &instances(100)), "count too high"),
        ("nine memories", with_instances("", "", &instances(8)), "count too high"),
        ("a start that traps", job("(func $f unreachable) (start $f)", ""), "aborted"),
        (
            "a start that recurses",
            job("(func $f call $f) (start $f)", ""),
            "a recursion that goes too deep",
        ),
        (
            "an indirect call to nothing",
            job("(table 1 funcref) (type $t (func))", "i32.const 0 call_indirect (type $t)"),
            "called what isn't a function",
        ),
        ("memory beyond its end", job("", "i32.const -8 i64.load drop"), "outside of its own"),
        (
            "segments beyond the end",
            job(r#"(data (i32.const 65535) "ab")"#, ""),
            "outside of its own",
        ),
    ];
    for (name, text, words) in bombs {
        // Only one memory is allowed in a module: these bring their own.
        let text = match name {
            "a memory of 4 GiB" => text
                .replace("(memory $big 65536)", "")
                .replace("\"memory\") 1)", "\"memory\") 65536)"),
            _ => text,
        };
        become_of(&field, &write(&place, &text), name, words);
    }
    std::fs::remove_file(place.path("granted/job.wasm")).expect("it was written");
    field.end();
}

/// Hundredths of a second that a process took of processors.
fn ticks(process: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    let stat = stat.expect("it runs");
    // Behind the name, which may be anything; in its own code.
    let behind = stat.rsplit_once(')').expect("a name").1;
    behind.split_whitespace().nth(11).and_then(|ticks| ticks.parse().ok()).expect("a number")
}

/// A loop before there is anything to call: in the code that instantiates.
#[test]
fn an_endless_start_is_killed() {
    let place = place();
    let field = Field::new(&place);
    let file = write(&place, &job("(func $f (loop $on br $on)) (start $f)", ""));
    let run = field.attacker_file(&file).spawn();
    // Its loop, and not its compiler, which is another process.
    ingle_tests::wait_until("it to take a second of a processor", || ticks(run.pid()) > 100);
    run.signal(Signal::INT);
    run.wait().ends_with(130);
    field.unharmed("an endless start");
    let run = field.attacker_file(&file).flag("--deploy-mode=cluster").run().succeeds();
    let driver = run.stdout.trim().to_owned();
    ingle_tests::wait_until("it to run", || {
        field.cluster.ask(&["explain", &driver]).stdout.contains("RUNNING")
    });
    field.attacker_file(&file).flags(["--kill", &driver]).run().succeeds();
    field.unharmed("an endless start on a worker");
    std::fs::remove_file(file).expect("it was written");
    field.end();
}

/// The host's answer is laid where the guest says that there is room for it.
#[test]
fn who_lies_about_room_for_answers_ends() {
    let place = place();
    let field = Field::new(&place);
    let asks = |room: &str| {
        format!(
            r#"(component
            (import "wasi:cli/environment@0.2.0" (instance $env
                (export "get-arguments" (func (result (list string))))))
            (core module $lib
                (memory (export "memory") 1)
                (func $room (export "realloc") (param i32 i32 i32 i32) (result i32) {room}))
            (core instance $lib (instantiate $lib))
            (core func $ask (canon lower (func $env "get-arguments")
                (memory (core memory $lib "memory")) (realloc (core func $lib "realloc"))))
            (core module $code
                (import "host" "ask" (func $ask (param i32)))
                (memory (export "memory") 1)
                (func (export "drive") (result i32) (call $ask (i32.const 16)) i32.const 0)
                (func (export "run") (param i64)))
            (core instance $host (export "ask" (func $ask)))
            (core instance $code (instantiate $code (with "host" (instance $host))))
            (func $drive (result (result (error string)))
                (canon lift (core func $code "drive") (memory (core memory $code "memory"))))
            (func $run (param "entry" u64) (canon lift (core func $code "run")))
            (instance $main (export "drive" (func $drive)) (export "run" (func $run)))
            (export "ingle:job/main@0.1.0" (instance $main)))"#
        )
    };
    // One that tells the truth.
    let file = write(&place, &asks("i32.const 1024"));
    field.attacker_file(&file).arg("word").run().succeeds();
    for (name, room, words) in [
        ("beyond memory", "i32.const -8", "beyond end of memory"),
        ("not aligned", "i32.const 1", "not aligned"),
        ("a trap", "unreachable", "aborted"),
        (
            "a recursion",
            "(call $room (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))",
            "a recursion that goes too deep",
        ),
    ] {
        let file = write(&place, &asks(room));
        become_of(&field, &file, name, words);
    }
    std::fs::remove_file(file).expect("it was written");
    field.end();
}
