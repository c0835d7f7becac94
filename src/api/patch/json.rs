//! JSON patch (RFC 6902), with Kubernetes' leniency.

use json_patch::PatchOperation;
use serde_json::Value;

use super::{Patch, PatchError};
use crate::{api::codec, kinds::json_patch::lenient};

/// Most operations of one patch, as in Kubernetes.
const OPERATIONS_MAX: usize = 10_000;

/// Most bytes that `copy` operations may add, as in Kubernetes: a few operations could otherwise
/// double a value again and again.
const COPIED_BYTES_MAX: usize = 3 << 20;

pub(super) fn parse(bytes: &[u8]) -> Result<(Patch, Vec<String>), PatchError> {
    let decoded = codec::json(bytes).map_err(|_| malformed("invalid JSON patch"))?;
    let Value::Array(operations) = decoded.value else {
        return Err(malformed("error decoding patch: a JSON patch is a list of operations"));
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    Ok((Patch::Json(operations), decoded.problems))
}

fn malformed(text: &str) -> PatchError {
    PatchError::Malformed(text.to_owned())
}

pub(super) fn apply(live: &Value, operations: &[Value]) -> Result<Value, PatchError> {
    let mut value = live.clone();
    let mut copied = 0;
    for operation in operations {
        let operation: PatchOperation =
            serde_json::from_value(operation.clone()).map_err(|_| PatchError::Rejected)?;
        let Some(operation) = lenient(&value, operation) else { continue };
        if let PatchOperation::Copy(copy) = &operation {
            copied +=
                value.pointer(copy.from.as_str()).map_or(0, |source| source.to_string().len());
            if copied > COPIED_BYTES_MAX {
                return Err(PatchError::TooLarge(format!(
                    "copying in this patch adds {copied} bytes, more than {COPIED_BYTES_MAX}"
                )));
            }
        }
        json_patch::patch(&mut value, &[operation]).map_err(|_| PatchError::Rejected)?;
    }
    Ok(value)
}
