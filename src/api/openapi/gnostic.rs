//! OpenAPI 2 in the protobuf form of gnostic's OpenAPIv2.proto, which kubectl before 1.27 asks for.
//!
//! A document that is JSON already is written field by field, as a table says; what the table does
//! not name is left out, and words that begin with `x-` go along as YAML (which JSON is).

use serde_json::{Map, Value};

/// The content type that is asked for.
pub(super) const ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The content type of the answer: clients cannot read the `@` in the other.
pub(super) const ANSWERED: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A message of the proto.
#[derive(Clone, Copy)]
enum Message {
    Document,
    Info,
    Paths,
    PathItem,
    Operation,
    Parameter,
    BodyParameter,
    QueryParameter,
    PathParameter,
    Responses,
    Response,
    Schemas,
    Schema,
    AdditionalProperties,
}
use Message as M;

/// How a value becomes a field.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Texts,
    Flag,
    Integer,
    Double,
    /// `Any` with its YAML.
    Yaml,
    Yamls,
    /// A text in a message of its own.
    InnerText,
    One(Message),
    Many(Message),
    /// A message inside others, whose field is always 1.
    Nested(Message),
}
use Form as F;

type Row = (&'static str, u32, Form);

/// A document's bytes.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(M::Document, document, &mut out);
    out
}

/// Words, field numbers and forms; the field of the words that begin with `x-`.
fn table(of: Message) -> (&'static [Row], Option<u32>) {
    match of {
        M::Document => (
            &[
                ("swagger", 1, F::Text),
                ("info", 2, F::One(M::Info)),
                ("paths", 8, F::One(M::Paths)),
                ("definitions", 9, F::One(M::Schemas)),
            ],
            Some(16),
        ),
        M::Info => (&[("title", 1, F::Text), ("version", 2, F::Text)], Some(7)),
        M::PathItem => (
            &[
                ("get", 2, F::One(M::Operation)),
                ("put", 3, F::One(M::Operation)),
                ("post", 4, F::One(M::Operation)),
                ("delete", 5, F::One(M::Operation)),
                ("patch", 8, F::One(M::Operation)),
                ("parameters", 9, F::Many(M::Parameter)),
            ],
            Some(10),
        ),
        M::Operation => (
            &[
                ("tags", 1, F::Texts),
                ("description", 3, F::Text),
                ("operationId", 5, F::Text),
                ("produces", 6, F::Texts),
                ("consumes", 7, F::Texts),
                ("parameters", 8, F::Many(M::Parameter)),
                ("responses", 9, F::One(M::Responses)),
                ("schemes", 10, F::Texts),
            ],
            Some(13),
        ),
        M::BodyParameter => (
            &[
                ("description", 1, F::Text),
                ("name", 2, F::Text),
                ("in", 3, F::Text),
                ("required", 4, F::Flag),
                ("schema", 5, F::One(M::Schema)),
            ],
            Some(6),
        ),
        M::QueryParameter => (
            &[
                ("required", 1, F::Flag),
                ("in", 2, F::Text),
                ("description", 3, F::Text),
                ("name", 4, F::Text),
                ("type", 6, F::Text),
                ("uniqueItems", 20, F::Flag),
            ],
            Some(23),
        ),
        M::PathParameter => (
            &[
                ("required", 1, F::Flag),
                ("in", 2, F::Text),
                ("description", 3, F::Text),
                ("name", 4, F::Text),
                ("type", 5, F::Text),
                ("uniqueItems", 19, F::Flag),
            ],
            Some(22),
        ),
        M::Response => {
            (&[("description", 1, F::Text), ("schema", 2, F::Nested(M::Schema))], Some(5))
        }
        M::Schema => (SCHEMA, Some(31)),
        // Written by what they hold.
        M::Paths | M::Parameter | M::Responses | M::Schemas | M::AdditionalProperties => {
            (&[], None)
        }
    }
}

const SCHEMA: &[Row] = &[
    ("$ref", 1, F::Text),
    ("format", 2, F::Text),
    ("title", 3, F::Text),
    ("description", 4, F::Text),
    ("default", 5, F::Yaml),
    ("multipleOf", 6, F::Double),
    ("maximum", 7, F::Double),
    ("exclusiveMaximum", 8, F::Flag),
    ("minimum", 9, F::Double),
    ("exclusiveMinimum", 10, F::Flag),
    ("maxLength", 11, F::Integer),
    ("minLength", 12, F::Integer),
    ("pattern", 13, F::Text),
    ("maxItems", 14, F::Integer),
    ("minItems", 15, F::Integer),
    ("uniqueItems", 16, F::Flag),
    ("maxProperties", 17, F::Integer),
    ("minProperties", 18, F::Integer),
    ("required", 19, F::Texts),
    ("enum", 20, F::Yamls),
    ("additionalProperties", 21, F::One(M::AdditionalProperties)),
    ("type", 22, F::InnerText),
    ("items", 23, F::Nested(M::Schema)),
    ("allOf", 24, F::Many(M::Schema)),
    ("properties", 25, F::One(M::Schemas)),
];

fn message(of: Message, value: &Value, out: &mut Vec<u8>) {
    match (of, value) {
        (M::AdditionalProperties, Value::Bool(flag)) => number(2, u64::from(*flag), out),
        (M::AdditionalProperties, schema) => inner(1, out, |out| message(M::Schema, schema, out)),
        (M::Parameter, Value::Object(map)) => parameter(map, value, out),
        (M::Paths, Value::Object(map)) => named(2, map, &[], M::PathItem, out),
        (M::Schemas, Value::Object(map)) => named(1, map, &[], M::Schema, out),
        (M::Responses, Value::Object(map)) => named(1, map, &[1], M::Response, out),
        (_, Value::Object(map)) => fields(of, map, out),
        _ => {}
    }
}

fn fields(of: Message, map: &Map<String, Value>, out: &mut Vec<u8>) {
    let (rows, extension) = table(of);
    for (word, at, form) in rows {
        if let Some(value) = map.get(*word) {
            field(*at, *form, value, out);
        }
    }
    let Some(at) = extension else { return };
    for (word, value) in map.iter().filter(|(word, _)| word.starts_with("x-")) {
        inner(at, out, |out| {
            bytes(1, word.as_bytes(), out);
            field(2, F::Yaml, value, out);
        });
    }
}

fn field(at: u32, form: Form, value: &Value, out: &mut Vec<u8>) {
    let items = || value.as_array().into_iter().flatten();
    match form {
        F::Text => bytes(at, value.as_str().unwrap_or_default().as_bytes(), out),
        F::Texts => items().for_each(|item| field(at, F::Text, item, out)),
        F::Flag => number(at, u64::from(value.as_bool().unwrap_or_default()), out),
        F::Integer => number(at, value.as_u64().unwrap_or_default(), out),
        F::Double => double(at, value.as_f64().unwrap_or_default(), out),
        F::Yaml => inner(at, out, |out| bytes(2, value.to_string().as_bytes(), out)),
        F::Yamls => items().for_each(|item| field(at, F::Yaml, item, out)),
        F::InnerText => inner(at, out, |out| field(1, F::Text, value, out)),
        F::One(of) => inner(at, out, |out| message(of, value, out)),
        F::Many(of) => items().for_each(|item| field(at, F::One(of), item, out)),
        F::Nested(of) => inner(at, out, |out| inner(1, out, |out| message(of, value, out))),
    }
}

/// A body stands in field 1 of a parameter, others in field 2, by where they are.
fn parameter(map: &Map<String, Value>, value: &Value, out: &mut Vec<u8>) {
    inner(1, out, |out| match map.get("in").and_then(Value::as_str) {
        Some("body") => inner(1, out, |out| message(M::BodyParameter, value, out)),
        Some("path") => {
            inner(2, out, |out| inner(4, out, |out| message(M::PathParameter, value, out)));
        }
        _ => inner(2, out, |out| inner(3, out, |out| message(M::QueryParameter, value, out))),
    });
}

/// A map is a list of pairs; `way` are the messages around each value.
fn named(at: u32, map: &Map<String, Value>, way: &[u32], of: Message, out: &mut Vec<u8>) {
    for (name, value) in map {
        inner(at, out, |out| {
            bytes(1, name.as_bytes(), out);
            inner(2, out, |out| match way.first() {
                Some(around) => inner(*around, out, |out| message(of, value, out)),
                None => message(of, value, out),
            });
        });
    }
}

/// A field that is a message.
fn inner(at: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    write(&mut body);
    bytes(at, &body, out);
}

fn bytes(at: u32, body: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(at << 3 | 2), out);
    varint(body.len() as u64, out);
    out.extend_from_slice(body);
}

fn number(at: u32, value: u64, out: &mut Vec<u8>) {
    varint(u64::from(at << 3), out);
    varint(value, out);
}

fn double(at: u32, value: f64, out: &mut Vec<u8>) {
    varint(u64::from(at << 3 | 1), out);
    out.extend_from_slice(&value.to_le_bytes());
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
