//! Watch: every change of a collection, in order, from a revision on.
//!
//! A watcher holds a cursor and nothing else. Its next lines are made from the history when its
//! connection has room for them, so one that does not read costs nothing, slows nobody, and is told
//! 410 when the history has gone past it. A line is written once for all who watch and kept while
//! they are likely to ask ([`Lines`]).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{
    Ask,
    answer::{self, Shape},
    fields::Fields,
    options::{self, Asked, Filter},
    table,
};
use crate::{
    api::{Api, Failure, negotiate::Form},
    model::{GroupKind, Object, Revision},
    state::{Change, View},
};

/// Seconds between two bookmarks: Kubernetes' minute. A client that comes back later than the
/// history reaches would have to list again.
const BOOKMARK_SECONDS: u64 = 60;

/// The longest a watch goes on when it does not say: Kubernetes ends them after half an hour to an
/// hour, so that load spreads over servers again.
const WATCH_SECONDS_MAX: u64 = 3600;

/// Bytes of lines that are sent together when many wait.
const CHUNK_BYTES: usize = 64 << 10;

/// Changes whose lines are kept. Watchers that read are at most a few behind.
const LINES_MAX: usize = 1024;

/// Lines by revision, written by the first watcher that needs them.
#[derive(Default)]
pub(in crate::api) struct Lines(Mutex<BTreeMap<Revision, Arc<Written>>>);

/// The lines of one change.
#[derive(Default)]
struct Written {
    added: OnceLock<Bytes>,
    modified: OnceLock<Bytes>,
    deleted: OnceLock<Bytes>,
}

impl Lines {
    fn of(&self, revision: Revision) -> Arc<Written> {
        // A panic while holding the lock leaves a map of whole lines.
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = lines.entry(revision).or_default().clone();
        while lines.len() > LINES_MAX {
            lines.pop_first();
        }
        written
    }
}

/// What a change is to one watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Added,
    Modified,
    Deleted,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One watch under way.
struct Watcher {
    api: Api,
    shape: Shape,
    kind: GroupKind,
    namespace: Option<String>,
    filter: Filter,
    views: watch::Receiver<View>,
    /// Everything up to here was sent.
    cursor: Revision,
    /// The objects that are told first, and the state they are of.
    initial: std::vec::IntoIter<Object>,
    /// Whether the end of those is told.
    tell_initial_end: bool,
    bookmarks: bool,
    next_bookmark: Instant,
    until: Instant,
    /// Whether a table has been sent, so that later ones need no columns.
    columns_sent: bool,
    over: bool,
}

/// Answers with the changes of a collection.
pub(super) async fn watch(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let shape = Shape::of(ask, true, api.backend.now())?;
    options::no_continue(&ask.query)?;
    options::matching(&ask.query, true)?;
    let mut filter = Filter::of(ask)?;
    if !ask.resource.name.is_empty() {
        filter.fields = filter.fields.and(Fields::name(&ask.resource.name));
    }
    let asked = options::version(&ask.query).map_err(options::without_reason)?;
    let seconds = options::number(&ask.query, "timeoutSeconds")?.filter(|s| *s > 0);
    let seconds = seconds.map_or(WATCH_SECONDS_MAX, |s| s.unsigned_abs().min(WATCH_SECONDS_MAX));
    let bookmarks = ask.query.flag("allowWatchBookmarks").unwrap_or_default();
    let wants_initial = ask.query.flag("sendInitialEvents");
    let from_start = wants_initial.unwrap_or(!matches!(asked, Asked::At(_)));
    let views = api.backend.views();
    let view = views.borrow().clone();
    let kind = ask.info.group_kind();
    let initial: Vec<Object> = match from_start {
        false => Vec::new(),
        true => {
            let all = view.of_kind(&kind, ask.namespace());
            all.filter(|object| filter.matches(object)).cloned().collect()
        }
    };
    let cursor = match asked {
        Asked::At(revision) if !from_start => revision,
        _ => view.revision(),
    };
    let now = Instant::now();
    let watcher = Watcher {
        api: api.clone(),
        shape,
        kind,
        namespace: ask.namespace().map(str::to_owned),
        filter,
        views,
        cursor,
        initial: initial.into_iter(),
        tell_initial_end: bookmarks && from_start,
        bookmarks,
        next_bookmark: now + Duration::from_secs(BOOKMARK_SECONDS),
        until: now + Duration::from_secs(seconds),
        columns_sent: false,
        over: false,
    };
    let lines = stream::unfold(watcher, |mut watcher| async move {
        let bytes = watcher.next().await?;
        Some((Ok::<_, std::io::Error>(bytes), watcher))
    });
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Ok((headers, Body::from_stream(lines)).into_response())
}

impl Watcher {
    /// The next lines; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if self.initial.len() > 0 {
            return Some(self.initial_lines());
        }
        if std::mem::take(&mut self.tell_initial_end) {
            return Some(self.bookmark(true));
        }
        loop {
            let view = self.views.borrow_and_update().clone();
            let lines = self.lines(&view);
            if !lines.is_empty() {
                return Some(lines);
            }
            let wake = self.until.min(self.next_bookmark);
            match tokio::time::timeout_at(wake, self.views.changed()).await {
                Ok(Ok(())) => {}
                // The server is stopping.
                Ok(Err(_)) => return None,
                Err(_) if Instant::now() >= self.until => return None,
                Err(_) => {
                    self.next_bookmark += Duration::from_secs(BOOKMARK_SECONDS);
                    if self.bookmarks {
                        return Some(self.bookmark(false));
                    }
                }
            }
        }
    }

    fn initial_lines(&mut self) -> Bytes {
        let mut out = Vec::new();
        while out.len() < CHUNK_BYTES {
            let Some(object) = self.initial.next() else { break };
            self.line(Event::Added, &object, &mut out);
        }
        out.into()
    }

    /// The lines of what came after the cursor, which moves along. Empty when there is none.
    fn lines(&mut self, view: &View) -> Bytes {
        let Some(changes) = view.changes_since(self.cursor) else {
            self.over = true;
            return too_old(self.cursor, view.revision());
        };
        let mut out: Vec<u8> = Vec::new();
        let mut only: Option<Bytes> = None;
        for change in changes {
            if out.len() >= CHUNK_BYTES {
                break;
            }
            self.cursor = change.revision;
            let Some(event) = self.event(change) else { continue };
            let line = self.line_of(event, change);
            match only.take() {
                None if out.is_empty() => only = Some(line),
                first => {
                    out.extend_from_slice(&first.unwrap_or_default());
                    out.extend_from_slice(&line);
                }
            }
        }
        only.unwrap_or_else(|| out.into())
    }

    /// What a change is to this watcher: an object that begins to match appears, one that stops
    /// disappears.
    fn event(&self, change: &Change) -> Option<Event> {
        let key = &change.key;
        let elsewhere = self.namespace.as_ref().is_some_and(|n| *n != key.namespace.as_str());
        if key.kind != self.kind || elsewhere {
            return None;
        }
        let matched = |o: &Option<Object>| o.as_ref().is_some_and(|o| self.filter.matches(o));
        match (matched(&change.old), matched(&change.new)) {
            (false, false) => None,
            (false, true) => Some(Event::Added),
            (true, true) => Some(Event::Modified),
            (true, false) => Some(Event::Deleted),
        }
    }

    /// The line of a change: the plain form of what is stored is shared by all who watch.
    fn line_of(&mut self, event: Event, change: &Change) -> Bytes {
        let write = |watcher: &mut Self| {
            let mut out = Vec::new();
            if let Some(object) = body(event, change) {
                watcher.line(event, &object, &mut out);
            }
            Bytes::from(out)
        };
        if self.shape.accepted.form != Form::Objects || !self.shape.is_stored() {
            return write(self);
        }
        let written = self.api.lines.of(change.revision);
        let place = match event {
            Event::Added => &written.added,
            Event::Modified => &written.modified,
            Event::Deleted => &written.deleted,
        };
        place.get_or_init(|| write(self)).clone()
    }

    fn line(&mut self, event: Event, object: &Object, out: &mut Vec<u8>) {
        out.extend_from_slice(format!(r#"{{"type":"{}","object":"#, event.name()).as_bytes());
        match self.shape.accepted.form {
            Form::Objects => out.extend_from_slice(&self.shape.json(object)),
            Form::Metadata => out.extend(answer::metadata_of(object)),
            Form::Table(version) => {
                let meta = json!({ "resourceVersion": object.revision().to_string() }).to_string();
                let first = !std::mem::replace(&mut self.columns_sent, true);
                out.extend(match first {
                    true => table::head(&self.shape, version, &meta),
                    false => table::later_head(version, &meta),
                });
                let now = self.api.backend.now();
                table::row(&self.shape, object, now, out);
                out.extend_from_slice(b"]}");
            }
        }
        out.extend_from_slice(b"}\n");
    }

    /// Says how far the watch has come, without an object.
    fn bookmark(&self, initial_end: bool) -> Bytes {
        let mut metadata = json!({ "resourceVersion": self.cursor.to_string() });
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let info = &self.shape.info;
        let object = match self.shape.accepted.form {
            Form::Objects => json!({
                "kind": info.kind, "apiVersion": self.shape.api_version, "metadata": metadata,
            }),
            Form::Metadata => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
            }),
            Form::Table(version) => bookmark_table(version, metadata),
        };
        Bytes::from(format!("{}\n", json!({ "type": "BOOKMARK", "object": object })))
    }
}

/// A bookmark among tables is a table whose one row has no cells but the metadata.
fn bookmark_table(version: &str, metadata: Value) -> Value {
    let object = json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
    });
    json!({
        "kind": "Table", "apiVersion": version,
        "metadata": { "resourceVersion": metadata["resourceVersion"] },
        "columnDefinitions": null, "rows": [{ "cells": [], "object": object }],
    })
}

/// The object an event shows. One that is gone, or matches no longer, is shown as it was last, with
/// the revision of the change.
fn body(event: Event, change: &Change) -> Option<Object> {
    if event != Event::Deleted {
        return change.new.clone();
    }
    let mut value = change.old.as_ref()?.value();
    value["metadata"]["resourceVersion"] = change.revision.to_string().into();
    Object::from_value(&value).ok()
}

fn too_old(asked: Revision, current: Revision) -> Bytes {
    let failure = Failure::expired(format!("too old resource version: {asked} ({current})"));
    let event = json!({ "type": "ERROR", "object": failure.status() });
    Bytes::from(format!("{event}\n"))
}
