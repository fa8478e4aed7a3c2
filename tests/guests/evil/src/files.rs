//! Files by `std::fs`: in the driver, in tasks, and carried from one to the other.

use std::fs::File;
use std::io::{Read, Write};

use ingle::prelude::*;

use crate::{Behaviour, arg, number};

pub fn behaviour(name: &str) -> Option<Behaviour> {
    Some(match name {
        "read" => read,
        "read-in-task" => read_in_task,
        "write" => write,
        "write-in-task" => write_in_task,
        "list" => list,
        "read-later" => read_later,
        "captured-file" => captured,
        "captured-files" => captured_two,
        "captured-both" => captured_both,
        "captured-after-own" => captured_after_own,
        "captured-after-leak" => captured_after_leak,
        "captured-write" => captured_write,
        "captured-dropped" => captured_dropped,
        "leaked-files" => leaked,
        _ => return None,
    })
}

fn read(_: &Context, args: &[String]) -> Result<()> {
    let path = arg(args, 0)?;
    print!("{}", std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?);
    Ok(())
}

fn read_in_task(ctx: &Context, args: &[String]) -> Result<()> {
    let path = arg(args, 0)?;
    let texts = ctx.try_run_tasks(0..20, move |_| {
        std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    })?;
    ensure!(texts.iter().all(|text| *text == texts[0]), "tasks read different things");
    print!("{}", texts[0]);
    Ok(())
}

fn write(_: &Context, args: &[String]) -> Result<()> {
    let path = arg(args, 0)?;
    std::fs::write(&path, "written\n").with_context(|| format!("writing {path}"))
}

fn write_in_task(ctx: &Context, args: &[String]) -> Result<()> {
    let path = arg(args, 0)?;
    ctx.try_run_tasks(0..3, move |task| {
        let path = format!("{path}-{task}");
        std::fs::write(&path, format!("by {task}\n")).with_context(|| format!("writing {path}"))
    })?;
    Ok(())
}

fn list(_: &Context, args: &[String]) -> Result<()> {
    let path = arg(args, 0)?;
    for entry in std::fs::read_dir(&path).with_context(|| format!("listing {path}"))? {
        println!("{}", entry?.file_name().display());
    }
    Ok(())
}

fn text_of(mut file: &File) -> Result<String> {
    let mut text = String::new();
    file.read_to_string(&mut text).context("reading a captured file")?;
    Ok(text)
}

/// Waits until there is `go` in a folder, then has the host read a file: `read-later FOLDER FILE`.
fn read_later(ctx: &Context, args: &[String]) -> Result<()> {
    let (go, file) = (format!("{}/go", arg(args, 0)?), arg(args, 1)?);
    eprintln!("started");
    while !std::path::Path::new(&go).exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    println!("{:?}", ctx.text_file(&file)?.collect()?);
    Ok(())
}

fn captured(ctx: &Context, args: &[String]) -> Result<()> {
    let file = File::open(arg(args, 0)?)?;
    println!("{:?}", ctx.try_run_tasks(0..4, move |_| text_of(&file))?);
    Ok(())
}

/// Two files in two closures, the second opened first in its task.
fn captured_two(ctx: &Context, args: &[String]) -> Result<()> {
    let (one, two) = (File::open(arg(args, 0)?)?, File::open(arg(args, 1)?)?);
    println!("{:?}", ctx.try_run_tasks(0..2, move |_| text_of(&two))?);
    println!("{:?}", ctx.try_run_tasks(0..2, move |_| text_of(&one))?);
    Ok(())
}

/// Two files in one closure, the second used first.
fn captured_both(ctx: &Context, args: &[String]) -> Result<()> {
    let (one, two) = (File::open(arg(args, 0)?)?, File::open(arg(args, 1)?)?);
    println!("{:?}", ctx.try_run_tasks(0..2, move |_| Ok((text_of(&two)?, text_of(&one)?)))?);
    Ok(())
}

/// Even tasks leave a file of their own open; odd ones, in the same sandbox perhaps, use the captured one.
fn captured_after_leak(ctx: &Context, args: &[String]) -> Result<()> {
    let (captured, own) = (File::open(arg(args, 0)?)?, arg(args, 1)?);
    let texts = ctx.try_run_tasks(0..20, move |task| {
        if task % 2 == 0 {
            std::mem::forget(File::open(&own).context("opening the task's own")?);
            return Ok(String::new());
        }
        text_of(&captured)
    })?;
    println!("{texts:?}");
    Ok(())
}

/// What a task writes to the captured file must never be in its own.
fn captured_write(ctx: &Context, args: &[String]) -> Result<()> {
    let (captured, own) = (File::create(arg(args, 0)?)?, arg(args, 1)?);
    ctx.try_run_tasks(0..1, move |_| {
        let _own = File::create(&own).context("making the task's own")?;
        (&captured).write_all(b"for the captured file").context("writing a captured file")
    })?;
    println!("written");
    Ok(())
}

/// A task that opens a file of its own must never read that by the captured one.
fn captured_after_own(ctx: &Context, args: &[String]) -> Result<()> {
    let (captured, own) = (File::open(arg(args, 0)?)?, arg(args, 1)?);
    let texts = ctx.try_run_tasks(0..4, move |_| {
        let own = File::open(&own).context("opening the task's own")?;
        let (of_captured, of_own) = (text_of(&captured)?, text_of(&own)?);
        Ok((of_captured, of_own))
    })?;
    println!("{texts:?}");
    Ok(())
}

/// Captured, never used, and dropped with its closure.
fn captured_dropped(ctx: &Context, args: &[String]) -> Result<()> {
    let (file, own) = (File::open(arg(args, 0)?)?, arg(args, 1)?);
    let texts = ctx.try_run_tasks(0..20, move |_| {
        let _unused = &file;
        std::fs::read_to_string(&own).with_context(|| format!("reading {own}"))
    })?;
    ensure!(texts.iter().all(|text| *text == texts[0]), "tasks read different things");
    print!("{}", text_of(&File::open(arg(args, 0)?)?)?);
    Ok(())
}

/// Files that tasks open and never close: `leaked-files PATH TASKS`.
fn leaked(ctx: &Context, args: &[String]) -> Result<()> {
    let path = arg(args, 0)?;
    ctx.try_run_tasks(0..number(args, 1)?, move |_| {
        std::mem::forget(File::open(&path).with_context(|| format!("opening {path}"))?);
        Ok(())
    })?;
    println!("all opened");
    Ok(())
}
