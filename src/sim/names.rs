//! Short names for what is named by chance: pods, ReplicaSets, commits, moments.
//!
//! A story that says `web-1` and `c2` reads well, and stays as it is when something else changes.

use std::collections::BTreeMap;

use crate::model::Timestamp;

/// Short names by long ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    short: BTreeMap<String, String>,
    counts: BTreeMap<String, usize>,
    start: i64,
}

impl Names {
    pub(super) fn new(start: Timestamp) -> Self {
        Self { start: start.0, ..Self::default() }
    }

    /// Gives a name to something.
    pub(super) fn give(&mut self, long: &str, short: &str) {
        self.short.insert(long.to_owned(), short.to_owned());
    }

    /// Gives the next number of `stem` to something that has no name yet: `web-1`, `web-2`.
    pub(super) fn number(&mut self, long: &str, stem: &str, sign: &str) -> String {
        if let Some(known) = self.short.get(long) {
            return known.clone();
        }
        let count = self.counts.entry(format!("{stem}{sign}")).or_default();
        *count += 1;
        let short = format!("{stem}{sign}{count}");
        self.give(long, &short);
        short
    }

    /// The short name of something, or its long one.
    pub(super) fn of(&self, long: &str) -> String {
        self.short.get(long).cloned().unwrap_or_else(|| long.to_owned())
    }

    /// A text with short names in the place of long ones, and moments counted from the start.
    pub(super) fn shorten(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some((moment, after)) = moment(rest) {
                out += &super::story::clock(moment - self.start);
                rest = after;
                continue;
            }
            let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            if end == 0 {
                out.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            }
            out += &self.word(&rest[..end]);
            rest = &rest[end..];
        }
        out
    }

    fn word(&self, word: &str) -> String {
        self.short.get(word).cloned().unwrap_or_else(|| word.to_owned())
    }
}

/// `2026-11-21T00:00:12Z` at the beginning of a text, in milliseconds, and what follows.
fn moment(text: &str) -> Option<(i64, &str)> {
    let end = text.get(..64).unwrap_or(text).find('Z')?;
    let (stamp, rest) = text.split_at_checked(end + 1)?;
    let shaped = stamp.len() >= 20 && stamp.as_bytes().get(10) == Some(&b'T');
    let parsed: k8s_openapi::jiff::Timestamp = stamp.parse().ok().filter(|_| shaped)?;
    Some((parsed.as_millisecond(), rest))
}
