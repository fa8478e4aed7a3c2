//! Single values, as their column's type says what they are.

use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::data_type::Int96;
use parquet::schema::types::ColumnDescriptor;

/// What a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    /// Numbers, days, microseconds: whatever is a whole number.
    Int,
    Unsigned,
    F16,
    F32,
    F64,
    Text,
    Bytes,
    /// A whole number, of which so many digits are behind the point.
    Decimal(u32),
    /// Impala's timestamps.
    Int96,
}

impl Kind {
    pub fn of(column: &ColumnDescriptor) -> Kind {
        let (logical, converted) = (column.logical_type_ref(), column.converted_type());
        let is_decimal =
            matches!(logical, Some(LogicalType::Decimal(_))) || converted == ConvertedType::DECIMAL;
        if is_decimal {
            return Kind::Decimal(column.type_scale().max(0) as u32);
        }
        let is_unsigned = match logical {
            Some(LogicalType::Integer(integer)) => !integer.is_signed,
            _ => matches!(
                converted,
                ConvertedType::UINT_8
                    | ConvertedType::UINT_16
                    | ConvertedType::UINT_32
                    | ConvertedType::UINT_64
            ),
        };
        match column.physical_type() {
            Physical::BOOLEAN => Kind::Bool,
            Physical::INT32 | Physical::INT64 if is_unsigned => Kind::Unsigned,
            Physical::INT32 | Physical::INT64 => Kind::Int,
            Physical::INT96 => Kind::Int96,
            Physical::FLOAT => Kind::F32,
            Physical::DOUBLE => Kind::F64,
            Physical::FIXED_LEN_BYTE_ARRAY if matches!(logical, Some(LogicalType::Float16)) => {
                Kind::F16
            }
            Physical::BYTE_ARRAY => match (logical, converted) {
                (Some(LogicalType::String | LogicalType::Enum | LogicalType::Json), _)
                | (_, ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON) => {
                    Kind::Text
                }
                _ => Kind::Bytes,
            },
            Physical::FIXED_LEN_BYTE_ARRAY => Kind::Bytes,
        }
    }
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    F32(f32),
    F64(f64),
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    Decimal(i128, u32),
}

/// A value as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Raw<'a> {
    Bool(bool),
    I32(i32),
    I64(i64),
    I96(&'a Int96),
    F32(f32),
    F64(f64),
    Bytes(&'a [u8]),
}

impl<'a> Cell<'a> {
    /// None if the value can't be one of its kind.
    pub fn of(kind: Kind, raw: Raw<'a>) -> Option<Cell<'a>> {
        Some(match (raw, kind) {
            (Raw::Bool(value), _) => Cell::Bool(value),
            (Raw::I32(value), Kind::Decimal(scale)) => Cell::Decimal(value.into(), scale),
            (Raw::I64(value), Kind::Decimal(scale)) => Cell::Decimal(value.into(), scale),
            (Raw::Bytes(bytes), Kind::Decimal(scale)) => Cell::Decimal(whole(bytes)?, scale),
            (Raw::I32(value), Kind::Unsigned) => Cell::Unsigned(value.cast_unsigned().into()),
            (Raw::I64(value), Kind::Unsigned) => Cell::Unsigned(value.cast_unsigned()),
            (Raw::I32(value), _) => Cell::Int(value.into()),
            (Raw::I64(value), _) => Cell::Int(value),
            (Raw::I96(value), _) => Cell::Int(value.to_nanos()),
            (Raw::F32(value), _) => Cell::F32(value),
            (Raw::F64(value), _) => Cell::F64(value),
            (Raw::Bytes(bytes), Kind::F16) => Cell::F32(half(bytes.try_into().ok()?)),
            (Raw::Bytes(bytes), Kind::Text) => Cell::Text(bytes),
            (Raw::Bytes(bytes), _) => Cell::Bytes(bytes),
        })
    }

    /// What kind of value it is, for people.
    pub fn words(&self) -> &'static str {
        match self {
            Cell::Bool(_) => "a boolean",
            Cell::Int(_) | Cell::Unsigned(_) => "a whole number",
            Cell::F32(_) | Cell::F64(_) => "a number",
            Cell::Text(_) => "text",
            Cell::Bytes(_) => "bytes",
            Cell::Decimal(..) => "a decimal",
        }
    }
}

/// A signed number, its highest byte first. None if it is too long.
fn whole(bytes: &[u8]) -> Option<i128> {
    if bytes.len() > 16 {
        return None;
    }
    let sign = bytes.first().map_or(0, |first| i128::from(first.cast_signed() >> 7));
    Some(bytes.iter().fold(sign, |number, byte| number << 8 | i128::from(*byte)))
}

/// A float of 16 bits.
fn half(bytes: [u8; 2]) -> f32 {
    let bits = u16::from_le_bytes(bytes);
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    }
}

/// A decimal as it is written.
pub(crate) fn decimal(unscaled: i128, scale: u32) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let (digits, scale) = (unscaled.unsigned_abs().to_string(), scale as usize);
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (before, behind) = digits.split_at(digits.len() - scale);
    format!("{sign}{before}.{behind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_with_their_point() {
        for (unscaled, scale, text) in
            [(12345, 2, "123.45"), (-5, 3, "-0.005"), (0, 2, "0.00"), (7, 0, "7"), (-70, 1, "-7.0")]
        {
            assert_eq!(decimal(unscaled, scale), text);
        }
        assert_eq!(whole(&[0xff, 0xfe]), Some(-2));
        assert_eq!(whole(&[0x01, 0x00]), Some(256));
        assert_eq!(whole(&[]), Some(0));
        assert_eq!(whole(&[0; 17]), None);
    }

    #[test]
    fn halves_are_what_they_should_be() {
        for (bits, value) in [
            (0x3c00u16, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2f32.powi(-24)),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half(bits.to_le_bytes()), value);
        }
        assert!(half(0x7e00u16.to_le_bytes()).is_nan());
    }
}
