//! What a worker puts around the processes that it starts, and what they can't put around themselves on this host.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ingle_core::size::ByteSize;
use ingle_proto::v1;
use ingle_walls::{Down, Group, Groups, Room, Wall};

use super::WorkerOptions;
use crate::broken::Outcome;
use crate::walls;

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
    /// Finds out what this host has; `no_users` is why its processes have none of their own. The error: not what must stand.
    pub fn find(options: &WorkerOptions, no_users: Option<&String>) -> Result<Self, String> {
        let (groups, mut down) = Groups::find();
        down.extend(walls::probe(&options.program));
        down.extend(no_users.map(|why| Down::new(Wall::User, why)));
        walls::judge(&down, &options.required_walls)?;
        let required = options.required_walls.clone();
        Ok(Self { groups: Arc::new(groups), required, down, made: AtomicU64::new(0) })
    }

    /// None at all.
    #[cfg(test)]
    pub fn none() -> Self {
        let (required, down) = (Vec::new(), Vec::new());
        Self { groups: Arc::new(Groups::none()), required, down, made: AtomicU64::new(0) }
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
        let enclosed = Enclosed { group: Some(group), granted: room.memory, memory };
        walls::judge(&new, &self.required)?;
        Ok(enclosed)
    }
}

/// What holds one process.
pub struct Enclosed {
    /// Until it is dropped.
    group: Option<Group>,
    granted: u64,
    memory: u64,
}

impl Enclosed {
    /// What it could have, if the kernel killed it for taking more.
    pub fn killed_for_memory(&self) -> Option<ByteSize> {
        let killed = self.group.as_ref().is_some_and(Group::killed_for_memory);
        killed.then_some(ByteSize(self.memory))
    }

    /// How a process ended, once what held it is consulted.
    pub fn judge(self, (outcome, reason): (Outcome, String)) -> (Outcome, String) {
        let granted = ByteSize(self.granted);
        let Some(memory) = self.killed_for_memory().filter(|_| outcome == Outcome::Failed) else {
            return (outcome, reason);
        };
        let why = format!(
            "the kernel killed it for want of memory: it took more than {memory}, which is {granted} that it was granted and the rest for the \
             process itself; give it more with --executor-memory or --driver-memory"
        );
        (Outcome::Failed, why)
    }
}

impl Drop for Enclosed {
    fn drop(&mut self) {
        // It can be removed once the kernel has let go of the process, which nobody waits for.
        let group = self.group.take();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(group))),
            // The worker ends.
            Err(_) => drop(group),
        }
    }
}
