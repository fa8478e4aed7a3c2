//! Records into columns, by serde.

use std::fmt;

use serde::ser::{self, Error, Serialize, Serializer};

use super::byte::Byte;
use super::gather::{Columns, Gathered, Values};
use super::shape::{Form, Node, Repeats};

/// Why a record can't be written.
#[derive(Debug)]
pub(crate) struct Unwritten(String);

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unwritten {}

impl Error for Unwritten {
    fn custom<T: fmt::Display>(text: T) -> Unwritten {
        Unwritten(text.to_string())
    }
}

/// Adds a record to the columns of its fields.
pub(crate) fn add(
    record: &impl Serialize,
    root: &Node,
    columns: &mut Columns,
) -> Result<(), Unwritten> {
    record.serialize(Slot { node: root, columns, repetition: 0 })
}

/// Where a value goes.
struct Slot<'a> {
    node: &'a Node,
    columns: &'a mut Columns,
    /// The level at which it repeats.
    repetition: i16,
}

impl<'a> Slot<'a> {
    fn bad(&self, text: impl fmt::Display) -> Unwritten {
        match self.node.name.as_str() {
            "" => Unwritten(text.to_string()),
            name => Unwritten(format!("field `{name}`: {text}")),
        }
    }

    /// It is written as one thing, by Serialize, and read as another, by Deserialize.
    fn other(&self, what: &str) -> Unwritten {
        let known = match &self.node.form {
            Form::Cell => match self.columns.gathered.get(self.node.leaves.start) {
                Some(Gathered { values: Values::Bool(_), .. }) => "a boolean",
                Some(Gathered { values: Values::I32(_) | Values::I64(_), .. }) => "a whole number",
                Some(Gathered { values: Values::F32(_) | Values::F64(_), .. }) => "a number",
                _ => "text or bytes",
            },
            Form::Struct(_) => "a struct",
            Form::List(..) => "a list",
            Form::Map(..) => "a map",
        };
        self.bad(format_args!("it is {what}, though its type reads {known}"))
    }

    /// Adds one value, if it is of the column's type.
    fn value(
        self,
        what: &str,
        bytes: usize,
        add: impl FnOnce(&mut Values, bool) -> Option<()>,
    ) -> Result<(), Unwritten> {
        if !matches!(self.node.form, Form::Cell) {
            return Err(self.other(what));
        }
        self.columns.bytes += bytes;
        let (leaf, defined) = (self.node.leaves.start, self.node.defined);
        let is_unsigned = self.columns.gathered.get(leaf).is_some_and(|leaf| leaf.is_unsigned);
        let values = self.columns.levels(leaf, defined, self.repetition);
        let added = values.and_then(|values| add(values, is_unsigned));
        match added {
            Some(()) => Ok(()),
            None => Err(self.other(what)),
        }
    }

    fn int(self, value: i128) -> Result<(), Unwritten> {
        self.value("a whole number", 8, |values, is_unsigned| {
            match (values, is_unsigned) {
                (Values::I32(values), false) => values.push(value.try_into().ok()?),
                (Values::I32(values), true) => {
                    values.push(u32::try_from(value).ok()?.cast_signed());
                }
                (Values::I64(values), false) => values.push(value.try_into().ok()?),
                (Values::I64(values), true) => {
                    values.push(u64::try_from(value).ok()?.cast_signed());
                }
                _ => return None,
            }
            Some(())
        })
    }

    fn bytes(self, what: &str, bytes: &[u8]) -> Result<(), Unwritten> {
        self.value(what, bytes.len() + 40, |values, _| {
            let Values::Bytes(values) = values else { return None };
            values.push(bytes.to_vec().into());
            Some(())
        })
    }

    fn seq(self) -> Result<Seq<'a>, Unwritten> {
        let Slot { node, repetition, .. } = self;
        Ok(match &node.form {
            Form::Cell => Seq::Bytes(self, Vec::new()),
            Form::Struct(fields) => Seq::Fields(Fields::new(fields, self)),
            Form::List(repeats, element) => {
                let (repeats, columns) = (*repeats, self.columns);
                Seq::List(List { node, element, columns, repeats, repetition, is_empty: true })
            }
            Form::Map(..) => return Err(self.other("a list")),
        })
    }

    fn fields(self) -> Result<Fields<'a>, Unwritten> {
        let node = self.node;
        match &node.form {
            Form::Struct(fields) => Ok(Fields::new(fields, self)),
            _ => Err(self.other("a struct")),
        }
    }

    fn variant(self, name: &str, variant: &str) -> Unwritten {
        self.bad(format_args!(
            "the variant {name}::{variant} holds something: Parquet has enums of plain names alone"
        ))
    }
}

impl<'a> Serializer for Slot<'a> {
    type Ok = ();
    type Error = Unwritten;
    type SerializeSeq = Seq<'a>;
    type SerializeTuple = Seq<'a>;
    type SerializeTupleStruct = Seq<'a>;
    type SerializeTupleVariant = ser::Impossible<(), Unwritten>;
    type SerializeMap = Map<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = ser::Impossible<(), Unwritten>;

    fn serialize_bool(self, value: bool) -> Result<(), Unwritten> {
        self.value("a boolean", 1, |values, _| {
            let Values::Bool(values) = values else { return None };
            values.push(value);
            Some(())
        })
    }

    fn serialize_i8(self, value: i8) -> Result<(), Unwritten> {
        self.int(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Unwritten> {
        self.int(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Unwritten> {
        self.int(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Unwritten> {
        self.int(value.into())
    }

    fn serialize_u8(self, value: u8) -> Result<(), Unwritten> {
        self.int(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Unwritten> {
        self.int(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Unwritten> {
        self.int(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Unwritten> {
        self.int(value.into())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Unwritten> {
        self.value("a number", 4, |values, _| {
            match values {
                Values::F32(values) => values.push(value),
                Values::F64(values) => values.push(value.into()),
                _ => return None,
            }
            Some(())
        })
    }

    fn serialize_f64(self, value: f64) -> Result<(), Unwritten> {
        self.value("a number", 8, |values, _| {
            let Values::F64(values) = values else { return None };
            values.push(value);
            Some(())
        })
    }

    fn serialize_char(self, value: char) -> Result<(), Unwritten> {
        self.bytes("text", value.encode_utf8(&mut [0; 4]).as_bytes())
    }

    fn serialize_str(self, value: &str) -> Result<(), Unwritten> {
        self.bytes("text", value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unwritten> {
        self.bytes("bytes", value)
    }

    fn serialize_none(self) -> Result<(), Unwritten> {
        let Some(defined) = self.node.optional else { return Err(self.other("nothing")) };
        self.columns.nothing(self.node, defined - 1, self.repetition);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unwritten> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unwritten> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unwritten> {
        self.serialize_none()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Unwritten> {
        self.bytes("the name of a variant", variant.as_bytes())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unwritten> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Result<(), Unwritten> {
        Err(self.variant(name, variant))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Seq<'a>, Unwritten> {
        self.seq()
    }

    fn serialize_tuple(self, _: usize) -> Result<Seq<'a>, Unwritten> {
        self.seq()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Seq<'a>, Unwritten> {
        self.seq()
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unwritten> {
        Err(self.variant(name, variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Map<'a>, Unwritten> {
        let Slot { node, repetition, .. } = self;
        match &node.form {
            Form::Map(repeats, entry) => {
                let (repeats, columns) = (*repeats, self.columns);
                Ok(Map { node, entry, columns, repeats, repetition, is_empty: true })
            }
            _ => Err(self.other("a map")),
        }
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, Unwritten> {
        self.fields()
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unwritten> {
        Err(self.variant(name, variant))
    }
}

/// The fields of a struct or a tuple, in their order.
struct Fields<'a> {
    fields: &'a [Node],
    columns: &'a mut Columns,
    repetition: i16,
    at: usize,
}

impl<'a> Fields<'a> {
    fn new(fields: &'a [Node], slot: Slot<'a>) -> Self {
        Fields { fields, columns: slot.columns, repetition: slot.repetition, at: 0 }
    }

    /// Leaves a field out, which must be an option then.
    fn leave_out(&mut self, node: &Node) -> Result<(), Unwritten> {
        let Some(defined) = node.optional else {
            return Err(Unwritten(format!(
                "field `{}` is left out of a record (by serde's `skip_serializing`, or it is an alias), and is no Option",
                node.name
            )));
        };
        self.columns.nothing(node, defined - 1, self.repetition);
        Ok(())
    }

    fn add<T: Serialize + ?Sized>(
        &mut self,
        name: Option<&str>,
        value: &T,
    ) -> Result<(), Unwritten> {
        while let Some(node) = self.fields.get(self.at) {
            self.at += 1;
            if name.is_none_or(|name| node.name == name) {
                let (columns, repetition) = (&mut *self.columns, self.repetition);
                return value.serialize(Slot { node, columns, repetition });
            }
            self.leave_out(node)?;
        }
        let name = name.unwrap_or_default();
        Err(Unwritten(format!("field `{name}` is written, but not read by its type")))
    }

    fn finish(mut self) -> Result<(), Unwritten> {
        while let Some(node) = self.fields.get(self.at) {
            self.at += 1;
            self.leave_out(node)?;
        }
        Ok(())
    }
}

impl ser::SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = Unwritten;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unwritten> {
        self.add(Some(name), value)
    }

    fn end(self) -> Result<(), Unwritten> {
        self.finish()
    }
}

struct List<'a> {
    node: &'a Node,
    element: &'a Node,
    columns: &'a mut Columns,
    repeats: Repeats,
    repetition: i16,
    is_empty: bool,
}

enum Seq<'a> {
    Bytes(Slot<'a>, Vec<u8>),
    Fields(Fields<'a>),
    List(List<'a>),
}

impl Seq<'_> {
    fn add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritten> {
        match self {
            Seq::Bytes(slot, bytes) => match value.serialize(Byte) {
                Ok(byte) => {
                    bytes.push(byte);
                    Ok(())
                }
                Err(_) => Err(slot.other("a list")),
            },
            Seq::Fields(fields) => fields.add(None, value),
            Seq::List(list) => {
                // The first one is where the list is.
                let repetition = if list.is_empty { list.repetition } else { list.repeats.level };
                list.is_empty = false;
                value.serialize(Slot { node: list.element, columns: list.columns, repetition })
            }
        }
    }

    fn finish(self) -> Result<(), Unwritten> {
        match self {
            Seq::Bytes(slot, bytes) => slot.bytes("bytes", &bytes),
            Seq::Fields(fields) => fields.finish(),
            Seq::List(List { node, columns, repeats, repetition, is_empty, .. }) => {
                if is_empty {
                    columns.nothing(node, repeats.defined - 1, repetition);
                }
                Ok(())
            }
        }
    }
}

macro_rules! sequences {
    ($($of:ident $method:ident;)*) => {
        $(impl ser::$of for Seq<'_> {
            type Ok = ();
            type Error = Unwritten;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritten> {
                self.add(value)
            }

            fn end(self) -> Result<(), Unwritten> {
                self.finish()
            }
        })*
    };
}

sequences! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
}

struct Map<'a> {
    node: &'a Node,
    entry: &'a (Node, Node),
    columns: &'a mut Columns,
    repeats: Repeats,
    repetition: i16,
    is_empty: bool,
}

impl Map<'_> {
    fn part<T: Serialize + ?Sized>(&mut self, is_key: bool, value: &T) -> Result<(), Unwritten> {
        let node = if is_key { &self.entry.0 } else { &self.entry.1 };
        let repetition = if self.is_empty { self.repetition } else { self.repeats.level };
        // Key and value repeat alike.
        self.is_empty &= is_key;
        value.serialize(Slot { node, columns: self.columns, repetition })
    }
}

impl ser::SerializeMap for Map<'_> {
    type Ok = ();
    type Error = Unwritten;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unwritten> {
        self.part(true, key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritten> {
        self.part(false, value)
    }

    fn end(self) -> Result<(), Unwritten> {
        if self.is_empty {
            self.columns.nothing(self.node, self.repeats.defined - 1, self.repetition);
        }
        Ok(())
    }
}
