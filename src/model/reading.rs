//! From JSON values to typed ones, by the one way there is.
//!
//! Every Kubernetes type's decoder is compiled once for each format it can be read from, and there
//! are hundreds of types. So everything that is decoded comes by here, whatever it came in: a value
//! is read once, unknown fields are heard of on the way, and an error knows where it happened.

use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor, value::StrDeserializer,
};
use serde_json::Value;

/// One step from a value to a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A field of a map.
    Key(String),
    /// An item of a list.
    Index(usize),
}

/// Why a value does not have the shape of a type, and where.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ReadError {
    /// What is wrong, in serde's words.
    pub message: String,
    /// The way to it, the last step first.
    path: Vec<Step>,
}

impl ReadError {
    /// The way from the whole value to what is wrong.
    pub fn path(&self) -> impl DoubleEndedIterator<Item = &Step> + ExactSizeIterator {
        self.path.iter().rev()
    }

    fn inside(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }
}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), path: Vec::new() }
    }

    /// Says `null` for what serde calls a unit value.
    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        match found {
            Unexpected::Unit => {
                Self::custom(format_args!("invalid type: null, expected {expected}"))
            }
            found => Self::custom(format_args!("invalid type: {found}, expected {expected}")),
        }
    }
}

/// Where a reader stands, as it is told of an unknown field.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The whole value.
    Root,
    /// A field of the map at a place.
    Key(&'a Self, &'a str),
    /// An item of the list at a place.
    Index(&'a Self, usize),
}

impl fmt::Display for Place<'_> {
    /// Writes `spec.containers[0].image`, as Kubernetes does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Decodes a value; fields that the type does not have are left out.
pub fn read<T: DeserializeOwned>(value: &Value) -> Result<T, ReadError> {
    read_noting(value, &mut |_| {})
}

/// The same, telling of each field that the type does not have.
pub fn read_noting<T: DeserializeOwned>(
    value: &Value,
    unknown: &mut dyn FnMut(&Place<'_>),
) -> Result<T, ReadError> {
    T::deserialize(Reader { value, at: &Place::Root, unknown })
}

/// Decodes JSON text.
pub fn read_slice<T: DeserializeOwned>(json: &[u8]) -> Result<T, ReadError> {
    let value: Value = serde_json::from_slice(json).map_err(de::Error::custom)?;
    read(&value)
}

struct Reader<'de, 'a> {
    value: &'de Value,
    at: &'a Place<'a>,
    unknown: &'a mut dyn FnMut(&Place<'_>),
}

impl<'de> Reader<'de, '_> {
    fn list<V: Visitor<'de>>(self, items: &'de [Value], visitor: V) -> Result<V::Value, ReadError> {
        let mut access = Items { items, next: 0, at: self.at, unknown: self.unknown };
        let list = visitor.visit_seq(&mut access)?;
        match access.next < items.len() {
            true => Err(de::Error::invalid_length(items.len(), &"fewer elements in array")),
            false => Ok(list),
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(is) => visitor.visit_bool(*is),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(n), _, _) => visitor.visit_u64(n),
                (_, Some(n), _) => visitor.visit_i64(n),
                (_, _, n) => visitor.visit_f64(n.unwrap_or_default()),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => self.list(items, visitor),
            Value::Object(map) => {
                let fields = map.iter();
                visitor.visit_map(Fields {
                    fields,
                    value: None,
                    at: self.at,
                    unknown: self.unknown,
                })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.value {
            Value::String(name) => visitor.visit_enum(Variant { name, content: None, of: self }),
            Value::Object(map) if map.len() == 1 => match map.iter().next() {
                Some((name, content)) => {
                    visitor.visit_enum(Variant { name, content: Some(content), of: self })
                }
                None => Err(de::Error::invalid_type(Unexpected::Map, &"string or map")),
            },
            Value::Object(_) => {
                Err(de::Error::invalid_value(Unexpected::Map, &"map with a single key"))
            }
            _ => self.deserialize_any(NoVariant).map(|never| match never {}),
        }
    }

    /// Only what nobody wants is asked for so: the value of an unknown field.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        (self.unknown)(self.at);
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier
    }
}

/// Says what was found where the name of a variant is wanted.
struct NoVariant;

impl<'de> Visitor<'de> for NoVariant {
    type Value = std::convert::Infallible;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("string or map")
    }
}

struct Items<'de, 'a> {
    items: &'de [Value],
    next: usize,
    at: &'a Place<'a>,
    unknown: &'a mut dyn FnMut(&Place<'_>),
}

impl<'de> SeqAccess<'de> for &mut Items<'de, '_> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        let index = self.next;
        let Some(value) = self.items.get(index) else { return Ok(None) };
        self.next += 1;
        let at = &Place::Index(self.at, index);
        let item = seed.deserialize(Reader { value, at, unknown: &mut *self.unknown });
        item.map(Some).map_err(|error| error.inside(Step::Index(index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

struct Fields<'de, 'a> {
    fields: serde_json::map::Iter<'de>,
    value: Option<(&'de String, &'de Value)>,
    at: &'a Place<'a>,
    unknown: &'a mut dyn FnMut(&Place<'_>),
}

impl<'de> MapAccess<'de> for Fields<'de, '_> {
    type Error = ReadError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        self.value = self.fields.next();
        let Some((key, _)) = self.value else { return Ok(None) };
        seed.deserialize(Name(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        let (key, value) =
            self.value.take().ok_or_else(|| de::Error::custom("a value without its key"))?;
        let at = &Place::Key(self.at, key);
        let value = seed.deserialize(Reader { value, at, unknown: &mut *self.unknown });
        value.map_err(|error| error.inside(Step::Key(key.clone())))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.fields.len())
    }
}

/// The name of a field.
struct Name<'de>(&'de str);

impl<'de> Deserializer<'de> for Name<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let text: StrDeserializer<'_, ReadError> = self.0.into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// A variant of an enum: a name, or a map with the name and what it holds.
struct Variant<'de, 'a> {
    name: &'de str,
    content: Option<&'de Value>,
    of: Reader<'de, 'a>,
}

/// What a variant holds.
struct Content<'de, 'a>(Option<Reader<'de, 'a>>);

impl<'de, 'a> EnumAccess<'de> for Variant<'de, 'a> {
    type Error = ReadError;
    type Variant = Content<'de, 'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Content<'de, 'a>), ReadError> {
        let variant = seed.deserialize(Name(self.name))?;
        let content = self.content.map(|value| Reader { value, ..self.of });
        Ok((variant, Content(content)))
    }
}

impl<'de> Content<'de, '_> {
    fn held(self, kind: &'static str) -> Result<Self, ReadError> {
        match self.0 {
            Some(_) => Ok(self),
            None => Err(de::Error::invalid_type(Unexpected::UnitVariant, &kind)),
        }
    }

    fn any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Some(reader) => reader.deserialize_any(visitor),
            None => visitor.visit_unit(),
        }
    }
}

impl<'de> VariantAccess<'de> for Content<'de, '_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        match self.0 {
            Some(reader) => de::Deserialize::deserialize(reader),
            None => Ok(()),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, ReadError> {
        match self.0 {
            Some(reader) => seed.deserialize(reader),
            None => Err(de::Error::invalid_type(Unexpected::UnitVariant, &"newtype variant")),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.held("tuple variant")?.any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.held("struct variant")?.any(visitor)
    }
}
