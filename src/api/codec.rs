//! From the bytes of a request's body to a value.
//!
//! In: bytes and a `Content-Type`. Out: [`Decoded`], the value and what strict reading finds wrong
//! with how it was written; whether that is a refusal, a warning or nothing, `fieldValidation`
//! decides. Called by the handlers that read bodies.

use std::{cell::RefCell, fmt};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::DuplicateKeyPolicy;

use super::protobuf;

/// Deepest nesting of a body; serde_json's own bound, and that of manifests is 64.
const DEPTH_MAX: usize = 64;

/// Most nodes of a YAML body after aliases were expanded.
const NODES_MAX: usize = 300_000;

/// Most problems that are told; more say nothing new.
const PROBLEMS_MAX: usize = 32;

/// A body.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decoded {
    pub(super) value: Value,
    /// Fields that are there twice, in Kubernetes' words (`duplicate field "data.a"`); the last one
    /// counts.
    pub(super) problems: Vec<String>,
}

/// Why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecError {
    /// 415.
    #[error(
        "the body of the request was in an unknown format - accepted media types include: \
         application/json, application/yaml, application/vnd.kubernetes.protobuf"
    )]
    UnknownFormat,
    /// 400.
    #[error("{0}")]
    Malformed(String),
}

/// Reads a body; an empty content type means JSON. Parameters of the type are ignored.
pub(super) fn decode(bytes: &[u8], content_type: &str) -> Result<Decoded, CodecError> {
    match content_type.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" => json(bytes),
        "application/yaml" => yaml(bytes),
        "application/vnd.kubernetes.protobuf" => {
            let value = protobuf::decode(bytes).map_err(malformed)?;
            Ok(Decoded { value, problems: Vec::new() })
        }
        _ => Err(CodecError::UnknownFormat),
    }
}

fn malformed(error: impl fmt::Display) -> CodecError {
    CodecError::Malformed(error.to_string())
}

/// Reads JSON, and finds fields that are there twice.
pub(super) fn json(bytes: &[u8]) -> Result<Decoded, CodecError> {
    let problems = RefCell::new(Vec::new());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let seed = Strict { path: String::new(), depth: 0, problems: &problems };
    let value = seed.deserialize(&mut reader).map_err(malformed)?;
    reader.end().map_err(malformed)?;
    Ok(Decoded { value, problems: problems.into_inner() })
}

/// Reads one document of YAML as kubectl does; JSON is YAML too.
pub(super) fn yaml(bytes: &[u8]) -> Result<Decoded, CodecError> {
    let text = std::str::from_utf8(bytes).map_err(malformed)?;
    let error = match yaml_with(text, DuplicateKeyPolicy::Error) {
        Ok(value) => return Ok(Decoded { value, problems: Vec::new() }),
        Err(error) => error,
    };
    let malformed = CodecError::Malformed(first_line(&error));
    let Some(problem) = twice(&error) else { return Err(malformed) };
    let value = yaml_with(text, DuplicateKeyPolicy::LastWins);
    value.map(|value| Decoded { value, problems: vec![problem] }).map_err(|_| malformed)
}

fn yaml_with(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        legacy_octal_numbers: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 2 * NODES_MAX,
        },
    };
    serde_saphyr::from_str_with_options(text, options)
}

fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The key that an error says is there twice, in Kubernetes' words.
fn twice(error: &serde_saphyr::Error) -> Option<String> {
    let text = first_line(error);
    let (_, rest) = text.split_once("duplicate mapping key: ")?;
    let key = rest.split(", set ").next().unwrap_or_default();
    let line = error.location().map_or(0, |location| location.line());
    Some(format!("yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map"))
}

/// Builds a value and remembers keys that come again.
struct Strict<'p> {
    path: String,
    depth: usize,
    problems: &'p RefCell<Vec<String>>,
}

impl Strict<'_> {
    fn below<E: serde::de::Error>(&self, path: String) -> Result<Strict<'_>, E> {
        match self.depth < DEPTH_MAX {
            true => Ok(Strict { path, depth: self.depth + 1, problems: self.problems }),
            false => Err(E::custom(format_args!("nested deeper than {DEPTH_MAX}"))),
        }
    }

    fn seen_twice(&self, path: &str) {
        let mut problems = self.problems.borrow_mut();
        let problem = format!("duplicate field {path:?}");
        if problems.len() < PROBLEMS_MAX && !problems.contains(&problem) {
            problems.push(problem);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        Value::deserialize(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let below = self.below(format!("{}[{}]", self.path, list.len()))?;
            match items.next_element_seed(below)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let dot = if self.path.is_empty() { "" } else { "." };
            let path = format!("{}{dot}{key}", self.path);
            if map.contains_key(&key) {
                self.seen_twice(&path);
            }
            let value = entries.next_value_seed(self.below(path)?)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, content_type: &str, expected: Expect) {
        let found = match decode(text.as_bytes(), content_type) {
            Ok(decoded) => format!("{} {:?}", decoded.value, decoded.problems),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&found);
    }

    #[test]
    fn bodies_are_read_by_their_type_and_repeated_fields_are_told() {
        check(
            r#"{"data":{"a":"1","a":"2"},"l":[{"b":1,"b":2}]}"#,
            "application/json; charset=utf-8",
            expect![[
                r#"{"data":{"a":"2"},"l":[{"b":2}]} ["duplicate field \"data.a\"", "duplicate field \"l[0].b\""]"#
            ]],
        );
        check("a: yes\n", "application/yaml", expect![[r#"{"a":true} []"#]]);
        check(
            "a: 1\na: 2\n",
            "application/yaml",
            expect![[
                r#"{"a":2} ["yaml: unmarshal errors:\n  line 2: key \"a\" already set in map"]"#
            ]],
        );
        check("{} x", "application/json", expect!["trailing characters at line 1 column 4"]);
        check(
            "{}",
            "text/html",
            expect![
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
            ],
        );
        let deep = "[".repeat(100);
        check(&deep, "application/json", expect!["nested deeper than 64 at line 1 column 65"]);
    }

    proptest! {
        #[test]
        fn no_body_panics(bytes: Vec<u8>, json in r#"[\[\]{}",:a0-9 \-\n]{0,60}"#) {
            for media in ["application/json", "application/yaml"] {
                drop(decode(&bytes, media));
                drop(decode(json.as_bytes(), media));
            }
            drop(decode(&bytes, "application/vnd.kubernetes.protobuf"));
        }
    }
}
