//! YAML as kubectl reads it, with positions.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::{Error, Options, Spanned};

/// Most bytes of one file: 3 MiB, twice what Kubernetes takes in one request. A larger one is a
/// problem.
pub const BYTES_MAX: usize = 3 << 20;
/// Most documents of one file.
const DOCUMENTS_MAX: usize = 10_000;
/// Deepest nesting; CRDs of today reach about 30.
const DEPTH_MAX: usize = 64;
/// Most nodes of one file after aliases were expanded: 20,000 small objects. Bounds what one file
/// costs in memory to some 60 MB while it is read.
const NODES_MAX: usize = 300_000;
/// Most parser events that aliases may repeat.
const REPLAYED_MAX: usize = 100_000;

/// What is wrong with a text that is no YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1; 0 when it belongs to no line.
    pub line: u32,
    /// What is wrong and what to do.
    pub message: String,
}

/// One document of a file.
pub(super) struct Document {
    pub(super) line: u32,
    pub(super) value: Value,
}

fn options() -> Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPLAYED_MAX,
        },
        budget: serde_saphyr::budget! {
            max_documents: DOCUMENTS_MAX,
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 2 * NODES_MAX,
        },
    }
}

/// The documents of a file as JSON values; empty ones are left out.
pub fn documents(bytes: &[u8]) -> Result<Vec<Value>, Fault> {
    Ok(read(bytes)?.into_iter().map(|d| d.value).collect())
}

/// The documents of a file with the lines they start at.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Document>, Fault> {
    read_with(bytes, options())
}

/// As [`read`], but for words like `yes` and `on`: they are texts, as kustomize reads them.
pub(super) fn read_texts(bytes: &[u8]) -> Result<Vec<Document>, Fault> {
    let mut options = options();
    options.strict_booleans = true;
    read_with(bytes, options)
}

fn read_with(bytes: &[u8], options: Options) -> Result<Vec<Document>, Fault> {
    let text = text(bytes)?;
    let parsed = serde_saphyr::from_multiple_with_options::<Spanned<Value>>(text, options);
    let documents = parsed.map_err(|e| fault(&e))?;
    let document = |d: Spanned<Value>| Document { line: line(d.referenced), value: d.value };
    Ok(documents.into_iter().map(document).filter(|d| !d.value.is_null()).collect())
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    let at = |line: u32, message: String| Err(Fault { line, message });
    if bytes.len() > BYTES_MAX {
        let text = format!(
            "the file has {} bytes, more than the {BYTES_MAX} that are read: split it, or name it \
             in {} if it is no manifest",
            bytes.len(),
            super::IGNORE_FILE
        );
        return at(0, text);
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            return at(line_of(bytes, error.valid_up_to()), "the text is not UTF-8".to_owned());
        }
    };
    match text.bytes().position(|b| b == 0) {
        Some(zero) => at(line_of(bytes, zero), "the text holds a NUL byte".to_owned()),
        None => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
    }
}

fn line_of(bytes: &[u8], at: usize) -> u32 {
    let breaks = bytes[..at].iter().filter(|b| **b == b'\n').count();
    u32::try_from(breaks + 1).unwrap_or(u32::MAX)
}

fn line(location: serde_saphyr::Location) -> u32 {
    u32::try_from(location.line()).unwrap_or(u32::MAX)
}

fn fault(error: &Error) -> Fault {
    let message = error.without_snippet().to_string();
    // The place stands in `line`; the message of the parser names it once more at its end.
    let message = message.split(" at line ").next().unwrap_or_default();
    // Advice to the caller of the parser.
    let message = message.split(", set ").next().unwrap_or_default();
    let message = message.lines().next().unwrap_or_default().trim_start_matches("error: ");
    Fault { line: error.location().map_or(0, line), message: message.to_owned() }
}

/// Where everything in a document stands.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Place {
    line: u32,
    inner: Inner,
}

#[derive(Debug, Default, PartialEq)]
enum Inner {
    #[default]
    Scalar,
    List(Vec<Place>),
    /// Key, line of the key, value.
    Map(Vec<(String, u32, Place)>),
}

/// The places in each document that [`read`] returns, in the same order. Only called when there is
/// something to point at, since it reads the file once more.
pub(super) fn places(bytes: &[u8]) -> Vec<Place> {
    let Ok(text) = text(bytes) else { return Vec::new() };
    serde_saphyr::from_multiple_with_options::<Place>(text, options()).unwrap_or_default()
}

impl Place {
    /// The line of a field (`spec.containers[0].image`, `data[tls.key]`) or of its nearest parent.
    pub(super) fn line_of(&self, field: &str) -> u32 {
        let (mut here, mut line) = (self, self.line);
        for step in steps(field) {
            let next = match &here.inner {
                Inner::Map(entries) => {
                    entries.iter().find(|(key, _, _)| *key == step).map(|(_, l, p)| (*l, p))
                }
                Inner::List(items) => {
                    step.parse::<usize>().ok().and_then(|i| items.get(i)).map(|p| (p.line, p))
                }
                Inner::Scalar => None,
            };
            let Some((next_line, next)) = next else { break };
            (here, line) = (next, next_line);
        }
        line
    }
}

/// The keys and indexes of a path.
fn steps(field: &str) -> Vec<String> {
    let (mut steps, mut step, mut depth) = (Vec::new(), String::new(), 0u32);
    for c in field.chars() {
        match c {
            '[' if depth == 0 => {
                steps.push(std::mem::take(&mut step));
                depth = 1;
            }
            ']' if depth == 1 => {
                steps.push(std::mem::take(&mut step));
                depth = 0;
            }
            '.' if depth == 0 => steps.push(std::mem::take(&mut step)),
            c => step.push(c),
        }
    }
    steps.push(step);
    steps.retain(|s| !s.is_empty());
    steps
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Inner>::deserialize(deserializer)?;
        Ok(Self { line: line(spanned.referenced), inner: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Inner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InnerVisitor)
    }
}

struct InnerVisitor;

impl<'de> Visitor<'de> for InnerVisitor {
    type Value = Inner;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_i128<E>(self, _: i128) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_u128<E>(self, _: u128) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_str<E>(self, _: &str) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_bytes<E>(self, _: &[u8]) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_unit<E>(self) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_none<E>(self) -> Result<Inner, E> {
        Ok(Inner::Scalar)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Inner, D::Error> {
        Inner::deserialize(deserializer)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Inner, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Inner::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Inner, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let place: Place = map.next_value()?;
            entries.push((key.value, line(key.referenced), place));
        }
        Ok(Inner::Map(entries))
    }
}
