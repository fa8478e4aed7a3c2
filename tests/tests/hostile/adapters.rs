//! Core modules of WASI's first version, which the host makes components of with an adapter: their contract is sound, and nothing else is.

use std::fs;
use std::path::{Path, PathBuf};

use ingle_tests::Place;

use crate::field::{Field, place};
use crate::modules::{NOT_A_JOB, become_of};

/// For the book: what is done, what stops it, what it comes to, the test.
pub const BOOK: &[[&str; 4]] = &[
    [
        "a core module of WASI's first version that imports and exports what its contract and the adapter don't have, or not so; a contract of \
         garbage",
        "whoever makes a component of it checks them",
        "no job: exit code 3",
        "adapters::core_modules_that_fit_no_adapter_are_refused",
    ],
    [
        "one that hands the adapter buffers, and a `cabi_realloc`, beyond its memory",
        "WebAssembly: the adapter is a guest as well",
        "the driver that did it ends, with words",
        "adapters::what_lies_to_its_adapter_ends",
    ],
];

/// A module that does nothing and has a contract, of a fuzz target's corpus.
const SOUND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/module/job0");

/// The contract of that module, as the section that it is.
fn contract() -> Vec<u8> {
    let module = fs::read(SOUND).expect("it is kept");
    let mut at = 8;
    while at < module.len() {
        let (section, mut length, mut shift) = (at, 0, 0);
        loop {
            at += 1;
            length |= usize::from(module[at] & 0x7f) << shift;
            shift += 7;
            if module[at] < 0x80 {
                break;
            }
        }
        at += 1 + length;
        if module[section] == 0 {
            return module[section..at].to_vec();
        }
    }
    panic!("it has no contract");
}

/// What a module has that is a job.
struct Parts {
    imports: &'static str,
    run: &'static str,
    realloc: &'static str,
    drive: &'static str,
    more: &'static str,
}

/// Room for the adapter, behind all else.
const REALLOC: &str = "(param i32 i32 i32 i32) (result i32) i32.const 65536";
const FD_WRITE: &str = r#"(import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))"#;
const USUAL: Parts =
    Parts { imports: FD_WRITE, run: "(param i64)", realloc: REALLOC, drive: "", more: "" };

fn module(parts: &Parts, sections: &[Vec<u8>]) -> Vec<u8> {
    let Parts { imports, run, realloc, drive, more } = parts;
    let text = format!(
        r#"(module
            {imports}
            (memory (export "memory") 4)
            (data (i32.const 16) "hi\n")
            (func (export "cabi_realloc") {realloc})
            (func (export "ingle:job/main@0.1.0#drive") (result i32) {drive} i32.const 1024)
            (func (export "ingle:job/main@0.1.0#run") {run})
            {more})"#
    );
    let module = wat::parse_str(text).expect("a module's text");
    sections.iter().fold(module, |module, section| [&module[..], section].concat())
}

fn write(place: &Place, bytes: &[u8]) -> PathBuf {
    place.write("granted/job.wasm", bytes)
}

#[test]
fn core_modules_that_fit_no_adapter_are_refused() {
    let place = place();
    let garbage = |name: &str| {
        let mut section = vec![0, name.len() as u8 + 9, name.len() as u8];
        section.extend(name.as_bytes());
        section.extend(b"\xff\xff\xff\xff\x0f\x00as");
        vec![section]
    };
    let own = || vec![contract()];
    let cases = [
        ("garbage", USUAL, garbage("component-type:wit-bindgen:0.1"), "can't be made a component"),
        ("more garbage", USUAL, garbage("component-type"), "can't be made a component"),
        ("no contract", USUAL, garbage("producers"), "without a `component-type` section"),
        (
            "fd_write of another type",
            Parts {
                imports: r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i64)))"#,
                ..USUAL
            },
            own(),
            "type mismatch for function `fd_write`",
        ),
        (
            "what WASI doesn't have",
            Parts {
                imports: r#"(import "wasi_snapshot_preview1" "fd_steal" (func (param i32)))"#,
                ..USUAL
            },
            own(),
            "did not export `fd_steal`",
        ),
        (
            "what the adapter imports",
            Parts {
                imports: r#"(import "__main_module__" "cabi_realloc"
                    (func (param i32 i32 i32 i32) (result i32)))"#,
                ..USUAL
            },
            own(),
            "only adapters do",
        ),
        (
            "run of another type",
            Parts { run: "(param f32)", ..USUAL },
            own(),
            "can't be made a component: ",
        ),
        (
            "cabi_realloc of another type",
            Parts { realloc: "(param i64) (result i64) i64.const 0", ..USUAL },
            own(),
            "can't be made a component: ",
        ),
        (
            "_initialize of another type",
            Parts { more: r#"(func (export "_initialize") (param i32))"#, ..USUAL },
            own(),
            "can't be made a component: ",
        ),
    ];
    for (name, parts, sections, words) in cases {
        let file = write(&place, &module(&parts, &sections));
        let run = place.rsubmit_file(file).run();
        assert_eq!(run.status.code(), Some(NOT_A_JOB), "{name}\n{run}");
        run.says(&["core module", words]).says_not(&["panicked"]);
    }
}

/// They are components, and run.
#[test]
fn what_lies_to_its_adapter_ends() {
    // Of standard output: where its list of buffers lies, how many, and where to say how much was written.
    const LIST: &str =
        "(i32.store (i32.const 32) (i32.const 16)) (i32.store (i32.const 36) (i32.const 3))";
    let write = |list: &str, written: i32| -> &'static str {
        let call = format!(
            "(drop (call $write (i32.const 1) (i32.const {list}) (i32.const 1) (i32.const {written})))"
        );
        format!("{LIST} {call}").leak()
    };
    let place = place();
    let field = Field::new(&place);
    let own = [contract()];
    let file = self::write(&place, &module(&Parts { drive: write("32", 48), ..USUAL }, &own));
    field.attacker_file(&file).run().succeeds().prints("hi\n");
    let longest =
        "(i32.store (i32.const 32) (i32.const 16)) (i32.store (i32.const 36) (i32.const -1))
        (drop (call $write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 48)))";
    let beyond = Parts { realloc: "(param i32 i32 i32 i32) (result i32) i32.const -8", ..USUAL };
    let cases = [
        ("buffers beyond memory", Parts { drive: write("-8", 48), ..USUAL }, "outside of its own"),
        ("a buffer that is too long", Parts { drive: longest, ..USUAL }, "out of bounds"),
        (
            "an answer beyond memory",
            Parts { drive: write("32", -2), ..USUAL },
            "outside of its own",
        ),
        ("room beyond memory", Parts { drive: write("32", 48), ..beyond }, "outside of its own"),
    ];
    for (name, parts, words) in cases {
        let file = self::write(&place, &module(&parts, &own));
        become_of(&field, &file, name, words);
    }
    fs::remove_file(Path::new(&file)).expect("it was written");
    field.end();
}
