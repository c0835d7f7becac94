//! Events of the core group, which `kubectl describe` and `kubectl get events` read.

use k8s_openapi::api::core::v1::Event;
use serde_json::{Value, json};

use super::{Kind, field::Check};

impl Kind for Event {
    fn default_fields(&mut self) {
        if self.type_.as_deref().is_none_or(str::is_empty) {
            self.type_ = Some("Normal".to_owned());
        }
        self.reporting_component.get_or_insert_default();
        self.reporting_instance.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let about = self.involved_object.namespace.as_deref().filter(|n| !n.is_empty());
        let namespace = self.metadata.namespace.as_deref().unwrap_or("default");
        // An event about a cluster-scoped object lives in `default`.
        if let Some(about) = about.filter(|n| *n != namespace) {
            let text = "does not match event.namespace";
            check.invalid("involvedObject.namespace", about, text);
        }
    }
}

/// What events.k8s.io calls the fields of the core group's events.
const NAMES: [(&str, &str); 7] = [
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedCount", "count"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedSource", "source"),
];

/// From events.k8s.io: the same fields by their older names.
pub(super) fn to_stored(value: &mut Value) {
    let Some(map) = value.as_object_mut() else { return };
    for (new, old) in NAMES {
        let content = map.remove(new).filter(|v| !v.is_null());
        map.extend(content.map(|v| (old.to_owned(), v)));
    }
    map.entry("involvedObject").or_insert_with(|| json!({}));
}

/// To events.k8s.io: the same fields by their newer names; times that are not known are null there.
pub(super) fn from_stored(value: &mut Value) {
    let Some(map) = value.as_object_mut() else { return };
    for (new, old) in NAMES {
        let content = map.remove(old);
        map.extend(content.map(|v| (new.to_owned(), v)));
    }
    for time in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp"] {
        map.entry(time).or_insert(Value::Null);
    }
    map.entry("deprecatedSource").or_insert_with(|| json!({}));
}
