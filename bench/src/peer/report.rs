//! The table of what Ingle did beside its peer.

use std::fmt::Write;

use anyhow::Error;

use crate::measure::{Sample, median};

/// Of the peer's peak memory, at most this part on every job.
const MEMORY: f64 = 3.0;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds: less is better.
    Seconds,
    /// Tasks in a second: more is better.
    Rate,
}

/// One side of a job: medians of its runs.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Seconds, or a rate.
    pub value: f64,
    /// Seconds on processors.
    pub cpu: f64,
    /// The peak of resident memory, in bytes.
    pub peak: f64,
}

impl Figures {
    /// Medians, with the value that each run gave.
    pub fn of(sample: &Sample, values: Vec<f64>) -> Self {
        Self {
            value: median(values),
            cpu: sample.cpu().as_secs_f64(),
            peak: median(sample.0.iter().map(|run| run.peak as f64)),
        }
    }
}

/// What is to be reached beside the peer, besides memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bars {
    /// How many times faster.
    pub speed: Option<f64>,
    /// How many times less time on processors.
    pub cpu: Option<f64>,
}

/// What came out for one job.
#[derive(Debug)]
pub struct Row {
    /// The job, and where it ran.
    pub what: String,
    /// What its values are, both sides and what is to be reached; or why there is nothing.
    pub result: Result<Measured, String>,
}

/// Both sides of a job.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// What the values are.
    pub unit: Unit,
    /// Ingle.
    pub ours: Figures,
    /// The peer.
    pub theirs: Figures,
    /// None where another row of the same job is held to them.
    pub bars: Option<Bars>,
}

impl Row {
    /// A job that couldn't be measured.
    pub fn failed(what: impl Into<String>, error: &Error) -> Self {
        Self { what: what.into(), result: Err(format!("{error:#}")) }
    }

    /// A line of the table.
    pub fn line(&self) -> String {
        format!("| {} |", self.cells().join(" | "))
    }

    fn cells(&self) -> [String; 8] {
        let measured = match &self.result {
            Ok(measured) => measured,
            Err(why) => {
                let why = why.replace('\n', " ").replace('|', "\\|");
                let none = String::new;
                let failed = "**failed**".to_owned();
                return [self.what.clone(), why, none(), none(), none(), none(), none(), failed];
            }
        };
        let Measured { unit, ours, theirs, bars } = measured;
        let cpu = theirs.cpu / ours.cpu;
        let memory = theirs.peak / ours.peak;
        let (reach, met) = match bars {
            None => (String::new(), "–".to_owned()),
            Some(bars) => {
                let met = if measured.met(*bars) { "yes" } else { "**no**" };
                (bars.words(), met.to_owned())
            }
        };
        [
            self.what.clone(),
            unit.words(ours.value),
            unit.words(theirs.value),
            format!("{:.1} ×", measured.speed()),
            format!("1/{cpu:.1} ({:.1} : {:.1} s)", ours.cpu, theirs.cpu),
            format!("1/{memory:.1} ({:.0} : {:.0} MiB)", mib(ours.peak), mib(theirs.peak)),
            reach,
            met,
        ]
    }
}

impl Measured {
    /// How many times faster Ingle is.
    pub fn speed(&self) -> f64 {
        match self.unit {
            Unit::Seconds => self.theirs.value / self.ours.value,
            Unit::Rate => self.ours.value / self.theirs.value,
        }
    }

    fn met(&self, bars: Bars) -> bool {
        let reached = |bar: Option<f64>, times: f64| bar.is_none_or(|bar| times >= bar);
        reached(bars.speed, self.speed())
            && reached(bars.cpu, self.theirs.cpu / self.ours.cpu)
            && reached(Some(MEMORY), self.theirs.peak / self.ours.peak)
    }
}

impl Bars {
    fn words(self) -> String {
        let mut words = Vec::new();
        words.extend(self.speed.map(|times| format!("≥ {times} × faster")));
        words.extend(self.cpu.map(|times| format!("CPU ≤ 1/{times}")));
        words.push(format!("RSS ≤ 1/{MEMORY}"));
        words.join(", ")
    }
}

impl Unit {
    fn words(self, value: f64) -> String {
        match self {
            Self::Seconds if value < 0.1 => format!("{:.1} ms", value * 1e3),
            Self::Seconds => format!("{value:.2} s"),
            Self::Rate => format!("{value:.0}/s"),
        }
    }
}

fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}

/// The rows as a Markdown table.
pub fn table(peer: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "| what | Ingle | {peer} | ratio | CPU | peak RSS | reach | met |\n|---|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{}", row.line());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(value: f64, cpu: f64, mib: u32) -> Figures {
        Figures { value, cpu, peak: f64::from(mib << 20) }
    }

    fn row(unit: Unit, ours: Figures, theirs: Figures, bars: Option<Bars>) -> Row {
        Row { what: "x".into(), result: Ok(Measured { unit, ours, theirs, bars }) }
    }

    #[test]
    fn a_row_has_all_ratios_and_is_held_to_all_bars() {
        let bars = |speed, cpu| Some(Bars { speed: Some(speed), cpu: Some(cpu) });
        let (ours, theirs) = (figures(2.0, 3.0, 100), figures(24.0, 30.0, 300));
        let cells = |bars| row(Unit::Seconds, ours, theirs, bars).cells();
        let expected = [
            "x",
            "2.00 s",
            "24.00 s",
            "12.0 ×",
            "1/10.0 (3.0 : 30.0 s)",
            "1/3.0 (100 : 300 MiB)",
            "≥ 12 × faster, CPU ≤ 1/10, RSS ≤ 1/3",
            "yes",
        ];
        assert_eq!(cells(bars(12.0, 10.0)), expected);
        assert_eq!(cells(bars(12.1, 10.0))[7], "**no**");
        assert_eq!(cells(bars(12.0, 10.1))[7], "**no**");
        assert_eq!(cells(None)[6..], ["", "–"]);
        let much = figures(2.0, 3.0, 101);
        assert_eq!(row(Unit::Seconds, much, theirs, Some(Bars::default())).cells()[7], "**no**");
    }

    #[test]
    fn of_rates_the_higher_is_faster_and_short_times_are_told_in_ms() {
        let rate = row(Unit::Rate, figures(3e5, 1.0, 1), figures(3e3, 1.0, 9), None).cells();
        assert_eq!(rate[1..4], ["300000/s", "3000/s", "100.0 ×"]);
        let short = row(Unit::Seconds, figures(0.0123, 1.0, 1), figures(1.0, 1.0, 9), None);
        assert_eq!(short.cells()[1], "12.3 ms");
    }

    #[test]
    fn a_failed_row_stays_on_its_line() {
        let failed = Row::failed("f", &anyhow::anyhow!("a\nb|c"));
        let text = table("Spark", &[failed]);
        assert_eq!(text.lines().last(), Some("| f | a b\\|c |  |  |  |  |  | **failed** |"));
    }
}
