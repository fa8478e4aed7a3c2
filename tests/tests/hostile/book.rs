//! The book's table of attacks is made of the attacks that are tried.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::attack::{Attack, By};

/// The families, with the names of their tests.
const FAMILIES: &[(&str, &[Attack])] = &[
    ("memory", crate::memory::ATTACKS),
    ("endless", crate::endless::ATTACKS),
    ("floods", crate::floods::ATTACKS),
    ("driver", crate::driver::ATTACKS),
    ("files", crate::files::ATTACKS),
    ("sockets", crate::sockets::ATTACKS),
    ("forged", crate::forged::ATTACKS),
];

/// Attacks that aren't jobs of the SDK: what they do, what stops them, the test, and what comes of it.
const OTHERS: &[&[[&str; 4]]] =
    &[crate::sockets::BOOK, crate::modules::BOOK, crate::adapters::BOOK, crate::peers::BOOK];

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/attacks.md");

fn table() -> String {
    let mut text = String::from(
        "# Attacks\n\n\
         What is tried against Ingle with every change, which wall stops it, and what it comes to. A test holds each on a cluster, beside \
         a neighbour on the same worker who must not notice: it computes right answers all the time, on an executor that is never lost. The daemons go \
         on, and no file, process, cgroup, descriptor or thread is left. Where tasks attack, another task of the same application computes right answers as well.\n\n\
         `examples/hostile` is the job that attacks; `cargo test --test hostile` holds it. This page is made by that test.\n\n\
         | attack | who | what it does | what stops it | what it comes to | test |\n|---|---|---|---|---|---|\n",
    );
    for (family, attacks) in FAMILIES {
        for Attack { name, by, what, wall, ways, end, .. } in *attacks {
            let who = match by {
                By::Task | By::Alone => "a task",
                By::Driver => "the driver",
            };
            let mut words: Vec<_> = ways
                .iter()
                .map(|(_, words)| format!("“{}”", words.replace(" | ", "” or “")))
                .collect();
            words.dedup();
            words.truncate(3);
            let words = words.join(", ");
            let end = end.words();
            let _ = writeln!(
                text,
                "| {name} | {who} | {what} | {wall} | {words}; {end} | `{family}` |"
            );
        }
    }
    text.push_str("\n## Modules and peers\n\nComponents that no compiler of Rust makes, and processes that speak to the cluster's ports.\n\n");
    text.push_str(
        "| what it does | what stops it | what it comes to | test |\n|---|---|---|---|\n",
    );
    for [what, wall, outcome, test] in OTHERS.iter().copied().flatten() {
        let _ = writeln!(text, "| {what} | {wall} | {outcome} | `{test}` |");
    }
    text
}

#[test]
fn the_book_has_the_attacks_that_are_tried() {
    let (path, table) = (Path::new(FILE), table());
    if std::env::var_os("INGLE_BLESS").is_some() {
        fs::write(path, &table).expect("the book is written");
    }
    let book = fs::read_to_string(path).unwrap_or_default();
    assert!(book == table, "docs/attacks.md isn't what is tried: INGLE_BLESS=1 writes it anew");
}

#[test]
fn there_are_at_least_forty_attacks() {
    let attacks: usize = FAMILIES.iter().map(|(_, attacks)| attacks.len()).sum();
    let others: usize = OTHERS.iter().map(|others| others.len()).sum();
    assert!(attacks >= 40, "{attacks} by jobs, {others} others");
}
