//! What a job can touch: nothing but what was granted, through its host and by `std::fs`.

use std::os::unix::fs::symlink;

use ingle_tests::Place;

const FAILED: i32 = 1;

/// A folder `data` to grant, beside a secret.
fn place() -> Place {
    let place = Place::new();
    place.write("data/in.txt", "granted\n");
    place.write("secret.txt", "secret\n");
    place
}

#[test]
fn nothing_is_granted_by_default() {
    let place = place();
    for behaviour in ["read", "read-in-task", "list", "write", "write-in-task"] {
        let run = place.rsubmit("evil").args([behaviour, "data/in.txt"]).run();
        run.ends_with(FAILED).prints("");
    }
    assert_eq!(place.names("."), ["data", "secret.txt"]);
    assert_eq!(place.read("data/in.txt"), "granted\n");
}

#[test]
fn files_of_a_granted_folder_are_read_by_driver_and_tasks() {
    let place = place();
    let evil = |behaviour, path| {
        let run = place.rsubmit("evil").flag("--allow-read=data").args([behaviour, path]);
        run.run().succeeds().stdout
    };
    assert_eq!(evil("read", "data/in.txt"), "granted\n");
    assert_eq!(evil("read-in-task", "data/in.txt"), "granted\n");
    assert_eq!(evil("list", "data"), "in.txt\n");
}

#[test]
fn a_granted_file_is_read_by_its_host_and_std_fs_is_told_that_it_needs_a_folder() {
    let place = place();
    let submit = |job| place.rsubmit(job).flag("--allow-read=data/in.txt");
    let run = submit("wordcount").flag("--allow-write=out").args(["data/in.txt", "out"]).run();
    run.succeeds();
    let run = submit("evil").args(["read", "data/in.txt"]).run().ends_with(FAILED);
    run.says(&["hint: std::fs reaches folders", "--allow-read=DIR"]);
}

#[test]
fn a_granted_folder_is_found_by_relative_and_absolute_paths() {
    let place = place();
    let (folder, file) = (place.path("data"), place.path("data/in.txt"));
    for grant in ["data", "./data", folder.to_str().unwrap()] {
        for path in ["data/in.txt", file.to_str().unwrap()] {
            let run = place.rsubmit("evil").flag(format!("--allow-read={grant}"));
            let run = run.args(["read", path]).run();
            assert_eq!(run.stdout, "granted\n", "granted {grant}, read {path}\n{run}");
        }
    }
}

#[test]
fn what_is_granted_for_reading_is_not_written() {
    let place = place();
    for behaviour in ["write", "write-in-task"] {
        let run = place.rsubmit("evil").flag("--allow-read=data").args([behaviour, "data/in.txt"]);
        run.run().ends_with(FAILED);
    }
    let run = place.rsubmit("wordcount").flag("--allow-read=data").args(["data", "data/out"]).run();
    run.ends_with(FAILED).says(&["--allow-write"]);
    assert_eq!(place.names("data"), ["in.txt"]);
    assert_eq!(place.read("data/in.txt"), "granted\n");
}

#[test]
fn what_is_granted_for_both_is_written_by_driver_and_tasks() {
    let place = place();
    let evil = |behaviour, path| {
        let run = place.rsubmit("evil").flags(["--allow-read=data", "--allow-write=data"]);
        run.args([behaviour, path]).run().succeeds();
    };
    evil("write", "data/new");
    evil("write-in-task", "data/part");
    assert_eq!(place.read("data/new"), "written\n");
    assert_eq!(place.names("data"), ["in.txt", "new", "part-0", "part-1", "part-2"]);
    assert_eq!(place.read("data/part-1"), "by 1\n");
}

#[test]
fn no_path_leads_out_of_a_grant() {
    let place = place();
    symlink("../secret.txt", place.path("data/up")).unwrap();
    symlink(place.path("secret.txt"), place.path("data/absolute")).unwrap();
    symlink("..", place.path("data/folder")).unwrap();
    for path in ["data/up", "data/absolute", "data/folder/secret.txt", "data/../secret.txt"] {
        for behaviour in ["read", "read-in-task"] {
            let run = place.rsubmit("evil").flag("--allow-read=data").args([behaviour, path]).run();
            let run = run.ends_with(FAILED);
            assert!(!run.stdout.contains("secret\n"), "{run}");
        }
        let run = place.rsubmit("wordcount").flags(["--allow-read=data", "--allow-write=out"]);
        let run = run.args([path, "out"]).run().ends_with(FAILED);
        run.says(&[if path.contains("..") { "isn't allowed" } else { "symbolic link" }]);
        assert!(!place.exists("out"));
    }
}

#[test]
fn a_folder_with_a_link_out_of_it_is_refused() {
    let place = place();
    symlink("../secret.txt", place.path("data/up.txt")).unwrap();
    for input in ["data", "data/*.txt"] {
        let run = place.rsubmit("wordcount").flags(["--allow-read=data", "--allow-write=out"]);
        let run = run.args([input, "out"]).run().ends_with(FAILED);
        run.says(&["up.txt", "symbolic link"]);
        assert!(!place.exists("out"));
    }
}

#[test]
fn no_output_is_written_through_a_link_out_of_a_grant() {
    let place = place();
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    symlink("../elsewhere", place.path("data/link")).unwrap();
    let run = place.rsubmit_granted("wordcount").args(["data/in.txt", "data/link/out"]);
    // All of the folder is granted, so this link stays inside.
    run.run().succeeds();
    let run = place.rsubmit("wordcount").flags(["--allow-read=data/in.txt", "--allow-write=data"]);
    run.args(["data/in.txt", "data/link/other"]).run().ends_with(FAILED).says(&["symbolic link"]);
    let run = place.rsubmit("evil").flags(["--allow-read=data", "--allow-write=data"]);
    run.args(["write", "data/link/other"]).run().ends_with(FAILED);
    assert_eq!(place.names("elsewhere"), ["out"]);
}

#[test]
fn a_link_that_the_user_grants_is_followed() {
    let place = place();
    symlink("data", place.path("linked")).unwrap();
    let run = place.rsubmit("evil").flag("--allow-read=linked").args(["read", "linked/in.txt"]);
    run.run().succeeds().prints("granted\n");
}
