//! The terminal: the job's stdout, everything else on stderr, and progress lines that neither tears apart.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ingle_core::ids::{JobId, StageId};
use ingle_core::scheduler::StageProgress;
use ingle_sandbox::{LogSink, Stream};
use parking_lot::Mutex;

use crate::terminal::{self, Screen};

/// Stages that are shown at the same time.
const MAX_BARS: usize = 8;

/// Clones share the terminal.
#[derive(Clone)]
pub struct Console(Arc<Inner>);

struct Inner {
    progress: MultiProgress,
    /// Whether progress lines are drawn: on a terminal only.
    live: bool,
    bars: Mutex<BTreeMap<(JobId, StageId), ProgressBar>>,
    /// Whoever read stdout went away.
    closed: AtomicBool,
    stdout: Mutex<Screen>,
    stderr: Mutex<Screen>,
}

impl Console {
    pub fn new() -> Self {
        let live = io::stderr().is_terminal();
        let target = if live {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        Self(Arc::new(Inner {
            progress: MultiProgress::with_draw_target(target),
            live,
            bars: Mutex::default(),
            closed: AtomicBool::new(false),
            stdout: Mutex::new(Screen::of(&io::stdout())),
            stderr: Mutex::new(Screen::of(&io::stderr())),
        }))
    }

    pub fn is_live(&self) -> bool {
        self.0.live
    }

    /// Prints while no progress line is in the way.
    fn apart<R>(&self, print: impl FnOnce() -> R) -> R {
        if self.0.live { self.0.progress.suspend(print) } else { print() }
    }

    /// A line on stderr.
    pub fn say(&self, text: impl Display) {
        self.apart(|| terminal::say(&text));
    }

    /// Shows how far the running stages are.
    pub fn show(&self, stages: &[(JobId, StageProgress)]) {
        if !self.0.live {
            return;
        }
        let runs = |stage: &&(JobId, StageProgress)| {
            stage.1.done < stage.1.tasks && stage.1.done + stage.1.running > 0
        };
        let shown: Vec<_> = stages.iter().filter(runs).take(MAX_BARS).collect();
        let mut bars = self.0.bars.lock();
        bars.retain(|key, bar| {
            let stays = shown.iter().any(|(job, stage)| *key == (*job, stage.stage));
            if !stays {
                bar.finish_and_clear();
                self.0.progress.remove(bar);
            }
            stays
        });
        for (job, stage) in shown {
            let bar = bars.entry((*job, stage.stage)).or_insert_with(|| {
                let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len}  {msg}");
                let style =
                    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
                let bar =
                    self.0.progress.add(ProgressBar::new(u64::from(stage.tasks)).with_style(style));
                bar.set_prefix(format!("{} {}", stage.stage, terminal::word(&stage.name)));
                bar
            });
            bar.set_position(u64::from(stage.done));
            let failed =
                if stage.failed > 0 { format!(", {} failed", stage.failed) } else { String::new() };
            bar.set_message(format!("{} running{failed}", stage.running));
        }
    }

    /// No progress lines any more.
    pub fn clear(&self) {
        self.show(&[]);
        if self.0.live {
            // A terminal that can't be written to has nothing to clear.
            let _ = self.0.progress.clear();
        }
    }

    fn stdout(&self, bytes: &[u8]) -> io::Result<()> {
        if self.0.closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let written = self.apart(|| {
            let bytes = self.0.stdout.lock().show(bytes);
            let mut out = io::stdout().lock();
            out.write_all(&bytes).and_then(|()| out.flush())
        });
        match written {
            // As with `| head`: the job goes on, what it prints goes nowhere.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.0.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            other => other,
        }
    }

    fn stderr(&self, bytes: &[u8]) -> io::Result<()> {
        let bytes = self.0.stderr.lock().show(bytes);
        match self.apart(|| io::stderr().lock().write_all(&bytes)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

/// What the driver prints.
pub struct DriverLog(pub Console);

impl LogSink for DriverLog {
    fn write(&self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        match stream {
            Stream::Stdout => self.0.stdout(bytes),
            Stream::Stderr => self.0.stderr(bytes),
        }
    }
}

/// What tasks print.
pub struct TaskLog(pub Console);

impl LogSink for TaskLog {
    fn write(&self, _: Stream, bytes: &[u8]) -> io::Result<()> {
        self.0.stderr(bytes)
    }
}

/// For the log of `tracing`, which colours it on a terminal, and lets no escapes of others through.
impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.apart(|| io::stderr().lock().write_all(bytes)) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
