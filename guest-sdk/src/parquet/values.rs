//! The fields of a record, each from its columns.

use std::fmt;

use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{Deserializer, Error, Expected, IntoDeserializer, Unexpected, Visitor};

use super::cells::{Cell, Kind, decimal};
use super::columns::Leaf;
use super::parts::{Each, Fields, Repeated};
use super::rows::Bad;
use super::shape::{Form, Node};

/// Goes on to what follows a field.
pub(super) fn skip(node: &Node, leaves: &mut [Leaf], level: i16) -> Result<(), Bad> {
    let own = leaves.get_mut(node.leaves.clone()).unwrap_or_default();
    own.iter_mut().try_for_each(|leaf| leaf.skip_value(level))
}

/// A field of a record.
pub(super) struct Value<'a> {
    pub node: &'a Node,
    pub leaves: &'a mut [Leaf],
    /// That of repetition which begins another value of the field.
    pub level: i16,
}

impl<'a> Value<'a> {
    fn first(&mut self) -> Option<&mut Leaf> {
        self.leaves.get_mut(self.node.leaves.start)
    }

    /// Whether what is next is defined up to a level.
    pub fn is_defined(&mut self, level: i16) -> Result<bool, Bad> {
        self.first().map_or(Ok(true), |leaf| Ok(leaf.definition()? >= level))
    }

    fn is_null(&mut self) -> Result<bool, Bad> {
        match self.node.optional {
            Some(level) => Ok(!self.is_defined(level)?),
            None => Ok(false),
        }
    }

    /// Past a null, or a list of nothing.
    pub fn skip_none(&mut self) -> Result<(), Bad> {
        let leaves = self.leaves.get_mut(self.node.leaves.clone()).unwrap_or_default();
        leaves.iter_mut().try_for_each(|leaf| {
            leaf.definition()?;
            leaf.advance();
            Ok(())
        })
    }

    fn bad(&self, text: impl fmt::Display) -> Bad {
        match (&self.node.form, self.leaves.get(self.node.leaves.start)) {
            (Form::Cell, Some(leaf)) => leaf.bad(text),
            _ => Bad::new(format!("column `{}`: {text}", self.node.name)),
        }
    }

    /// That it isn't null.
    fn check_there(&mut self, wanted: &dyn Expected) -> Result<(), Bad> {
        match self.is_null()? {
            false => Ok(()),
            true => Err(self.bad(format_args!(
                "it is null where {wanted} is wanted: make the field an Option"
            ))),
        }
    }

    /// That it is one value, and not null.
    fn check_cell(&mut self, wanted: &dyn Expected) -> Result<(), Bad> {
        let what = match self.node.form {
            Form::Cell => return self.check_there(wanted),
            Form::List(..) => "a list",
            Form::Map(..) => "a map",
            Form::Struct(_) => "a group of columns",
        };
        Err(self.bad(format_args!("it is {what}, where {wanted} is wanted")))
    }

    /// Gives the one value to `visit`.
    fn cell<R>(self, visit: impl FnOnce(Cell<'_>) -> Result<R, Bad>) -> Result<R, Bad> {
        let Some(leaf) = self.leaves.get_mut(self.node.leaves.start) else {
            return Err(Bad::new(format!("column `{}` isn't open", self.node.name)));
        };
        let visited = match leaf.cell()? {
            Some(cell) => visit(cell),
            None => Err(Bad::custom("its levels are no sound ones")),
        };
        match visited {
            Ok(value) => {
                leaf.advance();
                Ok(value)
            }
            Err(bad) if bad.placed => Err(bad),
            Err(bad) => Err(leaf.bad(bad)),
        }
    }

    fn kind(&self) -> Option<Kind> {
        match self.node.form {
            Form::Cell => self.leaves.get(self.node.leaves.start).map(|leaf| leaf.kind),
            _ => None,
        }
    }

    /// The value as what it is.
    fn natural<'de, V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Bad> {
        self.check_cell(&visitor)?;
        self.cell(|cell| match cell {
            Cell::Bool(value) => visitor.visit_bool(value),
            Cell::Int(value) => visitor.visit_i64(value),
            Cell::Unsigned(value) => visitor.visit_u64(value),
            Cell::F32(value) => visitor.visit_f32(value),
            Cell::F64(value) => visitor.visit_f64(value),
            Cell::Text(bytes) => visitor.visit_str(text(bytes)?),
            Cell::Bytes(bytes) => visitor.visit_bytes(bytes),
            Cell::Decimal(unscaled, scale) => visitor.visit_string(decimal(unscaled, scale)),
        })
    }

    fn text<'de, V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Bad> {
        self.check_cell(&visitor)?;
        match self.kind() {
            // Not all writers say what is text.
            Some(Kind::Bytes) => self.cell(|cell| match cell {
                Cell::Bytes(bytes) => visitor.visit_str(text(bytes)?),
                _ => Err(Bad::custom("no bytes")),
            }),
            _ => self.natural(visitor),
        }
    }

    fn number<'de, V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Bad> {
        self.check_cell(&visitor)?;
        match self.kind() {
            Some(Kind::Decimal(_)) => self.cell(|cell| match cell {
                // As it is written, so rounded once.
                Cell::Decimal(unscaled, scale) => match decimal(unscaled, scale).parse() {
                    Ok(number) => visitor.visit_f64(number),
                    Err(_) => Err(Bad::custom("a decimal is no number")),
                },
                _ => Err(Bad::custom("no decimal")),
            }),
            _ => self.natural(visitor),
        }
    }

    fn bytes<'de, V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Bad> {
        self.check_cell(&visitor)?;
        self.cell(|cell| match cell {
            Cell::Bytes(bytes) | Cell::Text(bytes) => visitor.visit_bytes(bytes),
            other => Err(Bad::custom(format_args!("it is {}, no bytes", other.words()))),
        })
    }

    /// What is a sequence: a list, a struct's fields, a map's entries, bytes.
    fn seq<'de, V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Bad> {
        self.check_there(&visitor)?;
        let (node, level) = (self.node, self.level);
        let made = match &node.form {
            Form::Cell => {
                return self.cell(|cell| match cell {
                    Cell::Bytes(bytes) | Cell::Text(bytes) => {
                        visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied()))
                    }
                    other => Err(Bad::custom(format_args!("it is {}, no list", other.words()))),
                });
            }
            Form::Struct(fields) => {
                let mut fields = Fields::new(fields, self.leaves, level, None);
                visitor.visit_seq(&mut fields).and_then(|made| fields.skip_rest().map(|()| made))
            }
            Form::List(repeats, element) => {
                let mut list = Repeated::of(self, *repeats, Each::One(element))?;
                visitor.visit_seq(&mut list).and_then(|made| list.skip_rest().map(|()| made))
            }
            Form::Map(repeats, entry) => {
                let mut list = Repeated::of(self, *repeats, Each::Entry(entry))?;
                visitor.visit_seq(&mut list).and_then(|made| list.skip_rest().map(|()| made))
            }
        };
        made.map_err(|bad| bad.in_field(&node.name))
    }

    /// What has names: a struct's fields, a map's entries. Of a struct's, perhaps only some are wanted.
    fn map<'de, V: Visitor<'de>>(
        mut self,
        visitor: V,
        wanted: Option<&'static [&'static str]>,
    ) -> Result<V::Value, Bad> {
        self.check_there(&visitor)?;
        let (node, level) = (self.node, self.level);
        let made = match &node.form {
            Form::Struct(fields) => {
                let mut fields = Fields::new(fields, self.leaves, level, wanted);
                visitor.visit_map(&mut fields).and_then(|made| fields.skip_rest().map(|()| made))
            }
            Form::Map(repeats, entry) => {
                let mut entries = Repeated::of(self, *repeats, Each::Entry(entry))?;
                visitor.visit_map(&mut entries).and_then(|made| entries.skip_rest().map(|()| made))
            }
            Form::Cell => return self.natural(visitor),
            Form::List(..) => {
                let list = Unexpected::Other("a list");
                Err(Bad::invalid_type(list, &visitor))
            }
        };
        made.map_err(|bad| bad.in_field(&node.name))
    }
}

fn text(bytes: &[u8]) -> Result<&str, Bad> {
    std::str::from_utf8(bytes).map_err(|_| Bad::custom("a value is not UTF-8"))
}

macro_rules! by {
    ($way:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
            self.$way(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = Bad;

    by! { natural:
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }
    by! { number: deserialize_f32 deserialize_f64 }
    by! { text: deserialize_char deserialize_str deserialize_string deserialize_identifier }
    by! { bytes: deserialize_bytes deserialize_byte_buf }
    by! { seq: deserialize_seq }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Bad> {
        if self.is_null()? {
            self.skip_none()?;
            return visitor.visit_none();
        }
        match self.node.form {
            Form::Cell => self.natural(visitor),
            Form::List(..) => self.seq(visitor),
            Form::Struct(_) | Form::Map(..) => self.map(visitor, None),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Bad> {
        if self.is_null()? {
            self.skip_none()?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Bad> {
        self.seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Bad> {
        self.seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        self.map(visitor, None)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Bad> {
        self.map(visitor, Some(fields))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Bad> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Bad> {
        self.check_cell(&visitor)?;
        self.cell(|cell| match cell {
            Cell::Text(bytes) | Cell::Bytes(bytes) => {
                let name: StrDeserializer<'_, Bad> = text(bytes)?.into_deserializer();
                visitor.visit_enum(name)
            }
            other => {
                Err(Bad::custom(format_args!("it is {}, no name of a variant", other.words())))
            }
        })
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
        skip(self.node, self.leaves, self.level)?;
        visitor.visit_unit()
    }
}
