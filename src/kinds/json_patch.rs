//! What JSON patches mean where RFC 6902 leaves no room and Kubernetes takes some.

use json_patch::{AddOperation, PatchOperation};
use serde_json::Value;

/// Turns a `replace` of an absent member of a map into an `add`, as the library that Kubernetes and
/// kustomize patch with takes it.
pub fn lenient(value: &Value, operation: PatchOperation) -> PatchOperation {
    let PatchOperation::Replace(replace) = operation else { return operation };
    let path = replace.path.as_str();
    let parent = path.rsplit_once('/').and_then(|(parent, _)| value.pointer(parent));
    match value.pointer(path).is_none() && parent.is_some_and(Value::is_object) {
        true => PatchOperation::Add(AddOperation { path: replace.path, value: replace.value }),
        false => PatchOperation::Replace(replace),
    }
}
