//! Joins that shuffle nothing, those that are asked for and those that joins choose on their own.

use std::fs;
use std::hash::{Hash, Hasher};

use ingle::prelude::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

type Pairs<V> = Vec<(u8, V)>;

/// Each pair of the first with each value of its key in the second, or with none: in order.
fn model<A: Clone, B: Clone>(first: &Pairs<A>, second: &Pairs<B>) -> Pairs<(A, Option<B>)> {
    let mut all = Vec::new();
    for (key, value) in first {
        let before = all.len();
        let partners = second.iter().filter(|(other, _)| other == key);
        all.extend(partners.map(|(_, with)| (*key, (value.clone(), Some(with.clone())))));
        if all.len() == before {
            all.push((*key, (value.clone(), None)));
        }
    }
    all
}

fn inner<A, B>(outer: Pairs<(A, Option<B>)>) -> Pairs<(A, B)> {
    outer.into_iter().filter_map(|(key, (a, b))| Some((key, (a, b?)))).collect()
}

fn without<A, B>(outer: Pairs<(A, Option<B>)>) -> Pairs<A> {
    let alone = outer.into_iter().filter(|(_, (_, with))| with.is_none());
    alone.map(|(key, (a, _))| (key, a)).collect()
}

fn lefts() -> impl Strategy<Value = Pairs<i32>> {
    prop::collection::vec((0u8..8, any::<i32>()), 0..25)
}

fn rights() -> impl Strategy<Value = Pairs<String>> {
    prop::collection::vec((2u8..10, "[a-c]{0,20}"), 0..25)
}

fn is_broadcast(explanation: &str) -> bool {
    explanation.contains("broadcast_")
}

/// How many shuffles there are.
fn shuffles(explanation: &str) -> usize {
    explanation.matches("stage ").count() - explanation.matches("reads stage ").count() - 1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn broadcast_joins_keep_the_order_of_both(
        left in lefts(),
        right in rights(),
        parts in (1usize..5, 1usize..5),
    ) {
        let model = model(&left, &right);
        // Nothing is held that could be spilled, but for keys that are taken away.
        for every in ["0", "1", "3"] {
            let ctx = Context::local_with([("ingle.local.spill-every", every)]);
            let these = ctx.parallelize(left.clone(), parts.0);
            let others = ctx.parallelize(right.clone(), parts.1);
            let joined = these.broadcast_join(&others);
            prop_assert_eq!(joined.num_partitions(), parts.0);
            prop_assert_eq!(joined.collect().unwrap(), inner(model.clone()));
            let joined = these.broadcast_left_outer_join(&others);
            prop_assert_eq!(joined.num_partitions(), parts.0);
            prop_assert_eq!(joined.collect().unwrap(), model.clone());
            let rest = these.broadcast_subtract_by_key(&others);
            prop_assert_eq!(rest.num_partitions(), parts.0);
            prop_assert_eq!(rest.collect().unwrap(), without(model.clone()));
        }
    }

    #[test]
    fn joins_that_choose_to_broadcast_give_the_same(
        left in lefts(),
        right in rights(),
        parts in (1usize..5, 1usize..5),
    ) {
        let ctx = Context::local_with([("ingle.default.parallelism", "1")]);
        let small = ctx.parallelize(right.clone(), parts.1);
        // Nobody knows how much that is.
        let large = ctx.parallelize(left.clone(), parts.0).flat_map(Some);

        let outer = model(&left, &right);
        let joined = large.join(&small);
        prop_assert!(is_broadcast(&joined.explanation()));
        prop_assert_eq!(joined.num_partitions(), parts.0);
        prop_assert_eq!(joined.collect().unwrap(), inner(outer.clone()));
        let joined = large.left_outer_join(&small);
        prop_assert!(is_broadcast(&joined.explanation()));
        prop_assert_eq!(joined.collect().unwrap(), outer.clone());
        let rest = large.subtract_by_key(&small);
        prop_assert!(is_broadcast(&rest.explanation()));
        prop_assert_eq!(rest.collect().unwrap(), without(outer));

        let swapped = |(a, b)| (b, a);
        let joined = small.join(&large);
        prop_assert!(is_broadcast(&joined.explanation()));
        prop_assert_eq!(joined.num_partitions(), parts.0);
        let outer = model(&left, &right);
        prop_assert_eq!(joined.map_values(swapped).collect().unwrap(), inner(outer.clone()));
        let joined = small.right_outer_join(&large);
        prop_assert!(is_broadcast(&joined.explanation()));
        let found = joined.collect().unwrap();
        let found: Pairs<_> = found.into_iter().map(|(key, (b, a))| (key, (a, b))).collect();
        prop_assert_eq!(found, outer);
    }

    #[test]
    fn joins_that_chose_wrong_give_the_same(
        left in lefts(),
        right in rights(),
        parts in (1usize..5, 1usize..5),
    ) {
        let settings =
            [("ingle.default.parallelism", "1"), ("ingle.join.broadcast.threshold", "1000b")];
        let ctx = Context::local_with(settings);
        // It isn't what it was.
        let blown = |text: String| text + &"x".repeat(5000);
        let small = ctx.parallelize(right.clone(), parts.1).map_values(blown);
        let large = ctx.parallelize(left.clone(), parts.0).flat_map(Some);
        let blown: Pairs<_> = right.iter().map(|(key, text)| (*key, blown(text.clone()))).collect();
        let sorted = |mut pairs: Pairs<(i32, String)>| { pairs.sort(); pairs };
        let model = sorted(inner(model(&left, &blown)));
        let joined = large.join(&small);
        prop_assert_eq!(is_broadcast(&joined.explanation()), right.len() * 32 <= 1000);
        prop_assert_eq!(sorted(joined.collect().unwrap()), model.clone());
        // Once it is found out it is known.
        prop_assert_eq!(is_broadcast(&joined.explanation()), right.is_empty());
        prop_assert_eq!(sorted(joined.collect().unwrap()), model.clone());
        let swapped = small.join(&large).map_values(|(text, n)| (n, text));
        prop_assert_eq!(sorted(swapped.collect().unwrap()), model);
    }
}

#[test]
fn a_small_side_is_computed_once() {
    let ctx = Context::local();
    let computed = ctx.accumulator("computed", 0u64);
    let counting = computed.clone();
    let small = ctx.range(0..10, 3).map(move |n| {
        counting.add(1);
        (n, n * n)
    });
    let joined = ctx.range(0..100, 4).map(|n| (n % 20, n)).broadcast_join(&small);
    assert_eq!(computed.value(), 0);
    assert_eq!(joined.count().unwrap(), 50);
    assert_eq!(joined.values().map(|(_, square)| square).max().unwrap(), Some(81));
    assert_eq!(joined.reduce_by_key(|a, _| a).count().unwrap(), 10);
    assert_eq!(computed.value(), 10);
}

#[test]
fn sides_without_pairs_are_joined() {
    let ctx = Context::local();
    let dir = tempfile::tempdir().unwrap();
    // A dataset without even a partition.
    let nothing = ctx.text_file(dir.path().to_str().unwrap()).unwrap().map(|_| (0u64, 0u64));
    assert_eq!(nothing.num_partitions(), 0);
    let pairs = ctx.range(0..5, 2).map(|n| (n, n));
    for nothing in [nothing.boxed(), pairs.filter(|_| false).boxed()] {
        assert!(pairs.broadcast_join(&nothing).is_empty().unwrap());
        assert_eq!(pairs.broadcast_left_outer_join(&nothing).count().unwrap(), 5);
        assert_eq!(pairs.broadcast_subtract_by_key(&nothing).count().unwrap(), 5);
        assert!(nothing.broadcast_join(&pairs).is_empty().unwrap());
        assert!(nothing.broadcast_left_outer_join(&pairs).is_empty().unwrap());
        assert!(nothing.broadcast_subtract_by_key(&pairs).is_empty().unwrap());
        let unknown = nothing.flat_map(Some);
        assert!(unknown.join(&pairs).is_empty().unwrap());
        assert_eq!(pairs.left_outer_join(&unknown).count().unwrap(), 5);
    }
}

#[test]
fn keys_and_values_without_content_are_joined() {
    let ctx = Context::local();
    let nothings = ctx.range(0..3, 2).map(|_| ((), ()));
    assert_eq!(nothings.broadcast_join(&nothings).collect().unwrap(), [((), ((), ())); 9]);
    assert!(nothings.broadcast_subtract_by_key(&nothings).is_empty().unwrap());
}

/// Text whose case doesn't matter.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Name(String);

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.to_ascii_lowercase().hash(hasher);
    }
}

#[test]
fn keys_are_equal_as_they_say() {
    let ctx = Context::local();
    // Short keys lie in the table itself, others elsewhere.
    for end in ["", " of some longer name"] {
        let name = |text: &str| Name(format!("{text}{end}"));
        let left = ctx.parallelize([(name("Ann"), 1), (name("bob"), 2), (name("ANN"), 3)], 2);
        let right =
            ctx.parallelize([(name("ann"), 'x'), (name("aNN"), 'y'), (name("cat"), 'z')], 2);
        let found = left.broadcast_join(&right).values().collect().unwrap();
        assert_eq!(found, [(1, 'x'), (1, 'y'), (3, 'x'), (3, 'y')]);
        assert_eq!(left.broadcast_subtract_by_key(&right).values().collect().unwrap(), [2]);
    }
}

#[test]
fn text_and_many_keys_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("names").to_str().unwrap().to_owned();
    let lines: String = (0..20_000).map(|n| format!("key number {n}\tvalue {}\n", n * 3)).collect();
    fs::write(&path, lines).unwrap();
    let ctx = Context::local();
    let fields = |line: Str| {
        let mut fields = line.fields('\t');
        (fields.next().unwrap(), fields.next().unwrap())
    };
    let pairs = ctx.text_file_with_partitions(&path, 5).unwrap().map(fields);
    let joined = pairs.broadcast_join(&pairs);
    assert_eq!(joined.filter(|(_, (one, other))| one == other).count().unwrap(), 20_000);
    let odd = pairs.filter(|(_, value)| value.ends_with('1'));
    assert_eq!(pairs.broadcast_subtract_by_key(&odd).count().unwrap(), 18_000);
}

#[test]
fn pairs_stay_where_they_lie() {
    let ctx = Context::local();
    let sums = ctx.range(0..50, 3).map(|n| (n % 10, n)).reduce_by_key(|a, b| a + b);
    let small = ctx.range(0..5, 2).map(|n| (n, ()));
    let again = sums.broadcast_join(&small).map_values(|(sum, ())| sum).reduce_by_key(|a, b| a + b);
    assert_eq!(shuffles(&again.explanation()), 1, "{}", again.explanation());
    assert_eq!(again.count().unwrap(), 5);
    let rest = sums.broadcast_subtract_by_key(&small).group_by_key();
    assert_eq!(shuffles(&rest.explanation()), 1);
    assert_eq!(rest.count().unwrap(), 5);
    // What comes in a certain order is dealt out in turn, though all records are alike.
    let alike = ctx.range(0..100, 1).map(|_| (1, 'a')).broadcast_left_outer_join(&small);
    let sizes = alike.repartition(4).glom().map(|part| part.len()).collect().unwrap();
    assert_eq!(sizes, [25; 4]);
}

#[test]
fn a_join_is_part_of_larger_plans() {
    let ctx = Context::local();
    let numbers = ctx.range(0..60, 4).map(|n| (n % 6, n));
    let names =
        ctx.parallelize([(0, "zero"), (1, "one"), (2, "two")].map(|(n, t)| (n, t.to_owned())), 2);
    let colours = ctx.parallelize([(1, 'r'), (2, 'g'), (2, 'b')], 1);
    let chained = numbers.broadcast_join(&names).broadcast_join(&colours);
    assert_eq!(chained.count().unwrap(), 30);
    // The small side is one itself, and shuffled before.
    let nested = names.broadcast_join(&colours.group_by_key());
    let joined = numbers.persist(StorageLevel::MemoryOnly).broadcast_join(&nested.cache());
    assert_eq!(joined.count().unwrap(), 20);
    assert_eq!(joined.count().unwrap(), 20);
    let both = chained.keys().union(&joined.keys()).coalesce(3);
    assert_eq!((both.num_partitions(), both.count().unwrap()), (3, 50));
    let numbered = chained.zip_with_index().map(|(_, at)| at);
    assert_eq!(numbered.collect().unwrap(), (0..30).collect::<Vec<u64>>());
    // And behind shuffles, before which it is prepared.
    let sums = chained.map_values(|((n, _), _)| n).reduce_by_key(|a, b| a + b);
    let sorted =
        sums.broadcast_join(&names).sort_by_key(true).map(|(key, (sum, name))| (key, sum, name));
    let model = [(1, 280, "one"), (2, 580, "two")].map(|(k, s, n)| (k, s, n.to_owned()));
    assert_eq!(sorted.collect().unwrap(), model);
}

#[test]
fn a_small_side_that_fails_is_told() {
    let ctx = Context::local();
    let small = ctx.range(0..4, 2).try_map(|n| -> Result<(u64, u64)> { bail!("no {n} please") });
    let joined = ctx.range(0..4, 2).map(|n| (n, n)).broadcast_join(&small);
    for _ in 0..2 {
        assert!(joined.count().unwrap_err().to_string().contains("no 0 please"));
    }
}

/// What is joined with what, in the following test: at a threshold of 1 KiB.
#[test]
fn joins_broadcast_what_is_known_to_be_small() {
    let settings = [("ingle.default.parallelism", "2"), ("ingle.join.broadcast.threshold", "1k")];
    let ctx = Context::local_with(settings);
    let numbers = |count, partitions| ctx.range(0..count, partitions).map(|n| (n, n)).boxed();
    let joins = |left: &Dataset<(u64, u64)>, right: &Dataset<(u64, u64)>| {
        let explanation = left.join(right).explanation();
        assert_eq!(left.join(right).count().unwrap(), 100);
        is_broadcast(&explanation)
    };
    let (small, large) = (numbers(100, 1), numbers(512, 2));
    assert!(joins(&large, &small));
    assert!(joins(&small, &large));
    assert!(joins(&large.filter(|_| true).map_values(|n| n).cache(), &small.coalesce(1).boxed()));
    // Both are small, or neither is.
    assert!(!joins(&numbers(511, 2), &small));
    assert!(!joins(&numbers(129, 1), &numbers(100, 1)));
    assert!(!joins(&small, &small));
    assert!(!joins(&large, &numbers(129, 1).filter(|(n, _)| *n < 100).boxed()));
    // Nobody knows.
    let unknown = small.flat_map(Some).boxed();
    assert!(!joins(&large, &unknown));
    assert!(!joins(&unknown, &unknown));
    assert!(joins(&large.flat_map(Some).boxed(), &small));
    // There would be less work for many.
    assert!(!joins(&numbers(512, 1), &small));
    // One lies in place.
    assert!(!joins(&large.reduce_by_key(|a, _| a).boxed(), &small));
    // Not if it is said how many partitions there are, and not where both sides' pairs come out.
    assert!(!is_broadcast(&large.join_with_partitions(&small, 2).explanation()));
    assert!(!is_broadcast(&large.full_outer_join(&small).explanation()));
    assert!(!is_broadcast(&small.left_outer_join(&large).explanation()));
    assert!(!is_broadcast(&large.right_outer_join(&small).explanation()));
    assert!(!is_broadcast(&small.subtract_by_key(&large).explanation()));
    assert!(is_broadcast(&large.left_outer_join(&small).explanation()));
    assert!(is_broadcast(&small.right_outer_join(&large).explanation()));
    assert!(is_broadcast(&large.subtract_by_key(&small).explanation()));

    // What comes out lies as the large side did, and that isn't by key.
    let doubled = numbers(512, 2).union(&numbers(512, 2));
    let counts = doubled.join(&small).map_values(|_| 1).reduce_by_key(|a, b| a + b);
    assert_eq!(shuffles(&counts.explanation()), 1);
    assert_eq!(counts.filter(|(_, count)| *count == 2).count().unwrap(), 100);

    let off = [("ingle.default.parallelism", "2"), ("ingle.join.broadcast.threshold", "0")];
    let ctx = Context::local_with(off);
    let unknown = ctx.range(0..100, 2).flat_map(|n| Some((n, n)));
    assert!(!is_broadcast(
        &unknown.join(&ctx.parallelize(Vec::<(u64, u64)>::new(), 1)).explanation()
    ));
}

#[test]
fn files_that_are_small_are_broadcast() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, lines: u64| {
        let path = dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(&path, (0..lines).map(|n| format!("{n:07}\n")).collect::<String>()).unwrap();
        path
    };
    let (large, small) = (write("large", 4000), write("small.txt", 1000));
    let settings =
        [("ingle.default.parallelism", "2"), ("ingle.join.broadcast.threshold", "8000b")];
    let ctx = Context::local_with(settings);
    let numbers = |path: &str| {
        let lines = ctx.text_file_with_partitions(path, 2).unwrap();
        lines.try_map(|line| Ok((line.parse::<u64>()?, line.len())))
    };
    let joined = numbers(&large).join(&numbers(&small));
    assert!(is_broadcast(&joined.explanation()));
    assert_eq!(joined.count().unwrap(), 1000);
    // One line more is too much.
    let more = write("more", 1001);
    assert!(!is_broadcast(&numbers(&large).join(&numbers(&more)).explanation()));
    // Of what is compressed it isn't known how much it is.
    let gz = dir.path().join("small.gz").to_str().unwrap().to_owned();
    ctx.range(0..10, 1)
        .map(|n| format!("{n}"))
        .save_as_text_file_compressed(&gz, Compression::Gzip)
        .unwrap();
    let gz = format!("{gz}/part-00000.gz");
    assert!(!is_broadcast(&numbers(&large).join(&numbers(&gz)).explanation()));
}

#[test]
fn a_table_that_takes_much_more_than_its_source_is_given_up() {
    let settings = [("ingle.default.parallelism", "1"), ("ingle.join.broadcast.threshold", "250b")];
    let ctx = Context::local_with(settings);
    let small = ctx.parallelize(0..250u8, 2).map(|n| (n, ()));
    let joined = ctx.range(0..300, 3).flat_map(|n| Some((n as u8, n))).join(&small);
    assert!(is_broadcast(&joined.explanation()));
    assert_eq!((joined.num_partitions(), joined.count().unwrap()), (3, 294));
    assert!(!is_broadcast(&joined.explanation()));
    assert_eq!((joined.num_partitions(), joined.count().unwrap()), (3, 294));
}

#[test]
#[should_panic(expected = "ingle.join.broadcast.threshold is `much`; it is a size such as 10m")]
fn a_threshold_that_is_no_size_is_refused() {
    Context::local_with([("ingle.join.broadcast.threshold", "much")]);
}

#[test]
fn an_iterator_that_ended_is_not_asked_again() {
    let ctx = Context::local();
    for pairs in [0, 1, 31, 32, 33, 64] {
        let once = ctx.parallelize([()], 1).map_partitions(move |_| {
            let mut next = 0;
            std::iter::from_fn(move || {
                assert!(next <= pairs, "asked again");
                next += 1;
                (next <= pairs).then_some((next % 3, next))
            })
        });
        let names = ctx.parallelize([(0, 'a'), (1, 'b'), (2, 'c')], 1);
        assert_eq!(once.broadcast_join(&names).count().unwrap(), pairs as u64);
    }
}
