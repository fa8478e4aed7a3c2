//! The logs of an application or a driver, read as they grow.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use ingle_proto::v1;
use tokio::sync::mpsc;
use tonic::Status;

use super::rotated::{self, Parts};

/// How often a log is looked at for more.
const FOLLOW: Duration = Duration::from_millis(100);

type Sender = mpsc::Sender<Result<v1::LogPart, Status>>;

/// The files of one log folder.
pub struct Tail {
    dir: PathBuf,
    /// Only the files of this name, without what comes behind the dot.
    only: Option<String>,
    /// Only so much of each file's end; 0: all.
    last: u64,
    files: Vec<Followed>,
    send: Sender,
}

struct Followed {
    path: PathBuf,
    source: String,
    stderr: bool,
    at: u64,
    /// So much before that, which is still to be said.
    left_out: u64,
}

impl Tail {
    pub fn new(dir: PathBuf, only: Option<String>, last: u64, send: Sender) -> Self {
        Self { dir, only, last, files: Vec::new(), send }
    }

    /// Reads all there is, and goes on as long as somebody writes.
    pub fn run(mut self, writing: impl Fn() -> bool) {
        loop {
            // Asked before: what was written before the end is read after it.
            let more = writing();
            if !self.look() || !more {
                return;
            }
            std::thread::sleep(FOLLOW);
        }
    }

    /// False if nobody reads.
    fn look(&mut self) -> bool {
        let Ok(logs) = rotated::logs(&self.dir) else { return false };
        for (path, parts) in &logs {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            if self.only.as_ref().is_some_and(|only| *only != stem)
                || self.files.iter().any(|file| file.path == *path)
            {
                continue;
            }
            let source = stem.replace('-', " ");
            let stderr = path.extension().is_some_and(|e| e == "err");
            let end = parts.last().map_or(0, |(start, path)| {
                start + std::fs::metadata(path).map_or(0, |metadata| metadata.len())
            });
            let at = if self.last == 0 { 0 } else { end.saturating_sub(self.last) };
            let path = path.clone();
            self.files.push(Followed { path, source, stderr, at, left_out: at });
        }
        let (files, send) = (&mut self.files, &self.send);
        files.iter_mut().all(|file| logs.get(&file.path).is_none_or(|parts| file.read(parts, send)))
    }
}

impl Followed {
    fn part(&self, data: Bytes) -> Result<v1::LogPart, Status> {
        Ok(v1::LogPart { source: self.source.clone(), stderr: self.stderr, data })
    }

    fn say_left_out(&self, bytes: u64, send: &Sender) -> bool {
        let words = format!("[{bytes} bytes before this are left out]\n");
        send.blocking_send(self.part(words.into())).is_ok()
    }

    /// Reads what is there from where it was. False if nobody wants it.
    fn read(&mut self, parts: &Parts, send: &Sender) -> bool {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 && !self.say_left_out(left_out, send) {
            return false;
        }
        loop {
            let begun = parts.partition_point(|(start, _)| *start <= self.at);
            if let Some((start, path)) = begun.checked_sub(1).and_then(|last| parts.get(last))
                && !self.read_file(*start, path, send)
            {
                return false;
            }
            let Some((next, _)) = parts.get(begun) else { return true };
            // What was between was longer than what is kept.
            if *next > self.at {
                if !self.say_left_out(next - self.at, send) {
                    return false;
                }
                self.at = *next;
            }
        }
    }

    fn read_file(&mut self, start: u64, path: &Path, send: &Sender) -> bool {
        // One that can't be read has nothing for now.
        let Ok(mut file) = File::open(path) else { return true };
        if file.seek(SeekFrom::Start(self.at - start)).is_err() {
            return true;
        }
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = file.read(&mut buffer) {
            let part = self.part(Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default()));
            if send.blocking_send(part).is_err() {
                return false;
            }
            self.at += n as u64;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dir: &std::path::Path, only: Option<&str>, last: u64) -> Vec<(String, bool, String)> {
        let (send, mut parts) = mpsc::channel(16);
        Tail::new(dir.to_owned(), only.map(str::to_owned), last, send).run(|| false);
        let mut read = Vec::new();
        while let Ok(Ok(part)) = parts.try_recv() {
            let text = String::from_utf8_lossy(&part.data).into_owned();
            read.push((part.source, part.stderr, text));
        }
        read
    }

    #[test]
    fn a_log_is_read_whole_or_its_end_or_one_source_of_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("executor-1.out"), "one\ntwo\n").unwrap();
        std::fs::write(dir.path().join("executor-1.err"), "bad").unwrap();
        std::fs::write(dir.path().join("executor-10.out"), "ten").unwrap();
        let part = |source: &str, stderr, text: &str| (source.to_owned(), stderr, text.to_owned());
        let (err, ten) = (part("executor 1", true, "bad"), part("executor 10", false, "ten"));
        let whole = part("executor 1", false, "one\ntwo\n");
        assert_eq!(read(dir.path(), None, 0), [err.clone(), whole, ten.clone()]);
        let cut = part("executor 1", false, "[4 bytes before this are left out]\n");
        let end = part("executor 1", false, "two\n");
        assert_eq!(read(dir.path(), None, 4), [err.clone(), cut.clone(), end.clone(), ten]);
        assert_eq!(read(dir.path(), Some("executor-1"), 4), [err, cut, end]);
    }

    #[test]
    fn what_is_missing_of_a_long_log_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("driver.out", "first\n");
        write("driver.out.000000000000006", "second\n");
        let texts = |last| read(dir.path(), None, last).into_iter().map(|part| part.2);
        assert_eq!(texts(0).collect::<Vec<_>>(), ["first\n", "second\n"]);
        std::fs::remove_file(dir.path().join("driver.out.000000000000006")).unwrap();
        write("driver.out.000000000000013", "third\n");
        write("driver.out.000000000000019", "fourth\n");
        let missing = "[7 bytes before this are left out]\n";
        assert_eq!(texts(0).collect::<Vec<_>>(), ["first\n", missing, "third\n", "fourth\n"]);
        let before = "[23 bytes before this are left out]\n";
        assert_eq!(texts(3).collect::<Vec<_>>(), [before, "th\n"]);
        let sources = read(dir.path(), Some("driver"), 0);
        assert!(sources.iter().all(|part| part.0 == "driver" && !part.1));
    }

    #[test]
    fn a_log_is_followed_from_file_to_file() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let (send, mut parts) = mpsc::channel(16);
        let mut tail = Tail::new(dir.path().to_owned(), None, 0, send);
        let mut look = || {
            assert!(tail.look());
            let mut text = String::new();
            while let Ok(Ok(part)) = parts.try_recv() {
                text.push_str(&String::from_utf8_lossy(&part.data));
            }
            text
        };
        write("driver.err", "first\n");
        assert_eq!(look(), "first\n");
        write("driver.err.000000000000006", "sec");
        assert_eq!(look(), "sec");
        write("driver.err.000000000000006", "second\n");
        write("driver.err.000000000000013", "third\n");
        assert_eq!((look(), look()), ("ond\nthird\n".into(), String::new()));
    }
}
