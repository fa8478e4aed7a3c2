//! The logs of an application or a driver, read as they grow.

use std::fs::File;
use std::io::{Read as _, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use ingle_proto::v1;
use tokio::sync::mpsc;
use tonic::Status;

use super::rotated::{self, Parts};

/// How often a log is looked at for more.
const FOLLOW: Duration = Duration::from_millis(100);
/// Parts that are read at a time, each of so many bytes at most.
const PARTS: usize = 4;
const PART: usize = 64 << 10;

/// The files of one log folder.
pub struct Tail {
    dir: PathBuf,
    /// Only the files of this name, without what comes behind the dot.
    only: Option<String>,
    /// Only so much of each file's end; 0: all.
    last: u64,
    files: Vec<Followed>,
}

struct Followed {
    path: PathBuf,
    source: String,
    stderr: bool,
    at: u64,
    /// So much before that, which is still to be said.
    left_out: u64,
}

/// Whom a log is sent to.
pub trait Reader: Send {
    /// Waits until it takes a part. False: it doesn't, and won't.
    fn take(&mut self, part: v1::LogPart) -> impl Future<Output = bool> + Send;
    /// Waits until it is gone.
    fn gone(&self) -> impl Future<Output = ()> + Send;
}

impl Reader for mpsc::Sender<Result<v1::LogPart, Status>> {
    async fn take(&mut self, part: v1::LogPart) -> bool {
        self.send(Ok(part)).await.is_ok()
    }

    fn gone(&self) -> impl Future<Output = ()> + Send {
        self.closed()
    }
}

/// What was read at a time.
struct Lately {
    parts: Vec<v1::LogPart>,
    /// There is no more for now.
    is_all: bool,
}

impl Tail {
    pub fn new(dir: PathBuf, only: Option<String>, last: u64) -> Self {
        Self { dir, only, last, files: Vec::new() }
    }

    /// Reads all there is, and goes on as long as somebody writes, and takes it. A thread is kept only while a little is read.
    pub async fn run(mut self, writing: impl Fn() -> bool, mut reader: impl Reader) {
        loop {
            // Asked before: what was written before the end is read after it.
            let more = writing();
            let read = tokio::task::spawn_blocking(move || {
                let read = self.read();
                (self, read)
            });
            let Ok((this, Some(read))) = read.await else { return };
            self = this;
            for part in read.parts {
                if !reader.take(part).await {
                    return;
                }
            }
            if read.is_all {
                if !more {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(FOLLOW) => {}
                    () = reader.gone() => return,
                }
            }
        }
    }

    /// Some of what is there. None: the logs are gone.
    fn read(&mut self) -> Option<Lately> {
        let logs = rotated::logs(&self.dir).ok()?;
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
        let mut parts = Vec::new();
        let mut read = |file: &mut Followed| {
            logs.get(&file.path).is_none_or(|files| file.read(files, &mut parts))
        };
        let is_all = self.files.iter_mut().all(&mut read);
        Some(Lately { parts, is_all })
    }
}

impl Followed {
    fn part(&self, data: Bytes) -> v1::LogPart {
        v1::LogPart { source: self.source.clone(), stderr: self.stderr, data }
    }

    fn left_out(&self, bytes: u64) -> v1::LogPart {
        self.part(format!("[{bytes} bytes before this are left out]\n").into())
    }

    /// Reads what is there from where it was. False if there is more.
    fn read(&mut self, files: &Parts, into: &mut Vec<v1::LogPart>) -> bool {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            into.push(self.left_out(left_out));
        }
        loop {
            let begun = files.partition_point(|(start, _)| *start <= self.at);
            if let Some((start, path)) = begun.checked_sub(1).and_then(|last| files.get(last))
                && !self.read_file(*start, path, into)
            {
                return false;
            }
            let Some((next, _)) = files.get(begun) else { return true };
            // What was between was longer than what is kept.
            if *next > self.at {
                into.push(self.left_out(next - self.at));
                self.at = *next;
            }
        }
    }

    fn read_file(&mut self, start: u64, path: &Path, into: &mut Vec<v1::LogPart>) -> bool {
        // One that can't be read has nothing for now.
        let Ok(mut file) = File::open(path) else { return true };
        if file.seek(SeekFrom::Start(self.at - start)).is_err() {
            return true;
        }
        let mut buffer = vec![0; PART];
        while let Ok(n @ 1..) = file.read(&mut buffer) {
            into.push(self.part(Bytes::copy_from_slice(buffer.get(..n).unwrap_or_default())));
            self.at += n as u64;
            if into.len() >= PARTS {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dir: &std::path::Path, only: Option<&str>, last: u64) -> Vec<(String, bool, String)> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let tail = Tail::new(dir.to_owned(), only.map(str::to_owned), last);
        let (send, mut parts) = mpsc::channel(100);
        runtime.block_on(tail.run(|| false, send));
        let mut read = Vec::new();
        while let Ok(Ok(part)) = parts.try_recv() {
            let text = String::from_utf8_lossy(&part.data).into_owned();
            read.push((part.source, part.stderr, text));
        }
        read
    }

    #[test]
    fn a_long_log_is_read_a_little_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("executor-1.out"), vec![b'x'; 10 * PART + 1]).unwrap();
        std::fs::write(dir.path().join("executor-2.out"), "two").unwrap();
        let mut tail = Tail::new(dir.path().to_owned(), None, 0);
        let first = tail.read().unwrap();
        assert!(first.parts.len() == PARTS && !first.is_all);
        let lengths: Vec<_> = read(dir.path(), None, 0).iter().map(|part| part.2.len()).collect();
        assert_eq!(lengths, [[PART; 10].as_slice(), &[1, 3]].concat());
    }

    /// With one thread for all that blocks: whoever keeps it keeps all others waiting.
    #[test]
    fn who_takes_nothing_keeps_no_thread() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("executor-1.out"), vec![b'x'; 10 * PART]).unwrap();
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (send, mut parts) = mpsc::channel(1);
            let tail = Tail::new(dir.path().to_owned(), None, 0);
            let stuck = tokio::spawn(async move { tail.run(|| false, send).await });
            parts.recv().await.unwrap().unwrap();
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            stuck.abort();
        });
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
        let mut tail = Tail::new(dir.path().to_owned(), None, 0);
        let mut look = || {
            let read = tail.read().unwrap();
            assert!(read.is_all);
            let texts = read.parts.iter().map(|part| String::from_utf8_lossy(&part.data));
            texts.collect::<String>()
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
