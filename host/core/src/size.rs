//! Sizes in bytes, read as Spark's users write them and printed so that people can read them.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Nothing there.
    #[error("a size is missing: write a number and a unit, such as 512m or 4g")]
    Empty,
    /// A number alone: Spark reads it as bytes here and MiB there, so nobody knows what was meant.
    #[error("{0} has no unit: write {0}m for MiB or {0}g for GiB")]
    NoUnit(String),
    /// A unit that isn't one.
    #[error("{text} is no size: {unit} is no unit; use b, k, m, g or t")]
    BadUnit {
        /// What was given.
        text: String,
        /// The part after the number.
        unit: String,
    },
    /// No whole number in front.
    #[error("{0} is no size: write a whole number and a unit, such as 512m or 4g")]
    BadNumber(String),
    /// Less than nothing.
    #[error("{0} is negative: a size is at least 1b")]
    Negative(String),
    /// Nothing.
    #[error("{0} is no memory at all: a size is at least 1b")]
    Zero(String),
    /// More than a `u64` holds.
    #[error("{0} is too large: the largest size is 16777215t")]
    TooLarge(String),
}

/// As much of a user's text as a message should repeat.
fn quote(text: &str) -> String {
    text.chars().take(40).collect()
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let text = text.trim();
        let quoted = || quote(text);
        if text.is_empty() {
            return Err(SizeError::Empty);
        }
        if let Some(rest) = text.strip_prefix('-')
            && rest.starts_with(|c: char| c.is_ascii_digit())
        {
            return Err(SizeError::Negative(quoted()));
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        if number.is_empty() || unit.starts_with(['.', ',', '_']) {
            return Err(SizeError::BadNumber(quoted()));
        }
        if unit.is_empty() {
            return Err(SizeError::NoUnit(quoted()));
        }
        let power = match unit.to_ascii_lowercase().as_str() {
            "b" => 0,
            "k" | "kb" | "kib" => 1,
            "m" | "mb" | "mib" => 2,
            "g" | "gb" | "gib" => 3,
            "t" | "tb" | "tib" => 4,
            _ => return Err(SizeError::BadUnit { text: quoted(), unit: quote(unit) }),
        };
        // All digits, so the only way for parsing to fail is overflow.
        let number: u64 = number.parse().map_err(|_| SizeError::TooLarge(quoted()))?;
        if number == 0 {
            return Err(SizeError::Zero(quoted()));
        }
        let bytes = number.checked_mul(1 << (10 * power));
        bytes.map(Self).ok_or_else(|| SizeError::TooLarge(quoted()))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64;
        let mut unit = UNITS[0];
        for larger in UNITS.into_iter().skip(1) {
            // What would round to `1024.0` is one of the next unit.
            if value < 1023.95 {
                break;
            }
            value /= 1024.0;
            unit = larger;
        }
        write!(f, "{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<ByteSize>().unwrap_err().to_string()
    }

    #[test]
    fn sizes_are_read_in_every_spelling() {
        for text in ["4g", "4G", "4gb", "4GiB", "4096m", " 4194304 KiB ", "4294967296b"] {
            assert_eq!(text.parse(), Ok(ByteSize(4 << 30)), "{text}");
        }
        assert_eq!("1t".parse(), Ok(ByteSize(1 << 40)));
        assert_eq!("16777215t".parse(), Ok(ByteSize(16_777_215 << 40)));
    }

    #[test]
    fn a_bad_size_is_refused_with_a_reason() {
        assert_eq!(refusal("512"), "512 has no unit: write 512m for MiB or 512g for GiB");
        assert_eq!(refusal("4x"), "4x is no size: x is no unit; use b, k, m, g or t");
        assert_eq!(refusal("0g"), "0g is no memory at all: a size is at least 1b");
        assert_eq!(refusal("-1g"), "-1g is negative: a size is at least 1b");
        let whole = "write a whole number and a unit, such as 512m or 4g";
        assert_eq!(refusal("1.5g"), format!("1.5g is no size: {whole}"));
        assert_eq!(refusal("g"), format!("g is no size: {whole}"));
        assert_eq!(refusal("é"), format!("é is no size: {whole}"));
        assert_eq!(refusal("  "), format!("a size is missing: {}", &whole.replace(" whole", "")));
        let largest = "the largest size is 16777215t";
        assert_eq!(refusal("16777216t"), format!("16777216t is too large: {largest}"));
        let digits = "9".repeat(50) + "g";
        assert_eq!(refusal(&digits), format!("{} is too large: {largest}", &digits[..40]));
    }

    #[test]
    fn sizes_print_in_binary_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (17, "17 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (512 << 20, "512.0 MiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }
}
