//! Implements, of the arrow `what the user wrote -> what it means`: the tree -> the structs of `file.rs`.
//!
//! A serde deserializer over [`Node`]. [`Located`] keeps the place of a value beside it.
//! Never: guesses a type; a field that wants text gets the text as it was written.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor, value::StrDeserializer};
use serde::forward_to_deserialize_any;

use crate::source::At;
use crate::tree::{Key, Node, Value};

/// A value with the place where the user wrote it.
#[derive(Debug, Clone)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) at: At,
    /// The value, or a part of it, came from the environment: it is never shown.
    pub(crate) from_env: bool,
}

/// Reads a tree into a type of `file.rs`.
pub(crate) fn decode<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, DecodeError> {
    T::deserialize(node).map_err(|e| e.within(node.at))
}

/// Why a tree does not fit its type.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct DecodeError {
    pub(crate) message: String,
    /// The innermost place that is known.
    pub(crate) at: Option<At>,
}

impl DecodeError {
    fn within(mut self, at: At) -> Self {
        self.at.get_or_insert(at);
        self
    }
}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), at: None }
    }
}

/// The name by which [`Located`] asks for the place.
const LOCATED: &str = "$located";
/// File, start, end, from the environment, value.
const LOCATED_PARTS: &[&str] = &["file", "start", "end", "from_env", "value"];

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple_struct(LOCATED, LOCATED_PARTS.len(), LocatedVisitor(PhantomData))
    }
}

struct LocatedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for LocatedVisitor<T> {
    type Value = Located<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value with its place")
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut number = || -> Result<usize, A::Error> { Ok(seq.next_element::<u64>()?.unwrap_or(0) as usize) };
        let at = At { file: number()?, start: number()?, end: number()? };
        let from_env = seq.next_element()?.unwrap_or(false);
        let value = seq.next_element()?.ok_or_else(|| de::Error::custom("a value without content"))?;
        Ok(Located { value, at, from_env })
    }
}

/// Gives a [`Located`] its parts, one after the other.
struct LocatedParts<D> {
    at: At,
    from_env: bool,
    value: Option<D>,
    next: usize,
}

impl<'de, D: de::Deserializer<'de, Error = DecodeError>> de::SeqAccess<'de> for LocatedParts<D> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        self.next += 1;
        let number = match self.next {
            1 => self.at.file,
            2 => self.at.start,
            3 => self.at.end,
            4 => return seed.deserialize(self.from_env.into_deserializer()).map(Some),
            _ => return self.value.take().map(|d| seed.deserialize(d)).transpose(),
        };
        seed.deserialize((number as u64).into_deserializer()).map(Some)
    }
}

fn error(node: &Node, message: impl fmt::Display) -> DecodeError {
    <DecodeError as de::Error>::custom(message).within(node.at)
}

impl Node {
    fn text(&self) -> Result<&str, DecodeError> {
        match &self.value {
            Value::Scalar(scalar) => Ok(&scalar.text),
            _ => Err(error(self, format!("expected a single value, found {}", self.kind()))),
        }
    }
    fn is_from_env(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.from_env)
    }
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Scalar(scalar) => visitor.visit_borrowed_str(&scalar.text),
            Value::List(items) => visitor.visit_seq(de::value::SeqDeserializer::new(items.iter().map(Item))),
            Value::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
        }
        .map_err(|e| e.within(self.at))
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.text()? {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => Err(error(self, "expected true or false")),
        }
    }
    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_u64(self.text()?.parse().map_err(|_| error(self, "expected a whole number"))?)
    }
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if name != LOCATED {
            return self.deserialize_any(visitor);
        }
        visitor.visit_seq(LocatedParts { at: self.at, from_env: self.is_from_env(), value: Some(self), next: 0 })
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }
    /// A word is a variant without content; a mapping of one key is a variant and its content.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let variant = match &self.value {
            Value::Scalar(scalar) => Variant { node: self, name: &scalar.text, content: None },
            Value::Map(entries) => match entries.as_slice() {
                [(key, content)] => Variant { node: self, name: &key.text, content: Some(content) },
                _ => return Err(error(self, "expected one key")),
            },
            _ => return Err(error(self, format!("expected a word or a mapping, found {}", self.kind()))),
        };
        visitor.visit_enum(variant).map_err(|e| e.within(self.at))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 u8 u16 u32 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple map struct
        identifier ignored_any
    }
}

/// An element of a list.
struct Item<'de>(&'de Node);

impl<'de> IntoDeserializer<'de, DecodeError> for Item<'de> {
    type Deserializer = &'de Node;
    fn into_deserializer(self) -> &'de Node {
        self.0
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, (Key, Node)>,
    value: Option<&'de Node>,
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(KeyDeserializer(key)).map(Some).map_err(|e| e.within(key.at))
    }
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let value = self.value.take().ok_or_else(|| <DecodeError as de::Error>::custom("a key without a value"))?;
        seed.deserialize(value).map_err(|e| e.within(value.at))
    }
}

struct KeyDeserializer<'de>(&'de Key);

impl<'de> de::Deserializer<'de> for KeyDeserializer<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_borrowed_str(&self.0.text)
    }
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let at = self.0.at;
        visitor.visit_seq(LocatedParts { at, from_env: false, value: Some(self), next: 0 })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple map struct enum identifier ignored_any
    }
}

struct Variant<'de> {
    node: &'de Node,
    name: &'de str,
    content: Option<&'de Node>,
}

/// A variant that was written as a word and may have content: as if nothing stood there.
const NOTHING: &Node = &Node { at: At { file: 0, start: 0, end: 0 }, value: Value::Null };

impl<'de> de::EnumAccess<'de> for Variant<'de> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), DecodeError> {
        let name: StrDeserializer<'_, DecodeError> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(error(self.node, format!("`{}` has no content", self.name))),
        }
    }
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, DecodeError> {
        let content = self.content.unwrap_or(NOTHING);
        seed.deserialize(content).map_err(|e| e.within(self.node.at))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        de::Deserializer::deserialize_any(self.content.unwrap_or(NOTHING), visitor)
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        de::Deserializer::deserialize_any(self.content.unwrap_or(NOTHING), visitor)
    }
}
