//! What JSON patches mean where RFC 6902 leaves no room and Kubernetes takes some.

use json_patch::{AddOperation, PatchOperation};
use serde_json::Value;

/// An operation as the library that Kubernetes and kustomize patch with takes it; nothing when that
/// leaves nothing to do.
///
/// A `replace` of an absent member of a map adds it. A `test` for null holds where there is no such
/// member: so do clients make sure that nobody else was first to write it.
pub fn lenient(value: &Value, operation: PatchOperation) -> Option<PatchOperation> {
    let path = operation.path().as_str();
    let parent = path.rsplit_once('/').and_then(|(parent, _)| value.pointer(parent));
    let is_absent = value.pointer(path).is_none() && parent.is_some_and(Value::is_object);
    match operation {
        PatchOperation::Replace(replace) if is_absent => {
            let (path, value) = (replace.path, replace.value);
            Some(PatchOperation::Add(AddOperation { path, value }))
        }
        PatchOperation::Test(test) if is_absent && test.value.is_null() => None,
        operation => Some(operation),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(value: &Value, path: &str, wanted: Value) -> bool {
        let test = json!({ "op": "test", "path": path, "value": wanted });
        let test = lenient(value, serde_json::from_value(test).unwrap());
        test.is_none_or(|test| json_patch::patch(&mut value.clone(), &[test]).is_ok())
    }

    #[test]
    fn what_is_not_there_is_null() {
        let value = json!({ "metadata": { "name": "a", "labels": null }, "list": [1] });
        assert!(holds(&value, "/metadata/finalizers", Value::Null));
        assert!(holds(&value, "/metadata/labels", Value::Null));
        assert!(!holds(&value, "/metadata/finalizers", json!([])));
        assert!(!holds(&value, "/metadata/name", Value::Null));
        // Below nothing, and behind the end of a list, there is no member to be absent.
        assert!(!holds(&value, "/status/phase", Value::Null));
        assert!(!holds(&value, "/list/1", Value::Null));
    }
}
