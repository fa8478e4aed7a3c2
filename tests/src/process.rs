//! A run of `rsubmit` or `ingle`, from start to exit.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use wait4::Wait4;

use crate::net::Host;
use crate::place::{Place, program, target_dir};

/// Nothing here takes so long, on however slow a machine. Only a guard against hanging.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How long a process may take: [`TIMEOUT`], or as many seconds as `INGLE_TESTS_TIMEOUT` says, for those who repeat what takes long.
fn patience() -> Duration {
    let asked = std::env::var("INGLE_TESTS_TIMEOUT").ok().and_then(|seconds| seconds.parse().ok());
    asked.map_or(TIMEOUT, Duration::from_secs)
}

/// As much for a build, which may have to build the guest's standard library first.
const BUILD_TIMEOUT: Duration = Duration::from_secs(1200);

/// Walls that this host doesn't have, by `ingle doctor`.
pub fn missing_walls(place: &Place) -> BTreeSet<String> {
    let run = ingle(place, ["doctor"]).succeeds();
    let named = run.stdout.lines().filter_map(|line| line.trim().strip_prefix("MISSING"));
    let named: BTreeSet<String> =
        named.filter_map(|rest| rest.split_whitespace().next()).map(str::to_owned).collect();
    if !named.is_empty() {
        eprintln!("SKIPPED: this host lacks walls, which aren't tested here: {named:?}");
    }
    named
}

/// Runs `ingle` in a folder outside of the repository. What it builds goes to the repository's target folder all the same: the
/// guest's standard library is there already.
pub fn ingle<const N: usize>(place: &Place, args: [&str; N]) -> Run {
    let mut command = Command::new(program("ingle"));
    command.args(args).current_dir(place.path(".")).env("CARGO_TARGET_DIR", target_dir());
    Running::start(command, BUILD_TIMEOUT).wait()
}

/// A command line of `rsubmit` in the making.
pub struct Rsubmit {
    command: Command,
    job: PathBuf,
    args: Vec<OsString>,
}

impl Rsubmit {
    pub(crate) fn new(dir: &Path, temporary: &Path, job: PathBuf) -> Self {
        let mut command = Command::new(program("rsubmit"));
        command.current_dir(dir).env("TMPDIR", temporary).env_remove("INGLE_LOG");
        command.env_remove("INGLE_MASTER");
        // This machine's own keys, or its store.
        let all = std::env::vars_os().map(|(name, _)| name);
        for name in all.filter(|name| name.as_encoded_bytes().starts_with(b"AWS_")) {
            command.env_remove(name);
        }
        let rsubmit = Self { command, job, args: Vec::new() };
        rsubmit.conf("ingle.cache.dir", target_dir().join("tests-cache"))
    }

    /// An option, before the job.
    pub fn flag(mut self, flag: impl AsRef<OsStr>) -> Self {
        self.command.arg(flag);
        self
    }

    pub fn flags<'a>(self, flags: impl IntoIterator<Item = &'a str>) -> Self {
        flags.into_iter().fold(self, Self::flag)
    }

    pub fn conf(self, key: &str, value: impl AsRef<OsStr>) -> Self {
        let mut pair = OsString::from(key);
        pair.push("=");
        pair.push(value);
        self.flag("--conf").flag(pair)
    }

    /// An argument of the job's.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args<'a>(self, args: impl IntoIterator<Item = &'a str>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// A variable of `rsubmit`'s own environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs on a host of another network.
    pub(crate) fn on(mut self, host: &Host) -> Self {
        self.command = host.wrap(&self.command);
        self
    }

    pub fn spawn(mut self) -> Running {
        self.command.arg(self.job).args(self.args);
        Running::start(self.command, patience())
    }

    pub fn run(self) -> Run {
        self.spawn().wait()
    }
}

/// A process that runs, and is killed if it does for too long.
pub struct Running {
    shown: String,
    child: Child,
    pid: Pid,
    stdout: Output,
    stderr: Output,
    /// Dropped when the process has ended.
    ended: Sender<()>,
    guard: JoinHandle<bool>,
}

impl Running {
    /// `ingle`, in a test's folder, and perhaps on a host of another network.
    pub fn ingle(place: &Place, host: Option<&Host>, args: impl Iterator<Item = OsString>) -> Self {
        Self::ingle_where(place, host, None, args)
    }

    /// As [`Running::ingle`], perhaps where the first of two folders is also mounted at the second one.
    pub(crate) fn ingle_where(
        place: &Place,
        host: Option<&Host>,
        bound: Option<&[PathBuf; 2]>,
        args: impl Iterator<Item = OsString>,
    ) -> Self {
        let mut command = Command::new(program("ingle"));
        if let Some(bound) = bound {
            command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c"]);
            command.arg("mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"").arg("sh");
            command.args(bound).arg(program("ingle"));
        }
        command.args(args).current_dir(place.path(".")).env_remove("INGLE_LOG");
        command.env_remove("INGLE_MASTER");
        if let Some(host) = host {
            command = host.wrap(&command);
        }
        // With whatever it starts.
        command.process_group(0);
        Self::start(command, patience())
    }

    /// Whether it hasn't ended.
    pub fn runs(&self) -> bool {
        // It stays to be waited for.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.pid), look).expect("a child").is_none()
    }

    /// What it said on stderr so far.
    pub fn said(&self) -> String {
        self.stderr.text()
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The processes that it started.
    pub fn children(&self) -> Vec<Pid> {
        let mut children = Vec::new();
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid.as_raw_nonzero()));
        for task in tasks.into_iter().flatten().flatten() {
            let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children.extend(list.split_whitespace().filter_map(|c| Pid::from_raw(c.parse().ok()?)));
        }
        children
    }

    /// `kill -9`, whether it still runs or not.
    pub fn end(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        drop(self.ended);
        let _ = self.guard.join();
    }

    fn start(mut command: Command, timeout: Duration) -> Self {
        let words = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
        let shown = format!(
            "{} {}",
            Path::new(command.get_program()).display(),
            words.collect::<Vec<_>>().join(" ")
        );
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("can't start {shown}: {e}"));
        let pid = Pid::from_child(&child);
        let stdout = Output::of(child.stdout.take().expect("a pipe"));
        let stderr = Output::of(child.stderr.take().expect("a pipe"));
        let (ended, ends) = mpsc::channel::<()>();
        let guard = thread::spawn(move || {
            let late = ends.recv_timeout(timeout) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                // Perhaps it ended this very moment.
                let _ = kill_process(pid, Signal::KILL);
            }
            late
        });
        Self { shown, child, pid, stdout, stderr, ended, guard }
    }

    /// Waits until stderr has a text.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let started = Instant::now();
        while !self.stderr.text().contains(text) {
            let said = self.stderr.text();
            assert!(started.elapsed() < TIMEOUT, "{}: no `{text}` came:\n{said}", self.shown);
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("it still runs");
    }

    #[track_caller]
    pub fn wait(self) -> Run {
        let used = self.child.wait4().expect("a child to wait for");
        drop(self.ended);
        let (stdout, stderr) = (self.stdout.finish(), self.stderr.finish());
        let run = Run {
            shown: self.shown,
            status: used.status,
            stdout,
            stderr,
            peak: used.rusage.maxrss,
        };
        assert!(!self.guard.join().expect("the guard ends"), "it ran for too long\n{run}");
        run
    }
}

/// What comes from a pipe, gathered by a thread.
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Output {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let gathered = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                gathered.lock().expect("a lock").extend_from_slice(&buffer[..n]);
            }
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("a lock")).into_owned()
    }

    fn finish(self) -> String {
        let Self { bytes, reader } = self;
        reader.join().expect("the pipe was read");
        String::from_utf8_lossy(&bytes.lock().expect("a lock")).into_owned()
    }
}

/// What a process said, and how it ended.
pub struct Run {
    shown: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    /// The most memory that was resident, in bytes. Never less than what this process had when it started it.
    pub peak: u64,
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { shown, status, stdout, stderr, .. } = self;
        write!(f, "$ {shown}\n{status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

impl Run {
    #[track_caller]
    pub fn succeeds(self) -> Self {
        self.ends_with(0)
    }

    /// Ended by itself, with this code.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "\n{self}");
        self
    }

    /// Said all of these, on stderr.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "stderr lacks `{text}`\n{self}");
        }
        self
    }

    #[track_caller]
    pub fn says_not(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(!self.stderr.contains(text), "stderr has `{text}`\n{self}");
        }
        self
    }

    #[track_caller]
    pub fn prints_something(self) -> Self {
        assert!(!self.stdout.is_empty(), "\n{self}");
        self
    }

    #[track_caller]
    pub fn prints(self, stdout: &str) -> Self {
        assert_eq!(self.stdout, stdout, "\n{self}");
        self
    }

    /// A number and unit of the last two lines, before a word: `spilled` of `..., 1.2 MiB spilled, ...`.
    #[track_caller]
    pub fn summary(&self, word: &str) -> &str {
        let mut lines = self.stderr.lines().rev().take(2);
        let part = lines.find_map(|l| l.split(", ").find_map(|part| part.strip_suffix(word)));
        part.unwrap_or_else(|| panic!("no `{word}` in the last lines\n{self}")).trim()
    }

    /// What the last line says of memory, in MiB, behind some words: `guests` of `(guests 1.2 MiB, ...)`.
    #[track_caller]
    pub fn memory(&self, words: &str) -> f64 {
        let last = self.stderr.lines().last().unwrap_or_default();
        let found = last.split([',', '(', ':', ')']).map(str::trim).find_map(|part| {
            let mut rest = part.strip_prefix(words)?.trim_start().split(' ');
            mib(rest.next()?, rest.next()?)
        });
        found.unwrap_or_else(|| panic!("no `{words}` in the last line\n{self}"))
    }

    /// As [`Run::summary`], in MiB.
    #[track_caller]
    pub fn summary_mib(&self, word: &str) -> f64 {
        let size = self.summary(word);
        let found = size.split_once(' ').and_then(|(number, unit)| mib(number, unit));
        found.unwrap_or_else(|| panic!("`{size}` is no size\n{self}"))
    }
}

/// A size as it is printed, in MiB.
fn mib(number: &str, unit: &str) -> Option<f64> {
    let power = ["B", "KiB", "MiB", "GiB"].iter().position(|known| *known == unit)?;
    Some(number.parse::<f64>().ok()? * 1024f64.powi(power as i32 - 2))
}
