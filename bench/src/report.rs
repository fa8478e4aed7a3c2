//! The table of what was to be reached and what was.

use std::fmt::Write;
use std::time::Duration;

use crate::compare::Sides;

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// What it is to reach.
    pub reach: String,
    /// What came out.
    pub measured: String,
    /// Whether it was reached; none if it couldn't be measured.
    pub met: Option<bool>,
}

impl Row {
    /// A measured row.
    pub fn new(
        what: impl Into<String>,
        reach: impl Into<String>,
        measured: String,
        met: bool,
    ) -> Self {
        Self { what: what.into(), reach: reach.into(), measured, met: Some(met) }
    }

    /// A row that couldn't be measured.
    pub fn failed(what: &str, error: &anyhow::Error) -> Self {
        Self {
            what: what.to_owned(),
            reach: String::new(),
            measured: format!("{error:#}"),
            met: None,
        }
    }

    /// How many times longer a job takes than its twin.
    pub fn ratio(what: impl Into<String>, most: f64, sides: &Sides) -> Self {
        let (job, twin) = (&sides.job, &sides.twin);
        let measured = format!(
            "{:.2} × ({} : {}; processor time {} : {}; medians of {})",
            sides.ratio(),
            seconds(job.wall()),
            seconds(twin.wall()),
            seconds(job.cpu()),
            seconds(twin.cpu()),
            job.0.len()
        );
        Self::new(what, format!("≤ {most} × the twin"), measured, sides.ratio() <= most)
    }

    /// A bound on memory, in bytes.
    pub fn memory(what: impl Into<String>, most: u64, peak: u64) -> Self {
        Self::new(what, format!("≤ {}", mib(most)), mib(peak), peak <= most)
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Bytes in words.
pub fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The rows as a Markdown table.
pub fn table(rows: &[Row]) -> String {
    let mut text = "| what | reach | measured | met |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        let met = match row.met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "**failed**",
        };
        let measured = row.measured.replace('\n', " ").replace('|', "\\|");
        // Writing to a string can't fail.
        let _ = writeln!(text, "| {} | {} | {measured} | {met} |", row.what, row.reach);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Run, Sample};

    fn sample(walls: &[u64]) -> Sample {
        let run = |s: &u64| {
            let wall = Duration::from_secs(*s);
            Run { wall, cpu: 2 * wall, peak: s << 20, stdout: String::new() }
        };
        Sample(walls.iter().map(run).collect())
    }

    #[test]
    fn a_ratio_is_of_medians_and_is_held_to_its_bound() {
        let sides = Sides { job: sample(&[3, 30, 2]), twin: sample(&[2, 1, 2]) };
        let row = Row::ratio("x", 1.5, &sides);
        assert_eq!(
            row.measured,
            "1.50 × (3.00 s : 2.00 s; processor time 6.00 s : 4.00 s; medians of 3)"
        );
        assert_eq!((row.met, Row::ratio("x", 1.49, &sides).met), (Some(true), Some(false)));
    }

    #[test]
    fn a_row_stays_on_its_line_whatever_it_says() {
        let rows =
            [Row::memory("m", 2 << 20, 3 << 20), Row::failed("f", &anyhow::anyhow!("a\nb|c"))];
        let expected = "| what | reach | measured | met |\n|---|---|---|---|\n\
                        | m | ≤ 2 MiB | 3 MiB | **no** |\n| f |  | a b\\|c | **failed** |\n";
        assert_eq!(table(&rows), expected);
    }
}
