//! Delays by carrier, with the carriers' names joined in.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::input;
use super::threads::{self, Threads};

/// A carrier's year.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Carrier {
    /// Flights that were planned.
    pub flights: u64,
    /// Those that arrived.
    pub arrived: u64,
    /// The sum of their delays, in minutes.
    pub delay: f64,
    /// The airline's name, empty if the table has none.
    pub name: String,
}

impl Carrier {
    /// The mean delay of the flights that arrived.
    pub fn mean(&self) -> f64 {
        self.delay / self.arrived as f64
    }
}

/// Carriers by code, of `flights.csv` and `airlines.csv` in a folder, or either's `.gz`.
pub fn flights(dir: &Path, threads: Threads) -> Result<BTreeMap<String, Carrier>> {
    let text = input::read_all(&table(dir, "flights"))?;
    let (header, rows) = text.split_once('\n').context("flights has no header")?;
    let counted =
        threads::map(threads, pieces(rows, threads.get()), |_, rows| count(header, rows))?;

    let mut carriers = BTreeMap::<String, Carrier>::new();
    for (code, part) in counted.into_iter().flatten() {
        let all = carriers.entry(code).or_default();
        all.flights += part.flights;
        all.arrived += part.arrived;
        all.delay += part.delay;
    }
    for (code, name) in names(&input::read_all(&table(dir, "airlines"))?)? {
        if let Some(carrier) = carriers.get_mut(&code) {
            carrier.name = name;
        }
    }
    Ok(carriers)
}

fn table(dir: &Path, name: &str) -> PathBuf {
    let plain = dir.join(name).with_extension("csv");
    if plain.exists() { plain } else { dir.join(name).with_extension("csv.gz") }
}

/// Cuts text into about `n` even pieces of whole lines.
fn pieces(mut text: &str, n: usize) -> Vec<&str> {
    let size = text.len() / n + 1;
    let mut pieces = Vec::new();
    while !text.is_empty() {
        let end = memchr::memchr(b'\n', text.as_bytes().get(size..).unwrap_or_default());
        let (piece, rest) = text.split_at(end.map_or(text.len(), |i| size + i + 1));
        pieces.push(piece);
        text = rest;
    }
    pieces
}

fn count(header: &str, rows: &str) -> Result<HashMap<String, Carrier>> {
    let carrier = column(header, "carrier")?;
    let delay = column(header, "arr_delay")?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(rows.as_bytes());
    let mut row = csv::StringRecord::new();
    let mut carriers = HashMap::<String, Carrier>::new();
    while reader.read_record(&mut row)? {
        let code = row.get(carrier).context("a row has too few fields")?;
        // A lookup before an entry: the key is made once a carrier, not once a row.
        if !carriers.contains_key(code) {
            carriers.insert(code.to_owned(), Carrier::default());
        }
        let Some(sums) = carriers.get_mut(code) else { continue };
        sums.flights += 1;
        match row.get(delay).context("a row has too few fields")? {
            "" | "NA" => {}
            minutes => {
                sums.arrived += 1;
                sums.delay +=
                    minutes.parse::<f64>().with_context(|| format!("arr_delay is {minutes}"))?;
            }
        }
    }
    Ok(carriers)
}

fn column(header: &str, name: &str) -> Result<usize> {
    header
        .trim_end()
        .split(',')
        .position(|c| c == name)
        .with_context(|| format!("flights has no column {name}"))
}

fn names(airlines: &str) -> Result<Vec<(String, String)>> {
    csv::Reader::from_reader(airlines.as_bytes())
        .deserialize()
        .map(|row| row.context("airlines"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::twin::test_data;

    const TWO: Threads = Threads::new(2).unwrap();

    #[test]
    fn a_flight_without_a_delay_did_not_arrive() {
        let dir = tempfile::tempdir().unwrap();
        let rows = "day,carrier,arr_delay\n1,B,10\n2,A,\n3,B,-4.5\n4,B,NA\n5,C,1";
        fs::write(dir.path().join("flights.csv"), rows).unwrap();
        fs::write(dir.path().join("airlines.csv"), "carrier,name\nA,\"Air, Inc.\"\nB,Bee\nZ,Zed\n")
            .unwrap();
        let of = |flights, arrived, delay, name: &str| Carrier {
            flights,
            arrived,
            delay,
            name: name.to_owned(),
        };
        let expected = [
            ("A", of(1, 0, 0.0, "Air, Inc.")),
            ("B", of(3, 2, 5.5, "Bee")),
            ("C", of(1, 1, 1.0, "")),
        ];
        let expected = expected.map(|(code, carrier)| (code.to_owned(), carrier)).into();
        assert_eq!(flights(dir.path(), TWO).unwrap(), expected);
    }

    #[test]
    fn pieces_are_whole_lines_and_lose_none() {
        let text = "one\ntwo\nthree\n\nfour";
        for n in 1..30 {
            let pieces = pieces(text, n);
            assert_eq!(pieces.concat(), text);
            assert!(pieces.iter().rev().skip(1).all(|p| p.ends_with('\n')), "{pieces:?}");
        }
    }

    #[test]
    fn the_flights_of_2013_give_the_known_answers() {
        let Some(data) = test_data() else { return };
        let carriers = flights(&data, TWO).unwrap();
        let of = |code: &str| {
            let c = &carriers[code];
            (c.flights, c.arrived, format!("{:.4}", c.mean()), c.name.as_str())
        };
        assert_eq!(carriers.len(), 16);
        assert_eq!(of("9E"), (18460, 17294, "7.3797".into(), "Endeavor Air Inc."));
        assert_eq!(of("AS"), (714, 709, "-9.9309".into(), "Alaska Airlines Inc."));
        assert_eq!(of("OO"), (32, 29, "11.9310".into(), "SkyWest Airlines Inc."));
        assert_eq!(of("UA"), (58665, 57782, "3.5580".into(), "United Air Lines Inc."));
        assert_eq!(of("YV"), (601, 544, "15.5570".into(), "Mesa Airlines Inc."));
    }
}
