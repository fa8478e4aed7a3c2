//! Shuffles: a stage whose output the next one reads by partition.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use serde::Serialize;

use crate::accumulator::Accumulator;
use crate::codec;
use crate::context::Context;
use crate::error::{Result, told};
use crate::host::{self, Output, StageSpec};
use crate::pieces::{self, Piece, Sizes};
use crate::plan::{Lineage, Plan};
use crate::stage::{Body, Entry};
use crate::task::{Records, TaskScope, done};

/// Computes at the driver what tasks must know beforehand.
pub(crate) type Prepare = Box<dyn Fn(&Context) -> Result<()>>;

/// A shuffle's writing side: its stage once the host knows it, and all that is needed to define it.
///
/// It keeps its stage, so that later actions use the same output again, and frees it when the last dataset that reads
/// it is dropped.
pub struct Dependency {
    number: u32,
    name: &'static str,
    /// How many there are: known once it is prepared.
    tasks: Box<dyn Fn() -> usize>,
    partitions: usize,
    /// What its tasks told of what they wrote, if they are to.
    sizes: Option<Accumulator<Sizes>>,
    /// Into how many parts each partition is written, one after the other.
    slices: Rc<Cell<usize>>,
    lineage: Box<dyn Fn(&mut Lineage)>,
    prepare: Prepare,
    body: Body,
    prepared: Cell<bool>,
    entry: OnceCell<Entry>,
    stage: Cell<Option<u32>>,
}

impl Dependency {
    /// A shuffle of `parent`'s records; `write` computes one of its partitions, or a piece of one, and writes what it gives. If `is_measured`,
    /// its tasks tell how much they write to which partition.
    pub(crate) fn new<P: Plan>(
        ctx: &Context,
        name: &'static str,
        parent: &Rc<P>,
        partitions: usize,
        is_measured: bool,
        write: impl Fn(Rc<P>, &Rc<TaskScope>, &mut Writer) + 'static,
    ) -> Rc<Dependency> {
        let sizes = is_measured.then(|| ctx.accumulator("sizes of partitions", Sizes::default()));
        let (for_lineage, for_prepare, for_tasks, for_body) =
            (Rc::clone(parent), Rc::clone(parent), Rc::clone(parent), Rc::clone(parent));
        let slices = Rc::new(Cell::new(1));
        let (cut, told) = (Rc::clone(&slices), sizes.clone());
        Rc::new(Dependency {
            number: ctx.next_number(),
            name,
            tasks: Box::new(move || {
                for_tasks.pieces().map_or_else(|| for_tasks.partitions(), |pieces| pieces.len())
            }),
            partitions,
            sizes,
            slices,
            lineage: Box::new(move |lineage| lineage.of_tasks(&*for_lineage)),
            prepare: Box::new(move |ctx| {
                for_prepare.prepare(ctx)?;
                for_prepare.find_pieces(ctx)
            }),
            body: Rc::new(move |task| {
                if let Some(pieces) = for_body.pieces() {
                    task.computes(pieces.of_task(task.context().partition as usize));
                }
                let mut writer = Writer::new(partitions * cut.get());
                write(Rc::clone(&for_body), task, &mut writer);
                let written = writer.finish();
                if let Some(sizes) = &told {
                    sizes.add(pieces::told(task.context().partition, &written));
                }
            }),
            prepared: Cell::new(false),
            entry: OnceCell::new(),
            stage: Cell::new(None),
        })
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn tasks(&self) -> usize {
        (self.tasks)()
    }

    /// What is known of how large its partitions are.
    pub(crate) fn sizes(&self) -> Sizes {
        self.sizes.as_ref().map(Accumulator::value).unwrap_or_default()
    }

    pub(crate) fn partitions(&self) -> usize {
        self.partitions
    }

    /// Has each partition written in so many slices, the writer's partitions: told before the stage is defined.
    pub(crate) fn cut(&self, slices: usize) {
        self.slices.set(slices.max(1));
    }

    pub(crate) fn slices(&self) -> usize {
        self.slices.get()
    }

    pub(crate) fn output(&self) -> Output {
        Output::Shuffle((self.partitions * self.slices()) as u32)
    }

    pub(crate) fn stage(&self) -> Option<u32> {
        self.stage.get()
    }

    /// The lineage of the stage that writes this shuffle.
    pub(crate) fn lineage(&self) -> Lineage {
        let mut lineage = Lineage::of(&self.lineage);
        lineage.operator(self.name);
        lineage
    }

    pub(crate) fn prepare(&self, ctx: &Context) -> Result<()> {
        if !self.prepared.get() {
            (self.prepare)(ctx)?;
            self.prepared.set(true);
        }
        Ok(())
    }

    pub(crate) fn register(&self) {
        self.entry.get_or_init(|| Entry::register(Rc::clone(&self.body)));
    }

    /// Makes the host know this stage, if it does not.
    pub(crate) fn define(&self, spec: impl FnOnce(&Entry) -> Result<StageSpec>) -> Result<()> {
        if self.stage.get().is_none() {
            let entry = self.entry.get_or_init(|| Entry::register(Rc::clone(&self.body)));
            self.stage.set(Some(host::define_stage(spec(entry)?).map_err(told)?));
        }
        Ok(())
    }

    /// The blocks that were written for a partition, if that has one slice; of a piece those of its part, or of all its partitions.
    pub(crate) fn open(&self, partition: usize, task: &TaskScope) -> u32 {
        let (stage, first) = (task.stage_of(self.number), partition as u32);
        done(match task.piece() {
            Piece::Shared(_, part) if part.shuffle == self.number => {
                host::open_shuffle_part(stage, first, part.first, part.tasks)
            }
            Piece::Several(_, partitions) => {
                host::open_shuffle_range(stage, first, partitions as u32)
            }
            Piece::Shared(..) | Piece::Whole(_) => host::open_shuffle(stage, first),
        })
    }

    /// The blocks that were written for a slice of a partition.
    pub(crate) fn open_slice(&self, partition: usize, slice: usize, task: &TaskScope) -> u32 {
        let written = (partition * self.slices() + slice) as u32;
        done(host::open_shuffle(task.stage_of(self.number), written))
    }
}

impl Drop for Dependency {
    fn drop(&mut self) {
        // A task drops only its own copy of what the driver holds.
        if let (Some(stage), false) = (self.stage.get(), host::is_task()) {
            host::drop_stage(stage);
        }
    }
}

/// What all tasks' buffers of one shuffle may hold together.
const BUFFERS: usize = 16 << 20;
/// The sizes between which a block is handed to the host.
const BLOCK_SIZES: (usize, usize) = (4 << 10, 256 << 10);

/// A task's output to a shuffle: a buffer for each partition.
pub(crate) struct Writer {
    buffers: Vec<Vec<u8>>,
    /// What the host has already.
    written: Vec<u64>,
    block: usize,
}

impl Writer {
    fn new(partitions: usize) -> Writer {
        Writer {
            buffers: vec![Vec::new(); partitions],
            written: vec![0; partitions],
            block: (BUFFERS / partitions.max(1)).clamp(BLOCK_SIZES.0, BLOCK_SIZES.1),
        }
    }

    pub(crate) fn partitions(&self) -> usize {
        self.buffers.len()
    }

    #[inline]
    pub(crate) fn push<T: Serialize + ?Sized>(&mut self, partition: usize, record: &T) {
        self.push_with(partition, |buffer| done(codec::encode(record, buffer)));
    }

    /// Adds a pair whose parts are read one after the other.
    #[inline]
    pub(crate) fn push_pair<K: Serialize, V: Serialize>(
        &mut self,
        partition: usize,
        key: &K,
        value: &V,
    ) {
        self.push_with(partition, |buffer| {
            done(codec::encode(key, buffer));
            done(codec::encode(value, buffer));
        });
    }

    /// Adds one record, which `encode` appends to the partition's buffer.
    #[inline]
    pub(crate) fn push_with(&mut self, partition: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        let buffer = &mut self.buffers[partition];
        encode(buffer);
        if buffer.len() >= self.block {
            host::write(partition as u32, buffer);
            self.written[partition] += buffer.len() as u64;
            buffer.clear();
        }
    }

    /// Gives how much was written to each partition.
    fn finish(mut self) -> Vec<u64> {
        for (partition, buffer) in
            self.buffers.iter().enumerate().filter(|(_, buffer)| !buffer.is_empty())
        {
            host::write(partition as u32, buffer);
            self.written[partition] += buffer.len() as u64;
        }
        self.written
    }
}

/// Records as they were written, in the partition they were written to: what `repartition` gives.
pub struct Exchanged<T> {
    dependency: Rc<Dependency>,
    is_ordered: bool,
    record: std::marker::PhantomData<fn() -> T>,
}

impl<T> Exchanged<T> {
    pub(crate) fn new(dependency: Rc<Dependency>, is_ordered: bool) -> Exchanged<T> {
        Exchanged { dependency, is_ordered, record: std::marker::PhantomData }
    }
}

impl<T: codec::Record> Plan for Exchanged<T> {
    type Item = T;

    fn partitions(&self) -> usize {
        self.dependency.partitions()
    }

    fn compute(
        self: Rc<Self>,
        partition: usize,
        task: Rc<TaskScope>,
    ) -> impl Iterator<Item = T> + 'static {
        Records::of(self.dependency.open(partition, &task))
    }

    fn lineage(&self, lineage: &mut Lineage) {
        lineage.shuffle(&self.dependency);
    }

    fn prepare(&self, ctx: &Context) -> Result<()> {
        self.dependency.prepare(ctx)
    }

    fn is_ordered(&self) -> bool {
        self.is_ordered
    }
}
