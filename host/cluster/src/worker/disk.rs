//! What applications and drivers have on this worker's disk, whoever wrote it: their processes count for themselves, and may have been broken out of.
//!
//! Each is looked at a little in turn, and goes on where it was the next time: one with many files keeps nobody from being looked at. Files that were
//! removed and are still open, or mapped, are found by their processes, if the system lets the worker look at these.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use ingle_core::size::ByteSize;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use super::processes::{Name, Processes};
use super::shares::Shares;
use ingle_blocks::trees;

/// How often it is looked, at most.
const EVERY: Duration = Duration::from_secs(1);
/// And no more than a part of the time is spent with that, or more if somebody has so much that it takes several times.
const PART: u32 = 20;
const LARGE_PART: u32 = 4;
/// Files, folders and descriptors of one that are looked at in a turn.
const TURN: usize = 100_000;
/// And in all. Nobody who means well has so many.
const MOST: usize = 5_000_000;
/// Folders that may be in each other. Ingle's own are four.
const DEEPEST: usize = 32;
/// What a file's name and its entry in the system's table take, if the system says nothing.
const LEAST: u64 = 512;

/// One who stores something here.
pub struct Owner {
    /// Of its application, or of the driver.
    pub id: String,
    pub folder: PathBuf,
    /// Its processes, and their folders in /proc.
    pub processes: Vec<(Name, Option<Arc<OwnedFd>>)>,
}

/// The folder in /proc of a process that nobody has waited for yet.
pub fn process(number: u32) -> Option<Arc<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, format!("/proc/{number}"), flags, Mode::empty()).ok().map(Arc::new)
}

/// What a process has open (`fd`), or mapped (`map_files`).
fn list(process: impl AsFd, what: &str) -> rustix::io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Dir::new(openat(process, what, flags, Mode::empty())?)
}

/// What a process has open, and what it has mapped. Its first thread may have ended before the others: then only they have it, and all of them the
/// same, for a process makes no thread with descriptors of its own.
fn lists(process: &OwnedFd) -> [rustix::io::Result<Dir>; 2] {
    let of = |shown: &OwnedFd| ["fd", "map_files"].map(|what| list(shown, what));
    if has_ended(process)
        && let Ok(mut threads) = list(process, "task")
    {
        while let Some(Ok(number)) = trees::next(&mut threads) {
            // What is in `task` doesn't say what is mapped.
            let number = number.to_string_lossy();
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let thread = openat(CWD, format!("/proc/{number}"), flags, Mode::empty());
            let Some(thread) = thread.ok().filter(|thread| !has_ended(thread)) else { continue };
            // Its number may be another's by now.
            if statat(process, format!("task/{number}"), AtFlags::empty()).is_ok() {
                return of(&thread);
            }
        }
    }
    of(process)
}

/// Whether a thread, or the first one of a process, is over and only its number is left.
fn has_ended(process: impl AsFd) -> bool {
    let file = openat(process, "stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let mut stat = [0; 512];
    let Ok(length) = file.and_then(|file| rustix::io::read(file, &mut stat)) else { return true };
    // Behind its name, in which anything may be.
    let state = stat[..length].rsplit(|byte| *byte == b')').next().and_then(|rest| rest.get(1));
    matches!(state, Some(b'Z' | b'X'))
}

/// Whether the system lets this process see what files are mapped.
fn sees_mapped(process: impl AsFd) -> bool {
    let Ok(mut mapped) = list(process, "map_files") else { return false };
    let Some(Ok(name)) = trees::next(&mut mapped) else { return false };
    // To list them takes less than to follow them.
    let followed = mapped.fd().and_then(|all| statat(all, &*name, AtFlags::empty()));
    !matches!(followed, Err(Errno::ACCESS | Errno::PERM))
}

/// Says once what isn't counted here.
fn say_blind() {
    if !process(std::process::id()).is_some_and(sees_mapped) {
        tracing::warn!("{UNMAPPED}");
    }
}

/// Ends executors and drivers of whom has more than `--disk` here, as long as it is polled.
pub async fn watch(processes: Arc<Processes>) {
    let mut looks = BTreeMap::new();
    say_blind();
    loop {
        let (began, owners, limit) = (Instant::now(), processes.owners(), processes.disk());
        let of = processes.clone();
        let look = move || {
            let over = look_at_all(&mut looks, &owners, limit, of.shares());
            (looks, owners, over)
        };
        // It doesn't panic; the runtime may end.
        let Ok((looked, owners, over)) = tokio::task::spawn_blocking(look).await else { return };
        looks = looked;
        for (owner, why) in over {
            let names = owners.get(owner).map_or(&[][..], |owner| &owner.processes);
            if names.iter().filter(|(name, _)| processes.expel(name, &why)).count() > 0 {
                tracing::warn!("{why}: its processes here are ended");
            }
        }
        let part = if looks.values().all(|look| look.at.is_none()) { PART } else { LARGE_PART };
        tokio::time::sleep(EVERY.max(began.elapsed() * part)).await;
    }
}

/// Who is looked at, by their folders.
type Looks = BTreeMap<PathBuf, Looked>;

#[derive(Default)]
struct Looked {
    /// Where it goes on.
    at: Option<Look>,
    /// The last time it had too much: what came, went, or was renamed meanwhile may have been counted twice.
    was_over: bool,
}

/// A turn for each. Gives those who have too much, and what is to be said of it.
fn look_at_all(
    looks: &mut Looks,
    owners: &[Owner],
    limit: u64,
    shares: &Mutex<Shares>,
) -> Vec<(usize, String)> {
    looks.retain(|folder, _| owners.iter().any(|owner| owner.folder == *folder));
    let mut over = Vec::new();
    for (place, owner) in owners.iter().enumerate() {
        let looked = looks.entry(owner.folder.clone()).or_default();
        let look = looked.at.get_or_insert_with(|| {
            shares.lock().look_begins(&owner.id);
            Look::new(owner)
        });
        let Some(found) = look.go_on(owner, TURN, limit) else { continue };
        looked.at = None;
        let id = &owner.id;
        if let Found::Bytes(bytes) = found {
            shares.lock().look_ends(id, bytes);
        }
        let why = match found {
            Found::Bytes(bytes) if bytes <= limit => {
                looked.was_over = false;
                continue;
            }
            Found::Bytes(_) if !looked.was_over => {
                looked.was_over = true;
                continue;
            }
            Found::Bytes(bytes) => {
                let (bytes, limit) = (ByteSize(bytes), ByteSize(limit));
                format!(
                    "{id} has {bytes} on this worker's disk, more than its --disk allows an application, {limit}"
                )
            }
            Found::TooMany => format!(
                "{id} has more than {MOST} files and folders on this worker's disk, and no more are allowed"
            ),
            Found::TooDeep => format!(
                "{id} has more than {DEEPEST} folders in each other on this worker's disk, and no more are allowed"
            ),
        };
        over.push((place, why));
    }
    over
}

/// It was said that it can't be looked at what processes have open.
static BLIND: Once = Once::new();
const WORDS: &str = "files that a process removed and holds open don't count for --disk: only a worker of root's with the capability to trace \
                     (CAP_SYS_PTRACE) sees them";
const UNMAPPED: &str = "files that a process removed and has only mapped don't count for --disk: only a worker of root's with CAP_CHECKPOINT_RESTORE, or \
                        CAP_SYS_ADMIN, sees them";

/// What one has.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Bytes(u64),
    TooMany,
    TooDeep,
}

/// Where a look is.
struct Look {
    /// Folders in each other whose entries are read.
    folders: Vec<Dir>,
    /// Processes that are still to be looked at, from when that is done, and what one of them has open and mapped.
    processes: Option<Vec<Arc<OwnedFd>>>,
    open: Vec<Dir>,
    /// The disk.
    device: Option<u64>,
    /// Files that were removed, and are counted.
    removed: HashSet<u64>,
    bytes: u64,
    entries: usize,
}

impl Look {
    fn new(owner: &Owner) -> Self {
        let folder = trees::enter(CWD, &owner.folder).ok();
        let device = folder.as_ref().and_then(|folder| Some(folder.stat().ok()?.st_dev));
        Self {
            folders: folder.into_iter().collect(),
            processes: None,
            open: Vec::new(),
            device,
            removed: HashSet::new(),
            bytes: 0,
            entries: 0,
        }
    }

    /// Looks at so much more. None: that wasn't all.
    fn go_on(&mut self, owner: &Owner, room: usize, limit: u64) -> Option<Found> {
        let until = self.entries.saturating_add(room);
        while self.entries < until {
            if self.bytes > limit {
                return Some(Found::Bytes(self.bytes));
            }
            if self.entries >= MOST {
                return Some(Found::TooMany);
            }
            if self.folders.len() > DEEPEST {
                return Some(Found::TooDeep);
            }
            if !self.look_at_entry() && !self.look_at_open(owner) {
                return Some(Found::Bytes(self.bytes));
            }
        }
        None
    }

    /// The next entry of the innermost folder. False: there are no folders any more.
    fn look_at_entry(&mut self) -> bool {
        let Some(folder) = self.folders.last_mut() else { return false };
        let Some(Ok(name)) = trees::next(folder) else {
            self.folders.pop();
            return true;
        };
        self.entries += 1;
        // What goes meanwhile takes nothing.
        let Ok(folder) = folder.fd() else { return true };
        let Ok(stat) = statat(folder, &*name, AtFlags::SYMLINK_NOFOLLOW) else { return true };
        self.bytes = self.bytes.saturating_add(size(&stat).max(LEAST));
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && let Ok(inner) = trees::enter(folder, &*name)
        {
            self.folders.push(inner);
        }
        true
    }

    /// The next file that a process has open, or mapped. False: there are none any more.
    fn look_at_open(&mut self, owner: &Owner) -> bool {
        let Some(all) = self.open.last_mut() else {
            let those = owner.processes.iter().filter_map(|(_, process)| process.clone());
            let Some(process) = self.processes.get_or_insert_with(|| those.collect()).pop() else {
                return false;
            };
            let [open, mapped] = lists(&process);
            if let Err(Errno::ACCESS | Errno::PERM) = open {
                BLIND.call_once(|| tracing::warn!("{WORDS}"));
            }
            self.open.extend([open, mapped].into_iter().flatten());
            return true;
        };
        let Some(Ok(name)) = trees::next(all) else {
            self.open.pop();
            return true;
        };
        self.entries += 1;
        // What it leads to, whatever that was called.
        let Ok(stat) = all.fd().and_then(|all| statat(all, &*name, AtFlags::empty())) else {
            return true;
        };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let is_removed = is_file && stat.st_nlink == 0 && Some(stat.st_dev) == self.device;
        if is_removed && self.removed.insert(stat.st_ino) {
            self.bytes = self.bytes.saturating_add(size(&stat));
        }
        true
    }
}

fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::process::Command;
    use std::{fs, io};

    use super::*;
    use crate::worker::nests::{nest, place};

    fn owner(id: &str, folder: &Path, processes: &[u32]) -> Owner {
        let name = |executor| Name::Executor { application: id.to_owned(), executor };
        let processes = processes.iter().map(|number| (name(*number), process(*number))).collect();
        Owner { id: id.to_owned(), folder: folder.to_owned(), processes }
    }

    /// All that one has, in turns of so much.
    fn found(folder: &Path, processes: &[u32], room: usize, limit: u64) -> (Found, u32) {
        let owner = owner("app-1", folder, processes);
        let mut look = Look::new(&owner);
        let mut turns = 1;
        loop {
            if let Some(found) = look.go_on(&owner, room, limit) {
                return (found, turns);
            }
            turns += 1;
        }
    }

    fn bytes(folder: &Path, processes: &[u32]) -> u64 {
        match found(folder, processes, usize::MAX, u64::MAX) {
            (Found::Bytes(bytes), 1) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_that_lies_in_a_folder_counts_and_nothing_beyond_links() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(elsewhere.path().join("large"), vec![1; 1 << 20]).unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        symlink(elsewhere.path(), dir.path().join("a/link")).unwrap();
        let small = bytes(dir.path(), &[]);
        assert!(small < 100 << 10, "{small}");
        fs::write(dir.path().join("a/b/file"), vec![1; 200 << 10]).unwrap();
        // A file that is long, and takes nothing but its name.
        fs::File::create(dir.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        let large = bytes(dir.path(), &[]) - small;
        assert!((200 << 10..300 << 10).contains(&large), "{large}");
        assert_eq!(bytes(&dir.path().join("none"), &[]), 0);
    }

    #[test]
    fn what_was_removed_counts_as_long_as_it_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let process = std::process::id();
        let before = bytes(dir.path(), &[process]);
        let path = dir.path().join("file");
        fs::write(&path, vec![1; 3 << 20]).unwrap();
        let open: Vec<_> = (0..3).map(|_| fs::File::open(&path).unwrap()).collect();
        fs::remove_file(&path).unwrap();
        let with = bytes(dir.path(), &[process]) - before;
        assert!((3 << 20..4 << 20).contains(&with), "once: {with}");
        assert_eq!(bytes(dir.path(), &[]), before);
        drop(open);
        assert_eq!(bytes(dir.path(), &[process]), before);
    }

    #[test]
    fn what_was_removed_counts_as_long_as_it_is_mapped() {
        let own = std::process::id();
        if !process(own).is_some_and(sees_mapped) {
            eprintln!("SKIPPED: this host doesn't let it look at what processes have mapped");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sleep");
        fs::copy("/bin/sleep", &path).unwrap();
        let size = size(&rustix::fs::stat(&path).unwrap());
        // A process maps its program. One that another test just starts may still have the file open for writing.
        let mut child = loop {
            match Command::new(&path).arg("1000").spawn() {
                Err(busy) if busy.kind() == io::ErrorKind::ExecutableFileBusy => {
                    std::thread::yield_now();
                }
                started => break started.unwrap(),
            }
        };
        // Whoever starts it goes on before the kernel has mapped it.
        let mapped = || fs::read_to_string(format!("/proc/{}/maps", child.id()));
        while !mapped().unwrap().contains("/sleep") {
            std::thread::yield_now();
        }
        fs::remove_file(&path).unwrap();
        let held = [child.id()];
        let with = bytes(dir.path(), &held);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(size > 0 && with == size, "{with} of {size}");
        assert_eq!(bytes(dir.path(), &held), 0);
    }

    const FOLDER: &str = "INGLE_TEST_FOLDER";

    /// Makes a process whose first thread ends while another has a removed file open.
    #[test]
    #[ignore = "it is run by another test, in a process of its own"]
    #[allow(unsafe_code)]
    fn its_first_thread_ends() {
        let folder = std::path::PathBuf::from(std::env::var_os(FOLDER).expect("a folder"));
        // SAFETY: the process's other thread waits for this one, and holds no lock that the new process could need.
        let child = unsafe { libc::fork() };
        if child > 0 {
            println!("\nmade {child}");
            std::thread::sleep(Duration::from_secs(1000));
        }
        let path = folder.join("file");
        fs::write(&path, vec![1; 3 << 20]).unwrap();
        let open = fs::File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(1000));
            drop(open);
        });
        // SAFETY: this ends the thread and nothing else; nobody joins it, and what it owns is never used again.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }

    #[test]
    fn what_other_threads_hold_counts_though_the_first_one_has_ended() {
        use std::io::{BufRead, BufReader};
        let dir = tempfile::tempdir().unwrap();
        let mut maker = Command::new(std::env::current_exe().unwrap())
            .args(["worker::disk::tests::its_first_thread_ends", "--exact", "--ignored"])
            .arg("--nocapture")
            .env(FOLDER, dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(maker.stdout.take().unwrap());
        let made = said.lines().find_map(|line| line.unwrap().strip_prefix("made ")?.parse().ok());
        let made: u32 = made.expect("it makes one");
        let held = process(made).unwrap();
        let began = Instant::now();
        while !has_ended(&held) {
            assert!(began.elapsed() < Duration::from_secs(60), "it ends");
            std::thread::yield_now();
        }
        let with = bytes(dir.path(), &[made]);
        let made = rustix::process::Pid::from_raw(made as i32).unwrap();
        rustix::process::kill_process(made, rustix::process::Signal::KILL).unwrap();
        maker.kill().unwrap();
        maker.wait().unwrap();
        assert!((3 << 20..4 << 20).contains(&with), "{with}");
    }

    #[test]
    fn a_process_that_has_ended_shows_nothing_whoever_has_its_number() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let held = process(child.id()).unwrap();
        assert!(list(&held, "fd").is_ok());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(list(&held, "fd").is_err() && list(&held, "map_files").is_err());
        let dir = tempfile::tempdir().unwrap();
        let mut owner = owner("app-1", dir.path(), &[]);
        let mut look = Look::new(&owner);
        // Who began while it was looked for files is looked at as well.
        let name = |executor| Name::Executor { application: "app-1".into(), executor };
        owner.processes.extend([(name(0), Some(held)), (name(1), process(std::process::id()))]);
        let before = look.entries;
        assert!(matches!(look.go_on(&owner, usize::MAX, u64::MAX), Some(Found::Bytes(_))));
        assert!(look.entries > before, "its own descriptors");
    }

    #[test]
    fn who_nests_folders_is_told_from_who_does_not() {
        let dir = tempfile::tempdir().unwrap();
        nest(dir.path(), DEEPEST - 1);
        assert!(matches!(found(dir.path(), &[], 3, u64::MAX), (Found::Bytes(_), 2..)));
        let dir = place();
        nest(dir.path(), 3000);
        assert_eq!(found(dir.path(), &[], usize::MAX, u64::MAX), (Found::TooDeep, 1));
        let dir = tempfile::tempdir().unwrap();
        (0..9).for_each(|n| fs::write(dir.path().join(n.to_string()), "").unwrap());
        let (Found::Bytes(least), _) = found(dir.path(), &[], usize::MAX, u64::MAX) else {
            panic!()
        };
        assert_eq!(least, 9 * LEAST, "also what is empty");
        let (Found::Bytes(some), _) = found(dir.path(), &[], usize::MAX, 1000) else { panic!() };
        assert_eq!(some, 2 * LEAST, "no more is looked at than is needed");
    }

    #[test]
    fn one_with_many_files_keeps_nobody_from_being_looked_at() {
        let (many, large) = (place(), tempfile::tempdir().unwrap());
        (0..=2 * TURN).for_each(|n| {
            rustix::fs::mknodat(
                CWD,
                many.path().join(n.to_string()),
                FileType::Fifo,
                Mode::RUSR,
                0,
            )
            .unwrap();
        });
        fs::write(large.path().join("file"), vec![1; 1 << 20]).unwrap();
        let owners = [owner("app-1", many.path(), &[]), owner("app-2", large.path(), &[])];
        let ids = |looks: &mut Looks, limit| {
            let over = look_at_all(looks, &owners, limit, &Mutex::default());
            over.into_iter().map(|(place, why)| (owners[place].id.clone(), why)).collect::<Vec<_>>()
        };
        let half = TURN as u64 * LEAST * 3 / 2;
        let mut looks = Looks::new();
        assert!(
            ids(&mut looks, 1 << 19).is_empty(),
            "what goes while it is looked doesn't count twice"
        );
        let first = ids(&mut looks, 1 << 19);
        let [(both, _), (large, why)] = &first[..] else { panic!("{first:?}") };
        assert!(both == "app-1" && large == "app-2");
        assert!(
            why.contains("app-2 has 1.0 MiB on")
                && why.ends_with("its --disk allows an application, 512.0 KiB"),
            "{why}"
        );
        // It takes two turns to see too much, and is believed the second time.
        let mut looks = Looks::new();
        let counts: Vec<_> = (0..4).map(|_| ids(&mut looks, half).len()).collect();
        assert_eq!(counts, [0, 0, 0, 1]);
    }
}
