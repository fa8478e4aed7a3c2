//! Which rows are wanted, in words that statistics can answer.

use std::fmt;
use std::ops::Not;

/// A condition on the columns of a row, for [`Context::parquet_file_where`](crate::Context::parquet_file_where). Made by [`col`].
///
/// As in SQL, a comparison with null is neither true nor false: `col("n").ge(5)` and its negation both leave rows out whose `n` is null.
///
/// ```
/// # use ingle::prelude::*;
/// use ingle::parquet::col;
///
/// let late = col("carrier").is_in(["UA", "DL"]).and(col("delay").gt(60.0).or(col("cancelled").eq(true)));
/// assert_eq!(late.to_string(), r#"carrier in ("UA", "DL") and (delay > 60 or cancelled = true)"#);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Predicate(pub(crate) Condition);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    Compare(String, Comparison, Literal),
    IsNull(String),
    Not(Box<Condition>),
    And(Vec<Condition>),
    Or(Vec<Condition>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// What a column is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Another number.
    Float(f64),
    /// Text, by its bytes.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// A column, by its name; its methods make a [`Predicate`].
///
/// Numbers are compared by their value, whatever their types; days and times are the whole numbers that the file has for them. Text and
/// bytes are compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column(String);

/// The column of this name.
pub fn col(name: impl Into<String>) -> Column {
    Column(name.into())
}

/// As what they are called in operators.
impl Column {
    fn compare(self, comparison: Comparison, value: impl Into<Literal>) -> Predicate {
        Predicate(Condition::Compare(self.0, comparison, value.into()))
    }

    /// `=`
    pub fn eq(self, value: impl Into<Literal>) -> Predicate {
        self.compare(Comparison::Eq, value)
    }

    /// `<>`
    pub fn ne(self, value: impl Into<Literal>) -> Predicate {
        self.compare(Comparison::Ne, value)
    }

    /// `<`
    pub fn lt(self, value: impl Into<Literal>) -> Predicate {
        self.compare(Comparison::Lt, value)
    }

    /// `<=`
    pub fn le(self, value: impl Into<Literal>) -> Predicate {
        self.compare(Comparison::Le, value)
    }

    /// `>`
    pub fn gt(self, value: impl Into<Literal>) -> Predicate {
        self.compare(Comparison::Gt, value)
    }

    /// `>=`
    pub fn ge(self, value: impl Into<Literal>) -> Predicate {
        self.compare(Comparison::Ge, value)
    }

    /// It is one of these; of none, it never is.
    pub fn is_in(self, values: impl IntoIterator<Item = impl Into<Literal>>) -> Predicate {
        let values = values.into_iter().map(Into::into);
        let equal = |value| Condition::Compare(self.0.clone(), Comparison::Eq, value);
        Predicate(Condition::Or(values.map(equal).collect()))
    }

    /// It is null.
    pub fn is_null(self) -> Predicate {
        Predicate(Condition::IsNull(self.0))
    }

    /// It is not null.
    pub fn is_not_null(self) -> Predicate {
        !self.is_null()
    }
}

impl Predicate {
    /// Both hold.
    pub fn and(self, other: Predicate) -> Predicate {
        Predicate(Condition::And(vec![self.0, other.0]))
    }

    /// One holds at least.
    pub fn or(self, other: Predicate) -> Predicate {
        Predicate(Condition::Or(vec![self.0, other.0]))
    }
}

impl Not for Predicate {
    type Output = Predicate;

    fn not(self) -> Predicate {
        Predicate(Condition::Not(Box::new(self.0)))
    }
}

macro_rules! literals {
    ($($type:ty => $kind:ident,)*) => {
        $(impl From<$type> for Literal {
            fn from(value: $type) -> Literal {
                Literal::$kind(value.into())
            }
        })*
    };
}

literals! {
    bool => Bool,
    i8 => Int,
    i16 => Int,
    i32 => Int,
    i64 => Int,
    u8 => Int,
    u16 => Int,
    u32 => Int,
    u64 => Int,
    f32 => Float,
    f64 => Float,
    &str => Text,
    String => Text,
    &[u8] => Bytes,
    Vec<u8> => Bytes,
}

impl Literal {
    /// What kind of value it is, for people.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Literal::Bool(_) => "a boolean",
            Literal::Int(_) | Literal::Float(_) => "a number",
            Literal::Text(_) => "text",
            Literal::Bytes(_) => "bytes",
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Bool(value) => write!(f, "{value}"),
            Literal::Int(value) => write!(f, "{value}"),
            Literal::Float(value) => write!(f, "{value}"),
            Literal::Text(value) => write!(f, "{value:?}"),
            Literal::Bytes(value) => write!(f, "{} bytes", value.len()),
        }
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |comparison: &Comparison| match comparison {
            Comparison::Eq => "=",
            Comparison::Ne => "<>",
            Comparison::Lt => "<",
            Comparison::Le => "<=",
            Comparison::Gt => ">",
            Comparison::Ge => ">=",
        };
        let all = |f: &mut fmt::Formatter<'_>, parts: &[Condition], word: &str| {
            for (at, part) in parts.iter().enumerate() {
                let word = if at > 0 { word } else { "" };
                match part {
                    Condition::And(_) | Condition::Or(_) if !is_list(part) => {
                        write!(f, "{word}({part})")?;
                    }
                    part => write!(f, "{word}{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Condition::Compare(column, comparison, value) => {
                write!(f, "{column} {} {value}", sign(comparison))
            }
            Condition::IsNull(column) => write!(f, "{column} is null"),
            Condition::Not(inner) => match &**inner {
                Condition::IsNull(column) => write!(f, "{column} is not null"),
                inner => write!(f, "not ({inner})"),
            },
            Condition::And(parts) => all(f, parts, " and "),
            Condition::Or(parts) if parts.is_empty() => f.write_str("false"),
            Condition::Or(parts) if is_list(self) => {
                for (at, part) in parts.iter().enumerate() {
                    if let Condition::Compare(column, _, value) = part {
                        match at {
                            0 => write!(f, "{column} in ({value}")?,
                            _ => write!(f, ", {value}")?,
                        }
                    }
                }
                f.write_str(")")
            }
            Condition::Or(parts) => all(f, parts, " or "),
        }
    }
}

/// Whether it says that one column is one of several values.
fn is_list(condition: &Condition) -> bool {
    let Condition::Or(parts) = condition else { return false };
    let column = |part: &Condition| match part {
        Condition::Compare(column, Comparison::Eq, _) => Some(column.clone()),
        _ => None,
    };
    let first = parts.first().and_then(column);
    first.is_some() && parts.iter().all(|part| column(part) == first)
}
