//! Events, counted: the same thing said again raises a count instead of adding an object.

use serde_json::{Value, json};

use super::command::NewEvent;
use crate::model::{GroupKind, Key, Object, Timestamp, fnv1a};

/// The reason of the event with which whoever takes away what Git says leaves their name, as its
/// source.
pub const DELETED: &str = "DeletedBehindGit";

/// The name is made of what the event says, so that saying it again finds it.
pub(super) fn key(new: &NewEvent) -> Key {
    let text = format!("{}\0{}\0{}\0{}", new.uid, new.reason, new.source, new.message);
    let name = format!("{}.{:016x}", new.regarding.name, fnv1a(text.as_bytes()));
    Key::new(GroupKind::new("", "Event"), namespace(new), &name)
}

/// Events about cluster-scoped objects live in `default`, as Kubernetes keeps them.
fn namespace(new: &NewEvent) -> &str {
    if new.regarding.namespace.is_empty() { "default" } else { &new.regarding.namespace }
}

/// The event as it stands after being said once more at `at`.
pub(super) fn count(before: Option<&Object>, new: &NewEvent, at: Timestamp) -> Value {
    if let Some(before) = before {
        let mut value = before.value();
        value["count"] = (value["count"].as_i64().unwrap_or(1) + 1).into();
        value["lastTimestamp"] = json!(at.to_time());
        return value;
    }
    let key = key(new);
    let about = &new.regarding;
    let (version, group) = ("v1", &about.kind.group);
    let api_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut involved = json!({ "apiVersion": api_version, "kind": about.kind.kind, "name": about.name, "uid": new.uid });
    if !about.namespace.is_empty() {
        involved["namespace"] = about.namespace.as_str().into();
    }
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": { "name": key.name, "namespace": key.namespace },
        "involvedObject": involved,
        "type": if new.warning { "Warning" } else { "Normal" },
        "reason": new.reason, "message": new.message,
        "source": { "component": new.source },
        "reportingComponent": new.source, "reportingInstance": "",
        "count": 1,
        "firstTimestamp": at.to_time(), "lastTimestamp": at.to_time(), "eventTime": null,
    })
}
