//! Actions on numbers.

use std::iter::Sum;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::codec::Record;
use crate::dataset::Dataset;
use crate::error::{Result, told};
use crate::plan::Plan;

/// A number that statistics can be made of.
pub trait Number: Copy + 'static {
    /// The sum of no numbers.
    const ZERO: Self;

    /// As a float; large whole numbers are rounded.
    fn to_f64(self) -> f64;
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Number for $number {
            const ZERO: $number = 0 as $number;

            fn to_f64(self) -> f64 {
                self as f64
            }
        }
    )*};
}

numbers!(i8 i16 i32 i64 isize u8 u16 u32 u64 usize f32 f64);

/// What numbers come to; made by [`Dataset::stats`]. Of no numbers, `mean` and `stdev` are NaN, `min` and `max` infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, as of a whole population.
    pub stdev: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// Numbers so far, in a form that two of can be made one without losing precision (Welford; Chan et al.).
#[derive(Clone, Serialize, Deserialize)]
struct Moments {
    count: u64,
    sum: f64,
    mean: f64,
    /// The sum of squared distances from the mean.
    spread: f64,
    min: f64,
    max: f64,
}

impl Moments {
    const NONE: Moments = Moments {
        count: 0,
        sum: 0.0,
        mean: 0.0,
        spread: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
    };

    fn add(mut self, number: f64) -> Moments {
        self.count += 1;
        self.sum += number;
        let distance = number - self.mean;
        self.mean += distance / self.count as f64;
        self.spread += distance * (number - self.mean);
        self.min = self.min.min(number);
        self.max = self.max.max(number);
        self
    }

    fn join(self, other: Moments) -> Moments {
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other } else { self };
        }
        let count = self.count + other.count;
        let (ours, theirs, all) = (self.count as f64, other.count as f64, count as f64);
        let distance = other.mean - self.mean;
        Moments {
            count,
            sum: self.sum + other.sum,
            mean: self.mean + distance * theirs / all,
            spread: self.spread + other.spread + distance * distance * ours * theirs / all,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

impl<T: Number, P: Plan<Item = T>> Dataset<T, P> {
    /// The sum; 0 of no numbers. A sum travels from each partition. It overflows as Rust's own does: where overflow is checked, the task or
    /// the driver panics.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.range(0..5, 2).sum()?, 10);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn sum(&self) -> Result<T>
    where
        T: Record + Sum<T>,
    {
        let parts = self.summaries("sum", |plan: Rc<P>, partition, task| {
            plan.compute(partition, task).sum::<T>()
        });
        let parts = parts?.wait()?;
        // Rust's own sum of no floats is -0.
        Ok(parts.into_iter().chain([T::ZERO]).sum())
    }

    /// The mean; none of no numbers. Computed as [`stats`](Dataset::stats), in floats.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// assert_eq!(ctx.parallelize([1, 2, 6], 2).mean()?, Some(3.0));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn mean(&self) -> Result<Option<f64>> {
        let stats = self.stats()?;
        Ok((stats.count > 0).then_some(stats.mean))
    }

    /// Count, sum, mean, standard deviation, least and greatest, in one pass and in floats. A few numbers travel from each partition.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let stats = ctx.parallelize([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], 3).stats()?;
    /// assert_eq!((stats.count, stats.mean, stats.stdev, stats.max), (8, 5.0, 2.0, 9.0));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn stats(&self) -> Result<Stats> {
        let parts = self.summaries("stats", |plan: Rc<P>, partition, task| {
            plan.compute(partition, task)
                .fold(Moments::NONE, |known, number| known.add(number.to_f64()))
        });
        let all = parts?.wait()?.into_iter().fold(Moments::NONE, Moments::join);
        Ok(Stats {
            count: all.count,
            sum: all.sum,
            mean: if all.count > 0 { all.mean } else { f64::NAN },
            stdev: (all.spread / all.count as f64).sqrt(),
            min: all.min,
            max: all.max,
        })
    }

    /// How many numbers lie between each two neighbouring bounds: from the lower to below the upper, in the last up to it. Numbers outside
    /// all bounds don't count, nor does NaN. A count for each such bucket travels from each partition.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let numbers = ctx.parallelize([1, 2, 3, 4, 9], 2);
    /// assert_eq!(numbers.histogram(&[0.0, 2.0, 4.0])?, [1, 3]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Before anything runs, if there are fewer than two bounds, or they aren't in ascending order.
    pub fn histogram(&self, bounds: &[f64]) -> Result<Vec<u64>> {
        let ([first, .., last], true) = (bounds, bounds.is_sorted()) else {
            return Err(told(format!(
                "histogram: the bounds must be two at least, in ascending order; they are {bounds:?}"
            )));
        };
        let (first, last, bounds) = (*first, *last, bounds.to_vec());
        let buckets = bounds.len() - 1;
        let parts = self.summaries("histogram", move |plan: Rc<P>, partition, task| {
            let mut counts = vec![0u64; buckets];
            plan.compute(partition, task).map(Number::to_f64).for_each(|number| {
                if number >= first && number <= last {
                    let above = bounds.partition_point(|bound| *bound <= number);
                    counts[above.saturating_sub(1).min(buckets - 1)] += 1;
                }
            });
            counts
        });
        let mut counts = vec![0; buckets];
        for part in parts?.wait()? {
            counts.iter_mut().zip(part).for_each(|(count, more)| *count += more);
        }
        Ok(counts)
    }
}
