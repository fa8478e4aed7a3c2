//! Native twins of the example jobs: the same work on the same data, as a capable engineer would
//! write it in an afternoon.

pub mod flights;
pub mod input;
pub mod join;
pub mod output;
pub mod pagerank;
pub mod pi;
pub mod sort;
pub mod threads;
pub mod words;

/// The folder of real data with known answers, or a word on why its tests don't run.
#[cfg(test)]
fn test_data() -> Option<std::path::PathBuf> {
    let found = crate::data::real();
    if found.is_none() {
        // Not by `eprintln!`, which a passing test swallows.
        let words = b"SKIPPED: no real data: set INGLE_DATA to its folder\n";
        std::io::Write::write_all(&mut std::io::stderr(), words).unwrap();
    }
    found
}
