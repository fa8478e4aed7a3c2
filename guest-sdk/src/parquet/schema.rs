//! The schema that records of a type are written by.

use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::schema::types::{Type, TypePtr};

use super::infer::{Field, Kind};

/// A schema of a record's fields; what is no struct becomes the one column `value`.
pub(crate) fn of(root: &Field) -> Result<TypePtr, String> {
    let made = match (&root.kind, root.is_optional) {
        (Some(Kind::Struct(fields)), false) => fields.iter().map(column).collect(),
        _ => column(root).map(|only| vec![only]),
    };
    let fields: Vec<TypePtr> = made.map_err(|error| super::file::words(&error))?;
    if fields.is_empty() {
        return Err("it has no fields".to_owned());
    }
    let schema = Type::group_type_builder("schema").with_fields(fields).build();
    schema.map(Arc::new).map_err(|error| super::file::words(&error))
}

fn repetition(field: &Field) -> Repetition {
    if field.is_optional { Repetition::OPTIONAL } else { Repetition::REQUIRED }
}

fn group(
    name: &str,
    repetition: Repetition,
    annotation: Option<(LogicalType, ConvertedType)>,
    fields: Vec<TypePtr>,
) -> ParquetResult<TypePtr> {
    let mut group = Type::group_type_builder(name).with_repetition(repetition).with_fields(fields);
    if let Some((logical, converted)) = annotation {
        group = group.with_logical_type(Some(logical)).with_converted_type(converted);
    }
    group.build().map(Arc::new)
}

/// Lists and maps have the three levels that the format asks for.
fn column(field: &Field) -> ParquetResult<TypePtr> {
    let (name, repetition) = (&field.name, repetition(field));
    let repeated = Repetition::REPEATED;
    match &field.kind {
        Some(Kind::Struct(fields)) => {
            let fields = fields.iter().map(column).collect::<ParquetResult<_>>()?;
            group(name, repetition, None, fields)
        }
        Some(Kind::List(element)) if !is_byte(element) => {
            let list = group("list", repeated, None, vec![column(element)?])?;
            let annotation = (LogicalType::List, ConvertedType::LIST);
            group(name, repetition, Some(annotation), vec![list])
        }
        Some(Kind::Map(entry)) => {
            if entry[0].is_optional {
                return Err(no(field, "a map's key may not be an Option"));
            }
            let entry = entry.iter().map(column).collect::<ParquetResult<_>>()?;
            let entries = group("key_value", repeated, None, entry)?;
            let annotation = (LogicalType::Map, ConvertedType::MAP);
            group(name, repetition, Some(annotation), vec![entries])
        }
        Some(Kind::Not(why)) => Err(no(field, why)),
        None => Err(no(field, "nobody knows what it is")),
        Some(kind) => {
            let (physical, logical) = match kind {
                Kind::Bool => (Physical::BOOLEAN, None),
                Kind::Int(bits, signed) => {
                    let physical = if *bits == 64 { Physical::INT64 } else { Physical::INT32 };
                    // Those of the physical types themselves need no annotation.
                    let is_plain = *signed && *bits >= 32;
                    (physical, (!is_plain).then(|| LogicalType::integer(*bits, *signed)))
                }
                Kind::F32 => (Physical::FLOAT, None),
                Kind::F64 => (Physical::DOUBLE, None),
                Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
                _ => (Physical::BYTE_ARRAY, None),
            };
            let column = Type::primitive_type_builder(name, physical);
            let column = column.with_repetition(repetition).with_logical_type(logical);
            column.build().map(Arc::new)
        }
    }
}

/// A list of these is bytes.
pub(crate) fn is_byte(element: &Field) -> bool {
    element.kind == Some(Kind::Int(8, false)) && !element.is_optional
}

fn no(field: &Field, why: &str) -> ParquetError {
    ParquetError::General(format!("field `{}`: {why}", field.name))
}
