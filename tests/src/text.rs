//! Input of which the answer is known.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::{Chance, Place};

/// Text of many lines in several files of `in`; how often each word occurs.
pub fn text(place: &Place, files: usize, lines: usize) -> BTreeMap<String, String> {
    let (texts, counts) = texts(files, lines);
    for (file, text) in texts.into_iter().enumerate() {
        place.write(&format!("in/{file}.txt"), text);
    }
    counts
}

/// The texts of several files; how often each word occurs in all of them.
pub fn texts(files: usize, lines: usize) -> (Vec<String>, BTreeMap<String, String>) {
    let mut counts = BTreeMap::<String, u64>::new();
    let mut texts = Vec::new();
    for file in 0..files {
        let mut text = String::new();
        for line in 0..lines {
            for word in 0..8 {
                let word = format!("w{}", (line * 31 + word * 7 + file) % 997);
                write!(text, "{word} ").unwrap();
                *counts.entry(word).or_default() += 1;
            }
            text.push('\n');
        }
        texts.push(text);
    }
    (texts, counts.into_iter().map(|(word, n)| (word, n.to_string())).collect())
}

/// Lines `key<TAB>value` of all parts. No key may come twice.
pub fn table(parts: &[String]) -> BTreeMap<String, String> {
    let mut table = BTreeMap::new();
    for line in parts.iter().flat_map(|part| part.lines()) {
        let (key, value) = line.split_once('\t').unwrap_or_else(|| panic!("no tab: {line}"));
        let before = table.insert(key.to_owned(), value.to_owned());
        assert_eq!(before, None, "{key} comes twice");
    }
    table
}

/// Lines without order in several files of `lines`; all of them in the order of their first 10 bytes, which differ.
pub fn lines(place: &Place, files: usize, lines: usize) -> String {
    let mut chance = Chance::seeded(7);
    let mut all = Vec::new();
    for file in 0..files {
        let from = all.len();
        for line in 0..lines {
            let place = file * lines + line;
            all.push(format!("{:03}{place:07} and more of the line {file}\n", chance.below(1000)));
        }
        place.write(&format!("lines/{file}.txt"), all[from..].concat());
    }
    all.sort();
    all.concat()
}
