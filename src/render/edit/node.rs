//! A YAML text as a tree of places: what stands from which byte to which.

use granit_parser::{Event, Parser, ScalarStyle, Span, StrInput, StructureStyle};

/// One document of a text.
#[derive(Debug)]
pub(in crate::render) struct Document {
    /// Where it begins: its `---`, or its first word.
    pub(in crate::render) start: usize,
    pub(in crate::render) root: Node,
}

/// One value and where it is written.
#[derive(Debug)]
pub(in crate::render) struct Node {
    /// The first byte; of a block scalar, its `|` or `>`.
    pub(in crate::render) start: usize,
    /// Behind the last byte that says something.
    pub(in crate::render) end: usize,
    /// The column of its first byte, or of its first key or item.
    pub(in crate::render) column: usize,
    /// It has an anchor or a tag, so what it says is not said by its text alone.
    pub(in crate::render) is_marked: bool,
    /// What a scalar says, escapes and line breaks worked off; empty for all else.
    pub(in crate::render) said: String,
    pub(in crate::render) kind: Kind,
}

/// How a value is written.
#[derive(Debug)]
pub(in crate::render) enum Kind {
    Scalar(ScalarStyle),
    /// `*name`.
    Alias,
    Map {
        flow: bool,
        entries: Vec<Entry>,
    },
    List {
        flow: bool,
        items: Vec<Node>,
    },
}

/// One key of a map and its value.
#[derive(Debug)]
pub(in crate::render) struct Entry {
    pub(in crate::render) key: String,
    /// From the first byte of the key …
    pub(in crate::render) start: usize,
    /// … to behind its last one.
    pub(in crate::render) key_end: usize,
    pub(in crate::render) value: Node,
}

/// A text that was read already, as documents that say something.
pub(in crate::render) fn documents(text: &str) -> Option<Vec<Document>> {
    let mut reader = Reader { text, events: Parser::new_from_str(text), behind: 0 };
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.next() {
        if matches!(event, Event::DocumentStart(..)) {
            let start = offset(span.start)?;
            reader.behind = offset(span.end)?;
            let root = reader.node()?;
            documents.push(Document { start, root });
        }
    }
    documents.retain(|document| !document.root.is_null(text));
    Some(documents)
}

impl Node {
    /// Whether nothing, or `null`, is written.
    pub(in crate::render) fn is_null(&self, text: &str) -> bool {
        let written = &text[self.start..self.end];
        matches!(self.kind, Kind::Scalar(ScalarStyle::Plain))
            && ["", "~", "null", "Null", "NULL"].contains(&written)
    }

    /// Whether this is written inside braces or brackets of its own.
    pub(in crate::render) fn is_flow(&self) -> bool {
        matches!(self.kind, Kind::Map { flow: true, .. } | Kind::List { flow: true, .. })
    }
}

fn offset(marker: granit_parser::Marker) -> Option<usize> {
    marker.byte_offset()
}

struct Reader<'t> {
    text: &'t str,
    events: Parser<'t, StrInput<'t>>,
    /// Behind what was read last.
    behind: usize,
}

impl<'t> Reader<'t> {
    /// The next event that is no comment.
    fn next(&mut self) -> Option<(Event<'t>, Span)> {
        loop {
            let (event, span) = self.events.next()?.ok()?;
            let told = event.is_node()
                || matches!(
                    event,
                    Event::DocumentStart(..)
                        | Event::DocumentEnd
                        | Event::MappingEnd
                        | Event::SequenceEnd
                );
            if told {
                return Some((event, span));
            }
        }
    }

    fn node(&mut self) -> Option<Node> {
        let (event, span) = self.next()?;
        self.node_of(event, span)
    }

    fn node_of(&mut self, event: Event<'t>, span: Span) -> Option<Node> {
        let (start, end) = (offset(span.start)?, offset(span.end)?);
        let is_marked = event.anchor_id().is_some() || event.tag().is_some();
        let column = span.start.col();
        let said = match &event {
            Event::Scalar(said, ..) => said.to_string(),
            _ => String::new(),
        };
        let leaf = |start, end, kind| Node { start, end, column, is_marked, said, kind };
        let node = match event {
            Event::Scalar(_, style @ (ScalarStyle::Literal | ScalarStyle::Folded), ..) => {
                let head = self.text.get(self.behind..start)?.find(['|', '>'])? + self.behind;
                let end = self.block_end(head, start, end);
                leaf(head, end, Kind::Scalar(style))
            }
            Event::Scalar(_, style, ..) => leaf(start, end, Kind::Scalar(style)),
            Event::Alias(_) => leaf(start, end, Kind::Alias),
            Event::MappingStart(style, ..) => {
                self.behind = end;
                self.map(style == StructureStyle::Flow, start, column, is_marked)?
            }
            Event::SequenceStart(style, ..) => {
                self.behind = end;
                self.list(style == StructureStyle::Flow, start, column, is_marked)?
            }
            _ => return None,
        };
        self.behind = self.behind.max(node.end);
        Some(node)
    }

    /// Where a block scalar ends: empty lines below it belong to it only when it keeps them. Spaces
    /// at the end of its last line are its own.
    fn block_end(&self, head: usize, start: usize, end: usize) -> usize {
        let header = self.text[head..start].lines().next().unwrap_or_default();
        let written = &self.text[head..end];
        match header.split('#').next().is_some_and(|h| h.contains('+')) {
            true => head + written.rfind('\n').unwrap_or(written.len()),
            false => {
                let said = head + written.trim_end().len();
                let line = self.text[said..].split('\n').next().unwrap_or_default();
                said + line.trim_end_matches('\r').len()
            }
        }
    }

    fn map(&mut self, flow: bool, start: usize, column: usize, is_marked: bool) -> Option<Node> {
        let (mut entries, mut end) = (Vec::new(), start);
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                end = if flow { offset(span.end)? } else { end };
                let kind = Kind::Map { flow, entries };
                let said = String::new();
                return Some(Node { start, end, column, is_marked, said, kind });
            }
            let Event::Scalar(key, ..) = &event else { return None };
            let key = key.to_string();
            let (start, key_end) = (offset(span.start)?, offset(span.end)?);
            self.behind = key_end;
            let value = self.node()?;
            end = value.end.max(key_end);
            entries.push(Entry { key, start, key_end, value });
        }
    }

    fn list(&mut self, flow: bool, start: usize, column: usize, is_marked: bool) -> Option<Node> {
        let (mut items, mut end): (Vec<Node>, usize) = (Vec::new(), start);
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                end = if flow { offset(span.end)? } else { end };
                let kind = Kind::List { flow, items };
                let said = String::new();
                return Some(Node { start, end, column, is_marked, said, kind });
            }
            let item = self.node_of(event, span)?;
            end = item.end;
            items.push(item);
        }
    }
}
