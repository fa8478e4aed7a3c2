//! A task's host, that notes when its slot is in it: a task that waits for a disk or a network is no task that calls nothing.

use std::ops::Range;
use std::sync::Arc;

use ingle_sandbox::host::{
    Answer, Block, Extent, Fallible, FileWrites, Overdrawn, SplitDescription, Stop, TaskContext,
    TaskHost,
};

use super::guest::Guest;
use super::queue::Cancelled;

pub struct Hosted {
    guest: Guest,
    cancelled: Cancelled,
}

impl Hosted {
    pub fn new(guest: Guest, cancelled: Cancelled) -> Self {
        Self { guest, cancelled }
    }

    pub fn into_guest(self) -> Guest {
        self.guest
    }

    /// A call that may wait. A task that is told to stop meanwhile does when that comes back.
    fn waits<T>(&mut self, call: impl FnOnce(&mut Guest) -> Answer<T>) -> Answer<T> {
        self.cancelled.enter_host(true);
        let answer = call(&mut self.guest);
        self.cancelled.enter_host(false);
        if self.cancelled.is_stopped() { Err(Stop::Cancelled) } else { answer }
    }

    /// A call that stores something, and waits for the disk's rate.
    fn stores<T>(&mut self, call: impl FnOnce(&mut Guest) -> Answer<T>) -> Answer<T> {
        let cancelled = self.cancelled.clone();
        self.waits(|guest| {
            let answer = call(guest);
            guest.store().pay_for_writes(|| cancelled.is_stopped());
            answer
        })
    }
}

impl TaskHost for Hosted {
    fn cancelled(&self) -> bool {
        self.guest.cancelled()
    }

    fn context(&self) -> TaskContext {
        self.guest.context()
    }

    fn writes(&self) -> Arc<dyn FileWrites> {
        self.guest.writes()
    }

    fn overdrawn(&self) -> Overdrawn {
        self.guest.overdrawn()
    }

    fn payload(&self) -> Block {
        self.guest.payload()
    }

    fn open_split(&mut self, source: u32, split: u32) -> Fallible<u32> {
        self.waits(|guest| guest.open_split(source, split))
    }

    fn open_shuffle(
        &mut self,
        stage: u32,
        partitions: Range<u32>,
        part: Option<(u32, u32)>,
    ) -> Fallible<u32> {
        self.waits(|guest| guest.open_shuffle(stage, partitions, part))
    }

    fn open_cached(&mut self, cache: u32, partition: u32) -> Fallible<Option<u32>> {
        self.waits(|guest| guest.open_cached(cache, partition))
    }

    fn read(&mut self, reader: u32) -> Fallible<Option<Block>> {
        self.waits(|guest| guest.read(reader))
    }

    fn close(&mut self, reader: u32) -> Answer<()> {
        self.guest.close(reader)
    }

    fn describe(&mut self, reader: u32) -> Answer<SplitDescription> {
        self.waits(|guest| guest.describe(reader))
    }

    fn line_number(&mut self, reader: u32, offset: u64) -> Answer<u64> {
        self.waits(|guest| guest.line_number(reader, offset))
    }

    fn extent(&mut self, reader: u32) -> Answer<Extent> {
        self.waits(|guest| guest.extent(reader))
    }

    fn read_at(&mut self, reader: u32, offset: u64, length: u32) -> Fallible<Block> {
        self.waits(|guest| guest.read_at(reader, offset, length))
    }

    fn write(&mut self, partition: u32, block: &[u8]) -> Answer<()> {
        self.stores(|guest| guest.write(partition, block))
    }

    fn emit(&mut self, block: &[u8]) -> Answer<()> {
        self.stores(|guest| guest.emit(block))
    }

    fn write_cached(&mut self, cache: u32, partition: u32, block: &[u8]) -> Answer<bool> {
        self.stores(|guest| guest.write_cached(cache, partition, block))
    }

    fn finish_cached(&mut self, cache: u32, partition: u32) -> Answer<()> {
        self.stores(|guest| guest.finish_cached(cache, partition))
    }

    fn create_run(&mut self) -> Answer<u32> {
        self.stores(Guest::create_run)
    }

    fn write_run(&mut self, run: u32, block: &[u8]) -> Answer<()> {
        self.stores(|guest| guest.write_run(run, block))
    }

    fn open_run(&mut self, run: u32) -> Answer<u32> {
        self.stores(|guest| guest.open_run(run))
    }

    fn drop_run(&mut self, run: u32) -> Answer<()> {
        self.waits(|guest| guest.drop_run(run))
    }

    fn accumulate(&mut self, accumulator: u32, update: &[u8]) -> Answer<()> {
        self.guest.accumulate(accumulator, update)
    }
}
