//! What tasks compute where a shuffle's partitions are of very different sizes, or tiny.
//!
//! What a shuffle's tasks wrote tells how large its partitions are. Of one that is too large for one task, several tasks each read what some
//! of the shuffle's tasks wrote, and all of the other inputs; of many that are tiny, one task reads several as if they were one. These are
//! pieces, as in Spark's adaptive query execution. A plan whose records are each computed by itself has the pieces of the plan before it; one
//! that must see a partition as a whole, or by itself, has none.

mod cut;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::context::Context;
use crate::error::Result;
use crate::host::{self, Output};
use crate::job::Job;
use crate::pieces::cut::{Limits, Written};
use crate::plan::Lineage;
use crate::settings::Thresholds;
use crate::shuffle::Dependency;

/// What one task computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A partition.
    Whole(usize),
    /// So much of a partition as is made of a part of one shuffle, and of all else.
    Shared(usize, Part),
    /// So many partitions, from the first on, as one.
    Several(usize, usize),
}

/// What some of a shuffle's tasks wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The dependency's number.
    pub shuffle: u32,
    pub first: u32,
    pub tasks: u32,
}

impl Piece {
    /// The partition that it is of, or the first of those that it is.
    pub(crate) fn partition(self) -> usize {
        match self {
            Piece::Whole(partition)
            | Piece::Shared(partition, _)
            | Piece::Several(partition, _) => partition,
        }
    }
}

/// The tasks of a plan that aren't one for each partition, in the order of what they compute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pieces(Rc<[Piece]>);

impl Pieces {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What a task computes.
    pub(crate) fn of_task(&self, task: usize) -> Piece {
        self.0[task]
    }
}

/// How much a shuffle's tasks wrote, encoded: how many tasks told and all of it, and to each partition that got more than others from some task
/// how much from which.
pub(crate) type Sizes = ((u32, u64), BTreeMap<u32, Vec<(u32, u64)>>);

/// A task tells of no more partitions: if as many are large, none is much larger than the others.
const MOST_TOLD: usize = 64;

/// What a task tells that wrote so much to each partition: those that got a quarter more than their share.
pub(crate) fn told(task: u32, written: &[u64]) -> Sizes {
    let total: u64 = written.iter().sum();
    let partitions = written.len() as u64;
    let is_large = |size: u64| size.saturating_mul(4) > total.saturating_mul(5) / partitions.max(1);
    let mut large: Vec<(u32, u64)> =
        (0..).zip(written.iter().copied()).filter(|(_, size)| is_large(*size)).collect();
    large.sort_unstable_by_key(|(_, size)| std::cmp::Reverse(*size));
    large.truncate(MOST_TOLD);
    let large = large.into_iter().map(|(to, size)| (to, vec![(task, size)]));
    ((1, total), large.collect())
}

/// A shuffle that a plan reads, whose tasks tell what they wrote.
pub(crate) struct Input<'a> {
    pub dependency: &'a Rc<Dependency>,
    /// Whether tasks may each read a part of it, as long as they read all else.
    pub may_share: bool,
    /// How large it is, if that is known before it is written.
    pub hint: Option<u64>,
}

impl<'a> Input<'a> {
    /// One that each task must read all of.
    pub(crate) fn whole(dependency: &'a Rc<Dependency>) -> Self {
        Input { dependency, may_share: false, hint: None }
    }
}

/// How many tasks there are at least for each slot, whatever they are put together of: so that slots end at about the same time, though some
/// records take longer than others.
const TASKS_PER_SLOT: usize = 4;
/// Tasks aren't put together unless they become so much fewer.
const FEWER: usize = 2;

/// Whether so many partitions may be put together on some cluster.
pub(crate) fn are_many(partitions: usize) -> bool {
    partitions >= TASKS_PER_SLOT * FEWER
}

/// What is known of a plan's pieces: nothing before somebody asked for them.
#[derive(Debug, Default)]
pub(crate) struct Adaptive(OnceCell<Option<Pieces>>);

impl Adaptive {
    pub(crate) fn pieces(&self) -> Option<Pieces> {
        self.0.get().cloned().flatten()
    }

    /// Finds out which partitions are too large or too small, once the plan's inputs are prepared. Runs the shuffles that it reads, unless they
    /// are known not to matter.
    pub(crate) fn find(&self, ctx: &Context, partitions: usize, reads: &[Input<'_>]) -> Result<()> {
        if self.0.get().is_some() {
            return Ok(());
        }
        let Thresholds { share, together, .. } = ctx.thresholds();
        let may_share = |read: &Input<'_>| {
            share > 0
                && read.may_share
                && read.dependency.tasks() > 1
                && read.hint.is_none_or(|bytes| bytes >= share)
        };
        // How many there are at least if some are put together; none if they can't be.
        let least = || {
            if together == 0 || !are_many(partitions) {
                return None;
            }
            let tasks = TASKS_PER_SLOT * host::default_parallelism().max(1) as usize;
            (partitions / FEWER >= tasks).then_some(tasks)
        };
        let pieces = if least().is_some() || reads.iter().any(may_share) {
            run(ctx, reads)?;
            let sizes: Vec<Sizes> = reads.iter().map(|read| read.dependency.sizes()).collect();
            let read = reads.iter().zip(&sizes).map(|(read, sizes)| Written {
                shuffle: read.dependency.number(),
                tasks: read.dependency.tasks() as u32,
                may_share: read.may_share && share > 0,
                sizes,
            });
            // The shuffle may have brought more executors.
            let least = least();
            let together = if least.is_some() { together } else { 0 };
            let limits = Limits { share, together, tasks: least.unwrap_or(partitions) };
            cut::cut(partitions, &read.collect::<Vec<_>>(), &limits)
        } else {
            None
        };
        // Set by nobody else since it was looked at. For good: stages are defined by it.
        let _ = self.0.set(pieces);
        Ok(())
    }
}

/// Runs shuffles, as far as their output isn't there. What was run for another action tells its sizes only as that action is waited for.
fn run(ctx: &Context, reads: &[Input<'_>]) -> Result<()> {
    let lineage = Lineage::of(|lineage| {
        reads.iter().for_each(|read| lineage.shuffle(read.dependency));
        lineage.operator("sizes of partitions");
    });
    // A task that does nothing: the host computes what it might read.
    Job::start(ctx, "sizes of partitions", lineage, 1, Output::Results, Rc::new(|_| {}))?.wait()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_tells_of_partitions_that_got_more_than_their_share() {
        let told = |written: &[u64]| {
            let ((1, total), large) = super::told(7, written) else { panic!("it is one task") };
            assert!(large.values().all(|sizes| sizes.len() == 1 && sizes[0].0 == 7));
            (total, large.into_iter().map(|(to, sizes)| (to, sizes[0].1)).collect::<Vec<_>>())
        };
        assert_eq!(told(&[10, 10, 13, 10, 57]), (100, vec![(4, 57)]));
        assert_eq!(told(&[0, 0, 0, 8]), (8, vec![(3, 8)]));
        assert_eq!(told(&[5, 5, 5]), (15, vec![]));
        assert_eq!(told(&[0, 0]), (0, vec![]));
        assert_eq!(told(&[]), (0, vec![]));
        let many: Vec<u64> = (0..1000).map(|n| if n < 500 { 100 + n } else { 0 }).collect();
        let (_, large) = told(&many);
        assert_eq!((large.len(), large[0].0), (MOST_TOLD, 436), "the largest");
    }
}
