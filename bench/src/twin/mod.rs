//! Native twins of the example jobs: the same work on the same data, as a capable engineer would
//! write it in an afternoon.

pub mod flights;
pub mod input;
pub mod output;
pub mod pagerank;
pub mod pi;
pub mod sort;
pub mod threads;
pub mod words;

/// The folder of real data with known answers, or a word on why its tests don't run.
#[cfg(test)]
fn test_data() -> Option<std::path::PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let dir = std::env::var_os("INGLE_DATA").unwrap_or_else(|| beside.into());
    let found = std::path::Path::new(&dir).join("flights.csv.gz").exists();
    if !found {
        // Not by `eprintln!`, which a passing test swallows.
        let words =
            format!("SKIPPED: no real data in {}: set INGLE_DATA to its folder\n", dir.display());
        std::io::Write::write_all(&mut std::io::stderr(), words.as_bytes()).unwrap();
    }
    found.then(|| dir.into())
}
