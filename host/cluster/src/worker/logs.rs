//! The logs of an application or a driver, read as they grow.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use ingle_proto::v1;
use tokio::sync::mpsc;
use tonic::Status;

/// How often a log is looked at for more.
const FOLLOW: Duration = Duration::from_millis(100);

type Parts = mpsc::Sender<Result<v1::LogPart, Status>>;

/// The files of one log folder.
pub struct Tail {
    dir: PathBuf,
    /// Only the files of this name, without what comes behind the dot.
    only: Option<String>,
    /// Only so much of each file's end; 0: all.
    last: u64,
    files: Vec<Followed>,
    send: Parts,
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
    pub fn new(dir: PathBuf, only: Option<String>, last: u64, send: Parts) -> Self {
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
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return false };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            if self.only.as_ref().is_some_and(|only| *only != stem)
                || self.files.iter().any(|file| file.path == path)
            {
                continue;
            }
            let source = stem.replace('-', " ");
            let stderr = path.extension().is_some_and(|e| e == "err");
            let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            let at = if self.last == 0 { 0 } else { length.saturating_sub(self.last) };
            self.files.push(Followed { path, source, stderr, at, left_out: at });
        }
        self.files.iter_mut().all(|file| file.read(&self.send))
    }
}

impl Followed {
    fn part(&self, data: Bytes) -> Result<v1::LogPart, Status> {
        Ok(v1::LogPart { source: self.source.clone(), stderr: self.stderr, data })
    }

    fn read(&mut self, send: &Parts) -> bool {
        // One that can't be read has nothing for now.
        let Ok(mut file) = File::open(&self.path) else { return true };
        if file.seek(SeekFrom::Start(self.at)).is_err() {
            return true;
        }
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            let words = format!("[{left_out} bytes before this are left out]\n");
            if send.blocking_send(self.part(words.into())).is_err() {
                return false;
            }
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
}
