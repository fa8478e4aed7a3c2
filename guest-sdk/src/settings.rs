//! Settings that the SDK reads itself.

use crate::error::{Result, told};
use crate::host;

/// Sizes by which plans are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thresholds {
    /// Up to how many bytes a side of a join is broadcast though nobody asked for it; 0: none is.
    pub broadcast: u64,
    /// From how many bytes on a partition of a join may be shared by several tasks; 0: none is.
    pub share: u64,
    /// Up to how many bytes of partitions one task computes as one; 0: one partition.
    pub together: u64,
}

impl Thresholds {
    pub(crate) fn read() -> Result<Thresholds> {
        let broadcast = size(
            "ingle.join.broadcast.threshold",
            10 << 20,
            "no joins that broadcast on their own",
        )?;
        let share = size(
            "ingle.join.skew.threshold",
            16 << 20,
            "no partitions that several tasks compute",
        )?;
        let together = size(
            "ingle.shuffle.coalesce.size",
            4 << 20,
            "one task for each partition, however small",
        )?;
        Ok(Thresholds { broadcast, share, together })
    }
}

/// A setting that is a number of bytes; 0 stands for nothing of what `none` names.
fn size(key: &str, default: u64, none: &str) -> Result<u64> {
    match host::setting(key) {
        None => Ok(default),
        Some(text) => parse(&text).ok_or_else(|| {
            told(format!("{key} is `{text}`; it is a size such as 10m, or 0 for {none}"))
        }),
    }
}

/// A number of bytes, as in other settings.
fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let power = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" if number == 0 => 0,
        "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return None,
    };
    number.checked_mul(1 << (10 * power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_but_for_0() {
        let sizes = ["0", "7b", " 10m ", "2 KiB", "1G", "1t"].map(parse);
        assert_eq!(sizes, [0, 7, 10 << 20, 2 << 10, 1 << 30, 1 << 40].map(Some));
        for text in ["", "10", "-1", "m", "1.5m", "1x", "99999999999999999999b", "99999999999t"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
