//! Input of which the answer is known.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::{Chance, Place};

/// Text of many lines in several files of `in`; how often each word occurs.
pub fn text(place: &Place, files: usize, lines: usize) -> BTreeMap<String, String> {
    let mut counts = BTreeMap::<String, u64>::new();
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
        place.write(&format!("in/{file}.txt"), text);
    }
    counts.into_iter().map(|(word, n)| (word, n.to_string())).collect()
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
