//! Flags and settings: what makes no sense is refused with exit code 2 and what does, and who wins over whom.

use ingle_tests::{Place, Rsubmit};

const USAGE: i32 = 2;

/// The fixture, printing these settings.
fn settings(place: &Place, keys: &[&str]) -> Rsubmit {
    place.rsubmit("evil").arg("settings").args(keys.iter().copied())
}

#[track_caller]
fn refused(flags: &[&str], says: &[&str]) {
    let run = settings(&Place::new(), &[]).flags(flags.iter().copied()).run();
    run.ends_with(USAGE).prints("").says(&["error: "]).says(says).says_not(&["panicked"]);
}

#[test]
fn memory_must_be_a_size_with_a_unit() {
    for flag in ["--executor-memory", "--driver-memory"] {
        for (size, why) in [
            ("0", "no unit"),
            ("0g", "no memory at all"),
            ("4x", "no unit; use b, k, m, g or t"),
            ("512", "write 512m for MiB"),
            ("-1g", "negative"),
            ("1.5g", "whole number"),
            ("", "missing"),
            ("99999999999999999999g", "too large"),
            ("1m", "no job runs in less than"),
        ] {
            refused(&[&format!("{flag}={size}")], &[flag, why]);
        }
    }
}

#[test]
fn more_than_the_machine_has_must_be_meant() {
    let place = Place::new();
    for flag in ["--executor-memory=900t", "--driver-memory=900t"] {
        refused(
            &[flag],
            &["more than the", "that this machine has", "ingle.local.oversubscribe=true"],
        );
        let meant = settings(&place, &[]).flag(flag).conf("ingle.local.oversubscribe", "true");
        meant.run().succeeds();
    }
    refused(&["--master=local[1000]"], &["1000 task slots", "cores", "oversubscribe"]);
    refused(&["--executor-cores=1000"], &["1000 task slots", "cores", "oversubscribe"]);
    let meant = settings(&place, &[]).flag("--master=local[9]");
    let meant = meant.conf("ingle.local.oversubscribe", "true").run().succeeds();
    meant.prints("parallelism=9\n");
}

#[test]
fn cores_and_masters_must_make_sense() {
    refused(&["--executor-cores=0"], &["--executor-cores 0", "at least 1"]);
    refused(&["--executor-cores=4x"], &["--executor-cores 4x", "whole number"]);
    refused(&["--master=local[0]"], &["local[0]", "at least 1"]);
    refused(&["--master=local[4x]"], &["local, local[N], local[*] or ingle://HOST:PORT"]);
    refused(
        &["--master=yarn"],
        &["--master yarn", "local, local[N], local[*] or ingle://HOST:PORT"],
    );
    refused(&["--master=spark://host:7077"], &["spark://host:7077", "Ingle's are ingle://"]);
    refused(&["--master=local[1]", "--executor-cores=2"], &["say different things"]);
    let one = settings(&Place::new(), &[]).flag("--master=local").run().succeeds();
    one.prints("parallelism=1\n");
}

#[test]
fn settings_that_do_nothing_are_refused() {
    refused(
        &["--conf", "ingle.executor.memroy=1g"],
        &["ingle.executor.memroy", "ingle.executor.memory"],
    );
    refused(&["--conf", "spark.executor.memory=1g"], &["Spark", "ingle.executor.memory"]);
    refused(
        &["--conf", "spark.eventLog.enabled=true"],
        &["spark.eventLog.enabled", "does nothing"],
    );
    refused(&["--conf", "novalue"], &["novalue", "KEY=VALUE"]);
    refused(&["--conf", "=value"], &["name is empty"]);
    refused(&["--conf", "ingle.task.reuse=yes"], &["ingle.task.reuse", "true or false"]);
    refused(&["--conf", "ingle.task.maxFailures=0"], &["ingle.task.maxFailures", "at least 1"]);
    refused(
        &["--conf", "ingle.default.parallelism=0"],
        &["ingle.default.parallelism", "at least 1"],
    );
    refused(
        &["--conf", "ingle.join.broadcast.threshold=10"],
        &["ingle.join.broadcast.threshold", "or 0", "10m for MiB"],
    );
    refused(
        &["--conf", "ingle.join.skew.threshold=large"],
        &["ingle.join.skew.threshold", "`large`", "or 0"],
    );
    refused(
        &["--conf", "ingle.shuffle.coalesce.size=-1"],
        &["ingle.shuffle.coalesce.size", "`-1`", "or 0"],
    );
    refused(
        &["--conf", "ingle.task.interrupt=never"],
        &["ingle.task.interrupt", "`never`", "calls or epoch"],
    );
    refused(&["--no-such-flag"], &["--no-such-flag"]);
}

#[test]
fn a_bad_properties_file_is_told_by_line() {
    let place = Place::new();
    let file = place.write("bad.conf", "# comment\nmine yes\ningle.nothing 1\n");
    refused(
        &["--properties-file", file.to_str().unwrap()],
        &["bad.conf", "line 3", "ingle.nothing"],
    );
    let file = place.write("binary.conf", b"mine \xff\xfe\n");
    refused(&["--properties-file", file.to_str().unwrap()], &["binary.conf", "UTF-8"]);
    refused(&["--properties-file=/nowhere.conf"], &["/nowhere.conf", "No such file"]);
    refused(&["--properties-file=/"], &["reading the properties file /"]);
}

#[test]
fn flags_win_over_conf_and_conf_over_the_file() {
    let place = Place::new();
    place.write(
        "my.conf",
        "mine file\nother = file\n\ningle.default.parallelism: 3\ningle.master local[0]\n",
    );
    let run = settings(&place, &["mine", "other", "absent"]).flag("--properties-file=my.conf");
    let run = run.conf("mine", "first").conf("mine", "a=b").flag("--master=local").run();
    run.succeeds().prints("mine=Some(\"a=b\")\nother=Some(\"file\")\nabsent=None\nparallelism=3\n");
}

#[test]
fn a_jobs_name_is_its_files_or_as_given() {
    let place = Place::new();
    settings(&place, &[]).run().succeeds().says(&["evil: "]);
    settings(&place, &[]).flag("--name=nightly").run().succeeds().says(&["nightly: "]);
    let error = place.rsubmit("evil").flag("--name=nightly").arg("driver-trap").run();
    error.ends_with(1).says(&["the driver of nightly"]);
}

#[test]
fn help_and_version_are_told_on_stdout() {
    let place = Place::new();
    let help = settings(&place, &[]).flag("--help").run().succeeds();
    for text in ["--allow-read", "--executor-memory", "Exit codes:", "130", "JOB.wasm"] {
        assert!(help.stdout.contains(text), "no {text}\n{help}");
    }
    let version = settings(&place, &[]).flag("--version").run().succeeds();
    assert!(version.stdout.starts_with("rsubmit "), "{version}");
}

#[test]
fn what_follows_the_job_is_the_jobs_own() {
    let place = Place::new();
    let run = settings(&place, &["--help", "-v", "--conf"]).run().succeeds();
    let cores = std::thread::available_parallelism().unwrap();
    run.prints(&format!("--help=None\n-v=None\n--conf=None\nparallelism={cores}\n"));
}

#[test]
fn the_environment_is_seen_as_far_as_granted() {
    let place = Place::new();
    let env = || place.rsubmit("evil").env("SECRET", "s").env("PUBLIC", "p").arg("env");
    env().run().succeeds().prints("driver []\ntask [[]]\n");
    let run = env().flag("--allow-env=PUBLIC,ABSENT").run().succeeds();
    run.prints("driver [\"PUBLIC=p\"]\ntask [[\"PUBLIC=p\"]]\n");
    let run = env().flag("--allow-env=PUBLIC").flags(["--env", "PUBLIC=mine", "--env", "E="]).run();
    run.succeeds().prints("driver [\"PUBLIC=mine\", \"E=\"]\ntask [[\"PUBLIC=mine\", \"E=\"]]\n");
    let all = env().flag("--allow-env=*").run().succeeds();
    assert!(all.stdout.contains("SECRET=s"), "{all}");
    refused(&["--env", "NOVALUE"], &["--env NOVALUE", "NAME=VALUE"]);
}

#[test]
fn grants_must_exist_to_be_read_and_may_be_new_to_be_written() {
    refused(&["--allow-read=/no/such/folder"], &["/no/such/folder", "doesn't exist"]);
    let place = Place::new();
    let input = place.write("in.txt", "a");
    let read = format!("--allow-read={}", input.display());
    let run = place.rsubmit("wordcount").flags([read.as_str(), "--allow-write=deep/new"]);
    run.args(["in.txt", "deep/new/out"]).run().succeeds();
    assert_eq!(place.table("deep/new/out")["a"], "1");
}

#[test]
fn a_cache_or_spill_folder_that_can_not_be_is_told() {
    let place = Place::new();
    place.write("file", "");
    let run = settings(&place, &[]).conf("ingle.local.dir", "nowhere").run().ends_with(4);
    run.says(&["nowhere", "ingle.local.dir"]);
    // Without a cache a job still runs.
    let run = place.rsubmit("empty").conf("ingle.cache.dir", "file").run().succeeds();
    run.says(&["no cache can be used"]);
}
