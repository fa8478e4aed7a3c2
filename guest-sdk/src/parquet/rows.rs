//! Records out of columns, by serde: a row, whose fields are in [`super::values`].

use std::fmt;

use serde::de::{Deserializer, Error, Expected, Visitor};

use super::cells::Kind;
use super::columns::Leaf;
use super::parts::Fields;
use super::shape::{Form, Node};
use super::values::{Value, skip};

/// Why a record can't be made.
#[derive(Debug)]
pub(crate) struct Bad {
    pub text: String,
    /// It names a column already.
    pub placed: bool,
    /// A column is wanted that isn't there.
    pub is_missing: bool,
}

impl Bad {
    pub fn new(text: String) -> Bad {
        Bad { text, placed: true, is_missing: false }
    }

    /// The same, of a field whose name isn't said yet.
    pub fn in_field(self, name: &str) -> Bad {
        match self.placed {
            true => self,
            false => Bad { text: format!("column `{name}`: {}", self.text), placed: true, ..self },
        }
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Bad {}

impl Error for Bad {
    fn custom<T: fmt::Display>(text: T) -> Bad {
        Bad { text: text.to_string(), placed: false, is_missing: false }
    }

    fn missing_field(field: &'static str) -> Bad {
        Bad { text: format!("there is no column `{field}`"), placed: true, is_missing: true }
    }
}

/// One row: the fields that are wanted.
pub(crate) struct Row<'a> {
    pub fields: &'a [Node],
    pub leaves: &'a mut [Leaf],
}

impl<'a> Row<'a> {
    fn seq<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_seq(Fields::new(self.fields, self.leaves, 0, None))
    }

    fn map<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        visitor.visit_map(Fields::new(self.fields, self.leaves, 0, None))
    }

    /// A record that is one value.
    fn only(self, wanted: &dyn Expected) -> Result<Value<'a>, Bad> {
        match self.fields {
            [node] => Ok(Value { node, leaves: self.leaves, level: 0 }),
            fields => Err(Bad::new(format!("a row of {} columns can't be {wanted}", fields.len()))),
        }
    }

    /// That its columns are as many as a tuple has places.
    fn check_len(&self, len: usize) -> Result<(), Bad> {
        match self.fields.len() {
            count if count == len => Ok(()),
            count => Err(Bad::new(format!("a row of {count} columns can't be a tuple of {len}"))),
        }
    }
}

macro_rules! only {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
            self.only(&visitor)?.$method(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Row<'_> {
    type Error = Bad;

    only! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_option deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        self.map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        self.map(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Bad> {
        self.map(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        let is_value = match self.fields {
            [Node { form: Form::List(..) | Form::Map(..), .. }] => true,
            [Node { form: Form::Cell, leaves, .. }] => {
                let leaf = self.leaves.get(leaves.start);
                leaf.is_some_and(|leaf| matches!(leaf.kind, Kind::Bytes | Kind::Text))
            }
            _ => false,
        };
        if is_value { self.only(&visitor)?.deserialize_seq(visitor) } else { self.seq(visitor) }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Bad> {
        self.check_len(len)?;
        self.seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Bad> {
        self.check_len(len)?;
        self.seq(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Bad> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Bad> {
        self.only(&visitor)?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        self.deserialize_ignored_any(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Bad> {
        self.deserialize_ignored_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        for node in self.fields {
            skip(node, self.leaves, 0)?;
        }
        visitor.visit_unit()
    }
}
