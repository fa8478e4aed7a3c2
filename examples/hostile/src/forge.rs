//! Numbers that were never given out, and calls that aren't the caller's to make.

use ingle::__private::bindings::ingle::job::driver;
use ingle::__private::bindings::ingle::job::{image, task, types};
use ingle::prelude::*;
use wasip2::filesystem::types::Descriptor;

use crate::Attack;

pub fn attack(name: &str) -> Option<Attack> {
    Some(match name {
        "forged-reader" => Attack::Anywhere(readers),
        "forged-run" => Attack::Anywhere(runs),
        "forged-source" => Attack::Anywhere(sources),
        "forged-cache" => Attack::Anywhere(caches),
        "forged-shuffle" => Attack::Anywhere(shuffles),
        "forged-handle" => Attack::Anywhere(handles),
        "forged-image" => Attack::Anywhere(images),
        "other-role" => Attack::Anywhere(roles),
        "forged-partition" => Attack::Planned(partitions),
        "forged-id" => Attack::Planned(ids),
        "forged-entry" => Attack::Planned(entries),
        _ => return None,
    })
}

fn readers(way: &str) -> Result<String> {
    match way {
        "read" => _ = task::read(12_345),
        "close" => task::close(0),
        "twice" => {
            let run = task::create_run();
            let reader = task::open_run(run);
            task::close(reader);
            task::close(reader);
        }
        "describe" => _ = task::describe(u32::MAX),
        "line" => _ = task::line_number(7, u64::MAX),
        "extent" => _ = task::split_extent(7),
        _ => {
            // A reader of another kind.
            let reader = task::open_run(task::create_run());
            _ = task::read_at(reader, u64::MAX, u32::MAX);
        }
    }
    Ok("taken".into())
}

fn runs(way: &str) -> Result<String> {
    match way {
        "write" => task::write_run(999, b"x"),
        "open" => _ = task::open_run(u32::MAX),
        "drop" => task::drop_run(1),
        _ => {
            let run = task::create_run();
            task::drop_run(run);
            task::write_run(run, b"x");
        }
    }
    Ok("taken".into())
}

fn sources(way: &str) -> Result<String> {
    let (source, split) = if way == "split" { (0, u32::MAX) } else { (999, 0) };
    Ok(format!("taken: {:?}", task::open_split(source, split).map(|_| ())))
}

fn caches(way: &str) -> Result<String> {
    match way {
        "open" => _ = task::open_cached(77, 0),
        "finish" => task::finish_cached(u32::MAX, u32::MAX),
        _ => _ = task::write_cached(99, u32::MAX, b"x"),
    }
    Ok("taken".into())
}

/// Of a stage that is no input of this one, and of none.
fn shuffles(way: &str) -> Result<String> {
    match way {
        "range" => _ = task::open_shuffle_range(0, u32::MAX, u32::MAX),
        "none" => _ = task::open_shuffle_range(0, 0, 0),
        "part" => _ = task::open_shuffle_part(1, 0, u32::MAX, u32::MAX),
        _ => _ = task::open_shuffle(u32::MAX, 0),
    }
    Ok("taken".into())
}

/// A handle that was never given out.
fn handles(way: &str) -> Result<String> {
    let handle = way.parse()?;
    // SAFETY: no memory stands behind a handle's number; the host must know which are its own.
    let forged = unsafe { Descriptor::from_handle(handle) };
    let taken = forged.stat().map(|_| ());
    std::mem::forget(forged);
    Ok(format!("taken: {taken:?}"))
}

fn memory(start: usize, length: usize) -> &'static [u8] {
    // SAFETY: the host is given its place and length only; nothing here reads it.
    unsafe { std::slice::from_raw_parts(start as *const u8, length) }
}

fn images(way: &str) -> Result<String> {
    let all = core::arch::wasm32::memory_size(0) << 16;
    let told = match way {
        "unannounced" => image::capture(memory(4096, all - 4096)).map(|_| ()),
        "other-length" => image::announce(1 << 20)
            .and_then(|()| image::capture(memory(4096, all - 4096)))
            .map(|_| ()),
        "unaligned" => image::announce((all - 4097) as u64)
            .and_then(|()| image::capture(memory(4097, all - 4097)))
            .map(|_| ()),
        "endless" => image::announce(u64::MAX),
        "release" => {
            image::release(4_000_000);
            Ok(())
        }
        "restore" => {
            image::restore(memory(4096, all - 4096));
            Ok(())
        }
        _ => {
            // Only once may it be told; a second time there is none.
            let told = image::layout().is_none();
            return Ok(format!("told again: {}", !told));
        }
    };
    Ok(format!("taken: {told:?}"))
}

/// A task that plays the driver, or the driver a task.
fn roles(way: &str) -> Result<String> {
    match way {
        "run" => _ = driver::run(0),
        "define" => _ = driver::define_stage(&stage(0)),
        "cancel" => driver::cancel(0),
        "setting" => _ = driver::setting("ingle.executor.memory"),
        "emit" => task::emit(b"x"),
        "layout" => _ = image::layout(),
        _ => _ = task::context().executor,
    }
    Ok("taken".into())
}

fn stage(entry: u64) -> driver::StageSpec {
    driver::StageSpec {
        name: "forged".into(),
        operators: Vec::new(),
        tasks: 1,
        inputs: Vec::new(),
        output: driver::Output::Results,
        entry,
        payload: Vec::new(),
        image: None,
    }
}

/// Blocks for partitions that aren't there, and partitions that are another's.
fn partitions(ctx: &Context, way: &str) -> Result<String> {
    let at_map = match way {
        "write" => Some(u32::MAX),
        "just-one-more" => Some(3),
        _ => None,
    };
    let way = way.to_owned();
    let pairs = ctx.range(0..100, 4).map(move |n| {
        if let Some(partition) = at_map {
            task::write(partition, b"forged");
        }
        (n % 10, n)
    });
    let sums = pairs.reduce_by_key_with_partitions(|a, b| a + b, 3).map(move |pair| {
        // What its own stage reads was defined just before it.
        let input = task::context().stage - 1;
        match way.as_str() {
            "read" => _ = task::open_shuffle(input, 3),
            "far" => _ = task::open_shuffle(input, u32::MAX),
            "range" => _ = task::open_shuffle_range(input, 2, u32::MAX),
            "none" => _ = task::open_shuffle_range(input, 0, 0),
            "stranger" => _ = task::open_shuffle(0, 0),
            _ => {}
        }
        pair
    });
    Ok(format!("taken: {}", sums.count()?))
}

/// Ids of the driver's own calls. Each ends the driver.
fn ids(_: &Context, way: &str) -> Result<String> {
    match way {
        "job" => _ = driver::next(999).map(|_| ()),
        "cancel" => driver::cancel(u32::MAX),
        "stage" => driver::drop_stage(999_999),
        "run" => return Ok(format!("{:?}", driver::run(999_999))),
        "output" => _ = driver::commit_output(999),
        "drop-output" => driver::drop_output(999),
        "cache" => driver::drop_cache(999),
        "image" => {
            let spec = driver::StageSpec { image: Some(4_000_000), ..stage(0) };
            _ = driver::define_stage(&spec);
        }
        "input" => {
            let inputs = vec![driver::Input::Shuffle(types::StageId::MAX)];
            return Ok(format!(
                "{:?}",
                driver::define_stage(&driver::StageSpec { inputs, ..stage(0) })
            ));
        }
        "source" => {
            let inputs = vec![driver::Input::Source(types::SourceId::MAX)];
            return Ok(format!(
                "{:?}",
                driver::define_stage(&driver::StageSpec { inputs, ..stage(0) })
            ));
        }
        _ => bail!("which id?"),
    }
    Ok("taken".into())
}

/// A task that is to run what no closure is: an address that means nothing, without the memory that it means nothing in.
fn entries(_: &Context, way: &str) -> Result<String> {
    let entry = match way {
        "zero" => 0,
        "far" => u64::MAX,
        "odd" => 0x0123_4567,
        _ => 1 << 32,
    };
    let stage = driver::define_stage(&stage(entry)).map_err(Error::msg)?;
    let job = driver::run(stage).map_err(Error::msg)?;
    loop {
        match driver::next(job) {
            Ok(results) if results.is_empty() => return Ok("taken".into()),
            Ok(_) => {}
            Err(text) => return Ok(text),
        }
    }
}
