//! What may be a record: it comes through a shuffle, through spilling and back to the driver as it was.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

use ingle::prelude::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Circle(u32),
    Box { width: i64, name: Option<String> },
    Many(Vec<Shape>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Unit;

/// All records came back, each as it was.
fn check<T>(values: Vec<T>)
where
    T: Clone + Debug + Ord + std::hash::Hash + Serialize + serde::de::DeserializeOwned + 'static,
{
    let mut model = values.clone();
    model.sort();
    let sorted = |mut values: Vec<T>| {
        values.sort();
        values
    };
    for every in ["0", "2"] {
        let ctx = Context::local_with([("ingle.local.spill-every", every)]);
        let dataset = ctx.parallelize(values.clone(), 3);
        assert_eq!(dataset.collect().unwrap(), values);
        assert_eq!(sorted(dataset.repartition(2).collect().unwrap()), model);
        assert_eq!(dataset.sort_by_with_partitions(T::clone, true, 3).collect().unwrap(), model);
        let as_keys = dataset.map(|record| (record, ())).group_by_key();
        let again = as_keys.flat_map(|(key, units)| units.into_iter().map(move |()| key.clone()));
        assert_eq!(sorted(again.collect().unwrap()), model);
        let as_values = dataset.map(|record| ((), record)).group_by_key().values();
        assert_eq!(sorted(as_values.collect().unwrap().concat()), model);
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        Just(Shape::Nothing),
        any::<u32>().prop_map(Shape::Circle),
        (any::<i64>(), any::<Option<String>>())
            .prop_map(|(width, name)| Shape::Box { width, name }),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| prop::collection::vec(inner, 0..3).prop_map(Shape::Many))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn enums_and_what_is_nested(shapes in prop::collection::vec(shape(), 0..20)) {
        check(shapes);
    }

    #[test]
    fn numbers_of_all_sizes(
        numbers in prop::collection::vec(any::<(u8, i16, u32, i64, u128, i128)>(), 0..20),
    ) {
        check(numbers);
    }

    #[test]
    fn texts_characters_and_bytes(
        texts in prop::collection::vec(any::<(String, char, Vec<u8>, bool)>(), 0..20),
    ) {
        check(texts);
    }

    #[test]
    fn collections(
        maps in prop::collection::vec(any::<(BTreeMap<u8, String>, BTreeSet<i8>, [u8; 3])>(), 0..12),
    ) {
        check(maps);
    }

    #[test]
    fn records_without_content(len in 0usize..10) {
        check(vec![(); len]);
        check(vec![Unit; len]);
        check(vec![((), Unit); len]);
        check(vec![(Some(()), Vec::<()>::new()); len]);
    }

    #[test]
    fn floats_keep_their_bits(floats in prop::collection::vec(any::<(u64, u32)>(), 0..20)) {
        let values: Vec<(f64, f32)> =
            floats.iter().map(|(a, b)| (f64::from_bits(*a), f32::from_bits(*b))).collect();
        let found = Context::local().parallelize(values, 2).repartition(1).collect().unwrap();
        let mut bits: Vec<(u64, u32)> =
            found.iter().map(|(a, b)| (a.to_bits(), b.to_bits())).collect();
        let mut model = floats;
        bits.sort_unstable();
        model.sort_unstable();
        prop_assert_eq!(bits, model);
    }
}

#[test]
fn hash_maps_may_be_values() {
    let ctx = Context::local();
    let maps = ctx.range(0..6, 3).map(|n| (n % 2, HashMap::from([(n, n.to_string())])));
    let merged = maps.reduce_by_key(|mut one, other| {
        one.extend(other);
        one
    });
    let found: BTreeMap<u64, HashMap<u64, String>> =
        merged.collect().unwrap().into_iter().collect();
    let model = |key: u64| (0..3).map(|n| (2 * n + key, (2 * n + key).to_string())).collect();
    assert_eq!(found, BTreeMap::from([(0, model(0)), (1, model(1))]));
}

#[test]
fn datasets_inside_a_stage_may_hold_what_can_not_travel() {
    let ctx = Context::local();
    let shared = ctx.range(0..10, 2).map(|n| std::rc::Rc::new(std::cell::Cell::new(n)));
    let changed = shared.map(|cell| {
        cell.set(cell.get() * 2);
        cell.get()
    });
    assert_eq!(changed.sum().unwrap(), 90);
}
