//! The walls of `rsubmit`'s own process, where a job, or its driver, runs in it; and how that job comes to be there: what is read, opened and
//! compiled before they are raised is none of a guest's doing, all that comes later may be.

use std::path::Path;
use std::sync::Arc;

use ingle_blocks::SpillFolder;
use ingle_cluster::{Access, AccessSpec, Own, StartError};
use ingle_sandbox::{CodeCache, ComponentHash, Interrupt, Job, Sandbox};
use ingle_walls::{Down, Inherited, Wall};

use crate::compiling::{self, Uncompiled};
use crate::console::Console;
use crate::exit::Failure;
use crate::options::Options;
use crate::settings::{REQUIRE_WALLS, WALLS};
use crate::submit::{self, Signals};
use crate::{access, job_file};

/// What a user wants of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Walls {
    /// Those that this host has; the job doesn't run without these.
    Up(Vec<String>),
    /// None.
    Off,
}

impl Walls {
    /// As settings say it.
    pub fn of(walls: Option<&str>, required: Option<&str>) -> Result<Self, Failure> {
        let required: Vec<String> = required
            .map(|names| names.split(',').map(|name| name.trim().to_owned()).collect())
            .unwrap_or_default();
        let bad = |why: String| Failure::usage(format!("--require-walls: {why}"));
        ingle_cluster::check_wall_names(&required).map_err(bad)?;
        let others =
            required.iter().find(|name| Wall::named(name).is_some_and(Wall::is_put_around));
        if let Some(name) = others {
            return Err(bad(format!(
                "only a worker puts `{name}` around a process that runs a job; rsubmit doesn't have it"
            )));
        }
        match walls {
            None | Some("on") => Ok(Self::Up(required)),
            Some("off") if required.is_empty() => Ok(Self::Off),
            Some("off") => {
                Err(Failure::usage(format!("{WALLS} is off, and {REQUIRE_WALLS} asks for walls")))
            }
            Some(other) => Err(Failure::usage(format!("{WALLS} is `{other}`; it is on or off"))),
        }
    }
}

/// The error: one doesn't stand that must.
pub fn check(down: &[Down], required: &[String]) -> Result<(), Failure> {
    match ingle_cluster::lacking_wall(down, required) {
        Some(down) => Err(Failure::host(format!("{down}; --require-walls asks for it"))),
        None => Ok(()),
    }
}

/// A job that is to run here.
pub struct Wanted<'a> {
    pub options: &'a Options,
    pub name: &'a str,
    pub spec: &'a AccessSpec,
    pub cache: Option<&'a Path>,
    pub interrupt: Interrupt,
    pub spill_parent: &'a Path,
    /// Its master's port, if this process connects with one.
    pub master: Option<u16>,
    pub walls: Walls,
    /// What this process's parent left open, if that is known.
    pub inherited: Result<Inherited, String>,
}

/// The same, once nothing of this process's own is left to be done before it runs.
pub struct Ready {
    pub job: Job,
    /// Its file.
    pub bytes: Vec<u8>,
    pub access: Access,
    pub spill: Arc<SpillFolder>,
}

impl Wanted<'_> {
    /// Opens what it was granted, reads it, and raises the walls.
    pub fn ready(self, console: &Console) -> Result<(Ready, Signals), Failure> {
        let offer = access::offer(self.options)?;
        // It may come from whoever takes long to say it.
        let bytes = job_file::read(self.options.job())?;
        let listen =
            || Signals::listen().map_err(|e| Failure::host(format!("waiting for signals: {e}")));
        // Made once there is somebody who hears that it must be removed again.
        let open = || {
            let spill = SpillFolder::new(self.spill_parent)
                .map_err(|e| Failure::host(StartError::from(e).to_string()))?;
            let access = self.spec.open(spill.path(), &offer);
            let access = access.map_err(|broken| Failure::usage(broken.to_string()))?;
            Ok::<_, Failure>((spill, access))
        };
        let (job, signals, spill, access) = match &self.walls {
            Walls::Up(required) => {
                let mut signals = listen()?;
                let (spill, access) = open()?;
                let code = self.code(&bytes, required, &mut signals, console)?;
                let sockets = ingle_cluster::sockets_with(&access, self.master);
                let own = Own {
                    write: vec![spill.path().to_owned()],
                    // The folder itself.
                    clear: vec![self.spill_parent.to_owned()],
                    sockets,
                    owns_all: true,
                    ..Own::default()
                };
                let mut down = Vec::new();
                match self.inherited {
                    Ok(inherited) => inherited.close(),
                    Err(why) => down.push(Down::new(Wall::Descriptors, why)),
                }
                down.extend(ingle_cluster::raise_some_walls(own, &access.grants));
                check(&down, required)?;
                down.iter().for_each(|down| tracing::info!("{down}"));
                let job = code.take(self.options.job(), &bytes, self.name, &mut signals)?;
                (job, signals, spill, access)
            }
            Walls::Off => {
                let job = job_file::load(
                    self.options.job(),
                    &bytes,
                    submit::open_cache(self.cache),
                    self.interrupt,
                    || self.say_compiling(console),
                )?;
                // From now on: what compiles here hears none.
                let signals = listen()?;
                let (spill, access) = open()?;
                (job, signals, spill, access)
            }
        };
        Ok((Ready { job, bytes, access, spill }, signals))
    }

    fn say_compiling(&self, console: &Console) {
        if console.is_live() || self.options.verbose {
            console.say(format_args!("compiling {}, once ...", self.options.job().display()));
        }
    }

    /// The job's code, out of the cache, or of a process that compiles it.
    fn code(
        &self,
        bytes: &[u8],
        required: &[String],
        signals: &mut Signals,
        console: &Console,
    ) -> Result<Code, Failure> {
        let path = self.options.job();
        job_file::check_kind(path, bytes)?;
        let sandbox =
            Sandbox::new(None, self.interrupt).map_err(|e| Failure::host(e.to_string()))?;
        let (hash, fits) = (ComponentHash::of(bytes), sandbox.fits());
        let cache = submit::open_cache(self.cache);
        if let Some(code) = cache.as_ref().and_then(|cache| cache.find(hash, &fits)) {
            return Ok(Code { sandbox, hash, code: Some(code) });
        }
        self.say_compiling(console);
        let compiled = signals.race(compiling::compile(bytes, self.interrupt, required));
        let made = match compiled.map_err(|code| submit::signalled(self.name, code))? {
            Ok(made) => made,
            Err(Uncompiled::Failed(failure)) => return Err(job_file::of(path, failure)),
            Err(Uncompiled::NoProcess(why)) => {
                tracing::warn!(
                    "no process could be started to compile the job: {why}; it is compiled in this one, and not kept"
                );
                return Ok(Code { sandbox, hash, code: None });
            }
        };
        match ingle_sandbox::split_made(&made) {
            Ok((fitting, code)) if fitting == fits => {
                keep(cache.as_ref(), hash, &made);
                Ok(Code { sandbox, hash, code: Some(code.to_vec()) })
            }
            Ok(_) => Err(gave_none(path, "it isn't for this program")),
            Err(why) => Err(gave_none(path, why)),
        }
    }
}

fn keep(cache: Option<&CodeCache>, hash: ComponentHash, made: &[u8]) {
    if let Some(Err(why)) = cache.map(|cache| cache.store_made(hash, made)) {
        tracing::warn!("a compilation can't be kept: {why}");
    }
}

fn gave_none(path: &Path, why: &str) -> Failure {
    job_file::of(path, Failure::host(format!("what compiles it gave no code: {why}")))
}

/// What is loaded once the walls stand: code of a component that was made to break its compiler may be anything.
struct Code {
    sandbox: Sandbox,
    hash: ComponentHash,
    code: Option<Vec<u8>>,
}

impl Code {
    fn take(
        self,
        path: &Path,
        bytes: &[u8],
        name: &str,
        signals: &mut Signals,
    ) -> Result<Job, Failure> {
        let Self { sandbox, hash, code } = self;
        if let Some(Ok(job)) = code.map(|code| sandbox.take_code(hash, &code)) {
            return Ok(job);
        }
        // There is none, or one of the past. On a thread, behind the same walls, so that signals are heard meanwhile.
        let (done, compiled) = tokio::sync::oneshot::channel();
        let (path, bytes) = (path.to_owned(), bytes.to_owned());
        let compile = move || {
            // Nobody waits any more if a signal came.
            let _ = done.send(job_file::load_in(&sandbox, &path, &bytes, || {}));
        };
        let thread = std::thread::Builder::new().name("compiler".into());
        thread.spawn(compile).map_err(|e| Failure::host(format!("starting to compile: {e}")))?;
        let ended = signals.race(compiled).map_err(|code| submit::signalled(name, code))?;
        ended.unwrap_or_else(|_| Err(Failure::host("what compiles the job ended without a word")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walls_are_up_unless_they_are_switched_off() {
        let of = |walls, required| Walls::of(walls, required).map_err(|failure| failure.text);
        let up = |names: &[&str]| Ok(Walls::Up(names.iter().map(|n| (*n).to_owned()).collect()));
        assert_eq!(of(None, None), up(&[]));
        assert_eq!(of(Some("on"), Some("files, calls")), up(&["files", "calls"]));
        assert_eq!(of(None, Some("all")), up(&["all"]));
        assert_eq!(of(Some("off"), None), Ok(Walls::Off));
        for (walls, required, says) in [
            (Some("off"), Some("all"), "ingle.walls is off"),
            (Some("no"), None, "it is on or off"),
            (None, Some("moat"), "`moat` is no wall"),
            (None, Some("memory"), "only a worker puts `memory` around"),
        ] {
            assert!(of(walls, required).unwrap_err().contains(says), "{walls:?} {required:?}");
        }
    }

    #[test]
    fn a_wall_that_must_stand_is_asked_for_by_its_flag() {
        let down = [Down::new(Wall::Files, "gone")];
        assert!(check(&down, &[]).is_ok() && check(&down, &["calls".into()]).is_ok());
        for name in ["files", "all"] {
            let text = check(&down, &[name.into()]).unwrap_err().text;
            assert!(text.contains("gone") && text.ends_with("--require-walls asks for it"));
        }
    }
}
