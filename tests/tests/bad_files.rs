//! Files that are no jobs, or no sound ones: refused with words, and with exit code 3, before anything runs.

use ingle_tests::{Place, guest};

const NOT_A_JOB: i32 = 3;

/// Submits a file of these bytes.
#[track_caller]
fn refused(bytes: &[u8], says: &[&str]) {
    let place = Place::new();
    let file = place.write("job.wasm", bytes);
    let run = place.rsubmit_file(file).run().ends_with(NOT_A_JOB);
    run.says(&["error: ", "job.wasm: "]).says(says).says_not(&["panicked"]).prints("");
}

#[test]
fn a_file_that_is_no_webassembly_is_told_so() {
    for bytes in [&b"#!/bin/sh\n"[..], b"", b"\0as", b"\0asm", b"\x7fELF\x02\x01\x01\0\0\0\0\0"] {
        refused(bytes, &["not WebAssembly"]);
    }
}

#[test]
fn a_component_that_was_cut_is_refused() {
    let whole = std::fs::read(guest("wordcount")).unwrap();
    for len in [9, 100, 1000, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..len], &["not a WebAssembly component that can be compiled"]);
    }
}

#[test]
fn a_component_with_a_flipped_byte_never_crashes_the_host() {
    let whole = std::fs::read(guest("empty")).unwrap();
    let place = Place::new();
    for at in (8..whole.len()).step_by(whole.len() / 7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        // It may still be sound: names are in there too.
        let file = place.write("job.wasm", bytes);
        let run = place.rsubmit_file(file).run().says_not(&["panicked at host"]);
        assert!(matches!(run.status.code(), Some(0 | 1 | NOT_A_JOB)), "byte {at}\n{run}");
    }
}

#[test]
fn an_empty_component_is_told_what_it_lacks() {
    let says = ["not an Ingle job", "`ingle:job/main@0.1.0`", "`drive` and `run`"];
    refused(b"\0asm\x0d\0\x01\0", &says);
}

#[test]
fn a_core_module_without_a_contract_is_told_what_to_use() {
    refused(b"\0asm\x01\0\0\0", &["core module", "no Ingle job", "`ingle new`"]);
}

/// A component with what a job must export: its driver succeeds at once unless `drive` says otherwise.
fn job(imports: &str, drive: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            {imports}
            (core module $code
                (import "host" "call" (func $call))
                (memory (export "memory") 1)
                (func (export "drive") (result i32) {drive} i32.const 0)
                (func (export "run") (param i64)))
            (core instance $code (instantiate $code (with "host" (instance (export "call" (func $call))))))
            (func $drive (result (result (error string)))
                (canon lift (core func $code "drive") (memory (core memory $code "memory"))))
            (func $run (param "entry" u64) (canon lift (core func $code "run")))
            (instance $main (export "drive" (func $drive)) (export "run" (func $run)))
            (export "ingle:job/main@0.1.0" (instance $main)))"#
    );
    wat::parse_str(text).expect("a component")
}

/// An interface of one function without parameters, which the driver may `call`.
fn import(interface: &str, function: &str, results: &str) -> String {
    format!(
        r#"(import "{interface}" (instance $host (export "{function}" (func {results}))))
           (core func $call (canon lower (func $host "{function}")))"#
    )
}

#[test]
fn a_component_of_another_language_is_a_job_if_it_keeps_the_contract() {
    let imports = r#"(import "ingle:job/driver@0.1.0" (instance $host
            (export "cancel" (func (param "job" u32)))))
        (core module $shim (func (export "call")))
        (core instance $shim (instantiate $shim))
        (alias core export $shim "call" (core func $call))"#;
    let place = Place::new();
    let file = place.write("other.wasm", job(imports, ""));
    place.rsubmit_file(file).run().succeeds().says(&["other: ", "0 tasks"]);
}

#[test]
fn imports_that_the_host_lacks_are_named() {
    let vault = job(&import("acme:secret/vault@1.2.3", "open", ""), "");
    refused(&vault, &["imports what this host doesn't have", "acme:secret/vault@1.2.3"]);
    let later = job(&import("ingle:job/driver@0.9.0", "rewind", ""), "");
    refused(&later, &["ingle:job/driver@0.9.0", "built for another version of Ingle"]);
}

#[test]
fn an_import_of_another_type_is_refused() {
    let odd = job(&import("ingle:job/task@0.1.0", "no-such-function", ""), "");
    refused(&odd, &["its imports don't fit this host", "no-such-function"]);
}

#[test]
fn a_driver_that_breaks_the_contract_is_ended() {
    let imports = r#"(import "ingle:job/driver@0.1.0" (instance $host
            (export "cancel" (func (param "job" u32)))))
        (core func $cancel (canon lower (func $host "cancel")))
        (core module $shim
            (import "host" "cancel" (func $cancel (param i32)))
            (func (export "call") (call $cancel (i32.const 99))))
        (core instance $shim (instantiate $shim
            (with "host" (instance (export "cancel" (func $cancel))))))
        (alias core export $shim "call" (core func $call))"#;
    let place = Place::new();
    let file = place.write("hostile.wasm", job(imports, "(call $call)"));
    let run = place.rsubmit_file(file).run().ends_with(1);
    run.says(&["the driver of hostile", "broke the contract", "99"]);
}

#[test]
fn a_driver_that_plays_a_task_is_ended() {
    let imports = r#"(import "ingle:job/task@0.1.0" (instance $host
            (export "create-run" (func (result u32)))))
        (core func $create (canon lower (func $host "create-run")))
        (core module $shim
            (import "host" "create" (func $create (result i32)))
            (func (export "call") (drop (call $create))))
        (core instance $shim (instantiate $shim
            (with "host" (instance (export "create" (func $create))))))
        (alias core export $shim "call" (core func $call))"#;
    let place = Place::new();
    let file = place.write("hostile.wasm", job(imports, "(call $call)"));
    let run = place.rsubmit_file(file).run().ends_with(1);
    run.says(&["broke the contract", "only a task can do"]);
}

#[test]
fn a_file_that_is_not_there_and_a_folder_are_told_apart() {
    let place = Place::new();
    let run = place.rsubmit_file("nowhere.wasm").run().ends_with(NOT_A_JOB);
    run.says(&["nowhere.wasm", "no such file", "ingle build"]);
    let run = place.rsubmit_file(".").run().ends_with(NOT_A_JOB);
    run.says(&["a folder, not a job", "ingle build"]);
}

#[test]
fn a_file_that_can_not_be_read_as_a_whole_is_refused() {
    // Endless, and never WebAssembly.
    Place::new().rsubmit_file("/dev/zero").run().ends_with(NOT_A_JOB).says(&["/dev/zero: "]);
}
