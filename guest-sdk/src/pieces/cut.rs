//! Which tasks compute the partitions of a shuffle, by what was written to them.

use crate::pieces::{Part, Piece, Pieces, Sizes};

/// When partitions are cut or put together.
pub(super) struct Limits {
    /// From how many bytes on one may be shared.
    pub share: u64,
    /// Up to how many bytes some may be put together; 0: none are.
    pub together: u64,
    /// How many tasks there are to be at least, if partitions are put together.
    pub tasks: usize,
}

/// A shuffle, and what its tasks wrote.
pub(super) struct Written<'a> {
    pub shuffle: u32,
    pub tasks: u32,
    pub may_share: bool,
    pub sizes: &'a Sizes,
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

    fn total(&self) -> u64 {
        self.sizes.0.1
    }

    fn mean(&self, partitions: usize) -> u64 {
        self.total() / partitions.max(1) as u64
    }

    /// How much each partition has, on the average, of what nobody told.
    fn untold(&self, partitions: usize) -> u64 {
        let (_, large) = self.sizes;
        let told = large.values().flatten().map(|(_, size)| *size).fold(0, u64::saturating_add);
        self.total().saturating_sub(told).div_ceil(partitions.max(1) as u64)
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
pub(super) fn cut(partitions: usize, reads: &[Written<'_>], limits: &Limits) -> Option<Pieces> {
    // Some of an action that nobody has waited for yet: then not enough is known.
    if reads.iter().any(|read| read.sizes.0.0 != read.tasks) {
        return None;
    }
    let total = reads.iter().map(Written::total).fold(0, u64::saturating_add);
    let together = match limits.together {
        0 => None,
        most => Some(most.min(total / limits.tasks.max(1) as u64)),
    };
    // Of what nobody told there is about as much in each.
    let untold: Vec<u64> = reads.iter().map(|read| read.untold(partitions)).collect();
    let mut pieces = Vec::with_capacity(partitions);
    // How much the last of them has, if more may be added to it.
    let mut open: Option<u64> = None;
    for partition in 0..partitions {
        let size = |read: &Written<'_>, untold: u64| read.size(partition).saturating_add(untold);
        let sizes: Vec<u64> = reads.iter().zip(&untold).map(|(read, of)| size(read, *of)).collect();
        let all = sizes.iter().copied().fold(0, u64::saturating_add);
        let cut = |(read, size): (&Written<'_>, &u64)| {
            read.cut(partition, partitions, all - size, limits.share)
        };
        let parts = reads.iter().zip(&sizes).map(cut).max_by_key(Vec::len).unwrap_or_default();
        if parts.len() > 1 {
            pieces.extend(parts.into_iter().map(|part| Piece::Shared(partition, part)));
            open = None;
            continue;
        }
        let sum = open.map(|open| open.saturating_add(all)).filter(|sum| together >= Some(*sum));
        match pieces.last_mut().filter(|_| sum.is_some()) {
            Some(last) => {
                let first = last.partition();
                *last = Piece::Several(first, partition + 1 - first);
            }
            None => pieces.push(Piece::Whole(partition)),
        }
        open = sum.or(Some(all));
    }
    let is_one_each = pieces.iter().all(|piece| matches!(piece, Piece::Whole(_)));
    (!is_one_each).then(|| Pieces(pieces.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// So much in all, and much to these partitions: the same from each of so many tasks.
    fn sizes(total: u64, tasks: u32, large: impl IntoIterator<Item = (u32, u64)>) -> Sizes {
        let by_task = |size| (0..tasks).rev().map(|task| (task, size / u64::from(tasks))).collect();
        let large = large.into_iter().map(|(to, size)| (to, by_task(size)));
        ((tasks, total), large.collect())
    }

    fn read(shuffle: u32, tasks: u32, sizes: &Sizes) -> Written<'_> {
        Written { shuffle, tasks, may_share: true, sizes }
    }

    /// As partitions are shared from so many bytes on.
    fn shared(partitions: usize, reads: &[Written<'_>], share: u64) -> Option<Pieces> {
        cut(partitions, reads, &Limits { share, together: 0, tasks: 1 })
    }

    fn part(partition: usize, shuffle: u32, first: u32, tasks: u32) -> Piece {
        Piece::Shared(partition, Part { shuffle, first, tasks })
    }

    #[test]
    fn a_partition_much_larger_than_the_others_is_cut_as_its_tasks_wrote_it() {
        let left = sizes(160 * MIB, 16, [(1, 96 * MIB)]);
        let right = sizes(MIB, 16, []);
        let pieces = shared(8, &[read(7, 16, &left), read(9, 16, &right)], 16 * MIB).unwrap();
        // A piece is about as large as the mean, 20 MiB.
        let expected = [
            Piece::Whole(0),
            part(1, 7, 0, 3),
            part(1, 7, 3, 3),
            part(1, 7, 6, 3),
            part(1, 7, 9, 3),
            part(1, 7, 12, 4),
        ];
        assert_eq!(pieces.0[..6], expected);
        assert_eq!(pieces.0[6..], [2, 3, 4, 5, 6, 7].map(Piece::Whole));
    }

    #[test]
    fn pieces_are_of_about_the_same_size_however_much_which_task_wrote() {
        let by_task = vec![(2, 30 * MIB), (3, 30 * MIB), (9, 4 * MIB), (11, 20 * MIB), (12, MIB)];
        let left = ((16, 136 * MIB), BTreeMap::from([(0, by_task)]));
        let pieces = shared(8, &[read(7, 16, &left)], 16 * MIB).unwrap();
        let expected = [part(0, 7, 0, 3), part(0, 7, 3, 6), part(0, 7, 9, 7)];
        assert_eq!(pieces.0[..3], expected);
        // All by one task: there is nothing to share.
        let left = ((16, 136 * MIB), BTreeMap::from([(0, vec![(5, 85 * MIB)])]));
        assert_eq!(shared(8, &[read(7, 16, &left)], 16 * MIB), None);
    }

    #[test]
    fn nothing_is_cut_that_is_small_or_no_larger_than_others_or_that_costs_more_than_it_spares() {
        let none = sizes(0, 4, []);
        let uncut = |partitions, left: Sizes, other: &Sizes| {
            assert_eq!(
                shared(partitions, &[read(1, 16, &left), read(2, 4, other)], 16 * MIB),
                None
            );
        };
        uncut(8, sizes(16 * MIB, 16, [(1, 15 * MIB)]), &none);
        uncut(2, sizes(100 * MIB, 16, [(1, 60 * MIB)]), &none);
        // What would be read again for each piece is as much: of this partition, or of all.
        let left = || sizes(160 * MIB, 16, [(1, 96 * MIB)]);
        uncut(8, left(), &sizes(900 * MIB, 4, [(1, 100 * MIB)]));
        uncut(8, left(), &sizes(800 * MIB, 4, []));
        let one = left();
        assert_eq!(shared(8, &[Written { may_share: false, ..read(1, 16, &one) }], 16 * MIB), None);
        assert_eq!(shared(0, &[read(1, 16, &one)], 1), None);
    }

    #[test]
    fn pieces_are_no_more_than_tasks_and_no_smaller_than_pays() {
        let count = |tasks, partitions, threshold| {
            let left = sizes(160 * MIB, tasks, [(0, 100 * MIB)]);
            let pieces = shared(partitions, &[read(1, tasks, &left)], threshold).unwrap();
            pieces.0.iter().filter(|piece| piece.partition() == 0).count()
        };
        assert_eq!(count(3, 8, 16 * MIB), 3);
        assert!((12..14).contains(&count(1000, 1000, 16 * MIB)), "of 8 MiB");
        assert_eq!(count(1000, 1000, 1), 500, "as near to the mean as two tasks' output is");
        // Fewer bytes than partitions.
        let left = ((2, 3), BTreeMap::from([(4, vec![(0, 2), (1, 1)])]));
        assert!(shared(5, &[read(1, 2, &left)], 1).is_some());
    }

    #[test]
    fn of_two_large_sides_the_one_with_more_pieces_is_cut() {
        let left = sizes(200 * MIB, 16, [(0, 48 * MIB)]);
        let right = sizes(200 * MIB, 16, [(0, 144 * MIB)]);
        let pieces = shared(8, &[read(1, 16, &left), read(2, 16, &right)], 16 * MIB).unwrap();
        assert_eq!(pieces.0[..3], [part(0, 2, 0, 5), part(0, 2, 5, 5), part(0, 2, 10, 6)]);
    }

    /// How many partitions each task computes, if they are put together up to so many bytes, into so many tasks or more.
    fn together(
        partitions: usize,
        reads: &[Written<'_>],
        together: u64,
        tasks: usize,
    ) -> Vec<usize> {
        let limits = Limits { share: 16 * MIB, together, tasks };
        let Some(pieces) = cut(partitions, reads, &limits) else { return vec![1; partitions] };
        let mut next = 0;
        let of = |piece: &Piece| {
            assert_eq!(piece.partition(), next, "in order, and none left out");
            let count = match *piece {
                Piece::Several(_, count) => count,
                Piece::Whole(_) | Piece::Shared(..) => 1,
            };
            next += count;
            count
        };
        pieces.0.iter().map(of).collect()
    }

    #[test]
    fn tiny_partitions_are_put_together() {
        let (left, right) = (sizes(60 * MIB, 4, []), sizes(40 * MIB, 9, []));
        let reads = [read(1, 4, &left), read(2, 9, &right)];
        // 0.1 MiB each.
        let put = together(1000, &reads, 4 * MIB, 8);
        assert_eq!(put.iter().sum::<usize>(), 1000);
        assert_eq!((put.len(), put[0], put[24]), (26, 39, 39), "up to 4 MiB: {put:?}");
        assert_eq!(together(1000, &reads, 4 * MIB, 100).len(), 112, "no fewer tasks");
        assert_eq!(together(1000, &reads, 1, 8), vec![1; 1000], "none are as small");
        assert_eq!(together(1000, &reads, 0, 8), vec![1; 1000], "not wanted");
        let nothing = sizes(0, 4, []);
        assert_eq!(together(1000, &[read(1, 4, &nothing)], 1, 8), vec![1000], "all empty");
        assert_eq!(together(1000, &[], 1, 8), vec![1000]);
        let partly = sizes(60 * MIB, 3, []);
        assert_eq!(together(1000, &[read(1, 4, &partly)], MIB, 8), vec![1; 1000], "not all told");
        assert_eq!(together(0, &reads, 4 * MIB, 8), Vec::<usize>::new());
        assert_eq!(together(1000, &[read(1, 1, &sizes(7, 1, []))], MIB, 8), vec![1; 1000]);
        let little = sizes(900, 1, []);
        assert_eq!(together(1000, &[read(1, 1, &little)], MIB, 9), vec![100; 10]);
    }

    #[test]
    fn a_large_partition_stays_by_itself_and_is_shared_where_that_pays() {
        let large = [(3, MIB), (6, 60 * MIB)];
        let left = sizes(62 * MIB, 20, large);
        let limits = Limits { share: 16 * MIB, together: 2 * MIB, tasks: 4 };
        let pieces = cut(10, &[read(5, 20, &left)], &limits).unwrap();
        // 0.1 MiB each but for two.
        let mut expected = vec![Piece::Several(0, 6)];
        expected.extend((0..7).map(|n| part(6, 5, n * 3, if n < 6 { 3 } else { 2 })));
        expected.push(Piece::Several(7, 3));
        assert_eq!(*pieces.0, expected[..]);
        let small = sizes(2 * MIB, 20, [(3, MIB)]);
        assert_eq!(together(10, &[read(5, 20, &small)], MIB, 2), [3, 1, 6]);
    }
}
