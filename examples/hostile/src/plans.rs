//! Too much of what a driver may plan. Without the SDK, which would be in the way.

use ingle::__private::bindings::ingle::job::{driver, image};
use ingle::prelude::*;

use crate::Attack;

pub fn attack(name: &str) -> Option<Attack> {
    Some(match name {
        "stage-flood" => Attack::Planned(stages),
        "huge-stage" => Attack::Planned(huge),
        "job-flood" => Attack::Planned(jobs),
        "output-flood" => Attack::Planned(outputs),
        "cache-flood" => Attack::Planned(caches),
        "image-flood" => Attack::Planned(images),
        "source-flood" => Attack::Planned(sources),
        "split-flood" => Attack::Planned(splits),
        _ => return None,
    })
}

fn stage() -> driver::StageSpec {
    driver::StageSpec {
        name: "flood".into(),
        operators: Vec::new(),
        tasks: 1,
        inputs: Vec::new(),
        output: driver::Output::Results,
        entry: 0,
        payload: Vec::new(),
        image: None,
    }
}

/// Calls until it is told to stop.
fn until_refused(mut call: impl FnMut() -> Result<(), String>) -> Result<String> {
    for n in 0..1_200_000u32 {
        if let Err(text) = call() {
            return Ok(format!("refused after {n}: {text}"));
        }
    }
    Ok("never refused".into())
}

fn stages(_: &Context, _: &str) -> Result<String> {
    until_refused(|| driver::define_stage(&stage()).map(|_| ()))
}

fn huge(_: &Context, way: &str) -> Result<String> {
    let spec = match way {
        "tasks" => driver::StageSpec { tasks: u32::MAX, ..stage() },
        "partitions" => driver::StageSpec { output: driver::Output::Shuffle(u32::MAX), ..stage() },
        "inputs" => {
            let input = driver::define_stage(&driver::StageSpec {
                output: driver::Output::Shuffle(1),
                ..stage()
            });
            let input = driver::Input::Shuffle(input.map_err(Error::msg)?);
            driver::StageSpec { inputs: vec![input; 100_000], ..stage() }
        }
        "name" => driver::StageSpec { name: "x".repeat(16 << 20), ..stage() },
        "payload" => driver::StageSpec { payload: vec![7; 50 << 20], ..stage() },
        "operators" => driver::StageSpec { operators: vec!["x".repeat(100); 1_000_000], ..stage() },
        _ => bail!("huge in what?"),
    };
    Ok(match driver::define_stage(&spec) {
        Ok(_) => "taken".into(),
        Err(text) => format!("refused: {text}"),
    })
}

/// So many at a time, of which nobody takes the results.
fn jobs(ctx: &Context, _: &str) -> Result<String> {
    let mut held = Vec::new();
    let numbers = ctx.range(0..1, 1);
    let told = until_refused(|| {
        held.push(numbers.for_each_async(|_| ()).map_err(|error| format!("{error:#}"))?);
        Ok(())
    });
    drop(held);
    told
}

fn outputs(_: &Context, _: &str) -> Result<String> {
    let mut n = 0;
    let mut open = Vec::new();
    let told = until_refused(|| {
        n += 1;
        let compression = driver::Compression::None;
        let path = format!("data/out-{n}");
        let spec = driver::OutputSpec { path, extension: String::new(), compression };
        open.push(driver::open_output(&spec)?);
        Ok(())
    });
    open.into_iter().for_each(driver::drop_output);
    told
}

fn caches(_: &Context, _: &str) -> Result<String> {
    // Beyond its bound it ends the driver.
    until_refused(|| {
        driver::new_cache(driver::StorageLevel::MemoryOnly);
        Ok(())
    })
}

fn images(_: &Context, _: &str) -> Result<String> {
    until_refused(|| {
        let all = core::arch::wasm32::memory_size(0) << 16;
        let start = 1 << 20;
        image::announce((all - start) as u64)?;
        // SAFETY: the host copies it during the call; nothing here reads it.
        image::capture(unsafe { std::slice::from_raw_parts(start as *const u8, all - start) })?;
        Ok(())
    })
}

fn source(path: &str, min_splits: u32) -> Result<(), String> {
    let spec =
        driver::SourceSpec { path: path.into(), framing: driver::Framing::Lines, min_splits };
    driver::open_source(&spec).map(|_| ())
}

fn sources(_: &Context, _: &str) -> Result<String> {
    until_refused(|| source("data/in.txt", 0))
}

fn splits(_: &Context, _: &str) -> Result<String> {
    Ok(match source("data/in.txt", u32::MAX) {
        Ok(()) => "taken".into(),
        Err(text) => format!("refused: {text}"),
    })
}
