//! Predicates, asked of the statistics of a row group and of rows.

use std::cmp::Ordering;

use parquet::basic::{ColumnOrder, Type as Physical};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::cells::{Cell, Kind, Raw, decimal};
use super::columns::Leaf;
use super::predicate::{Comparison, Condition, Literal};
use super::rows::Bad;

/// A condition on columns that are there.
#[derive(Debug)]
pub(crate) enum Filter {
    /// Of the column at this place of those that are read.
    Compare(usize, Comparison, Literal),
    IsNull(usize),
    Not(Box<Filter>),
    And(Vec<Filter>),
    Or(Vec<Filter>),
}

/// What a condition may be somewhere in a row group. Neither: it is unknown for all rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct May {
    be_true: bool,
    be_false: bool,
}

const ANYTHING: May = May { be_true: true, be_false: true };

impl Filter {
    /// A condition on columns that `find` knows the places of; it is asked for each name.
    pub fn new(
        condition: &Condition,
        find: &mut impl FnMut(&str) -> Result<usize, String>,
    ) -> Result<Filter, String> {
        let all = |parts: &[Condition], find: &mut _| {
            parts.iter().map(|part| Filter::new(part, find)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match condition {
            Condition::Compare(column, comparison, literal) => {
                Filter::Compare(find(column)?, *comparison, literal.clone())
            }
            Condition::IsNull(column) => Filter::IsNull(find(column)?),
            Condition::Not(inner) => Filter::Not(Box::new(Filter::new(inner, find)?)),
            Condition::And(parts) => Filter::And(all(parts, find)?),
            Condition::Or(parts) => Filter::Or(all(parts, find)?),
        })
    }

    /// Whether the row that is next is wanted: none if that is unknown, as for SQL.
    pub fn of_row(&self, leaves: &mut [Leaf]) -> Result<Option<bool>, Bad> {
        match self {
            Filter::Compare(at, comparison, literal) => {
                let Some(leaf) = leaves.get_mut(*at) else { return Ok(None) };
                let Some(cell) = leaf.cell()? else { return Ok(None) };
                match compare(cell, literal) {
                    Some(order) => Ok(Some(comparison.holds(order))),
                    None => {
                        let what = cell.words();
                        let text = format!("it is {what}, and compared with {}", literal.words());
                        Err(leaf.bad(text))
                    }
                }
            }
            Filter::IsNull(at) => match leaves.get_mut(*at) {
                Some(leaf) => Ok(Some(leaf.cell()?.is_none())),
                None => Ok(None),
            },
            Filter::Not(inner) => Ok(inner.of_row(leaves)?.map(|holds| !holds)),
            Filter::And(parts) => any(parts, leaves, false),
            Filter::Or(parts) => any(parts, leaves, true),
        }
    }

    /// Whether a row group may have rows that are wanted.
    pub fn may_hold(
        &self,
        leaves: &[Leaf],
        group: &RowGroupMetaData,
        order: &dyn Fn(usize) -> ColumnOrder,
    ) -> bool {
        self.of_group(leaves, group, order).be_true
    }

    fn of_group(
        &self,
        leaves: &[Leaf],
        group: &RowGroupMetaData,
        order: &dyn Fn(usize) -> ColumnOrder,
    ) -> May {
        let all = |parts: &[Filter]| -> Vec<May> {
            parts.iter().map(|part| part.of_group(leaves, group, order)).collect()
        };
        match self {
            Filter::Compare(at, comparison, literal) => {
                let Some(leaf) = leaves.get(*at) else { return ANYTHING };
                let column = group.column(leaf.column);
                if nulls(column) == Some(group.num_rows()) {
                    return May { be_true: false, be_false: false };
                }
                bounded(leaf.kind, column, order(leaf.column), *comparison, literal)
            }
            Filter::IsNull(at) => {
                let Some(leaf) = leaves.get(*at) else { return ANYTHING };
                match nulls(group.column(leaf.column)) {
                    Some(nulls) => May { be_true: nulls > 0, be_false: nulls < group.num_rows() },
                    None => ANYTHING,
                }
            }
            Filter::Not(inner) => {
                let May { be_true, be_false } = inner.of_group(leaves, group, order);
                May { be_true: be_false, be_false: be_true }
            }
            Filter::And(parts) => {
                let parts = all(parts);
                May {
                    be_true: parts.iter().all(|part| part.be_true),
                    be_false: parts.iter().any(|part| part.be_false),
                }
            }
            Filter::Or(parts) => {
                let parts = all(parts);
                May {
                    be_true: parts.iter().any(|part| part.be_true),
                    be_false: parts.iter().all(|part| part.be_false),
                }
            }
        }
    }
}

/// Whether one of several is so; if none is, but one is unknown, that is unknown, too.
fn any(parts: &[Filter], leaves: &mut [Leaf], so: bool) -> Result<Option<bool>, Bad> {
    let mut known = true;
    for part in parts {
        match part.of_row(leaves)? {
            Some(holds) if holds == so => return Ok(Some(so)),
            Some(_) => {}
            None => known = false,
        }
    }
    Ok(known.then_some(!so))
}

impl Comparison {
    /// Floats may have no order: then they are only unequal.
    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Comparison::Eq => order == Some(Ordering::Equal),
            Comparison::Ne => order != Some(Ordering::Equal),
            Comparison::Lt => order == Some(Ordering::Less),
            Comparison::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Comparison::Gt => order == Some(Ordering::Greater),
            Comparison::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// None if they are of different kinds. Some(None): one of them is no number.
#[expect(clippy::option_option, reason = "these are two questions")]
fn compare(cell: Cell<'_>, literal: &Literal) -> Option<Option<Ordering>> {
    let whole = |value: i128| match literal {
        Literal::Int(literal) => Some(Some(value.cmp(literal))),
        Literal::Float(literal) => Some((value as f64).partial_cmp(literal)),
        _ => None,
    };
    let float = |value: f64| match literal {
        Literal::Int(literal) => Some(value.partial_cmp(&(*literal as f64))),
        Literal::Float(literal) => Some(value.partial_cmp(literal)),
        _ => None,
    };
    match cell {
        Cell::Bool(value) => match literal {
            Literal::Bool(literal) => Some(Some(value.cmp(literal))),
            _ => None,
        },
        Cell::Int(value) => whole(value.into()),
        Cell::Unsigned(value) => whole(value.into()),
        Cell::F32(value) => float(value.into()),
        Cell::F64(value) => float(value),
        Cell::Decimal(value, scale) => {
            let scaled = 10i128.checked_pow(scale);
            match (literal, scaled) {
                (Literal::Int(literal), Some(scaled)) => match literal.checked_mul(scaled) {
                    Some(literal) => Some(Some(value.cmp(&literal))),
                    // It is beyond what the column can hold.
                    None => Some(Some(0.cmp(literal))),
                },
                _ => float(decimal(value, scale).parse().ok()?),
            }
        }
        Cell::Text(bytes) | Cell::Bytes(bytes) => match literal {
            Literal::Text(literal) => Some(Some(bytes.cmp(literal.as_bytes()))),
            Literal::Bytes(literal) => Some(Some(bytes.cmp(literal))),
            _ => None,
        },
    }
}

fn nulls(column: &ColumnChunkMetaData) -> Option<i64> {
    let nulls = column.statistics()?.null_count_opt()?;
    i64::try_from(nulls).ok()
}

/// What a comparison may be, by the smallest and the largest value of a column that are known.
fn bounded(
    kind: Kind,
    column: &ColumnChunkMetaData,
    order: ColumnOrder,
    comparison: Comparison,
    literal: &Literal,
) -> May {
    let Some((least, most)) = bounds(kind, column, order) else { return ANYTHING };
    let compared = |bound: Option<Raw<'_>>| {
        let cell = Cell::of(kind, bound?)?;
        compare(cell, literal)
    };
    // A bound of another kind, or one that is no number, says nothing; a row will tell.
    let (low, high) = match (compared(least), compared(most)) {
        (Some(Some(low)), Some(Some(high))) => (low, high),
        _ => return ANYTHING,
    };
    let between = low != Ordering::Greater && high != Ordering::Less;
    let all_equal = low == Ordering::Equal && high == Ordering::Equal;
    let (be_true, be_false) = match comparison {
        Comparison::Eq => (between, !all_equal),
        Comparison::Ne => (!all_equal, between),
        Comparison::Lt => (low == Ordering::Less, high != Ordering::Less),
        Comparison::Le => (low != Ordering::Greater, high == Ordering::Greater),
        Comparison::Gt => (high == Ordering::Greater, low != Ordering::Greater),
        Comparison::Ge => (high != Ordering::Less, low == Ordering::Less),
    };
    // What is no number isn't in the statistics; it is unequal to all, and no other comparison holds.
    let has_nan = matches!(kind, Kind::F16 | Kind::F32 | Kind::F64);
    let is_ne = comparison == Comparison::Ne;
    May { be_true: be_true || has_nan && is_ne, be_false: be_false || has_nan && !is_ne }
}

/// The smallest and the largest value, or less and more than these, if that is to be believed.
fn bounds(
    kind: Kind,
    column: &ColumnChunkMetaData,
    order: ColumnOrder,
) -> Option<(Option<Raw<'_>>, Option<Raw<'_>>)> {
    let statistics = column.statistics()?;
    let signed = matches!(kind, Kind::Bool | Kind::Int | Kind::F32 | Kind::F64);
    let is_typed = matches!(order, ColumnOrder::TYPE_DEFINED_ORDER(_));
    // Old writers, and those that say no order, compared all as signed numbers.
    if !signed && (statistics.is_min_max_deprecated() || !is_typed) {
        return None;
    }
    // A decimal of bytes: few writers agree. Of half a float: neither.
    if matches!(kind, Kind::F16 | Kind::Int96)
        || matches!(kind, Kind::Decimal(_)) && statistics.physical_type() == Physical::BYTE_ARRAY
    {
        return None;
    }
    Some(match statistics {
        Statistics::Boolean(of) => {
            (of.min_opt().map(|v| Raw::Bool(*v)), of.max_opt().map(|v| Raw::Bool(*v)))
        }
        Statistics::Int32(of) => {
            (of.min_opt().map(|v| Raw::I32(*v)), of.max_opt().map(|v| Raw::I32(*v)))
        }
        Statistics::Int64(of) => {
            (of.min_opt().map(|v| Raw::I64(*v)), of.max_opt().map(|v| Raw::I64(*v)))
        }
        Statistics::Float(of) => {
            (of.min_opt().map(|v| Raw::F32(*v)), of.max_opt().map(|v| Raw::F32(*v)))
        }
        Statistics::Double(of) => {
            (of.min_opt().map(|v| Raw::F64(*v)), of.max_opt().map(|v| Raw::F64(*v)))
        }
        Statistics::ByteArray(of) => {
            (of.min_opt().map(|v| Raw::Bytes(v.data())), of.max_opt().map(|v| Raw::Bytes(v.data())))
        }
        Statistics::FixedLenByteArray(of) => {
            (of.min_opt().map(|v| Raw::Bytes(v.data())), of.max_opt().map(|v| Raw::Bytes(v.data())))
        }
        Statistics::Int96(_) => return None,
    })
}
