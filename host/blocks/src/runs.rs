//! What a task keeps at the host while it runs: temporary runs of blocks, and its result.

use std::ops::Deref;
use std::sync::Arc;

use ingle_core::memory::{Account, MemoryUse, Reservation};

use crate::block_reader::BlockReader;
use crate::error::{Error, Result};
use crate::packer::{Keep, Packer, Segments, Shared};
use crate::segment::{Packed, Place};
use crate::spill::SpillFile;

/// More at a time than any sane task needs; each costs the host some memory even when it is empty.
const MAX_RUNS: usize = 1 << 16;

/// The runs of one attempt of a task. They go when it does.
pub struct RunSet {
    shared: Arc<Shared>,
    /// All runs spill to one file.
    file: Arc<SpillFile>,
    runs: Vec<Run>,
    /// The one that was made last.
    last: usize,
    /// Dropped ones, whose numbers may be given out again.
    free: Vec<u32>,
    account: Option<Arc<Account>>,
}

impl Drop for RunSet {
    fn drop(&mut self) {
        // It goes with them.
        self.file.set_holes(false);
    }
}

enum Run {
    Writing(Packer),
    Reading(Segments),
    Dropped,
}

impl RunSet {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let file = SpillFile::new(&shared.folder);
        file.set_holes(true);
        Self {
            shared: shared.clone(),
            file,
            runs: Vec::new(),
            last: 0,
            free: Vec::new(),
            account: None,
        }
    }

    /// What it holds is counted on an account.
    pub fn on(mut self, account: &Arc<Account>) -> Self {
        self.account = Some(account.clone());
        self
    }

    /// A new, empty run.
    pub fn create(&mut self) -> Result<u32> {
        let free = self.free.pop();
        if free.is_none() && self.runs.len() >= MAX_RUNS {
            return Err(Error::Invalid(format!("a task may have {MAX_RUNS} runs, not more")));
        }
        // Many tasks fill one run after the other.
        if let Some(Run::Writing(packer)) = self.runs.get_mut(self.last) {
            packer.seal()?;
        }
        let mut packer = Packer::of_run(&self.shared, self.file.clone());
        if let Some(account) = &self.account {
            packer.count_on(account);
        }
        let place = free.and_then(|free| Some((free, self.runs.get_mut(free as usize)?)));
        let run = if let Some((free, place)) = place {
            *place = Run::Writing(packer);
            free
        } else {
            self.runs.push(Run::Writing(packer));
            (self.runs.len() - 1) as u32
        };
        self.last = run as usize;
        Ok(run)
    }

    /// Adds a block to a run that wasn't opened yet; an empty block is left out.
    pub fn write(&mut self, run: u32, block: &[u8]) -> Result<()> {
        match self.runs.get_mut(run as usize) {
            Some(Run::Writing(packer)) => packer.push(0, block),
            Some(Run::Reading(_)) => Err(Error::Invalid(format!(
                "run {run} was opened: it can't be written to any more"
            ))),
            Some(Run::Dropped) | None => Err(no_run(run)),
        }
    }

    /// Reads a run from its start; from now on nobody writes to it.
    pub fn open(&mut self, run: u32) -> Result<BlockReader> {
        let place = self.runs.get_mut(run as usize).ok_or_else(|| no_run(run))?;
        let segments = match std::mem::replace(place, Run::Dropped) {
            Run::Writing(packer) => packer.finish()?.unwrap_or_default(),
            Run::Reading(segments) => segments,
            Run::Dropped => return Err(no_run(run)),
        };
        *place = Run::Reading(segments.clone());
        BlockReader::of(&self.shared, segments)
    }

    /// Forgets a run. Those who read it now may go on.
    pub fn drop_run(&mut self, run: u32) -> Result<()> {
        match self.runs.get_mut(run as usize) {
            Some(Run::Dropped) | None => return Err(no_run(run)),
            Some(place) => *place = Run::Dropped,
        }
        self.free.push(run);
        Ok(())
    }
}

fn no_run(run: u32) -> Error {
    Error::Invalid(format!("there is no run {run}"))
}

/// What a task emits for the driver, in memory or on disk until the driver takes it.
pub struct ResultBuffer(Packer);

impl ResultBuffer {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self(Packer::new(shared, MemoryUse::Shuffle, Keep::Spill))
    }

    /// What it holds is counted on an account.
    pub fn on(mut self, account: &Arc<Account>) -> Self {
        self.0.count_on(account);
        self
    }

    /// Adds bytes to the result.
    pub fn emit(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.push(0, bytes)
    }

    /// The task is done: what it emitted, as one value.
    pub fn finish(self) -> Result<TaskResult> {
        let (bytes, shared) = (self.0.bytes(), self.0.shared().clone());
        Ok(TaskResult { shared, bytes, segments: self.0.finish()?.unwrap_or_default() })
    }
}

/// The result of a task that succeeded. May still be spilled.
pub struct TaskResult {
    shared: Arc<Shared>,
    bytes: u64,
    segments: Segments,
}

impl TaskResult {
    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Brings the whole value into memory, charged until it is dropped.
    pub fn load(self) -> Result<Loaded> {
        let Self { shared, bytes, segments } = self;
        // Most results are one segment that never left memory: hand out its bytes themselves.
        if let [segment] = &*segments
            && let Place::Memory(packed) = segment.place()
        {
            return Ok(Loaded(Value::Whole(packed)));
        }
        let charge = shared.pool.reserve(MemoryUse::Shuffle, bytes)?;
        let mut value = Vec::with_capacity(bytes as usize);
        let mut reader = BlockReader::of(&shared, segments)?;
        while let Some(block) = reader.next_block()? {
            value.extend_from_slice(block);
        }
        Ok(Loaded(Value::Joined(value, charge)))
    }
}

/// A task's result in memory.
pub struct Loaded(Value);

enum Value {
    Whole(Arc<Packed>),
    Joined(Vec<u8>, #[expect(dead_code, reason = "credited on drop")] Reservation),
}

impl Deref for Loaded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Value::Whole(packed) => packed.bytes(),
            Value::Joined(value, _) => value,
        }
    }
}
