//! Values as YAML text, the way people write manifests.

use granit_parser::ScalarStyle;
use serde_json::{Map, Value};

use super::super::yaml;

/// Words that YAML 1.1 takes for something else than text, whatever our own reader thinks.
const TAKEN: [&str; 11] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", "nan"];

/// Keys that people write first, in this order; the others follow by the alphabet.
const FIRST: [&str; 5] = ["apiVersion", "kind", "metadata", "name", "namespace"];

/// How a text is written: what cannot be seen in a single value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    /// Lists stand in the column of their key.
    pub(super) lists_at_key: bool,
    /// As in JSON: keys and texts are quoted.
    pub(super) quoted: bool,
}

/// A map with every entry on lines of its own, without the last line break.
pub(super) fn block_map(map: &Map<String, Value>, indent: usize, style: Style) -> String {
    let lines: Vec<String> =
        in_order(map).map(|(key, value)| entry(key, value, indent, style)).collect();
    lines.join("\n")
}

/// One entry of a map on lines of its own.
pub(super) fn entry(key: &str, value: &Value, indent: usize, style: Style) -> String {
    format!("{:indent$}{}:{}", "", key_text(key, style), behind_key(value, indent, style))
}

/// What follows the colon of a key whose column is `indent`.
pub(super) fn behind_key(value: &Value, indent: usize, style: Style) -> String {
    let list_indent = if style.lists_at_key { indent } else { indent + 2 };
    match value {
        Value::Object(map) if !map.is_empty() => {
            format!("\n{}", block_map(map, indent + 2, style))
        }
        Value::Array(items) if !items.is_empty() => {
            format!("\n{}", block_list(items, list_indent, style))
        }
        Value::String(text) if is_literal(text) => format!(" {}", literal(text, indent + 2)),
        other => format!(" {}", flow(other, style)),
    }
}

fn block_list(items: &[Value], indent: usize, style: Style) -> String {
    items.iter().map(|value| item(value, indent, style)).collect::<Vec<_>>().join("\n")
}

/// One item of a list on lines of its own; `indent` is the column of its dash.
pub(super) fn item(value: &Value, indent: usize, style: Style) -> String {
    let inner = match value {
        Value::Object(map) if !map.is_empty() => block_map(map, indent + 2, style),
        Value::Array(items) if !items.is_empty() => block_list(items, indent + 2, style),
        Value::String(text) if is_literal(text) => literal(text, indent + 2),
        other => flow(other, style),
    };
    format!("{:indent$}- {}", "", inner.trim_start_matches(' '))
}

/// A value on one line.
pub(super) fn flow(value: &Value, style: Style) -> String {
    match value {
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| flow_entry(key, value, style);
            format!("{{{}}}", in_order(map).map(entry).collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|value| flow(value, style)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::String(text) if style.quoted => quoted(text),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

/// One entry of a map on one line.
pub(super) fn flow_entry(key: &str, value: &Value, style: Style) -> String {
    format!("{}: {}", key_text(key, style), flow(value, style))
}

fn key_text(key: &str, style: Style) -> String {
    if style.quoted { quoted(key) } else { plain(key) }
}

/// A scalar in place of one that was written in `style`, on one line.
pub(super) fn restyled(value: &Value, was: ScalarStyle, style: Style) -> String {
    match (value, was) {
        (Value::String(text), ScalarStyle::SingleQuoted) if is_printable(text) => {
            format!("'{}'", text.replace('\'', "''"))
        }
        (Value::String(text), ScalarStyle::DoubleQuoted) => quoted(text),
        _ => flow(value, style),
    }
}

fn in_order(map: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let mut entries: Vec<(&String, &Value)> = map.iter().collect();
    let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
    entries.sort_by(|(a, _), (b, _)| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
    entries.into_iter()
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// A text without quotes where every reader of YAML takes it for that text.
fn plain(text: &str) -> String {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_./:@+=% ".contains(c);
    let first = |c: char| c.is_ascii_alphanumeric() || "/._".contains(c);
    let number = |c: char| c.is_ascii_digit() || "-_.:+eExXoO".contains(c);
    let unsafe_parts = text.contains(": ") || text.ends_with([':', ' ']);
    let is_plain = text.starts_with(first)
        && text.chars().all(inner)
        && !unsafe_parts
        && !text.chars().all(number)
        && !TAKEN.contains(&text.to_ascii_lowercase().as_str())
        && yaml::documents(text.as_bytes()).is_ok_and(|read| read == [Value::from(text)]);
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// Whether a text reads best as lines of its own, and means the same there.
pub(super) fn is_literal(text: &str) -> bool {
    let odd = |line: &str| !line.is_empty() && line.trim().is_empty();
    text.contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && !text.ends_with("\n\n")
        && !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t')
        && !text.lines().any(odd)
}

/// A text as `|` and its lines.
pub(super) fn literal(text: &str, indent: usize) -> String {
    let head = if text.ends_with('\n') { "|" } else { "|-" };
    let line = |line: &str| match line {
        "" => "\n".to_owned(),
        line => format!("\n{:indent$}{line}", ""),
    };
    text.lines().map(line).fold(head.to_owned(), |whole, line| whole + &line)
}
