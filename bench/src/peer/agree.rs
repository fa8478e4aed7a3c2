//! Whether two sides' results say the same.

use anyhow::{Result, ensure};

use crate::compare::Side;
use crate::rows::same;
use crate::verify;

/// What of two results must be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agree {
    /// Nothing: there is no result.
    Nothing,
    /// The lines of the outputs, in any order.
    Lines,
    /// The lines of the outputs, each in order.
    Sorted,
    /// What was printed; numbers may differ in their last digits, as sums in another order do.
    Numbers,
    /// What was printed before this.
    Before(&'static str),
}

impl Agree {
    /// Says where two results differ.
    pub fn check(self, ours: &Side, theirs: &Side) -> Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Lines => same(verify::digest(&ours.out)?, verify::digest(&theirs.out)?),
            Self::Sorted => {
                same(verify::sorted_digest(&ours.out)?, verify::sorted_digest(&theirs.out)?)
            }
            Self::Numbers => close(&ours.run.stdout, &theirs.run.stdout),
            Self::Before(end) => {
                let before = |text: &str| text.split(end).next().unwrap_or_default().to_owned();
                same(before(&ours.run.stdout), before(&theirs.run.stdout))
            }
        }
    }
}

/// How far numbers may lie apart, of their size.
const APART: f64 = 1e-3;

/// Whether two texts hold the same words and about the same numbers.
fn close(ours: &str, theirs: &str) -> Result<()> {
    let words = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (words(ours), words(theirs));
    ensure!(ours.len() == theirs.len(), "there are {} words beside {}", ours.len(), theirs.len());
    ensure!(!ours.is_empty(), "nothing was printed");
    for (a, b) in ours.iter().zip(&theirs) {
        ensure!(a == b || near(a, b), "`{a}` isn't `{b}`");
    }
    Ok(())
}

fn near(a: &str, b: &str) -> bool {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= APART * a.abs().max(b.abs()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_digits_may_differ_but_words_and_counts_may_not() {
        assert!(close("a\t12.345\n", "a 12.346\n").is_ok());
        assert!(close("a 12.3", "a 12.4").unwrap_err().to_string().contains("12.4"));
        assert!(close("a 12.3", "b 12.3").is_err());
        assert!(close("a 1 2", "a 1").is_err());
        assert!(close("", "").is_err());
    }
}
