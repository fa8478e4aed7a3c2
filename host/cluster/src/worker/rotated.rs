//! The logs of processes: each as files of a bounded length together, its beginning and its end.
//!
//! A process writes to a pipe, whatever becomes of it; a thread of the worker's reads that. `NAME.out` has the first half of what a log may be
//! long. What comes later goes to `NAME.out.POSITION`, a quarter each, of which the latest two are kept; the position is that in all that was
//! printed, so that whoever reads sees what is missing.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Of what a process printed last, so much is remembered.
const LAST: usize = 4096;
const BUFFER: usize = 16 << 10;
/// A shorter log isn't worth it.
pub const LEAST: u64 = 64 << 10;
/// Bytes of an application's logs, and of all, in logs.
const OF_ONE: u64 = 8;
const OF_ALL: u64 = 64;
/// Each is a file, however little there is in it.
const LOGS_OF_ONE: usize = 1024;
/// How long what was printed may take to come after its process has ended.
const LATE: Duration = Duration::from_secs(2);

/// The files of a log by their position in it, the first one's path being the log's name.
pub type Parts = Vec<(u64, PathBuf)>;

/// The logs of a folder.
pub fn logs(dir: &Path) -> io::Result<BTreeMap<PathBuf, Parts>> {
    let mut logs = BTreeMap::<_, Parts>::new();
    for path in fs::read_dir(dir)?.flatten().map(|entry| entry.path()) {
        let (log, position) = named(&path);
        logs.entry(log).or_default().push((position, path));
    }
    logs.values_mut().for_each(|parts| parts.sort());
    Ok(logs)
}

/// The log of a file, and where in it that begins.
fn named(path: &Path) -> (PathBuf, u64) {
    let digits = path.extension().and_then(|digits| digits.to_str());
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(position) => (path.with_extension(""), position),
        None => (path.to_owned(), 0),
    }
}

/// A log that is written.
struct Rotated {
    log: PathBuf,
    /// What all of it may be long, about.
    size: u64,
    file: File,
    /// Where the file begins, and how long it is.
    start: u64,
    length: u64,
    /// Those after the first.
    later: VecDeque<u64>,
}

impl Rotated {
    /// Goes on where others ended.
    fn open(log: &Path, size: u64) -> io::Result<Self> {
        let dir = log.parent().unwrap_or(Path::new("/"));
        let parts = logs(dir)?.remove(log).unwrap_or_default();
        let start = parts.last().map_or(0, |(start, _)| *start);
        let later = parts.iter().map(|(start, _)| *start).filter(|start| *start > 0).collect();
        let mut this =
            Self { log: log.to_owned(), size, file: append(log)?, start, length: 0, later };
        this.file = append(&this.path(start))?;
        this.length = this.file.metadata()?.len();
        Ok(this)
    }

    fn path(&self, start: u64) -> PathBuf {
        if start == 0 {
            return self.log.clone();
        }
        let mut path = self.log.clone().into_os_string();
        path.push(format!(".{start:015}"));
        path.into()
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let part = if self.start == 0 { 2 } else { 4 };
            let room = (self.size / part).saturating_sub(self.length);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            if room >= bytes.len() {
                return self.put(bytes);
            }
            // Lines stay whole if they can.
            let (fits, _) = bytes.split_at(room);
            let cut = fits.iter().rposition(|b| *b == b'\n').map_or(room, |end| end + 1);
            let (now, later) = bytes.split_at(cut);
            self.put(now)?;
            self.next()?;
            bytes = later;
        }
        Ok(())
    }

    /// What couldn't be written after all isn't counted: the files' names say where in the log they begin.
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.length += written as u64;
                    bytes = bytes.get(written..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Begins the next file; the oldest may go.
    fn next(&mut self) -> io::Result<()> {
        let mut words = String::new();
        if self.start == 0 {
            let size = ingle_core::size::ByteSize(self.size);
            words = format!(
                "[this log is longer than this worker's --log-size allows, {size}: what follows is in other files, and only the latest of it]\n"
            );
        }
        let start = self.start + self.length + words.len() as u64;
        // First, so that the words aren't said once more when it can't be made.
        let file = append(&self.path(start))?;
        if let Err(error) = self.put(words.as_bytes()) {
            // It would begin elsewhere the next time.
            let _ = fs::remove_file(self.path(start));
            return Err(error);
        }
        self.file = file;
        (self.start, self.length) = (start, 0);
        self.later.push_back(start);
        while self.later.len() > 2
            && let Some(oldest) = self.later.pop_front()
        {
            fs::remove_file(self.path(oldest))?;
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// A process's stream on its way to a log.
pub struct Piped {
    last: Arc<Mutex<Vec<u8>>>,
    ended: oneshot::Receiver<()>,
}

impl Piped {
    /// What a process is to write to, for a log of so many bytes. The error is for people.
    pub fn new(log: &Path, size: u64) -> Result<(Stdio, Self), String> {
        let failed = |e: io::Error| format!("writing {}: {e}", log.display());
        let rotated = Rotated::open(log, size).map_err(failed)?;
        let (reader, writer) = io::pipe().map_err(failed)?;
        let last = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = oneshot::channel();
        let remembered = last.clone();
        let pump = move || {
            pump(reader, rotated, &remembered);
            // Nobody may wait for it.
            let _ = end.send(());
        };
        std::thread::Builder::new().name("log".into()).spawn(pump).map_err(failed)?;
        Ok((writer.into(), Self { last, ended }))
    }

    /// Waits until all was written, as its process has ended, and gives what that printed last.
    pub async fn finish(self) -> Vec<u8> {
        // Something else may hold the pipe.
        let _ = tokio::time::timeout(LATE, self.ended).await;
        self.last.lock().clone()
    }
}

fn pump(mut reader: PipeReader, mut log: Rotated, last: &Mutex<Vec<u8>>) {
    let (mut buffer, mut lost) = (vec![0; BUFFER], 0u64);
    loop {
        let bytes = match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => buffer.get(..length).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let mut last = last.lock();
        last.extend_from_slice(bytes);
        let before = last.len().saturating_sub(LAST);
        last.drain(..before);
        drop(last);
        // A process isn't kept waiting by a disk that is full: what doesn't fit is lost.
        let said = match lost {
            0 => Ok(()),
            lost => log.write(format!("[{lost} bytes couldn't be written here]\n").as_bytes()),
        };
        match said.and_then(|()| log.write(bytes)) {
            Ok(()) => lost = 0,
            Err(error) => {
                if lost == 0 {
                    tracing::warn!("writing {}: {error}", log.log.display());
                }
                lost += bytes.len() as u64;
            }
        }
    }
}

/// Removes logs of what ended, the oldest first, until those of one application are no longer than eight may be, nor more than [`LOGS_OF_ONE`], and
/// all no longer than 64. What runs is told by its application's name and its own.
pub fn bound(dir: &Path, size: u64, runs: impl Fn(&str, &str) -> bool) {
    let mut folders = Vec::new();
    for folder in fs::read_dir(dir).into_iter().flatten().flatten() {
        let id = folder.file_name().to_string_lossy().into_owned();
        let mut logs: Vec<_> = logs(&folder.path()).unwrap_or_default().into_iter().collect();
        logs.sort_by_key(|(_, parts)| parts.iter().filter_map(|part| modified(&part.1)).max());
        let mut left: u64 = logs.iter().map(|(_, parts)| length(parts)).sum();
        let mut number = logs.len();
        for (log, parts) in logs {
            let name = log.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let are_many = left > OF_ONE.saturating_mul(size) || number > LOGS_OF_ONE;
            if are_many && !runs(&id, &name) {
                left -= length(&parts);
                number -= 1;
                parts.iter().for_each(|(_, path)| drop(fs::remove_file(path)));
            }
        }
        folders.push((modified(&folder.path()), folder.path(), id, left));
    }
    folders.sort();
    let mut all: u64 = folders.iter().map(|folder| folder.3).sum();
    for (_, path, id, length) in folders {
        if all > OF_ALL.saturating_mul(size) && !runs(&id, "") {
            all -= length;
            drop(fs::remove_dir_all(path));
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn length(parts: &Parts) -> u64 {
    parts.iter().filter_map(|(_, path)| fs::metadata(path).ok()).map(|m| m.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(dir: &Path) -> Vec<(u64, String)> {
        let logs = logs(dir).unwrap();
        let parts = logs.get(&dir.join("executor-1.out")).cloned().unwrap_or_default();
        let text = |path: &PathBuf| fs::read_to_string(path).unwrap();
        parts.iter().map(|(start, path)| (*start, text(path))).collect()
    }

    #[test]
    fn the_first_and_the_last_of_a_log_are_kept_in_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Rotated::open(&dir.path().join("executor-1.out"), 400).unwrap();
        let line = |n: u32| format!("line {n:04}\n");
        (0..20).for_each(|n| log.write(line(n).as_bytes()).unwrap());
        let [(0, head)] = &all(dir.path())[..] else { panic!("one file of 200 bytes") };
        assert_eq!(head.len(), 200);
        (20..1000).for_each(|n| log.write(line(n).as_bytes()).unwrap());
        let parts = all(dir.path());
        let [(0, head), (second, before), (last, end)] = &parts[..] else { panic!("{parts:?}") };
        assert!(head.starts_with(&line(0)) && head.contains(&line(19)), "{head}");
        assert!(head.ends_with("only the latest of it]\n") && head.contains("--log-size"));
        assert_eq!(second + before.len() as u64, *last);
        assert_eq!(format!("{before}{end}"), (980..1000).map(line).collect::<String>());
    }

    #[test]
    fn what_was_written_before_a_disk_was_full_counts() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Rotated::open(&dir.path().join("executor-1.out"), 1 << 30).unwrap();
        // It takes some, and no more.
        let (reader, writer) = io::pipe().unwrap();
        rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
        log.file = File::from(std::os::fd::OwnedFd::from(writer));
        assert!(log.write(&vec![b'x'; 10 << 20]).is_err());
        let file =
            std::mem::replace(&mut log.file, append(dir.path().join("x").as_path()).unwrap());
        drop(file);
        let mut taken = Vec::new();
        { reader }.read_to_end(&mut taken).unwrap();
        assert!(!taken.is_empty());
        assert_eq!(log.length, taken.len() as u64);
    }

    #[test]
    fn the_words_of_a_long_log_are_said_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Rotated::open(&dir.path().join("executor-1.out"), 400).unwrap();
        // Where the next file was to be there is a folder.
        let words = "[this log is longer than this worker's --log-size allows, 400 B: what follows is in other files, and only the latest of it]\n";
        let next = log.path(200 + words.len() as u64);
        fs::create_dir(&next).unwrap();
        assert!((0..3).all(|_| log.write(&[b'x'; 300]).is_err()));
        fs::remove_dir(next).unwrap();
        log.write(b"later\n").unwrap();
        let parts = all(dir.path());
        assert_eq!(parts[0].1, format!("{}{words}", "x".repeat(200)));
        assert_eq!(parts[1..], [(200 + words.len() as u64, "later\n".to_owned())]);
    }

    #[test]
    fn a_log_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("executor-1.out");
        // None of the pieces ends where a file does.
        (0..300u32).for_each(|n| {
            let mut log = Rotated::open(&path, 400).unwrap();
            log.write(format!("{n:07}").as_bytes()).unwrap();
        });
        let parts = all(dir.path());
        assert!(parts.len() == 3 && parts[2].1.ends_with("0000299"), "{parts:?}");
        assert_eq!(parts[1].0 + parts[1].1.len() as u64, parts[2].0);
        assert!(parts.iter().map(|(_, text)| text.len()).sum::<usize>() < 600);
    }

    #[tokio::test]
    async fn what_a_process_prints_last_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let (stdout, piped) = Piped::new(&dir.path().join("executor-1.out"), LEAST).unwrap();
        let script = "yes abcdefg | head -c 200000; printf end";
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).stdout(stdout).status().unwrap();
        drop(command);
        let last = piped.finish().await;
        assert!(last.len() == LAST && last.ends_with(b"abcdefg\nend"));
        let kept: usize = all(dir.path()).iter().map(|(_, text)| text.len()).sum();
        assert!(kept < LEAST as usize + 200, "{kept}");
    }

    #[test]
    fn old_logs_go_when_there_are_too_many_and_those_that_are_written_stay() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: usize, age: u64| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, vec![b'x'; bytes]).unwrap();
            let then = SystemTime::now() - Duration::from_secs(age);
            File::open(path).unwrap().set_modified(then).unwrap();
        };
        // Of one application there are two too many, and of all four; one runs.
        (0..10).for_each(|n| write(&format!("app-1/executor-{n}.out"), 100, 100 - n));
        (0..60).for_each(|n| write(&format!("app-9-{n}/driver.out"), 100, 0));
        bound(dir.path(), 100, |id, name| id == "app-1" && ["executor-0", ""].contains(&name));
        let left = |id: &str| fs::read_dir(dir.path().join(id)).map_or(0, Iterator::count);
        assert_eq!(left("app-1"), 8);
        assert!(dir.path().join("app-1/executor-0.out").exists());
        assert!(!dir.path().join("app-1/executor-2.out").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 57);
        // Also where there is nothing in them.
        (0..LOGS_OF_ONE + 3).for_each(|n| write(&format!("app-2/executor-{n}.out"), 0, 9));
        bound(dir.path(), 1 << 20, |id, name| id == "app-2" && name == "executor-7");
        assert_eq!(left("app-2"), LOGS_OF_ONE);
        assert!(dir.path().join("app-2/executor-7.out").exists());
    }
}
