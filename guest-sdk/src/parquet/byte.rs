//! The bytes of a sequence that is written as bytes.

use serde::ser::{self, Serialize, Serializer};

use super::write::Unwritten;

/// A byte of a sequence that is one.
pub(super) struct Byte;

/// What is none.
fn none<T>() -> Result<T, Unwritten> {
    Err(ser::Error::custom("no byte"))
}

type No = ser::Impossible<u8, Unwritten>;

macro_rules! no_bytes {
    ($($method:ident $type:ty;)*) => {
        $(fn $method(self, _: $type) -> Result<u8, Unwritten> {
            none()
        })*
    };
}

impl Serializer for Byte {
    type Ok = u8;
    type Error = Unwritten;
    type SerializeSeq = No;
    type SerializeTuple = No;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = No;
    type SerializeStructVariant = No;

    no_bytes! {
        serialize_bool bool;
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_u16 u16;
        serialize_u32 u32;
        serialize_u64 u64;
        serialize_f32 f32;
        serialize_f64 f64;
        serialize_char char;
        serialize_str &str;
        serialize_bytes &[u8];
        serialize_unit_struct &'static str;
    }

    fn serialize_u8(self, value: u8) -> Result<u8, Unwritten> {
        Ok(value)
    }

    fn serialize_none(self) -> Result<u8, Unwritten> {
        none()
    }

    fn serialize_unit(self) -> Result<u8, Unwritten> {
        none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<u8, Unwritten> {
        none()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<u8, Unwritten> {
        none()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<u8, Unwritten> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<u8, Unwritten> {
        none()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<No, Unwritten> {
        none()
    }

    fn serialize_tuple(self, _: usize) -> Result<No, Unwritten> {
        none()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<No, Unwritten> {
        none()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<No, Unwritten> {
        none()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<No, Unwritten> {
        none()
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<No, Unwritten> {
        none()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<No, Unwritten> {
        none()
    }
}
