//! What a worker puts around the processes that it starts, and what they can't put around themselves on this host.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ingle_core::size::ByteSize;
use ingle_proto::v1;
use ingle_walls::{Down, Group, Groups, Room, Wall};

use super::WorkerOptions;
use crate::walls::judge;

/// What a process takes beside the memory that it was granted: its program, stacks, compiled code, what it sends and receives.
const OWN_MEMORY: u64 = 512 << 20;
/// And the part of that which tables and fragments may take.
const OWN_PART: u64 = 8;
/// Threads of a process beside those of its slots.
const OWN_THREADS: u64 = 1024;
/// And for each core.
const THREADS_PER_CORE: u64 = 8;

/// The walls of one worker's processes.
pub struct Walls {
    groups: Arc<Groups>,
    /// Those that must stand, by their names.
    pub required: Vec<String>,
    /// Those that this host doesn't have.
    pub down: Vec<Down>,
    made: AtomicU64,
}

impl Walls {
    /// Finds out what this host has. The error: not what must stand.
    pub fn find(options: &WorkerOptions) -> Result<Self, String> {
        let (groups, mut down) = Groups::find();
        down.extend(probe(options));
        judge(&down, &options.required_walls)?;
        let required = options.required_walls.clone();
        Ok(Self { groups: Arc::new(groups), required, down, made: AtomicU64::new(0) })
    }

    /// Encloses a process that was just started. It may take the kernel some milliseconds. The error: a wall doesn't stand that must.
    pub fn enclose(&self, process: Option<u32>, room: v1::Room) -> Result<Enclosed, String> {
        let Some(process) = process else { return Err("it ended at once".into()) };
        let memory = room.memory.saturating_add(OWN_MEMORY.max(room.memory / OWN_PART));
        let threads = OWN_THREADS + THREADS_PER_CORE * u64::from(room.cores);
        // A number of the system's may come again.
        let name = format!("{process}-{}", self.made.fetch_add(1, Ordering::Relaxed));
        let (group, down) =
            self.groups.admit(process, &name, Room { memory, threads, cores: room.cores });
        let is_new = |down: &&Down| !self.down.iter().any(|known| known.wall == down.wall);
        let new: Vec<_> = down.iter().filter(is_new).cloned().collect();
        judge(&new, &self.required)?;
        Ok(Enclosed { group, granted: room.memory, memory })
    }
}

/// What holds one process.
pub struct Enclosed {
    group: Group,
    granted: u64,
    memory: u64,
}

impl Enclosed {
    /// What it could have, if the kernel killed it for taking more. It has ended: what held it goes.
    pub fn killed_for_memory(self) -> Option<ByteSize> {
        let Self { group, memory, .. } = self;
        let killed = group.killed_for_memory();
        // It goes once the kernel has let go of the process, which nobody waits for.
        tokio::task::spawn_blocking(move || drop(group));
        killed.then_some(ByteSize(memory))
    }

    /// How a process ended, once what held it is consulted, and gone.
    pub fn judge(self, (finished, reason): (bool, String)) -> (bool, String) {
        let granted = ByteSize(self.granted);
        let Some(memory) = self.killed_for_memory().filter(|_| !finished) else {
            return (finished, reason);
        };
        let why = format!(
            "the kernel killed it for want of memory: it took more than {memory}, which is {granted} that it was granted and the rest for the \
             process itself; give it more with --executor-memory or --driver-memory"
        );
        (false, why)
    }
}

/// Walls that a process of this program can't raise here, as one says that tries.
fn probe(options: &WorkerOptions) -> Vec<Down> {
    let output = std::process::Command::new(&options.program)
        .args(["doctor", "--probe"])
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let why = match output {
        Ok(output) if output.status.success() => {
            return Down::read(&String::from_utf8_lossy(&output.stdout));
        }
        Ok(output) => format!("the process that tried ended with {}", output.status),
        Err(error) => format!("no process could be started to try: {error}"),
    };
    let unknown = Wall::ALL.into_iter().filter(|wall| !wall.is_group());
    unknown.map(|wall| Down { wall, why: why.clone() }).collect()
}
