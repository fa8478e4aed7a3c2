//! Actions that give some of the records.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use crate::actions::{Tasks, sizes};
use crate::codec::Record;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::plan::Plan;
use crate::random::Random;

/// The `n` smallest, in order.
fn smallest<T: Ord>(records: impl Iterator<Item = T>, n: usize) -> Vec<T> {
    let mut heap = BinaryHeap::new();
    records.for_each(|record| {
        if heap.len() < n {
            heap.push(record);
        } else if let Some(mut largest) = heap.peek_mut()
            && record < *largest
        {
            *largest = record;
        }
    });
    heap.into_sorted_vec()
}

impl<T: Record, P: Plan<Item = T>> Dataset<T, P> {
    /// The first `n` records, in the order of partitions. They travel to the driver.
    ///
    /// The first partition is computed, then as long as there are too few records four times as many as before, in a job each: of each only
    /// as far as `n` records go, unless it is [persisted](Dataset::persist), and so stored to its end. Shuffles before run whole.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.range(0..1_000_000, 100).take(3)?, [0, 1, 2]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn take(&self, n: usize) -> Result<Vec<T>> {
        self.take_async(n)?.wait()
    }

    /// The first record, if there is any; computed as [`take`](Dataset::take) does.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.range(0..10, 4).filter(|n| *n > 6).first()?, Some(7));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn first(&self) -> Result<Option<T>> {
        Ok(self.take(1)?.pop())
    }

    /// Whether there is no record. Ends with the first one; computed as [`take`](Dataset::take) does.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert!(ctx.range(0..10, 4).filter(|n| *n > 9).is_empty()?);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.first()?.is_none())
    }

    /// The least record; none of no records. Of records that can't be compared (a NaN) it gives any. One travels from each partition.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.parallelize([3.5, 1.5, 2.0], 2).min()?, Some(1.5));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn min(&self) -> Result<Option<T>>
    where
        T: PartialOrd,
    {
        self.reduce(|known, record| if record < known { record } else { known })
    }

    /// The greatest record; none of no records. Of records that can't be compared (a NaN) it gives any. One travels from each partition.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.parallelize(["to", "be"].map(String::from), 2).max()?.as_deref(), Some("to"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn max(&self) -> Result<Option<T>>
    where
        T: PartialOrd,
    {
        self.reduce(|known, record| if record > known { record } else { known })
    }

    /// The `n` smallest records, in order. Nothing is shuffled. Tasks hold `n` records each, which travel to the driver; it holds those of
    /// all partitions, so for a large `n` [`sort_by`](Dataset::sort_by) and [`take`](Dataset::take) do better.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.parallelize([3, 1, 4, 1, 5], 2).take_ordered(3)?, [1, 1, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn take_ordered(&self, n: usize) -> Result<Vec<T>>
    where
        T: Ord,
    {
        let parts = self.summaries("take_ordered", move |plan, partition, task| {
            smallest(plan.compute(partition, task), n)
        });
        let parts = parts?.wait()?;
        Ok(smallest(parts.into_iter().flatten(), n))
    }

    /// The `n` largest records, the largest first. Held and travelling as with [`take_ordered`](Dataset::take_ordered).
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.parallelize([3, 1, 4, 1, 5], 2).top(2)?, [5, 4]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn top(&self, n: usize) -> Result<Vec<T>>
    where
        T: Ord,
    {
        let largest = self.map(Reverse).summaries("top", move |plan, partition, task| {
            let reversed = smallest(plan.compute(partition, task), n);
            reversed.into_iter().map(|Reverse(record)| record).collect::<Vec<T>>()
        });
        let reversed = smallest(largest?.wait()?.into_iter().flatten().map(Reverse), n);
        Ok(reversed.into_iter().map(|Reverse(record)| record).collect())
    }

    /// `n` records by chance, or all if there are fewer; with replacement always `n` unless there are none. The same seed gives the same
    /// ones, if partitions hold the same records in the same order.
    ///
    /// Without replacement tasks hold `n` records each, which travel to the driver. With it a first job counts the records, so that the
    /// dataset is computed twice, and only those that are drawn travel.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let some = ctx.range(0..100, 4).take_sample(false, 5, 7)?;
    /// assert_eq!(some.len(), 5);
    /// assert_eq!(ctx.range(0..3, 2).take_sample(true, 5, 7)?.len(), 5);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn take_sample(&self, with_replacement: bool, n: usize, seed: u64) -> Result<Vec<T>>
    where
        T: Clone,
    {
        if with_replacement { self.draw(n, seed) } else { self.pick(n, seed) }
    }

    /// Without replacement: every record gets a random number, and the `n` lowest are taken.
    fn pick(&self, n: usize, seed: u64) -> Result<Vec<T>> {
        let parts = self.summaries_of_partitions("take_sample", move |plan, partition, task| {
            let mut random = Random::for_partition(seed, partition);
            let mut heap: BinaryHeap<Ticket<T>> = BinaryHeap::new();
            plan.compute(partition, task).for_each(|record| {
                let number = random.next();
                if heap.len() < n {
                    heap.push(Ticket { number, record });
                } else if let Some(mut highest) = heap.peek_mut()
                    && number < highest.number
                {
                    *highest = Ticket { number, record };
                }
            });
            heap.into_iter().map(|ticket| (ticket.number, ticket.record)).collect::<Vec<(u64, T)>>()
        });
        let mut tickets: Vec<(u64, T)> = parts?.wait()?.into_iter().flatten().collect();
        tickets.sort_by_key(|(number, _)| *number);
        tickets.truncate(n);
        Ok(tickets.into_iter().map(|(_, record)| record).collect())
    }

    /// With replacement: numbers of records are drawn, then those records are fetched.
    fn draw(&self, n: usize, seed: u64) -> Result<Vec<T>>
    where
        T: Clone,
    {
        let tasks = Tasks::Partitions(0..self.num_partitions());
        let sizes = sizes(&self.ctx, &self.plan, tasks)?.wait()?;
        let total: u64 = sizes.iter().sum();
        if total == 0 {
            return Ok(Vec::new());
        }
        let mut random = Random::for_partition(seed, 0);
        // Each draw, by partition: where in the partition, and where in the answer.
        let mut draws: Vec<Vec<(u64, u64)>> = vec![Vec::new(); sizes.len()];
        for place in 0..n as u64 {
            let mut at = random.below(total);
            for (size, drawn) in sizes.iter().zip(&mut draws) {
                if at < *size {
                    drawn.push((at, place));
                    break;
                }
                at -= size;
            }
        }
        draws.iter_mut().for_each(|drawn| drawn.sort_unstable());
        let fetch = move |plan: Rc<P>, partition: usize, task| {
            let mut wanted = draws.get(partition).into_iter().flatten().peekable();
            let mut found: Vec<(Vec<u64>, T)> = Vec::new();
            for (at, record) in (0u64..).zip(plan.compute(partition, task)) {
                if wanted.peek().is_none() {
                    break;
                }
                let places: Vec<u64> = std::iter::from_fn(|| wanted.next_if(|draw| draw.0 == at))
                    .map(|draw| draw.1)
                    .collect();
                if !places.is_empty() {
                    found.push((places, record));
                }
            }
            found
        };
        let parts = self.summaries_of_partitions("take_sample", fetch)?.wait()?;
        let mut answer: Vec<(u64, T)> = Vec::new();
        for (places, record) in parts.into_iter().flatten() {
            answer.extend(places.into_iter().map(|place| (place, record.clone())));
        }
        answer.sort_by_key(|(place, _)| *place);
        Ok(answer.into_iter().map(|(_, record)| record).collect())
    }
}

/// A record with its random number; ordered by that alone.
struct Ticket<T> {
    number: u64,
    record: T,
}

impl<T> PartialEq for Ticket<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Ticket<T> {}

impl<T> PartialOrd for Ticket<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Ticket<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.number.cmp(&other.number)
    }
}
