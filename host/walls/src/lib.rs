//! The second wall: what a process that runs a guest gives up before it does.
//!
//! The first is WebAssembly. Should a guest get through it, it is in a process that can open only the files that its job was granted, make
//! only the system calls that an executor makes, start no program, signal nobody, and take no more memory than it was given. A process
//! raises its own walls, once it knows what it needs and before it has more than one thread: a thread that was there before would stay
//! outside.

mod calls;
mod files;
mod groups;
mod process;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

pub use groups::{Group, Groups, Room};
pub use process::{Inherited, environment};

/// A wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wall {
    /// Nothing that a parent left open, but the standard streams; and no more than so many of its own.
    Descriptors,
    /// No core dumps, and no other process of the user looks into the memory.
    Dumps,
    /// No program gives more rights than the process has.
    Privileges,
    /// No capability, though the user be root.
    Capabilities,
    /// A user that nothing else has: neither its worker nor another application.
    User,
    /// Landlock: only the files that were granted.
    Files,
    /// Landlock: no signals to, and no abstract sockets of, other processes.
    Signals,
    /// Seccomp: only the system calls that an executor makes.
    Calls,
    /// Seccomp, landlock: no connections but those that it is handed, and what was granted.
    Network,
    /// A cgroup: memory beyond what was granted, and the host's own, is refused by the kernel.
    Memory,
    /// A cgroup: so many threads and no more.
    Threads,
    /// A cgroup: processor time by the cores that were granted.
    Cores,
}

impl Wall {
    /// All, in the order in which they are raised.
    pub const ALL: [Wall; 12] = [
        Wall::Memory,
        Wall::Threads,
        Wall::Cores,
        Wall::User,
        Wall::Descriptors,
        Wall::Dumps,
        Wall::Privileges,
        Wall::Capabilities,
        Wall::Files,
        Wall::Signals,
        Wall::Calls,
        Wall::Network,
    ];

    /// Its name in settings and on pages.
    pub fn name(self) -> &'static str {
        match self {
            Wall::Descriptors => "descriptors",
            Wall::Dumps => "dumps",
            Wall::Privileges => "privileges",
            Wall::Capabilities => "capabilities",
            Wall::User => "user",
            Wall::Files => "files",
            Wall::Signals => "signals",
            Wall::Calls => "calls",
            Wall::Network => "network",
            Wall::Memory => "memory",
            Wall::Threads => "threads",
            Wall::Cores => "cores",
        }
    }

    /// What it keeps a process from that has got out of its sandbox.
    pub fn meaning(self) -> &'static str {
        match self {
            Wall::Descriptors => {
                "using what the process that started it had open, or opening files without end"
            }
            Wall::Dumps => {
                "leaving its memory in a core dump, or showing it to others of the same user"
            }
            Wall::Privileges => "getting rights from a program with the set-user-id bit",
            Wall::Capabilities => "doing what only root may",
            Wall::User => "being the user whom its worker and other applications' processes run as",
            Wall::Files => "opening files that its job wasn't granted",
            Wall::Signals => "signalling other processes, or talking to their abstract sockets",
            Wall::Calls => {
                "system calls that an executor doesn't make: no other program is started"
            }
            Wall::Network => {
                "connecting to anybody but its driver and other workers, if its job has no --allow-net and no object store"
            }
            Wall::Memory => "taking more of the host's memory than it was granted",
            Wall::Threads => "starting threads without end",
            Wall::Cores => "taking processor time from its neighbours",
        }
    }

    /// How a host gets it.
    pub fn remedy(self) -> &'static str {
        match self {
            Wall::User => {
                "have root start the worker, where other users reach its --work-dir and its program"
            }
            Wall::Files => "it needs Linux 5.19 or later with landlock among its `lsm=`",
            Wall::Signals => "it needs Linux 6.12 or later with landlock among its `lsm=`",
            Wall::Calls | Wall::Network => "it needs a kernel with CONFIG_SECCOMP_FILTER",
            Wall::Memory | Wall::Threads | Wall::Cores => {
                "run the worker as root, or under systemd with Delegate=yes"
            }
            Wall::Descriptors | Wall::Dumps | Wall::Privileges | Wall::Capabilities => {
                "something keeps this process from changing itself: another sandbox around it, perhaps"
            }
        }
    }

    /// Whether whoever starts a process puts it behind this one; the others it raises itself.
    pub fn is_put_around(self) -> bool {
        matches!(self, Wall::Memory | Wall::Threads | Wall::Cores | Wall::User)
    }

    /// The wall of this name.
    pub fn named(name: &str) -> Option<Wall> {
        Self::ALL.into_iter().find(|wall| wall.name() == name)
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A wall that doesn't stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Which.
    pub wall: Wall,
    /// What the system said.
    pub why: String,
}

impl Down {
    /// It doesn't stand, for this reason.
    pub fn new(wall: Wall, why: impl fmt::Display) -> Self {
        Self { wall, why: why.to_string() }
    }

    /// One a line, as [`Down::read`] reads them.
    pub fn line(&self) -> String {
        format!("{}\t{}\n", self.wall, self.why.replace(['\n', '\t'], " "))
    }

    /// What another process wrote; other lines are left out.
    pub fn read(lines: &str) -> Vec<Down> {
        let read = |line: &str| {
            let (name, why) = line.split_once('\t')?;
            Some(Down::new(Wall::named(name)?, why))
        };
        lines.lines().filter_map(read).collect()
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the wall `{}` doesn't stand: {}; {}", self.wall, self.why, self.wall.remedy())
    }
}

/// A file or a folder.
#[derive(Clone, Debug)]
pub enum Place {
    /// What is there when the walls are raised, wherever links lead. Only for paths that no job can change.
    Path(PathBuf),
    /// What was opened, whatever has its name by now.
    Open(Arc<OwnedFd>),
}

impl From<PathBuf> for Place {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<OwnedFd> for Place {
    fn from(opened: OwnedFd) -> Self {
        Self::Open(Arc::new(opened))
    }
}

/// What a process goes on using.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Files and folders, and all in them, that it reads.
    pub read: Vec<Place>,
    /// And those that it also writes.
    pub write: Vec<Place>,
    /// Folders from which, and from those below, it removes folders that are empty.
    pub clear: Vec<PathBuf>,
    /// What it makes of the network by itself.
    pub sockets: Sockets,
    /// If its user is root: whether it goes on opening files whose owners don't let others. Which ones, the other walls say.
    pub owns_all: bool,
}

/// Which connections a process has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sockets {
    /// Those that are open, that somebody makes with what listens already, and that another process hands it.
    #[default]
    Handed,
    /// And those that it makes, by TCP and UDP; by TCP to these ports only, if any are named and the kernel can tell them.
    Own(Option<Vec<u16>>),
}

/// Raises the walls that a process can raise for itself. Gives those that don't stand.
///
/// The process must have one thread only, and nothing open that it doesn't know of but what its parent left.
pub fn raise(needs: &Needs) -> Vec<Down> {
    let mut down = Vec::new();
    let mut note = |wall, raised: Result<(), String>| {
        if let Err(why) = raised {
            down.push(Down::new(wall, why));
        }
    };
    note(Wall::Descriptors, process::limit());
    note(Wall::Dumps, process::no_dumps());
    note(Wall::Privileges, process::no_new_privileges());
    note(Wall::Capabilities, process::no_capabilities(needs.owns_all));
    let [files, signals] = files::restrict(needs);
    note(Wall::Files, files);
    note(Wall::Signals, signals);
    // Last: the others need calls that it refuses.
    let calls = calls::filter(&needs.sockets);
    note(Wall::Network, calls.clone());
    note(Wall::Calls, calls);
    down
}

/// Closes what a parent left open, at the very start of a process. As a wall that doesn't stand if that fails.
pub fn close_inherited() -> Option<Down> {
    process::close_inherited().err().map(|why| Down::new(Wall::Descriptors, why))
}

/// Has the kernel end this process when whoever started it ends. To be called once it runs as the user that it shall be.
pub fn end_with_parent() {
    process::end_with_parent();
}

/// Raises this process's walls, and says in lines on standard output which of them don't stand: the other end of [`probe`].
pub fn be_probed() {
    let mut down = Vec::from_iter(close_inherited());
    down.extend(raise(&Needs::default()));
    down.iter().for_each(|down| print!("{}", down.line()));
}

/// Which of the walls that a process raises for itself this host doesn't have, as one says that tries: it can't take them down again.
/// `program` with these arguments calls [`be_probed`]. If it fails, none of them is taken to stand.
pub fn probe(program: &Path, arguments: &[&str]) -> Vec<Down> {
    let tried = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let why = match tried {
        Ok(tried) if tried.status.success() => {
            return Down::read(&String::from_utf8_lossy(&tried.stdout));
        }
        Ok(tried) => format!("the process that tried ended with {}", tried.status),
        Err(error) => format!("no process could be started to try: {error}"),
    };
    let own = Wall::ALL.into_iter().filter(|wall| !wall.is_put_around());
    own.map(|wall| Down::new(wall, &why)).collect()
}
