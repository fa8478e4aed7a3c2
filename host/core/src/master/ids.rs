//! Names that a master gives: `app-20261125071500-0001`, `driver-20261125071500-0001`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// When it was named, and the how manieth name it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Stamp {
    /// In seconds since 1970.
    at: u64,
    number: u32,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, seconds) = (self.at / 86_400, self.at % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}-{:04}", self.number)
    }
}

/// Year, month and day of a day since 1970, in the Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    (year, month, doy - (153 * mp + 2) / 5 + 1)
}

/// Days since 1970, the other way round.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let y = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, yoe) = (y / 400, y % 400);
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5 + day - 1;
    (era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy).checked_sub(719_468)
}

impl FromStr for Stamp {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (time, number) = text.split_once('-').ok_or(())?;
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if time.len() != 14
            || number.len() < 4
            || number.len() > 10
            || !digits(time)
            || !digits(number)
        {
            return Err(());
        }
        let part = |from: usize, to: usize| {
            time.get(from..to).and_then(|t| t.parse::<u64>().ok()).ok_or(())
        };
        let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(());
        }
        let seconds = part(8, 10)? * 3600 + part(10, 12)? * 60 + part(12, 14)?;
        let at = days(year, month, day).ok_or(())? * 86_400 + seconds;
        let stamp = Self { at, number: number.parse().map_err(|_| ())? };
        // One name has one spelling.
        if stamp.to_string() == text { Ok(stamp) } else { Err(()) }
    }
}

macro_rules! stamped {
    ($($(#[$doc:meta])* $name:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(Stamp);

        impl $name {
            /// A name given at this time, in seconds since 1970.
            pub fn new(at: u64, number: u32) -> Self {
                Self(Stamp { at, number })
            }

            /// When it was given, in seconds since 1970.
            pub fn given_at(self) -> u64 {
                self.0.at
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                text.strip_prefix($prefix).ok_or(())?.parse().map(Self)
            }
        }
    )*};
}

stamped! {
    /// An application.
    AppId "app-";
    /// A driver that runs on a worker.
    DriverId "driver-";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dates_and_numbers_and_read_back() {
        let id = AppId::new(1_795_590_923, 7);
        assert_eq!(id.to_string(), "app-20261125071523-0007");
        for at in [0, 951_782_399, 951_782_400, 1_709_164_800, 4_102_444_799] {
            let id = DriverId::new(at, 12_345);
            assert_eq!(id.to_string().parse(), Ok(id), "{id}");
        }
        assert_eq!(AppId::new(951_782_400, 1).to_string(), "app-20000229000000-0001");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "app-",
            "driver-20261125065523-0007x",
            "app-20261125065523-0007",
            "driver-20261325065523-0007",
            "driver-2026112506552-0007",
            "driver-20261125065523-007",
            "driver-99999999999999-0001",
            "driver-20261125065523-00007",
            "driver-20260231000000-0001",
        ] {
            assert!(text.parse::<DriverId>().is_err(), "{text}");
        }
    }
}
