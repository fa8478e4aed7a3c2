//! Ways out of a granted folder. The folder `data` is granted for both, `ro` for reading; `secret.txt` lies beside them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ingle::__private::bindings::ingle::job::driver;
use ingle::prelude::*;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};

use crate::{Attack, all_refused};

pub fn attack(name: &str) -> Option<Attack> {
    Some(match name {
        "path-escape" => Attack::Anywhere(paths),
        "link-escape" => Attack::Anywhere(links),
        "rename-escape" => Attack::Anywhere(renames),
        "read-only-escape" => Attack::Anywhere(read_only),
        "race-escape" => Attack::Planned(race),
        "late-source" => Attack::Planned(late_source),
        "late-output" => Attack::Planned(late_output),
        "source-escape" => Attack::Planned(sources),
        "output-escape" => Attack::Planned(outputs),
        "sparse-file" => Attack::Anywhere(sparse),
        "sparse-source" => Attack::Planned(sparse_source),
        _ => return None,
    })
}

/// A granted folder.
pub fn granted(name: &str) -> Result<Descriptor> {
    let mut all = get_directories().into_iter();
    let found = all.find(|(_, path)| path.trim_start_matches("./") == name);
    Ok(found.with_context(|| format!("{name} isn't granted"))?.0)
}

fn told<T>(outcome: Result<T, ErrorCode>) -> Result<(), String> {
    outcome.map(|_| ()).map_err(|code| code.name().to_owned())
}

fn open(folder: &Descriptor, path: &str) -> Result<Descriptor, ErrorCode> {
    folder.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::empty(), DescriptorFlags::READ)
}

fn paths(_: &str) -> Result<String> {
    let folder = granted("data")?;
    let deep = "../".repeat(100) + "etc/passwd";
    let long = "x/".repeat(100_000) + "y";
    let paths = [
        "../secret.txt",
        "./../secret.txt",
        "sub/../../secret.txt",
        "in.txt/../../secret.txt",
        "sub/./.././../secret.txt",
        "..",
        "../",
        "/",
        "/etc/passwd",
        "//etc/passwd",
        "/proc/self/environ",
        "/proc/self/root/etc/passwd",
        "../data/../secret.txt",
        // Nothing is there that could be in the way.
        "../made",
        "sub/../../made",
        "/tmp/made",
        "in.txt\0/../../secret.txt",
        "",
        &deep,
        &long,
    ];
    open_file(&folder)?;
    let mut attempts = Vec::new();
    for path in paths {
        let shown: String = path.chars().take(40).collect();
        // What leads out is refused for that, not since it isn't there.
        let leads_out = path.starts_with(['/', '.']) || path.starts_with("sub/");
        for (what, outcome) in [
            ("open", told(open(&folder, path))),
            ("stat", told(folder.stat_at(PathFlags::SYMLINK_FOLLOW, path))),
            ("mkdir", told(folder.create_directory_at(path))),
            ("unlink", told(folder.unlink_file_at(path))),
        ] {
            ensure!(
                !leads_out || outcome == Err("not-permitted".into()),
                "{what} {shown} is refused for another reason: {outcome:?}"
            );
            attempts.push((format!("{what} {shown}"), outcome));
        }
    }
    all_refused(attempts)
}

/// Links that the job makes itself, and follows.
fn links(_: &str) -> Result<String> {
    let folder = granted("data")?;
    let mut attempts = Vec::new();
    for target in ["/etc", "/proc/self/root", "/proc/self/fd/0"] {
        attempts.push((format!("a link to {target}"), told(folder.symlink_at(target, "absolute"))));
    }
    let made = |what: &str, made: Result<(), ErrorCode>| {
        made.map_err(|code| anyhow!("{what} can't even be made: {}", code.name()))
    };
    made("hop", folder.symlink_at("..", "hop"))?;
    for (n, target) in ["../secret.txt", "..", "hop", "."].into_iter().enumerate() {
        let name = format!("link-{n}");
        // It may make them: what counts is where they lead.
        made(&name, folder.symlink_at(target, &name))?;
        if target == ".." || target == "hop" {
            let through = told(open(&folder, &format!("{name}/secret.txt")));
            ensure!(through == Err("not-permitted".into()), "{target}: {through:?}");
        }
        for path in [
            format!("{name}/secret.txt"),
            format!("{name}/passwd"),
            format!("{name}/../../secret.txt"),
            format!("{name}/etc/passwd"),
            format!("{name}/link-1/secret.txt"),
        ] {
            attempts.push((format!("{path} -> {target}"), told(open(&folder, &path))));
        }
        if target != "." {
            attempts.push((format!("{name} -> {target}"), told(open(&folder, &name))));
        }
        let _ = folder.unlink_file_at(&name);
    }
    for old in ["../secret.txt", "/etc/passwd", "../ro/in.txt"] {
        let hard = folder.link_at(PathFlags::empty(), old, &folder, "stolen");
        attempts.push((format!("link {old}"), told(hard)));
    }
    let _ = folder.unlink_file_at("hop");
    all_refused(attempts)
}

fn renames(_: &str) -> Result<String> {
    let (folder, ro) = (granted("data")?, granted("ro")?);
    all_refused([
        ("out".into(), told(folder.rename_at("in.txt", &folder, "../stolen"))),
        ("in".into(), told(folder.rename_at("../secret.txt", &folder, "stolen"))),
        ("absolute".into(), told(folder.rename_at("in.txt", &folder, "/tmp/stolen"))),
        ("itself".into(), told(folder.rename_at(".", &folder, "../other"))),
        ("into another grant".into(), told(folder.rename_at("in.txt", &ro, "stolen"))),
        ("out of another".into(), told(ro.rename_at("in.txt", &folder, "stolen"))),
    ])
}

/// What may be read isn't changed.
fn read_only(_: &str) -> Result<String> {
    let folder = granted("ro")?;
    let write = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let open = |path, flags, rights| told(folder.open_at(PathFlags::empty(), path, flags, rights));
    let now = || NewTimestamp::Now;
    let file = open_file(&folder)?;
    all_refused([
        ("write".into(), open("in.txt", OpenFlags::empty(), write)),
        ("truncate".into(), open("in.txt", OpenFlags::TRUNCATE, DescriptorFlags::READ)),
        ("create".into(), open("new", OpenFlags::CREATE, DescriptorFlags::READ)),
        ("create it new".into(), open("new", OpenFlags::CREATE | OpenFlags::EXCLUSIVE, write)),
        ("as if it could be changed".into(), told(mutable(&folder))),
        ("size".into(), told(file.set_size(0))),
        ("bytes".into(), told(file.write(b"owned", 0))),
        ("append".into(), told(file.append_via_stream())),
        ("file's times".into(), told(file.set_times(now(), now()))),
        ("times".into(), told(folder.set_times_at(PathFlags::empty(), "in.txt", now(), now()))),
        ("mkdir".into(), told(folder.create_directory_at("new"))),
        ("unlink".into(), told(folder.unlink_file_at("in.txt"))),
        ("rmdir".into(), told(folder.remove_directory_at("sub"))),
        ("symlink".into(), told(folder.symlink_at("in.txt", "new"))),
        ("link".into(), told(folder.link_at(PathFlags::empty(), "in.txt", &folder, "new"))),
        ("rename".into(), told(folder.rename_at("in.txt", &folder, "new"))),
    ])
}

/// Opens the folder again, to change it.
fn mutable(folder: &Descriptor) -> Result<(), ErrorCode> {
    let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
    let again = folder.open_at(PathFlags::empty(), ".", OpenFlags::DIRECTORY, flags)?;
    again.create_directory_at("new")
}

fn open_file(folder: &Descriptor) -> Result<Descriptor> {
    open(folder, "in.txt").map_err(|code| anyhow!("in.txt: {}", code.name()))
}

/// What lies in the folder by the name of what is beside it.
const DECOY: &str = "decoy\n";

/// A folder `there` with a decoy, and without what an earlier attack left of it, whichever it is now.
fn decoy() -> Result<()> {
    let folder = granted("data")?;
    for name in ["there", "away", "kept"] {
        let _ = (folder.unlink_file_at(name), fs::remove_dir_all(format!("data/{name}")));
    }
    fs::create_dir("data/there")?;
    fs::write("data/there/secret.txt", DECOY)?;
    Ok(())
}

/// Puts a link out of the grant into the place of `there`.
fn swap() -> Result<()> {
    fs::rename("data/there", "data/kept")?;
    let swapped = granted("data")?.symlink_at("..", "there");
    swapped.map_err(|code| anyhow!("the way out can't even be made: {}", code.name()))
}

const READ: &str = "read";
const ESCAPED: &str = "escaped";

/// What comes of reading through `there`.
fn read_there(folder: &Descriptor, path: &str) -> &'static str {
    match open(folder, path).and_then(|file| file.read(64, 0)) {
        Ok((bytes, _)) if bytes == DECOY.as_bytes() => READ,
        Ok(_) => ESCAPED,
        Err(code) => code.name(),
    }
}

/// One task swaps a folder for a link out of the grant, all the time, while another reads a file through it.
fn race(ctx: &Context, way: &str) -> Result<String> {
    let rounds: u32 = way.parse()?;
    decoy()?;
    let _ = fs::remove_file("data/raced");
    let away = granted("data")?.symlink_at("..", "away");
    ensure!(away.is_ok(), "the way out can't even be made: {away:?}");
    let told = ctx.try_run_tasks(0..2, move |task| {
        let folder = granted("data")?;
        let mut told = BTreeMap::<String, u32>::new();
        if task == 0 {
            while !Path::new("data/raced").exists() {
                for (from, to) in
                    [("there", "kept"), ("away", "there"), ("there", "away"), ("kept", "there")]
                {
                    folder
                        .rename_at(from, &folder, to)
                        .map_err(|code| anyhow!("{from}: {code}"))?;
                }
            }
            return Ok(told);
        }
        for round in 0..100 * rounds {
            // Until it saw both sides.
            if round >= rounds && told.contains_key(READ) && told.contains_key("not-permitted") {
                break;
            }
            for path in ["there/secret.txt", "there/data/../secret.txt"] {
                *told.entry(read_there(&folder, path).to_owned()).or_default() += 1;
            }
        }
        fs::write("data/raced", "")?;
        Ok(told)
    })?;
    let count = |outcome: &str| told[1].get(outcome).copied().unwrap_or(0);
    ensure!(count(ESCAPED) == 0, "ESCAPED: {told:?}");
    ensure!(count(READ) > 0 && count("not-permitted") > 0, "no race was run: {told:?}");
    fs::remove_file("data/raced")?;
    Ok("never got out".into())
}

/// The driver lists a file, and swaps its folder before any task opens it.
fn late_source(ctx: &Context, _: &str) -> Result<String> {
    decoy()?;
    let lines = ctx.text_file("data/there/secret.txt")?;
    swap()?;
    match lines.collect() {
        Ok(lines) => bail!("ESCAPED: it read {lines:?}"),
        Err(error) => Ok(format!("refused: {error:#}")),
    }
}

/// The folder above an output is swapped while that is written.
fn late_output(ctx: &Context, way: &str) -> Result<String> {
    decoy()?;
    let told = match way {
        "by-a-task" => {
            let numbers = ctx.range(0..1, 1).try_map(|n| swap().map(|()| n.to_string()));
            numbers.save_as_text_file("data/there/out").map_err(|error| format!("{error:#}"))
        }
        _ => {
            let (path, compression) = ("data/there/out".into(), driver::Compression::None);
            let spec = driver::OutputSpec { path, extension: String::new(), compression };
            let output = driver::open_output(&spec).map_err(Error::msg)?;
            swap()?;
            driver::commit_output(output)
        }
    };
    let is_inside = Path::new("data/kept/out/_SUCCESS").exists();
    let left = granted("data")?.unlink_file_at("there");
    ensure!(left.is_ok(), "the way out is gone: {left:?}");
    fs::remove_dir_all("data/kept")?;
    Ok(match told {
        Ok(()) if is_inside => "written where it was begun".into(),
        Ok(()) => "ESCAPED: it is written somewhere else".into(),
        Err(text) => format!("refused: {text}"),
    })
}

/// What a refusal begins with that no wall is known for.
const UNKNOWN: &str = "unknown: ";

/// Which of the walls refused it.
fn reason(error: &Error, walls: &[&str]) -> String {
    let text = format!("{error:#}");
    let wall = walls.iter().find(|wall| text.contains(**wall));
    wall.map_or_else(|| format!("{UNKNOWN}{text}"), |wall| (*wall).to_owned())
}

/// As [`all_refused`], by walls that are known.
fn all_refused_for_that(tried: &[(String, Result<(), String>)]) -> Result<String> {
    let is_unknown =
        |told: &Result<(), String>| matches!(told, Err(why) if why.starts_with(UNKNOWN));
    let unknown = tried.iter().find(|(_, told)| is_unknown(told));
    ensure!(unknown.is_none(), "it is refused for another reason: {unknown:?}");
    all_refused(tried.iter().cloned())
}

/// What the host opens for the job, by its path.
fn sources(ctx: &Context, _: &str) -> Result<String> {
    let folder = granted("data")?;
    let _ = folder.symlink_at("../secret.txt", "leak.txt");
    let paths = [
        "secret.txt",
        "data/../secret.txt",
        "./data/./../secret.txt",
        "../data/in.txt",
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/self/root/etc/passwd",
        "file:///etc/passwd",
        "data/leak.txt",
        "data/l*.txt",
        "data/*/../../secret.txt",
        "*",
        "**/secret.txt",
        "",
        "\0",
        "http://169.254.169.254/latest/meta-data",
        "s3://bucket/key",
    ];
    let tried = paths.map(|path| {
        let outcome = ctx.text_file(path).and_then(|lines| lines.count());
        let walls = [
            "isn't allowed",
            "symbolic link",
            "stands for no file",
            "zero byte",
            "a path is empty",
        ];
        let told = outcome.map(|_| ()).map_err(|error| reason(&error, &walls));
        (path.to_owned(), told)
    });
    let _ = folder.unlink_file_at("leak.txt");
    all_refused_for_that(&tried)
}

fn outputs(ctx: &Context, _: &str) -> Result<String> {
    let folder = granted("data")?;
    let _ = folder.symlink_at("..", "up");
    let paths = [
        "out",
        "../out",
        "data/../out",
        "/tmp/hostile-out",
        "data/up/out",
        "ro/out",
        "data/in.txt",
        "data/in.txt/out",
        "",
        "\0",
        "s3://bucket/key",
    ];
    let tried = paths.map(|path| {
        let outcome = ctx.range(0..2, 1).map(|n| n.to_string()).save_as_text_file(path);
        let walls = [
            "isn't allowed",
            "symbolic link",
            "exists already",
            "zero byte",
            "a path is empty",
            "Not a directory",
        ];
        let told = outcome.map_err(|error| reason(&error, &walls));
        (path.to_owned(), told)
    });
    let _ = folder.unlink_file_at("up");
    all_refused_for_that(&tried)
}

/// A file that says it is larger than any disk.
fn sparse(_: &str) -> Result<String> {
    let folder = granted("data")?;
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let file = folder.open_at(PathFlags::empty(), "huge", OpenFlags::CREATE, flags);
    let file = file.map_err(|code| anyhow!("huge: {}", code.name()))?;
    // Some file systems have files so large, of which nothing is stored.
    let _ = file.set_size(1 << 60);
    let write = told(file.write(b"x", u64::MAX - 8));
    drop(file);
    let _ = folder.unlink_file_at("huge");
    all_refused([("a byte far away".into(), write)])
}

/// The same for the host to read: one line of a terabyte, of which nothing is stored.
fn sparse_source(ctx: &Context, _: &str) -> Result<String> {
    fs::File::create("data/huge")?.set_len(1 << 40)?;
    let told = ctx.text_file("data/huge").and_then(|lines| lines.count());
    fs::remove_file("data/huge")?;
    Ok(match told {
        Ok(lines) => format!("read {lines} lines"),
        Err(error) => format!("refused: {error:#}"),
    })
}
