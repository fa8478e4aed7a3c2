//! Ways out of a granted folder. The folder `data` is granted for both, `ro` for reading; `secret.txt` lies beside them.

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
        "source-escape" => Attack::Planned(sources),
        "output-escape" => Attack::Planned(outputs),
        "sparse-file" => Attack::Anywhere(sparse),
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
        "in.txt\0/../../secret.txt",
        "",
        &deep,
        &long,
    ];
    open_file(&folder)?;
    let mut attempts = Vec::new();
    for path in paths {
        let shown: String = path.chars().take(40).collect();
        let opened = told(open(&folder, path));
        // What leads out is refused for that, not since it isn't there.
        let leads_out = path.starts_with(['/', '.']) || path.starts_with("sub/");
        ensure!(
            !leads_out || opened == Err("not-permitted".into()),
            "{shown} is refused for another reason: {opened:?}"
        );
        attempts.push((format!("open {shown}"), opened));
        let stat = folder.stat_at(PathFlags::SYMLINK_FOLLOW, path);
        attempts.push((format!("stat {shown}"), told(stat)));
        let made = folder.create_directory_at(path);
        attempts.push((format!("mkdir {shown}"), told(made)));
        let removed = folder.unlink_file_at(path);
        attempts.push((format!("unlink {shown}"), told(removed)));
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

/// One task swaps a folder for a link out of the grant, all the time, while another opens a file through it.
fn race(ctx: &Context, way: &str) -> Result<String> {
    let rounds: u32 = way.parse()?;
    {
        let folder = granted("data")?;
        // What an earlier race left, whichever it is now.
        for name in ["there", "away", "kept"] {
            let _ = (folder.unlink_file_at(name), folder.remove_directory_at(name));
        }
        let _ = folder.create_directory_at("there");
        let away = folder.symlink_at("..", "away");
        ensure!(away.is_ok(), "the way out can't even be made: {away:?}");
    }
    let told = ctx.try_run_tasks(0..2, move |task| {
        let folder = granted("data")?;
        let (mut swapped, mut opened, mut failed) = (0u32, 0u32, 0u32);
        for _ in 0..rounds {
            if task == 0 {
                for (from, to) in
                    [("there", "kept"), ("away", "there"), ("there", "away"), ("kept", "there")]
                {
                    swapped += u32::from(folder.rename_at(from, &folder, to).is_ok());
                }
            } else {
                for path in ["there/secret.txt", "there/data/../secret.txt"] {
                    match open(&folder, path) {
                        Ok(_) => opened += 1,
                        Err(_) => failed += 1,
                    }
                }
            }
        }
        Ok((swapped, opened, failed))
    })?;
    let opened: u32 = told.iter().map(|(_, opened, _)| opened).sum();
    ensure!(opened == 0, "ESCAPED {opened} times: {told:?}");
    ensure!(told[0].0 > 0 && told[1].2 > 0, "no race was run: {told:?}");
    Ok("never got out".into())
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
        let told = outcome.map(|_| ()).map_err(|error| {
            let text = format!("{error:#}");
            let why = ["isn't allowed", "symbolic link", "stands for no file", "zero byte"];
            why.into_iter().find(|why| text.contains(why)).map_or(text.clone(), str::to_owned)
        });
        (path.to_owned(), told)
    });
    let _ = folder.unlink_file_at("leak.txt");
    all_refused(tried)
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
        let told = outcome.map_err(|error| {
            let text = format!("{error:#}");
            let why = ["isn't allowed", "symbolic link", "exists already", "zero byte"];
            why.into_iter().find(|why| text.contains(why)).map_or(text.clone(), str::to_owned)
        });
        (path.to_owned(), told)
    });
    let _ = folder.unlink_file_at("up");
    all_refused(tried)
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
