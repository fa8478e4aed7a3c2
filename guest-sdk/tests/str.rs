//! The string that shares its block.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher};

use ingle::prelude::*;
use proptest::prelude::*;

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Whether `part` lies within the memory of `whole`.
fn lies_in(part: &str, whole: &str) -> bool {
    let (part, whole) = (part.as_bytes().as_ptr_range(), whole.as_bytes().as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

#[test]
fn parts_share_the_memory_of_the_whole() {
    let line = Str::from("to be, or not");
    let copy = line.clone();
    assert!(lies_in(&copy, &line));
    assert!(line.words().all(|word| lies_in(&word, &line)));
    assert!(line.fields(',').all(|field| lies_in(&field, &line)));
    assert!(lies_in(&line.slice(3..5), &line));
}

#[test]
fn parts_outlive_the_whole() {
    let words: Vec<Str> = Str::from(String::from("to be")).words().collect();
    assert_eq!(words, ["to", "be"]);
    let independent = String::from(words[1].clone());
    assert!(!lies_in(&independent, &words[1]));
}

#[test]
fn lines_of_a_file_share_their_block() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.txt");
    std::fs::write(&path, "first line\nsecond line\n").unwrap();
    let lines = Context::local().text_file(path.to_str().unwrap()).unwrap();
    lines
        .for_each_partition(|lines| {
            let lines: Vec<Str> = lines.collect();
            let distance = lines[1].as_ptr() as usize - lines[0].as_ptr() as usize;
            assert_eq!(distance, "first line\n".len());
        })
        .unwrap();
}

#[test]
fn strings_that_crossed_a_shuffle_share_its_blocks() {
    let words = Context::local().range(0..100, 1).map(|n| Str::from(format!("word {n}")));
    words
        .repartition(1)
        .for_each_partition(|words| {
            let words: Vec<Str> = words.collect();
            let span = words[99].as_ptr() as usize - words[0].as_ptr() as usize;
            assert!(span < 100 * 9, "{span}");
        })
        .unwrap();
}

#[test]
fn strs_are_equal_to_all_kinds_of_strings() {
    let text = Str::from("text");
    assert_eq!(text, "text");
    assert_eq!(text, *"text");
    assert_eq!(text, String::from("text"));
    assert_eq!(text, Str::from(String::from("text")));
    assert_ne!(text, "Text");
    assert_eq!(Str::default(), "");
}

#[test]
fn strs_print_as_strings_do() {
    let text = Str::from("a \"b\"");
    assert_eq!(format!("{text}|{text:?}|{text:>8}"), "a \"b\"|\"a \\\"b\\\"\"|   a \"b\"");
}

#[test]
fn strs_have_the_methods_of_str() {
    let text = Str::from(" Größe 7 ");
    assert_eq!(
        (text.trim(), text.len(), text.to_uppercase().as_str()),
        ("Größe 7", 11, " GRÖSSE 7 ")
    );
    assert_eq!(text.as_str().chars().count(), 9);
    let generic: &str = text.as_ref();
    assert!(generic.contains("ß"));
}

#[test]
fn maps_with_str_keys_are_asked_with_plain_strings() {
    let hashed: HashMap<Str, u32> = HashMap::from([(Str::from("one"), 1)]);
    let sorted: BTreeMap<Str, u32> = BTreeMap::from([(Str::from("one"), 1)]);
    assert_eq!((hashed.get("one"), hashed.get("two")), (Some(&1), None));
    assert_eq!((sorted.get("one"), sorted.get("two")), (Some(&1), None));
}

#[test]
fn lines_become_a_set_of_strings() {
    let set: HashSet<String> = ["a", "b", "a"].map(Str::from).into_iter().collect();
    assert_eq!(set, ["a", "b"].map(String::from).into());
}

#[test]
fn strs_are_keys_of_wide_operators_in_all_forms() {
    for every in ["0", "1", "3"] {
        let ctx = Context::local_with([("ingle.local.spill-every", every)]);
        let text = ["to be or", "not to be", "that long-winded-word that long-winded-word"];
        let words = ctx.parallelize(text.map(Str::from), 2).flat_map(|line| line.words());
        let counts = words.map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b);
        let model =
            [("be", 2), ("long-winded-word", 2), ("not", 1), ("or", 1), ("that", 2), ("to", 2)];
        let model = model.map(|(word, n)| (Str::from(word), n));
        assert_eq!(counts.sort_by_key(true).collect().unwrap(), model);
        assert_eq!(counts.lookup(&Str::from("or")).unwrap(), [1]);
        let by_length =
            words.distinct().group_by(|word| word.len()).join(&counts.map(|(w, n)| (w.len(), n)));
        assert_eq!(by_length.keys().distinct().count().unwrap(), 4);
    }
}

#[test]
fn strs_come_through_nested_records() {
    type Nested = (Option<Str>, Vec<Str>, BTreeMap<Str, Str>, String);
    let nested: Nested = (
        Some(Str::from("")),
        vec![Str::from("ä"), Str::from("b")],
        BTreeMap::from([(Str::from("key"), Str::from("value"))]),
        "owned".to_owned(),
    );
    let ctx = Context::local();
    let found = ctx.parallelize([nested.clone()], 1).repartition(2).collect().unwrap();
    assert_eq!(found, [nested]);
}

#[test]
fn strs_are_strings_in_json() {
    let text = Str::from("a \"b\" \n");
    let json = serde_json::to_string(&text).unwrap();
    assert_eq!(json, serde_json::to_string("a \"b\" \n").unwrap());
    assert_eq!(serde_json::from_str::<Str>(&json).unwrap(), text);
    assert_eq!(serde_json::from_value::<Str>("x".into()).unwrap(), "x");
    assert!(serde_json::from_str::<Str>("7").is_err());
}

#[test]
#[should_panic]
fn a_slice_can_not_cut_a_character() {
    Str::from("ä").slice(1..);
}

#[test]
#[should_panic]
fn a_slice_can_not_reach_beyond_its_string() {
    // What follows in the block is not this string's.
    let word = Str::from("to be").words().next().unwrap();
    word.slice(0..4);
}

#[test]
fn slices_take_ranges_of_all_kinds() {
    let text = Str::from("abcdef").slice(1..);
    assert_eq!(text, "bcdef");
    assert_eq!(
        (text.slice(..2), text.slice(1..=2), text.slice(..)),
        ("bc".into(), "cd".into(), text.clone())
    );
    assert_eq!(text.slice(5..), "");
}

proptest! {
    #[test]
    fn strs_hash_and_compare_as_str_does(one in ".{0,8}", other in ".{0,8}") {
        let (first, second) = (Str::from(one.as_str()), Str::from(other.clone()));
        prop_assert_eq!(hash(&first), hash(&one.as_str()));
        prop_assert_eq!(first.cmp(&second), one.cmp(&other));
        prop_assert_eq!(first.partial_cmp(&second), one.partial_cmp(&other));
        prop_assert_eq!(first == second, one == other);
        prop_assert_eq!(String::from(first), one);
    }

    #[test]
    fn words_are_those_of_split_ascii_whitespace(text in "[a!~ß \t\n\r\u{1}\u{b}\u{1f}\u{a0}]{0,60}") {
        let model: Vec<&str> = text.split_ascii_whitespace().collect();
        let whole = Str::from(text.as_str());
        prop_assert_eq!(whole.words().collect::<Vec<_>>(), model.clone());
        // `collect` and loops by `fold` and by `next` are different code.
        let mut folded = Vec::new();
        whole.words().for_each(|word| folded.push(word));
        prop_assert_eq!(folded, model.clone());
        let mut words = whole.words();
        let mut one_by_one = Vec::new();
        for word in words.by_ref() {
            one_by_one.push(word);
        }
        prop_assert_eq!(one_by_one, model);
        prop_assert!(words.next().is_none());
    }

    #[test]
    fn fields_are_those_of_split(text in "[a,→ ]{0,12}", separator in "[,→]") {
        let separator = separator.chars().next().unwrap();
        let model: Vec<&str> = text.split(separator).collect();
        prop_assert_eq!(Str::from(text.as_str()).fields(separator).collect::<Vec<_>>(), model);
    }

    #[test]
    fn words_of_a_part_are_its_own(text in "[a ]{0,12}", at in 0usize..13) {
        let at = at.min(text.len());
        let (left, right) = (Str::from(text.as_str()).slice(..at), Str::from(text.as_str()).slice(at..));
        prop_assert_eq!(left.words().collect::<Vec<_>>(), text[..at].split_ascii_whitespace().collect::<Vec<_>>());
        prop_assert_eq!(right.words().collect::<Vec<_>>(), text[at..].split_ascii_whitespace().collect::<Vec<_>>());
    }
}
