//! A job against its twin: whole processes in turn, on the same input.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::measure::{Run, Sample, run};

/// Where the programs and the files are.
#[derive(Debug)]
pub struct Places {
    /// The folder of `rsubmit` and `twin`.
    pub tools: PathBuf,
    /// The folder of the jobs' components.
    pub guests: PathBuf,
    /// The folder of made-up data, and of outputs.
    pub data: PathBuf,
}

impl Places {
    /// Says what isn't built yet.
    pub fn check(&self) -> Result<()> {
        for tool in ["rsubmit", "twin"] {
            let path = self.tools.join(tool);
            ensure!(
                path.exists(),
                "{} isn't there: run `cargo build --release` first",
                path.display()
            );
        }
        Ok(())
    }

    /// `rsubmit` with flags, of an example job with arguments. May read the data and write outputs.
    pub fn job(&self, flags: &[&str], name: &str, args: &[&str]) -> Result<Command> {
        let wasm = self.guests.join(name).with_extension("wasm");
        ensure!(wasm.exists(), "{} isn't there: run `cargo xtask guests` first", wasm.display());
        let mut command = Command::new(self.tools.join("rsubmit"));
        command.args(flags);
        for allow in ["--allow-read=", "--allow-write="] {
            let mut flag = std::ffi::OsString::from(allow);
            flag.push(&self.data);
            command.arg(flag);
        }
        command.arg(wasm).args(args);
        Ok(command)
    }

    /// The native twin of a job, on 2 threads.
    pub fn twin(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.tools.join("twin"));
        command.args(["--threads", "2", name]).args(args);
        command
    }
}

/// One side's run and the folder that it wrote, if it writes one.
pub struct Side {
    /// The run.
    pub run: Run,
    /// Its output.
    pub out: PathBuf,
}

/// Runs of a job and of its twin.
#[derive(Debug, Default)]
pub struct Sides {
    /// The job's.
    pub job: Sample,
    /// The twin's.
    pub twin: Sample,
}

impl Sides {
    /// How many times longer the job takes.
    pub fn ratio(&self) -> f64 {
        self.job.wall().as_secs_f64() / self.twin.wall().as_secs_f64()
    }
}

/// Runs both sides in turn, `runs` times after one round that fills the caches and whose results must agree.
///
/// Each side is given a folder that doesn't exist, to write to.
pub fn compare(
    places: &Places,
    runs: usize,
    job: impl Fn(&str) -> Result<Command>,
    twin: impl Fn(&str) -> Result<Command>,
    agree: impl Fn(&Side, &Side) -> Result<()>,
) -> Result<Sides> {
    let work = tempfile::Builder::new().prefix(".out-").tempdir_in(&places.data)?;
    let side = |name: &str, command: &dyn Fn(&str) -> Result<Command>| -> Result<Side> {
        let out = work.path().join(name);
        remove(&out)?;
        // What an earlier run left to be written must not slow this one down.
        rustix::fs::sync();
        let run = run(command(out.to_str().context("the data folder's name isn't UTF-8")?)?)?;
        Ok(Side { run, out })
    };

    agree(&side("job", &job)?, &side("twin", &twin)?)?;
    let mut sides = Sides::default();
    for _ in 0..runs {
        sides.job.0.push(side("job", &job)?.run);
        sides.twin.0.push(side("twin", &twin)?.run);
    }
    Ok(sides)
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("can't remove {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(dir: &Path) -> Places {
        Places { tools: dir.join("tools"), guests: dir.join("guests"), data: dir.to_owned() }
    }

    fn sh(script: String) -> Result<Command> {
        let mut command = Command::new("sh");
        command.args(["-ec", &script]);
        Ok(command)
    }

    #[test]
    fn each_run_finds_its_output_free_and_the_first_results_are_compared() {
        let dir = tempfile::tempdir().unwrap();
        let write = |word: &str, out: &str| sh(format!("mkdir {out}; echo {word} > {out}/part"));
        let part = |side: &Side| fs::read_to_string(side.out.join("part")).unwrap();
        let sides = |words: [&str; 2]| {
            let agree = |a: &Side, b: &Side| {
                ensure!(part(a) == part(b), "they differ");
                Ok(())
            };
            compare(
                &places(dir.path()),
                3,
                |out| write(words[0], out),
                |out| write(words[1], out),
                agree,
            )
        };
        let same = sides(["one", "one"]).unwrap();
        assert_eq!((same.job.0.len(), same.twin.0.len()), (3, 3));
        assert_eq!(sides(["one", "two"]).unwrap_err().to_string(), "they differ");
    }

    #[test]
    fn what_is_not_built_is_named_with_what_builds_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = places(dir.path()).check().unwrap_err().to_string();
        assert!(error.contains("rsubmit") && error.contains("cargo build --release"), "{error}");
        let error = places(dir.path()).job(&[], "pi", &[]).unwrap_err().to_string();
        assert!(error.contains("pi.wasm") && error.contains("cargo xtask guests"), "{error}");
    }
}
