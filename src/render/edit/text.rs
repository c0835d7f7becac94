//! Changes of a text in place: what does not change keeps every byte.

use std::ops::Range;

use granit_parser::ScalarStyle;
use serde_json::{Map, Value};

use super::{
    delta,
    emit::{self, Style},
    node::{Entry, Kind, Node},
};

/// Replacements in one text, gathered and then made at once.
pub(super) struct Edits<'t> {
    text: &'t str,
    style: Style,
    made: Vec<(Range<usize>, String)>,
}

impl<'t> Edits<'t> {
    pub(super) fn new(text: &'t str, style: Style) -> Self {
        Self { text, style, made: Vec::new() }
    }

    /// The text with all replacements made.
    pub(super) fn finish(mut self) -> String {
        self.made.sort_by_key(|(range, _)| range.start);
        let (mut out, mut at) = (String::new(), 0);
        for (range, new) in self.made {
            // Two that overlap say the same region goes; what is read back tells when they do not.
            out += self.text.get(at..range.start).unwrap_or_default();
            out += &new;
            at = at.max(range.end);
        }
        out + self.text.get(at..).unwrap_or_default()
    }

    fn put(&mut self, range: Range<usize>, new: impl Into<String>) {
        let mut new = new.into();
        if self.text.contains("\r\n") {
            new = new.replace('\n', "\r\n");
        }
        self.made.push((range, new));
    }

    /// Takes a range out.
    pub(super) fn cut(&mut self, range: Range<usize>) {
        self.put(range, "");
    }

    /// Where the line of a byte begins.
    pub(super) fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// Where the line after that of a byte begins.
    pub(super) fn next_line(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |newline| at + newline + 1)
    }

    /// Puts lines below the line of a byte.
    fn below(&mut self, at: usize, lines: &str) {
        let place = self.next_line(at);
        let open = place == self.text.len() && !self.text.ends_with('\n');
        let new = if open { format!("\n{lines}") } else { format!("{lines}\n") };
        self.put(place..place, new);
    }

    /// Whether nothing but spaces stands before a byte on its line.
    fn begins_line(&self, at: usize) -> bool {
        self.text[self.line_start(at)..at].trim().is_empty()
    }

    /// Makes the value of an item, or of a document, another one.
    pub(super) fn value(&mut self, node: &Node, old: &Value, new: &Value, place: &Place) {
        match (&node.kind, old, new) {
            _ if old == new => {}
            (Kind::Map { flow, entries }, Value::Object(old), Value::Object(new))
                if !entries.is_empty() && keeps_one(entries, new) =>
            {
                match flow {
                    true => self.flow_map(node, entries, old, new),
                    false => self.block_map(node, entries, old, new),
                }
            }
            (Kind::List { flow, items }, Value::Array(old), Value::Array(new))
                if items.len() == old.len() && !items.is_empty() && !new.is_empty() =>
            {
                match flow {
                    true => self.flow_list(node, items, old, new),
                    false => self.block_list(node, items, old, new, place),
                }
            }
            _ => self.replace(node, new, place),
        }
    }

    /// Writes a value anew.
    fn replace(&mut self, node: &Node, new: &Value, place: &Place) {
        let is_line = !self.text[node.start..node.end].contains('\n');
        let simple = match new {
            Value::String(text) => !emit::is_literal(text),
            Value::Object(map) => map.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => true,
        };
        let empty = node.start == node.end;
        match (&node.kind, place) {
            (Kind::Scalar(style), _) if simple && is_line && !empty => {
                let new = emit::restyled(new, *style, self.style);
                self.put(node.start..node.end, new);
            }
            (_, Place::Flow) => {
                let new = emit::flow(new, self.style);
                self.put(node.start..node.end, new);
            }
            (_, Place::Key { end, column }) => {
                let colon = self.text[*end..].find(':').map_or(*end, |colon| end + colon + 1);
                let new = emit::behind_key(new, *column, self.style);
                self.put(colon..node.end.max(colon), new);
            }
            (_, Place::Item { dash }) => {
                let column = dash - self.line_start(*dash);
                let new = emit::item(new, column, self.style);
                self.put(*dash..node.end.max(dash + 1), new.trim_start_matches(' '));
            }
            (_, Place::Document) => {
                let new = match new {
                    Value::Object(map) => emit::block_map(map, 0, self.style),
                    new => emit::flow(new, self.style),
                };
                self.put(node.start..node.end, new);
            }
        }
    }

    fn block_map(
        &mut self,
        node: &Node,
        entries: &[Entry],
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) {
        for (at, entry) in entries.iter().enumerate() {
            match (old.get(&entry.key), new.get(&entry.key)) {
                (Some(old), Some(new)) => self.entry(entry, old, new, node.column),
                _ if self.begins_line(entry.start) => {
                    let end = self.next_line(entry.value.end.max(entry.key_end));
                    self.cut(self.line_start(entry.start)..end);
                }
                // Behind a dash: the next entry comes in its place.
                _ => {
                    let next = entries[at + 1..].first().map_or(node.end, |next| next.start);
                    self.cut(entry.start..next);
                }
            }
        }
        let kept = entries.iter().rfind(|entry| new.contains_key(&entry.key));
        let Some(kept) = kept else { return };
        let added: Map<String, Value> = added(old, new);
        if !added.is_empty() {
            let lines = emit::block_map(&added, node.column, self.style);
            self.below(kept.value.end.max(kept.key_end), &lines);
        }
    }

    fn entry(&mut self, entry: &Entry, old: &Value, new: &Value, column: usize) {
        self.value(&entry.value, old, new, &Place::Key { end: entry.key_end, column });
    }

    fn flow_map(
        &mut self,
        node: &Node,
        entries: &[Entry],
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) {
        let parts: Vec<Range<usize>> =
            entries.iter().map(|e| e.start..e.value.end.max(e.key_end)).collect();
        let kept: Vec<bool> = entries.iter().map(|e| new.contains_key(&e.key)).collect();
        for entry in entries {
            if let (Some(old), Some(new)) = (old.get(&entry.key), new.get(&entry.key)) {
                self.value(&entry.value, old, new, &Place::Flow);
            }
        }
        let is_quoted = self.text[entries[0].start..].starts_with('"');
        let style = Style { quoted: is_quoted, ..self.style };
        let new: Vec<String> =
            added(old, new).iter().map(|(k, v)| emit::flow_entry(k, v, style)).collect();
        self.flow_parts(node, &parts, &kept, &[(parts.len(), new)]);
    }

    /// Takes parts out of a flow collection and puts new ones behind those whose number is given.
    fn flow_parts(
        &mut self,
        node: &Node,
        parts: &[Range<usize>],
        kept: &[bool],
        added: &[(usize, Vec<String>)],
    ) {
        let first_kept = kept.iter().position(|kept| *kept).unwrap_or(parts.len());
        for (at, part) in parts.iter().enumerate().filter(|(at, _)| !kept[*at]) {
            match at < first_kept {
                true => {
                    let next = parts.get(at + 1).map_or(node.end, |next| next.start);
                    self.cut(part.start..next);
                }
                false => self.cut(parts[at - 1].end..part.end),
            }
        }
        for (before, texts) in added.iter().filter(|(_, texts)| !texts.is_empty()) {
            let anchor = (0..*before).rev().find(|at| kept[*at]);
            let (place, leads) = match anchor {
                Some(at) => (parts[at].end, true),
                None => (parts[first_kept.min(parts.len() - 1)].start, false),
            };
            let own_line = self.begins_line(parts[0].start);
            let start = parts[0].start;
            let gap = match own_line {
                true => format!(",\n{}", &self.text[self.line_start(start)..start]),
                false => ", ".to_owned(),
            };
            let joined = texts.join(&gap);
            let new = if leads { format!("{gap}{joined}") } else { format!("{joined}{gap}") };
            self.put(place..place, new);
        }
    }

    fn flow_list(&mut self, node: &Node, items: &[Node], old: &[Value], new: &[Value]) {
        let plan = Plan::of(old, new);
        if !plan.kept.iter().any(|kept| *kept) {
            return self.replace(node, &Value::Array(new.to_vec()), &Place::Flow);
        }
        let parts: Vec<Range<usize>> = items.iter().map(|item| item.start..item.end).collect();
        for (at, value) in &plan.changed {
            self.value(&items[*at], &old[*at], value, &Place::Flow);
        }
        let texts = |values: &Vec<&Value>| {
            values.iter().map(|value| emit::flow(value, self.style)).collect::<Vec<_>>()
        };
        let added: Vec<(usize, Vec<String>)> =
            plan.added.iter().map(|(before, values)| (*before, texts(values))).collect();
        self.flow_parts(node, &parts, &plan.kept, &added);
    }

    fn block_list(
        &mut self,
        node: &Node,
        items: &[Node],
        old: &[Value],
        new: &[Value],
        place: &Place,
    ) {
        let plan = Plan::of(old, new);
        let dashes: Option<Vec<usize>> = items.iter().map(|item| self.dash(item)).collect();
        let whole = |dashes: &Vec<usize>| {
            dashes.iter().zip(&plan.kept).all(|(dash, kept)| *kept || self.begins_line(*dash))
        };
        let dashes = dashes.filter(|dashes| whole(dashes) && self.begins_line(dashes[0]));
        let Some(dashes) = dashes.filter(|_| plan.kept.iter().any(|kept| *kept)) else {
            return self.replace(node, &Value::Array(new.to_vec()), place);
        };
        for (at, value) in &plan.changed {
            self.value(&items[*at], &old[*at], value, &Place::Item { dash: dashes[*at] });
        }
        let column = dashes[0] - self.line_start(dashes[0]);
        for (before, values) in &plan.added {
            let lines: Vec<String> =
                values.iter().map(|value| emit::item(value, column, self.style)).collect();
            let lines = lines.join("\n");
            match (0..*before).rev().find(|at| plan.kept[*at]) {
                Some(at) => self.below(items[at].end.max(dashes[at]), &lines),
                None => {
                    let first = self.line_start(dashes[0]);
                    self.put(first..first, format!("{lines}\n"));
                }
            }
        }
        for at in (0..items.len()).filter(|at| !plan.kept[*at]) {
            let end = self.next_line(items[at].end.max(dashes[at]));
            self.cut(self.line_start(dashes[at])..end);
        }
    }

    /// Where the dash of an item is.
    pub(super) fn dash(&self, item: &Node) -> Option<usize> {
        let before = self.text[..item.start].trim_end();
        before.ends_with('-').then(|| before.len() - 1)
    }
}

/// Where a value stands.
pub(super) enum Place {
    /// Behind a key of a block map: where the key ends, and the column of the map.
    Key { end: usize, column: usize },
    /// Behind a dash.
    Item { dash: usize },
    /// Inside braces or brackets.
    Flow,
    /// It is the document.
    Document,
}

fn keeps_one(entries: &[Entry], new: &Map<String, Value>) -> bool {
    entries.iter().any(|entry| new.contains_key(&entry.key))
}

fn added(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let added = new.iter().filter(|(key, _)| !old.contains_key(*key));
    added.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// How a list becomes another one without moving what stays.
struct Plan<'v> {
    /// Which old items stay.
    kept: Vec<bool>,
    /// What those that stay become.
    changed: Vec<(usize, &'v Value)>,
    /// New items, and the number of the old one before which they come.
    added: Vec<(usize, Vec<&'v Value>)>,
}

impl<'v> Plan<'v> {
    fn of(old: &[Value], new: &'v [Value]) -> Self {
        let identity = delta::identity(old, new);
        let mut plan =
            Self { kept: vec![false; old.len()], changed: Vec::new(), added: Vec::new() };
        let mut next = 0;
        for (value, matched) in delta::aligned(old, new, identity) {
            // What moved is taken out and written where it goes.
            match matched.filter(|at| *at >= next) {
                Some(at) => {
                    plan.kept[at] = true;
                    plan.changed.push((at, value));
                    next = at + 1;
                }
                None => plan.add(next, value),
            }
        }
        plan
    }

    fn add(&mut self, before: usize, value: &'v Value) {
        match self.added.last_mut().filter(|(at, _)| *at == before) {
            Some((_, values)) => values.push(value),
            None => self.added.push((before, vec![value])),
        }
    }
}

/// How lists are written in a document: in the column of their key, or further in.
pub(super) fn lists_at_key(text: &str, node: &Node) -> bool {
    match &node.kind {
        Kind::Map { entries, .. } => entries.iter().any(|entry| {
            let Kind::List { flow: false, items } = &entry.value.kind else {
                return lists_at_key(text, &entry.value);
            };
            let edits = Edits::new(text, Style::default());
            let dash = items.first().and_then(|item| edits.dash(item));
            dash.is_some_and(|dash| dash - edits.line_start(dash) == node.column)
        }),
        Kind::List { items, .. } => items.iter().any(|item| lists_at_key(text, item)),
        Kind::Scalar(ScalarStyle::Plain) | Kind::Scalar(_) | Kind::Alias => false,
    }
}
