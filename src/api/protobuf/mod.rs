//! Kubernetes' protobuf bodies, by the table of [`types`].
//!
//! In: bytes (`k8s\0` and an envelope that names kind and version). Out: the value their JSON would
//! have. [`codec`](super::codec) calls. Never here: defaults or validation. Unknown fields are
//! skipped, as Kubernetes does.

mod special;
mod wire;

use serde_json::{Map, Value, json};

use crate::kinds::types::{self, Field, Message, Type};
use wire::{Raw, Reader};

/// What every body begins with.
pub(super) const MAGIC: &[u8] = b"k8s\0";

/// Deepest nesting of messages; Kubernetes' own types reach about 20.
const DEPTH_MAX: usize = 64;

/// Most values of one body: an empty message takes two bytes on the wire and some hundred in
/// memory, so the bound of the body's bytes is none for memory.
const VALUES_MAX: usize = 300_000;

/// Why bytes are no body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// The first four bytes are others.
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    NoMagic,
    /// Cut off, or no protobuf.
    #[error("unexpected end or malformed protobuf")]
    Malformed,
    /// A text that is not UTF-8, or JSON that is none.
    #[error("a field holds what it cannot")]
    BadValue,
    /// Too deep or too many values.
    #[error("the protobuf message is nested too deeply or has too many values")]
    TooLarge,
    /// A content encoding or type inside.
    #[error("the envelope holds {0:?}; only protobuf itself is read")]
    Envelope(String),
    /// A kind that the table does not have.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    Kind {
        /// As the envelope says.
        api_version: String,
        /// As the envelope says.
        kind: String,
    },
}

/// Reads a body.
pub(super) fn decode(bytes: &[u8]) -> Result<Value, Error> {
    let envelope = Envelope::read(bytes.strip_prefix(MAGIC).ok_or(Error::NoMagic)?)?;
    if !envelope.encoding.is_empty() {
        return Err(Error::Envelope(envelope.encoding));
    }
    if envelope.content_type == "application/json" {
        return serde_json::from_slice(envelope.raw).map_err(|_| Error::BadValue);
    }
    let Envelope { api_version, kind, raw, .. } = envelope;
    let Some(name) = types::of_kind(&api_version, &kind) else {
        return Err(Error::Kind { api_version, kind });
    };
    let mut decoder = Decoder { values: 0 };
    let mut object = decoder.named(name, raw, 0)?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

#[derive(Default)]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
    encoding: String,
    content_type: String,
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((number, raw)) = reader.next()? {
            match (number, raw) {
                (1, Raw::Bytes(of_type)) => {
                    let mut reader = Reader::new(of_type);
                    while let Some((number, raw)) = reader.next()? {
                        match number {
                            1 => found.api_version = raw.text()?,
                            2 => found.kind = raw.text()?,
                            _ => {}
                        }
                    }
                }
                (2, Raw::Bytes(raw)) => found.raw = raw,
                (3, raw) => found.encoding = raw.text()?,
                (4, raw) => found.content_type = raw.text()?,
                _ => {}
            }
        }
        Ok(found)
    }
}

struct Decoder {
    values: usize,
}

impl Decoder {
    fn named(
        &mut self,
        name: &str,
        bytes: &[u8],
        depth: usize,
    ) -> Result<Map<String, Value>, Error> {
        let message = types::message(name).ok_or(Error::Malformed)?;
        self.message(message, bytes, depth)
    }

    fn message(
        &mut self,
        message: &Message,
        bytes: &[u8],
        depth: usize,
    ) -> Result<Map<String, Value>, Error> {
        self.count(depth)?;
        let mut object = Map::new();
        let mut reader = Reader::new(bytes);
        while let Some((number, raw)) = reader.next()? {
            if let Some(field) = message.number(number) {
                self.field(field, raw, &mut object, depth)?;
            }
        }
        Ok(object)
    }

    fn count(&mut self, depth: usize) -> Result<(), Error> {
        self.values += 1;
        match depth > DEPTH_MAX || self.values > VALUES_MAX {
            true => Err(Error::TooLarge),
            false => Ok(()),
        }
    }

    fn field(
        &mut self,
        field: &Field,
        raw: Raw<'_>,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), Error> {
        match &field.typ {
            Type::List(item) => {
                let list = object.entry(field.name).or_insert_with(|| json!([]));
                self.items(item, raw, list, depth)
            }
            Type::Map(item) => {
                let (key, value) = self.entry(item, raw, depth)?;
                let map = object.entry(field.name).or_insert_with(|| json!({}));
                if let Some(map) = map.as_object_mut() {
                    map.insert(key, value);
                }
                Ok(())
            }
            Type::Message(name) if field.inline => {
                object.append(&mut self.named(name, raw.bytes()?, depth + 1)?);
                Ok(())
            }
            typ => {
                let value = self.value(typ, raw, depth)?;
                // An IntOrString is a struct in Go, and structs are never left out.
                let stays = field.pointer || *typ == Type::IntOrString;
                if stays || !field.omit_empty && !value.is_null() || !is_zero(&value) {
                    object.insert(field.name.to_owned(), value);
                }
                Ok(())
            }
        }
    }

    /// One item, or several numbers in one field (packed).
    fn items(
        &mut self,
        item: &Type,
        raw: Raw<'_>,
        list: &mut Value,
        depth: usize,
    ) -> Result<(), Error> {
        let Some(list) = list.as_array_mut() else { return Ok(()) };
        if let (Type::Int | Type::Bool, Raw::Bytes(packed)) = (item, raw) {
            let mut reader = Reader::new(packed);
            while !reader.is_empty() {
                let number = Raw::Number(reader.varint()?);
                list.push(self.value(item, number, depth)?);
            }
            return Ok(());
        }
        list.push(self.value(item, raw, depth)?);
        Ok(())
    }

    /// One entry of a map: a message of key and value.
    fn entry(&mut self, item: &Type, raw: Raw<'_>, depth: usize) -> Result<(String, Value), Error> {
        let (mut key, mut value) = (String::new(), None);
        let mut reader = Reader::new(raw.bytes()?);
        while let Some((number, raw)) = reader.next()? {
            match number {
                1 => key = raw.text()?,
                2 => value = Some(self.value(item, raw, depth)?),
                _ => {}
            }
        }
        let value = match value {
            Some(value) => value,
            None => self.value(item, Raw::Bytes(&[]), depth)?,
        };
        Ok((key, value))
    }

    fn value(&mut self, typ: &Type, raw: Raw<'_>, depth: usize) -> Result<Value, Error> {
        self.count(depth)?;
        Ok(match typ {
            Type::String => raw.text()?.into(),
            Type::Bool => (raw.number()? != 0).into(),
            Type::Int => raw.number()?.cast_signed().into(),
            Type::Double => json!(f64::from_bits(raw.fixed()?)),
            Type::Message(name) => Value::Object(self.named(name, raw.bytes()?, depth + 1)?),
            Type::List(_) | Type::Map(_) => return Err(Error::Malformed),
            typ => special::value(typ, raw.bytes()?)?,
        })
    }
}

/// What JSON leaves out where a field says so. Structs are never left out.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
