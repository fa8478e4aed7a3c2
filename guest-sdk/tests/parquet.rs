//! Parquet files: what was written is read again, all of it or what is asked for.
#![cfg(feature = "parquet")]

use std::collections::BTreeMap;
use std::fs;

use ingle::parquet::{Literal, ParquetCodec, ParquetOptions, Predicate, col};
use ingle::prelude::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

fn out() -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out").to_str().unwrap().to_owned();
    (dir, path)
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Color {
    Red,
    Green,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Inner {
    a: i32,
    tags: Vec<u16>,
    b: Option<String>,
}

/// One of everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct All {
    flag: bool,
    tiny: i8,
    small: u16,
    int: i32,
    long: i64,
    natural: u32,
    large: u64,
    single: f32,
    double: f64,
    text: String,
    bytes: Vec<u8>,
    letter: char,
    color: Color,
    maybe: Option<i64>,
    maybe_text: Option<String>,
    inner: Inner,
    maybe_inner: Option<Inner>,
    list: Vec<i32>,
    lists: Vec<Vec<Option<String>>>,
    inners: Option<Vec<Option<Inner>>>,
    map: BTreeMap<String, Option<Vec<u8>>>,
    pair: (u8, Option<bool>),
}

prop_compose! {
    fn inner()(
        a in any::<i32>(),
        tags in prop::collection::vec(any::<u16>(), 0..3),
        b in prop::option::of("[a-zé]{0,4}"),
    ) -> Inner {
        Inner { a, tags, b }
    }
}

prop_compose! {
    fn values()(
        flag in any::<bool>(), tiny in any::<i8>(), small in any::<u16>(), int in any::<i32>(), long in any::<i64>(),
        natural in any::<u32>(), large in any::<u64>(), single in -1e9f32..1e9, double in -1e300..1e300,
        text in ".{0,8}", bytes in prop::collection::vec(any::<u8>(), 0..6), letter in any::<char>(),
    ) -> (bool, i8, u16, i32, i64, u32, u64, f32, f64, String, Vec<u8>, char) {
        (flag, tiny, small, int, long, natural, large, single, double, text, bytes, letter)
    }
}

prop_compose! {
    fn all()(
        values in values(),
        color in prop::sample::select(vec![Color::Red, Color::Green]),
        maybe in prop::option::of(any::<i64>()),
        maybe_text in prop::option::of(".{0,4}"),
        inner_ in inner(),
        maybe_inner in prop::option::of(inner()),
        list in prop::collection::vec(any::<i32>(), 0..4),
        lists in prop::collection::vec(prop::collection::vec(prop::option::of("[a-z]{0,2}"), 0..3), 0..3),
        inners in prop::option::of(prop::collection::vec(prop::option::of(inner()), 0..3)),
        map in prop::collection::btree_map("[a-z]{1,2}", prop::option::of(prop::collection::vec(any::<u8>(), 0..3)), 0..3),
        pair in (any::<u8>(), prop::option::of(any::<bool>())),
    ) -> All {
        let (flag, tiny, small, int, long, natural, large, single, double, text, bytes, letter) = values;
        All {
            flag, tiny, small, int, long, natural, large, single, double, text, bytes, letter, color, maybe, maybe_text,
            inner: inner_, maybe_inner, list, lists, inners, map, pair,
        }
    }
}

/// Some of it, in another order.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Some_ {
    lists: Vec<Vec<Option<String>>>,
    int: i64,
    maybe_inner: Option<Part>,
    inners: Option<Vec<Option<Part>>>,
    none: Option<u8>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Part {
    b: Option<Str>,
}

impl From<Inner> for Part {
    fn from(inner: Inner) -> Part {
        Part { b: inner.b.map(Str::from) }
    }
}

fn codec() -> impl Strategy<Value = ParquetCodec> {
    use ParquetCodec::{Gzip, Lz4, None, Snappy};
    prop::sample::select(vec![None, Snappy, Lz4, Gzip])
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn what_was_written_is_read_again(
        rows in prop::collection::vec(all(), 0..60),
        (files, group, splits) in (1usize..4, 1usize..30, 1usize..9),
        codec in codec(),
    ) {
        let (_dir, path) = out();
        let ctx = Context::local();
        let options = ParquetOptions::new().codec(codec).row_group_rows(group);
        ctx.parallelize(rows.clone(), files).save_as_parquet_with(&path, &options).unwrap();
        let read = ctx.parquet_file_with_partitions::<All>(&path, splits).unwrap();
        prop_assert!(read.num_partitions() >= splits);
        prop_assert_eq!(&read.collect().unwrap(), &rows);

        let some = ctx.parquet_file::<Some_>(&path).unwrap();
        let expected: Vec<_> = rows
            .into_iter()
            .map(|all| Some_ {
                lists: all.lists,
                int: all.int.into(),
                maybe_inner: all.maybe_inner.map(Part::from),
                inners: all.inners.map(|all| all.into_iter().map(|one| one.map(Part::from)).collect()),
                none: None,
            })
            .collect();
        prop_assert_eq!(some.collect().unwrap(), expected);
    }
}

/// What comparisons are made on. Few values, so that statistics and rows often tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cells {
    int: Option<i32>,
    natural: u64,
    float: f64,
    text: Option<String>,
    flag: bool,
}

prop_compose! {
    fn cells()(
        int in prop::option::of(-3i32..4),
        natural in prop::sample::select(vec![0, 1, u64::MAX - 1, u64::MAX]),
        float in prop::sample::select(vec![f64::NEG_INFINITY, -1.5, -0.0, 0.0, 1.0, f64::NAN]),
        text in prop::option::of("[ab\u{e9}]{0,2}"),
        flag in any::<bool>(),
    ) -> Cells {
        Cells { int, natural, float, text, flag }
    }
}

/// A condition that a plain program can answer as well. Comparisons by their number.
#[derive(Clone, Debug)]
enum Rule {
    Int(usize, i32),
    IntWithFloat(usize, f64),
    Natural(usize, u64),
    Float(usize, f64),
    Text(usize, String),
    Flag(usize, bool),
    IntIsNull,
    TextIsNull,
    Not(Box<Rule>),
    And(Box<Rule>, Box<Rule>),
    Or(Box<Rule>, Box<Rule>),
}

fn compare<V: PartialOrd>(sign: usize, left: V, right: V) -> Option<bool> {
    let (equal, less, more) = (left == right, left < right, left > right);
    Some([equal, !equal, less, less || equal, more, more || equal][sign])
}

impl Rule {
    fn predicate(&self) -> Predicate {
        let with = |name: &str, sign: usize, value: Literal| {
            let column = col(name);
            match sign {
                0 => column.eq(value),
                1 => column.ne(value),
                2 => column.lt(value),
                3 => column.le(value),
                4 => column.gt(value),
                _ => column.ge(value),
            }
        };
        match self {
            Rule::Int(sign, value) => with("int", *sign, (*value).into()),
            Rule::IntWithFloat(sign, value) => with("int", *sign, (*value).into()),
            Rule::Natural(sign, value) => with("natural", *sign, (*value).into()),
            Rule::Float(sign, value) => with("float", *sign, (*value).into()),
            Rule::Text(sign, value) => with("text", *sign, value.as_str().into()),
            Rule::Flag(sign, value) => with("flag", *sign, (*value).into()),
            Rule::IntIsNull => col("int").is_null(),
            Rule::TextIsNull => col("text").is_null(),
            Rule::Not(rule) => !rule.predicate(),
            Rule::And(one, other) => one.predicate().and(other.predicate()),
            Rule::Or(one, other) => one.predicate().or(other.predicate()),
        }
    }

    /// None: it is unknown.
    fn holds(&self, cells: &Cells) -> Option<bool> {
        match self {
            Rule::Int(sign, value) => compare(*sign, cells.int?, *value),
            Rule::IntWithFloat(sign, value) => compare(*sign, f64::from(cells.int?), *value),
            Rule::Natural(sign, value) => compare(*sign, cells.natural, *value),
            Rule::Float(sign, value) => compare(*sign, cells.float, *value),
            Rule::Text(sign, value) => compare(*sign, cells.text.as_ref()?, value),
            Rule::Flag(sign, value) => compare(*sign, cells.flag, *value),
            Rule::IntIsNull => Some(cells.int.is_none()),
            Rule::TextIsNull => Some(cells.text.is_none()),
            Rule::Not(rule) => rule.holds(cells).map(|holds| !holds),
            Rule::And(one, other) => match (one.holds(cells), other.holds(cells)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (one, other) => Some(one? && other?),
            },
            Rule::Or(one, other) => match (one.holds(cells), other.holds(cells)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (one, other) => Some(one? || other?),
            },
        }
    }
}

fn rule() -> impl Strategy<Value = Rule> {
    let sign = || 0usize..6;
    let naturals = prop::sample::select(vec![0, 1, 5, u64::MAX - 1, u64::MAX]);
    let floats = || prop::sample::select(vec![-1.5, 0.0, 0.5, 1.0, f64::NAN]);
    let leaves = prop_oneof![
        (sign(), -4i32..5).prop_map(|(sign, value)| Rule::Int(sign, value)),
        (sign(), floats()).prop_map(|(sign, value)| Rule::IntWithFloat(sign, value)),
        (sign(), naturals).prop_map(|(sign, value)| Rule::Natural(sign, value)),
        (sign(), floats()).prop_map(|(sign, value)| Rule::Float(sign, value)),
        (sign(), "[ab\u{e9}]{0,2}").prop_map(|(sign, value)| Rule::Text(sign, value)),
        (sign(), any::<bool>()).prop_map(|(sign, value)| Rule::Flag(sign, value)),
        Just(Rule::IntIsNull),
        Just(Rule::TextIsNull),
    ];
    leaves.prop_recursive(3, 12, 2, |inner| {
        let two = || (inner.clone(), inner.clone());
        prop_oneof![
            inner.clone().prop_map(|rule| Rule::Not(rule.into())),
            two().prop_map(|(one, other)| Rule::And(one.into(), other.into())),
            two().prop_map(|(one, other)| Rule::Or(one.into(), other.into())),
        ]
    })
}

#[derive(Debug, PartialEq, Deserialize)]
struct Flag {
    flag: bool,
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn a_condition_gives_the_rows_that_a_filter_gives(
        mut rows in prop::collection::vec(cells(), 0..40),
        is_sorted in any::<bool>(),
        group in 1usize..8,
        rule in rule(),
    ) {
        if is_sorted {
            rows.sort_by(|a, b| a.int.cmp(&b.int).then(a.text.cmp(&b.text)));
        }
        let (_dir, path) = out();
        let ctx = Context::local();
        let options = ParquetOptions::new().row_group_rows(group);
        ctx.parallelize(rows.clone(), 1).save_as_parquet_with(&path, &options).unwrap();
        let expected: Vec<_> = rows.into_iter().filter(|row| rule.holds(row) == Some(true)).collect();
        let predicate = rule.predicate();
        let read = ctx.parquet_file_where::<Cells>(&path, predicate.clone()).unwrap();
        // Not by `==`: what is no number is unequal to itself.
        let text = |rows: &[Cells]| format!("{rows:?}");
        prop_assert_eq!(text(&read.collect().unwrap()), text(&expected));
        // Also of those that are asked for their other columns.
        let flags = ctx.parquet_file_where_with_partitions::<Flag>(&path, predicate, 3).unwrap();
        let expected: Vec<_> = expected.into_iter().map(|row| row.flag).collect();
        prop_assert_eq!(flags.map(|row| row.flag).collect().unwrap(), expected);
    }
}

#[test]
fn long_files_are_read_over_many_pages() {
    let (_dir, path) = out();
    let ctx = Context::local();
    let rows = ctx.range(0..100_000, 2).map(|n| {
        let list = (0..n % 4).map(|k| format!("{}", n * k)).collect::<Vec<_>>();
        (n, (n % 3 > 0).then_some(n * n), format!("text {}", n % 1000), list)
    });
    let options = ParquetOptions::new().row_group_rows(30_000);
    rows.save_as_parquet_with(&path, &options).unwrap();
    type Row = (u64, Option<u64>, String, Vec<String>);
    let read = ctx.parquet_file_with_partitions::<Row>(&path, 5).unwrap();
    assert_eq!(read.collect().unwrap(), rows.collect().unwrap());
    let some = col("_1").ge(77_777).and(col("_3").eq("text 999"));
    let some = ctx.parquet_file_where::<Row>(&path, some).unwrap().collect().unwrap();
    let expected = rows.filter(|row| row.0 >= 77_777 && row.2 == "text 999").collect().unwrap();
    assert!(expected.len() > 20);
    assert_eq!(some, expected);
}

#[test]
fn columns_longer_than_what_is_read_at_once_are_read_part_by_part() {
    let (_dir, path) = out();
    let ctx = Context::local();
    // 6 MB in one row group, in pages of which few lie in one part.
    let rows = ctx.range(0..30_000, 1).map(|n| (n, format!("{n:0200}")));
    let options = ParquetOptions::new().codec(ParquetCodec::None);
    rows.save_as_parquet_with(&path, &options).unwrap();
    assert!(fs::metadata(format!("{path}/part-00000.parquet")).unwrap().len() > 6_000_000);
    let read = ctx.parquet_file::<(u64, String)>(&path).unwrap().collect().unwrap();
    assert!(read == rows.collect().unwrap());
}

#[test]
fn a_row_group_belongs_to_the_split_that_has_its_middle() {
    let (_dir, path) = out();
    let ctx = Context::local();
    let options = ParquetOptions::new().codec(ParquetCodec::None).row_group_rows(1000);
    ctx.range(0..3000, 1).save_as_parquet_with(&path, &options).unwrap();
    let halves = ctx.parquet_file_with_partitions::<u64>(&path, 2).unwrap();
    assert_eq!(halves.glom().map(|half| half.len()).collect().unwrap(), [2000, 1000]);
}

#[test]
fn operators_that_spill_make_row_groups_of_what_fits() {
    let (_dir, path) = out();
    let ctx = Context::local_with([("ingle.local.spill-every", "10")]);
    ctx.range(0..95, 1).save_as_parquet(&path).unwrap();
    let parts = ctx.parquet_file_with_partitions::<u64>(&path, 40).unwrap();
    let sizes = parts.glom().map(|part| part.len()).collect().unwrap();
    assert_eq!(sizes.iter().filter(|size| **size > 0).count(), 10, "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 95);
}

#[test]
fn empty_partitions_have_files_with_the_schema() {
    let (_dir, path) = out();
    let ctx = Context::local();
    ctx.range(0..0, 2).map(|n| (n, "x".to_owned())).save_as_parquet(&path).unwrap();
    assert!(fs::read(format!("{path}/part-00001.parquet")).unwrap().ends_with(b"PAR1"));
    let read = ctx.parquet_file_where::<(u64, String)>(&path, col("_2").eq("x")).unwrap();
    assert_eq!(read.count().unwrap(), 0);
    let error = ctx.parquet_file_where::<(u64, String)>(&path, col("_3").eq("x")).unwrap();
    let error = error.count().unwrap_err().to_string();
    assert!(error.contains("has no column `_3`"), "{error}");
}

#[test]
fn rows_may_become_maps_tuples_and_single_values() {
    let (_dir, path) = out();
    let ctx = Context::local();
    ctx.range(1..3, 1).map(|n| (n, n + 1)).save_as_parquet(&path).unwrap();
    let maps = ctx.parquet_file::<BTreeMap<String, i8>>(&path).unwrap().collect().unwrap();
    assert_eq!(maps[1], BTreeMap::from([("_1".to_owned(), 2), ("_2".to_owned(), 3)]));
    let lists = ctx.parquet_file::<Vec<u32>>(&path).unwrap().collect().unwrap();
    assert_eq!(lists, [[1, 2], [2, 3]]);
    let error = ctx.parquet_file::<(u8, u8, u8)>(&path).unwrap().collect().unwrap_err();
    assert!(error.to_string().contains("a row of 2 columns can't be a tuple of 3"), "{error}");
    let error = ctx.parquet_file::<u8>(&path).unwrap().collect().unwrap_err().to_string();
    assert!(error.contains("a row of 2 columns can't be u8"), "{error}");

    let (_dir, path) = out();
    let texts = [Some("a".to_owned()), None];
    ctx.parallelize(texts.clone(), 1).save_as_parquet(&path).unwrap();
    assert_eq!(ctx.parquet_file::<Option<String>>(&path).unwrap().collect().unwrap(), texts);
    #[derive(Debug, PartialEq, Deserialize)]
    struct Named {
        value: Option<Str>,
    }
    let named = ctx.parquet_file::<Named>(&path).unwrap().map(|row| row.value.is_some());
    assert_eq!(named.collect().unwrap(), [true, false]);
}

/// A file of two columns, a number and perhaps a text, with the texts `x` and null.
fn sample() -> (TempDir, String, Context) {
    #[derive(Clone, Serialize, Deserialize)]
    struct Row {
        number: i64,
        text: Option<String>,
    }
    let (dir, path) = out();
    let ctx = Context::local_with([("ingle.task.maxFailures", "1")]);
    let rows = [Row { number: 300, text: Some("x".into()) }, Row { number: 4, text: None }];
    ctx.parallelize(rows, 1).save_as_parquet(&path).unwrap();
    (dir, format!("{path}/part-00000.parquet"), ctx)
}

/// What reading it as `T` fails with, without what all such errors begin with.
fn refusal<T: serde::de::DeserializeOwned + 'static>() -> String {
    let (_dir, path, ctx) = sample();
    let error = ctx.parquet_file::<T>(&path).unwrap().count().unwrap_err().to_string();
    let at = error.find("part-00000.parquet, ").unwrap_or_else(|| panic!("{error}"));
    error[at + "part-00000.parquet, ".len()..].to_owned()
}

#[test]
fn what_a_struct_wants_and_can_not_have_is_named() {
    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Missing {
        people: u32,
    }
    let text = "row group 0, row 1: there is no column `people`; the file has `number`, `text`";
    assert_eq!(refusal::<Missing>(), text);

    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Text {
        number: String,
    }
    let text = "row group 0, row 1: column `number` (INT64): invalid type: integer `300`, expected a string";
    assert_eq!(refusal::<Text>(), text);

    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Small {
        number: u8,
    }
    let text =
        "row group 0, row 1: column `number` (INT64): invalid value: integer `300`, expected u8";
    assert_eq!(refusal::<Small>(), text);

    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct Required {
        text: String,
    }
    let text = "row group 0, row 2: column `text` (BYTE_ARRAY text): it is null where a string is wanted: make the field an Option";
    assert_eq!(refusal::<Required>(), text);

    #[derive(Deserialize)]
    #[expect(dead_code)]
    struct List {
        number: Vec<i64>,
    }
    let text = "row group 0, row 1: column `number` (INT64): it is a whole number, no list";
    assert_eq!(refusal::<List>(), text);
}

#[test]
fn a_condition_that_makes_no_sense_is_refused() {
    let (_dir, path, ctx) = sample();
    let refused = |predicate| {
        let read = ctx.parquet_file_where::<(i64, Option<String>)>(&path, predicate).unwrap();
        read.count().unwrap_err().to_string()
    };
    let error = refused(col("number").eq("x"));
    assert!(
        error.ends_with("column `number` (INT64): it is a whole number, and compared with text"),
        "{error}"
    );
    let error = refused(col("text").lt(1).or(col("town").eq("x")));
    assert!(
        error.ends_with(" has no column `town`, which is asked for; it has `number`, `text`"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_no_parquet_is_refused_by_name() {
    let (dir, path, ctx) = sample();
    let good = fs::read(&path).unwrap();
    let bad = dir.path().join("bad.parquet").to_str().unwrap().to_owned();
    let refused = |bytes: &[u8]| {
        fs::write(&bad, bytes).unwrap();
        let error = ctx.parquet_file::<(i64, Option<String>)>(&bad).unwrap().count();
        let error = error.unwrap_err().to_string();
        let at = error.find("bad.parquet ").unwrap_or_else(|| panic!("{error}"));
        error[at + "bad.parquet ".len()..].to_owned()
    };
    assert_eq!(refused(b""), "is no Parquet file: it has 0 bytes");
    let text = "is no Parquet file, or its end is missing: it doesn't end in `PAR1`";
    assert_eq!(refused(b"name,people\nUlm,126000\n"), text);
    assert_eq!(refused(&good[..good.len() - 9]), text);
    let mut long = good.clone();
    let at = long.len() - 8;
    long[at..at + 4].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
    let text =
        format!("is no sound Parquet file: its footer would be 2147483647 bytes of {}", long.len());
    assert_eq!(refused(&long), text);
    // Of a longer file no more than its footer.
    let longer = dir.path().join("longer").to_str().unwrap().to_owned();
    ctx.range(0..10_000, 1).save_as_parquet(&longer).unwrap();
    let longer = fs::read(format!("{longer}/part-00000.parquet")).unwrap();
    let (_, end) = longer.split_at(longer.len() - 8);
    let footer = u32::from_le_bytes(end[..4].try_into().unwrap()) as usize;
    let cut = [b"PAR1", &longer[longer.len() - 8 - footer..]].concat();
    let text = refused(&cut);
    assert!(text.starts_with("is no sound Parquet file: row group 0, column `"), "{text}");
}

#[test]
fn files_that_are_damaged_fail_their_tasks_by_name() {
    let (dir, path) = out();
    let ctx = Context::local_with([("ingle.task.maxFailures", "1")]);
    let rows: Vec<_> =
        (0..200u64).map(|n| (n, format!("text {}", n % 9), vec![n; n as usize % 3])).collect();
    let options = ParquetOptions::new().row_group_rows(60);
    ctx.parallelize(rows, 1).save_as_parquet_with(&path, &options).unwrap();
    let good = fs::read(format!("{path}/part-00000.parquet")).unwrap();
    let bad = dir.path().join("bad.parquet").to_str().unwrap().to_owned();
    let (mut failed, mut seed) = (0, 7u64);
    for _ in 0..3000 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let (at, to) = ((seed >> 33) as usize % good.len(), (seed >> 20) as u8);
        let mut bytes = good.clone();
        bytes[at] = to;
        fs::write(&bad, &bytes).unwrap();
        // Not all damage shows.
        let read = ctx.parquet_file::<(u64, String, Vec<u64>)>(&bad).unwrap().count();
        if let Err(error) = read {
            let error = error.to_string();
            assert!(error.contains("bad.parquet"), "byte {at} of {} is {to}: {error}", good.len());
            failed += 1;
        }
    }
    assert!(failed > 300, "{failed}");
}

#[test]
fn types_that_are_no_rows_are_refused_before_anything_runs() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Any {
        any: serde_json::Value,
    }
    let (_dir, path) = out();
    let ctx = Context::local();
    let any = ctx.parallelize([Any { any: serde_json::Value::Null }], 1);
    let error = any.save_as_parquet(&path).unwrap_err().to_string();
    assert!(error.contains("Any can't be a row: field `any`: its type doesn't say"), "{error}");
    assert!(!fs::exists(&path).unwrap());

    #[derive(Clone, Serialize, Deserialize)]
    enum Full {
        Holds(u8),
    }
    let full = ctx.parallelize([(1u8, Full::Holds(1))], 1);
    let error = full.save_as_parquet(&path).unwrap_err().to_string();
    assert!(error.contains("field `_2`: the variant Full::Holds holds something"), "{error}");

    #[derive(Clone, Serialize, Deserialize)]
    struct Skips {
        #[serde(skip_serializing)]
        #[expect(dead_code)]
        kept: u8,
    }
    let error = ctx.parallelize([Skips { kept: 1 }], 1).save_as_parquet(&path).unwrap_err();
    assert!(error.to_string().contains("field `kept` is left out of a record"), "{error}");
}
