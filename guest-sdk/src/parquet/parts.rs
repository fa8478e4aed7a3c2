//! What fields are made of: a struct's fields, a list's elements, a map's entries.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use super::columns::Leaf;
use super::rows::Bad;
use super::shape::{Node, Repeats};
use super::values::{Value, skip};

/// The fields of a row or of a struct in it, in the file's order.
pub(super) struct Fields<'a> {
    fields: &'a [Node],
    leaves: &'a mut [Leaf],
    level: i16,
    wanted: Option<&'static [&'static str]>,
    at: usize,
}

impl<'a> Fields<'a> {
    pub fn new(
        fields: &'a [Node],
        leaves: &'a mut [Leaf],
        level: i16,
        wanted: Option<&'static [&'static str]>,
    ) -> Self {
        Fields { fields, leaves, level, wanted, at: 0 }
    }

    pub fn skip_rest(&mut self) -> Result<(), Bad> {
        let rest = self.fields.get(self.at..).unwrap_or_default();
        self.at = self.fields.len();
        rest.iter().try_for_each(|node| skip(node, self.leaves, self.level))
    }

    /// The field that is next, which counts as taken.
    fn take(&mut self) -> Option<Value<'_>> {
        let node = self.fields.get(self.at)?;
        self.at += 1;
        Some(Value { node, leaves: self.leaves, level: self.level })
    }
}

impl<'de> SeqAccess<'de> for Fields<'_> {
    type Error = Bad;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Bad> {
        self.take().map(|value| seed.deserialize(value)).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.fields.len().saturating_sub(self.at))
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Bad;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Bad> {
        while let Some(node) = self.fields.get(self.at) {
            if self.wanted.is_none_or(|wanted| wanted.contains(&&*node.name)) {
                let name: StrDeserializer<'_, Bad> = node.name.as_str().into_deserializer();
                return seed.deserialize(name).map(Some);
            }
            skip(node, self.leaves, self.level)?;
            self.at += 1;
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Bad> {
        let name = self.fields.get(self.at).map_or("", |node| &node.name);
        let value = self.take().ok_or_else(|| Bad::custom("a value without a key"))?;
        seed.deserialize(value).map_err(|bad| bad.in_field(name))
    }
}

/// What is repeated: values, or a map's entries.
#[derive(Clone, Copy)]
pub(super) enum Each<'a> {
    One(&'a Node),
    Entry(&'a (Node, Node)),
}

pub(super) struct Repeated<'a> {
    leaves: &'a mut [Leaf],
    first: usize,
    repeats: Repeats,
    each: Each<'a>,
    has_more: bool,
}

impl<'a> Repeated<'a> {
    pub fn of(mut value: Value<'a>, repeats: Repeats, each: Each<'a>) -> Result<Self, Bad> {
        let has_more = value.is_defined(repeats.defined)?;
        if !has_more {
            value.skip_none()?;
        }
        let first = value.node.leaves.start;
        Ok(Repeated { leaves: value.leaves, first, repeats, each, has_more })
    }

    fn part<'b>(&'b mut self, node: &'b Node) -> Value<'b> {
        Value { node, leaves: self.leaves, level: self.repeats.level }
    }

    /// Another one follows if it repeats at this level.
    fn look(&mut self) {
        let leaf = self.leaves.get(self.first);
        self.has_more = leaf.is_some_and(|leaf| leaf.repetition() == self.repeats.level);
    }

    pub fn skip_rest(&mut self) -> Result<(), Bad> {
        while self.has_more {
            match self.each {
                Each::One(node) => skip(node, self.leaves, self.repeats.level)?,
                Each::Entry((key, value)) => {
                    skip(key, self.leaves, self.repeats.level)?;
                    skip(value, self.leaves, self.repeats.level)?;
                }
            }
            self.look();
        }
        Ok(())
    }
}

impl<'de> SeqAccess<'de> for Repeated<'_> {
    type Error = Bad;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Bad> {
        if !self.has_more {
            return Ok(None);
        }
        let made = match self.each {
            Each::One(node) => seed.deserialize(self.part(node))?,
            Each::Entry(entry) => seed.deserialize(Pair { of: self, entry })?,
        };
        self.look();
        Ok(Some(made))
    }
}

impl<'de> MapAccess<'de> for Repeated<'_> {
    type Error = Bad;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Bad> {
        match self.each {
            Each::Entry((key, _)) if self.has_more => seed.deserialize(self.part(key)).map(Some),
            _ => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Bad> {
        let Each::Entry((_, value)) = self.each else {
            return Err(Bad::custom("a list has no entries"));
        };
        let made = seed.deserialize(self.part(value))?;
        self.look();
        Ok(made)
    }
}

/// A map's entry as a pair.
struct Pair<'a, 'b> {
    of: &'a mut Repeated<'b>,
    entry: &'a (Node, Node),
}

impl<'de> Deserializer<'de> for Pair<'_, '_> {
    type Error = Bad;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Bad> {
        let (key, value) = self.entry;
        visitor.visit_seq(Parts { of: self.of, parts: [key, value], at: 0 })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Parts<'a, 'b> {
    of: &'a mut Repeated<'b>,
    parts: [&'a Node; 2],
    at: usize,
}

impl<'de> SeqAccess<'de> for Parts<'_, '_> {
    type Error = Bad;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Bad> {
        let Some(node) = self.parts.get(self.at) else { return Ok(None) };
        self.at += 1;
        seed.deserialize(self.of.part(node)).map(Some)
    }
}
