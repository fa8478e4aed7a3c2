//! From nothing to a job that runs, as the README has it: `ingle new`, `ingle build`, `rsubmit`.

use ingle_tests::{Place, ingle};

#[test]
fn a_new_job_is_built_and_runs() {
    let place = Place::new();
    let new = ingle(&place, ["new", "my-job"]).succeeds();
    for step in ["cd my-job", "cargo test", "ingle build -o my-job.wasm", "rsubmit --allow-read="] {
        assert!(new.stdout.contains(step), "no {step}\n{new}");
    }
    let built = ingle(&place, ["build", "my-job", "-o", "my-job.wasm"]).succeeds();
    built.prints("my-job.wasm\n").says(&["building my-job with "]);
    assert_eq!(place.names("."), ["my-job", "my-job.wasm"]);

    place.write("in.txt", "to be or not to be\n");
    let run = place.rsubmit_file("my-job.wasm").flags(["--allow-read=in.txt", "--allow-write=out"]);
    run.args(["in.txt", "out"]).run().succeeds().says(&["my-job: "]);
    let counts = place.table("out");
    assert_eq!((counts["to"].as_str(), counts["not"].as_str(), counts.len()), ("2", "1", 4));

    // A mistake is cargo's to tell.
    place.write("my-job/src/lib.rs", "fn main() { nonsense }\n");
    let failed = ingle(&place, ["build", "my-job", "-o", "my-job.wasm"]).ends_with(1);
    failed.says(&["cannot find value `nonsense`", "`my-job` did not build"]);
}

#[test]
fn what_is_there_is_never_overwritten() {
    let place = Place::new();
    place.write("my-job/kept", "as it was");
    ingle(&place, ["new", "my-job"]).ends_with(1).says(&["my-job exists already", "--path"]);
    assert_eq!(place.names("my-job"), ["kept"]);
}

#[test]
fn a_name_that_cargo_would_refuse_is_refused() {
    let place = Place::new();
    for name in ["My-Job", "2fast", "fn", "test", "a/b"] {
        ingle(&place, ["new", name]).ends_with(1).says(&["can't be the name of a job", name]);
    }
    assert_eq!(place.names(".").len(), 0);
}

#[test]
fn a_folder_that_is_no_job_is_told_so() {
    let place = Place::new();
    ingle(&place, ["build"]).ends_with(1).says(&["no Cargo.toml", "ingle new"]);
    place.write("bin/Cargo.toml", "[package]\nname = \"bin\"\nedition = \"2024\"\n");
    place.write("bin/src/main.rs", "fn main() {}");
    ingle(&place, ["build", "bin"]).ends_with(1).says(&["no job", "cdylib"]);
    place.write("broken/Cargo.toml", "[package\n");
    ingle(&place, ["build", "broken"])
        .ends_with(1)
        .says(&["cargo can't read", "broken/Cargo.toml"]);
}
