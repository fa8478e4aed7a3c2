//! The process that compiles one job for `rsubmit`, behind walls of its own: a component may be made to break a compiler, and this one can't reach
//! the cache, where other jobs' code is.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::Stdio;

use ingle_blocks::Grants;
use ingle_cluster::Own;
use ingle_sandbox::{Interrupt, MAX_COMPONENT_BYTES};
use tokio::process::Command;

use crate::exit::{Code, Failure};
use crate::job_file;

/// The first argument of a process that compiles. It is none of `rsubmit`'s flags.
const BE_COMPILER: &str = "--be-compiler";
/// This very program, also if its file was replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";

/// Why there is no code.
pub enum Uncompiled {
    /// No process could be started.
    NoProcess(String),
    /// It says so of the job, or ended otherwise.
    Failed(Failure),
}

/// Has a job's file compiled, as [`ingle_sandbox::Sandbox::make`] does it. What comes is whatever the process wrote.
pub async fn compile(
    bytes: &[u8],
    interrupt: Interrupt,
    required: &[String],
) -> Result<Vec<u8>, Uncompiled> {
    let how = match interrupt {
        Interrupt::Calls => "calls",
        Interrupt::Epoch => "epoch",
    };
    let start = |user: Option<u32>| {
        let mut command = Command::new(PROGRAM);
        if let Some(user) = user {
            // And no other groups.
            command.uid(user).gid(user);
        }
        command
            .arg0("rsubmit")
            .args([BE_COMPILER, how])
            .args(required)
            .current_dir("/")
            .env_clear()
            .envs(ingle_walls::environment())
            // What a terminal sends is for this process to hear.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    };
    // Root's, as nobody else. In a container that may be nobody at all, or the program root's alone.
    let user = rustix::process::geteuid().is_root().then_some(ingle_cluster::RSUBMITS_COMPILER);
    let child = start(user).or_else(|error| user.map_or(Err(error), |_| start(None)));
    let mut child = child.map_err(|e| Uncompiled::NoProcess(e.to_string()))?;
    let ended = ingle_cluster::converse_with_compiler(&mut child, bytes).await;
    let (status, made, words) = ended.map_err(|e| {
        Uncompiled::Failed(Failure::host(format!("waiting for what compiles it: {e}")))
    })?;
    if status.success() {
        return Ok(made);
    }
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    let mut codes = [Code::NotAJob, Code::Host].into_iter();
    let told = codes.find(|code| status.code() == Some(u8::from(*code).into()));
    Err(Uncompiled::Failed(match told {
        Some(code) => Failure::new(code, words),
        None if words.is_empty() => Failure::host(format!("what compiles it ended with {status}")),
        None => Failure::host(format!("what compiles it ended with {status}: {words}")),
    }))
}

/// Compiles, if this process was started for that. Its exit code then.
pub fn be_compiler(mut arguments: impl Iterator<Item = OsString>) -> Option<u8> {
    if arguments.next()? != BE_COMPILER {
        return None;
    }
    let texts: Vec<String> = arguments.filter_map(|text| text.into_string().ok()).collect();
    let (how, required) = texts.split_first()?;
    let interrupt = if how == "epoch" { Interrupt::Epoch } else { Interrupt::Calls };
    Some(match run(interrupt, required) {
        Ok(()) => 0,
        Err(failure) => {
            eprint!("{failure}");
            failure.code.into()
        }
    })
}

fn run(interrupt: Interrupt, required: &[String]) -> Result<(), Failure> {
    // Before this process opens anything.
    let mut down = Vec::from_iter(ingle_walls::close_inherited());
    ingle_walls::end_with_parent();
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_COMPONENT_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| Failure::host(format!("reading it: {e}")))?;
    let nothing = Grants::new(&[], &[]).map_err(|e| Failure::host(e.to_string()))?;
    down.extend(ingle_cluster::raise_some_walls(Own::default(), &nothing));
    crate::walls::check(&down, required)?;
    let made = job_file::make(&bytes, interrupt)?;
    let mut out = std::io::stdout().lock();
    let written = out.write_all(&made).and_then(|()| out.flush());
    written.map_err(|e| Failure::host(format!("handing it over: {e}")))
}
