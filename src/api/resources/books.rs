//! Who owns which fields of what is written here: the managedFields of an object.
//!
//! What Git or a controller wrote has none, and an update of it starts none, as in Kubernetes.

use axum::http::header;
use serde_json::{Map, Value};

use super::{Ask, options, patching};
use crate::{
    api::{
        Api, Failure,
        patch::{
            Schema,
            managed::{self, Writer},
            serverside,
        },
    },
    kinds::Reason,
    model::Object,
};

/// Most characters of a manager's name, as in Kubernetes: it is kept in every object it writes.
const MANAGER_CHARS_MAX: usize = 128;

/// Refuses what a patch cannot say of its manager: an apply must name one, others know no force.
pub(super) fn check(ask: &Ask) -> Result<(), Failure> {
    let refuse = |field: &str, reason: Reason, detail: &str| {
        Err(options::not_valid("PatchOptions", field, reason, detail.to_owned()))
    };
    match (patching::is_apply(ask), ask.query.flag("force"), ask.query.get("fieldManager")) {
        (false, Some(_), _) => {
            let detail = "Forbidden: may not be specified for non-apply patch";
            refuse("force", Reason::Forbidden, detail)
        }
        (true, _, None) => {
            let detail = "Required value: is required for apply patch";
            refuse("fieldManager", Reason::Required, detail)
        }
        _ => Ok(()),
    }
}

/// What is wrong with the name of a manager.
pub(super) fn name_fault(name: &str) -> Option<(Reason, String)> {
    if name.len() > MANAGER_CHARS_MAX {
        let text = format!("Too long: may not be more than {MANAGER_CHARS_MAX} bytes");
        return Some((Reason::TooLong, text));
    }
    name.chars().any(char::is_control).then(|| {
        let text = format!("Invalid value: {name:?}: should only contain printable characters");
        (Reason::Invalid, text)
    })
}

/// Who writes: the manager that is named, else the program that asks.
fn manager(ask: &Ask) -> String {
    if let Some(name) = ask.query.get("fieldManager") {
        return name.to_owned();
    }
    let agent = ask.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let program = agent.and_then(|agent| agent.split('/').next()).unwrap_or_default();
    let name: String = program.chars().take(MANAGER_CHARS_MAX).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

fn writer(api: &Api, ask: &Ask) -> Writer {
    Writer {
        manager: manager(ask),
        api_version: ask.api_version.to_string(),
        subresource: match ask.resource.subresource.as_str() {
            "status" => "status",
            "scale" => "scale",
            _ => "",
        },
        has_status: ask.info.subresource(&ask.api_version, "status").is_some(),
        time: serde_json::json!(api.backend.now().to_time())
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    }
}

fn schema(ask: &Ask) -> Schema<'_> {
    Schema::of(&ask.info, &ask.api_version)
}

/// What a server-side apply makes of the live object, or of nothing, with its books.
pub(super) fn apply(
    api: &Api,
    ask: &Ask,
    live: Option<&Object>,
    wanted: &Value,
) -> Result<Value, Failure> {
    let force = ask.query.flag("force").unwrap_or_default();
    let live = live.map(|live| ask.shown(live));
    serverside::apply(live.as_ref(), wanted, schema(ask), &writer(api, ask), force)
        .map_err(patching::failure)
}

/// The managedFields of an object that is about to be stored: `sent` as the request wants it,
/// `next` as it will be.
pub(super) fn after(
    api: &Api,
    ask: &Ask,
    live: Option<&Object>,
    sent: &Object,
    next: &Object,
) -> Value {
    if patching::is_apply(ask) {
        return sent.value()["metadata"]["managedFields"].take();
    }
    // An update starts no books, so there is nothing to read.
    if live.is_some_and(|live| live.meta().managed_fields.is_none()) {
        return Value::Null;
    }
    let live = live.map(|live| ask.shown(live));
    let mut kept = managed::update(live.as_ref(), &ask.shown(next), schema(ask), &writer(api, ask));
    kept["metadata"]["managedFields"].take()
}

/// An object with these managedFields.
pub(super) fn with(object: &Object, books: Value) -> Result<Object, Failure> {
    if books.is_null() && object.meta().managed_fields.is_none() {
        return Ok(object.clone());
    }
    let mut value = object.value();
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        set(meta, books);
    }
    Object::from_value(&value).map_err(|e| Failure::internal(e.to_string()))
}

fn set(meta: &mut Map<String, Value>, books: Value) {
    match books {
        Value::Null => meta.remove("managedFields"),
        books => meta.insert("managedFields".to_owned(), books),
    };
}
