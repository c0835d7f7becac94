//! The JSON paths of printed columns: kubectl's form, which is older than RFC 9535.

use std::fmt::Write;

use serde_json::Value;

/// A path that can be followed.
#[derive(Debug)]
pub(super) struct JsonPath(serde_json_path::JsonPath);

impl JsonPath {
    /// Reads `.spec.a-b`, `.metadata.annotations.example\.com/x`,
    /// `.status.conditions[?(@.type=="Ready")].status`; `None` when it is no path.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json_path::JsonPath::parse(&standard(text)).ok().map(Self)
    }

    /// The first value the path leads to.
    pub(super) fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.0.query(value).first()
    }
}

/// The path in the standard's words: a name may hold any character here and must stand in quotes
/// there.
fn standard(text: &str) -> String {
    let mut out = String::from("$");
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '[' {
            let end = closing(rest);
            let (inside, after) = rest.split_at(end);
            out.push_str(inside);
            rest = after;
            continue;
        }
        let (name, after) = name(rest.strip_prefix('.').unwrap_or(rest));
        match name.as_str() {
            "" => {}
            "*" => out.push_str("[*]"),
            // Debug writes quotes and escapes as JSON does for what names hold.
            name => drop(write!(out, "[{name:?}]")),
        }
        rest = after;
    }
    out
}

/// Where the bracket that opens a text is closed.
fn closing(text: &str) -> usize {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// The name a text begins with, and what follows it; `\.` is a dot of the name.
fn name(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => out.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (out, text.get(at..).unwrap_or_default()),
            c => out.push(c),
        }
    }
    (out, "")
}
