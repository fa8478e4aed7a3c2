//! What tasks print: whole lines, each behind the name of its task.

use std::sync::Arc;

use ingle_core::ids::TaskId;
use ingle_sandbox::{LogSink, Stream};
use parking_lot::Mutex;

use super::queue::Cancelled;

/// A line that gets longer than this is written in pieces.
const MAX_LINE: usize = 8 << 10;

/// One slot's log. Lines of both streams go to `to`, as they are completed.
pub struct SlotLog {
    to: Arc<dyn LogSink>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    task: Option<TaskId>,
    /// Whether the task is to stop: then it prints no more.
    cancelled: Cancelled,
    /// What was printed since the last newline, by stream.
    lines: [Vec<u8>; 2],
}

impl SlotLog {
    pub fn new(to: Arc<dyn LogSink>) -> Self {
        Self { to, state: Mutex::default() }
    }

    /// From now on it is this task that prints, until it is cancelled.
    pub fn begin(&self, task: TaskId, cancelled: Cancelled) {
        let mut state = self.state.lock();
        state.task = Some(task);
        state.cancelled = cancelled;
    }

    /// Writes what a task left without a line end.
    pub fn end(&self) {
        let mut state = self.state.lock();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let line = std::mem::take(&mut state.lines[stream as usize]);
            if !line.is_empty() {
                // The task is over: nobody is left to tell of an error.
                let _ = self.write_line(state.task, stream, &line);
            }
        }
        state.task = None;
        state.cancelled = Cancelled::default();
    }

    fn write_line(&self, task: Option<TaskId>, stream: Stream, line: &[u8]) -> std::io::Result<()> {
        let mut text = match task {
            Some(task) => format!("[{}, partition {}] ", task.stage, task.partition).into_bytes(),
            None => Vec::new(),
        };
        text.extend_from_slice(line);
        text.push(b'\n');
        self.to.write(stream, &text)
    }
}

impl LogSink for SlotLog {
    fn write(&self, stream: Stream, bytes: &[u8]) -> std::io::Result<()> {
        let mut state = self.state.lock();
        if state.cancelled.is_stopped() {
            return Err(std::io::Error::other("the task was cancelled"));
        }
        let task = state.task;
        let line = &mut state.lines[stream as usize];
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let mut rest = text;
            loop {
                let (now, later) = rest.split_at(rest.len().min(MAX_LINE - line.len()));
                line.extend_from_slice(now);
                rest = later;
                if line.len() == MAX_LINE || (ends && rest.is_empty()) {
                    let written = self.write_line(task, stream, line);
                    // Also if it can't be written: what is kept must not grow.
                    line.clear();
                    written?;
                }
                if rest.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ingle_core::ids::StageId;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<String>);

    impl LogSink for Kept {
        fn write(&self, _: Stream, bytes: &[u8]) -> std::io::Result<()> {
            self.0.lock().push_str(&String::from_utf8_lossy(bytes));
            Ok(())
        }
    }

    #[test]
    fn lines_are_whole_and_named() {
        let kept = Arc::new(Kept::default());
        let log = SlotLog::new(kept.clone());
        let cancelled = Cancelled::default();
        log.begin(TaskId { stage: StageId(1), partition: 3, attempt: 0 }, cancelled.clone());
        log.write(Stream::Stdout, b"one\ntw").unwrap();
        log.write(Stream::Stderr, b"other\n").unwrap();
        log.write(Stream::Stdout, b"o").unwrap();
        cancelled.stop();
        assert!(log.write(Stream::Stdout, b"three").is_err());
        log.end();
        let task = "[stage 1, partition 3]";
        assert_eq!(*kept.0.lock(), format!("{task} one\n{task} other\n{task} two\n"));
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let kept = Arc::new(Kept::default());
        let log = SlotLog::new(kept.clone());
        (0..3).for_each(|_| log.write(Stream::Stdout, &[b'x'; MAX_LINE]).unwrap());
        assert_eq!(kept.0.lock().lines().count(), 3);
        // As much as a guest may hand over at once.
        log.write(Stream::Stdout, &[b'y'; 64 << 10]).unwrap();
        log.write(Stream::Stdout, b"z\n").unwrap();
        let kept = kept.0.lock();
        assert!(kept.lines().all(|line| line.len() <= MAX_LINE), "a longer line");
        assert_eq!((kept.lines().count(), kept.lines().last()), (12, Some("z")));
    }
}
