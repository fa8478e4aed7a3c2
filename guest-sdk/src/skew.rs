//! Partitions that are much larger than others, and are computed by several tasks.
//!
//! What a shuffle's tasks wrote tells how large its partitions are. Of one that is too large for one task, several tasks each read what some
//! of the shuffle's tasks wrote, and all of the other inputs: pieces, as in Spark's adaptive joins. A plan whose records are each computed
//! by itself has the pieces of the plan before it; one that must see a partition as a whole has none.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::context::Context;
use crate::error::Result;
use crate::host::Output;
use crate::job::Job;
use crate::plan::Lineage;
use crate::settings;
use crate::shuffle::Dependency;

/// What one task computes: a partition, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub partition: usize,
    pub part: Option<Part>,
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
    pub(crate) fn whole(partition: usize) -> Piece {
        Piece { partition, part: None }
    }
}

/// The tasks of a plan of which some compute pieces, in the order of what they compute.
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

/// How much a shuffle's tasks wrote, encoded: all of it, and to each partition that got more than others from some task how much from which.
pub(crate) type Sizes = (u64, BTreeMap<u32, Vec<(u32, u64)>>);

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
    (total, large.into_iter().map(|(to, size)| (to, vec![(task, size)])).collect())
}

/// A shuffle that a plan reads.
pub(crate) struct Read<'a> {
    pub dependency: &'a Rc<Dependency>,
    /// Whether tasks may each read a part of it, as long as they read all else.
    pub may_share: bool,
    /// How large it is, if that is known before it is written.
    pub hint: Option<u64>,
}

/// What is known of a plan's pieces: nothing before it was prepared.
#[derive(Debug, Default)]
pub(crate) struct Skew(OnceCell<Option<Pieces>>);

impl Skew {
    pub(crate) fn pieces(&self) -> Option<Pieces> {
        self.0.get().cloned().flatten()
    }

    /// Finds out which partitions are too large, once the plan's inputs are prepared. Runs the shuffles that it reads, unless they are known
    /// not to matter.
    pub(crate) fn prepare(
        &self,
        ctx: &Context,
        partitions: usize,
        reads: &[Read<'_>],
    ) -> Result<()> {
        if self.0.get().is_some() {
            return Ok(());
        }
        let threshold = ctx.skew_threshold();
        let may_matter = |read: &Read<'_>| {
            read.may_share
                && read.dependency.tasks() > 1
                && read.hint.is_none_or(|bytes| bytes >= threshold)
        };
        let pieces = if threshold == 0 || !reads.iter().any(may_matter) {
            None
        } else {
            run(ctx, reads)?;
            let sizes: Vec<Sizes> = reads.iter().map(|read| read.dependency.sizes()).collect();
            let read = reads.iter().zip(&sizes).map(|(read, sizes)| Written {
                shuffle: read.dependency.number(),
                tasks: read.dependency.tasks() as u32,
                may_share: read.may_share,
                sizes,
            });
            cut(partitions, &read.collect::<Vec<_>>(), threshold)
        };
        // Set by nobody else since it was looked at.
        let _ = self.0.set(pieces);
        Ok(())
    }
}

/// Runs shuffles, as far as their output isn't there.
fn run(ctx: &Context, reads: &[Read<'_>]) -> Result<()> {
    let lineage = Lineage::of(|lineage| {
        reads.iter().for_each(|read| lineage.shuffle(read.dependency));
        lineage.operator("sizes of partitions");
    });
    // A task that does nothing: the host computes what it might read.
    Job::start(ctx, "sizes of partitions", lineage, 1, Output::Results, Rc::new(|_| {}))?.wait()
}

/// A shuffle, and what its tasks wrote.
struct Written<'a> {
    shuffle: u32,
    tasks: u32,
    may_share: bool,
    sizes: &'a Sizes,
}

impl Written<'_> {
    /// What is known of a partition: how much which task wrote.
    fn parts(&self, partition: usize) -> &[(u32, u64)] {
        let (_, large) = self.sizes;
        let at = u32::try_from(partition).ok();
        at.and_then(|at| large.get(&at)).map_or(&[], Vec::as_slice)
    }

    fn size(&self, partition: usize) -> u64 {
        self.parts(partition).iter().map(|(_, size)| size).sum()
    }

    fn mean(&self, partitions: usize) -> u64 {
        self.sizes.0 / partitions.max(1) as u64
    }

    /// The parts that a partition is cut into, where each task reads so much of the others as well; none or one if it isn't.
    fn cut(&self, partition: usize, partitions: usize, others: u64, threshold: u64) -> Vec<Part> {
        let (size, mean) = (self.size(partition), self.mean(partitions));
        let is_skewed = size >= threshold && size.saturating_mul(4) > mean.saturating_mul(5);
        if !self.may_share || !is_skewed {
            return Vec::new();
        }
        // As large as other partitions; not so small that it doesn't pay; and no smaller than what is read again for each.
        let least = mean.max(threshold / 2).max(others).max(1);
        // All of the same size, as near as tasks' outputs come to it.
        let target = size.div_ceil(size.div_ceil(least));
        let mut written = self.parts(partition).to_vec();
        written.sort_unstable();
        // Where a part ends: before the task with which it would be more than half that task's output too large.
        let (mut bounds, mut sum) = (vec![0], 0);
        for (task, size) in written {
            if sum > 0 && sum + size / 2 > target {
                bounds.push(task);
                sum = 0;
            }
            sum += size;
        }
        if sum < target / 2 && bounds.len() > 1 {
            bounds.pop();
        }
        bounds.push(self.tasks);
        let part = |(first, end): (&u32, &u32)| Part {
            shuffle: self.shuffle,
            first: *first,
            tasks: end.saturating_sub(*first),
        };
        bounds.iter().zip(&bounds[1..]).map(part).collect()
    }
}

/// Which tasks compute a plan's partitions; none: one each.
fn cut(partitions: usize, reads: &[Written<'_>], threshold: u64) -> Option<Pieces> {
    let mut pieces = Vec::with_capacity(partitions);
    for partition in 0..partitions {
        // Of what nobody told of there is about as much as of any.
        let size = |read: &Written<'_>| read.size(partition).max(read.mean(partitions));
        let all: u64 = reads.iter().map(size).sum();
        let cut = |read: &Written<'_>| read.cut(partition, partitions, all - size(read), threshold);
        let parts = reads.iter().map(cut).max_by_key(Vec::len).unwrap_or_default();
        match parts.len() {
            0 | 1 => pieces.push(Piece::whole(partition)),
            _ => {
                let piece = |part| Piece { partition, part: Some(part) };
                pieces.extend(parts.into_iter().map(piece));
            }
        }
    }
    (pieces.len() > partitions).then(|| Pieces(pieces.into()))
}

const THRESHOLD: &str = "ingle.join.skew.threshold";
const DEFAULT_THRESHOLD: u64 = 16 << 20;

/// From how many bytes on a partition may be computed in pieces; 0: none is.
pub(crate) fn threshold() -> Result<u64> {
    settings::size(THRESHOLD, DEFAULT_THRESHOLD, "no partitions that several tasks compute")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// So much in all, and much to these partitions: the same from each of so many tasks.
    fn sizes(total: u64, tasks: u32, large: impl IntoIterator<Item = (u32, u64)>) -> Sizes {
        let by_task = |size| (0..tasks).rev().map(|task| (task, size / u64::from(tasks))).collect();
        (total, large.into_iter().map(|(to, size)| (to, by_task(size))).collect())
    }

    fn read(shuffle: u32, tasks: u32, sizes: &Sizes) -> Written<'_> {
        Written { shuffle, tasks, may_share: true, sizes }
    }

    fn part(partition: usize, shuffle: u32, first: u32, tasks: u32) -> Piece {
        Piece { partition, part: Some(Part { shuffle, first, tasks }) }
    }

    #[test]
    fn a_task_tells_of_partitions_that_got_more_than_their_share() {
        let told = |written: &[u64]| {
            let (total, large) = super::told(7, written);
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

    #[test]
    fn a_partition_much_larger_than_the_others_is_cut_as_its_tasks_wrote_it() {
        let left = sizes(160 * MIB, 16, [(1, 96 * MIB)]);
        let right = sizes(MIB, 16, []);
        let pieces = cut(8, &[read(7, 16, &left), read(9, 16, &right)], 16 * MIB).unwrap();
        // A piece is about as large as the mean, 20 MiB.
        let expected = [
            Piece::whole(0),
            part(1, 7, 0, 3),
            part(1, 7, 3, 3),
            part(1, 7, 6, 3),
            part(1, 7, 9, 3),
            part(1, 7, 12, 4),
        ];
        assert_eq!(pieces.0[..6], expected);
        assert_eq!(pieces.0[6..], [2, 3, 4, 5, 6, 7].map(Piece::whole));
    }

    #[test]
    fn pieces_are_of_about_the_same_size_however_much_which_task_wrote() {
        let by_task = vec![(2, 30 * MIB), (3, 30 * MIB), (9, 4 * MIB), (11, 20 * MIB), (12, MIB)];
        let left = (136 * MIB, BTreeMap::from([(0, by_task)]));
        let pieces = cut(8, &[read(7, 16, &left)], 16 * MIB).unwrap();
        let expected = [part(0, 7, 0, 3), part(0, 7, 3, 6), part(0, 7, 9, 7)];
        assert_eq!(pieces.0[..3], expected);
        // All by one task: there is nothing to share.
        let left = (136 * MIB, BTreeMap::from([(0, vec![(5, 85 * MIB)])]));
        assert_eq!(cut(8, &[read(7, 16, &left)], 16 * MIB), None);
    }

    #[test]
    fn nothing_is_cut_that_is_small_or_no_larger_than_others_or_that_costs_more_than_it_spares() {
        let none = sizes(0, 4, []);
        let uncut = |partitions, left: Sizes, other: &Sizes| {
            assert_eq!(cut(partitions, &[read(1, 16, &left), read(2, 4, other)], 16 * MIB), None);
        };
        uncut(8, sizes(16 * MIB, 16, [(1, 15 * MIB)]), &none);
        uncut(2, sizes(100 * MIB, 16, [(1, 60 * MIB)]), &none);
        // What would be read again for each piece is as much: of this partition, or of all.
        let left = || sizes(160 * MIB, 16, [(1, 96 * MIB)]);
        uncut(8, left(), &sizes(900 * MIB, 4, [(1, 100 * MIB)]));
        uncut(8, left(), &sizes(800 * MIB, 4, []));
        let one = left();
        assert_eq!(cut(8, &[Written { may_share: false, ..read(1, 16, &one) }], 16 * MIB), None);
        assert_eq!(cut(0, &[read(1, 16, &one)], 1), None);
    }

    #[test]
    fn pieces_are_no_more_than_tasks_and_no_smaller_than_pays() {
        let count = |tasks, partitions, threshold| {
            let left = sizes(160 * MIB, tasks, [(0, 100 * MIB)]);
            let pieces = cut(partitions, &[read(1, tasks, &left)], threshold).unwrap();
            pieces.0.iter().filter(|piece| piece.partition == 0).count()
        };
        assert_eq!(count(3, 8, 16 * MIB), 3);
        assert!((12..14).contains(&count(1000, 1000, 16 * MIB)), "of 8 MiB");
        assert_eq!(count(1000, 1000, 1), 500, "as near to the mean as two tasks' output is");
        // Fewer bytes than partitions.
        let left = (3, BTreeMap::from([(4, vec![(0, 2), (1, 1)])]));
        assert!(cut(5, &[read(1, 2, &left)], 1).is_some());
    }

    #[test]
    fn of_two_large_sides_the_one_with_more_pieces_is_cut() {
        let left = sizes(200 * MIB, 16, [(0, 48 * MIB)]);
        let right = sizes(200 * MIB, 16, [(0, 144 * MIB)]);
        let pieces = cut(8, &[read(1, 16, &left), read(2, 16, &right)], 16 * MIB).unwrap();
        assert_eq!(pieces.0[..3], [part(0, 2, 0, 5), part(0, 2, 5, 5), part(0, 2, 10, 6)]);
    }
}
