//! Cgroups: what the kernel lets the processes of one executor take together, in version 1 and 2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Down, Wall};

/// What a process was granted.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Bytes of its guests, their data, and the host's own.
    pub memory: u64,
    /// Threads.
    pub threads: u64,
    /// Cores: a share of processor time beside others, not a limit where nobody else wants it.
    pub cores: u32,
}

/// Where this process may make groups.
#[derive(Debug)]
pub struct Groups {
    made: Vec<(Controller, PathBuf)>,
    /// The host can put memory on a disk: what is bounded there is bounded with it.
    swaps: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    /// All of them, in one tree.
    Unified,
    Memory,
    Pids,
    Cpu,
}

/// Names of the groups of this program's processes begin so; then come the process's number and another.
const PREFIX: &str = "ingle-";

impl Groups {
    /// Looks where groups can be made, and removes those of processes that are gone. Gives the walls that the host doesn't have.
    pub fn find() -> (Self, Vec<Down>) {
        let (groups, own) = (Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup"));
        Self::find_in(groups, own, Path::new("/proc/swaps"))
    }

    /// Makes none.
    pub fn none() -> Self {
        Self { made: Vec::new(), swaps: false }
    }

    fn find_in(root: &Path, own: &Path, swaps: &Path) -> (Self, Vec<Down>) {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let own = fs::read_to_string(own).unwrap_or_default();
        // Below a heading.
        let swaps = fs::read_to_string(swaps).is_ok_and(|all| all.lines().count() > 1);
        let (mut made, mut down) = (Vec::new(), Vec::new());
        if let Some(below) = own.lines().find_map(|line| line.strip_prefix("0::"))
            && root.join("cgroup.controllers").exists()
        {
            let parent = root.join(below.trim_start_matches('/'));
            match unified(&parent, &name) {
                Ok(path) => {
                    down.extend(Controller::Unified.lacks_swap(swaps, &path));
                    made.push((Controller::Unified, path));
                }
                Err(error) => {
                    for wall in [Wall::Memory, Wall::Threads, Wall::Cores] {
                        down.push(Down::new(wall, &error));
                    }
                }
            }
            return (Self { made, swaps }, down);
        }
        let controllers = [
            (Controller::Memory, "memory", Wall::Memory),
            (Controller::Pids, "pids", Wall::Threads),
            (Controller::Cpu, "cpu", Wall::Cores),
        ];
        for (controller, mount, wall) in controllers {
            // As `7:cpu,cpuacct:/way`, and mounted under any of its names.
            let of = own.lines().find_map(|line| {
                let (names, below) = line.split_once(':')?.1.split_once(':')?;
                names.split(',').any(|name| name == mount).then_some(below)
            });
            let parent = root.join(mount).join(of.unwrap_or_default().trim_start_matches('/'));
            sweep(&parent);
            match fs::create_dir(parent.join(&name)) {
                Ok(()) => {
                    down.extend(controller.lacks_swap(swaps, &parent.join(&name)));
                    made.push((controller, parent.join(&name)));
                }
                Err(error) => down.push(Down::new(wall, at(&parent)(error))),
            }
        }
        (Self { made, swaps }, down)
    }

    /// Makes a group for a process that is about to be given work, and puts it there. Gives the walls that don't stand.
    pub fn admit(&self, process: u32, name: &str, room: Room) -> (Group, Vec<Down>) {
        let (mut group, mut down) = (Group(Vec::new()), Vec::new());
        for (controller, parent) in &self.made {
            let path = parent.join(name);
            let walls: &[Wall] = match controller {
                Controller::Unified => &[Wall::Memory, Wall::Threads, Wall::Cores],
                Controller::Memory => &[Wall::Memory],
                Controller::Pids => &[Wall::Threads],
                Controller::Cpu => &[Wall::Cores],
            };
            match fs::create_dir(&path).and_then(|()| {
                group.0.push(path.clone());
                for (file, value) in controller.limits(room) {
                    fs::write(path.join(file), value)?;
                }
                if let Some((file, value)) = controller.swap(room)
                    && let Err(error) = fs::write(path.join(file), value)
                    // That the kernel doesn't count it was said when this process started.
                    && self.swaps
                    && path.join(file).exists()
                {
                    down.push(Down::new(Wall::Memory, at(&path)(error)));
                }
                fs::write(path.join("cgroup.procs"), process.to_string())
            }) {
                Ok(()) => {}
                Err(error) => {
                    let why = at(&path)(error);
                    down.extend(walls.iter().map(|wall| Down::new(*wall, &why)));
                }
            }
        }
        (group, down)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for (_, path) in &self.made {
            // Something still runs in it: the next process of this program takes it away.
            let _ = fs::remove_dir(path);
        }
    }
}

impl Controller {
    /// What is written to a group's files, in this order.
    fn limits(self, room: Room) -> Vec<(&'static str, String)> {
        let Room { memory, threads, cores } = room;
        // The kernel's weights are 100 for a group, and 1024 in the older version.
        match self {
            Controller::Unified => vec![
                ("memory.max", memory.to_string()),
                ("pids.max", threads.to_string()),
                ("cpu.weight", (100 * cores).clamp(1, 10_000).to_string()),
            ],
            Controller::Memory => vec![("memory.limit_in_bytes", memory.to_string())],
            Controller::Pids => vec![("pids.max", threads.to_string())],
            Controller::Cpu => {
                vec![("cpu.shares", (1024 * u64::from(cores)).clamp(2, 262_144).to_string())]
            }
        }
    }

    /// And then, if the kernel counts that: none of its memory goes to a disk, where it would be bounded by nothing.
    fn swap(self, room: Room) -> Option<(&'static str, String)> {
        match self {
            Controller::Unified => Some(("memory.swap.max", "0".to_owned())),
            // With the memory, in this version.
            Controller::Memory => Some(("memory.memsw.limit_in_bytes", room.memory.to_string())),
            Controller::Pids | Controller::Cpu => None,
        }
    }

    /// What is missing where this host `swaps`, and its kernel doesn't count that for groups.
    fn lacks_swap(self, swaps: bool, group: &Path) -> Option<Down> {
        let (file, _) = self.swap(Room { memory: 0, threads: 0, cores: 0 })?;
        if !swaps || group.join(file).exists() {
            return None;
        }
        let why = format!(
            "this host swaps, and its kernel bounds that for no group: {file} isn't there; start it with swapaccount=1, or without swap"
        );
        Some(Down::new(Wall::Memory, why))
    }
}

/// Makes a group below the one of this process, for groups of its children. In version 2 a group has either processes or groups: so this process
/// moves to one of its own first.
fn unified(parent: &Path, name: &str) -> Result<PathBuf, String> {
    sweep(parent);
    let path = parent.join(name);
    let made = || -> io::Result<()> {
        let own = parent.join(format!("{PREFIX}{}-self", std::process::id()));
        if !own.exists() {
            fs::create_dir(&own)?;
        }
        fs::write(own.join("cgroup.procs"), std::process::id().to_string())?;
        fs::write(parent.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
        fs::create_dir(&path)?;
        fs::write(path.join("cgroup.subtree_control"), "+memory +pids +cpu")
    };
    made().map_err(at(parent))?;
    Ok(path)
}

/// Removes groups that processes left that are gone.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let Some((process, _)) = process.and_then(|name| name.split_once('-')) else { continue };
        let is_number = !process.is_empty() && process.bytes().all(|b| b.is_ascii_digit());
        if !is_number || Path::new("/proc").join(process).exists() {
            continue;
        }
        for child in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            if child.path().is_dir() {
                // A process may still be in it: then the next one takes it away.
                let _ = fs::remove_dir(child.path());
            }
        }
        let _ = fs::remove_dir(entry.path());
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("making a cgroup in {}: {error}", path.display())
}

/// The group of one process. Dropped after the process ended, it is removed.
#[derive(Debug)]
pub struct Group(Vec<PathBuf>);

impl Group {
    /// How often the kernel ended something in it for want of memory.
    pub fn killed_for_memory(&self) -> bool {
        let count = |path: &PathBuf| {
            let events = fs::read_to_string(path.join("memory.events"))
                .or_else(|_| fs::read_to_string(path.join("memory.oom_control")))
                .unwrap_or_default();
            events
                .lines()
                .filter_map(|line| line.strip_prefix("oom_kill "))
                .any(|n| n.trim().parse::<u64>().is_ok_and(|n| n > 0))
        };
        self.0.iter().any(count)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for path in &self.0 {
            // It goes as soon as the kernel has let go of the process.
            for _ in 0..500 {
                match fs::remove_dir(path) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(std::time::Duration::from_millis(10));
                    }
                    _ => break,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { memory: 4096, threads: 7, cores: 2 };

    fn read(path: PathBuf) -> String {
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The only folder in another.
    fn only(parent: &Path) -> PathBuf {
        let entries = fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path());
        let folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
        assert_eq!(folders.len(), 1, "{folders:?}");
        folders[0].clone()
    }

    #[test]
    fn version_1_has_a_tree_for_each_controller() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["memory/below", "cpu"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let own = root.path().join("own");
        fs::write(&own, "4:memory:/below\n3:cpu,cpuacct:/\n2:name=systemd:/\n").unwrap();
        let swaps = root.path().join("swaps");
        let (groups, down) = Groups::find_in(root.path(), &own, &swaps);
        assert_eq!(down.iter().map(|down| down.wall).collect::<Vec<_>>(), [Wall::Threads]);
        let (group, down) = groups.admit(77, "77-0", ROOM);
        assert!(down.is_empty(), "what is known to be missing isn't said again");
        let memory = only(&root.path().join("memory/below")).join("77-0");
        assert_eq!(read(memory.join("memory.limit_in_bytes")), "4096");
        assert_eq!(read(memory.join("memory.memsw.limit_in_bytes")), "4096");
        assert_eq!(read(memory.join("cgroup.procs")), "77");
        let cpu = only(&root.path().join("cpu")).join("77-0");
        assert_eq!((read(cpu.join("cpu.shares")).as_str(), group.0.len()), ("2048", 2));
        assert!(!group.killed_for_memory());
        fs::write(memory.join("memory.oom_control"), "under_oom 0\noom_kill 1\n").unwrap();
        assert!(group.killed_for_memory());
        let (_, down) = groups.admit(77, "77-0", ROOM);
        assert_eq!(down.len(), 2, "a name comes once");
    }

    #[test]
    fn version_2_has_one_tree_whose_groups_have_processes_or_groups() {
        let root = tempfile::tempdir().unwrap();
        let parent = root.path().join("unit");
        fs::create_dir(&parent).unwrap();
        fs::write(root.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
        let own = root.path().join("own");
        fs::write(&own, "0::/unit\n").unwrap();
        let swaps = root.path().join("swaps");
        let (groups, down) = Groups::find_in(root.path(), &own, &swaps);
        assert!(down.is_empty(), "{down:?}");
        let process = std::process::id();
        let moved = parent.join(format!("{PREFIX}{process}-self/cgroup.procs"));
        assert_eq!(read(moved), process.to_string());
        assert_eq!(read(parent.join("cgroup.subtree_control")), "+memory +pids +cpu");
        let (group, down) = groups.admit(5, "5-0", ROOM);
        assert!(down.is_empty(), "{down:?}");
        let path = &group.0[0];
        let limits = ["memory.max", "memory.swap.max", "pids.max", "cpu.weight", "cgroup.procs"];
        assert_eq!(limits.map(|file| read(path.join(file))), ["4096", "0", "7", "200", "5"]);
        // Another worker of the same process.
        let (_others, down) = Groups::find_in(root.path(), &own, &swaps);
        assert!(down.is_empty(), "{down:?}");
    }

    #[test]
    fn what_processes_left_that_are_gone_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let left = |name: &str| root.path().join(name);
        let own = format!("{PREFIX}{}-9/1-0", std::process::id());
        for name in [
            "ingle-999999999-0/1-0",
            "ingle-999999999-0/2-1",
            &own,
            "ingle--1",
            "ingle-x-1",
            "other",
        ] {
            fs::create_dir_all(left(name)).unwrap();
        }
        sweep(root.path());
        assert!(!left("ingle-999999999-0").exists());
        assert!(left(&own).exists() && left("ingle-x-1").exists() && left("other").exists());
    }

    #[test]
    fn a_host_that_swaps_without_counting_it_is_told_of_and_bounds_the_rest() {
        for version_2 in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let (own, swaps) = (root.path().join("own"), root.path().join("swaps"));
            fs::write(&swaps, "Filename Type\n").unwrap();
            if version_2 {
                fs::write(root.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
                fs::write(&own, "0::/\n").unwrap();
            } else {
                for name in ["memory", "pids", "cpu"] {
                    fs::create_dir(root.path().join(name)).unwrap();
                }
                fs::write(&own, "").unwrap();
            }
            let (_groups, down) = Groups::find_in(root.path(), &own, &swaps);
            assert!(down.is_empty(), "no swap: {down:?}");
            fs::write(&swaps, "Filename Type\n/dev/x partition\n").unwrap();
            let (groups, down) = Groups::find_in(root.path(), &own, &swaps);
            let [down] = &down[..] else { panic!("{down:?}") };
            assert_eq!(down.wall, Wall::Memory);
            assert!(down.to_string().contains("swapaccount=1"), "{down}");
            let (group, _) = groups.admit(9, "9-0", ROOM);
            let procs = group.0.iter().map(|path| read(path.join("cgroup.procs")));
            assert!(procs.eq(vec!["9"; group.0.len()]) && !group.0.is_empty());
        }
    }

    #[test]
    fn a_host_without_cgroups_is_told_of() {
        let root = tempfile::tempdir().unwrap();
        let none = root.path().join("none");
        let (groups, down) = Groups::find_in(&none, &none, &none);
        assert_eq!(down.len(), 3, "{down:?}");
        let (group, down) = groups.admit(1, "1-0", ROOM);
        assert!(group.0.is_empty() && down.is_empty());
    }
}
