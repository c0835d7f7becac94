//! From a typed object to JSON without what says nothing: what Go leaves out as empty.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{FieldError, KindInfo, door, registry::Nature};

/// Fields that Kubernetes leaves out when they are false.
const FALSE_IS_ABSENT: [&str; 14] = [
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "readOnly",
    "stdin",
    "stdinOnce",
    "tty",
    "paused",
    "unschedulable",
    "publishNotReadyAddresses",
    "disabled",
    "insecureSkipTLSVerify",
    "clusterScope",
    "globalDefault",
];
/// Fields that Kubernetes leaves out when they are zero.
const ZERO_IS_ABSENT: [&str; 12] = [
    "minReadySeconds",
    "hostPort",
    "nodePort",
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
    "healthCheckNodePort",
    "observedGeneration",
    "generation",
    "count",
];
/// Maps of texts, whose empty values are kept and which are left out when empty.
const TEXT_MAPS: [&str; 20] = [
    "labels",
    "annotations",
    "matchLabels",
    "nodeSelector",
    "data",
    "binaryData",
    "stringData",
    "limits",
    "requests",
    "overhead",
    "capacity",
    "allocatable",
    "volumeAttributes",
    "deprecatedTopology",
    "counts",
    "hard",
    "used",
    "parameters",
    "attachmentMetadata",
    "unverifiedUserAnnotations",
];
/// Pointers in Kubernetes, which keep an empty text.
const EMPTY_TEXT_STAYS: [&str; 5] =
    ["storageClassName", "service", "serviceName", "reportingComponent", "reportingInstance"];
/// Structs that Kubernetes writes whole.
const WRITTEN_WHOLE: [&str; 2] = ["nodeInfo", "openAPIV3Schema"];

/// The canonical JSON value of a typed object.
pub(super) fn to_value<T: Serialize>(info: &KindInfo, typed: &T) -> Result<Value, FieldError> {
    let mut value = door::json(typed)?;
    tidy(&mut value);
    if info.kind == "Service"
        && let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut)
    {
        // A map here, while a Deployment's selector is a struct that stays when it is empty.
        let empty = |v: &Value| v.as_object().is_some_and(Map::is_empty);
        if spec.get("selector").is_some_and(empty) {
            spec.remove("selector");
        }
    }
    if info.kind == "EndpointSlice" {
        // A port without a name has the empty name.
        for port in value["ports"].as_array_mut().into_iter().flatten() {
            if port.get("name").is_none() {
                port["name"] = Value::String(String::new());
            }
        }
    }
    // What may be anything is kept when it is nothing.
    if info.kind == "ControllerRevision" && value.get("data").is_none() {
        value["data"] = Value::Object(Map::new());
    }
    if info.kind == "Event" && info.group.is_empty() && value.get("eventTime").is_none() {
        value["eventTime"] = Value::Null;
    }
    if let Nature::BuiltIn { door, .. } = &info.nature {
        (door.written)(&mut value);
    }
    Ok(value)
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, inner| {
                if !stays_whole(key) {
                    tidy(inner);
                }
                !says_nothing(key, inner)
            });
            // `type: ""` of a host path means "do not look"; it is a pointer in Kubernetes.
            if let Some(path) = map.get_mut("hostPath").and_then(Value::as_object_mut)
                && path.contains_key("path")
            {
                path.entry("type").or_insert_with(|| Value::String(String::new()));
            }
            if let Some(opaque) = map.get_mut("opaque").and_then(Value::as_object_mut) {
                opaque.entry("parameters").or_insert_with(|| Value::Object(Map::new()));
            }
            if let Some(disk) = map.get_mut("azureDisk").and_then(Value::as_object_mut) {
                disk.entry("readOnly").or_insert(Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Whether a value has nothing that [`tidy`] takes away.
pub(super) fn is_tidy(value: &Value) -> bool {
    match value {
        Value::Object(map) => map
            .iter()
            .all(|(key, inner)| !says_nothing(key, inner) && (stays_whole(key) || is_tidy(inner))),
        Value::Array(items) => items.iter().all(is_tidy),
        _ => true,
    }
}

/// Whether nothing is taken out of a field's value.
fn stays_whole(key: &str) -> bool {
    WRITTEN_WHOLE.contains(&key) || TEXT_MAPS.contains(&key)
}

fn says_nothing(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag && FALSE_IS_ABSENT.contains(&key),
        Value::Number(number) => number.as_i64() == Some(0) && ZERO_IS_ABSENT.contains(&key),
        Value::String(text) => text.is_empty() && !EMPTY_TEXT_STAYS.contains(&key),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty() && TEXT_MAPS.contains(&key),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What must not happen: something is taken for tidy, and so for what the door would write,
    /// from which the door would take something away.
    #[test]
    fn tidy_is_what_nothing_is_taken_from() {
        let check = |value: Value, expected: bool| {
            let mut tidied = value.clone();
            tidy(&mut tidied);
            assert_eq!((is_tidy(&value), tidied == value), (expected, expected), "{value}");
        };
        check(json!({ "kind": "Pod", "spec": { "containers": [{ "name": "web" }] } }), true);
        check(json!({ "data": { "empty": "", "none": null } }), true);
        check(json!({ "status": { "conditions": [{ "lastProbeTime": null }] } }), false);
        check(json!({ "spec": { "containers": [{ "name": "web", "tty": false }] } }), false);
        check(json!({ "metadata": { "labels": {} } }), false);
        check(json!({ "items": [] }), false);
        check(json!({ "spec": { "minReadySeconds": 0 } }), false);
        check(json!({ "metadata": { "deletionGracePeriodSeconds": 0 } }), true);
    }
}
