//! What happened, in lines that a person reads from top to bottom.

use std::collections::BTreeSet;

use super::names::Names;
use crate::model::Timestamp;

/// Longest line before what happens at the same time begins a new one.
const LINE_MAX: usize = 96;

/// What shares a line with others of its kind.
const SHARED: [&str; 12] = [
    "keep",
    "create",
    "bind",
    "ready",
    "unready",
    "stop",
    "gone",
    "evict",
    "succeeded",
    "scale",
    "node",
    "endpoints",
];

/// A story as it is being told.
#[derive(Clone, Debug)]
pub(super) struct Story {
    start: Timestamp,
    pub(super) names: Names,
    lines: Vec<Line>,
    hidden: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Line {
    clock: String,
    verb: String,
    text: String,
}

impl Story {
    pub(super) fn new(start: Timestamp) -> Self {
        Self { start, names: Names::new(start), lines: Vec::new(), hidden: BTreeSet::new() }
    }

    /// The time since the start: `t=1.5s`.
    pub(super) fn clock(&self, now: Timestamp) -> String {
        clock(now.0 - self.start.0)
    }

    /// Leaves out, or tells again, what begins with this word.
    pub(super) fn hide(&mut self, verb: &str, hidden: bool) {
        if hidden {
            self.hidden.insert(verb.to_owned());
        } else {
            self.hidden.remove(verb);
        }
    }

    /// Tells that something happened. The same verb at the same time shares a line.
    pub(super) fn tell(&mut self, now: Timestamp, verb: &str, what: &str) {
        if self.hidden.contains(verb.trim_end_matches(':')) {
            return;
        }
        let (clock, text) = (self.clock(now), self.names.shorten(what));
        if let Some(last) = self.lines.last_mut()
            && (&last.clock, last.verb.as_str()) == (&clock, verb)
            && last.text.len() + text.len() < LINE_MAX
            && SHARED.contains(&verb)
        {
            // Sorted, so that what happens together reads the same whatever was first by chance.
            let mut all: Vec<&str> = last.text.split(", ").chain([text.as_str()]).collect();
            all.sort_unstable();
            last.text = all.join(", ");
            return;
        }
        self.lines.push(Line { clock, verb: verb.to_owned(), text });
    }

    /// Says something without a time: the answer to a question.
    pub(super) fn say(&mut self, text: &str) {
        let text = self.names.shorten(text.trim_end());
        let kept: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        self.lines.push(Line { clock: String::new(), verb: String::new(), text: kept.join("\n") });
    }

    /// Takes what was told since the last call.
    pub(super) fn take(&mut self) -> String {
        let mut text = String::new();
        for line in std::mem::take(&mut self.lines) {
            if line.clock.is_empty() {
                text += &format!("{}\n", line.text);
            } else {
                text += &format!("{:<8} {} {}\n", line.clock, line.verb, line.text);
            }
        }
        text
    }

    /// The last lines, for a failure.
    pub(super) fn tail(&self, count: usize) -> String {
        let skip = self.lines.len().saturating_sub(count);
        let line = |l: &Line| format!("{} {} {}\n", l.clock, l.verb, l.text);
        self.lines.iter().skip(skip).map(line).collect()
    }

    /// Forgets old lines, so that a long run stays small.
    pub(super) fn trim(&mut self, keep: usize) {
        let drop = self.lines.len().saturating_sub(keep);
        self.lines.drain(..drop);
    }
}

/// Milliseconds as `t=1.5s`, `t=2m03s`, `t=1h02m03s`.
pub(super) fn clock(ms: i64) -> String {
    let (seconds, tenths) = (ms / 1000, ms % 1000 / 100);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("t={s}.{tenths}s"),
        (0, m, s) => format!("t={m}m{s:02}s"),
        (h, m, s) => format!("t={h}h{m:02}m{s:02}s"),
    }
}
