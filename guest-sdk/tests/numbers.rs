//! Actions on numbers.

use ingle::prelude::*;
use proptest::prelude::*;

/// Whether two floats agree but for rounding.
fn is_near(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1.0)
}

#[test]
fn sum_is_of_the_numbers_own_type() {
    let ctx = Context::local();
    assert_eq!(ctx.range(0..1001, 4).sum().unwrap(), 500_500u64);
    assert_eq!(ctx.parallelize([-5i32, 3], 2).sum().unwrap(), -2);
    assert_eq!(ctx.parallelize([0.5f64, 0.25], 2).sum().unwrap(), 0.75);
}

#[test]
fn the_sum_of_no_floats_is_zero_without_a_sign() {
    let sum = Context::local().parallelize(Vec::<f64>::new(), 2).sum().unwrap();
    assert_eq!(sum.to_string(), "0");
}

#[test]
fn mean_is_a_float() {
    let ctx = Context::local();
    assert_eq!(ctx.parallelize([1u8, 2], 2).mean().unwrap(), Some(1.5));
    assert_eq!(ctx.range(0..0, 2).mean().unwrap(), None);
}

#[test]
fn stats_tells_all_in_one() {
    let stats = Context::local().parallelize([2, 4, 4, 4, 5, 5, 7, 9], 3).stats().unwrap();
    assert_eq!((stats.count, stats.sum), (8, 40.0));
    assert!(is_near(stats.mean, 5.0) && is_near(stats.stdev, 2.0), "{stats:?}");
    assert_eq!((stats.min, stats.max), (2.0, 9.0));
}

#[test]
fn stats_of_nothing() {
    let stats = Context::local().range(0..0, 2).stats().unwrap();
    assert_eq!((stats.count, stats.sum), (0, 0.0));
    assert!(stats.mean.is_nan() && stats.stdev.is_nan());
    assert_eq!((stats.min, stats.max), (f64::INFINITY, f64::NEG_INFINITY));
}

#[test]
fn stats_of_large_numbers_that_hardly_differ_are_right() {
    let numbers = Context::local().range(0..1000, 7).map(|n| 1e9 + (n % 2) as f64);
    let stats = numbers.stats().unwrap();
    assert!(is_near(stats.mean, 1e9 + 0.5) && is_near(stats.stdev, 0.5), "{stats:?}");
}

#[test]
fn histogram_counts_from_the_lower_to_below_the_upper_bound() {
    let numbers = Context::local().parallelize([0.0, 0.5, 1.0, 1.5, 2.0, 3.0], 2);
    assert_eq!(numbers.histogram(&[0.0, 1.0, 2.0, 3.0]).unwrap(), [2, 2, 2]);
}

#[test]
fn histogram_leaves_out_what_lies_outside() {
    let numbers = Context::local().parallelize([-1.0, 0.0, 9.0, 9.5, f64::NAN], 2);
    assert_eq!(numbers.histogram(&[0.0, 5.0, 9.0]).unwrap(), [1, 1]);
}

#[test]
fn histogram_works_on_whole_numbers() {
    let counts = Context::local().range(0..100, 3).histogram(&[0.0, 10.0, 99.0]).unwrap();
    assert_eq!(counts, [10, 90]);
}

#[test]
fn histogram_refuses_bounds_that_make_no_sense() {
    let numbers = Context::local().range(0..5, 2);
    for bounds in [&[][..], &[1.0], &[2.0, 1.0], &[0.0, f64::NAN]] {
        let error = numbers.histogram(bounds).unwrap_err().to_string();
        assert!(error.contains("histogram: the bounds must be"), "{error}");
    }
}

proptest! {
    #[test]
    fn stats_are_those_of_the_formulas(
        values in prop::collection::vec(-1000.0f64..1000.0, 1..60),
        partitions in 1usize..9,
    ) {
        let dataset = Context::local().parallelize(values.clone(), partitions);
        let stats = dataset.stats().unwrap();
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        prop_assert_eq!(stats.count, values.len() as u64);
        prop_assert!(is_near(stats.sum, values.iter().sum()));
        prop_assert!(is_near(stats.mean, mean));
        prop_assert!(is_near(stats.stdev, variance.sqrt()));
        prop_assert_eq!(stats.min, values.iter().copied().fold(f64::INFINITY, f64::min));
        prop_assert_eq!(stats.max, values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        prop_assert!(is_near(dataset.mean().unwrap().unwrap(), mean));
        prop_assert!(is_near(dataset.sum().unwrap(), values.iter().sum()));
    }

    #[test]
    fn histogram_counts_as_a_loop_does(
        values in prop::collection::vec(0u32..50, 0..60),
        mut bounds in prop::collection::vec(0u32..50, 2..7),
        partitions in 1usize..5,
    ) {
        bounds.sort_unstable();
        bounds.dedup();
        prop_assume!(bounds.len() > 1);
        let last = bounds.len() - 2;
        let model: Vec<u64> = (0..=last)
            .map(|at| {
                let is_in = |value: &&u32| {
                    let (low, high) = (bounds[at], bounds[at + 1]);
                    (low..high).contains(*value) || at == last && **value == high
                };
                values.iter().filter(is_in).count() as u64
            })
            .collect();
        let bounds: Vec<f64> = bounds.into_iter().map(f64::from).collect();
        let dataset = Context::local().parallelize(values, partitions);
        prop_assert_eq!(dataset.histogram(&bounds).unwrap(), model);
    }
}
