//! From a plain manifest to a sealed one: the text stays as it is but for the values that are
//! encrypted, and a `sops` block at the end of each document.

use std::ops::Range;

use age_format::x25519;

use super::{
    cipher::{DataKey, KEY_BYTES},
    keyring::Sum,
};
use crate::{
    model::Wrapped,
    render::{
        render_file,
        sealed::{Leaf, Rule, is_sealed, leaves_of, place, roots_of},
    },
};

/// The version of SOPS whose format this is.
const VERSION: &str = "3.9.0";

/// How a file is to be sealed.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The path by which problems name it.
    pub path: &'a str,
    /// For whom: `age1…`.
    pub recipients: &'a [String],
    /// Which values are encrypted.
    pub rule: &'a Rule,
    /// Whether the checksum is that of the encrypted values alone.
    pub only_encrypted: bool,
    /// The time, in whole seconds: `2026-01-31T09:30:00Z`.
    pub now: &'a str,
}

/// Why a file is not sealed. Says nothing of what the file holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file is not one that can be sealed.
    #[error("{0}")]
    File(String),
    /// A recipient is none, or there is none.
    #[error("{0}")]
    Recipient(String),
}

/// Seals a manifest.
pub fn seal(text: &str, order: &Order<'_>) -> Result<String, Fault> {
    let fault = |text: &str| Fault::File(format!("{}: {text}", order.path));
    if is_sealed(text.as_bytes()) {
        return Err(fault("it is sealed already: `sops` opens it to be changed"));
    }
    let key = DataKey(rand::random::<[u8; KEY_BYTES]>());
    let age = wrapped(&key, order.recipients)?;
    let leaves = leaves_of(text, order.rule).map_err(|why| fault(&why))?;
    if !leaves.iter().any(|leaf| leaf.is_sealed && !leaf.text.is_empty()) {
        let (field, rule) = order.rule.field();
        return Err(fault(&format!("there is nothing to seal in it by {field}: {rule}")));
    }
    let mut edits = comments(text, &leaves, order.rule, &key);
    let mut sum = Sum::new(order.only_encrypted);
    for leaf in &leaves {
        sum.add(leaf, leaf.text.as_bytes());
        if leaf.is_sealed {
            let sealed = key.close(&leaf.text, leaf.kind.name(), &leaf.place());
            let sealed = sealed.ok_or_else(|| fault("a value is too large"))?;
            let quoted = leaf.in_flow || sealed.is_empty();
            edits.push((leaf.span.clone(), if quoted { format!("\"{sealed}\"") } else { sealed }));
        }
    }
    let mac = key.close(&sum.text(), "str", order.now).ok_or_else(|| fault("no checksum"))?;
    edits.extend(blocks(text, order, &age, &mac));
    let sealed = edited(text, edits);
    if let Some(problem) = render_file(order.path, sealed.as_bytes()).problems.first() {
        return Err(Fault::File(problem.to_string()));
    }
    Ok(sealed)
}

/// The data key, once for each recipient.
fn wrapped(key: &DataKey, recipients: &[String]) -> Result<Vec<Wrapped>, Fault> {
    let wrap = |recipient: &String| {
        let bad = || Fault::Recipient(format!("{recipient:?} is no age recipient (age1…)"));
        let parsed: x25519::Recipient = recipient.parse().map_err(|_| bad())?;
        let enc = age_format::encrypt_and_armor(&parsed, &key.0).map_err(|_| bad())?;
        Ok(Wrapped { recipient: recipient.clone(), enc })
    };
    match recipients.is_empty() {
        true => Err(Fault::Recipient("there is nobody to seal it for".to_owned())),
        false => recipients.iter().map(wrap).collect(),
    }
}

type Edit = (Range<usize>, String);

/// Comments beside what is sealed are encrypted as well: a value that was put out of use is often
/// still one.
fn comments(text: &str, leaves: &[Leaf], rule: &Rule, key: &DataKey) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (at, leaf) in leaves.iter().enumerate().filter(|(_, leaf)| leaf.is_sealed) {
        let parent = &leaf.path[..leaf.path.len().saturating_sub(1)];
        let before = at.checked_sub(1).map_or(0, |before| leaves[before].span.end);
        let next = leaves.get(at + 1).map_or(text.len(), |next| next.span.start);
        // What stands before the first sealed value stands behind the key that holds it.
        let is_first = before == 0 || !leaves[at - 1].is_sealed;
        let from = if is_first { key_of(text, before..leaf.span.start, parent) } else { before };
        let mut spans = comments_in(text, from..leaf.span.start);
        if leaves.get(at + 1).is_none_or(|next| !next.is_sealed) {
            spans.extend(comments_in(text, leaf.span.end..next));
        }
        for span in spans.into_iter().filter(|_| rule.seals(parent)) {
            let said = &text[span.start + 1..span.end];
            if let Some(sealed) = key.close(said, "comment", &place(parent)) {
                edits.push((span.start + 1..span.end, sealed));
            }
        }
    }
    edits
}

/// Where the innermost key of `path` stands, or something earlier that reads like it.
fn key_of(text: &str, range: Range<usize>, path: &[String]) -> usize {
    let found = path.last().and_then(|key| text[range.clone()].find(key.as_str()));
    found.map_or(range.end, |at| range.start + at)
}

/// The comments between two values: whatever a `#` behind white space begins. Keys, which stand
/// there too, hold none but in quotes.
fn comments_in(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let (mut at, mut quote) = (range.start, None);
    let bytes = text.as_bytes();
    while at < range.end {
        let spaced = at == 0 || b" \t\n".contains(&bytes[at - 1]);
        match (bytes[at], quote) {
            (b'#', None) if spaced => {
                let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
                let end = at + text[at..end].trim_end().len();
                if end > at + 1 {
                    spans.push(at..end);
                }
                at = end;
            }
            (c, None) if spaced && b"'\"".contains(&c) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            _ => {}
        }
        at += 1;
    }
    spans
}

/// The block for the end of each document.
fn blocks(text: &str, order: &Order<'_>, age: &[Wrapped], mac: &str) -> Vec<Edit> {
    let roots = roots_of(text);
    let mut edits = Vec::new();
    for (number, (_, end, in_flow)) in roots.iter().enumerate() {
        if *in_flow {
            // In front of the last brace.
            let at = end.saturating_sub(1);
            edits.push((at..at, format!(",\"sops\":{}", block_json(order, age, mac))));
            continue;
        }
        let at = roots.get(number + 1).map_or(text.len(), |next| next.0);
        let open = text[..at].ends_with('\n');
        let block = block_yaml(order, age, mac);
        edits.push((at..at, if open { block } else { format!("\n{block}") }));
    }
    edits
}

fn block_json(order: &Order<'_>, age: &[Wrapped], mac: &str) -> serde_json::Value {
    let (field, rule) = order.rule.field();
    let mut block = serde_json::json!({
        "age": age, "lastmodified": order.now, "mac": mac, "version": VERSION,
    });
    block[field] = rule.into();
    if order.only_encrypted {
        block["mac_only_encrypted"] = true.into();
    }
    block
}

fn block_yaml(order: &Order<'_>, age: &[Wrapped], mac: &str) -> String {
    let mut block = "sops:\n  age:\n".to_owned();
    for key in age {
        block += &format!("    - recipient: {}\n      enc: |\n", key.recipient);
        for line in key.enc.lines() {
            block += &format!("        {line}\n");
        }
    }
    let (field, rule) = order.rule.field();
    let rule = serde_json::Value::from(rule);
    block += &format!("  lastmodified: \"{}\"\n  mac: {mac}\n  {field}: {rule}\n", order.now);
    if order.only_encrypted {
        block += "  mac_only_encrypted: true\n";
    }
    block + &format!("  version: {VERSION}\n")
}

/// A text with its edits, which do not overlap.
fn edited(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|(span, _)| (span.start, span.end));
    let (mut out, mut behind) = (String::with_capacity(2 * text.len()), 0);
    for (span, new) in edits {
        out.push_str(&text[behind..span.start]);
        out.push_str(&new);
        behind = span.end;
    }
    out + &text[behind..]
}
