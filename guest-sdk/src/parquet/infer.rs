//! What a type says of itself to serde: the columns that it wants, and the schema that it is written by.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

/// Nobody hears of it.
#[derive(Debug)]
pub(crate) struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("asked only for its type")
    }
}

impl std::error::Error for Stop {}

impl Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Stop {
        Stop
    }
}

/// The names of the fields of a struct; none of what is no struct.
pub(crate) fn wanted<T: DeserializeOwned>() -> Option<&'static [&'static str]> {
    let mut fields = None;
    // It always fails.
    let _ = T::deserialize(Ask(&mut fields));
    fields
}

struct Ask<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Ask<'_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Stop> {
        *self.0 = Some(fields);
        Err(Stop)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

/// What a field of a type is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Bool,
    /// Bits, and whether it has a sign.
    Int(i8, bool),
    F32,
    F64,
    Text,
    Bytes,
    Struct(Vec<Field>),
    List(Box<Field>),
    /// Key and value.
    Map(Box<[Field; 2]>),
    /// It can't be written, for this reason.
    Not(&'static str),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub name: String,
    pub is_optional: bool,
    /// None as long as nobody asked.
    pub kind: Option<Kind>,
}

impl Field {
    pub fn named(name: impl Into<String>) -> Field {
        Field { name: name.into(), is_optional: false, kind: None }
    }

    /// The fields in it.
    fn parts(&self) -> &[Field] {
        match &self.kind {
            Some(Kind::Struct(fields)) => fields,
            Some(Kind::List(element)) => std::slice::from_ref(element),
            Some(Kind::Map(entry)) => &entry[..],
            _ => &[],
        }
    }

    /// The way to something in it that nobody asked for yet.
    fn unknown(&self) -> Option<String> {
        match &self.kind {
            None => Some(self.name.clone()),
            Some(_) => {
                let inner = self.parts().iter().find_map(Field::unknown)?;
                Some(format!("{}.{inner}", self.name))
            }
        }
    }

    /// How much of it is known.
    fn known(&self) -> usize {
        let own = usize::from(self.kind.is_some());
        own + self.parts().iter().map(Field::known).sum::<usize>()
    }
}

/// Records are no deeper than this, nor have they more fields.
const MAX_DEPTH: usize = 32;
const MAX_FIELDS: usize = 2000;

/// What a type is made of.
///
/// Its values are asked for what they would be read from, one way down to a single value at a time: a struct is given one field, and fails
/// then for want of the others. So a field need not take the value that it is given, an empty text where a date is wanted.
pub(crate) fn record<T: DeserializeOwned>() -> Result<Field, String> {
    let mut root = Field::named("value");
    while let Some(unknown) = root.unknown() {
        let known = root.known();
        if known > MAX_FIELDS {
            return Err(format!("it has more than {MAX_FIELDS} fields, or is nested in itself"));
        }
        // What it makes of the values is of no interest.
        let _ = T::deserialize(Trace { field: &mut root, depth: 0 });
        if root.known() == known {
            let place = unknown.strip_prefix("value.").unwrap_or("value");
            return Err(format!(
                "what `{place}` is can't be found out, for what is before it takes no values that are empty or zero: \
                 make a struct of the tuple"
            ));
        }
    }
    Ok(root)
}

struct Trace<'a> {
    field: &'a mut Field,
    depth: usize,
}

const ANY: &str =
    "its type doesn't say what it is (as with serde's `flatten` and `untagged`, and JSON values)";
const WIDE: &str = "Parquet has no whole numbers of 128 bits";
const EMPTY: &str = "it has no value";
const DEEP: &str = "it is nested too deep, or in itself";

impl<'a> Trace<'a> {
    fn is(&mut self, kind: Kind) {
        self.field.kind.get_or_insert(kind);
    }

    /// The fields of what is made of some, and how deep they are.
    fn parts(self, kind: impl FnOnce() -> Kind) -> Result<(&'a mut [Field], usize), Stop> {
        if self.depth >= MAX_DEPTH {
            self.field.kind = Some(Kind::Not(DEEP));
            return Err(Stop);
        }
        let parts = match self.field.kind.get_or_insert_with(kind) {
            Kind::Struct(fields) => &mut fields[..],
            Kind::List(element) => std::slice::from_mut(&mut **element),
            Kind::Map(entry) => &mut entry[..],
            _ => return Err(Stop),
        };
        Ok((parts, self.depth + 1))
    }

    /// A list, of which so many elements are given.
    fn list<'de, V: Visitor<'de>>(self, visitor: V, given: usize) -> Result<V::Value, Stop> {
        let element = || Kind::List(Box::new(Field::named("element")));
        let (parts, depth) = self.parts(element)?;
        visitor.visit_seq(Elements { parts, depth, at: 0, given })
    }
}

macro_rules! values {
    ($($method:ident: $kind:expr, $visit:ident($value:expr);)*) => {
        $(fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
            self.is($kind);
            visitor.$visit($value)
        })*
    };
}

impl<'de> Deserializer<'de> for Trace<'_> {
    type Error = Stop;

    values! {
        deserialize_bool: Kind::Bool, visit_bool(false);
        deserialize_i8: Kind::Int(8, true), visit_i8(0);
        deserialize_i16: Kind::Int(16, true), visit_i16(0);
        deserialize_i32: Kind::Int(32, true), visit_i32(0);
        deserialize_i64: Kind::Int(64, true), visit_i64(0);
        deserialize_u8: Kind::Int(8, false), visit_u8(0);
        deserialize_u16: Kind::Int(16, false), visit_u16(0);
        deserialize_u32: Kind::Int(32, false), visit_u32(0);
        deserialize_u64: Kind::Int(64, false), visit_u64(0);
        deserialize_i128: Kind::Not(WIDE), visit_i128(0);
        deserialize_u128: Kind::Not(WIDE), visit_u128(0);
        deserialize_f32: Kind::F32, visit_f32(0.0);
        deserialize_f64: Kind::F64, visit_f64(0.0);
        deserialize_char: Kind::Text, visit_char(' ');
        deserialize_str: Kind::Text, visit_str("");
        deserialize_string: Kind::Text, visit_str("");
        deserialize_identifier: Kind::Text, visit_str("");
        deserialize_bytes: Kind::Bytes, visit_bytes(b"");
        deserialize_byte_buf: Kind::Bytes, visit_bytes(b"");
        deserialize_any: Kind::Not(ANY), visit_str("");
        deserialize_ignored_any: Kind::Not(ANY), visit_str("");
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.is(Kind::Not(EMPTY));
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.field.is_optional = true;
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        // By the names of variants; whether one holds something shows as it is written.
        self.is(Kind::Text);
        let first: StrDeserializer<'_, Stop> =
            variants.first().copied().unwrap_or_default().into_deserializer();
        visitor.visit_enum(first)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.list(visitor, 1)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        // Serde knows no longer tuples: it is an array.
        if len > LONGEST_TUPLE {
            return self.list(visitor, len);
        }
        let fields = || (1..=len).map(|number| Field::named(format!("_{number}"))).collect();
        let (parts, depth) = self.parts(|| Kind::Struct(fields()))?;
        visitor.visit_seq(Elements { parts, depth, at: 0, given: len })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let fields = || names.iter().map(|name| Field::named(*name)).collect();
        let (parts, depth) = self.parts(|| Kind::Struct(fields()))?;
        // One that nobody asked for yet, or all, so that it is made.
        let parts = match parts.iter().position(|field| field.unknown().is_some()) {
            Some(at) => &mut parts[at..=at],
            None => parts,
        };
        visitor.visit_map(Fields { parts, depth, at: 0 })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        let entry = || Kind::Map(Box::new([Field::named("key"), Field::named("value")]));
        let (parts, depth) = self.parts(entry)?;
        visitor.visit_map(Entry { parts, depth, at: 0 })
    }
}

/// The most elements that serde has tuples of.
pub(crate) const LONGEST_TUPLE: usize = 16;

/// A field each, or one field for all.
struct Elements<'a> {
    parts: &'a mut [Field],
    depth: usize,
    at: usize,
    given: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stop> {
        if self.at == self.given {
            return Ok(None);
        }
        let at = self.at.min(self.parts.len().saturating_sub(1));
        self.at += 1;
        let Some(field) = self.parts.get_mut(at) else { return Ok(None) };
        seed.deserialize(Trace { field, depth: self.depth }).map(Some)
    }
}

struct Fields<'a> {
    parts: &'a mut [Field],
    depth: usize,
    at: usize,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Stop;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stop> {
        let Some(field) = self.parts.get(self.at) else { return Ok(None) };
        let name: StrDeserializer<'_, Stop> = field.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        let field = self.parts.get_mut(self.at).ok_or(Stop)?;
        self.at += 1;
        seed.deserialize(Trace { field, depth: self.depth })
    }
}

/// One key, and one value.
struct Entry<'a> {
    parts: &'a mut [Field],
    depth: usize,
    at: usize,
}

impl Entry<'_> {
    fn part<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        let field = self.parts.get_mut(self.at).ok_or(Stop)?;
        self.at += 1;
        seed.deserialize(Trace { field, depth: self.depth })
    }
}

impl<'de> MapAccess<'de> for Entry<'_> {
    type Error = Stop;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Stop> {
        match self.at {
            0 => self.part(seed).map(Some),
            _ => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Stop> {
        self.part(seed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    fn field(name: &str, kind: Kind) -> Field {
        Field { name: name.to_owned(), is_optional: false, kind: Some(kind) }
    }

    fn optional(name: &str, kind: Kind) -> Field {
        Field { is_optional: true, ..field(name, kind) }
    }

    /// Takes no empty text.
    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Picky;

    impl TryFrom<String> for Picky {
        type Error = String;

        fn try_from(text: String) -> Result<Picky, String> {
            if text.is_empty() { Err("empty".to_owned()) } else { Ok(Picky) }
        }
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its type is asked for")]
    struct Deep {
        picky: Picky,
        list: Vec<Option<Picky>>,
        map: BTreeMap<String, (u8, Option<f32>)>,
        last: Option<Vec<u8>>,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only its type is asked for")]
    struct Endless {
        next: Option<Box<Endless>>,
        other: Option<Box<Endless>>,
    }

    #[test]
    fn types_say_what_they_are_made_of() {
        let byte = || Kind::Int(8, false);
        let pair = Kind::Struct(vec![field("_1", byte()), optional("_2", Kind::F32)]);
        let expected = Kind::Struct(vec![
            field("picky", Kind::Text),
            field("list", Kind::List(Box::new(optional("element", Kind::Text)))),
            field("map", Kind::Map(Box::new([field("key", Kind::Text), field("value", pair)]))),
            optional("last", Kind::List(Box::new(field("element", byte())))),
        ]);
        assert_eq!(record::<Deep>(), Ok(field("value", expected)));
        let bits = Kind::Int(64, true);
        let made = Kind::Struct(vec![field("_1", bits), field("_2", Kind::Text)]);
        assert_eq!(record::<(i64, Picky)>(), Ok(field("value", made)));
        let array = Kind::List(Box::new(field("element", Kind::F64)));
        assert_eq!(
            record::<([f64; 20], u8)>().map(|root| root.parts()[0].kind.clone()),
            Ok(Some(array))
        );
    }

    #[test]
    fn what_can_not_be_found_out_is_said() {
        let text = record::<(Picky, u8)>().unwrap_err();
        assert!(text.contains("`_2`") && text.contains("struct"), "{text}");
        assert!(record::<Endless>().unwrap_err().contains("nested in itself"));
        let any = record::<serde_json::Value>().unwrap();
        assert_eq!(any.kind, Some(Kind::Not(ANY)));
    }

    #[test]
    fn only_structs_name_the_columns_that_they_want() {
        assert_eq!(wanted::<Endless>(), Some(&["next", "other"][..]));
        assert_eq!(wanted::<(u8, u8)>(), None);
        assert_eq!(wanted::<BTreeMap<String, u8>>(), None);
    }
}
