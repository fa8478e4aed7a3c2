//! Settings that the SDK reads itself.

use crate::error::{Result, told};
use crate::host;

/// A setting that is a number of bytes; 0 stands for nothing of what `none` names.
pub(crate) fn size(key: &str, default: u64, none: &str) -> Result<u64> {
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
